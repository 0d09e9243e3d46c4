//! What a client does to hold the gateway up.

use std::time::Duration;

use futures_util::SinkExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, sleep, timeout};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};

use super::support::{Client, Dashboard, LONG, open, quick, talk};
use crate::Config;
use crate::http::Limits;

/// Waits for the end of a stream, however it comes.
async fn closed(stream: &mut TcpStream) -> Duration {
    let start = Instant::now();
    let mut buffer = [0; 1024];
    let end = async { while stream.read(&mut buffer).await.is_ok_and(|n| n > 0) {} };
    timeout(LONG, end).await.expect("closed");
    start.elapsed()
}

#[tokio::test]
async fn half_open_connections_are_closed() {
    assert!(Limits::default().head < Duration::from_secs(10));
    let limits = quick();
    let dashboard = Dashboard::with(Config::default(), limits).await;
    for start in ["", "G", "GET / HTTP/1.1\r\n", "GET / HTTP/1.1\r\nHost: localhost\r\nX: "] {
        let mut stream = dashboard.connect().await;
        stream.write_all(start.as_bytes()).await.unwrap();
        let took = closed(&mut stream).await;
        assert!(took < limits.head * 4, "{start:?} took {took:?}");
    }
    // An answered connection that asks nothing more.
    let mut stream = dashboard.connect().await;
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    assert!(closed(&mut stream).await < limits.head * 4);
}

#[tokio::test]
async fn a_head_that_comes_byte_by_byte_is_not_waited_for() {
    let limits = quick();
    let dashboard = Dashboard::with(Config::default(), limits).await;
    let stream = dashboard.connect().await;
    let (mut from, mut to) = stream.into_split();
    let start = Instant::now();
    let drip = async {
        to.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n").await.unwrap();
        while to.write_all(b"x").await.is_ok() {
            sleep(Duration::from_millis(50)).await;
        }
    };
    let end = async {
        let mut buffer = [0; 256];
        while from.read(&mut buffer).await.is_ok_and(|n| n > 0) {}
    };
    let both = async {
        tokio::select! { () = drip => (), () = end => () }
    };
    timeout(LONG, both).await.expect("closed");
    assert!(start.elapsed() < limits.head * 4);
}

#[tokio::test]
async fn the_page_answers_while_hundreds_of_connections_hang() {
    let dashboard = Dashboard::start().await;
    let mut hanging = Vec::new();
    for _ in 0..400 {
        hanging.push(dashboard.connect().await);
    }
    // Of each kind that stalls: nothing at all, half a line, half a head.
    for (at, stream) in hanging.iter_mut().enumerate() {
        let starts = ["", "GE", "GET / HTTP/1.1\r\nHost: local"];
        stream.write_all(starts[at % 3].as_bytes()).await.unwrap();
    }
    let began = Instant::now();
    let all = futures_util::future::join_all(hanging.iter_mut().map(closed));
    tokio::pin!(all);
    let mut slowest = Duration::ZERO;
    loop {
        tokio::select! {
            _ = &mut all => break,
            () = sleep(Duration::from_millis(100)) => {
                let start = Instant::now();
                assert_eq!(dashboard.get("/").await.status, 200);
                slowest = slowest.max(start.elapsed());
            }
        }
    }
    assert!(began.elapsed() < Duration::from_secs(10), "closed after {:?}", began.elapsed());
    // 200 ms where the tests of other crates don't run beside it.
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
}

#[tokio::test]
async fn beyond_the_limit_connections_are_closed_at_once() {
    let limits = Limits { connections: 3, head: LONG, ..quick() };
    let dashboard = Dashboard::with(Config::default(), limits).await;
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(dashboard.feed().await);
    }
    assert!(closed(&mut dashboard.connect().await).await < Duration::from_secs(5));
    // The control socket has places of its own.
    let control = UnixStream::connect(&dashboard.control).await.unwrap();
    let head = "GET /healthz HTTP/1.1\r\nHost: tidemill\r\nConnection: close\r\n";
    assert_eq!(talk(control, head).await.status, 200);
    held.pop();
    while dashboard.hub.clients() > 2 {
        sleep(Duration::from_millis(10)).await;
    }
    sleep(Duration::from_millis(100)).await;
    assert_eq!(dashboard.get("/healthz").await.status, 200);
}

#[tokio::test]
async fn a_huge_head_is_refused() {
    let dashboard = Dashboard::start().await;
    let long = format!("X-Long: {}", "x".repeat(64 << 10));
    assert_eq!(dashboard.ask("GET /", &[&long]).await.status, 431);
    let many: Vec<String> = (0..100).map(|n| format!("X-{n}: y")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert_eq!(dashboard.ask("GET /", &many).await.status, 431);
    let body = dashboard.ask("POST /api/v1/status", &["Content-Length: 1000000000"]).await;
    assert_eq!(body.status, 413);
}

#[tokio::test]
async fn an_answer_that_is_not_read_is_given_up() {
    let limits = quick();
    let mut dashboard = Dashboard::with(Config::default(), limits).await;
    dashboard.keep("weather/temperature", 20_000).await;
    let stream = narrow(&dashboard).await;
    let mut stream = stream;
    let head =
        "GET /api/v1/readings?channel=weather/temperature HTTP/1.1\r\nHost: localhost\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    // As long as the write may stall, and some more for the query.
    sleep(limits.write * 2).await;
    let mut got = Vec::new();
    let end = timeout(LONG, stream.read_to_end(&mut got)).await.expect("closed");
    assert!(end.is_err() || !got.ends_with(b"\r\n0\r\n\r\n"), "{} bytes", got.len());
    // Its place is free again.
    let json = dashboard.json("/api/v1/readings?channel=weather/temperature").await;
    assert_eq!(json["readings"].as_array().unwrap().len(), 20_000);
}

/// A connection whose kernel takes little before the reader must.
async fn narrow(dashboard: &Dashboard) -> TcpStream {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect(dashboard.address).await.unwrap()
}

async fn narrow_feed(dashboard: &Dashboard) -> Client<TcpStream> {
    let stream = narrow(dashboard).await;
    open(stream, &dashboard.address.to_string(), &[]).await.unwrap()
}

#[tokio::test]
async fn a_slow_reader_skips_and_a_healthy_one_gets_all() {
    const STEPS: u64 = 40;
    const STEP: u64 = 1500;
    let mut dashboard = Dashboard::start().await;
    let mut slow = narrow_feed(&dashboard).await;
    let mut healthy = dashboard.feed().await;
    healthy.frame("hello").await;
    let mut got = Vec::new();
    for step in 1..=STEPS {
        dashboard.publish("weather/temperature", STEP - 1);
        dashboard.publish("panel/door", 1);
        while got.len() < usize::try_from(step * STEP).unwrap() {
            got.extend(healthy.seqs().await);
        }
    }
    assert_eq!(got, (1..=STEPS * STEP).collect::<Vec<_>>());
    let (mut got, mut skipped) = (Vec::new(), 0);
    while got.last() != Some(&(STEPS * STEP)) {
        let text = slow.message().await.unwrap().unwrap();
        let Message::Text(text) = text else { continue };
        let frame: serde_json::Value = serde_json::from_str(&text).unwrap();
        match frame["type"].as_str().unwrap() {
            "readings" => got.extend(super::support::seqs(&frame)),
            "skipped" => skipped += frame["count"].as_u64().unwrap(),
            _ => (),
        }
    }
    assert!(skipped > 0);
    assert!(got.is_sorted_by(|a, b| a < b));
    assert_eq!(got.len() as u64 + skipped, STEPS * STEP, "got or told");
    assert_eq!(dashboard.hub.skipped(), skipped);
}

#[tokio::test]
async fn a_client_that_does_not_read_is_closed() {
    let patience = Limits::default().feed;
    assert!(patience.silence.max(patience.write) <= Duration::from_secs(30));
    let limits = quick();
    let dashboard = Dashboard::with(Config::default(), limits).await;
    let idle = dashboard.feed().await;
    let mut reads = dashboard.feed().await;
    let start = Instant::now();
    while dashboard.hub.clients() > 1 {
        // Reading answers the pings.
        let _ = timeout(Duration::from_millis(50), reads.message()).await;
        assert!(start.elapsed() < limits.feed.silence * 4, "still there");
    }
    drop(idle);
    // The one that reads stays as long as it likes.
    let until = Instant::now() + limits.feed.silence * 2;
    while Instant::now() < until {
        let _ = timeout(Duration::from_millis(50), reads.message()).await;
    }
    assert_eq!(dashboard.hub.clients(), 1);
}

#[tokio::test]
async fn what_is_not_understood_is_told_and_forgiven() {
    let mut dashboard = Dashboard::start().await;
    let mut client = dashboard.feed().await;
    for bad in ["", "{", "[]", r#"{"type":"dance"}"#, r#"{"type":"subscribe","channels":["A B"]}"#]
    {
        client.say(bad).await;
        let frame = client.frame("error").await;
        assert!(!frame["error"].as_str().unwrap().is_empty(), "{bad}");
    }
    client.0.send(Message::binary(vec![1, 2, 3])).await.unwrap();
    client.frame("error").await;
    let long = format!(r#"{{"type":"{}"}}"#, "x".repeat(10_000));
    client.say(&long).await;
    assert!(client.frame("error").await["error"].as_str().unwrap().len() < 300);
    dashboard.publish("weather/temperature", 1);
    assert_eq!(client.seqs().await, [1], "still fed");
}

#[tokio::test]
async fn what_breaks_the_protocol_is_closed_with_its_code() {
    let dashboard = Dashboard::start().await;
    let raw = |payload: Vec<u8>, opcode| Message::Frame(Frame::message(payload, opcode, true));
    let text = OpCode::Data(Data::Text);
    let table = [
        (Message::text("x".repeat(17 << 10)), 1009),
        (raw(vec![0xff, 0xfe], text), 1007),
        (raw(vec![], OpCode::Data(Data::Reserved(3))), 1002),
        (raw(vec![b'x'], OpCode::Data(Data::Continue)), 1002),
    ];
    for (message, code) in table {
        let mut client = dashboard.feed().await;
        client.frame("hello").await;
        client.0.send(message).await.unwrap();
        assert_eq!(client.end().await, code);
    }
}

#[tokio::test]
async fn what_is_compressed_is_bounded_like_the_rest() {
    use crate::ws::agree;
    use std::io::{Read as _, Write as _};

    assert!(agree(["permessage-deflate"].into_iter()).is_some());
    let dashboard = Dashboard::start().await;
    let mut stream = dashboard.connect().await;
    let head = format!(
        "GET /api/v1/live HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\n\
         Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: OfMWmQZlMFBWe/o7k1CzZg==\r\n\
         Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\r\n",
        dashboard.address
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    // 10 MiB in 10 KiB; masked with zeros, which changes nothing.
    let level = flate2::Compression::best();
    let mut bomb = flate2::write::DeflateEncoder::new(Vec::new(), level);
    bomb.write_all(&vec![b'x'; 10 << 20]).unwrap();
    let bomb = bomb.finish().unwrap();
    assert!(bomb.len() < 16 << 10, "{}", bomb.len());
    let mut frame = vec![0xc1, 0xfe];
    frame.extend(u16::try_from(bomb.len()).unwrap().to_be_bytes());
    frame.extend([0; 4]);
    frame.extend(bomb);
    stream.write_all(&frame).await.unwrap();
    let mut all = Vec::new();
    timeout(LONG, stream.read_to_end(&mut all)).await.unwrap().unwrap();
    let close = all.windows(4).rev().find(|bytes| bytes[0] == 0x88).expect("a close frame");
    assert_eq!(u16::from_be_bytes([close[2], close[3]]), 1009);
    // What it is sent meanwhile was compressed.
    let at = all.windows(4).position(|end| end == b"\r\n\r\n").unwrap() + 4;
    assert_eq!(all[at], 0xc1, "hello is compressed");
    let length = usize::from(u16::from_be_bytes([all[at + 2], all[at + 3]]));
    let small = [&all[at + 4..at + 4 + length], &[0, 0, 0xff, 0xff]].concat();
    let mut hello = vec![0; 64 << 10];
    let read = flate2::read::DeflateDecoder::new(&small[..]).read(&mut hello).unwrap();
    assert!(hello[..read].starts_with(br#"{"type":"hello""#));
}

#[tokio::test]
async fn a_path_leads_nowhere_but_to_the_page() {
    let dashboard = Dashboard::start().await;
    for path in [
        "/../access.json",
        "/%2e%2e/access.json",
        "/..%2faccess.json",
        "/assets/../../../etc/passwd",
        "/assets/%2e%2e%2f%2e%2e%2fetc/passwd",
        "//etc/passwd",
        "/etc/passwd%00.html",
        "/.git/config",
        "/api/v1/../../etc/passwd",
    ] {
        let answer = dashboard.get(path).await;
        assert!((400..500).contains(&answer.status), "{path}: {}", answer.status);
        assert!(!answer.body.contains("root:"), "{path}");
    }
}

#[tokio::test]
async fn a_flood_of_messages_is_taken_at_a_pace() {
    let mut dashboard = Dashboard::start().await;
    let mut flood = dashboard.feed().await;
    let mut other = dashboard.feed().await;
    let start = Instant::now();
    for _ in 0..100 {
        flood.say("?").await;
    }
    dashboard.publish("weather/temperature", 1);
    assert_eq!(other.seqs().await, [1], "nobody else waits");
    for _ in 0..100 {
        flood.frame("error").await;
    }
    // The burst at once, the rest at their pace.
    assert!(start.elapsed() > Duration::from_secs(1), "{:?}", start.elapsed());
}
