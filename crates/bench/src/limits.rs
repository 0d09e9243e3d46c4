//! The same work bare: what this machine could do if there were nothing but a
//! serial line, nothing but a store, nothing but a broker.

use std::io::Read as _;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use reading::Timestamp;
use rumqttc::mqttbytes::v4::{Connect, Packet, Publish};
use rumqttc::mqttbytes::{Error, QoS};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions as _, Connection as _, QueryBuilder, Sqlite};
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::{self, Message, WebSocket};

use crate::load::percentile;
use crate::support::{Broker, PATIENCE, Port};
use crate::usage;

/// Publishes not yet acknowledged, as the gateway's default has it.
const WINDOW: u64 = 100;

/// Bytes of publishes gathered in one frame.
const FRAME: usize = 16 * 1024;

/// A reading as the gateway writes it, 146 bytes.
const JSON: &str = r#"{"epoch":"9f2c44e01a7b3d58","seq":1234567,"time":"2026-11-24T08:20:03.123456Z","value":1795508403123456,"unit":"Cel","quality":"good"}"#;

/// A record of a pack.
const SENML: &str =
    r#"{"n":"weather/n","t":-0.123456,"v":1795508403123456,"u":"Cel","seq":1234567}"#;

/// One bare part.
#[derive(Default)]
pub(crate) struct Bare {
    pub(crate) per_second: f64,
    pub(crate) cpu_per_100k: f64,
    /// To disk, each.
    pub(crate) bytes: f64,
}

pub(crate) struct Limits {
    pub(crate) pty: Bare,
    pub(crate) inserts_1000: Bare,
    pub(crate) inserts_100: Bare,
    pub(crate) publishes: Bare,
    /// Readings, a hundred in each publish.
    pub(crate) packs: Bare,
    /// Sorted.
    latencies: Vec<Duration>,
}

impl Limits {
    pub(crate) fn measure(rate: u64) -> Limits {
        let pack = format!("[{}]", vec![SENML; 100].join(","));
        Limits {
            pty: pty(500_000),
            inserts_1000: inserts(1_000_000, 1_000),
            inserts_100: inserts(100_000, 100),
            publishes: publishes(100_000, JSON, 1),
            packs: publishes(5_000, &pack, 100),
            latencies: latencies(rate, rate * 5),
        }
    }

    pub(crate) fn latency(&self, part: f64) -> Duration {
        percentile(&self.latencies, part)
    }
}

fn bare(count: u64, began: Instant, cpu: f64, written: u64) -> Bare {
    let count = count as f64;
    Bare {
        per_second: count / began.elapsed().as_secs_f64(),
        cpu_per_100k: cpu / count * 1e5,
        bytes: written as f64 / count,
    }
}

/// Reads lines and counts them, nothing more.
fn pty(lines: u64) -> Bare {
    let mut port = Port::new();
    let mut other_end = port.open_other_end();
    let began = Instant::now();
    let feeder = std::thread::spawn(move || {
        let line = "{\"n\":1795508403123456}\n".repeat(32);
        for _ in 0..lines / 32 {
            port.write(line.as_bytes());
        }
        port
    });
    let cpu = usage::thread_cpu();
    let mut seen = 0;
    let mut buffer = vec![0; 16 * 1024];
    while seen < lines / 32 * 32 {
        let n = other_end.read(&mut buffer).unwrap();
        seen += buffer[..n].iter().filter(|&&byte| byte == b'\n').count() as u64;
    }
    let bare = bare(seen, began, usage::thread_cpu() - cpu, 0);
    drop(feeder.join().unwrap());
    bare
}

/// Multi-row inserts, each statement a commit that is safe from a power cut.
fn inserts(rows: u64, a_commit: u64) -> Bare {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let options = SqliteConnectOptions::new()
        .filename(dir.path().join("bare.db"))
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full);
    runtime.block_on(async {
        let mut connection = options.connect().await.unwrap();
        let table = "create table log (seq integer primary key, time integer, channel integer, \
                     value real)";
        sqlx::query(table).execute(&mut connection).await.unwrap();
        let (cpu, written, began) = (usage::cpu("self"), usage::written("self"), Instant::now());
        for first in (0..rows).step_by(usize::try_from(a_commit).unwrap()) {
            let mut query: QueryBuilder<Sqlite> = QueryBuilder::new("insert into log ");
            query.push_values(first..first + a_commit, |mut row, seq| {
                let seq = i64::try_from(seq).unwrap();
                row.push_bind(seq).push_bind(1_795_508_403_123_456 + seq);
                row.push_bind(1_i64).push_bind(21.5);
            });
            query.build().execute(&mut connection).await.unwrap();
        }
        let (cpu, written) = (usage::cpu("self") - cpu, usage::written("self") - written);
        let bare = bare(rows, began, cpu, written);
        connection.close().await.unwrap();
        bare
    })
}

/// Publishes with a window, several in a frame, to a broker that passes them on
/// to a subscriber; `each` readings in one.
fn publishes(count: u64, payload: &str, each: u64) -> Bare {
    let broker = Broker::start_with("max_inflight_messages 0");
    let subscriber = broker.subscribe("bare");
    let listener = std::thread::spawn(move || {
        (0..count).for_each(|_| drop(subscriber.poll(PATIENCE).expect("passed on")));
    });
    let mut publisher = Publisher::connect(&broker.url());
    let cpu = usage::thread_cpu();
    let began = Instant::now();
    while publisher.acknowledged < count {
        while publisher.sent < count && publisher.in_flight() < WINDOW {
            publisher.publish(payload);
        }
        publisher.flush();
        publisher.wait();
    }
    let cpu = usage::thread_cpu() - cpu;
    listener.join().unwrap();
    bare(count * each, began, cpu, 0)
}

/// From publishing to the subscriber, one at a time, at the paced run's rate.
fn latencies(rate: u64, count: u64) -> Vec<Duration> {
    let broker = Broker::start_with("max_inflight_messages 0");
    let subscriber = broker.subscribe("bare");
    let mut publisher = Publisher::connect(&broker.url());
    let listener = std::thread::spawn(move || {
        let next = |_| {
            let message = subscriber.poll(PATIENCE).expect("passed on");
            let sent = std::str::from_utf8(&message.payload).unwrap().parse().unwrap();
            message.at.since(Timestamp::from_micros(sent))
        };
        let mut all: Vec<Duration> = (0..count).map(next).collect();
        all.sort_unstable();
        all
    });
    let began = Instant::now();
    for n in 0..count {
        let due = Duration::from_secs_f64(n as f64 / rate as f64);
        std::thread::sleep(due.saturating_sub(began.elapsed()));
        publisher.publish(&Timestamp::now().as_micros().to_string());
        publisher.flush();
        while publisher.in_flight() > 0 {
            publisher.wait();
        }
    }
    listener.join().unwrap()
}

/// The least that publishes over WebSocket.
struct Publisher {
    socket: WebSocket<TcpStream>,
    out: BytesMut,
    input: BytesMut,
    sent: u64,
    acknowledged: u64,
}

impl Publisher {
    fn connect(url: &str) -> Publisher {
        let mut request = url.into_client_request().unwrap();
        let subprotocol = HeaderValue::from_static("mqtt");
        request.headers_mut().insert("Sec-WebSocket-Protocol", subprotocol);
        let stream = TcpStream::connect(request.uri().authority().unwrap().as_str()).unwrap();
        stream.set_nodelay(true).unwrap();
        let (socket, _) = tungstenite::client(request, stream).unwrap();
        let (out, input) = (BytesMut::new(), BytesMut::new());
        let mut publisher = Publisher { socket, out, input, sent: 0, acknowledged: 0 };
        Connect::new("bare").write(&mut publisher.out).unwrap();
        publisher.flush();
        publisher.wait();
        publisher
    }

    fn in_flight(&self) -> u64 {
        self.sent - self.acknowledged
    }

    fn publish(&mut self, payload: &str) {
        let mut publish = Publish::new("bare", QoS::AtLeastOnce, payload);
        publish.pkid = u16::try_from(self.sent % 65_535 + 1).unwrap();
        publish.write(&mut self.out).unwrap();
        self.sent += 1;
        if self.out.len() > FRAME {
            self.flush();
        }
    }

    fn flush(&mut self) {
        if !self.out.is_empty() {
            let frame = Message::Binary(self.out.split().freeze());
            self.socket.send(frame).unwrap();
        }
    }

    /// Until the broker has said something.
    fn wait(&mut self) {
        if let Message::Binary(bytes) = self.socket.read().unwrap() {
            self.input.extend_from_slice(&bytes);
        }
        loop {
            match Packet::read(&mut self.input, FRAME) {
                Ok(Packet::PubAck(_)) => self.acknowledged += 1,
                Ok(_) => {}
                Err(Error::InsufficientBytes(_)) => return,
                Err(error) => panic!("mosquitto sent what isn't MQTT: {error}"),
            }
        }
    }
}
