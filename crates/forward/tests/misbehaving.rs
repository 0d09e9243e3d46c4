//! What real brokers and networks do, and what must not be lost by it.

use std::net::Ipv4Addr;
use std::time::Duration;

use forward::State;
use forward::handshake::Accept;
use reading::Datum;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::{self, Instant};

use crate::support::{Rig, Server, first_occurrences};

#[tokio::test]
async fn acknowledgements_in_any_order_doubled_or_invented_move_the_cursor_rightly() {
    for version in [4, 5] {
        let server = Server::start().await;
        server.handle.bend(|bent| {
            bent.reverse_pubacks = true;
            bent.double_pubacks = true;
        });
        let mut inbox = server.listen();
        let mut rig = Rig::start(&server.url, &format!("version = {version}")).await;
        rig.is(State::Online).await;
        let last = rig.read(3_000).await;
        let seqs = inbox.seqs_until(last).await;
        assert_eq!(seqs, (last - 2_999..=last).collect::<Vec<_>>());
        rig.is_acknowledged(3_000).await;
        rig.stop().await;
    }
}

#[tokio::test]
async fn without_puback_nothing_is_forgotten() {
    let server = Server::start().await;
    server.handle.bend(|bent| bent.withhold_pubacks = true);
    let mut inbox = server.listen();
    let mut rig = Rig::start(&server.url, "ack_timeout = \"300ms\"").await;
    let last = rig.read(10).await;
    rig.fails_with("acknowledged nothing for 300ms").await;
    assert_eq!(rig.ledger().acknowledged, 0);
    server.handle.bend(|bent| bent.withhold_pubacks = false);
    let seqs = inbox.seqs_until(last).await;
    assert_eq!(first_occurrences(&seqs), (last - 9..=last).collect::<Vec<_>>());
    rig.is_acknowledged(10).await;
    rig.stop().await;
}

#[tokio::test]
async fn a_refused_reading_stays_owed() {
    let server = Server::start().await;
    let mut rig = Rig::start(&server.url, "").await;
    rig.is(State::Online).await;
    // Status and info may be refused without harm.
    server.handle.bend(|bent| bent.puback_reason = Some(0x97));
    rig.read(10).await;
    rig.fails_with("refuses a reading: quota exceeded").await;
    assert_eq!(rig.ledger().acknowledged, 0);
    server.handle.bend(|bent| bent.puback_reason = Some(0x10));
    rig.is_acknowledged(10).await;
    rig.stop().await;
}

/// The broker closes on a certain reading: that one is given up, the others
/// arrive, and the gap says so.
#[tokio::test]
async fn a_message_that_breaks_the_connection_is_quarantined_and_the_rest_flows() {
    for (version, format) in [(5, "json"), (4, "json"), (5, "senml")] {
        let server = Server::start().await;
        server.handle.bend(|bent| bent.close_on = Some("poison".to_owned()));
        let mut inbox = server.listen();
        let text = format!("version = {version}\nformat = \"{format}\"\ninflight = 20");
        let mut rig = Rig::start(&server.url, &text).await;
        rig.is(State::Online).await;
        let before = rig.read(50).await;
        let poison = [Datum::from("poison")].into_iter();
        let poison = rig.read_values("weather/note", poison).await;
        let last = rig.read(50).await;
        let begun = Instant::now();
        let seqs = inbox.seqs_until(last).await;
        assert!(begun.elapsed() < Duration::from_secs(30));
        let rest: Vec<u64> = (before - 49..=last).filter(|seq| *seq != poison).collect();
        assert_eq!(first_occurrences(&seqs), rest);
        rig.is_settled(100, 1).await;
        let told = rig.tell_losses().await;
        assert_eq!((told.len(), told[0].count, &*told[0].reason), (1, 1, "refused by the broker"));
        let gap = inbox.next_on("/gaps").await;
        assert!(gap.contains("\"channel\":\"weather/note\",\"reason\":\"refused by"), "{gap}");
        rig.stop().await;
    }
}

/// MQTT 5 has codes for what will never be taken: no connection breaks.
#[tokio::test]
async fn what_the_broker_refuses_for_good_is_dropped_at_once_and_told() {
    for code in [0x87, 0x90, 0x99] {
        let server = Server::start().await;
        server.handle.bend(|bent| bent.refuse_on = Some(("poison".to_owned(), code)));
        let mut inbox = server.listen();
        let mut rig = Rig::start(&server.url, "").await;
        rig.is(State::Online).await;
        rig.read(5).await;
        rig.read_values("weather/note", std::iter::repeat_n(Datum::from("poison"), 3)).await;
        let last = rig.read(5).await;
        let seqs = inbox.seqs_until(last).await;
        assert_eq!(seqs.len(), 10, "none twice");
        rig.is_settled(10, 3).await;
        assert_eq!(rig.tell_losses().await[0].count, 3);
        let gap = inbox.next_on("/gaps").await;
        assert!(gap.contains("\"count\":3") && gap.contains("refused by the broker"), "{gap}");
        rig.stop().await;
    }
}

/// A broker whose settings are wrong refuses everything: little is given up,
/// and it all flows once they are mended.
#[tokio::test]
async fn a_broker_that_refuses_everything_gets_everything_later() {
    let server = Server::start().await;
    let mut inbox = server.listen();
    let mut rig = Rig::start(&server.url, "").await;
    rig.is(State::Online).await;
    server.handle.bend(|bent| bent.puback_reason = Some(0x87));
    let last = rig.read(200).await;
    rig.fails_with("not authorized to publish there").await;
    time::sleep(Duration::from_secs(2)).await;
    let dropped = rig.ledger().dropped;
    assert!(dropped <= 10 && rig.ledger().acknowledged == 0, "{:?}", rig.ledger());
    server.handle.bend(|bent| bent.puback_reason = None);
    inbox.seqs_until(last).await;
    let dropped = rig.ledger().dropped;
    rig.is_settled(200 - dropped, dropped).await;
    rig.stop().await;
}

/// An acknowledgement that is lost for one message holds the cursor there; the
/// next connection sends it again.
#[tokio::test]
async fn a_lost_acknowledgement_is_noticed_and_the_reading_sent_again() {
    let server = Server::start().await;
    server.handle.bend(|bent| bent.lose_puback_on = Some("lost".to_owned()));
    let mut inbox = server.listen();
    let mut rig = Rig::start(&server.url, "ack_timeout = \"500ms\"").await;
    rig.is(State::Online).await;
    rig.read(5).await;
    let lost = rig.read_values("weather/note", ["lost".into()].into_iter()).await;
    let last = rig.read(5).await;
    rig.fails_with("acknowledged nothing for 500ms").await;
    assert_eq!(rig.ledger().acknowledged, 5, "up to the hole");
    server.handle.bend(|bent| bent.lose_puback_on = None);
    let mut seqs = inbox.seqs_until(last).await;
    seqs.extend(inbox.seqs_until(last).await);
    assert_eq!(seqs.iter().filter(|seq| **seq == lost).count(), 2);
    rig.is_acknowledged(11).await;
    rig.stop().await;
}

/// Whether the broker remembers the session or has lost it: nothing is missing,
/// because nothing of a session is relied on.
#[tokio::test]
async fn a_session_that_is_lost_or_claimed_loses_nothing() {
    for version in [4, 5] {
        let server = Server::start().await;
        let mut inbox = server.listen();
        let mut rig = Rig::start(&server.url, &format!("version = {version}")).await;
        let mut last = 0;
        for claim in [true, false, true] {
            server.handle.bend(|bent| bent.claim_session = claim);
            last = rig.read(500).await;
            server.handle.cut();
        }
        let seqs = inbox.seqs_until(last).await;
        assert_eq!(first_occurrences(&seqs), (last - 1_499..=last).collect::<Vec<_>>());
        rig.is_acknowledged(1_500).await;
        rig.stop().await;
    }
}

/// MQTT 3.1.1 has no word for a take-over: a guess, and no fight.
#[tokio::test]
async fn a_silent_take_over_is_guessed() {
    let server = Server::start().await;
    let mut rig = Rig::start(&server.url, "version = 4\nclient_id = \"twin\"").await;
    for _ in 0..3 {
        rig.is(State::Online).await;
        server.handle.cut();
        rig.is(State::Offline).await;
    }
    rig.fails_with("does another client have the id twin?").await;
    rig.stop().await;
}

#[tokio::test]
async fn a_refused_connection_says_why() {
    for (version, code, words) in [
        (4, 5, "not authorized"),
        (4, 1, "set `version = 5`"),
        (4, 2, "set another `client_id`"),
        (4, 3, "isn't available now"),
        (4, 4, "user name or the password"),
        (5, 0x84, "set `version = 4`"),
        (5, 0x85, "set another `client_id`"),
        (5, 0x87, "not authorized: check `username`"),
        (5, 0x89, "it is busy"),
        (5, 0x8A, "this client is banned"),
        (5, 0x90, "check `topic_prefix`"),
        (5, 0x97, "a quota is used up"),
        (5, 0x9C, "another server"),
        (5, 0x86, "user name or the password"),
        (5, 0x88, "isn't available now"),
        (5, 0x9F, "too many connections"),
    ] {
        let server = Server::start().await;
        server.handle.bend(|bent| bent.refuse = Some(code));
        let mut rig = Rig::start(&server.url, &format!("version = {version}")).await;
        let link = rig.fails_with(words).await;
        assert_eq!(link.state, State::Offline);
        server.handle.bend(|bent| bent.refuse = None);
        rig.is(State::Online).await;
        rig.stop().await;
    }
}

#[tokio::test]
async fn a_half_open_link_is_noticed() {
    for version in [4, 5] {
        let server = Server::start().await;
        let text = format!("version = {version}\nkeep_alive = \"1s\"\nack_timeout = \"400ms\"");
        let mut rig = Rig::start(&server.url, &text).await;
        rig.is(State::Online).await;
        // The last retained messages must be through, lest they be what is late.
        rig.read(1).await;
        rig.is_acknowledged(1).await;
        server.handle.bend(|bent| bent.silent = true);
        let link = rig.fails_with("answered nothing for 400ms").await;
        assert_eq!(link.state, State::Offline);
        server.handle.bend(|bent| bent.silent = false);
        rig.is(State::Online).await;
        rig.stop().await;
    }
}

#[tokio::test]
async fn a_broker_that_closes_again_and_again_gets_everything_in_order() {
    let server = Server::start().await;
    server.handle.bend(|bent| bent.close_after = Some(60));
    let mut inbox = server.listen();
    let mut rig = Rig::start(&server.url, "inflight = 10").await;
    rig.is(State::Online).await;
    let last = rig.read(150).await;
    let seqs = inbox.seqs_until(last).await;
    assert_eq!(first_occurrences(&seqs), (last - 149..=last).collect::<Vec<_>>());
    server.handle.bend(|bent| bent.close_after = None);
    rig.is_acknowledged(150).await;
    rig.stop().await;
}

#[tokio::test]
async fn the_broker_s_receive_maximum_is_kept_to() {
    let server = Server::start().await;
    server.handle.bend(|bent| bent.receive_maximum = Some(3));
    let mut inbox = server.listen();
    let mut rig = Rig::start(&server.url, "ack_timeout = \"3s\"").await;
    rig.is(State::Online).await;
    let last = rig.read(500).await;
    inbox.seqs_until(last).await;
    rig.is_acknowledged(500).await;
    assert_eq!(rig.link.borrow().sent, 500, "the broker never ended the connection");
    server.handle.bend(|bent| bent.withhold_pubacks = true);
    rig.read(500).await;
    rig.fails_with("acknowledged nothing").await;
    assert_eq!(rig.link.borrow().sent, 503, "no fourth was sent before an answer");
    server.handle.bend(|bent| bent.withhold_pubacks = false);
    rig.is_acknowledged(1_000).await;
    rig.stop().await;
}

#[tokio::test]
async fn a_broker_that_accepts_and_closes_is_not_hammered() {
    let server = Server::start().await;
    server.handle.bend(|bent| bent.close_at_once = true);
    let mut rig = Rig::start(&server.url, "").await;
    rig.is(State::Offline).await;
    let mut tries = 0;
    let count = async {
        loop {
            rig.link.changed().await.expect("it runs");
            tries += usize::from(rig.link.borrow_and_update().state == State::Online);
        }
    };
    let _ = time::timeout(Duration::from_secs(4), count).await;
    // Waits below 0.5, 1, 2 and 4 s; the floor of 100 ms would allow forty.
    assert!(tries < 15, "{tries} connections in 4 s");
    rig.stop().await;
}

#[tokio::test]
async fn a_second_client_of_the_same_id_is_diagnosed_and_not_fought() {
    let server = Server::start().await;
    let mut rig = Rig::start(&server.url, "client_id = \"twin\"").await;
    rig.is(State::Online).await;
    let mut other = Rig::start(&server.url, "client_id = \"twin\"").await;
    other.is(State::Online).await;
    rig.fails_with("another client has taken the client id over").await;
    time::sleep(Duration::from_secs(1)).await;
    assert_eq!(other.link.borrow().state, State::Online);
    other.stop().await;
    rig.stop().await;
}

#[tokio::test]
async fn a_stop_does_not_wait_for_a_broker_that_is_silent() {
    let server = Server::start().await;
    let mut rig = Rig::start(&server.url, "").await;
    rig.is(State::Online).await;
    server.handle.bend(|bent| bent.silent = true);
    rig.read(10).await;
    let stopped = time::timeout(Duration::from_secs(6), rig.stop()).await;
    assert!(stopped.is_ok(), "three seconds for what is in flight, and a goodbye");
}

/// It takes nothing and sends what must be answered: the answers must not pile
/// up, and the link must be given up.
#[tokio::test]
async fn a_broker_that_floods_and_does_not_read_is_not_read_either() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    let url = format!("mqtt://{}", listener.local_addr().expect("an address"));
    let mut rig = Rig::start(&url, "version = 4\nack_timeout = \"5s\"").await;
    let (mut stream, _) = listener.accept().await.expect("the forwarder");
    let mut connect = [0; 16];
    stream.read_exact(&mut connect).await.expect("CONNECT");
    stream.write_all(&[0x20, 2, 0, 0]).await.expect("it reads");
    let publish = [0x32, 5, 0, 1, b'a', 0, 7].repeat(1_000);
    let begun = Instant::now();
    let stalled = loop {
        // The write is stuck once the buffers of both ends are full.
        match time::timeout(Duration::from_secs(1), stream.write_all(&publish)).await {
            Ok(written) => written.expect("it isn't given up before the buffers are full"),
            Err(_) => break begun.elapsed(),
        }
    };
    assert!(stalled < Duration::from_secs(5), "{stalled:?}");
    let link = rig.fails_with("for 5s").await;
    assert_eq!(link.state, State::Offline);
    rig.stop().await;
}

/// Answers every handshake with the same head, in which KEY stands for the
/// right accept value.
async fn answering(listener: TcpListener, answer: &str) {
    loop {
        let (mut stream, _) = listener.accept().await.expect("the forwarder");
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            if stream.read_buf(&mut request).await.is_ok_and(|length| length == 0) {
                break;
            }
        }
        let request = String::from_utf8_lossy(&request);
        let key = request.split("Sec-WebSocket-Key: ").nth(1).and_then(|rest| rest.lines().next());
        let accept = Accept::of(key.unwrap_or_default()).value;
        // It may be gone already.
        let _ = stream.write_all(answer.replace("KEY", &accept).as_bytes()).await;
    }
}

#[tokio::test]
async fn a_handshake_that_fails_says_what_to_set() {
    const UPGRADE: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
        Connection: Upgrade\r\nSec-WebSocket-Accept: KEY\r\n";
    let none = format!("{UPGRADE}\r\n");
    let other = format!("{UPGRADE}Sec-WebSocket-Protocol: stomp\r\n\r\n");
    let wrong = none.replace("KEY", "AAAA");
    for (answer, words) in [
        ("HTTP/1.1 404 Not Found\r\n\r\n", "404 Not Found instead of 101: check the path"),
        ("HTTP/1.1 403 Forbidden\r\n\r\n", "check `origin`"),
        ("HTTP/1.1 200 OK\r\n\r\n", "that is a web server"),
        ("HTTP/1.1 301 Moved\r\nLocation: /\r\n\r\n", "it redirects"),
        (none.as_str(), "didn't choose the subprotocol mqtt"),
        (other.as_str(), "chose another subprotocol than mqtt"),
        (wrong.as_str(), "WebSocket: "),
        ("nonsense\r\n\r\n", "WebSocket: "),
    ] {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let url = format!("ws://{}/mqtt", listener.local_addr().expect("an address"));
        let mut rig = Rig::start(&url, "").await;
        tokio::select! {
            link = rig.fails_with(words) => assert_eq!(link.state, State::Offline),
            () = answering(listener, answer) => (),
        }
        rig.stop().await;
    }
}
