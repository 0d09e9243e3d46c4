//! Meters, inverters and controllers that speak Modbus, RTU or TCP.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use reading::{Datum, Fault, Kind, Value};
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::time::Instant;
use tokio_serial::{Parity, StopBits};
use tracing::{info, warn};

use crate::kind::{Declared, Kinded, Pace};
use crate::modbus::{
    Block, Bus, Exception, Format, Line, Order, Place, REGISTERS_MAX, RegisterType, Request, Table,
    Telegram, Trouble, Wire, Write, plan,
};
use crate::output::Writable;
use crate::serial::rs485::Rs485;
use crate::settings::Report;
use crate::usb::UsbId;
use crate::{Batch, Device, Driver, Failure, Taken};

/// The driver.
pub(crate) struct Modbus;

/// Its own keys of `[device.NAME]`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    /// RTU: the path of the serial port, best one of /dev/serial/by-id. Several
    /// devices may share it, each with an address of its own.
    port: Option<String>,
    /// RTU, instead of `port`: "vendor:product" or "vendor:product:serial".
    usb: Option<String>,
    /// TCP, instead of `port`: "host" or "host:port".
    tcp: Option<String>,
    /// RTU: bits a second.
    #[serde(default = "baud")]
    baud: u32,
    /// RTU: the parity bit.
    #[serde(default)]
    parity: ParityBit,
    /// RTU: stop bits, 1 or 2.
    #[serde(default = "stop_bits")]
    stop_bits: u8,
    /// RTU: the UART's driver switches the transceiver by RTS; the same for all on
    /// the port.
    rs485: Option<Rs485>,
    /// The slave's address; of TCP the unit.
    #[serde(default = "address")]
    address: u8,
    /// Neighbouring registers are read together, also over holes of so many.
    #[serde(default)]
    gap: u16,
    /// The most registers read at once, up to 125.
    #[serde(default = "limit")]
    limit: u16,
    /// How long the answer to one question may take.
    #[serde(default = "response_timeout", with = "humantime_serde")]
    #[schemars(with = "String")]
    response_timeout: Duration,
    /// How often a question is asked again that wasn't answered.
    #[serde(default = "retries")]
    retries: u8,
}

fn baud() -> u32 {
    9600
}

fn stop_bits() -> u8 {
    1
}

fn address() -> u8 {
    1
}

fn limit() -> u16 {
    REGISTERS_MAX
}

fn response_timeout() -> Duration {
    Duration::from_millis(500)
}

fn retries() -> u8 {
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

/// A channel's own keys.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Register {
    /// Table and number, from 0: "input:0", "holding:0", "coil:0", "discrete:0".
    register: String,
    /// What it holds; "bool" for coil and discrete, else "u16" by default.
    #[serde(rename = "type")]
    kind: Option<RegisterType>,
    /// In which order the bytes come.
    #[serde(default)]
    order: Order,
    /// The one bit of a register that counts, 0 to 15, 0 being the lowest.
    bit: Option<u8>,
    /// Of a string: how many registers.
    length: Option<u16>,
    /// Of a coil or a holding register: it may be written, and has the keys of
    /// an output.
    #[serde(default)]
    output: bool,
}

/// The port of a Modbus server (TCP/IP, 4.1.2).
const TCP_PORT: u16 = 502;

impl Register {
    fn kind(&self) -> RegisterType {
        let bits = self.register.starts_with("coil") || self.register.starts_with("discrete");
        self.kind.unwrap_or(if bits { RegisterType::Bool } else { RegisterType::U16 })
    }
}

impl Kinded for Modbus {
    const NAME: &'static str = "modbus";
    const SUMMARY: &'static str = "meters, inverters and controllers that speak Modbus, RTU or TCP";
    const SAMPLE: &'static str = r#"[device.meter]
driver = "modbus"
port = "/dev/serial/by-id/usb-FTDI_FT232R-if00-port0"   # RTU; several devices may share one line
# usb = "0403:6001"          # instead of port: "vendor:product" or "vendor:product:serial"
# tcp = "192.168.1.10:502"   # instead of port: Modbus TCP
baud = 9600                  # the same for all on one line, as are parity and stop_bits
# parity = "none"            # or "even", "odd"
# stop_bits = 1
# rs485 = { rts_on_send = true, delay_before = "0ms", delay_after = "0ms", rx_during_tx = false }
address = 1                  # the slave; of TCP the unit
poll = "1s"
# gap = 0                    # registers are read together over holes of so many
# limit = 125                # the most registers read at once
# response_timeout = "500ms" # how long one answer may take
# retries = 1                # how often it is asked again then

[device.meter.channel]
voltage = { register = "input:0", type = "f32", unit = "V" }   # the number as in the telegram, from 0
energy  = { register = "input:342", type = "u32", order = "cdab", scale = 0.01, unit = "kW.h" }
fault   = { register = "holding:16", bit = 3 }                 # also i16, u64, i64, f64, bool
model   = { register = "holding:64", type = "string", length = 8 }
contact = { register = "discrete:0" }
relay   = { register = "coil:0", output = true, initial = false }   # also of holding
"#;
    const PACE: Pace = Pace::Asked(Duration::from_secs(1));
    type Settings = Settings;
    type Channel = Register;
    const MEANT_OTHERWISE: &'static [&'static str] = &["type"];

    fn kind(channel: &Declared<Register>) -> Result<Kind, String> {
        let (own, kind) = (&channel.own, channel.own.kind());
        if own.register.parse::<Place>().is_ok_and(|place| place.table.is_bits())
            && kind != RegisterType::Bool
        {
            return Err("a single bit is a \"bool\": leave `type` out".to_owned());
        }
        match own.bit {
            Some(_) if kind != RegisterType::U16 => {
                Err("a `bit` is one of a \"u16\": leave `type` out".to_owned())
            }
            Some(_) => Ok(Kind::Boolean),
            None => Ok(kind.kind()),
        }
    }

    fn writable(channel: &Declared<Register>) -> Writable {
        if channel.own.output { Writable::Output } else { Writable::No }
    }

    fn build(
        settings: Settings,
        channels: Vec<Declared<Register>>,
        _: Option<Duration>,
        report: &mut Report<'_>,
    ) -> Option<Box<dyn Driver>> {
        let to = to(&settings, report);
        let mut points = Vec::new();
        for channel in &channels {
            match point(channel, settings.limit) {
                Ok(point) => points.push(point),
                Err((key, message)) => report.at(&["channel", &channel.name, key], message),
            }
        }
        let at: Vec<_> = points.iter().map(|point| (point.place, point.width)).collect();
        let limit = settings.limit.clamp(1, REGISTERS_MAX);
        let blocks = plan(&at, settings.gap, limit);
        let Settings { address, response_timeout, retries, .. } = settings;
        let slave = Slave { address, points, patience: response_timeout, retries };
        Some(Box::new(Checked { to: to?, slave: Arc::new(slave), blocks }))
    }
}

/// Where a channel's value lies.
#[derive(Clone, Copy)]
struct Point {
    place: Place,
    /// In registers, or bits.
    width: u16,
    format: Format,
}

/// # Errors
/// The key that is wrong, and what is.
fn point(channel: &Declared<Register>, limit: u16) -> Result<Point, (&'static str, String)> {
    let own = &channel.own;
    let place: Place = own.register.parse().map_err(|message| ("register", message))?;
    let kind = own.kind();
    let width = match (kind.registers(), own.length) {
        (Some(_), Some(_)) => {
            return Err(("length", "only type = \"string\" has it".to_owned()));
        }
        (Some(width), None) => width,
        (None, Some(length)) if (1..=REGISTERS_MAX).contains(&length) => length,
        (None, _) => {
            let message = "expected `length`, the number of registers, from 1 to 125";
            return Err(("length", message.to_owned()));
        }
    };
    if own.output && matches!(place.table, Table::Input | Table::Discrete) {
        let message = "only coil and holding can be written; leave it out to read alone";
        return Err(("output", message.to_owned()));
    }
    if own.output && kind == RegisterType::String {
        return Err(("output", "a string is only read".to_owned()));
    }
    if own.bit.is_some_and(|bit| bit > 15) {
        return Err(("bit", "expected 0 to 15, 0 being the lowest".to_owned()));
    }
    if u32::from(place.at) + u32::from(width) > 1 << 16 {
        return Err(("register", "its last register lies beyond 65535".to_owned()));
    }
    if width > limit {
        return Err((
            "register",
            format!("it takes {width} registers, and `limit` allows {limit}"),
        ));
    }
    Ok(Point { place, width, format: Format { kind, order: own.order, bit: own.bit } })
}

/// How the slave is reached; a USB port's path is only known once it is there.
enum To {
    Wire(Wire),
    Usb(UsbId, Line),
}

fn to(settings: &Settings, report: &mut Report<'_>) -> Option<To> {
    let mut sound = true;
    let mut wrong = |key: &str, message: &str| {
        report.at(&[key], message);
        sound = false;
    };
    if settings.baud == 0 {
        wrong("baud", "expected bits a second, such as 9600 or 19200");
    }
    if !(1..=2).contains(&settings.stop_bits) {
        wrong("stop_bits", "expected 1 or 2");
    }
    if settings.tcp.is_none() && !(1..=247).contains(&settings.address) {
        wrong("address", "expected a slave's address, 1 to 247");
    }
    if !(1..=REGISTERS_MAX).contains(&settings.limit) {
        wrong("limit", "expected 1 to 125 registers");
    }
    if settings.response_timeout < Duration::from_millis(1) {
        wrong("response_timeout", "expected 1ms or more");
    }
    let line = Line {
        baud: settings.baud,
        parity: match settings.parity {
            ParityBit::None => Parity::None,
            ParityBit::Odd => Parity::Odd,
            ParityBit::Even => Parity::Even,
        },
        stop_bits: if settings.stop_bits == 2 { StopBits::Two } else { StopBits::One },
        rs485: settings.rs485,
    };
    let to = match (&settings.port, &settings.usb, &settings.tcp) {
        (Some(port), None, None) if !port.is_empty() => {
            Some(To::Wire(Wire::Serial { path: PathBuf::from(port), line }))
        }
        (None, Some(usb), None) => match usb.parse() {
            Ok(id) => Some(To::Usb(id, line)),
            Err(message) => {
                wrong("usb", &message);
                None
            }
        },
        (None, None, Some(tcp)) => match host(tcp) {
            Some(host) => Some(To::Wire(Wire::Tcp(host))),
            None => {
                wrong("tcp", "expected \"host\" or \"host:port\", such as \"192.168.1.10:502\"");
                None
            }
        },
        (None | Some(_), None, None) => {
            let message = "missing key `port`, such as \"/dev/ttyUSB0\", `usb`, such as \
                           \"0403:6001\", or `tcp`, such as \"192.168.1.10:502\"";
            wrong("port", message);
            None
        }
        (port, ..) => {
            let key = if settings.tcp.is_some() { "tcp" } else { "usb" };
            let other = if port.is_some() { "port" } else { "usb" };
            wrong(key, &format!("`{other}` says already where the device is: leave one out"));
            None
        }
    };
    let sound = sound & settings.rs485.is_none_or(|rs485| rs485.check(report));
    to.filter(|_| sound)
}

/// With its port.
fn host(text: &str) -> Option<String> {
    let with_port = match text.rsplit_once(':') {
        // An address of IPv6 has colons of its own.
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => {
            (port.parse::<u16>().is_ok_and(|port| port > 0) && !host.is_empty())
                .then(|| text.to_owned())?
        }
        Some(_) if text.ends_with(']') => format!("{text}:{TCP_PORT}"),
        Some(_) => format!("[{text}]:{TCP_PORT}"),
        None => format!("{text}:{TCP_PORT}"),
    };
    let plain = !text.is_empty() && !text.contains(['/', ' ']);
    plain.then_some(with_port)
}

struct Checked {
    to: To,
    slave: Arc<Slave>,
    blocks: Vec<Block>,
}

/// What is known of a slave.
struct Slave {
    address: u8,
    /// By channel.
    points: Vec<Point>,
    patience: Duration,
    retries: u8,
}

#[async_trait]
impl Driver for Checked {
    fn is_there(&self) -> Option<bool> {
        match &self.to {
            To::Wire(Wire::Serial { path, .. }) => Some(path.exists()),
            To::Wire(Wire::Tcp(_)) => None,
            To::Usb(id, _) => Some(id.port(Path::new("/")).is_ok()),
        }
    }

    async fn open(&self) -> Result<Box<dyn Device>, Failure> {
        let wire = match &self.to {
            To::Wire(wire) => wire.clone(),
            To::Usb(id, line) => {
                Wire::Serial { path: PathBuf::from(id.port(Path::new("/"))?), line: *line }
            }
        };
        let (bus, slave) = (Bus::on(wire)?, self.slave.clone());
        let open = Open { bus, slave, blocks: self.blocks.clone() };
        // It is there when it answers. One question, so that one that isn't
        // costs the others on its line no more than that.
        let first = open.blocks.first().map(|block| block.request);
        if let Some(request) = first {
            match open.ask(&request, 0).await {
                Ok(_) | Err(Trouble::Exception(_)) => {}
                Err(trouble) => return Err(open.lost(trouble)),
            }
        }
        Ok(Box::new(open))
    }
}

/// A slave on its bus.
struct Open {
    bus: Arc<Bus>,
    slave: Arc<Slave>,
    blocks: Vec<Block>,
}

#[async_trait]
impl Device for Open {
    async fn read(&mut self, batch: &mut Batch) -> Result<(), Failure> {
        let mut answered = false;
        let mut silent = None;
        for place in 0..self.blocks.len() {
            let block = &self.blocks[place];
            if block.rests(Instant::now()) {
                continue;
            }
            let request = block.request;
            // Where one question was in vain, another isn't asked so often.
            let once = block.was_silent() || silent.is_some();
            let answer = self.ask(&request, if once { 0 } else { self.slave.retries }).await;
            let block = &mut self.blocks[place];
            let complaint = match &answer {
                Ok(_) => None,
                Err(Trouble::Exception(exception)) => Some(exception.to_string()),
                Err(_) => Some("no answer, while its other registers are answered".to_owned()),
            };
            match answer {
                Ok(data) => {
                    answered = true;
                    block.answered();
                    for &(channel, offset) in &block.channels {
                        let value =
                            value(&request, self.slave.points[channel].format, &data, offset);
                        batch.push(channel, value);
                    }
                }
                Err(Trouble::Gone(failure)) => return Err(failure),
                Err(trouble) => {
                    let refused = matches!(trouble, Trouble::Exception(_));
                    if refused {
                        answered = true;
                        block.answered();
                    } else {
                        block.silent(Instant::now());
                    }
                    let bad = Value::Bad(trouble.fault());
                    block
                        .channels
                        .iter()
                        .for_each(|(channel, _)| batch.push(*channel, bad.clone()));
                    if !refused {
                        silent = Some(trouble);
                    }
                }
            }
            self.tell(place, complaint);
        }
        match silent {
            // Its own bad readings say it.
            Some(trouble) if !answered => {
                batch.samples.clear();
                Err(self.lost(trouble))
            }
            _ => Ok(()),
        }
    }

    async fn write(&mut self, channel: usize, value: &Datum) -> Result<Taken, Failure> {
        match self.set(channel, value).await {
            Ok(taken) => Ok(taken),
            Err(Trouble::Exception(exception)) => Ok(Taken::Refused(exception.to_string())),
            Err(trouble) => Err(self.lost(trouble)),
        }
    }
}

/// A channel's value in the data of the answer.
fn value(request: &Request, format: Format, data: &[u8], offset: usize) -> Value {
    if request.table.is_bits() {
        // The first is the lowest of the first byte (protocol, 6.1).
        let bit = data.get(offset / 8).map(|byte| byte >> (offset % 8) & 1 == 1);
        return bit.map_or(Value::Bad(Fault::Corrupt), |bit| Value::Good(bit.into()));
    }
    let registers = format.kind.registers().map(usize::from);
    let bytes = data.get(2 * offset..).unwrap_or_default();
    let length = registers.map_or(bytes.len(), |registers| bytes.len().min(2 * registers));
    format.value(&bytes[..length]).map_or_else(Value::Bad, Value::Good)
}

impl Open {
    /// Writes a channel and reads it back.
    async fn set(&self, channel: usize, value: &Datum) -> Result<Taken, Trouble> {
        let Slave { points, retries, .. } = &*self.slave;
        let Point { place: Place { table, at }, width, format } = points[channel];
        let request = Request { table, at, count: width };
        let write = if table == Table::Coil {
            Write::Coil { at, on: *value == Datum::Boolean(true) }
        } else if let Some(bit) = format.bit {
            // The other bits stay as they are.
            let word = self.ask(&request, *retries).await?;
            let word = word.first_chunk().copied().map_or(0, u16::from_be_bytes);
            let on = *value == Datum::Boolean(true);
            let word = if on { word | 1 << bit } else { word & !(1 << bit) };
            Write::Register { at, word: word.to_be_bytes() }
        } else {
            match format.bytes(value) {
                Ok(bytes) => match bytes.as_slice() {
                    &[high, low] => Write::Register { at, word: [high, low] },
                    _ => Write::Registers { at, bytes },
                },
                Err(refusal) => return Ok(Taken::Refused(refusal)),
            }
        };
        self.send(Telegram::Write(&write), *retries).await?;
        let data = self.ask(&request, *retries).await?;
        Ok(match self::value(&request, format, &data, 0) {
            Value::Good(state) => Taken::State(state),
            _ => Taken::Refused("it was written, but reads as no value of its type".to_owned()),
        })
    }

    async fn ask(&self, request: &Request, retries: u8) -> Result<Vec<u8>, Trouble> {
        self.send(Telegram::Read(request), retries).await
    }

    /// What is written again is written as before, so it may be.
    async fn send(&self, request: Telegram<'_>, retries: u8) -> Result<Vec<u8>, Trouble> {
        let Slave { address, patience, .. } = *self.slave;
        let mut answer = self.bus.ask(address, request, patience).await;
        for _ in 0..retries {
            match answer {
                Err(Trouble::Silence | Trouble::Garbled(_)) => {
                    answer = self.bus.ask(address, request, patience).await;
                }
                _ => break,
            }
        }
        match answer {
            // The gateway answers, but not the slave.
            Err(Trouble::Exception(Exception::NO_ANSWER)) => Err(Trouble::Silence),
            answer => answer,
        }
    }

    fn lost(&self, trouble: Trouble) -> Failure {
        let (address, wire) = (self.slave.address, self.bus.wire().name());
        let fault = trouble.fault();
        match trouble {
            Trouble::Gone(failure) => failure,
            Trouble::Garbled(bytes) => Failure::new(
                fault,
                format!(
                    "slave {address} on {wire}: {bytes} bytes came that are no answer; are baud, \
                     parity and stop_bits right, and is it the only master?"
                ),
            ),
            _ => {
                let patience = humantime::format_duration(self.slave.patience);
                let detail = format!(
                    "slave {address} on {wire} didn't answer within {patience}; are address, baud \
                     and wiring (A and B) right?"
                );
                Failure::new(fault, detail)
            }
        }
    }

    /// One line in the log when it begins, one when it is over.
    fn tell(&mut self, place: usize, complaint: Option<String>) {
        let Block { request, told, .. } = &mut self.blocks[place];
        if *told == complaint {
            return;
        }
        let (wire, slave) = (self.bus.wire().name(), self.slave.address);
        match &complaint {
            Some(complaint) => warn!(wire, slave, registers = %request, "not read: {complaint}"),
            None => info!(wire, slave, registers = %request, "read again"),
        }
        *told = complaint;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Config;

    fn errors(text: &str) -> Vec<String> {
        let text = format!("driver = 'modbus'\n{text}");
        let mut errors = Vec::new();
        Config::parse("x", toml::de::DeTable::parse(&text).unwrap(), &mut errors);
        errors.iter().map(|error| error.to_string().replace("device.x.", "")).collect()
    }

    #[test]
    fn every_wrong_key_is_told_with_its_mend() {
        let text = "baud = 0\nstop_bits = 3\naddress = 0\nlimit = 126\nretries = 1\n[channel]\n\
            a = { register = 'input:70000' }\nb = { register = 'coil:1', type = 'f32' }\n\
            c = { register = 'holding:1', type = 'f32', bit = 2 }\n\
            d = { register = 'holding:1', bit = 16 }\ne = { register = 'holding:1', type = 'string' }\n\
            f = { register = 'holding:65535', type = 'u32' }\ng = { register = 'holding:1', length = 2 }\n\
            h = { register = 'holding:1', type = 'u23' }\ni = { register = 'input:1', output = true }";
        expect_test::expect![[r#"
            port: missing key `port`, such as "/dev/ttyUSB0", `usb`, such as "0403:6001", or `tcp`, such as "192.168.1.10:502"
            baud: expected bits a second, such as 9600 or 19200
            stop_bits: expected 1 or 2
            address: expected a slave's address, 1 to 247
            limit: expected 1 to 125 registers
            channel.a.register: expected a table and a number from 0 to 65535: "input:0", "holding:0", "coil:0" or "discrete:0"; a manual's 30001 is "input:0", its 40001 "holding:0"
            channel.b.type: a single bit is a "bool": leave `type` out
            channel.c.type: a `bit` is one of a "u16": leave `type` out
            channel.d.bit: expected 0 to 15, 0 being the lowest
            channel.e.length: expected `length`, the number of registers, from 1 to 125
            channel.f.register: its last register lies beyond 65535
            channel.g.length: only type = "string" has it
            channel.h.type: unknown value "u23"; there are `u16`, `i16`, `u32`, `i32`, `u64`, `i64`, `f32`, `f64`, `bool`, `string`
            channel.i.output: only coil and holding can be written; leave it out to read alone
        "#]]
        .assert_eq(&format!("{}\n", errors(text).join("\n")));
    }

    #[test]
    fn it_is_in_one_place() {
        let with =
            |text: &str| errors(&format!("{text}\n[channel]\na = {{ register = 'input:0' }}"));
        assert!(with("")[0].starts_with("port: missing key `port`"), "{:?}", with(""));
        assert!(with("port = '/dev/x'\ntcp = 'x'")[0].starts_with("tcp: `port` says"));
        assert!(with("usb = '1:2'")[0].starts_with("usb: expected"));
        assert!(with("tcp = 'http://x'")[0].starts_with("tcp: expected"));
        assert_eq!(with("port = '/dev/x'"), [""; 0]);
        let host = |text| host(text).unwrap_or_default();
        assert_eq!(host("meter"), "meter:502");
        assert_eq!(host("10.0.0.7:1502"), "10.0.0.7:1502");
        assert_eq!([host("fe80::1"), host("[fe80::1]:5")], ["[fe80::1]:502", "[fe80::1]:5"]);
        assert_eq!([host("x:0"), host(":5"), host("")], ["", "", ""]);
    }
}
