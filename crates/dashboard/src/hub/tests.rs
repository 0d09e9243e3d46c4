//! What clients get, at any pace.

use super::ring::Piece;
use super::subscriber::PATTERNS_MAX;
use super::*;
use crate::ws::Prepared;
use expect_test::expect;
use proptest::prelude::*;
use reading::{Body, Datum, Doubt, Fault, Gap, Kind, Reading, Seq, Timestamp, Unit, Value};

const EPOCH: Epoch = Epoch(0x9f2c_44e0_1a7b_3d58);

fn spec(channel: &str, unit: &'static str) -> ChannelSpec {
    ChannelSpec {
        channel: channel.parse().unwrap(),
        kind: Kind::Number,
        unit: Unit::of(unit),
        label: None,
        range: None,
        output: false,
    }
}

fn record(seq: u64, channel: &str, value: Value) -> Record {
    let at = Timestamp::from_micros(1_795_508_403_123_456);
    let reading = Reading { channel: channel.parse().unwrap(), at, value };
    Record { epoch: EPOCH, seq: Seq(seq), body: Body::Reading(reading) }
}

fn good(seq: u64, channel: &str) -> Record {
    record(seq, channel, Value::Good(Datum::Number(seq as f64)))
}

fn small(readings: usize) -> Hub {
    gathering(readings, Duration::ZERO)
}

fn gathering(readings: usize, gather: Duration) -> Hub {
    let room = Room { readings, bytes: usize::MAX };
    let specs = vec![spec("a/a", "Cel"), spec("a/b", "")];
    Hub::with_room("greenhouse".into(), EPOCH, specs, room, gather)
}

fn text(frame: &Prepared) -> &str {
    std::str::from_utf8(frame.payload()).unwrap()
}

/// Whether there was nothing to take.
fn nothing(taken: &Taken) -> bool {
    taken.frame.is_none() && taken.skipped == 0
}

fn seqs(frame: &Prepared) -> Vec<u64> {
    let frame: serde_json::Value = serde_json::from_slice(frame.payload()).unwrap();
    assert_eq!(frame["type"], "readings");
    frame["readings"].as_array().unwrap().iter().map(|r| r["seq"].as_u64().unwrap()).collect()
}

#[test]
fn hello_tells_every_channel_and_its_last_reading() {
    let hub = small(8);
    hub.seed(vec![good(7, "a/a")]);
    expect![[r#"{"type":"hello","gateway":"greenhouse","epoch":"9f2c44e01a7b3d58","channels":[{"channel":"a/a","device":"a","name":"a","kind":"number","unit":"Cel","label":null,"output":false,"last":{"seq":7,"time":"2026-11-24T08:20:03.123456Z","value":7.0,"quality":"good"}},{"channel":"a/b","device":"a","name":"b","kind":"number","unit":"","label":null,"output":false,"last":null}]}"#]].assert_eq(&hub.subscribe().0);
    hub.publish(&[record(8, "a/a", Value::Bad(Fault::Timeout))]);
    expect![[r#"{"type":"hello","gateway":"greenhouse","epoch":"9f2c44e01a7b3d58","channels":[{"channel":"a/a","device":"a","name":"a","kind":"number","unit":"Cel","label":null,"output":false,"last":{"seq":8,"time":"2026-11-24T08:20:03.123456Z","value":null,"quality":"bad","reason":"timeout"}},{"channel":"a/b","device":"a","name":"b","kind":"number","unit":"","label":null,"output":false,"last":null}]}"#]].assert_eq(&hub.subscribe().0);
    hub.seed(vec![good(7, "a/a")]);
    assert!(hub.subscribe().0.contains(r#""seq":8"#), "what comes late is not the newest");
}

#[test]
fn other_channels_forget_only_what_is_gone() {
    let hub = small(8);
    let changes = hub.described();
    hub.publish(&[good(1, "a/a"), good(2, "a/b")]);
    let truth = ChannelSpec { kind: Kind::Boolean, ..spec("a/b", "") };
    hub.describe(vec![spec("a/c", ""), spec("a/a", "K"), truth]);
    assert!(changes.has_changed().unwrap());
    let told = hub.channels();
    let told: Vec<_> = told.iter().map(|(spec, last)| (spec.channel.as_str(), last)).collect();
    // A value of another kind than the channel's would be nonsense.
    assert_eq!(told, [("a/c", &None), ("a/a", &Some(good(1, "a/a"))), ("a/b", &None)]);
    assert_eq!(hub.spec(&"a/a".parse().unwrap()).unwrap().unit.as_str(), "K");
    assert_eq!(hub.spec(&"a/d".parse().unwrap()), None);
}

#[test]
fn a_frame_has_all_qualities_and_kinds() {
    let hub = small(8);
    let (_, mut client) = hub.subscribe();
    let at = Timestamp::UNIX_EPOCH;
    let gap = Gap { from: at, to: at, count: 1, channel: None, reason: "store full".into() };
    hub.publish(&[
        record(1, "a/a", Value::Good(Datum::Number(21.5))),
        record(2, "a/a", Value::Uncertain(Datum::Number(-1.0), Doubt::ClockUnset)),
        Record { epoch: EPOCH, seq: Seq(3), body: Body::Gap(gap) },
        record(4, "a/b", Value::Bad(Fault::Absent)),
        record(5, "a/b", Value::Good(Datum::from(true))),
        record(6, "a/b", Value::Good(Datum::from("\"<b>\u{7}"))),
    ]);
    expect![[r#"{"type":"readings","readings":[{"seq":1,"channel":"a/a","time":"2026-11-24T08:20:03.123456Z","value":21.5,"quality":"good"},{"seq":2,"channel":"a/a","time":"2026-11-24T08:20:03.123456Z","value":-1.0,"quality":"uncertain","reason":"clock not set"},{"seq":4,"channel":"a/b","time":"2026-11-24T08:20:03.123456Z","value":null,"quality":"bad","reason":"absent"},{"seq":5,"channel":"a/b","time":"2026-11-24T08:20:03.123456Z","value":true,"quality":"good"},{"seq":6,"channel":"a/b","time":"2026-11-24T08:20:03.123456Z","value":"\"<b>\u0007","quality":"good"}]}"#]].assert_eq(text(&client.take().frame.unwrap()));
    assert!(nothing(&client.take()));
}

#[test]
fn a_slow_client_is_told_and_keeps_the_newest() {
    let hub = small(100);
    let (_, mut slow) = hub.subscribe();
    let (_, mut healthy) = hub.subscribe();
    let mut got = Vec::new();
    for seq in 0..1000 {
        hub.publish(&[good(seq, if seq % 10 == 0 { "a/b" } else { "a/a" })]);
        got.extend(healthy.take().frame.map(|frame| seqs(&frame)).unwrap());
    }
    assert_eq!(got, (0..1000).collect::<Vec<_>>(), "the slow one costs the other nothing");
    let taken = slow.take();
    assert_eq!(taken.skipped, 998);
    assert_eq!(seqs(&taken.frame.unwrap()), [990, 999], "the newest of each channel");
    assert!(nothing(&slow.take()));
    hub.publish(&[good(1000, "a/a")]);
    assert_eq!(seqs(&slow.take().frame.unwrap()), [1000]);
    assert_eq!(hub.skipped(), 998);
}

#[test]
fn nothing_is_kept_for_nobody() {
    let hub = small(100);
    hub.publish(&[good(1, "a/a")]);
    assert_eq!(hub.state().ring.held(), (0, 0, 0));
    let (_, client) = hub.subscribe();
    hub.publish(&[good(2, "a/a")]);
    let serialised = |hub: &Hub| {
        let state = hub.state();
        state.ring.from(1, state.head).unwrap().any(|piece: &Arc<Piece>| piece.is_serialised())
    };
    assert!(!serialised(&hub), "nothing is serialised unasked");
    let (_, mut other) = hub.subscribe();
    hub.publish(&[good(3, "a/a")]);
    assert_eq!(hub.state().ring.held().2, 1, "what nobody has seen is gathered");
    assert_eq!(seqs(&other.take().frame.unwrap()), [3], "not what it was told in hello");
    assert!(serialised(&hub));
    drop((client, other));
    hub.publish(&[good(4, "a/a")]);
    assert_eq!(hub.state().ring.held(), (0, 0, 0));
    let (hello, mut late) = hub.subscribe();
    assert!(hello.contains(r#""seq":4"#));
    assert!(nothing(&late.take()));
}

#[test]
fn long_texts_are_bounded_by_bytes() {
    let hub = Hub::with_room("g".into(), EPOCH, vec![], Room::default(), Duration::ZERO);
    let (_, mut slow) = hub.subscribe();
    for seq in 0..1000 {
        let text = "x".repeat(64 << 10);
        hub.publish(&[record(seq, "a/a", Value::Good(Datum::from(text.as_str())))]);
    }
    let (readings, bytes, _) = hub.state().ring.held();
    assert!(bytes <= Room::default().bytes, "{bytes}");
    assert!(readings * (64 << 10) <= bytes, "texts are counted");
    assert_eq!(slow.take().skipped, 999);
}

#[test]
fn many_readings_are_several_frames() {
    let hub = small(10_000);
    let (_, mut client) = hub.subscribe();
    let records: Vec<_> = (0..1000).map(|seq| good(seq, "a/a")).collect();
    hub.publish(&records);
    let mut got = Vec::new();
    let mut frames = 0;
    while let Some(frame) = client.take().frame {
        assert!(frame.payload().len() < 64 << 10, "{}", frame.payload().len());
        got.extend(seqs(&frame));
        frames += 1;
    }
    assert_eq!(got, (0..1000).collect::<Vec<_>>());
    assert!(frames > 1);
}

#[test]
fn a_subscription_filters_and_tells_what_it_adds() {
    let hub = small(100);
    let (_, mut client) = hub.subscribe();
    let only = |text: &str| Filter::parse(&[text.to_owned()]).unwrap();
    assert!(nothing(&client.filter(only("a/a"))), "nothing new is wanted");
    hub.publish(&[good(1, "a/a"), good(2, "a/b")]);
    assert_eq!(seqs(&client.take().frame.unwrap()), [1]);
    let newest = client.filter(only("a/b")).frame.expect("the last of a channel not seen so far");
    assert_eq!(seqs(&newest), [2]);
    hub.publish(&[good(3, "a/a"), good(4, "a/b")]);
    assert_eq!(seqs(&client.take().frame.unwrap()), [4]);
    hub.publish(&[good(5, "a/a")]);
    assert!(nothing(&client.take()));
    client.filter(Filter::all());
    for seq in 6..206 {
        hub.publish(&[good(seq, "a/a")]);
    }
    assert_eq!(client.take().skipped, 199);
}

#[test]
fn a_client_too_slow_for_its_old_subscription_is_told_with_the_new_one() {
    let hub = small(100);
    let (_, mut client) = hub.subscribe();
    for seq in 0..600 {
        hub.publish(&[good(seq, if seq % 2 == 0 { "a/a" } else { "a/b" })]);
    }
    let taken = client.filter(Filter::parse(&["a/a".into()]).unwrap());
    assert_eq!(seqs(&taken.frame.unwrap()), [598]);
    assert_eq!(taken.skipped, 599);
    assert!(nothing(&client.take()));
    hub.publish(&[good(600, "a/a"), good(601, "a/b")]);
    assert_eq!(seqs(&client.take().frame.unwrap()), [600]);
    for seq in 602..1202 {
        hub.publish(&[good(seq, if seq % 2 == 0 { "a/a" } else { "a/b" })]);
    }
    assert_eq!(client.take().skipped, 299);
}

#[test]
fn a_wrong_subscription_is_told_what_is_wrong() {
    let parse = |texts: &[&str]| {
        Filter::parse(&texts.iter().map(|&text| text.to_owned()).collect::<Vec<_>>())
    };
    assert_eq!(parse(&["a/b", "*"]), Ok(Filter::all()));
    assert!(parse(&["a/b", "A B"]).unwrap_err().contains("A B"));
    assert!(parse(&vec!["a/b"; PATTERNS_MAX]).is_ok());
    assert!(parse(&vec!["a/b"; PATTERNS_MAX + 1]).unwrap_err().contains("at most 32"));
}

#[tokio::test(start_paused = true)]
async fn waiting_ends_when_there_is_something() {
    let hub = small(100);
    let (_, mut client) = hub.subscribe();
    let soon = std::time::Duration::from_secs(1);
    assert!(tokio::time::timeout(soon, client.wait()).await.is_err());
    hub.publish(&[good(1, "a/a")]);
    tokio::time::timeout(soon, client.wait()).await.expect("woken");
    client.take();
    assert!(tokio::time::timeout(soon, client.wait()).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn clients_that_want_the_same_are_given_the_same() {
    let hub = gathering(100, GATHER);
    tokio::time::advance(GATHER).await;
    let mut clients: Vec<_> = (0..3).map(|_| hub.subscribe().1).collect();
    hub.publish(&[good(1, "a/a")]);
    let first: Vec<_> = clients.iter_mut().map(|client| client.take().frame.unwrap()).collect();
    assert_eq!(seqs(&first[0]), [1], "what comes after a pause is told at once");
    assert!(first.iter().all(|frame| Arc::ptr_eq(frame, &first[0])));
    for seq in 2..10 {
        tokio::time::advance(GATHER / 10).await;
        hub.publish(&[good(seq, "a/a")]);
        assert!(clients.iter_mut().all(|client| nothing(&client.take())), "it is gathered");
    }
    for client in &mut clients {
        client.wait().await;
    }
    let next: Vec<_> = clients.iter_mut().map(|client| client.take().frame.unwrap()).collect();
    assert_eq!(seqs(&next[0]), (2..10).collect::<Vec<_>>());
    assert!(next.iter().all(|frame| Arc::ptr_eq(frame, &next[0])));
    // One that comes meanwhile is told the rest of a piece.
    tokio::time::advance(GATHER / 2).await;
    hub.publish(&[good(10, "a/a")]);
    let mut late = hub.subscribe().1;
    hub.publish(&[good(11, "a/a")]);
    late.wait().await;
    assert_eq!(seqs(&late.take().frame.unwrap()), [11]);
    assert_eq!(seqs(&clients[0].take().frame.unwrap()), [10, 11]);
}

#[derive(Clone, Debug)]
enum Step {
    Publish(Vec<bool>),
    Take(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        prop::collection::vec(any::<bool>(), 0..300).prop_map(Step::Publish),
        (0..3_usize).prop_map(Step::Take),
    ]
}

proptest! {
    /// Whatever the pace, each client gets each of its readings once and in
    /// order, or it is counted as skipped; and nobody's ring grows.
    #[test]
    fn every_reading_is_delivered_or_counted(steps in prop::collection::vec(step(), 0..60)) {
        let hub = small(500);
        let filters = [Filter::all(), Filter::parse(&["a/a".into()]).unwrap(), Filter(Some(vec![]))];
        let mut clients: Vec<_> = filters
            .into_iter()
            .map(|filter| {
                let (_, mut client) = hub.subscribe();
                client.filter(filter);
                (client, Vec::new(), 0)
            })
            .collect();
        let mut published = [0, 0];
        let mut seq = 0;
        let take = |(client, got, skipped): &mut (Subscriber, Vec<u64>, u64)| {
            let taken = client.take();
            *skipped += taken.skipped;
            got.extend(taken.frame.map(|frame| seqs(&frame)).unwrap_or_default());
        };
        for step in steps {
            match step {
                Step::Take(client) => take(&mut clients[client]),
                Step::Publish(channels) => {
                    let records: Vec<_> = channels
                        .into_iter()
                        .map(|b| {
                            seq += 1;
                            published[usize::from(b)] += 1;
                            good(seq, if b { "a/b" } else { "a/a" })
                        })
                        .collect();
                    hub.publish(&records);
                    prop_assert!(hub.state().ring.held().0 <= 500);
                }
            }
        }
        let wanted = [published[0] + published[1], published[0], 0];
        for (client, wanted) in clients.iter_mut().zip(wanted) {
            while client.0.position < seq {
                take(client);
            }
            let (_, got, skipped) = client;
            prop_assert!(got.is_sorted_by(|a, b| a < b));
            prop_assert_eq!(got.len() as u64 + *skipped, wanted);
        }
    }
}
