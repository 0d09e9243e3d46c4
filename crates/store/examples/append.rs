//! What the store takes and gives on this machine, and what it writes.
//!
//! `cargo run --release -p store --example append -- [FOLDER] [steady]`

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
/// Seconds at each steady rate, after so many that don't count.
const STEADY: u64 = 30;
const SETTLE: u64 = 5;

type Outcome = Result<(), Box<dyn std::error::Error>>;

#[tokio::main]
async fn main() -> Outcome {
    let folder = std::env::args().nth(1).map_or_else(std::env::temp_dir, PathBuf::from);
    let path = folder.join(format!("tidemill-append-{}.db", std::process::id()));
    if std::env::args().nth(2).is_none() {
        full_speed(&path).await?;
    }
    for rate in [10, 100, 1_000] {
        steady(&path, rate).await?;
    }
    remove(&path);
    Ok(())
}

async fn open(
    path: &Path,
) -> Result<(Store, Appender, store::Writer, Cursor, Channel), Box<dyn std::error::Error>> {
    let channel: Channel = "weather/temperature".parse()?;
    let spec = ChannelSpec {
        channel: channel.clone(),
        kind: Kind::Number,
        unit: Unit::of("Cel"),
        label: None,
        range: None,
        output: false,
    };
    let subscription = Subscription { forwarder: "cloud".into(), channels: vec![Pattern::any()] };
    let config = Config { path: path.to_owned(), ..Config::default() };
    let (store, appender, writer, mut cursors) =
        Store::open(&config, &[spec], &[subscription]).await?;
    let cursor = cursors.remove(0);
    Ok((store, appender, writer, cursor, channel))
}

fn records(appender: &Appender, channel: &Channel, count: u64) -> Vec<Record> {
    let (epoch, first) = (appender.epoch(), appender.next());
    let record = |n| {
        let value =
            Value::Good(Datum::Number(20.0 + f64::from(u32::try_from(n % 97).unwrap_or(0)) / 10.0));
        let reading = Reading { channel: channel.clone(), at: Timestamp::now(), value };
        Record { epoch, seq: Seq(first.0 + n), body: Body::Reading(reading) }
    };
    (0..count).map(record).collect()
}

async fn full_speed(path: &Path) -> Outcome {
    remove(path);
    let (store, mut appender, writer, cursor, channel) = open(path).await?;
    let before = written();
    let began = Instant::now();
    let append = async {
        let mut dropped = 0;
        for _ in 0..FULL / BATCH {
            let records = records(&appender, &channel, BATCH);
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
    let opened = open(path).await?;
    println!("open:   {:?}, size {} kB", began.elapsed(), opened.0.status().size / 1024);
    Ok(())
}

/// One reading at a time, at a steady rate, acknowledged as it is committed.
async fn steady(path: &Path, rate: u64) -> Outcome {
    remove(path);
    let (store, mut appender, writer, mut cursor, channel) = open(path).await?;
    let status = store.clone();
    let append = async move {
        let mut before = 0;
        let mut tick =
            tokio::time::interval(Duration::from_secs(1) / u32::try_from(rate).unwrap_or(1));
        for n in 0..(SETTLE + STEADY) * rate {
            if n == SETTLE * rate {
                before = written();
            }
            tick.tick().await;
            let records = records(&appender, &channel, 1);
            drop(appender.append(records).await);
        }
        println!("{rate}/s: {:.0} bytes/reading", bytes(before, STEADY * rate));
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
    println!("        {cpu:.1} CPU ms/s, {} stored", status.status().stored);
    Ok(())
}

/// What this program's own clock takes, milliseconds of processor time a second.
async fn ticks_alone(rate: u64) -> f64 {
    let before = cpu();
    let mut tick = tokio::time::interval(Duration::from_secs(1) / u32::try_from(rate).unwrap_or(1));
    for _ in 0..SETTLE * rate {
        tick.tick().await;
    }
    (cpu() - before) / SETTLE as f64
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
