//! MQTT's QoS 1 towards a broker, without I/O: bytes and the time go in, bytes
//! and progress come out.
//!
//! Each connection begins with a fresh session on our side. What an earlier one
//! had in flight is sent again from the store's log, as new publishes: a broker
//! keeps nothing of a QoS 1 publish once it has answered it, so nothing of an
//! earlier connection needs to be remembered here.

#[cfg(test)]
mod tests;

use std::time::Duration;

use bytes::BytesMut;
use tokio::time::Instant;

use crate::Version;
use crate::codec::{Codec, Connack, Delivery, Hello, Incoming, Lasting, Refusal};
use crate::lost::Lost;
use crate::window::{Known, Lane, Part, Progress, Span, Window};

/// A gap must fit with the longest prefix and names: it is told in place of a
/// reading that doesn't.
const PACKET_MIN: u32 = 1024;
/// SUBSCRIBE goes out first of all, and is answered long before publishes have
/// used up the identifiers below.
const SUBSCRIBE_ID: u16 = u16::MAX;
/// What has been delivered to us and not been looked at: what comes beyond is
/// acknowledged and let fall. A broker that keeps to CONNECT's Receive Maximum
/// sends no more at a time.
const DELIVERIES_MAX: usize = 64;

/// How a session begins.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) version: Version,
    pub(crate) hello: Hello,
    /// Publishes sent and not acknowledged, at most.
    pub(crate) inflight: u16,
    /// Bytes of a packet, at most.
    pub(crate) max_packet: usize,
    /// For CONNACK, each PUBACK and each ping.
    pub(crate) ack_timeout: Duration,
}

/// One connection's MQTT.
#[derive(Debug)]
pub(crate) struct Session {
    codec: Codec,
    window: Window,
    /// What the broker allows, once it has let us in.
    open: Option<Connack>,
    max_packet: usize,
    keep_alive: Duration,
    ack_timeout: Duration,
    /// When CONNECT was written.
    begun: Instant,
    /// When anything was written: MQTT's keep-alive counts from here.
    wrote: Instant,
    /// When a ping was written that isn't answered yet.
    pinged: Option<Instant>,
    /// When any packet came: proof that the link is alive, even while the answer
    /// to a ping is behind a long queue.
    heard: Instant,
    /// What the broker refused that carries no reading: told, not fatal.
    complaint: Option<String>,
    /// What was published to us.
    deliveries: Vec<Delivery>,
}

impl Session {
    /// Begins with CONNECT.
    pub(crate) fn new(settings: &Settings, now: Instant, out: &mut BytesMut) -> Session {
        let codec = Codec(settings.version);
        codec.connect(&settings.hello, out);
        Session {
            codec,
            window: Window::new(settings.inflight),
            open: None,
            max_packet: settings.max_packet,
            keep_alive: Duration::from_secs(settings.hello.keep_alive.into()),
            ack_timeout: settings.ack_timeout,
            begun: now,
            wrote: now,
            pinged: None,
            heard: now,
            complaint: None,
            deliveries: Vec::new(),
        }
    }

    /// Takes the whole packets out of what has been received, answers what must
    /// be answered, and tells how far the cursor may move: also when the session
    /// is lost with a later packet.
    pub(crate) fn receive(
        &mut self,
        received: &mut BytesMut,
        now: Instant,
        progress: &mut Progress,
        out: &mut BytesMut,
    ) -> Result<(), Lost> {
        loop {
            match self.codec.decode(received) {
                Ok(Some(packet)) => self.packet(packet, now, progress, out)?,
                Ok(None) => return self.all_refused(),
                Err(error) if self.is_open() => return Err(error.into()),
                Err(_) => return Err(Lost::NotMqtt),
            }
        }
    }

    fn all_refused(&self) -> Result<(), Lost> {
        match self.window.refused_all() {
            Some(words) => Err(Lost::PublishRefused { words: words.to_owned(), suspicious: true }),
            None => Ok(()),
        }
    }

    fn packet(
        &mut self,
        packet: Incoming,
        now: Instant,
        progress: &mut Progress,
        out: &mut BytesMut,
    ) -> Result<(), Lost> {
        self.heard = now;
        if self.open.is_none() {
            return match packet {
                Incoming::Connack(ack) => self.admitted(ack),
                Incoming::Disconnect { reason, .. } => Err(Lost::Refused(reason)),
                _ => Err(Lost::Protocol("its first packet isn't CONNACK")),
            };
        }
        match packet {
            Incoming::Connack(_) => return Err(Lost::Protocol("it sent CONNACK twice")),
            Incoming::Puback { id, refused: None } => {
                // Doubled or invented ones are the broker's affair.
                let _: Known = self.window.acknowledge(id, now, progress);
            }
            Incoming::Puback { id, refused: Some(refusal) } => {
                self.refused(id, refusal, now, progress)?;
            }
            Incoming::Suback { refused: true } => {
                self.complaint = Some("the broker refuses the subscription to commands".into());
            }
            // Answered also when nobody asked for it, so that it ends.
            Incoming::Publish { id, qos: 1, delivery } => {
                self.codec.puback(id, out);
                self.deliver(delivery);
            }
            Incoming::Publish { qos: 0, delivery, .. } => self.deliver(delivery),
            Incoming::Publish { id, .. } => self.codec.pubrec(id, out),
            Incoming::Pubrel { id } => self.codec.pubcomp(id, out),
            Incoming::Pong => self.pinged = None,
            Incoming::Disconnect { reason, code } => {
                return Err(Lost::Disconnected { reason, code });
            }
            Incoming::Suback { .. } | Incoming::Other => (),
        }
        Ok(())
    }

    fn refused(
        &mut self,
        id: u16,
        refusal: Refusal,
        now: Instant,
        progress: &mut Progress,
    ) -> Result<(), Lost> {
        let Refusal { words, lasting } = refusal;
        match (self.window.is_of_the_log(id), lasting) {
            (None, _) => (),
            (Some(false), _) => {
                self.complaint = Some(format!("the broker refuses what isn't a reading: {words}"));
                let _: Known = self.window.acknowledge(id, now, progress);
            }
            (Some(true), Lasting::Yes) => {
                let _: Known = self.window.refuse(id, words, now, progress);
            }
            (Some(true), lasting) => {
                let suspicious = lasting == Lasting::Perhaps;
                return Err(Lost::PublishRefused { words, suspicious });
            }
        }
        Ok(())
    }

    fn deliver(&mut self, delivery: Delivery) {
        if self.deliveries.len() < DELIVERIES_MAX {
            self.deliveries.push(delivery);
        }
    }

    fn admitted(&mut self, ack: Connack) -> Result<(), Lost> {
        if let Some(reason) = ack.refused {
            return Err(Lost::Refused(reason));
        }
        if !ack.qos1 {
            return Err(Lost::NoQos1);
        }
        if let Some(most) = ack.receive_max {
            self.window.narrow(most);
        }
        if let Some(most) = ack.max_packet {
            if most < PACKET_MIN {
                return Err(Lost::TooSmall(most));
            }
            self.max_packet = self.max_packet.min(usize::try_from(most).unwrap_or(usize::MAX));
        }
        if let Some(seconds @ 1..) = ack.keep_alive {
            self.keep_alive = Duration::from_secs(seconds.into());
        }
        self.open = Some(ack);
        Ok(())
    }

    /// Whether the broker has let us in.
    pub(crate) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Whether the broker remembered this client.
    pub(crate) fn resumed(&self) -> bool {
        self.open.as_ref().is_some_and(|ack| ack.session_present)
    }

    /// Messages that may be published now.
    pub(crate) fn room(&self) -> usize {
        if self.is_open() { self.window.room() } else { 0 }
    }

    /// The same for a backlog, which leaves a part to what is fresh.
    pub(crate) fn room_for_backlog(&self) -> usize {
        if self.is_open() { self.window.room_for_backlog() } else { 0 }
    }

    /// From now on each message waits for the answer to the one before, or no
    /// longer.
    pub(crate) fn one_by_one(&mut self, yes: bool) {
        self.window.one_by_one(yes);
    }

    /// What of the lane of the log isn't acknowledged, and in how many messages.
    pub(crate) fn unsettled(&self) -> Option<(Span, usize)> {
        self.window.unsettled()
    }

    /// Whether something of a lane is in flight.
    pub(crate) fn has(&self, lane: Lane) -> bool {
        self.window.has(lane)
    }

    /// Whether everything published is acknowledged.
    pub(crate) fn is_idle(&self) -> bool {
        self.window.is_empty()
    }

    /// Readings in flight.
    pub(crate) fn in_flight(&self) -> u64 {
        self.window.readings()
    }

    /// The largest payload that fits a packet to a topic of so many bytes.
    pub(crate) fn payload_max(&self, topic: usize, properties: &[u8]) -> usize {
        // Its size with the longest length is never too small by more than 3.
        self.max_packet.saturating_sub(self.codec.publish_size(topic, properties, 0) + 3)
    }

    /// Publishes at QoS 1; there must be room, and the payload must fit.
    pub(crate) fn publish(&mut self, message: &Message<'_>, now: Instant, out: &mut BytesMut) {
        let retain = message.retain && self.open.as_ref().is_some_and(|ack| ack.retain);
        let id = self.window.push(message.part, message.readings, now);
        let Message { topic, properties, payload, .. } = message;
        self.codec.publish(topic, id, retain, properties, payload, out);
        self.wrote = now;
    }

    /// Asks for what is published to these filters.
    pub(crate) fn subscribe(&mut self, filters: &[String], now: Instant, out: &mut BytesMut) {
        self.codec.subscribe(SUBSCRIBE_ID, filters, out);
        self.wrote = now;
    }

    /// What has been published to us.
    pub(crate) fn deliveries(&mut self) -> Vec<Delivery> {
        std::mem::take(&mut self.deliveries)
    }

    /// Nothing of this is to be sent: it is settled with the last message of the
    /// lane in flight; `false` when none is, so that it is settled at once.
    pub(crate) fn extend(&mut self, lane: Lane, span: Span) -> bool {
        self.window.extend(lane, span)
    }

    /// Pings when it is time to, and tells what is overdue.
    pub(crate) fn tick(&mut self, now: Instant, out: &mut BytesMut) -> Result<(), Lost> {
        let late = |since: Instant| now >= since.max(self.heard) + self.ack_timeout;
        if !self.is_open() {
            return if late(self.begun) { Err(Lost::Silent(self.ack_timeout)) } else { Ok(()) };
        }
        if self.window.deadline(self.ack_timeout).is_some_and(|deadline| now >= deadline) {
            return Err(Lost::Unacknowledged(self.ack_timeout));
        }
        if self.pinged.is_some_and(late) {
            return Err(Lost::Silent(self.ack_timeout));
        }
        if self.pinged.is_none() && now >= self.wrote + self.keep_alive {
            self.codec.ping(out);
            self.wrote = now;
            self.pinged = Some(now);
        }
        Ok(())
    }

    /// When `tick` has something to do, if nothing is sent or received before.
    pub(crate) fn deadline(&self) -> Instant {
        if !self.is_open() {
            return self.begun + self.ack_timeout;
        }
        let answer = match self.pinged {
            Some(pinged) => pinged.max(self.heard) + self.ack_timeout,
            None => self.wrote + self.keep_alive,
        };
        self.window.deadline(self.ack_timeout).map_or(answer, |acked| acked.min(answer))
    }

    /// Ends in order: the broker doesn't publish the will.
    pub(crate) fn end(&self, out: &mut BytesMut) {
        self.codec.disconnect(out);
    }

    /// What the broker refused that carries no reading, once.
    pub(crate) fn complaint(&mut self) -> Option<String> {
        self.complaint.take()
    }
}

/// One publish.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Message<'a> {
    pub(crate) topic: &'a str,
    /// MQTT 5's, encoded; MQTT 3.1.1 has none.
    pub(crate) properties: &'a [u8],
    pub(crate) payload: &'a [u8],
    pub(crate) retain: bool,
    /// What of the log it carries: settled once it is acknowledged.
    pub(crate) part: Option<Part>,
    /// Readings in it.
    pub(crate) readings: u64,
}
