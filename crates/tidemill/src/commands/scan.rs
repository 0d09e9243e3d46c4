//! `tidemill scan`.

use std::fmt::Write as _;
use std::path::PathBuf;

use device::scan::{Chip, Holders, Port, Scan};

/// Arguments.
#[derive(clap::Args)]
#[command(after_help = "\
Nothing is switched or read: it only looks. As root it sees which process
holds a port or a line.

Example: sudo tidemill scan --lines")]
pub(crate) struct Args {
    /// Also show each line of the GPIO chips
    #[arg(long)]
    lines: bool,
    /// As one JSON object, for scripts; with all lines
    #[arg(long)]
    json: bool,
    /// Look at the machine whose files are here
    #[arg(long, value_name = "DIR", default_value = "/", hide = true)]
    root: PathBuf,
}

/// Lists what is connected, each with a piece of configuration.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let scan = Scan::of(&args.root, &Holders::of(&args.root));
    if args.json {
        return super::print(&format!("{:#}\n", serde_json::to_value(&scan)?));
    }
    super::print(&text(&scan, args.lines))
}

/// What a person sees.
pub(crate) fn text(scan: &Scan, lines: bool) -> String {
    let mut out = String::new();
    section(&mut out, "GPIO", "no chip (/dev/gpiochip*)", scan.gpio.iter().map(|c| chip(c, lines)));
    section(&mut out, "Serial ports", "none", scan.serial.iter().map(port));
    let buses = scan.i2c.iter().map(|bus| {
        let taken =
            bus.taken.iter().map(|(at, chip)| format!("\n  {at:#04x}  {chip}, by the kernel"));
        format!("{}  {}{}", bus.path, bus.name, taken.collect::<String>())
    });
    section(&mut out, "I2C", "no bus (/dev/i2c-*)", buses);
    let onewire = scan.onewire.iter().map(|device| {
        format!("{}{}", device.id, if device.thermometer { "  a thermometer" } else { "" })
    });
    section(&mut out, "1-Wire", "no device", onewire);
    let iio = scan.iio.iter().map(|device| {
        format!("{}  {}: {}", device.device, device.name, device.channels.join(", "))
    });
    section(&mut out, "IIO", "no device", iio);
    let hwmon = scan
        .hwmon
        .iter()
        .map(|chip| format!("{}  {}: {}", chip.chip, chip.name, chip.channels.join(", ")));
    section(&mut out, "hwmon", "no chip", hwmon);
    let pwm = scan
        .pwm
        .iter()
        .map(|chip| format!("{}  {}, {} outputs", chip.chip, chip.device, chip.channels));
    section(&mut out, "PWM", "no chip (dtoverlay=pwm)", pwm);
    let snippets: Vec<&str> = scan.snippets().collect();
    if !snippets.is_empty() {
        out += "\nConfiguration to start from (tidemill drivers NAME shows every key):\n";
        for snippet in snippets {
            write!(out, "\n{snippet}").expect("a string takes all");
        }
    }
    out
}

fn section(out: &mut String, title: &str, none: &str, things: impl Iterator<Item = String>) {
    let things: Vec<String> = things.collect();
    match things.as_slice() {
        [] => out.push_str(&format!("{title}: {none}\n")),
        things => {
            out.push_str(&format!("{title}\n"));
            for line in things.iter().flat_map(|thing| thing.lines()) {
                // What a device calls itself must not steer the terminal.
                let line: String = line.chars().filter(|c| !c.is_control()).collect();
                out.push_str(&format!("  {line}\n"));
            }
        }
    }
}

fn chip(chip: &Chip, all: bool) -> String {
    let Chip { name, label, error, lines, .. } = chip;
    if let Some(error) = error {
        return format!("{name}  can't be asked: {error}; try with sudo");
    }
    let used = lines.iter().filter(|line| line.used).count();
    let mut text = format!("{name}  {label}, {} lines, {used} held", lines.len());
    for line in lines.iter().filter(|line| all || line.used) {
        let way = if line.output { "output" } else { "input" };
        let state = if line.used { format!("held by {}", line.holder()) } else { "free".into() };
        write!(text, "\n  {:>3}  {:<16} {way:<6}  {state}", line.offset, line.name)
            .expect("a string takes all");
    }
    text
}

fn port(port: &Port) -> String {
    let mut text = port.path.clone();
    if let Some(usb) = &port.usb {
        let serial = usb.serial.as_ref().map_or(String::new(), |serial| format!(":{serial}"));
        let product = usb.product.as_deref().unwrap_or("USB device");
        write!(text, "  {product}, usb = \"{}{serial}\"", usb.id).expect("a string takes all");
    }
    for name in &port.by_id {
        write!(text, "\n  {name}").expect("a string takes all");
    }
    if port.console {
        text += "\n  the kernel's console is on it: switch that off first (raspi-config)";
    }
    if let Some(process) = &port.process {
        write!(text, "\n  held by {process}").expect("a string takes all");
    }
    text
}

#[cfg(test)]
mod tests {
    use device::scan::{HwmonChip, I2cBus, IioDevice, Line, OneWire, Process, PwmChip, Usb};

    use super::*;

    #[test]
    fn what_a_person_sees() {
        let line = |offset, name: &str, used, consumer: &str| Line {
            offset,
            name: name.into(),
            used,
            consumer: consumer.into(),
            ..Line::default()
        };
        let scan = Scan {
            gpio: vec![Chip {
                name: "gpiochip0".into(),
                label: "pinctrl-bcm2711".into(),
                lines: vec![line(17, "GPIO17", false, ""), line(18, "GPIO18", true, "w1")],
                snippet: Some("[device.gpiochip0]\n…\n".into()),
                error: None,
            }],
            serial: vec![Port {
                path: "/dev/ttyACM0".into(),
                by_id: vec!["/dev/serial/by-id/usb-Uno".into()],
                usb: Some(Usb {
                    id: "2341:0043".into(),
                    serial: Some("A1".into()),
                    product: Some("Arduino \x1b[31mUno".into()),
                }),
                console: false,
                process: Some(Process { pid: 77, name: "minicom".into() }),
                snippet: "[device.uno]\n…\n".into(),
            }],
            i2c: vec![I2cBus {
                path: "/dev/i2c-1".into(),
                name: "bcm2835".into(),
                taken: vec![(0x76, "bme280".into())],
                snippet: None,
            }],
            onewire: vec![OneWire {
                id: "28-0316a2795bff".into(),
                thermometer: true,
                snippet: None,
            }],
            iio: vec![IioDevice {
                device: "iio:device0".into(),
                name: "bme280".into(),
                channels: vec!["temp".into(), "pressure".into()],
                snippet: None,
            }],
            hwmon: vec![HwmonChip {
                chip: "hwmon1".into(),
                name: "ina219".into(),
                channels: vec!["in1".into(), "curr1".into()],
                snippet: None,
            }],
            pwm: vec![PwmChip {
                chip: "pwmchip0".into(),
                device: "fe20c000.pwm".into(),
                channels: 2,
                snippet: None,
            }],
        };
        expect_test::expect![[r#"
            GPIO
              gpiochip0  pinctrl-bcm2711, 2 lines, 1 held
                 17  GPIO17           input   free
                 18  GPIO18           input   held by "w1"
            Serial ports
              /dev/ttyACM0  Arduino [31mUno, usb = "2341:0043:A1"
                /dev/serial/by-id/usb-Uno
                held by minicom (process 77)
            I2C
              /dev/i2c-1  bcm2835
                0x76  bme280, by the kernel
            1-Wire
              28-0316a2795bff  a thermometer
            IIO
              iio:device0  bme280: temp, pressure
            hwmon
              hwmon1  ina219: in1, curr1
            PWM
              pwmchip0  fe20c000.pwm, 2 outputs

            Configuration to start from (tidemill drivers NAME shows every key):

            [device.gpiochip0]
            …

            [device.uno]
            …
        "#]]
        .assert_eq(&text(&scan, true));
        assert!(!text(&scan, false).contains("GPIO17"), "free lines are many");
        expect_test::expect![[r#"
            GPIO: no chip (/dev/gpiochip*)
            Serial ports: none
            I2C: no bus (/dev/i2c-*)
            1-Wire: no device
            IIO: no device
            hwmon: no chip
            PWM: no chip (dtoverlay=pwm)
        "#]]
        .assert_eq(&text(&Scan::default(), false));
    }
}
