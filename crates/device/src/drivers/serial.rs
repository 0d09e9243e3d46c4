//! A device that prints lines on a serial port.

use std::io;
use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use reading::{Fault, Kind};
use schemars::JsonSchema;
use serde::Deserialize;
use tokio_serial::{DataBits, ErrorKind, FlowControl, Parity, SerialPortBuilderExt, StopBits};

use crate::kind::{Declared, Kinded, Pace};
use crate::line::{Csv, Format, Json, KeyValue, Lines, Pattern, Place};
use crate::settings::Report;
use crate::usb::UsbId;
use crate::{Device, Driver, Failure};

/// The driver.
pub(crate) struct Serial;

/// Its own keys of `[device.NAME]`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    /// The path of the port, best one of /dev/serial/by-id.
    port: Option<String>,
    /// Instead of `port`: "vendor:product" or "vendor:product:serial".
    usb: Option<String>,
    /// Bits a second.
    #[serde(default = "baud")]
    baud: u32,
    /// Bits of a character: 5 to 8.
    #[serde(default = "data_bits")]
    data_bits: u8,
    /// The parity bit.
    #[serde(default)]
    parity: ParityBit,
    /// Stop bits: 1 or 2.
    #[serde(default = "stop_bits")]
    stop_bits: u8,
    /// Flow control.
    #[serde(default)]
    flow: Flow,
    /// How the bytes are cut into frames.
    #[serde(default)]
    #[expect(dead_code, reason = "there is only one yet; the key is for those to come")]
    frame: FrameKind,
    /// What a frame is.
    #[serde(default)]
    format: FormatKind,
    /// Of csv: what stands between two cells; "," by default.
    separator: Option<char>,
    /// Of regex: the expression that a line has to match somewhere.
    pattern: Option<String>,
    /// Lines in which this expression is found are left out, unread.
    ignore: Option<String>,
}

fn baud() -> u32 {
    115_200
}

fn data_bits() -> u8 {
    8
}

fn stop_bits() -> u8 {
    1
}

/// The parity bit.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum ParityBit {
    /// There is none.
    #[default]
    None,
    /// Odd.
    Odd,
    /// Even.
    Even,
}

/// Flow control.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Flow {
    /// There is none.
    #[default]
    None,
    /// XON and XOFF.
    Software,
    /// RTS and CTS.
    Hardware,
}

/// How the bytes are cut into frames.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum FrameKind {
    /// At CR, LF or both.
    #[default]
    Line,
}

/// What a frame is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum FormatKind {
    /// {"t":21.5,"h":40}
    #[default]
    Json,
    /// 21.5,40
    Csv,
    /// t=21.5,h=40
    KeyValue,
    /// Whatever `pattern` finds.
    Regex,
}

/// A channel's own keys. Each defaults to the channel's own name.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Field {
    /// Of json and keyvalue: the key; of json also a dotted path.
    field: Option<String>,
    /// Of csv: the column, by number from 1 or by its name in the header.
    column: Option<Place>,
    /// Of regex: the group, by number from 1 or by name.
    group: Option<Place>,
}

struct Checked {
    at: At,
    settings: Settings,
    format: Format,
    ignore: Option<regex::Regex>,
}

/// Where the port is.
enum At {
    Path(String),
    Usb(UsbId),
}

impl Kinded for Serial {
    const NAME: &'static str = "serial";
    const SUMMARY: &'static str = "a device that prints lines on a serial port";
    const SAMPLE: &'static str = r#"[device.weather]
driver = "serial"
port = "/dev/serial/by-id/usb-Arduino_Uno-if00"   # a name that outlives replugging
# usb = "2341:0043"          # instead of port: "vendor:product" or "vendor:product:serial"
baud = 115200
# data_bits = 8
# parity = "none"            # or "odd", "even"
# stop_bits = 1
# flow = "none"              # or "software", "hardware"
# frame = "line"             # ended by CR, LF or both
format = "json"              # or "csv", "keyvalue", "regex"
# separator = ","            # of csv
# pattern = 'T=(?<t>[-0-9.]+)'   # of regex
# ignore = '^#'              # lines to leave out
# timeout = "1min"           # silent for so long, it counts as lost and is opened again

[device.weather.channel]
temperature = { field = "t", unit = "Cel", range = [-40, 85], filters = [{ median = 5 }, { delta = 0.1 }] }
humidity    = { field = "h", unit = "%RH", stale = "5min" }
wind        = { field = "wind.speed", unit = "m/s", scale = 0.44704 }
door        = { type = "boolean" }
"#;
    const PACE: Pace = Pace::Speaks;
    type Settings = Settings;
    type Channel = Field;

    fn kind(channel: &Declared<Field>) -> Result<Kind, String> {
        Ok(channel.common.kind.map(Kind::from).unwrap_or_default())
    }

    fn build(
        settings: Settings,
        channels: Vec<Declared<Field>>,
        _: Option<Duration>,
        report: &mut Report<'_>,
    ) -> Option<Box<dyn Driver>> {
        let at = at(&settings, report);
        let mut sound = true;
        let mut wrong = |keys: &[&str], message: &str| {
            report.at(keys, message);
            sound = false;
        };
        if !(5..=8).contains(&settings.data_bits) {
            wrong(&["data_bits"], "expected 5, 6, 7 or 8");
        }
        if !(1..=2).contains(&settings.stop_bits) {
            wrong(&["stop_bits"], "expected 1 or 2");
        }
        if settings.baud == 0 {
            wrong(&["baud"], "expected bits a second, such as 9600 or 115200");
        }
        if settings.separator.is_some_and(|separator| !separator.is_ascii() || separator == '"') {
            wrong(&["separator"], "expected one ASCII character, such as \",\", \";\" or \"\\t\"");
        }
        let given = [
            ("separator", settings.separator.is_some(), FormatKind::Csv, "csv"),
            ("pattern", settings.pattern.is_some(), FormatKind::Regex, "regex"),
        ];
        for (key, given, of, name) in given {
            if given && settings.format != of {
                wrong(&[key], &format!("only format = \"{name}\" has it"));
            }
        }
        let ignore = match settings.ignore.as_deref().map(regex::Regex::new).transpose() {
            Ok(ignore) => ignore,
            Err(error) => {
                wrong(&["ignore"], &error.to_string());
                None
            }
        };
        let format = format(&settings, &channels, report);
        sound.then_some(Box::new(Checked { at: at?, settings, format: format?, ignore }))
    }
}

fn at(settings: &Settings, report: &mut Report<'_>) -> Option<At> {
    match (&settings.port, &settings.usb) {
        (Some(port), None) if !port.is_empty() => Some(At::Path(port.clone())),
        (None, Some(usb)) => match usb.parse() {
            Ok(id) => Some(At::Usb(id)),
            Err(message) => {
                report.at(&["usb"], message);
                None
            }
        },
        (Some(_), Some(_)) => {
            report.at(&["usb"], "`port` says already where the device is: leave one out");
            None
        }
        _ => {
            report.at(
                &["port"],
                "missing key `port`, such as \"/dev/ttyUSB0\", or `usb`, such as \"2341:0043\"",
            );
            None
        }
    }
}

/// The parser of the lines, when every channel says what it needs.
fn format(
    settings: &Settings,
    channels: &[Declared<Field>],
    report: &mut Report<'_>,
) -> Option<Format> {
    let key = match settings.format {
        FormatKind::Json | FormatKind::KeyValue => "field",
        FormatKind::Csv => "column",
        FormatKind::Regex => "group",
    };
    let mut sound = true;
    for channel in channels {
        let own = &channel.own;
        for (other, given) in [
            ("field", own.field.is_some()),
            ("column", own.column.is_some()),
            ("group", own.group.is_some()),
        ] {
            if given && other != key {
                let message = format!("with this format a channel says `{key}` instead");
                report.at(&["channel", &channel.name, other], message);
                sound = false;
            }
        }
    }
    if !sound {
        return None;
    }
    let fields = || -> Vec<_> {
        let field = |c: &Declared<Field>| c.own.field.clone().unwrap_or_else(|| c.name.clone());
        channels.iter().map(|channel| (field(channel), channel.kind)).collect()
    };
    let places = |of: fn(&Field) -> &Option<Place>| -> Vec<_> {
        let place =
            |c: &Declared<Field>| of(&c.own).clone().unwrap_or_else(|| Place::Name(c.name.clone()));
        channels.iter().map(|channel| (place(channel), channel.kind)).collect()
    };
    Some(match settings.format {
        FormatKind::Json => Format::Json(Json::new(&fields())),
        FormatKind::KeyValue => Format::KeyValue(KeyValue::new(&fields())),
        FormatKind::Csv => {
            let separator = settings.separator.and_then(|c| u8::try_from(c).ok()).unwrap_or(b',');
            Format::Csv(Csv::new(separator, &places(|own| &own.column)))
        }
        FormatKind::Regex => {
            let Some(pattern) = &settings.pattern else {
                report.at(&["pattern"], "missing key `pattern`, such as 'T=(?<t>[-0-9.]+)'");
                return None;
            };
            match Pattern::new(pattern, &places(|own| &own.group)) {
                Ok(pattern) => Format::Regex(pattern),
                Err((None, message)) => {
                    report.at(&["pattern"], message);
                    return None;
                }
                Err((Some(channel), message)) => {
                    report.at(&["channel", &channels[channel].name, "group"], message);
                    return None;
                }
            }
        }
    })
}

#[async_trait]
impl Driver for Checked {
    async fn open(&self) -> Result<Box<dyn Device>, Failure> {
        let path = match &self.at {
            At::Path(path) => path.clone(),
            At::Usb(id) => id.port(Path::new("/sys"))?,
        };
        let settings = &self.settings;
        let port = tokio_serial::new(&path, settings.baud)
            .data_bits(match settings.data_bits {
                5 => DataBits::Five,
                6 => DataBits::Six,
                7 => DataBits::Seven,
                _ => DataBits::Eight,
            })
            .parity(match settings.parity {
                ParityBit::None => Parity::None,
                ParityBit::Odd => Parity::Odd,
                ParityBit::Even => Parity::Even,
            })
            .stop_bits(if settings.stop_bits == 2 { StopBits::Two } else { StopBits::One })
            .flow_control(match settings.flow {
                Flow::None => FlowControl::None,
                Flow::Software => FlowControl::Software,
                Flow::Hardware => FlowControl::Hardware,
            })
            // Exclusive: two readers would each get half of every line.
            .exclusive(true)
            .open_native_async()
            .map_err(|error| refused(&path, &error))?;
        Ok(Box::new(Lines::over(port, path, self.format.clone(), self.ignore.clone())))
    }
}

/// What kept the port from being opened, and the mend.
pub(crate) fn refused(path: &str, error: &tokio_serial::Error) -> Failure {
    let absent = || {
        let detail =
            format!("{path}: no such port; is the device plugged in? ls /dev/serial/by-id");
        Failure::new(Fault::Absent, detail)
    };
    match error.kind() {
        ErrorKind::Io(io::ErrorKind::NotFound) => absent(),
        ErrorKind::Io(io::ErrorKind::PermissionDenied) => Failure::new(
            Fault::Denied,
            format!(
                "{path}: permission denied; add the gateway's user to the port's group: usermod -aG dialout USER"
            ),
        ),
        ErrorKind::NoDevice if !Path::new(path).exists() => absent(),
        ErrorKind::NoDevice => Failure::new(
            Fault::Busy,
            format!("{path}: in use by another program; fuser -v {path} names it"),
        ),
        ErrorKind::InvalidInput => {
            Failure::new(Fault::Io, format!("{path}: the port can't do that: {error}"))
        }
        ErrorKind::Io(_) | ErrorKind::Unknown => {
            Failure::new(Fault::Io, format!("{path}: {error}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write;

    use reading::{Datum, Value};
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

    use super::*;
    use crate::{Batch, Config};

    fn driver(settings: &str) -> Config {
        let table = toml::de::DeTable::parse(settings).unwrap();
        let mut errors = Vec::new();
        let config = Config::parse("x", table, &mut errors);
        assert_eq!(errors, []);
        config.unwrap()
    }

    fn pty() -> (File, String) {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let path = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
        (File::from(master), path)
    }

    #[tokio::test]
    async fn a_pty_is_a_port_and_is_held_alone() {
        let (mut master, path) = pty();
        let settings = format!(
            "driver = 'serial'\nport = '{path}'\nbaud = 9600\nformat = 'csv'\nignore = '^#'\n\
             [channel]\na = {{ column = 2 }}\nb = {{ column = 1, type = 'text' }}"
        );
        let config = driver(&settings);
        let mut device = config.driver.open().await.unwrap();
        let again = config.driver.open().await.err().unwrap();
        assert_eq!(again.fault, Fault::Busy, "{again}");
        master.write_all(b"# boot\r\nx,1.5\r\n").unwrap();
        let mut batch = Batch::default();
        while batch.samples.is_empty() {
            device.read(&mut batch).await.unwrap();
        }
        let values: Vec<_> = batch.samples.drain(..).map(|s| (s.channel, s.value)).collect();
        let good = Value::Good;
        assert_eq!(values, [(1, good(Datum::from("x"))), (0, good(Datum::Number(1.5)))]);
        drop(master);
        assert_eq!(device.read(&mut batch).await.unwrap_err().fault, Fault::Absent);
        drop(device);
        let gone = config.driver.open().await.err().unwrap();
        assert_eq!(gone.fault, Fault::Absent, "{gone}");
    }

    #[test]
    fn a_refusal_names_the_mend() {
        let error = |kind| refused("/dev/x", &tokio_serial::Error::new(kind, "no"));
        let denied = error(ErrorKind::Io(io::ErrorKind::PermissionDenied));
        assert_eq!(denied.fault, Fault::Denied);
        assert!(denied.detail.contains("dialout"), "{denied}");
        assert_eq!(error(ErrorKind::NoDevice).fault, Fault::Absent);
    }
}
