//! From the records of the log to messages that fit the broker's limits.

use std::collections::{HashMap, VecDeque};

use bytes::BytesMut;
use reading::{Body, Channel, ChannelSpec, Kind, Reading, Record, Seq, Timestamp, Unit};
use tokio::time::Instant;
use tracing::warn;

use crate::compress::Packer;
use crate::pace::Pace;
use crate::payload::{self, LIVE};
use crate::session::{Message, Session};
use crate::sparkplug::Node;
use crate::transport::FRAME;
use crate::window::{Lane, Part, Span};
use crate::{Config, Format, Gateway};

/// Records read from the store at a time: a few hundred kilobytes at most, and
/// enough that reading them costs less than sending them.
pub(crate) const FETCH_MAX: usize = 1_000;
/// A senml pack is no longer than this, whatever the broker allows: what is lost
/// with a connection is sent again whole, and some brokers take no more (with
/// its topic it fits Cumulocity's 16,184 bytes).
const PACK_MAX: usize = 15_000;
/// Before it is compressed: it shrinks to a fifth or less, as a rule.
const PACK_RAW_MAX: usize = 64_000;
/// A first guess at a record of a pack, bytes.
const RECORD_GUESS: usize = 110;

/// Records of one lane, read from the store and not yet sent on this connection.
pub(crate) struct Outbox {
    lane: Lane,
    records: VecDeque<Record>,
    /// The log has been looked at through here,
    looked: Seq,
    /// and sent, or passed over, through here.
    sent: Seq,
    format: Format,
    prefix: String,
    gateway: String,
    /// When readings are written as Sparkplug B.
    node: Option<Node>,
    described: HashMap<Channel, (Unit, Kind)>,
    /// Bytes a record took in the last pack.
    record_size: usize,
    topic: String,
    payload: Vec<u8>,
    packer: Packer,
    spare: Vec<u8>,
    /// No packet can carry these.
    rejected: Vec<Record>,
}

/// How a lane may be sent now.
pub(crate) struct Terms<'a> {
    pub(crate) pace: &'a mut Pace,
    /// The window is shared with the fresh lane.
    pub(crate) shared: bool,
    /// A record a message.
    pub(crate) careful: bool,
}

impl Outbox {
    pub(crate) fn new(
        config: &Config,
        gateway: &Gateway,
        node: Option<Node>,
        lane: Lane,
    ) -> Outbox {
        Outbox {
            lane,
            records: VecDeque::new(),
            looked: Seq(0),
            sent: Seq(0),
            format: config.format,
            prefix: prefix(config, gateway),
            gateway: gateway.id.clone(),
            node,
            described: described(gateway),
            record_size: RECORD_GUESS,
            topic: String::new(),
            payload: Vec::new(),
            packer: Packer::new(config.compress),
            spare: Vec::new(),
            rejected: Vec::new(),
        }
    }

    /// The gateway's channels are others. What has left the configuration is
    /// still in the log, with the unit it had.
    pub(crate) fn describe(&mut self, gateway: &Gateway) {
        self.described.extend(described(gateway));
    }

    /// Begins after a number.
    pub(crate) fn restart(&mut self, position: Seq) {
        self.records.clear();
        self.looked = position;
        self.sent = position;
    }

    /// Whether everything read has been sent.
    pub(crate) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Where to read on in the log.
    pub(crate) fn looked(&self) -> Seq {
        self.looked
    }

    /// Sent, or passed over, through here.
    pub(crate) fn sent(&self) -> Seq {
        self.sent
    }

    /// Whether more is to be read: a pack should never wait for the store.
    pub(crate) fn wants(&self) -> bool {
        self.records.len() < FETCH_MAX / 2
    }

    /// What follows in the log.
    pub(crate) fn put(&mut self, records: Vec<Record>, looked: Seq) {
        self.records.extend(records);
        self.looked = self.looked.max(looked);
    }

    /// When nothing is to be sent any more of what was looked at, that part: it
    /// counts as sent from now on.
    pub(crate) fn passed(&mut self) -> Option<Span> {
        let span = Span { after: self.sent, through: self.looked };
        let passed = self.records.is_empty() && span.after < span.through;
        passed.then(|| {
            self.sent = self.looked;
            span
        })
    }

    /// What no packet can carry, since it was last asked.
    pub(crate) fn rejected(&mut self) -> Vec<Record> {
        std::mem::take(&mut self.rejected)
    }

    /// Publishes until the window, the frame or the pace is full, or nothing is
    /// left; returns how many readings it sent.
    ///
    /// While something of the lane is in flight and little is left, a pack waits
    /// for more company: on an idle link a reading goes at once, on a busy one together
    /// with others, without any timer.
    pub(crate) fn fill(
        &mut self,
        terms: &mut Terms<'_>,
        session: &mut Session,
        now: Instant,
        out: &mut BytesMut,
    ) -> u64 {
        let clock = Timestamp::now();
        let mut sent = 0;
        let room = |session: &Session| match terms.shared {
            true => session.room_for_backlog(),
            false => session.room(),
        };
        while out.len() < FRAME && room(session) > 0 {
            let Some(record) = self.records.front() else { break };
            let old = clock.since(time(record)) > LIVE;
            let packs = self.format != Format::Json && record.reading().is_some();
            let little = self.records.len() * self.record_size < self.raw_max();
            if packs && little && session.has(self.lane) {
                break;
            }
            let allowed = terms.pace.allows(old, now);
            if allowed == 0 {
                break;
            }
            let most = if terms.careful { 1 } else { allowed };
            let readings = match packs {
                true => self.pack(clock, most, session, now, out),
                false => self.single(clock, session, now, out),
            };
            terms.pace.spend(old, readings);
            sent += readings as u64;
        }
        sent
    }

    /// One record in a message of its own.
    fn single(
        &mut self,
        clock: Timestamp,
        session: &mut Session,
        now: Instant,
        out: &mut BytesMut,
    ) -> usize {
        let Some(record) = self.records.pop_front() else { return 0 };
        self.payload.clear();
        match (&record.body, &mut self.node) {
            (Body::Gap(gap), Some(node)) => {
                self.topic = node.topic("NDATA", None);
                Node::begin(clock, &mut self.payload);
                node.gap(&record, gap, clock, &mut self.payload);
                node.end(&mut self.payload);
            }
            (Body::Reading(reading), _) => {
                let unit = unit(&self.described, reading);
                topic(&self.prefix, reading.channel.as_str(), &mut self.topic);
                payload::json(record.epoch, record.seq, reading, unit, clock, &mut self.payload);
            }
            (Body::Gap(gap), None) => {
                topic(&self.prefix, "gaps", &mut self.topic);
                payload::gap(record.epoch, record.seq, gap, &mut self.payload);
            }
        }
        if self.payload.len() > session.payload_max(self.topic.len(), &[]) {
            self.reject(record);
            return 0;
        }
        let readings = usize::from(record.reading().is_some());
        self.publish(record.seq, readings, session, now, out);
        readings
    }

    /// As many readings of one epoch as fit a pack, and no more than `count`.
    fn pack(
        &mut self,
        clock: Timestamp,
        mut count: usize,
        session: &mut Session,
        now: Instant,
        out: &mut BytesMut,
    ) -> usize {
        let first = self.records.front().and_then(Record::reading);
        match (&self.node, first) {
            (Some(node), Some(first)) => {
                self.topic = node.topic("DDATA", Some(first.channel.device()));
            }
            _ => topic(&self.prefix, "senml", &mut self.topic),
        }
        let most = session.payload_max(self.topic.len(), self.packer.properties()).min(PACK_MAX);
        let (seq, packed) = loop {
            let limit = if self.packer.is_none() { most } else { PACK_RAW_MAX };
            let (last, packed) = match self.format {
                Format::SparkplugB => self.encode_metrics(clock, count, limit),
                Format::Json | Format::Senml => self.encode(clock, count, limit),
            };
            let raw = self.payload.len();
            self.packer.pack(&mut self.payload, &mut self.spare);
            match last {
                Some(seq) if self.payload.len() <= most => {
                    self.record_size = (raw / packed).max(1);
                    break (seq, packed);
                }
                // It shrank by less than was hoped for, or is too long by a
                // byte or two.
                _ if packed > 1 => count = (packed * 3 / 4).max(1),
                _ => {
                    // Not even one fits.
                    if let Some(record) = self.records.pop_front() {
                        self.reject(record);
                    }
                    return 0;
                }
            }
        };
        self.records.drain(..packed);
        if let Some(node) = &self.node {
            node.end(&mut self.payload);
        }
        self.publish(seq, packed, session, now, out);
        packed
    }

    /// Writes a pack of at most so many bytes, or of one reading; returns the
    /// number of the last reading in it and how many there are.
    fn encode(&mut self, clock: Timestamp, count: usize, most: usize) -> (Option<Seq>, usize) {
        self.payload.clear();
        self.payload.push(b'[');
        let mut last: Option<&Record> = None;
        let mut packed = 0;
        for record in self.records.iter().take(count) {
            let Body::Reading(reading) = &record.body else { break };
            if last.is_some_and(|last| last.epoch != record.epoch) {
                break;
            }
            let before = self.payload.len();
            if last.is_some() {
                self.payload.push(b',');
            }
            let first = last.is_none().then_some(payload::First {
                gateway: &self.gateway,
                epoch: record.epoch,
                historical: clock.since(reading.at) > LIVE,
            });
            let unit = unit(&self.described, reading);
            payload::senml(first.as_ref(), record.seq, reading, unit, &mut self.payload);
            if packed > 0 && self.payload.len() >= most {
                self.payload.truncate(before);
                break;
            }
            last = Some(record);
            packed += 1;
        }
        self.payload.push(b']');
        (last.map(|record| record.seq), packed)
    }

    /// The same as Sparkplug B, of readings of one device; the number of the
    /// message is still to come.
    fn encode_metrics(
        &mut self,
        clock: Timestamp,
        count: usize,
        most: usize,
    ) -> (Option<Seq>, usize) {
        let Some(node) = &mut self.node else { return (None, 0) };
        // For the number, in a field of its own.
        let most = most.saturating_sub(3);
        let mut last: Option<&Record> = None;
        let mut packed = 0;
        Node::begin(clock, &mut self.payload);
        for record in self.records.iter().take(count) {
            let Body::Reading(reading) = &record.body else { break };
            let device = reading.channel.device();
            let before = last.and_then(Record::reading);
            if before.is_some_and(|before| before.channel.device() != device) {
                break;
            }
            let before = self.payload.len();
            let kind = self.described.get(&reading.channel).map_or(Kind::Number, |(_, kind)| *kind);
            node.reading(record, kind, clock, &mut self.payload);
            if packed > 0 && self.payload.len() > most {
                self.payload.truncate(before);
                break;
            }
            last = Some(record);
            packed += 1;
        }
        (last.map(|record| record.seq), packed)
    }

    fn raw_max(&self) -> usize {
        if self.packer.is_none() { PACK_MAX } else { PACK_RAW_MAX }
    }

    fn publish(
        &mut self,
        seq: Seq,
        readings: usize,
        session: &mut Session,
        now: Instant,
        out: &mut BytesMut,
    ) {
        // With the last one the cursor may pass what isn't for this broker.
        let through = if self.records.is_empty() { seq.max(self.looked) } else { seq };
        let part = Part { lane: self.lane, span: Span { after: self.sent, through } };
        self.sent = through;
        let senml = self.format == Format::Senml && readings > 0;
        let message = Message {
            topic: &self.topic,
            properties: if senml { self.packer.properties() } else { &[] },
            payload: &self.payload,
            part: Some(part),
            readings: readings as u64,
            ..Message::default()
        };
        session.publish(&message, now, out);
    }

    /// A reading that no packet can carry would hold up all that follow, for
    /// ever.
    fn reject(&mut self, record: Record) {
        let channel = record.reading().map(|reading| reading.channel.as_str());
        let (seq, bytes) = (record.seq.0, self.payload.len());
        warn!(seq, channel, bytes, "a reading is {TOO_LARGE}: it is told as a gap");
        if self.lane == Lane::Fresh {
            // The lane of the log comes upon it, too: it is dropped there.
            self.sent = record.seq;
        }
        self.rejected.push(record);
    }
}

/// Why a reading that no packet can carry isn't at the broker.
pub(crate) const TOO_LARGE: &str = "larger than the broker takes";

fn time(record: &Record) -> Timestamp {
    match &record.body {
        Body::Reading(reading) => reading.at,
        Body::Gap(gap) => gap.to,
    }
}

/// `topic_prefix` with the gateway's id in its place.
pub(crate) fn prefix(config: &Config, gateway: &Gateway) -> String {
    config.topic_prefix.replace("{gateway}", &gateway.id)
}

fn topic(prefix: &str, rest: &str, out: &mut String) {
    out.clear();
    out.push_str(prefix);
    out.push('/');
    out.push_str(rest);
}

fn described(gateway: &Gateway) -> HashMap<Channel, (Unit, Kind)> {
    let of = |spec: &ChannelSpec| (spec.channel.clone(), (spec.unit.clone(), spec.kind));
    gateway.channels.iter().map(of).collect()
}

fn unit<'a>(described: &'a HashMap<Channel, (Unit, Kind)>, reading: &Reading) -> &'a str {
    described.get(&reading.channel).map_or("", |(unit, _)| unit.as_str())
}
