//! Fresh readings ahead of a backlog, and how fast either goes.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use forward::State;
use reading::{Datum, Timestamp};
use serde_json::Value as Json;
use tokio::time::{self, Instant};

use crate::support::{Inbox, PATIENCE, Rig, Server, first_occurrences};

/// Readings that were taken an hour ago.
async fn backlog(rig: &mut Rig, count: u64) -> u64 {
    let at = Timestamp::now() - Duration::from_secs(3_600);
    let values = (0..count).map(|n| Datum::Number(n as f64));
    rig.read_at(at, "weather/temperature", values).await
}

/// Numbers in order of arrival, with whether they were marked historical, until
/// all of 1 to `last` have come.
async fn until_all(inbox: &mut Inbox, last: u64) -> Vec<(u64, bool)> {
    let (mut seqs, mut seen) = (Vec::new(), BTreeSet::new());
    while seen.len() < last as usize {
        let (topic, payload) = inbox.next().await;
        if topic.ends_with("/status") || topic.ends_with("/info") {
            continue;
        }
        let payload: Json = serde_json::from_str(&payload).expect("JSON");
        let records = match payload {
            Json::Array(records) => records,
            record => vec![record],
        };
        let historical = records[0]["historical"] == true;
        for record in records {
            let seq = record["seq"].as_u64().expect("a number");
            seqs.push((seq, historical));
            seen.insert(seq);
        }
    }
    seqs
}

#[tokio::test]
async fn fresh_readings_pass_a_paced_backlog_and_both_keep_their_order() {
    for format in ["json", "senml"] {
        let server = Server::start().await;
        let address = server.address;
        let text = format!("format = \"{format}\"\norder = \"live-first\"\ndrain_rate = 2000");
        let mut rig = Rig::start(&server.url, &text).await;
        rig.is(State::Online).await;
        server.stop().await;
        rig.is(State::Offline).await;
        let old = backlog(&mut rig, 8_000).await;
        let server = Server::on(address).await;
        let mut inbox = server.listen();
        rig.is(State::Online).await;
        let mut sent: HashMap<u64, Instant> = HashMap::new();
        for _ in 0..20 {
            time::sleep(Duration::from_millis(100)).await;
            sent.insert(rig.read(1).await, Instant::now());
        }
        let last = old + 20;
        let begun = Instant::now();
        let arrived = until_all(&mut inbox, last).await;
        assert!(begun.elapsed() > Duration::from_millis(1_000), "paced: {:?}", begun.elapsed());
        let seqs: Vec<u64> = arrived.iter().map(|(seq, _)| *seq).collect();
        assert_eq!(first_occurrences(&seqs).len(), seqs.len(), "none twice");
        for (lane, historical) in [(1..=old, true), (old + 1..=last, false)] {
            let marked: Vec<(u64, bool)> =
                arrived.iter().filter(|(seq, _)| lane.contains(seq)).copied().collect();
            assert!(marked.is_sorted(), "each lane in its order");
            assert!(marked.iter().all(|(_, mark)| *mark == historical), "{historical}");
        }
        let fresh = seqs.iter().position(|seq| *seq == last).expect("it came");
        let behind = seqs[fresh..].iter().filter(|seq| **seq <= old).count();
        assert!(behind > 500, "{behind} of the backlog came after the last fresh one");
        rig.is_acknowledged(last).await;
        rig.stop().await;
    }
}

/// A fresh reading is at the broker while a backlog drains as fast as it can.
#[tokio::test]
async fn a_fresh_reading_does_not_wait_for_an_unpaced_backlog() {
    let server = Server::start().await;
    let address = server.address;
    let text = "format = \"senml\"\norder = \"live-first\"";
    let mut rig = Rig::start(&server.url, text).await;
    rig.is(State::Online).await;
    server.stop().await;
    rig.is(State::Offline).await;
    backlog(&mut rig, 100_000).await;
    let server = Server::on(address).await;
    let mut inbox = server.listen();
    rig.is(State::Online).await;
    let (fresh, begun) = (rig.read(1).await, Instant::now());
    let arrives = async {
        loop {
            let pack = inbox.next_on("/senml").await;
            if pack.contains(&format!("\"seq\":{fresh}}}")) {
                return;
            }
        }
    };
    time::timeout(PATIENCE, arrives).await.expect("it arrives");
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    rig.is_acknowledged(fresh).await;
    rig.stop().await;
}

/// What the fresh lane has brought over isn't sent again by a later connection,
/// and nothing is missing at the end.
#[tokio::test]
async fn what_was_sent_ahead_is_remembered_over_broken_connections() {
    let server = Server::start().await;
    let address = server.address;
    let mut rig = Rig::start(&server.url, "order = \"live-first\"\ndrain_rate = 1500").await;
    rig.is(State::Online).await;
    server.stop().await;
    rig.is(State::Offline).await;
    let old = backlog(&mut rig, 6_000).await;
    let server = Server::on(address).await;
    let mut inbox = server.listen();
    let mut last = old;
    for _ in 0..4 {
        rig.is(State::Online).await;
        for _ in 0..5 {
            last = rig.read(10).await;
            time::sleep(Duration::from_millis(60)).await;
        }
        server.handle.cut();
        rig.is(State::Offline).await;
    }
    rig.is(State::Online).await;
    let seqs: Vec<u64> =
        until_all(&mut inbox, last).await.into_iter().map(|(seq, _)| seq).collect();
    let fresh = seqs.iter().filter(|seq| **seq > old).count() as u64;
    assert!(fresh - (last - old) <= 100, "{} sent twice", fresh - (last - old));
    assert!(seqs.len() as u64 - last <= 400, "no more than was in flight, four times");
    rig.is_acknowledged(last).await;
    rig.stop().await;
}

#[tokio::test]
async fn a_broker_that_throttles_gets_no_more_messages_than_it_wants() {
    let server = Server::start().await;
    let mut inbox = server.listen();
    let mut rig = Rig::start(&server.url, "rate_limit = 100").await;
    rig.is(State::Online).await;
    let begun = Instant::now();
    let last = rig.read(150).await;
    inbox.seqs_until(last).await;
    let took = begun.elapsed();
    assert!((1_300..3_000).contains(&took.as_millis()), "{took:?}");
    rig.is_acknowledged(150).await;
    rig.stop().await;
}
