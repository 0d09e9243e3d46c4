use std::io::Read;

use forward::State;
use reading::Datum;
use serde_json::Value as Json;

use crate::support::{PATIENCE, Rig, Server, first_occurrences, seq};

/// Every way there is to speak to a broker.
#[tokio::test]
async fn each_reading_arrives_once_and_in_order() {
    for (websocket, version, format) in [
        (true, 5, "json"),
        (true, 4, "json"),
        (true, 5, "senml"),
        (true, 4, "senml"),
        (false, 5, "json"),
        (false, 4, "senml"),
    ] {
        let server = Server::start().await;
        let url = if websocket { &server.url } else { &server.tcp };
        let mut inbox = server.listen();
        let settings = format!("version = {version}\nformat = \"{format}\"");
        let mut rig = Rig::start(url, &settings).await;
        rig.is(State::Online).await;
        let last = rig.read(5_000).await;
        let seqs = inbox.seqs_until(last).await;
        assert_eq!(seqs, (last - 4_999..=last).collect::<Vec<_>>(), "{url} {settings}");
        rig.is_acknowledged(5_000).await;
        let link = rig.link.borrow().clone();
        assert_eq!((link.sent, link.acknowledged, link.in_flight), (5_000, 5_000, 0));
        rig.stop().await;
        assert_eq!(inbox.next_on("/status").await, "offline", "told at an orderly stop");
        server.stop().await;
    }
}

#[tokio::test]
async fn status_and_info_are_found_by_who_comes_later() {
    let server = Server::start().await;
    let mut rig = Rig::start(&server.url, "").await;
    rig.is(State::Online).await;
    let last = rig.read(1).await;
    rig.is_acknowledged(1).await;
    let mut late = server.listen();
    let info: Json = serde_json::from_str(&late.next_on("tidemill/greenhouse/info").await)
        .expect("the description");
    assert_eq!(info["version"], "0.1.0");
    assert_eq!(info["epoch"], rig.store.epoch().to_string());
    assert_eq!(info["devices"][0]["channels"][0]["unit"], "Cel");
    assert_eq!(late.next_on("tidemill/greenhouse/status").await, "online");
    // Readings are not retained: the next that comes is a new one.
    let next = rig.read(1).await;
    assert_eq!(late.seqs_until(next).await, [last + 1]);
    rig.stop().await;
}

#[tokio::test]
async fn a_lost_connection_publishes_the_will_and_is_made_again() {
    let server = Server::start().await;
    let mut rig = Rig::start(&server.url, "").await;
    rig.is(State::Online).await;
    let mut inbox = server.listen();
    assert_eq!(inbox.next_on("/status").await, "online");
    server.handle.cut();
    assert_eq!(inbox.next_on("/status").await, "offline");
    assert_eq!(inbox.next_on("/status").await, "online");
    rig.is(State::Online).await;
    rig.stop().await;
}

#[tokio::test]
async fn what_is_read_while_the_broker_is_away_is_sent_when_it_is_back() {
    let server = Server::start().await;
    let address = server.address;
    let mut inbox = server.listen();
    let mut rig = Rig::start(&server.url, "inflight = 20").await;
    rig.is(State::Online).await;
    let last = rig.read(100).await;
    inbox.seqs_until(last).await;
    rig.is_acknowledged(100).await;
    server.stop().await;
    rig.is(State::Offline).await;
    let last = rig.read(3_000).await;
    let link = rig.fails_with("refuses the connection").await;
    assert!(link.error.is_some_and(|error| error.contains("is the broker running")));
    let server = Server::on(address).await;
    let mut inbox = server.listen();
    let seqs = inbox.seqs_until(last).await;
    assert_eq!(first_occurrences(&seqs), (last - 2_999..=last).collect::<Vec<_>>());
    rig.is_acknowledged(3_100).await;
    rig.stop().await;
}

#[tokio::test]
async fn only_the_channels_asked_for_are_sent() {
    let server = Server::start().await;
    let mut inbox = server.listen();
    let mut rig = Rig::start(&server.url, "channels = [\"panel/*\"]").await;
    rig.is(State::Online).await;
    rig.read(2_000).await;
    let door = rig.read_values("panel/door", [true.into()].into_iter()).await;
    rig.read(2_000).await;
    assert_eq!(inbox.seqs_until(door).await, [door]);
    rig.is_acknowledged(1).await;
    rig.stop().await;
}

#[tokio::test]
async fn a_reading_larger_than_the_broker_takes_is_told_as_a_gap() {
    for format in ["json", "senml"] {
        let server = Server::start().await;
        server.handle.bend(|bent| bent.maximum_packet_size = Some(2_000));
        let mut inbox = server.listen();
        let mut rig = Rig::start(&server.url, &format!("format = \"{format}\"")).await;
        rig.is(State::Online).await;
        let before = rig.read(100).await;
        let large = Datum::from("x".repeat(5_000).as_str());
        let note = rig.read_values("weather/note", [large].into_iter()).await;
        let last = rig.read(100).await;
        assert_eq!((note, last), (before + 1, before + 101));
        let seqs = inbox.seqs_until(last).await;
        let rest: Vec<u64> = (before - 99..=last).filter(|seq| *seq != note).collect();
        assert_eq!(seqs, rest, "the rest flows");
        rig.is_settled(200, 1).await;
        rig.tell_losses().await;
        let gap: Json = serde_json::from_str(&inbox.next_on("/gaps").await).expect("JSON");
        assert_eq!((gap["seq"].as_u64(), gap["count"].as_u64()), (Some(last + 1), Some(1)));
        assert_eq!(gap["reason"], "larger than the broker takes");
        assert_eq!(gap["channel"], "weather/note");
        rig.stop().await;
    }
}

/// Natural batching: what comes one by one over an idle link goes one by one,
/// what comes while it is busy goes together.
#[tokio::test]
async fn a_busy_link_gathers() {
    let server = Server::start().await;
    let mut inbox = server.listen();
    let mut rig = Rig::start(&server.url, "format = \"senml\"").await;
    rig.is(State::Online).await;
    rig.read(1).await;
    let pack = inbox.next_on("/senml").await;
    let records: Json = serde_json::from_str(&pack).expect("JSON");
    assert_eq!(records.as_array().map(Vec::len), Some(1));
    assert_eq!(records[0]["bn"], "greenhouse/");
    let last = rig.read(20_000).await;
    let mut packs = 0;
    loop {
        let records: Json = serde_json::from_str(&inbox.next_on("/senml").await).expect("JSON");
        packs += 1;
        let records = records.as_array().expect("an array");
        if records.last().map(|record| record["seq"] == last) == Some(true) {
            break;
        }
    }
    assert!(packs < 500, "{packs} packs for 20,000 readings");
    rig.is_acknowledged(20_001).await;
    rig.stop().await;
}

#[tokio::test]
async fn compressed_packs_hold_every_reading_in_a_fifth_of_the_bytes() {
    for (kind, version) in [("deflate", 5), ("zstd", 4)] {
        let server = Server::start().await;
        let mut queue = server.handle.subscribe("tidemill/greenhouse/senml", 10_000);
        let text = format!("format = \"senml\"\ncompress = \"{kind}\"\nversion = {version}");
        let mut rig = Rig::start(&server.url, &text).await;
        rig.is(State::Online).await;
        let last = rig.read(20_000).await;
        let (mut seqs, mut packed, mut unpacked) = (Vec::new(), 0, 0);
        while seqs.last() != Some(&last) {
            let message = tokio::time::timeout(PATIENCE, queue.recv()).await.expect("in time");
            let payload = message.expect("the subscription holds").payload;
            assert!(payload.len() <= 15_000);
            let mut text = String::new();
            match kind {
                "zstd" => ruzstd::decoding::StreamingDecoder::new(&payload[..])
                    .expect("a frame")
                    .read_to_string(&mut text),
                _ => flate2::read::ZlibDecoder::new(&payload[..]).read_to_string(&mut text),
            }
            .expect("whole");
            (packed, unpacked) = (packed + payload.len(), unpacked + text.len());
            let records: Json = serde_json::from_str(&text).expect("JSON");
            seqs.extend(records.as_array().expect("an array").iter().map(seq));
        }
        assert_eq!(seqs, (last - 19_999..=last).collect::<Vec<_>>());
        assert!(packed * 5 < unpacked, "{kind}: {unpacked} to {packed}");
        rig.is_acknowledged(20_000).await;
        rig.stop().await;
    }
}

#[tokio::test]
async fn home_assistant_finds_every_channel_that_is_forwarded() {
    let server = Server::start().await;
    let text = "homeassistant = true\nchannels = [\"panel/*\"]\ninflight = 2";
    let mut rig = Rig::start(&server.url, text).await;
    rig.is(State::Online).await;
    rig.read_values("panel/door", [true.into()].into_iter()).await;
    rig.is_acknowledged(1).await;
    // Whoever comes later finds them, too.
    let mut retained = server.handle.subscribe("homeassistant/#", 100);
    let mut topics = Vec::new();
    while let Ok(message) = retained.try_recv() {
        topics.push(message.topic.to_string());
    }
    assert_eq!(
        topics,
        [
            "homeassistant/binary_sensor/greenhouse/panel--door/config",
            "homeassistant/number/greenhouse/panel--level/config",
            "homeassistant/switch/greenhouse/panel--pump/config",
        ]
    );
    rig.stop().await;
}
