//! MQTT's QoS 1 towards a broker, without I/O: bytes and the time go in, bytes
//! and progress come out.
//!
//! Each connection begins with a fresh session on our side. What an earlier one
//! had in flight is sent again from the store's log, as new publishes: a broker
//! keeps nothing of a QoS 1 publish once it has answered it, so nothing of an
//! earlier connection needs to be remembered here.

use std::time::Duration;

use bytes::BytesMut;
use reading::Seq;
use tokio::time::Instant;

use crate::Version;
use crate::codec::{Codec, Connack, Hello, Incoming, Malformed};
use crate::window::{Known, Progress, Window};

/// A gap must fit with the longest prefix and names: it is told in place of a
/// reading that doesn't.
const PACKET_MIN: u32 = 1024;

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
    /// What the broker refused that carries no reading: told, not fatal.
    complaint: Option<String>,
}

/// Why a session is over.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Lost {
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// CONNACK.
    #[error("the broker lets nobody in: {0}")]
    Refused(String),
    /// PUBACK with an error code. Nothing is given up: the reading stays owed.
    #[error("the broker refuses a reading: {0}")]
    PublishRefused(String),
    /// DISCONNECT.
    #[error("the broker ended the connection: {reason}")]
    Disconnected { reason: String, taken_over: bool },
    /// A message without its PUBACK.
    #[error("the broker acknowledged nothing for {0:?}")]
    Unacknowledged(Duration),
    /// A ping or CONNECT without answer.
    #[error("the broker answered nothing for {0:?}")]
    Silent(Duration),
    /// At least once needs QoS 1.
    #[error("the broker takes no QoS 1, without which nothing is acknowledged")]
    NoQos1,
    /// Maximum Packet Size.
    #[error("the broker takes packets of {0} bytes at most, and 1024 are needed")]
    TooSmall(u32),
    /// Something else before CONNACK, or CONNACK twice.
    #[error("the broker doesn't follow MQTT: {0}")]
    Protocol(&'static str),
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
            complaint: None,
        }
    }

    /// Takes the whole packets out of what has been received, answers what must
    /// be answered, and tells how far the cursor may move: also when the session
    /// is lost with a later packet.
    pub(crate) fn receive(
        &mut self,
        received: &mut BytesMut,
        progress: &mut Progress,
        out: &mut BytesMut,
    ) -> Result<(), Lost> {
        while let Some(packet) = self.codec.decode(received)? {
            self.packet(packet, progress, out)?;
        }
        Ok(())
    }

    fn packet(
        &mut self,
        packet: Incoming,
        progress: &mut Progress,
        out: &mut BytesMut,
    ) -> Result<(), Lost> {
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
                let _: Known = self.window.acknowledge(id, progress);
            }
            Incoming::Puback { id, refused: Some(reason) } => match self.window.through(id) {
                Some(Some(_)) => return Err(Lost::PublishRefused(reason)),
                Some(None) => {
                    self.complaint = Some(format!("the broker refuses status or info: {reason}"));
                    let _: Known = self.window.acknowledge(id, progress);
                }
                None => (),
            },
            // From a subscription of long ago: answered, so that it ends.
            Incoming::Publish { id, qos: 1 } => self.codec.puback(id, out),
            Incoming::Publish { id, qos: 2 } => self.codec.pubrec(id, out),
            Incoming::Pubrel { id } => self.codec.pubcomp(id, out),
            Incoming::Pong => self.pinged = None,
            Incoming::Disconnect { reason, taken_over } => {
                return Err(Lost::Disconnected { reason, taken_over });
            }
            Incoming::Publish { .. } | Incoming::Other => (),
        }
        Ok(())
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

    /// Whether everything published is acknowledged.
    pub(crate) fn is_idle(&self) -> bool {
        self.window.is_empty()
    }

    /// Readings in flight.
    pub(crate) fn in_flight(&self) -> u64 {
        self.window.readings()
    }

    /// The largest payload that fits a packet to a topic of so many bytes.
    pub(crate) fn payload_max(&self, topic: usize) -> usize {
        // Its size with the longest length is never too small by more than 3.
        self.max_packet.saturating_sub(self.codec.publish_size(topic, 0) + 3)
    }

    /// Publishes at QoS 1; there must be room, and the payload must fit.
    pub(crate) fn publish(&mut self, message: &Message<'_>, now: Instant, out: &mut BytesMut) {
        let retain = message.retain && self.open.as_ref().is_some_and(|ack| ack.retain);
        let id = self.window.push(message.through, message.readings, now);
        self.codec.publish(message.topic, id, retain, message.payload, out);
        self.wrote = now;
    }

    /// The cursor may pass this with the last message in flight; `false` when
    /// nothing is in flight, so that it may pass at once.
    pub(crate) fn extend(&mut self, through: Seq) -> bool {
        self.window.extend(through)
    }

    /// Pings when it is time to, and tells what is overdue.
    pub(crate) fn tick(&mut self, now: Instant, out: &mut BytesMut) -> Result<(), Lost> {
        let late = |since: Instant| now >= since + self.ack_timeout;
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
            Some(pinged) => pinged + self.ack_timeout,
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
#[derive(Clone, Copy, Debug)]
pub(crate) struct Message<'a> {
    pub(crate) topic: &'a str,
    pub(crate) payload: &'a [u8],
    pub(crate) retain: bool,
    /// The cursor moves here once it is acknowledged.
    pub(crate) through: Option<Seq>,
    /// Readings in it.
    pub(crate) readings: u64,
}
