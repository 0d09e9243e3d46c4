//! `cargo xtask vm`: the package on a virtual machine with a kernel of its own:
//! GPIO lines, a USB serial port, a network cable and a power plug.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use super::checks::{self, Packages};
use super::guest::{Guest, PATIENCE};
use super::sensors::sensors;
use super::trial::Trial;
use crate::package::{self, Arguments};
use crate::setup::{self, Need};
use crate::{root, step};

/// For the virtual machine.
const TO_EMULATE: &[Need] = &[
    setup::of("qemu-system-x86_64", "qemu-system-x86", "is the machine"),
    setup::of("qemu-img", "qemu-utils", "is its disk"),
    setup::of("mmdebstrap", "mmdebstrap", "makes its Debian"),
    setup::of("depmod", "kmod", "packs its modules"),
    setup::of("cpio", "cpio", "packs its first file system"),
    setup::of("mke2fs", "e2fsprogs", "makes its file system"),
    setup::of("ssh", "openssh-client", "speaks to it"),
    setup::of("mosquitto", "mosquitto", "is its broker"),
];

const USAGE: &str = "\
usage: cargo xtask vm [--binary FILE] [--only NAME] [--record] [--keep]

Boots a Debian under QEMU, installs the .deb with apt and tries what needs a
kernel: GPIO, a serial port, cable and power. ARCH=arm64 takes the binary of
`cargo xtask cross` and an emulated ARM. --record keeps the output in
docs/test-runs/vm-ARCH.md.";

/// A board under emulation is slow, and this machine may be busy.
const SLOW: Duration = Duration::from_secs(120);

/// What takes three seconds on a real processor, which the container's trial
/// holds it to.
const EMULATED: Duration = Duration::from_secs(15);

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
            unknown => bail!("vm: no argument {unknown:?}"),
        }
    }
    let architecture = std::env::var("ARCH").unwrap_or_else(|_| "amd64".to_owned());
    setup::need(TO_EMULATE)?;
    if architecture == "arm64" {
        setup::need(&[
            setup::of("qemu-system-aarch64", "qemu-system-arm", "is the machine"),
            setup::of("qemu-aarch64-static", "qemu-user-static", "makes its Debian"),
        ])?;
    }
    let board = package::Board::named(&architecture)?;
    let arguments = Arguments::of(board).of_binary(binary).quickly();
    let packages = Packages {
        old: package::build(&arguments)?,
        new: package::build(&arguments.clone().versioned("99.0-1"))?,
    };
    let folder = step::target().join("appliance/vm");
    let guest = Guest::new("vm.sh", "ssh", "127.0.0.1:2201".parse().context("address")?)
        .with("APPLIANCE", folder.to_string_lossy().into_owned())
        .with("ARCH", architecture.clone());
    drop(guest.act(&["stop"]));
    guest.act(&["build"])?;
    guest.act(&["snap"])?;
    let mut trial = Trial::new("The package on a virtual machine").only(only);
    if let Err(error) = tried(&guest, &packages, &mut trial) {
        trial.check("install", || Err(error));
    }
    if !keep {
        drop(guest.act(&["stop"]));
    }
    let page = root().join(format!("docs/test-runs/vm-{architecture}.md"));
    trial.end(record.then_some(page.as_path()))
}

fn tried(guest: &Guest, packages: &Packages, trial: &mut Trial) -> Result<()> {
    guest.act(&["start", "fast"])?;
    trial.tell(
        guest
            .sh("cat /etc/debian_version; systemctl --version | head -1; uname -srm")?
            .replace('\n', ", "),
    );
    let chip = guest.act(&["gpio-up"])?;
    let broker = Broker::start()?;
    trial.check("install", || checks::install(guest, &packages.old));
    trial.check("page", || checks::page(guest));
    trial.check("owner", || checks::owner(guest));
    trial.check("exposure", || checks::exposure(guest));
    trial.check("sandbox", || checks::sandbox(guest));
    guest.sh("cp /etc/tidemill/tidemill.toml /root/original.toml")?;
    let configured = guest.sh(&format!(
        "cat >>/root/original.toml <<'END'\n{CONFIGURATION}\nEND
         sed -i 's/@PORT@/{}/' /root/original.toml
         cp /root/original.toml /etc/tidemill/tidemill.toml; tidemill check; systemctl restart tidemill",
        broker.port
    ));
    trial.check("configuration", || {
        configured.map(|_| format!("GPIO at {chip}, serial by USB id, a broker here"))
    });
    trial.check("gpio", || gpio(guest));
    trial.check("sensors", || sensors(guest));
    trial.check("serial", || serial(guest, 21.5));
    trial.check("serial unplugged", || unplugged(guest));
    trial.check("broker", || acknowledged(guest));
    trial.check("cable", || cable(guest));
    trial.check("kill -9", || checks::killed(guest, EMULATED));
    trial.check("hang", || checks::stopped(guest, SLOW));
    trial.check("stall", || checks::stalled(guest));
    trial.check("full disk", || checks::full_disk(guest));
    trial.check("power cut", || checks::power_cut(guest, &["powercut"], &["start"]));
    trial.check("upgrade", || checks::upgrade(guest, packages));
    trial.check("downgrade", || checks::downgrade(guest, packages));
    trial.check("clock", || clock(guest));
    trial.check("remove and purge", || checks::removed(guest, &packages.old));
    Ok(())
}

const CONFIGURATION: &str = r#"
[device.panel]
driver = "gpio"
chip = "pinctrl-bcm2835"
[device.panel.channel]
door = { line = 17, direction = "input" }

[device.weather]
driver = "serial"
usb = "0403:6001"
baud = 115200
format = "json"
[device.weather.channel]
temperature = { field = "t", unit = "Cel" }

[forward.cloud]
url = "mqtt://10.0.2.2:@PORT@"
"#;

/// A mosquitto on this machine, ended with the trial; the guest sees this machine
/// as 10.0.2.2.
struct Broker {
    child: Child,
    port: u16,
}

impl Broker {
    fn start() -> Result<Broker> {
        // Free a moment ago; nobody else is likely to take it.
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let mut command = Command::new("mosquitto");
        // Debian keeps it where only root usually looks.
        let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin";
        command.args(["-p", &port.to_string()]).env("PATH", path);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().context("run mosquitto")?;
        Ok(Broker { child, port })
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The last reading of a channel.
pub(super) fn last(guest: &Guest, name: &str) -> Result<Value> {
    let channels: Value = serde_json::from_str(&guest.get("/api/v1/channels")?)?;
    let all = channels["channels"].as_array().context("channels")?;
    let channel = all.iter().find(|channel| channel["channel"] == name).context(name.to_owned())?;
    Ok(channel["last"].clone())
}

fn gpio(guest: &Guest) -> Result<String> {
    let mut slowest = Duration::ZERO;
    for (level, shown) in [("1", true), ("0", false), ("1", true)] {
        guest.act(&["pull", "17", level])?;
        let seen = || Ok((last(guest, "panel/door")?["value"] == shown).then_some(()));
        let (_, took) = guest.until("the line's level is shown", PATIENCE, seen)?;
        slowest = slowest.max(took);
    }
    Ok(format!(
        "a line driven up, down and up is seen each time, {:.1} s at most",
        slowest.as_secs_f64()
    ))
}

fn serial(guest: &Guest, value: f64) -> Result<String> {
    let seen = || {
        guest.act(&["uart-send", &format!("{{\"t\": {value}}}")])?;
        Ok((last(guest, "weather/temperature")?["value"] == value).then_some(()))
    };
    let (_, took) = guest.until("the line is a reading", PATIENCE, seen)?;
    Ok(format!("a line from here is a reading after {:.1} s", took.as_secs_f64()))
}

fn unplugged(guest: &Guest) -> Result<String> {
    guest.act(&["unplug"])?;
    let lost = || {
        let status: Value = serde_json::from_str(&guest.get("/api/v1/status")?)?;
        let devices = status["devices"].as_array().context("devices")?;
        let weather =
            devices.iter().find(|device| device["name"] == "weather").context("weather")?;
        Ok((weather["state"] != "ok").then(|| weather["error"].to_string()))
    };
    let (told, _) = guest.until("the device is lost", PATIENCE, lost)?;
    guest.act(&["replug"])?;
    let again = serial(guest, 22.5)?;
    Ok(format!("told ({told}); plugged in again, {again}"))
}

fn forwarder(guest: &Guest) -> Result<(String, u64, u64)> {
    let status: Value = serde_json::from_str(&guest.get("/api/v1/status")?)?;
    let cloud = &status["forwarders"][0];
    let count = |key: &str| cloud[key].as_u64().unwrap_or(0);
    Ok((cloud["state"].as_str().unwrap_or("?").to_owned(), count("acknowledged"), count("pending")))
}

fn acknowledged(guest: &Guest) -> Result<String> {
    let seen = || {
        let (state, acknowledged, pending) = forwarder(guest)?;
        Ok((state == "online" && acknowledged > 0 && pending < 50).then_some(acknowledged))
    };
    let (count, took) = guest.until("the broker acknowledges", SLOW, seen)?;
    Ok(format!("{count} readings acknowledged, {:.1} s", took.as_secs_f64()))
}

/// Out for half a minute, then in: everything arrives.
fn cable(guest: &Guest) -> Result<String> {
    let (_, before, _) = forwarder(guest)?;
    guest.act(&["net", "off"])?;
    #[expect(clippy::disallowed_methods, reason = "a chore may wait")]
    std::thread::sleep(Duration::from_secs(30));
    guest.act(&["net", "on"])?;
    let seen = || {
        let (state, acknowledged, pending) = forwarder(guest)?;
        Ok((state == "online" && acknowledged > before && pending < 50).then_some(acknowledged))
    };
    let (after, took) = guest.until("everything has arrived", SLOW, seen)?;
    let status: Value = serde_json::from_str(&guest.get("/api/v1/status")?)?;
    ensure!(status["ledger"]["dropped"] == 0, "{} readings dropped", status["ledger"]["dropped"]);
    Ok(format!(
        "half a minute out: {} readings more were acknowledged {:.0} s after it was in again, none dropped",
        after - before,
        took.as_secs_f64()
    ))
}

/// A board whose clock shows 1970 until somebody sets it.
fn clock(guest: &Guest) -> Result<String> {
    let now = guest.sh("date +%s")?;
    guest.sh("systemctl stop tidemill; date -s @1000 >/dev/null; systemctl start tidemill")?;
    let tried = (|| {
        let reads = || {
            let door = last(guest, "board/load_1m").or_else(|_| last(guest, "board/load"))?;
            Ok(door["value"].is_number().then_some(()))
        };
        guest.until("it reads in 1970", PATIENCE, reads)?;
        let held = || {
            let status: Value = serde_json::from_str(&guest.get("/api/v1/status")?)?;
            let clock = &status["clock"];
            ensure!(clock["set"] == false, "it trusts 1970: {clock}");
            Ok(clock["held"].as_u64().filter(|held| *held >= 10))
        };
        guest.until("readings wait for the clock", PATIENCE, held)
    })();
    guest.sh(&format!("date -s @{now} >/dev/null"))?;
    let (waited, _) = tried?;
    let known = || {
        let status: Value = serde_json::from_str(&guest.get("/api/v1/status")?)?;
        let clock = &status["clock"];
        Ok((clock["set"] == true && clock["held"] == 0).then_some(()))
    };
    guest.until("the clock was set and nothing waits for it", PATIENCE, known)?;
    let span = "from=1970-01-01T00:00:00Z&to=1971-01-01T00:00:00Z";
    let path = format!("/api/v1/readings?channel=gateway/uptime&{span}");
    let of_1970: Value = serde_json::from_str(&guest.get(&path)?)?;
    let left = of_1970["readings"].as_array().map(Vec::len);
    ensure!(left == Some(0), "readings are still of 1970: {of_1970}");
    let told = acknowledged(guest)?;
    Ok(format!("{waited} readings of 1970 wait, are corrected once it is set, and go: {told}"))
}
