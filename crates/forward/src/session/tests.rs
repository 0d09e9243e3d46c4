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
    let message = Message { topic: "t", payload: b"{}", part, readings: 1, ..Message::default() };
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
