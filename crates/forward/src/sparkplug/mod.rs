//! Sparkplug B 3.0.0: the gateway as an edge node, each of its devices a device.
//!
//! | message | when |
//! | --- | --- |
//! | NBIRTH, DBIRTH | at each connection, when the channels change, and when a host asks |
//! | DDATA | readings of one device, as many as fit |
//! | NDATA | a gap, as the text of the metric `Gap` |
//! | NDEATH | as the will, and at an orderly stop |
//! | NCMD, DCMD | `Node Control/Rebirth`; an output's new value |
//!
//! What goes beyond the specification: all of it is published at QoS 1, because
//! a reading is forgotten only once the broker has it (the specification has QoS
//! 0, and its hosts take either). A metric has the properties `seq` and `epoch`,
//! which name the reading, and `reason` when it isn't good. Its time is in
//! milliseconds, as Sparkplug has no finer one.

mod wire;

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use reading::{ChannelSpec, Datum, Epoch, Fault, Gap, Kind, Reading, Record, Timestamp, Value};

use crate::codec::Delivery;
use crate::payload::{self, LIVE};
use crate::{Config, Format, Gateway};
use wire::{DataType, Metric, Property};

/// The group where the configuration names none.
const GROUP: &str = "tidemill";

/// A host asks for a rebirth by this metric (section 6.4.19).
const REBIRTH: &str = "Node Control/Rebirth";

/// The number of the connection, in NBIRTH and NDEATH (section 6.4.19).
const BD_SEQ: &str = "bdSeq";

/// The metric of the node that tells gaps.
const GAP: &str = "Gap";

/// Quality codes (section 6.4.14.1).
const GOOD: u32 = 192;
const BAD: u32 = 0;
const STALE: u32 = 500;

/// An edge node. Its clones number their messages together.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    group: String,
    id: String,
    /// Of the next message: NBIRTH has 0, and after 255 comes 0.
    seq: Arc<AtomicU8>,
    /// Of this connection.
    born: Arc<AtomicU64>,
    scratch: [Vec<u8>; 2],
}

/// A message that isn't of the log.
pub(crate) type Message = (String, Vec<u8>);

/// What a host wants.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Wanted {
    /// To be told everything anew.
    Rebirth,
    /// An output to have a value: its device and name.
    Set(String, String, Datum),
}

impl Node {
    /// None when the readings are written otherwise.
    pub(crate) fn of(config: &Config, gateway: &Gateway) -> Option<Node> {
        (config.format == Format::SparkplugB).then(|| Node {
            group: config.group.clone().unwrap_or_else(|| GROUP.to_owned()),
            id: gateway.id.clone(),
            seq: Arc::default(),
            born: Arc::new(AtomicU64::new(u64::MAX)),
            scratch: Default::default(),
        })
    }

    /// A connection begins: the will that goes with it.
    pub(crate) fn will(&mut self) -> Message {
        self.born.fetch_add(1, Ordering::Relaxed);
        self.death()
    }

    /// What an orderly stop says.
    pub(crate) fn death(&mut self) -> Message {
        let mut payload = Vec::new();
        wire::begin(millis(Timestamp::now()), &mut payload);
        self.add_number(Timestamp::now(), &mut payload);
        wire::end(None, &mut payload);
        (self.topic("NDEATH", None), payload)
    }

    /// What to subscribe to.
    pub(crate) fn filters(&self, outputs: bool) -> Vec<String> {
        let mut filters = vec![self.topic("NCMD", None)];
        if outputs {
            filters.push(self.topic("DCMD", Some("+")));
        }
        filters
    }

    /// NBIRTH and a DBIRTH for each device, numbered from 0.
    pub(crate) fn births<'a>(
        &mut self,
        gateway: &Gateway,
        channels: impl Iterator<Item = &'a ChannelSpec>,
    ) -> Vec<Message> {
        let now = Timestamp::now();
        self.seq.store(0, Ordering::Relaxed);
        let mut births = vec![self.node_birth(gateway, now)];
        let mut devices: Vec<(&str, Vec<&ChannelSpec>)> = Vec::new();
        for spec in channels {
            let device = spec.channel.device();
            match devices.iter_mut().find(|(known, _)| *known == device) {
                Some((_, specs)) => specs.push(spec),
                None => devices.push((device, vec![spec])),
            }
        }
        for (device, specs) in devices {
            births.push(self.device_birth(device, &specs, now));
        }
        births
    }

    fn node_birth(&mut self, gateway: &Gateway, now: Timestamp) -> Message {
        let mut payload = Vec::new();
        wire::begin(millis(now), &mut payload);
        self.add_number(now, &mut payload);
        let epoch = gateway.epoch.to_string();
        let off = Datum::Boolean(false);
        let metrics = [
            (REBIRTH, wire::Value::Datum(&off)),
            (GAP, wire::Value::Null(DataType::String)),
            ("Properties/Version", wire::Value::Text(gateway.version)),
            ("Properties/Epoch", wire::Value::Text(&epoch)),
        ];
        for (name, value) in metrics {
            self.add(name, now, value, &[], &mut payload);
        }
        wire::end(Some(self.number()), &mut payload);
        (self.topic("NBIRTH", None), payload)
    }

    fn device_birth(&mut self, device: &str, specs: &[&ChannelSpec], now: Timestamp) -> Message {
        let mut payload = Vec::new();
        wire::begin(millis(now), &mut payload);
        for spec in specs {
            let unit = spec.unit.as_str();
            let all = [("engUnit", Property::Text(unit))];
            let properties = if unit.is_empty() { &[] } else { all.as_slice() };
            let name = spec.channel.name();
            // The values follow, each with its time.
            self.add(name, now, wire::Value::Null(data_type(spec.kind)), properties, &mut payload);
        }
        wire::end(Some(self.number()), &mut payload);
        (self.topic("DBIRTH", Some(device)), payload)
    }

    fn add_number(&mut self, now: Timestamp, payload: &mut Vec<u8>) {
        let born = self.born.load(Ordering::Relaxed) % 256;
        self.add(BD_SEQ, now, wire::Value::Long(born), &[], payload);
    }

    fn add(
        &mut self,
        name: &str,
        now: Timestamp,
        value: wire::Value<'_>,
        properties: &[(&str, Property<'_>)],
        payload: &mut Vec<u8>,
    ) {
        let timestamp = millis(now);
        let metric = Metric { name, timestamp, historical: false, value, properties };
        wire::add(&metric, &mut self.scratch, payload);
    }

    /// The topic of a message of one device, or of the node.
    pub(crate) fn topic(&self, kind: &str, device: Option<&str>) -> String {
        let Node { group, id, .. } = self;
        let device = device.map(|device| format!("/{device}")).unwrap_or_default();
        format!("spBv1.0/{group}/{kind}/{id}{device}")
    }

    /// Begins the payload of a DDATA or NDATA.
    pub(crate) fn begin(now: Timestamp, out: &mut Vec<u8>) {
        wire::begin(millis(now), out);
    }

    /// Adds a reading.
    pub(crate) fn reading(
        &mut self,
        record: &Record,
        kind: Kind,
        now: Timestamp,
        out: &mut Vec<u8>,
    ) {
        let Some(reading) = record.reading() else { return };
        let mut digits = [0; 16];
        let epoch = hex(record.epoch, &mut digits);
        let all = [
            ("Quality", Property::Int(quality(reading))),
            ("seq", Property::Long(record.seq.0)),
            ("epoch", Property::Text(epoch)),
            ("reason", Property::Text(reading.value.reason().unwrap_or_default())),
        ];
        let properties = if reading.value.reason().is_some() { &all[..] } else { &all[..3] };
        let metric = Metric {
            name: reading.channel.name(),
            timestamp: millis(reading.at),
            historical: now.since(reading.at) > LIVE,
            value: match reading.value.datum() {
                Some(datum) => wire::Value::Datum(datum),
                None => wire::Value::Null(data_type(kind)),
            },
            properties,
        };
        wire::add(&metric, &mut self.scratch, out);
    }

    /// Adds a gap.
    pub(crate) fn gap(&mut self, record: &Record, gap: &Gap, now: Timestamp, out: &mut Vec<u8>) {
        let mut text = Vec::new();
        payload::gap(record.epoch, record.seq, gap, &mut text);
        let text = String::from_utf8(text).unwrap_or_default();
        self.add(GAP, now, wire::Value::Text(&text), &[], out);
    }

    /// Ends a payload that is about to be published.
    pub(crate) fn end(&self, out: &mut Vec<u8>) {
        wire::end(Some(self.number()), out);
    }

    fn number(&self) -> u8 {
        self.seq.fetch_add(1, Ordering::Relaxed)
    }

    /// What a host wants, of a message to us; `Err` in words when it makes no
    /// sense.
    pub(crate) fn wanted(&self, delivery: &Delivery) -> Result<Vec<Wanted>, String> {
        let device = delivery.topic.strip_prefix(&(self.topic("DCMD", None) + "/"));
        if delivery.retained {
            return Err("a retained command is too old to carry out".to_owned());
        }
        let wishes = wire::wishes(&delivery.payload);
        let wishes = wishes.ok_or("the payload of a command is no Sparkplug B")?;
        let of = |wish: wire::Wish| match (device, wish.value) {
            (None, Some(Datum::Boolean(true))) if wish.name == REBIRTH => Ok(Wanted::Rebirth),
            (Some(device), Some(value)) => Ok(Wanted::Set(device.to_owned(), wish.name, value)),
            (_, value) => Err(format!("{}: {value:?} is no command", wish.name)),
        };
        wishes.into_iter().map(of).collect()
    }
}

/// As the specification counts quality: a reading that is uncertain counts as
/// bad, and has a value and a reason all the same.
fn quality(reading: &Reading) -> u32 {
    match &reading.value {
        Value::Good(_) => GOOD,
        Value::Bad(Fault::Stale) => STALE,
        Value::Bad(_) | Value::Uncertain(..) => BAD,
    }
}

fn data_type(kind: Kind) -> DataType {
    match kind {
        Kind::Number => DataType::Double,
        Kind::Boolean => DataType::Boolean,
        Kind::Text => DataType::String,
    }
}

fn millis(at: Timestamp) -> u64 {
    u64::try_from(at.as_micros() / 1_000).unwrap_or(0)
}

/// 16 digits, without an allocation a reading.
fn hex(epoch: Epoch, digits: &mut [u8; 16]) -> &str {
    for (place, digit) in digits.iter_mut().rev().enumerate() {
        *digit = b"0123456789abcdef"[(epoch.0 >> (4 * place)) as usize & 15];
    }
    std::str::from_utf8(digits).unwrap_or_default()
}
