//! A device that prints lines on a serial port.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use reading::{Fault, Kind};
use schemars::JsonSchema;
use serde::Deserialize;
use tokio_serial::{DataBits, ErrorKind, FlowControl, Parity, SerialPortBuilderExt, StopBits};
use toml::Spanned;
use toml::de::DeTable;

use crate::kind::{Declared, Kinded, Pace};
use crate::serial::bytes::{Bytes, Endian};
use crate::serial::checksum::Checksum;
use crate::serial::format::{Encoding, FieldSettings, FormatKind, FormatSettings};
use crate::serial::frame::FrameSettings;
use crate::serial::preset::{self, PresetName};
use crate::serial::rs485::Rs485;
use crate::serial::{Language, Question, Reader, Rehearsed};
use crate::settings::Report;
use crate::usb::UsbId;
use crate::{Device, Driver, Failure, Rehearsal, Tap};

/// How often a device is asked that must be, unless `poll` says otherwise.
const ASKED_EVERY: Duration = Duration::from_secs(1);
/// How long an answer may take: at 9600 baud a thousand bytes take a second.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(1);

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
    /// Where /sys and /dev are, in which `usb` is looked up.
    #[serde(default = "root")]
    root: PathBuf,
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
    /// On an RS-485 bus: the UART's driver switches the transceiver by RTS.
    rs485: Option<Rs485>,
    /// A device that is known: its baud, frame, format and channels are the
    /// defaults.
    #[expect(dead_code, reason = "read before, to complete the table; here for the schema")]
    preset: Option<PresetName>,
    /// How the bytes are cut into frames.
    #[serde(default)]
    frame: FrameSettings,
    /// What a frame is.
    #[serde(default)]
    format: FormatKind,
    /// Of csv: what stands between two cells; "," by default.
    separator: Option<char>,
    /// Of regex: the expression that a line has to match somewhere.
    pattern: Option<String>,
    /// Of texts: how they are written; "utf-8" by default.
    encoding: Option<Encoding>,
    /// Of binary: the order of the bytes of a number; "big" by default.
    endian: Option<Endian>,
    /// Of binary: how a frame is checked, as { kind = "sum8" }.
    checksum: Option<Checksum>,
    /// Frames in which this expression is found are left out, unread.
    ignore: Option<String>,
    /// Of a device that must be asked: what to send each `poll`, as a text with
    /// escapes or a list of bytes.
    request: Option<Bytes>,
    /// How long the answer to `request` may take; "1s" by default, and less than
    /// `timeout`.
    #[serde(default, with = "humantime_serde::option")]
    #[schemars(with = "Option<String>")]
    response_timeout: Option<Duration>,
}

fn root() -> PathBuf {
    PathBuf::from("/")
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

struct Checked {
    at: At,
    settings: Settings,
    language: Language,
}

/// Where the port is.
enum At {
    Path(String),
    Usb(UsbId),
}

impl Kinded for Serial {
    const NAME: &'static str = "serial";
    const SUMMARY: &'static str = "a device at a serial port: lines of text, or binary frames";
    const SAMPLE: &'static str = r#"[device.weather]
driver = "serial"
port = "/dev/serial/by-id/usb-Arduino_Uno-if00"   # a name that outlives replugging
# usb = "2341:0043"          # instead of port: "vendor:product" or "vendor:product:serial"
baud = 115200
# root = "/"                 # where /sys and /dev are, for usb
# data_bits = 8
# parity = "none"            # or "odd", "even"
# stop_bits = 1
# flow = "none"              # or "software", "hardware"
# rs485 = { rts_on_send = true, delay_before = "0ms", delay_after = "0ms", rx_during_tx = false }
# preset = "pms5003"         # a device that is known: baud, frame, format and channels are its
# frame = "line"             # ended by CR, LF or both; the others are below
format = "json"              # or "csv", "keyvalue", "regex", "binary", "nmea"; the presets have others
# separator = ","            # of csv
# pattern = 'T=(?<t>[-0-9.]+)'   # of regex
# encoding = "latin-1"       # of texts that aren't UTF-8
# endian = "little"          # of binary; "big" by default
# checksum = { kind = "crc16-modbus" }   # of binary, at the end of the frame and of all before it
# ignore = '^#'              # lines to leave out
# request = "READ\r\n"       # a device that must be asked, each `poll`; or [0xff, 0x01, 0x86]
# response_timeout = "1s"    # how long its answer may take
# timeout = "1min"           # silent for so long, it counts as lost and is opened again

[device.weather.channel]
temperature = { field = "t", unit = "Cel", range = [-40, 85], filters = [{ median = 5 }, { delta = 0.1 }] }
humidity    = { field = "h", unit = "%RH", stale = "5min" }
wind        = { field = "wind.speed", unit = "m/s", scale = 0.44704 }
door        = { type = "boolean" }

# Binary frames. Places are in bytes, from 0; negative ones from the end on.
# [device.air]
# driver = "serial"
# port = "/dev/serial0"
# baud = 9600
# frame = { fixed = { length = 32, start = [0x42, 0x4d], end = [] } }   # always of one length
# frame = { length = { start = [0x42, 0x4d], at = 2, size = 2, endian = "big", add = 4, max = 256 } }
# frame = { delimited = { start = "\u0002", end = "\u0003", escape = 0x10, xor = 0 } }
# frame = { idle = "20ms" }  # silence ends a frame; 3.5 is the time of so many characters
# frame = "slip"             # or "cobs"; of meters "readout", "sml", of Victron "vedirect"
# format = "binary"
# checksum = { kind = "sum16", at = -2, from = 0, to = -2, endian = "big" }
# channel.pm25    = { at = 12, type = "u16", endian = "big", unit = "ug/m3" }   # also i8 to i64, f32, f64
# channel.percent = { at = 14, type = "i16", mask = 0x0ff0, scale = 0.5 }   # some bits of it
# channel.alarm   = { at = 28, bit = 3 }      # true or false
# channel.energy  = { at = 20, type = "bcd", length = 4, unit = "kW.h" }   # or "text"
"#;
    const PACE: Pace = Pace::Speaks;
    const ASKED_WITH: Option<&'static str> = Some("request");
    type Settings = Settings;
    type Channel = FieldSettings;
    const MEANT_OTHERWISE: &'static [&'static str] = &["type"];

    fn completed(table: Spanned<DeTable<'_>>) -> Spanned<DeTable<'_>> {
        preset::completed(table)
    }

    fn pace(settings: &Settings) -> Pace {
        if settings.request.is_some() { Pace::Asked(ASKED_EVERY) } else { Self::PACE }
    }

    fn kind(channel: &Declared<FieldSettings>) -> Result<Kind, String> {
        Ok(channel.own.kind())
    }

    fn build(
        settings: Settings,
        channels: Vec<Declared<FieldSettings>>,
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
        let ignore = match settings.ignore.as_deref().map(regex::Regex::new).transpose() {
            Ok(ignore) => ignore,
            Err(error) => {
                wrong(&["ignore"], &error.to_string());
                None
            }
        };
        if settings.request.as_ref().is_some_and(|request| request.0.is_empty()) {
            wrong(
                &["request"],
                "expected what to send, such as \"READ\\r\\n\"; leave it out for a device that speaks on its own",
            );
        }
        match settings.response_timeout {
            Some(_) if settings.request.is_none() => {
                wrong(&["response_timeout"], "only a device that is asked has it: `request`");
            }
            Some(patience) if patience < Duration::from_millis(1) => {
                wrong(&["response_timeout"], "expected 1ms or more");
            }
            _ => {}
        }
        if let Some(rs485) = &settings.rs485 {
            sound &= rs485.check(report);
        }
        let framer = settings.frame.clone().framer(settings.character(), report);
        let format = FormatSettings {
            format: settings.format,
            separator: settings.separator,
            pattern: settings.pattern.as_deref(),
            encoding: settings.encoding,
            endian: settings.endian,
            checksum: settings.checksum.as_ref(),
        };
        let format = format.format(&channels, report);
        let patience = settings.response_timeout.unwrap_or(RESPONSE_TIMEOUT);
        let question = |request: Bytes| Question { request: request.0, patience };
        let language = Language {
            framer: framer?,
            format: format?,
            encoding: settings.encoding.unwrap_or_default(),
            ignore,
            question: settings.request.clone().map(question),
            channels: channels.len(),
            tap: Tap::default(),
        };
        sound.then_some(Box::new(Checked { at: at?, settings, language }))
    }
}

impl Settings {
    /// How long one character takes.
    fn character(&self) -> Duration {
        let parity = u32::from(!matches!(self.parity, ParityBit::None));
        let bits = 1 + u32::from(self.data_bits) + parity + u32::from(self.stop_bits);
        Duration::from_secs(bits.into()) / self.baud.max(1)
    }
}

impl At {
    /// # Errors
    /// When no USB device has these ids.
    fn path(&self, root: &Path) -> Result<String, Failure> {
        match self {
            At::Path(path) => Ok(path.clone()),
            At::Usb(id) => id.port(root),
        }
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

#[async_trait]
impl Driver for Checked {
    fn tap(&self) -> Option<&Tap> {
        Some(&self.language.tap)
    }

    fn rehearse(&self) -> Option<Box<dyn Rehearsal>> {
        Some(Box::new(Rehearsed::new(self.language.clone())))
    }

    fn is_there(&self) -> Option<bool> {
        let path = self.at.path(&self.settings.root);
        Some(path.is_ok_and(|path| Path::new(&path).exists()))
    }

    async fn open(&self) -> Result<Box<dyn Device>, Failure> {
        let path = self.at.path(&self.settings.root)?;
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
        if let Some(rs485) = &settings.rs485 {
            rs485.apply(&path, &port)?;
        }
        Ok(Box::new(Reader::over(port, path, self.language.clone())))
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
            format!(
                "{path}: in use by another program, or by another device of this gateway; fuser -v {path} names it"
            ),
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
