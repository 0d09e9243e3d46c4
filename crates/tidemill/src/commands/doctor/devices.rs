//! Whether each device can be opened: it is there, the user may, and nobody
//! else has it. What a driver needs is told by the keys of its table.

use std::fs;
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::time::{Duration, Instant};

use device::scan::{Chip, Line, Port};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use tidemill::Config;
use toml::{Table, Value};

use super::finding::Finding;
use super::machine::{Machine, READ, WRITE};

/// How long a device on the network may take to answer.
const TCP_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) fn probe(machine: &Machine, config: &Config) -> Vec<Finding> {
    let mut findings = Vec::new();
    for device in &config.devices {
        let name = format!("device {}", device.name());
        let table = device.written();
        let text = |key: &str| table.get(key).and_then(Value::as_str);
        match device.driver() {
            "gpio" => {
                findings.extend(pwm(machine, &name, table));
                if !pulses(table).1 {
                    findings.extend(gpio(machine, &name, table));
                }
            }
            "w1" if machine.scan.onewire.is_empty() => findings.push(Finding::fail(
                name,
                "no device is on a 1-Wire bus",
                "add dtoverlay=w1-gpio to /boot/firmware/config.txt, start again, and look at \
                 the wiring and its 4.7 kΩ resistor",
            )),
            "iio" if machine.scan.iio.is_empty() => findings.push(Finding::fail(
                name,
                "the kernel shows no IIO device",
                "load its driver: a dtoverlay in /boot/firmware/config.txt, or modprobe",
            )),
            "i2c" => findings.extend(device.i2c().map(|at| i2c(machine, name, at))),
            _ => {
                if let Some(port) = text("port") {
                    findings.push(serial(machine, name, port));
                } else if let Some(id) = text("usb") {
                    findings.push(usb(machine, name, id));
                } else if let Some(address) = text("tcp") {
                    findings.push(tcp(name, address));
                }
            }
        }
    }
    findings
}

fn serial(machine: &Machine, probe: String, port: &str) -> Finding {
    let path = Path::new(port);
    let at = machine.path(path);
    let Ok(about) = fs::metadata(&at) else {
        return Finding::fail(probe, format!("{port} isn't there"), instead(machine, port));
    };
    if !about.file_type().is_char_device() {
        return Finding::fail(
            probe,
            format!("{port} is not a serial port"),
            instead(machine, port),
        );
    }
    // by-id names are links; processes hold what they lead to.
    let real = fs::canonicalize(&at).unwrap_or(at.clone());
    let real =
        real.strip_prefix(&machine.root).map_or(real.clone(), |rest| Path::new("/").join(rest));
    if let Err(why) = machine.may(path, READ | WRITE) {
        let group = machine.group(path).unwrap_or_else(|| "dialout".into());
        let user = &machine.user.name;
        let mend = format!("sudo usermod -aG {group} {user}, then restart it");
        return Finding::fail(probe, format!("{user} may not open {port}: {why}"), mend);
    }
    match machine.holders.of_file(&real) {
        Some(holder) if holder.name == "tidemill" => {
            return Finding::ok(probe, format!("{port} is read by {holder}"));
        }
        Some(holder) => {
            let mend = format!("end that program (sudo kill {}), or stop its service", holder.pid);
            return Finding::fail(probe, format!("{port} is held by {holder}"), mend);
        }
        None => (),
    }
    let known = machine.scan.serial.iter().find(|known| Path::new(&known.path) == real);
    match open(&at) {
        Ok(()) => (),
        Err(Errno::BUSY) => {
            let mend = "sudo tidemill doctor shows by whom";
            return Finding::fail(probe, format!("{port} is held by another program"), mend);
        }
        // Seen with another's rights than the gateway's: theirs were looked at.
        Err(Errno::ACCESS | Errno::PERM) => {
            return Finding::ok(probe, format!("{port} is there, and {} may", machine.user.name));
        }
        Err(error) => {
            let mend = "unplug it and plug it in again; dmesg says more";
            return Finding::fail(probe, format!("{port} can't be opened: {error}"), mend);
        }
    }
    if known.is_some_and(|known| known.console) {
        return Finding::warn(
            probe,
            format!("the kernel's console writes to {port}"),
            "raspi-config, Interface Options, Serial Port: no log-in shell, hardware enabled",
        );
    }
    match known.and_then(|known| known.by_id.first()) {
        Some(by_id) if real == path => Finding::warn(
            probe,
            format!("{port} may be opened, but its name may be another after a restart"),
            format!("set port = \"{by_id}\""),
        ),
        _ => Finding::ok(probe, format!("{port} may be opened")),
    }
}

/// Opens and closes it, without waiting for a modem or becoming its terminal.
fn open(port: &Path) -> Result<(), Errno> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    rustix::fs::open(port, flags, Mode::empty()).map(drop)
}

/// The ports that there are, instead of one that isn't.
fn instead(machine: &Machine, port: &str) -> String {
    let name = |port: &Port| port.by_id.first().cloned().unwrap_or_else(|| port.path.clone());
    let there: Vec<String> = machine.scan.serial.iter().map(name).collect();
    match there.as_slice() {
        [] => "plug it in; this machine shows no serial port at all".to_owned(),
        there => format!("plug it in, or set port instead of {port} to {}", there.join(" or ")),
    }
}

fn usb(machine: &Machine, probe: String, id: &str) -> Finding {
    let mut parts = id.splitn(3, ':');
    let ids = format!("{}:{}", parts.next().unwrap_or(""), parts.next().unwrap_or(""));
    let number = parts.next();
    let is_it = |port: &&Port| {
        port.usb.as_ref().is_some_and(|usb| {
            usb.id.eq_ignore_ascii_case(&ids)
                && (number.is_none() || usb.serial.as_deref() == number)
        })
    };
    match machine.scan.serial.iter().find(is_it) {
        Some(port) => serial(machine, probe, &port.path),
        None => {
            let there: Vec<&str> = machine
                .scan
                .serial
                .iter()
                .filter_map(|port| port.usb.as_ref().map(|usb| usb.id.as_str()))
                .collect();
            let there = if there.is_empty() { "none".to_owned() } else { there.join(", ") };
            let found = format!("no serial port of a USB device {id}; there are: {there}");
            Finding::fail(probe, found, "plug it in; tidemill scan lists what there is")
        }
    }
}

fn tcp(probe: String, address: &str) -> Finding {
    let begun = Instant::now();
    let connected = address.to_socket_addrs().and_then(|mut addresses| {
        let first = addresses.next().ok_or(std::io::ErrorKind::NotFound)?;
        TcpStream::connect_timeout(&first, TCP_TIMEOUT)
    });
    match connected {
        Ok(_) => Finding::ok(probe, format!("{address} answers")).took(begun.elapsed()),
        Err(error) => Finding::fail(
            probe,
            format!("{address} doesn't answer: {}", super::super::words(&error)),
            "is it switched on, on this network, and the address and port right?",
        )
        .took(begun.elapsed()),
    }
}

fn i2c(machine: &Machine, probe: String, (bus, address): (&str, u8)) -> Finding {
    let path = Path::new(bus);
    if !machine.path(path).exists() {
        let mend = "sudo raspi-config nonint do_i2c 0 (or dtparam=i2c_arm=on), then modprobe \
                    i2c-dev";
        return Finding::fail(probe, format!("{bus} isn't there"), mend);
    }
    if let Err(why) = machine.may(path, READ | WRITE) {
        let (user, group) = (&machine.user.name, machine.group(path).unwrap_or_default());
        let mend = format!("sudo usermod -aG {group} {user}, then restart it");
        return Finding::fail(probe, format!("{user} may not open {bus}: {why}"), mend);
    }
    let found = machine.scan.i2c.iter().find(|known| known.path == bus);
    let taken =
        found.and_then(|bus| bus.taken.iter().find(|(taken, _)| *taken == u16::from(address)));
    match taken {
        Some((address, chip)) => Finding::fail(
            probe,
            format!("the kernel's driver for {chip} has address {address:#04x} on {bus}"),
            "read it with driver = \"iio\" instead, or remove its dtoverlay",
        ),
        None => Finding::ok(probe, format!("{bus} may be opened")),
    }
}

fn is_pulsed(channel: &Value) -> bool {
    channel.get("direction").and_then(Value::as_str) == Some("pwm")
}

/// Whether any channel is one of a PWM chip, and whether all are.
fn pulses(table: &Table) -> (bool, bool) {
    let channels = table.get("channel").and_then(Value::as_table);
    let pulsed = || channels.into_iter().flatten().map(|(_, channel)| is_pulsed(channel));
    let any = pulsed().any(|pulsed| pulsed);
    (any, any && pulsed().all(|pulsed| pulsed))
}

fn pwm(machine: &Machine, probe: &str, table: &Table) -> Option<Finding> {
    let text = |key: &str| table.get(key).and_then(Value::as_str);
    let own = text("chip") == Some("sim") || text("backend") == Some("rppal");
    if own || !pulses(table).0 {
        return None;
    }
    let wanted = text("pwm_chip").unwrap_or("pwmchip0");
    let found = machine.scan.pwm.iter().any(|chip| chip.chip == wanted || chip.device == wanted);
    let there: Vec<&str> = machine.scan.pwm.iter().map(|chip| chip.chip.as_str()).collect();
    Some(match there.as_slice() {
        _ if found => Finding::ok(probe, format!("{wanted} is there")),
        [] => Finding::fail(
            probe,
            format!("there is no PWM chip {wanted}"),
            "add dtoverlay=pwm to /boot/firmware/config.txt and start again",
        ),
        there => Finding::fail(
            probe,
            format!("there is no PWM chip {wanted}"),
            format!("set pwm_chip to one of {}", there.join(", ")),
        ),
    })
}

fn gpio(machine: &Machine, probe: &str, table: &Table) -> Vec<Finding> {
    let wanted = table.get("chip").and_then(Value::as_str).unwrap_or("gpiochip0");
    if wanted == "sim" {
        return vec![Finding::ok(probe, "simulated lines need nothing")];
    }
    let is_it = |chip: &&Chip| {
        chip.name == wanted || chip.label == wanted || format!("/dev/{}", chip.name) == wanted
    };
    let Some(chip) = machine.scan.gpio.iter().find(is_it) else {
        let there: Vec<String> = machine
            .scan
            .gpio
            .iter()
            .map(|chip| format!("{} ({})", chip.name, chip.label))
            .collect();
        let mend = match there.as_slice() {
            [] => "this machine shows none (/dev/gpiochip*); chip = \"sim\" needs none".to_owned(),
            there => format!("set chip to one of {}", there.join(", ")),
        };
        return vec![Finding::fail(probe, format!("there is no GPIO chip {wanted}"), mend)];
    };
    let path = format!("/dev/{}", chip.name);
    if let Err(why) = machine.may(Path::new(&path), READ | WRITE) {
        let (user, group) = (&machine.user.name, machine.group(Path::new(&path)));
        let group = group.filter(|group| group != "root").unwrap_or_else(|| "gpio".into());
        let mend = format!(
            "give {path} to the group {group} (udev rule 60-tidemill.rules of the package), and \
             sudo usermod -aG {group} {user}"
        );
        return vec![Finding::fail(probe, format!("{user} may not open {path}: {why}"), mend)];
    }
    if let Some(error) = &chip.error {
        return vec![Finding::warn(
            probe,
            format!("{path} can't be asked: {error}"),
            "sudo tidemill doctor may",
        )];
    }
    let channels = table.get("channel").and_then(Value::as_table);
    let wrong: Vec<Finding> = channels
        .into_iter()
        .flatten()
        .filter(|(_, channel)| !is_pulsed(channel))
        .filter_map(|(name, channel)| line(probe, name, chip, channel.get("line")?))
        .collect();
    if wrong.is_empty() {
        let said = format!("{path} may be opened, and its lines are free or its own");
        return vec![Finding::ok(probe, said)];
    }
    wrong
}

/// What is wrong with a channel's line.
fn line(probe: &str, channel: &str, chip: &Chip, wanted: &Value) -> Option<Finding> {
    let is_it = |line: &&Line| match wanted {
        Value::Integer(offset) => i64::from(line.offset) == *offset,
        Value::String(name) => line.name == *name,
        _ => false,
    };
    let name = &chip.name;
    let Some(line) = chip.lines.iter().find(is_it) else {
        let found = format!("channel {channel}: {name} has no line {wanted}");
        let mend = format!("tidemill scan lists its {} lines", chip.lines.len());
        return Some(Finding::fail(probe, found, mend));
    };
    // The gateway itself asks under this name.
    if !line.used || line.consumer == "tidemill" {
        return None;
    }
    let found = format!("channel {channel}: line {wanted} of {name} is held by {}", line.holder());
    let mend = match &line.process {
        Some(process) => format!("end that program (sudo kill {})", process.pid),
        None => "remove the dtoverlay or module that has it, or use another line".to_owned(),
    };
    Some(Finding::fail(probe, found, mend))
}

#[cfg(test)]
mod tests {
    use device::scan::{Process, Usb};

    use super::super::machine::User;
    use super::super::machine::tests::Fake;
    use super::*;

    fn said(findings: &[Finding]) -> String {
        let line = |finding: &Finding| {
            format!(
                "{:?} {}; {}\n",
                finding.verdict,
                finding.found,
                finding.mend.clone().unwrap_or_default()
            )
        };
        findings.iter().map(line).collect()
    }

    /// What is said of a device.
    fn of(machine: &Machine, device: &str) -> String {
        let config = Config::parse(&format!("[device.x]\n{device}"), "x.toml".as_ref());
        said(&probe(machine, &config.unwrap_or_else(|invalid| panic!("{invalid}"))))
    }

    const SERIAL: &str = "driver = 'serial'\nport = '/dev/ttyUSB0'\n[device.x.channel]\nt = {}";

    /// A port that is really there: a pseudo-terminal.
    fn pty() -> (rustix::fd::OwnedFd, String) {
        use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let path = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
        (master, path)
    }

    #[test]
    fn each_misfortune_of_a_serial_port_has_its_mend() {
        let fake = Fake::new();
        let gone = of(&fake.machine(), SERIAL);
        assert!(gone.contains("Fail /dev/ttyUSB0 isn't there; plug it in"), "{gone}");

        fake.put("dev/ttyUSB0", "");
        let file = of(&fake.machine(), SERIAL);
        assert!(file.contains("is not a serial port"), "{file}");

        fs::remove_file(fake.root().join("dev/ttyUSB0")).unwrap();
        let (master, path) = pty();
        fake.link("dev/ttyUSB0", &path);
        let fine = of(&fake.machine(), SERIAL);
        assert_eq!(fine, "Ok /dev/ttyUSB0 may be opened; \n");

        let stranger = User { name: "tidemill".into(), uid: 4711, gids: vec![4711] };
        fake.put("etc/group", &format!("tty:x:{}:\n", gid(&path)));
        let denied = of(&Machine { user: stranger, ..fake.machine() }, SERIAL);
        assert!(
            denied.contains("Fail tidemill may not open /dev/ttyUSB0: it belongs to the group tty"),
            "{denied}"
        );
        assert!(denied.contains("sudo usermod -aG tty tidemill"), "{denied}");

        fake.process(812, "minicom", &[&path]);
        let held = of(&fake.machine(), SERIAL);
        assert!(held.contains("Fail /dev/ttyUSB0 is held by minicom (process 812)"), "{held}");
        fake.put("proc/812/comm", "tidemill\n");
        let own = of(&fake.machine(), SERIAL);
        assert!(own.starts_with("Ok /dev/ttyUSB0 is read by tidemill"), "{own}");
        drop(master);
    }

    fn gid(path: &str) -> u32 {
        use std::os::unix::fs::MetadataExt;
        fs::metadata(path).unwrap().gid()
    }

    #[test]
    fn a_port_is_named_where_another_is_configured() {
        let fake = Fake::new();
        let mut machine = fake.machine();
        machine.scan.serial = vec![Port {
            path: "/dev/ttyACM0".into(),
            by_id: vec!["/dev/serial/by-id/usb-Uno".into()],
            usb: Some(Usb { id: "2341:0043".into(), serial: Some("A1".into()), product: None }),
            ..Port::default()
        }];
        let gone = of(&machine, SERIAL);
        assert!(
            gone.contains("set port instead of /dev/ttyUSB0 to /dev/serial/by-id/usb-Uno"),
            "{gone}"
        );
        let usb = |id: &str| {
            of(&machine, &format!("driver = 'serial'\nusb = '{id}'\n[device.x.channel]\nt = {{}}"))
        };
        assert!(usb("2341:0001").contains("there are: 2341:0043"), "{}", usb("2341:0001"));
        assert!(usb("2341:0043:B2").contains("no serial port of a USB device 2341:0043:B2"));
        // It is found, and its file is what is missing.
        assert!(
            usb("2341:0043:A1").contains("/dev/ttyACM0 isn't there"),
            "{}",
            usb("2341:0043:A1")
        );
    }

    #[test]
    fn the_console_and_a_passing_name_are_warnings() {
        let (master, path) = pty();
        let mut machine = Fake::new().machine();
        machine.root = "/".into();
        machine.user = User::default();
        let port = |by_id: &[&str], console| Port {
            path: path.clone(),
            by_id: by_id.iter().map(|&name| name.to_owned()).collect(),
            console,
            ..Port::default()
        };
        let device = SERIAL.replace("/dev/ttyUSB0", &path);
        machine.scan.serial = vec![port(&["/dev/serial/by-id/usb-Uno"], false)];
        let passing = of(&machine, &device);
        assert!(
            passing.contains("Warn")
                && passing.contains("set port = \"/dev/serial/by-id/usb-Uno\""),
            "{passing}"
        );
        machine.scan.serial = vec![port(&[], true)];
        let console = of(&machine, &device);
        assert!(console.contains("Warn the kernel's console writes to"), "{console}");
        drop(master);
    }

    const GPIO: &str = "driver = 'gpio'\nchip = 'gpiochip0'\n[device.x.channel]\n\
        door = { line = 17 }\nalarm = { line = 'GPIO27' }";

    #[test]
    fn each_misfortune_of_a_gpio_line_has_its_mend() {
        let fake = Fake::new();
        let none = of(&fake.machine(), GPIO);
        assert!(
            none.contains("Fail there is no GPIO chip gpiochip0; this machine shows none"),
            "{none}"
        );

        fake.put("dev/gpiochip0", "");
        let mut machine = fake.machine();
        let asked = of(&machine, GPIO);
        assert!(asked.contains("Warn /dev/gpiochip0 can't be asked"), "{asked}");

        let line = |offset, name: &str| Line { offset, name: name.into(), ..Line::default() };
        let mut lines = vec![line(17, "GPIO17"), line(27, "GPIO27")];
        let chip = |lines: &[Line]| Chip {
            name: "gpiochip0".into(),
            label: "pinctrl-bcm2711".into(),
            lines: lines.to_vec(),
            ..Chip::default()
        };
        machine.scan.gpio = vec![chip(&lines)];
        assert!(of(&machine, GPIO).starts_with("Ok /dev/gpiochip0 may be opened"));
        assert!(of(&machine, &GPIO.replace("gpiochip0", "pinctrl-bcm2711")).starts_with("Ok"));
        let other = of(&machine, &GPIO.replace("gpiochip0", "gpiochip4"));
        assert!(other.contains("set chip to one of gpiochip0 (pinctrl-bcm2711)"), "{other}");
        let beyond = of(&machine, &GPIO.replace("17", "99"));
        assert!(beyond.contains("channel door: gpiochip0 has no line 99"), "{beyond}");

        lines[0].used = true;
        lines[0].consumer = "onewire@11".into();
        lines[1].used = true;
        lines[1].consumer = "app".into();
        lines[1].process = Some(Process { pid: 7, name: "python3".into() });
        machine.scan.gpio = vec![chip(&lines)];
        let held = of(&machine, GPIO);
        assert!(
            held.contains("line 17 of gpiochip0 is held by \"onewire@11\"; remove the dtoverlay"),
            "{held}"
        );
        assert!(
            held.contains(
                "is held by \"app\", python3 (process 7); end that program (sudo kill 7)"
            ),
            "{held}"
        );
        lines[1].consumer = "tidemill".into();
        machine.scan.gpio = vec![chip(&lines)];
        assert!(!of(&machine, GPIO).contains("alarm"), "its own is no misfortune");

        machine.user = User { name: "tidemill".into(), uid: 4711, gids: vec![] };
        fs::set_permissions(
            fake.root().join("dev/gpiochip0"),
            std::os::unix::fs::PermissionsExt::from_mode(0o600),
        )
        .unwrap();
        let denied = of(&machine, GPIO);
        assert!(denied.contains("Fail tidemill may not open /dev/gpiochip0"), "{denied}");
        assert!(denied.contains("usermod -aG "), "{denied}");
    }

    #[test]
    fn a_device_on_the_network_answers_or_does_not() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        assert!(said(&[tcp("x".into(), &address)]).starts_with("Ok"));
        drop(listener);
        let silent = said(&[tcp("x".into(), &address)]);
        assert!(silent.contains("refused") && silent.contains("switched on"), "{silent}");
    }

    #[test]
    fn a_pwm_chip_is_there_or_needs_its_overlay() {
        let table: Table =
            toml::from_str("[channel]\nfan = { line = 0, direction = 'pwm' }").unwrap();
        let fake = Fake::new();
        let none = said(&[pwm(&fake.machine(), "x", &table).unwrap()]);
        assert!(none.contains("no PWM chip pwmchip0") && none.contains("dtoverlay=pwm"), "{none}");
        fake.put("sys/class/pwm/pwmchip0/npwm", "2\n");
        assert!(said(&[pwm(&fake.machine(), "x", &table).unwrap()]).starts_with("Ok"));
        assert_eq!(pulses(&table), (true, true), "and no GPIO chip is asked for");
    }

    #[test]
    fn a_bus_that_is_switched_off_and_an_address_that_the_kernel_has() {
        let at = ("/dev/i2c-1", 0x76);
        let fake = Fake::new();
        let off = said(&[i2c(&fake.machine(), "x".into(), at)]);
        assert!(
            off.contains("/dev/i2c-1 isn't there") && off.contains("dtparam=i2c_arm=on"),
            "{off}"
        );
        fake.put("dev/i2c-1", "").put("sys/bus/i2c/devices/1-0076/name", "bme280\n");
        let taken = said(&[i2c(&fake.machine(), "x".into(), at)]);
        assert!(
            taken.contains("driver for bme280 has address 0x76") && taken.contains("iio"),
            "{taken}"
        );
    }
}
