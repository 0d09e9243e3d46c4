//! The feed under load: `cargo run --release -p dashboard --example load -- --help`.
//!
//! One process serves readings as the gateway does; another is all its clients,
//! some of which never read. What is printed: the server's memory and processor
//! time, how late a reading arrives, and how soon those that don't read are
//! closed.

#![expect(clippy::unwrap_used, reason = "a measurement may panic")]

use std::collections::HashSet;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use dashboard::{Access, App, Config, Configuration, Hub, Status};
use flate2::{Decompress, FlushDecompress};
use reading::{
    Body, Channel, ChannelSpec, Datum, Kind, Reading, Record, Seq, Timestamp, Unit, Value,
};
use store::Store;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::process::Command;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;

const HELP: &str = "\
load [--clients 500] [--idle 100] [--rate 1000] [--seconds 60] [--plain]

  --clients  WebSocket clients in all
  --idle     of these, so many never read; closed, they come again
  --rate     readings a second
  --plain    without compression";

#[derive(Clone, Copy)]
struct Plan {
    clients: u64,
    idle: u64,
    rate: u64,
    seconds: u64,
    plain: bool,
}

/// Channels that the readings are of.
const CHANNELS: u64 = 20;

/// A reading a millisecond is published one by one, as devices do.
const STEP: Duration = Duration::from_millis(1);

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let mut plan = Plan { clients: 500, idle: 100, rate: 1000, seconds: 60, plain: false };
    let mut client = None;
    while let Some(argument) = arguments.next() {
        let mut number = || arguments.next().unwrap().parse().unwrap();
        match argument.as_str() {
            "--clients" => plan.clients = number(),
            "--idle" => plan.idle = number(),
            "--rate" => plan.rate = number(),
            "--seconds" => plan.seconds = number(),
            "--plain" => plan.plain = true,
            "--client-of" => client = arguments.next(),
            _ => return println!("{HELP}"),
        }
    }
    match client {
        Some(address) => be_clients(plan, &address).await,
        None => serve(plan).await,
    }
}

async fn serve(plan: Plan) {
    let folder = std::env::temp_dir().join(format!("tidemill-load-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let specs: Vec<_> = (0..CHANNELS).map(spec).collect();
    let settings = store::Config { path: folder.join("load.db"), ..store::Config::default() };
    let (store, _appender, _writer, _) = Store::open(&settings, &specs, &[]).await.unwrap();
    let hub = Hub::new("load", store.epoch(), specs.clone());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let app = App {
        config: Config::default(),
        hub: hub.clone(),
        store: store.clone(),
        status: Arc::new(Status::default),
        access: Access::open(&folder.join("access.json")),
        set: Arc::new(|_, _| Box::pin(async { Ok(()) })),
        line: Arc::new(|_| Err("nothing to record".into())),
        configuration: Configuration {
            shown: Arc::new(String::new),
            ask: Arc::new(|_| Box::pin(async { Ok(Vec::new()) })),
        },
    };
    let mut tasks = JoinSet::new();
    let stopped = stop.clone();
    tasks.spawn(async move { dashboard::serve(listener, None, app, stopped).await.unwrap() });
    let epoch = store.epoch();
    tasks.spawn(async move { publish(&hub, epoch, &specs, plan.rate).await });

    sleep(Duration::from_secs(2)).await;
    let (before, cpu) = (memory("VmRSS"), processor());
    let mut command = Command::new(std::env::current_exe().unwrap());
    let numbers = [("--clients", plan.clients), ("--idle", plan.idle), ("--seconds", plan.seconds)];
    for (name, number) in numbers {
        command.arg(name).arg(number.to_string());
    }
    if plan.plain {
        command.arg("--plain");
    }
    command.arg("--client-of").arg(address.to_string()).stdout(Stdio::piped());
    let mut clients = command.spawn().unwrap();
    let mut lines = BufReader::new(clients.stdout.take().unwrap()).lines();
    let mut most = before;
    let began = Instant::now();
    loop {
        most = most.max(memory("VmRSS"));
        match timeout(Duration::from_millis(200), lines.next_line()).await {
            Ok(Ok(Some(line))) => println!("{line}"),
            Ok(_) => break,
            Err(_) => (),
        }
    }
    let share = (processor() - cpu) / began.elapsed().as_secs_f64();
    println!(
        "server: RSS {:.1} MB before, {:.1} MB at most (+{:.1}), {:.0} % of a processor",
        before / 1e3,
        most / 1e3,
        (most - before) / 1e3,
        share * 100.0
    );
    stop.cancel();
    drop(store);
    std::fs::remove_dir_all(&folder).unwrap();
    // What still publishes ends with the process.
    std::process::exit(0);
}

fn spec(n: u64) -> ChannelSpec {
    let channel = format!("device{}/temperature", n).parse().unwrap();
    let (kind, unit) = (Kind::Number, Unit::of("Cel"));
    ChannelSpec { channel, kind, unit, label: None, range: None, output: false }
}

async fn publish(hub: &Hub, epoch: reading::Epoch, specs: &[ChannelSpec], rate: u64) {
    let channels: Vec<Channel> = specs.iter().map(|spec| spec.channel.clone()).collect();
    let mut ticks = interval(STEP);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let (mut seq, mut owed, mut noise) = (0, 0, 1_u64);
    loop {
        ticks.tick().await;
        owed += rate;
        let mut records = Vec::new();
        while owed >= 1000 {
            owed -= 1000;
            seq += 1;
            noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let channel = channels[usize::try_from(seq % CHANNELS).unwrap()].clone();
            let value = f64::from(u16::try_from(noise >> 48).unwrap()) / 100.0;
            let value = Value::Good(Datum::Number(value));
            let reading = Reading { channel, at: Timestamp::now(), value };
            records.push(Record { epoch, seq: Seq(seq), body: Body::Reading(reading) });
        }
        hub.publish(&records);
    }
}

/// What all clients have counted.
#[derive(Default)]
struct Counted {
    readings: AtomicU64,
    bytes: AtomicU64,
    skipped: AtomicU64,
}

async fn be_clients(plan: Plan, address: &str) {
    let counted = Arc::new(Counted::default());
    let (late, mut lates) = mpsc::channel(10_000);
    let (closed, mut closes) = mpsc::channel(10_000);
    let mut tasks = JoinSet::new();
    let (seen, alive) = watch::channel(HashSet::new());
    let port = address.rsplit_once(':').unwrap().1.parse().unwrap();
    tasks.spawn(look(port, seen));
    for n in 0..plan.clients {
        let mut alive = alive.clone();
        let (address, counted) = (address.to_owned(), counted.clone());
        let (late, closed) = (late.clone(), closed.clone());
        tasks.spawn(async move {
            if n < plan.idle {
                loop {
                    let stream = open(&address, true, plan.plain).await;
                    let (began, port) = (Instant::now(), stream.local_addr().unwrap().port());
                    sleep(Duration::from_secs(1)).await;
                    alive.wait_for(|alive| !alive.contains(&port)).await.unwrap();
                    closed.try_send(began.elapsed().as_secs_f64()).unwrap();
                    // As a browser does that finds the gateway gone.
                    sleep(Duration::from_secs(1)).await;
                }
            }
            let mut stream = open(&address, false, plan.plain).await;
            follow(&mut stream, &counted, &late).await;
        });
    }
    let end = Instant::now() + Duration::from_secs(plan.seconds);
    // The first seconds are the handshakes'.
    let settled = Instant::now() + Duration::from_secs(3);
    let mut all: Vec<i64> = Vec::new();
    while Instant::now() < end {
        let Ok(Some(micros)) = timeout(Duration::from_millis(100), lates.recv()).await else {
            continue;
        };
        if Instant::now() > settled {
            all.push(micros);
        }
    }
    all.sort_unstable();
    let at = |share: f64| all[(all.len() as f64 * share) as usize] as f64 / 1e3;
    let seconds = plan.seconds as f64;
    let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed) as f64;
    println!(
        "{} clients, {} of them not reading, {} s, {}",
        plan.clients,
        plan.idle,
        plan.seconds,
        if plan.plain { "plain" } else { "compressed" }
    );
    println!(
        "healthy: {:.0} readings/s each, {:.1} kB/s each, {} skipped; the oldest of a message is \
         {:.0} ms late (p50), {:.0} (p99), {:.0} (most) of {} messages",
        load(&counted.readings) / seconds / (plan.clients - plan.idle) as f64,
        load(&counted.bytes) / 1e3 / seconds / (plan.clients - plan.idle) as f64,
        load(&counted.skipped),
        at(0.5),
        at(0.99),
        at(0.9999),
        all.len()
    );
    let mut closed = Vec::new();
    while let Ok(seconds) = closes.try_recv() {
        closed.push(seconds);
    }
    if let Some(last) = closed.iter().copied().reduce(f64::max) {
        println!("not reading: closed {} times, after {last:.1} s at most", closed.len());
    }
    std::process::exit(0);
}

async fn open(address: &str, narrow: bool, plain: bool) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    if narrow {
        socket.set_recv_buffer_size(4096).unwrap();
    }
    let mut stream = socket.connect(address.parse().unwrap()).await.unwrap();
    let offer = if plain { "" } else { "Sec-WebSocket-Extensions: permessage-deflate\r\n" };
    let head = format!(
        "GET /api/v1/live HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\n\
         Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: OfMWmQZlMFBWe/o7k1CzZg==\r\n{offer}\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(stream.read_u8().await.unwrap());
    }
    assert!(answer.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&answer));
    stream
}

/// The ports whose connection the server has not closed. A FIN waits behind what
/// isn't read, so that a client that doesn't read sees none: the kernel's table
/// of connections is what tells. It is read once for all, since that is slow.
async fn look(server: u16, open: watch::Sender<HashSet<u16>>) {
    // The server's end, established; addresses are hexadecimal there.
    let wanted = format!("0100007F:{server:04X}");
    loop {
        let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
        let ports = table.lines().filter_map(|line| {
            let mut fields = line.split_whitespace().skip(1);
            let (local, remote, state) = (fields.next()?, fields.next()?, fields.next()?);
            let port = remote.rsplit_once(':')?.1;
            (local == wanted && state == "01").then(|| u16::from_str_radix(port, 16).ok())?
        });
        open.send_replace(ports.collect());
        sleep(Duration::from_millis(500)).await;
    }
}

async fn follow(stream: &mut TcpStream, counted: &Counted, late: &mpsc::Sender<i64>) {
    let mut inflater = Decompress::new(false);
    let (mut payload, mut text) = (Vec::new(), Vec::new());
    loop {
        let first = stream.read_u8().await.unwrap();
        let length = match stream.read_u8().await.unwrap() {
            126 => u64::from(stream.read_u16().await.unwrap()),
            127 => stream.read_u64().await.unwrap(),
            short => u64::from(short),
        };
        payload.resize(usize::try_from(length).unwrap(), 0);
        stream.read_exact(&mut payload).await.unwrap();
        counted.bytes.fetch_add(2 + length, Ordering::Relaxed);
        if first & 0x0f == 9 {
            // A pong, masked with zeros.
            stream.write_all(&[0x8a, 0x80, 0, 0, 0, 0]).await.unwrap();
            continue;
        }
        text.clear();
        if first & 0x40 != 0 {
            payload.extend([0, 0, 0xff, 0xff]);
            inflater.reset(false);
            text.reserve(64 << 10);
            inflater.decompress_vec(&payload, &mut text, FlushDecompress::Sync).unwrap();
        } else {
            text.extend_from_slice(&payload);
        }
        let text = std::str::from_utf8(&text).unwrap();
        if text.starts_with(r#"{"type":"readings""#) {
            let now = Timestamp::now();
            counted.readings.fetch_add(text.matches("\"seq\"").count() as u64, Ordering::Relaxed);
            let oldest = text.split_once(r#""time":""#).unwrap().1;
            let oldest: Timestamp = oldest[..oldest.find('"').unwrap()].parse().unwrap();
            // When the reader of these is behind, one measurement less does no harm.
            let _ = late.try_send(now.as_micros() - oldest.as_micros());
        } else if text.starts_with(r#"{"type":"skipped""#) {
            counted.skipped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// A figure of `/proc/self/status`, in kB.
fn memory(name: &str) -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Seconds of processor time that this process has used.
fn processor() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let after = stat.rsplit_once(')').unwrap().1;
    let ticks: Vec<f64> =
        after.split_whitespace().skip(11).take(2).map(|t| t.parse().unwrap()).collect();
    // Linux counts in hundredths for its users.
    (ticks[0] + ticks[1]) / 100.0
}
