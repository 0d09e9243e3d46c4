//! `tidemill doctor`: tries what `check` cannot, and says what to do.
//!
//! One file a thing that is looked at, each a function from the machine and the
//! configuration to findings. None of them changes anything, and none asks a
//! device for a value.

mod board;
mod broker;
mod clock;
mod devices;
mod disk;
mod finding;
mod gateway;
mod listen;
mod machine;
mod store;
mod user;

use std::path::{Path, PathBuf};

use anyhow::bail;
use tidemill::{Config, Invalid};

pub(crate) use finding::{Finding, Verdict, json, text};
use machine::Machine;

/// Arguments.
#[derive(clap::Args)]
#[command(after_help = "\
Exit status: 0 when nothing fails, 1 when something does, 78 when the
configuration is invalid. As root it sees more: which process holds a port.

Example: sudo tidemill doctor")]
pub(crate) struct Args {
    #[command(flatten)]
    place: crate::Place,
    /// As one JSON object, for scripts
    #[arg(long)]
    json: bool,
    /// Look at the machine whose files are here
    #[arg(long, value_name = "DIR", default_value = "/", hide = true)]
    root: PathBuf,
}

/// Tries everything, and prints one line each.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let path = args.place.path();
    let loaded = Config::load(path);
    let findings = examine(loaded.as_ref().ok(), path, &args.root)?;
    let shown = if args.json { json(&findings) } else { text(&findings, super::coloured()) };
    super::print(&shown)?;
    if let Err(error) = loaded
        && error.downcast_ref::<Invalid>().is_some()
    {
        // The finding said that there are errors; main shows them.
        return Err(error);
    }
    let failed = findings.iter().filter(|finding| finding.verdict == Verdict::Fail).count();
    if failed > 0 {
        let things = if failed == 1 { "thing fails" } else { "things fail" };
        bail!("{failed} {things}; what to do stands in the line");
    }
    Ok(())
}

/// All findings, in the order in which one mends them.
pub(crate) fn examine(
    config: Option<&Config>,
    path: &Path,
    root: &Path,
) -> anyhow::Result<Vec<Finding>> {
    let machine = Machine::at(root);
    let mut findings = Vec::new();
    let Some(config) = config else {
        findings.push(unreadable(path));
        findings.extend(user::probe(&machine, None));
        findings.extend(clock::probe());
        findings.extend(board::probe(&machine));
        return Ok(findings);
    };
    findings.push(readable(path, config, &machine));
    findings.extend(user::probe(&machine, Some(config)));
    findings.extend(clock::probe());
    findings.extend(store::probe(&machine, &config.store));
    findings.extend(board::probe(&machine));
    findings.extend(devices::probe(&machine, config));
    findings.extend(listen::probe(&machine, &config.dashboard));
    let runtime = super::runtime()?;
    findings.extend(runtime.block_on(async {
        let running = gateway::ask(path).await;
        let mut findings = gateway::findings(&running);
        findings.extend(broker::probe(config, &running).await);
        findings
    }));
    Ok(findings)
}

fn readable(path: &Path, config: &Config, machine: &Machine) -> Finding {
    let devices = config.devices.len();
    let forwarders = config.forwarders.len();
    let name = path.display();
    if machine.is_service()
        && let Err(why) = machine.may(path, machine::READ)
    {
        let user = &machine.user.name;
        let mend = format!("chgrp {user} {name} && chmod g+r {name}");
        return Finding::fail("configuration", format!("{user} may not read {name} ({why})"), mend);
    }
    let said = format!("{name}: valid, {devices} device(s), {forwarders} forwarder(s)");
    Finding::ok("configuration", said)
}

fn unreadable(path: &Path) -> Finding {
    let name = path.display();
    match std::fs::read(path) {
        Ok(_) => {
            let mend = format!("tidemill check --config {name} shows every error");
            Finding::fail("configuration", format!("{name} is not valid"), mend)
        }
        Err(error) => Finding::fail(
            "configuration",
            format!("{name} can't be read: {}", super::words(&error)),
            "name another with --config, or run doctor with sudo",
        ),
    }
}
