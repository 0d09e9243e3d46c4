//! What the store takes and gives on this machine, and what it writes.
//!
//! `cargo run --release -p store --example append -- [FOLDER] [RATE…]`
//!
//! With rates only these are tried, readings a second. Bytes are those that
//! Linux counts for this process, and those that the disk of the folder was
//! given by everybody: quiet, of its own (a loop device), it tells what the
//! file system adds.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use reading::{
    Body, Channel, ChannelSpec, Datum, Kind, Pattern, Reading, Record, Seq, Timestamp, Unit, Value,
};
use store::{Appender, Config, Cursor, Store, Subscription};

/// Readings at full speed.
const FULL: u64 = 2_000_000;
/// Readings a batch at full speed: what a busy port gives at once.
const BATCH: u64 = 64;
/// Seconds at each steady rate, after so many that don't count: figures of
/// minutes are written meanwhile, and readings older than [`KEEP`] removed.
const STEADY: u64 = 120;
const SETTLE: u64 = 65;
const KEEP: Duration = Duration::from_secs(30);

type Outcome = Result<(), Box<dyn std::error::Error>>;

#[tokio::main]
async fn main() -> Outcome {
    let folder = std::env::args().nth(1).map_or_else(std::env::temp_dir, PathBuf::from);
    let path = folder.join(format!("tidemill-append-{}.db", std::process::id()));
    let mut rates: Vec<u64> = std::env::args().skip(2).flat_map(|rate| rate.parse()).collect();
    if rates.is_empty() {
        full_speed(&path).await?;
        rates = vec![10, 100, 1_000];
    }
    for rate in rates {
        for channels in [1, 10] {
            steady(&path, rate, channels).await?;
        }
    }
    remove(&path);
    Ok(())
}

type Opened = (Store, Appender, store::Writer, Cursor);

async fn open(
    path: &Path,
    channels: &[Channel],
    keep: Option<Duration>,
) -> Result<Opened, Box<dyn std::error::Error>> {
    let spec = |channel: &Channel| ChannelSpec {
        channel: channel.clone(),
        kind: Kind::Number,
        unit: Unit::of("Cel"),
        label: None,
        range: None,
        output: false,
    };
    let specs: Vec<_> = channels.iter().map(spec).collect();
    let subscription = Subscription { forwarder: "cloud".into(), channels: vec![Pattern::any()] };
    let mut config = Config { path: path.to_owned(), ..Config::default() };
    config.keep = keep.unwrap_or(config.keep);
    let (store, appender, writer, mut cursors) =
        Store::open(&config, &specs, &[subscription]).await?;
    let cursor = cursors.remove(0);
    Ok((store, appender, writer, cursor))
}

fn channels(count: usize) -> Result<Vec<Channel>, reading::InvalidName> {
    (0..count).map(|n| Channel::new("weather", &format!("temperature_{n}"))).collect()
}

/// Of one channel after another.
fn records(appender: &Appender, channels: &[Channel], count: u64) -> Vec<Record> {
    let (epoch, first) = (appender.epoch(), appender.next());
    let record = |n| {
        let nth = first.0 + n;
        let channel = &channels[usize::try_from(nth).unwrap_or(0) % channels.len()];
        let number = 20.0 + f64::from(u32::try_from(nth % 97).unwrap_or(0)) / 10.0;
        let value = Value::Good(Datum::Number(number));
        let reading = Reading { channel: channel.clone(), at: Timestamp::now(), value };
        Record { epoch, seq: Seq(first.0 + n), body: Body::Reading(reading) }
    };
    (0..count).map(record).collect()
}

async fn full_speed(path: &Path) -> Outcome {
    remove(path);
    let channels = channels(1)?;
    let (store, mut appender, writer, cursor) = open(path, &channels, None).await?;
    let before = written();
    let began = Instant::now();
    let append = async {
        let mut dropped = 0;
        for _ in 0..FULL / BATCH {
            let records = records(&appender, &channels, BATCH);
            dropped += appender.append(records).await.err().map_or(0, |dropped| dropped.count);
        }
        drop(appender);
        let took = began.elapsed();
        // The cursor waits until everything is in the file, then reads it all back.
        let mut cursor = cursor;
        while cursor.wait(Seq(FULL)).await {
            if store.status().committed >= FULL - dropped {
                break;
            }
        }
        let stored = began.elapsed();
        println!(
            "append: {:.0} rows/s ({dropped} dropped, appended after {took:?}, stored after {stored:?})",
            rate(FULL, stored)
        );
        println!("        {:.1} bytes/reading, RSS {} kB", bytes(before, FULL), rss());
        let status = store.status();
        assert_eq!(status.read, status.stored + status.dropped);
        let mut after = Seq(0);
        let (mut count, began) = (0, Instant::now());
        loop {
            let (records, through) = cursor.unsent(after, 1_000).await?;
            if through == after {
                break;
            }
            count += records.len() as u64;
            cursor.acknowledge(through);
            after = through;
        }
        println!("unsent: {:.0} rows/s from the file ({count} rows)", rate(count, began.elapsed()));
        println!("        RSS {} kB, {:?}", rss(), store.status().forwarders);
        Ok::<_, Box<dyn std::error::Error>>(())
    };
    let (written, appended) = tokio::join!(writer.run(), append);
    written?;
    appended?;
    let began = Instant::now();
    let opened = open(path, &channels, None).await?;
    println!("open:   {:?}, size {} kB", began.elapsed(), opened.0.status().size / 1024);
    Ok(())
}

/// One reading at a time, at a steady rate, acknowledged as it is committed,
/// and removed when it is old.
async fn steady(path: &Path, rate: u64, count: usize) -> Outcome {
    remove(path);
    let channels = channels(count)?;
    let (store, mut appender, writer, mut cursor) = open(path, &channels, Some(KEEP)).await?;
    let status = store.clone();
    let append = async move {
        let mut before = (0, 0);
        let mut tick =
            tokio::time::interval(Duration::from_secs(1) / u32::try_from(rate).unwrap_or(1));
        for n in 0..(SETTLE + STEADY) * rate {
            if n == SETTLE * rate {
                before = (written(), given_to_disk(path));
            }
            tick.tick().await;
            let records = records(&appender, &channels, 1);
            drop(appender.append(records).await);
        }
        let readings = (STEADY * rate) as f64;
        let own = (written() - before.0) as f64 / readings;
        let disk = (given_to_disk(path) - before.1) as f64 / readings;
        println!("{rate}/s of {count}: {own:.0} bytes/reading, the disk {disk:.0}");
    };
    let forward = async move {
        let mut after = Seq(0);
        while cursor.wait(after).await {
            let Ok((_, through)) = cursor.unsent(after, 100).await else { break };
            cursor.acknowledge(through);
            after = through;
        }
    };
    let cpu = ticks_alone(rate).await;
    println!("        {cpu:.1} CPU ms/s for the ticks alone");
    let cpu = self::cpu();
    let (written, (), ()) = tokio::join!(writer.run(), append, forward);
    written?;
    let cpu = (self::cpu() - cpu) / (SETTLE + STEADY) as f64;
    let status = status.status();
    println!("        {cpu:.1} CPU ms/s, {} stored, {} left", status.stored, status.readings);
    Ok(())
}

/// What this program's own clock takes, milliseconds of processor time a second.
async fn ticks_alone(rate: u64) -> f64 {
    let before = cpu();
    let mut tick = tokio::time::interval(Duration::from_secs(1) / u32::try_from(rate).unwrap_or(1));
    for _ in 0..5 * rate {
        tick.tick().await;
    }
    (cpu() - before) / 5.0
}

fn rate(count: u64, took: Duration) -> f64 {
    count as f64 / took.as_secs_f64()
}

fn bytes(before: u64, count: u64) -> f64 {
    (written() - before) as f64 / count as f64
}

fn written() -> u64 {
    field("/proc/self/io", "write_bytes: ")
}

/// Bytes that the disk of the folder has been given, by everybody.
fn given_to_disk(path: &Path) -> u64 {
    let folder = path.parent().unwrap_or(path);
    let Ok(folder) = std::fs::metadata(folder) else { return 0 };
    let (major, minor) = (rustix::fs::major(folder.dev()), rustix::fs::minor(folder.dev()));
    let stat = std::fs::read_to_string(format!("/sys/dev/block/{major}:{minor}/stat"));
    // The seventh figure: sectors of 512 bytes.
    let sectors = stat.ok().and_then(|stat| stat.split_whitespace().nth(6)?.parse().ok());
    sectors.map_or(0, |sectors: u64| sectors * 512)
}

fn rss() -> u64 {
    field("/proc/self/status", "VmRSS:")
}

/// Milliseconds of processor time.
fn cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let ticks = stat.split(' ').skip(13).take(2).filter_map(|ticks| ticks.parse::<f64>().ok());
    ticks.sum::<f64>() * 10.0
}

fn field(file: &str, name: &str) -> u64 {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse().unwrap_or(0)
}

fn remove(path: &Path) {
    for suffix in ["", "-wal", "-shm", "-lock"] {
        let mut path = path.as_os_str().to_owned();
        path.push(suffix);
        // It may not be there.
        drop(std::fs::remove_file(path));
    }
}
