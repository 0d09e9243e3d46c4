//! MQTT's QoS 1 towards a broker, without I/O: bytes and the time go in, bytes
//! and progress come out.
//!
//! Each connection begins with a fresh session on our side. What an earlier one
//! had in flight is sent again from the store's log, as new publishes: a broker
//! keeps nothing of a QoS 1 publish once it has answered it, so nothing of an
//! earlier connection needs to be remembered here.

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

    /// Asks for what is published to a filter.
    pub(crate) fn subscribe(&mut self, filter: &str, now: Instant, out: &mut BytesMut) {
        self.codec.subscribe(SUBSCRIBE_ID, filter, out);
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use reading::Seq;

    use super::*;
    use crate::codec::written;

    const ACK: Duration = Duration::from_secs(20);

    fn settings(version: Version) -> Settings {
        let hello = Hello { client_id: "a".into(), keep_alive: 30, ..Hello::default() };
        Settings { version, hello, inflight: 10, max_packet: 4096, ack_timeout: ACK }
    }

    /// A session that the broker has answered with these bytes.
    fn answered(version: Version, answer: &[u8]) -> (Result<(), Lost>, Session, Instant) {
        let now = Instant::now();
        let mut session = Session::new(&settings(version), now, &mut BytesMut::new());
        let result = receive(&mut session, answer).map(|(progress, _)| {
            assert_eq!(progress, Progress::default());
        });
        (result, session, now)
    }

    fn open() -> (Session, Instant) {
        let (result, session, now) = answered(Version::V4, &[0x20, 2, 0, 0]);
        assert_eq!(result, Ok(()));
        (session, now)
    }

    /// What moved, and what is to be sent.
    fn receive(session: &mut Session, bytes: &[u8]) -> Result<(Progress, BytesMut), Lost> {
        let (mut progress, mut out) = (Progress::default(), BytesMut::new());
        let now = session.begun;
        session.receive(&mut BytesMut::from(bytes), now, &mut progress, &mut out)?;
        Ok((progress, out))
    }

    fn publish(session: &mut Session, seq: u64, now: Instant) -> BytesMut {
        let mut out = BytesMut::new();
        let span = Span { after: Seq(seq - 1), through: Seq(seq) };
        let part = Some(Part { lane: Lane::Log, span });
        let message =
            Message { topic: "t", payload: b"{}", part, readings: 1, ..Message::default() };
        session.publish(&message, now, &mut out);
        out
    }

    #[test]
    fn nothing_is_published_before_the_broker_lets_us_in() {
        let now = Instant::now();
        let mut out = BytesMut::new();
        let session = Session::new(&settings(Version::V5), now, &mut out);
        assert_eq!((session.is_open(), session.room(), out[0]), (false, 0, 0x10));
    }

    #[test]
    fn the_broker_s_limits_narrow_ours() {
        // Receive Maximum 3, Maximum Packet Size 2000, Server Keep Alive 7.
        let properties = [0x21, 0, 3, 0x27, 0, 0, 0x07, 0xD0, 0x13, 0, 7];
        let mut answer = vec![0x20, 14, 1, 0, 11];
        answer.extend(properties);
        let (result, session, now) = answered(Version::V5, &answer);
        assert_eq!((result, session.room(), session.resumed()), (Ok(()), 3, true));
        assert_eq!(session.deadline(), now + Duration::from_secs(7));
        let largest = session.payload_max(10, &[]);
        assert!((1_970..2_000).contains(&largest), "{largest}");
        assert!(Codec(Version::V5).publish_size(10, &[], largest) <= 2_000);
    }

    #[test]
    fn a_broker_that_can_not_be_worked_with_is_refused() {
        for (answer, expected) in [
            (&[0x20, 5, 0, 0, 2, 0x24, 0][..], Lost::NoQos1),
            (&[0x20, 8, 0, 0, 5, 0x27, 0, 0, 0, 100], Lost::TooSmall(100)),
            (&[0xD0, 0], Lost::Protocol("its first packet isn't CONNACK")),
            (&[0x20, 3, 0, 0x88, 0], Lost::Refused("it isn't available now".into())),
        ] {
            assert_eq!(answered(Version::V5, answer).0, Err(expected), "{answer:?}");
        }
        let (mut session, _) = open();
        let twice = receive(&mut session, &[0x20, 2, 0, 0]);
        assert_eq!(twice, Err(Lost::Protocol("it sent CONNACK twice")));
    }

    #[test]
    fn an_acknowledgement_moves_the_cursor_even_when_the_session_is_lost_with_it() {
        let (mut session, now) = open();
        let out = publish(&mut session, 41, now);
        let (_, id, _, _) = written(Version::V4, &out).unwrap();
        publish(&mut session, 42, now);
        let mut progress = Progress::default();
        let mut bytes = BytesMut::from(&[0x40, 2, 0, u8::try_from(id).unwrap(), 0xFF, 0][..]);
        let lost = session.receive(&mut bytes, now, &mut progress, &mut BytesMut::new());
        assert!(matches!(lost, Err(Lost::Malformed(_))), "{lost:?}");
        assert_eq!((progress.through, progress.readings), (Some(Seq(41)), 1));
    }

    #[test]
    fn what_the_cursor_may_pass_goes_with_the_last_message() {
        let (mut session, now) = open();
        let span = |after, through| Span { after: Seq(after), through: Seq(through) };
        assert!(!session.extend(Lane::Log, span(0, 9)), "nothing is in flight");
        publish(&mut session, 10, now);
        assert!(session.extend(Lane::Log, span(10, 500)));
        let (progress, _) = receive(&mut session, &[0x40, 2, 0, 1]).unwrap();
        assert_eq!(progress.through, Some(Seq(500)));
    }

    #[test]
    fn a_ping_follows_silence_and_its_answer_is_awaited() {
        let (mut session, now) = open();
        let due = now + Duration::from_secs(30);
        assert_eq!(session.deadline(), due);
        let mut out = BytesMut::new();
        assert_eq!(session.tick(due - Duration::from_millis(1), &mut out), Ok(()));
        assert!(out.is_empty());
        assert_eq!(session.tick(due, &mut out), Ok(()));
        assert_eq!((&out[..], session.deadline()), (&[0xC0, 0][..], due + ACK));
        // Sending doesn't put it off: only the broker's word does.
        let later = due + Duration::from_secs(5);
        publish(&mut session, 1, later);
        assert_eq!(session.tick(due + ACK, &mut out), Err(Lost::Silent(ACK)));
        let mut progress = Progress::default();
        let mut bytes = BytesMut::from(&[0x40, 2, 0, 1][..]);
        assert_eq!(session.receive(&mut bytes, later, &mut progress, &mut out), Ok(()));
        assert_eq!(session.tick(due + ACK, &mut out), Ok(()));
        assert_eq!(session.tick(later + ACK, &mut out), Err(Lost::Silent(ACK)));
        let _ = receive(&mut session, &[0xD0, 0]).unwrap();
        assert_eq!(session.tick(later + ACK, &mut out), Ok(()));
    }

    /// A window of large messages over a thin link takes longer than the
    /// timeout, and is no fault as long as it gets on.
    #[test]
    fn a_slow_link_that_gets_on_is_kept() {
        let (mut session, now) = open();
        for seq in 1..=5 {
            publish(&mut session, seq, now);
        }
        let mut at = now;
        for id in 1..=5 {
            at += ACK - Duration::from_secs(1);
            assert_eq!(session.tick(at, &mut BytesMut::new()), Ok(()));
            let mut bytes = BytesMut::from(&[0x40, 2, 0, id][..]);
            let mut progress = Progress::default();
            let received = session.receive(&mut bytes, at, &mut progress, &mut BytesMut::new());
            assert_eq!((received, progress.readings), (Ok(()), 1));
        }
        assert!(session.is_idle());
    }

    proptest! {
        #[test]
        fn whatever_a_broker_sends_the_cursor_stays_within_what_was_sent(
            packets in proptest::collection::vec(
                prop_oneof![
                    (any::<u16>(), any::<bool>()).prop_map(|(id, near)| {
                        let id = if near { id % 12 } else { id };
                        [&[0x40, 2][..], &id.to_be_bytes()].concat()
                    }),
                    proptest::collection::vec(any::<u8>(), 0..40),
                    Just(vec![0xD0, 0]),
                ],
                0..60,
            ),
        ) {
            let (mut session, now) = open();
            let (mut sent, mut out) = (0, BytesMut::new());
            for packet in packets {
                while session.room() > 0 && sent < 100 {
                    sent += 1;
                    publish(&mut session, sent, now);
                }
                let mut progress = Progress::default();
                let mut bytes = BytesMut::from(&packet[..]);
                let result = session.receive(&mut bytes, now, &mut progress, &mut out);
                prop_assert!(progress.through.is_none_or(|through| through.0 <= sent));
                prop_assert!(session.in_flight() <= 10);
                if result.is_err() {
                    break;
                }
            }
            prop_assert!(out.len() <= 60 * 40, "answers are shorter than what they answer");
        }
    }

    #[test]
    fn a_missing_acknowledgement_is_noticed_behind_later_ones() {
        let (mut session, now) = open();
        publish(&mut session, 1, now);
        publish(&mut session, 2, now + Duration::from_secs(10));
        let (progress, _) = receive(&mut session, &[0x40, 2, 0, 2]).unwrap();
        assert_eq!(progress, Progress::default());
        assert_eq!(session.deadline(), now + ACK);
        let lost = session.tick(now + ACK, &mut BytesMut::new());
        assert_eq!(lost, Err(Lost::Unacknowledged(ACK)));
    }

    #[test]
    fn what_old_subscriptions_deliver_is_answered_and_no_more() {
        let (mut session, _) = open();
        let (_, out) = receive(&mut session, &[0x32, 5, 0, 1, b't', 0, 7]).unwrap();
        assert_eq!(out[..], [0x40, 2, 0, 7]);
        let (_, out) = receive(&mut session, &[0x34, 5, 0, 1, b't', 0, 8]).unwrap();
        assert_eq!(out[..], [0x50, 2, 0, 8]);
        let (_, out) = receive(&mut session, &[0x62, 2, 0, 8]).unwrap();
        assert_eq!(out[..], [0x70, 2, 0, 8]);
    }

    #[test]
    fn a_refused_status_is_a_complaint_and_a_refused_reading_depends_on_the_code() {
        let (result, mut session, now) = answered(Version::V5, &[0x20, 3, 0, 0, 0]);
        assert_eq!(result, Ok(()));
        let status = Message { topic: "s", payload: b"online", retain: true, ..Message::default() };
        session.publish(&status, now, &mut BytesMut::new());
        assert!(receive(&mut session, &[0x40, 3, 0, 1, 0x87]).is_ok());
        assert!(session.complaint().is_some_and(|words| words.contains("not authorized")));
        assert_eq!((session.complaint(), session.is_idle()), (None, true));
        publish(&mut session, 1, now);
        publish(&mut session, 2, now);
        // Of two, one is refused for good and one taken: the broker is well.
        let (progress, _) = receive(&mut session, &[0x40, 3, 0, 2, 0x99]).unwrap();
        assert_eq!(progress, Progress::default());
        let (progress, _) = receive(&mut session, &[0x40, 2, 0, 3]).unwrap();
        assert_eq!((progress.through, progress.readings), (Some(Seq(2)), 1));
        assert_eq!(progress.refused[0].1, "payload format invalid");
        publish(&mut session, 3, now);
        let lost = receive(&mut session, &[0x40, 3, 0, 4, 0x97]);
        let words = "quota exceeded".to_owned();
        assert_eq!(lost, Err(Lost::PublishRefused { words, suspicious: false }));
    }

    #[test]
    fn a_broker_that_refuses_all_it_gets_loses_the_session_and_no_reading() {
        let (_, mut session, now) = answered(Version::V5, &[0x20, 3, 0, 0, 0]);
        publish(&mut session, 1, now);
        let lost = receive(&mut session, &[0x40, 3, 0, 1, 0x87]);
        let words = "not authorized to publish there".to_owned();
        assert_eq!(lost, Err(Lost::PublishRefused { words, suspicious: true }));
        assert_eq!(session.unsettled(), Some((Span { after: Seq(0), through: Seq(1) }, 1)));
    }
}
