//! `cargo xtask container`: the package in a Debian with systemd as PID 1, in
//! namespaces of its own, at native speed.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use super::checks::{self, Packages};
use super::guest::Guest;
use super::trial::Trial;
use crate::package::{self, Arguments};
use crate::setup::{self, Need};
use crate::{root, step};

/// For the container.
const TO_CONTAIN: &[Need] = &[
    setup::of("mmdebstrap", "mmdebstrap", "makes a Debian in a folder"),
    setup::of("ip", "iproute2", "gives it a network"),
    setup::of("apt-ftparchive", "apt-utils", "makes a repository"),
    setup::of("gpg", "gpg", "signs it"),
    setup::of("unshare", "util-linux", "gives it namespaces"),
];

const USAGE: &str = "\
usage: cargo xtask container [--binary FILE] [--only NAME] [--record] [--keep]

Boots a Debian with systemd in namespaces (as root), installs the .deb with apt
and tries everything that needs neither GPIO nor a serial port: three minutes.
--binary packs another binary than the release build, --only tries one thing,
 --record keeps the output
in docs/test-runs/container.md, --keep leaves the machine running.";

/// Runs the whole trial.
pub(crate) fn command(arguments: &[String]) -> Result<()> {
    let (mut binary, mut only, mut record, mut keep) = (None, None, false, false);
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        match argument.as_str() {
            "--binary" => binary = Some(PathBuf::from(rest.next().context("--binary FILE")?)),
            "--only" => only = Some(rest.next().context("--only NAME")?.clone()),
            "--record" => record = true,
            "--keep" => keep = true,
            "--help" => {
                println!("{USAGE}");
                return Ok(());
            }
            unknown => bail!("container: no argument {unknown:?}"),
        }
    }
    setup::need(TO_CONTAIN)?;
    let native = Arguments::native()?.of_binary(binary).quickly();
    let packages = Packages {
        old: package::build(&native)?,
        new: package::build(&native.clone().versioned("99.0-1"))?,
    };
    let address = "10.77.0.2:8080".parse().context("address")?;
    let folder = step::target().join("appliance/container");
    let guest = Guest::new("container.sh", "run", address)
        .with("APPLIANCE", folder.to_string_lossy().into_owned());
    drop(guest.act(&["stop"]));
    guest.act(&["build"])?;
    guest.act(&["fresh"])?;
    let mut trial = Trial::new("The package in a container").only(only);
    let outcome = tried(&guest, &packages, &mut trial);
    if let Err(error) = outcome {
        trial.check("the trial", || Err(error));
    }
    if !keep {
        drop(guest.act(&["stop"]));
    }
    let page = root().join("docs/test-runs/container.md");
    trial.end(record.then_some(page.as_path()))
}

fn tried(guest: &Guest, packages: &Packages, trial: &mut Trial) -> Result<()> {
    trial.tell(guest.act(&["start"])?);
    trial.tell(
        guest.sh("cat /etc/debian_version; systemctl --version | head -1")?.replace('\n', ", "),
    );
    trial.check("the wrong board", || checks::variant(&root().join("packaging")));
    trial.check("install", || checks::install(guest, &packages.old));
    trial.check("page", || checks::page(guest));
    trial.check("ready", || checks::ready(guest, Duration::from_millis(300)));
    trial.check("owner", || checks::owner(guest));
    trial.check("exposure", || checks::exposure(guest));
    trial.check("sandbox", || checks::sandbox(guest));
    trial.check("journal", || checks::journal(guest));
    trial.check("kill -9", || checks::killed(guest, Duration::from_secs(3)));
    trial.check("hang", || checks::stopped(guest, Duration::from_secs(45)));
    trial.check("stall", || checks::stalled(guest));
    trial.check("invalid", || checks::invalid(guest));
    trial.check("reload", || checks::reload(guest));
    trial.check("credentials", || checks::credentials(guest, "10.77.0.1"));
    trial.check("full disk", || checks::full_disk(guest));
    trial.check("power cut", || checks::power_cut(guest, &["kill"], &["start"]));
    guest.act(&["stop"])?;
    guest.act(&["start", "read-only"])?;
    trial.check("read-only root", || checks::read_only_root(guest));
    guest.act(&["stop"])?;
    guest.act(&["start"])?;
    trial.check("upgrade", || checks::upgrade(guest, packages));
    trial.check("downgrade", || checks::downgrade(guest, packages));
    let folder = step::target().join("appliance/repository");
    trial.check("repository", || checks::repository(guest, packages, &folder));
    trial.check("remove and purge", || checks::removed(guest, &packages.old));
    Ok(())
}
