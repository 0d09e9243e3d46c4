//! One connection's moving parts, and its orderly end.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::BytesMut;
use tokio::time::Instant;
use tracing::warn;

use crate::session::{Message, Session};
use crate::transport::Transport;

/// For goodbye on the layers below MQTT, which few servers answer in time.
pub(crate) const GOODBYE: Duration = Duration::from_millis(500);
/// How an orderly stop proceeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Readings flow.
    Running,
    /// Nothing new is sent; what is in flight is waited for.
    Draining(Instant),
    /// `offline` is sent; its acknowledgement is waited for.
    Leaving(Instant),
}

/// One connection's moving parts.
pub(crate) struct Connection {
    pub(crate) transport: Transport,
    pub(crate) session: Session,
    /// From the broker, not yet whole packets: bounded by the largest packet and
    /// one read.
    pub(crate) received: BytesMut,
    /// For the broker, gathered while the last frame is being written.
    pub(crate) out: BytesMut,
    /// Since when the frame being written makes no way.
    pub(crate) stuck_since: Instant,
    /// What isn't of the log and is to be published first: a few messages a
    /// connection and the answers to commands, whose number is limited.
    pub(crate) aside: VecDeque<Aside>,
    /// The store has closed: nothing more will come from it.
    pub(crate) closed: bool,
    pub(crate) phase: Phase,
}

/// A message that isn't of the log.
pub(crate) struct Aside {
    pub(crate) topic: String,
    pub(crate) payload: Vec<u8>,
    pub(crate) retain: bool,
}

impl Connection {
    /// Gives what was gathered to the transport once it has written the last.
    pub(crate) fn hand_over(&mut self, now: Instant) {
        if self.transport.is_idle() && !self.out.is_empty() {
            self.transport.send(self.out.split().freeze());
            self.stuck_since = now;
        }
    }

    pub(crate) fn is_stuck(&self, timeout: Duration) -> bool {
        !self.transport.is_idle() && self.stuck_since.elapsed() >= timeout
    }

    pub(crate) fn deadline(&self, timeout: Duration) -> Instant {
        let mut deadline = self.session.deadline();
        if !self.transport.is_idle() {
            deadline = deadline.min(self.stuck_since + timeout);
        }
        match self.phase {
            Phase::Running => deadline,
            Phase::Draining(end) | Phase::Leaving(end) => deadline.min(end),
        }
    }

    /// Steps through an orderly stop; `true` once it is time to disconnect.
    pub(crate) fn left(&mut self, now: Instant, goodbye: impl FnOnce() -> Aside) -> bool {
        let done = |session: &Session, end| session.is_idle() || now >= end;
        match self.phase {
            Phase::Running => false,
            Phase::Draining(_) if !self.session.is_open() => true,
            Phase::Draining(end) => {
                if done(&self.session, end) {
                    if self.session.room() == 0 {
                        return true;
                    }
                    self.publish(&goodbye(), now);
                    self.phase = Phase::Leaving(end.max(now + GOODBYE));
                }
                false
            }
            Phase::Leaving(end) => done(&self.session, end),
        }
    }

    pub(crate) fn retain(&mut self, topic: String, payload: Vec<u8>) {
        self.aside.push_back(Aside { topic, payload, retain: true });
    }

    /// Publishes what isn't of the log, as far as the window allows.
    pub(crate) fn put_aside(&mut self, now: Instant) {
        while self.session.room() > 0 {
            let Some(aside) = self.aside.pop_front() else { break };
            self.publish(&aside, now);
        }
    }

    fn publish(&mut self, aside: &Aside, now: Instant) {
        let Aside { topic, payload, retain } = aside;
        if payload.len() > self.session.payload_max(topic.len(), &[]) {
            warn!(bytes = payload.len(), "{topic} is larger than the broker takes");
            return;
        }
        let message = Message { topic, payload, retain: *retain, ..Message::default() };
        self.session.publish(&message, now, &mut self.out);
    }
}
