//! From the cursor's records to messages that fit the broker's limits.

use std::collections::{HashMap, VecDeque};

use bytes::BytesMut;
use reading::{Body, Channel, Gap, Reading, Record, Seq, Timestamp, Unit};
use tokio::time::Instant;
use tracing::warn;

use crate::session::{Message, Session};
use crate::transport::FRAME;
use crate::{Config, Format, Gateway, payload};

/// Records read from the store at a time: a few hundred kilobytes at most, and
/// enough that reading them costs less than sending them.
pub(crate) const FETCH_MAX: usize = 1_000;
/// A senml pack is no longer than this, whatever the broker allows: what is lost
/// with a connection is sent again whole, and some brokers take no more (with
/// its topic it fits Cumulocity's 16,184 bytes).
const PACK_MAX: usize = 15_000;
/// A first guess at a record of a pack, bytes.
const RECORD_GUESS: usize = 110;

/// Records read from the store and not yet sent on this connection.
pub(crate) struct Outbox {
    records: VecDeque<Record>,
    /// The log has been looked at through here.
    looked: Seq,
    format: Format,
    prefix: String,
    gateway: String,
    units: HashMap<Channel, Unit>,
    /// Bytes a record took in the last pack.
    record_size: usize,
    topic: String,
    payload: Vec<u8>,
}

impl Outbox {
    pub(crate) fn new(config: &Config, gateway: &Gateway) -> Outbox {
        let units = gateway.channels.iter().map(|spec| (spec.channel.clone(), spec.unit.clone()));
        Outbox {
            records: VecDeque::new(),
            looked: Seq(0),
            format: config.format,
            prefix: prefix(config, gateway),
            gateway: gateway.id.clone(),
            units: units.collect(),
            record_size: RECORD_GUESS,
            topic: String::new(),
            payload: Vec::new(),
        }
    }

    /// A new connection begins where the cursor stands.
    pub(crate) fn restart(&mut self, position: Seq) {
        self.records.clear();
        self.looked = position;
    }

    /// Whether everything read has been sent.
    pub(crate) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Where to read on in the log.
    pub(crate) fn looked(&self) -> Seq {
        self.looked
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

    /// Publishes what is there, until the window or a frame is full. Returns how
    /// many readings went out.
    ///
    /// This is the natural batching: on an idle link a reading goes at once, in
    /// whatever company it is; on a busy one the next pack gathers until it is
    /// full or everything before it is acknowledged.
    pub(crate) fn fill(&mut self, session: &mut Session, now: Instant, out: &mut BytesMut) -> u64 {
        let clock = Timestamp::now();
        let mut sent = 0;
        while out.len() < FRAME && session.room() > 0 {
            let Some(record) = self.records.front() else { break };
            sent += match (&record.body, self.format) {
                (Body::Reading(_), Format::Senml) => {
                    if !session.is_idle() && self.records.len() * self.record_size < PACK_MAX {
                        break;
                    }
                    self.pack(session, now, out)
                }
                _ => self.single(clock, session, now, out),
            };
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
    ) -> u64 {
        let Some(record) = self.records.pop_front() else { return 0 };
        self.payload.clear();
        let readings = match &record.body {
            Body::Reading(reading) => {
                let unit = unit(&self.units, reading);
                topic(&self.prefix, reading.channel.as_str(), &mut self.topic);
                payload::json(record.epoch, record.seq, reading, unit, clock, &mut self.payload);
                1
            }
            Body::Gap(gap) => {
                topic(&self.prefix, "gaps", &mut self.topic);
                payload::gap(record.epoch, record.seq, gap, &mut self.payload);
                1
            }
        };
        if self.payload.len() > session.payload_max(self.topic.len()) {
            self.told_instead(&record, session);
        }
        self.publish(record.seq, readings, session, now, out);
        readings
    }

    /// As many readings of one epoch as fit a pack.
    fn pack(&mut self, session: &mut Session, now: Instant, out: &mut BytesMut) -> u64 {
        topic(&self.prefix, "senml", &mut self.topic);
        self.payload.clear();
        self.payload.push(b'[');
        let most = session.payload_max(self.topic.len()).min(PACK_MAX);
        let mut last: Option<&Record> = None;
        let mut packed = 0;
        for record in &self.records {
            let Body::Reading(reading) = &record.body else { break };
            if last.is_some_and(|last| last.epoch != record.epoch) {
                break;
            }
            let before = self.payload.len();
            if last.is_some() {
                self.payload.push(b',');
            }
            let first = last.is_none().then_some((self.gateway.as_str(), record.epoch));
            let unit = unit(&self.units, reading);
            payload::senml(first, record.seq, reading, unit, &mut self.payload);
            if self.payload.len() >= most {
                self.payload.truncate(before);
                break;
            }
            last = Some(record);
            packed += 1;
        }
        let Some(seq) = last.map(|record| record.seq) else {
            // Not even one fits.
            let Some(record) = self.records.pop_front() else { return 0 };
            self.told_instead(&record, session);
            self.publish(record.seq, 1, session, now, out);
            return 1;
        };
        self.payload.push(b']');
        self.record_size = (self.payload.len() / packed).max(1);
        self.records.drain(..packed);
        let readings = packed as u64;
        self.publish(seq, readings, session, now, out);
        readings
    }

    fn publish(
        &mut self,
        seq: Seq,
        readings: u64,
        session: &mut Session,
        now: Instant,
        out: &mut BytesMut,
    ) {
        // With the last one the cursor may pass what isn't for this broker.
        let through = if self.records.is_empty() { seq.max(self.looked) } else { seq };
        let (topic, payload) = (self.topic.as_str(), self.payload.as_slice());
        let message = Message { topic, payload, retain: false, through: Some(through), readings };
        session.publish(&message, now, out);
    }

    /// A reading that no packet can carry would hold up all that follow, for
    /// ever. The broker is told of it as a gap in its place.
    fn told_instead(&mut self, record: &Record, session: &Session) {
        let (channel, from, to, count) = match &record.body {
            Body::Reading(reading) => (Some(reading.channel.clone()), reading.at, reading.at, 1),
            Body::Gap(gap) => (gap.channel.clone(), gap.from, gap.to, gap.count),
        };
        let reason = "larger than the broker takes";
        warn!(
            seq = record.seq.0,
            channel = channel.as_ref().map(Channel::as_str),
            bytes = self.payload.len(),
            "a reading is {reason}: it is told as a gap"
        );
        let gap = Gap { from, to, count, channel, reason: reason.into() };
        topic(&self.prefix, "gaps", &mut self.topic);
        self.payload.clear();
        payload::gap(record.epoch, record.seq, &gap, &mut self.payload);
        debug_assert!(self.payload.len() <= session.payload_max(self.topic.len()));
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

fn unit<'a>(units: &'a HashMap<Channel, Unit>, reading: &Reading) -> &'a str {
    units.get(&reading.channel).map_or("", Unit::as_str)
}
