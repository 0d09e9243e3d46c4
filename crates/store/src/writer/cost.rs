//! What a commit costs the card, counted commit by commit and not by the clock.

use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use reading::{Body, Datum, Pattern, Reading, Timestamp, Value};
use tempfile::TempDir;

use super::*;
use crate::{Appender, Cursor, Store, Subscription};

/// The system reads and writes files by pages of so many bytes.
const PAGE: usize = 4_096;

/// What SQLite adds to its log for each page of the file.
const FRAME: usize = 24 + crate::open::PAGE_SIZE as usize;

/// A file as the card has it after the last durable commit.
struct OnCard {
    path: PathBuf,
    bytes: Vec<u8>,
}

impl OnCard {
    /// A durable commit: every page that has changed is written. Says how many.
    fn sync(&mut self) -> usize {
        let mut now = std::fs::read(&self.path).unwrap_or_default();
        let before = |n: usize| {
            let end = self.bytes.len().min((n + 1) * PAGE);
            self.bytes.get(n * PAGE..end).unwrap_or_default()
        };
        let mut changed: Vec<usize> = Vec::new();
        for (n, page) in now.chunks(PAGE).enumerate() {
            if before(n) != page {
                changed.push(n);
            }
        }
        let Some(last) = changed.last().copied() else { return 0 };
        let page = &now[last * PAGE..now.len().min((last + 1) * PAGE)];
        let old = before(last);
        let end = (0..page.len()).rev().find(|at| old.get(*at) != Some(&page[*at]));
        // When a commit is filled up to the end of a page, the rest of its last
        // frame is written after it: that goes with the next.
        if end.is_some_and(|end| end < FRAME) && changed.len() > 1 {
            let old = old.to_vec();
            let begin = last * PAGE;
            now.truncate(begin.max(self.bytes.len()));
            if now.len() > begin {
                now[begin..begin + old.len()].copy_from_slice(&old);
            }
            changed.pop();
        }
        self.bytes = now;
        changed.len()
    }
}

struct Bench {
    _folder: TempDir,
    appender: Appender,
    writer: Writer,
    cursor: Cursor,
    files: [OnCard; 2],
    written: usize,
}

impl Bench {
    async fn new() -> Bench {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tidemill.db");
        let config = Config {
            path: path.clone(),
            // The log beside the file is copied into it twice in a test.
            max_size: ByteSize::mib(8),
            keep: Duration::ZERO,
            ..Config::default()
        };
        let cloud = Subscription { forwarder: "cloud".into(), channels: vec![Pattern::any()] };
        let (_, appender, writer, mut cursors) = Store::open(&config, &[], &[cloud]).await.unwrap();
        let log = PathBuf::from(format!("{}-wal", path.display()));
        let files = [path, log].map(|path| OnCard { path, bytes: Vec::new() });
        let cursor = cursors.remove(0);
        Bench { _folder: folder, appender, writer, cursor, files, written: 0 }
    }

    /// A second in which so many readings come, in commits of so many; the last
    /// is durable, and all are acknowledged.
    async fn second(&mut self, second: u64, readings: u64, each: u64) {
        let channel: Channel = "weather/temperature".parse().unwrap();
        // Old already, so that they are removed.
        let at = Timestamp::now() - Duration::from_secs(3_600);
        for commit in 0..readings / each {
            let first = self.appender.next().0;
            let record = |seq: u64| {
                #[expect(clippy::cast_precision_loss, reason = "a small number")]
                let value = Value::Good(Datum::Number(20.0 + (seq % 97) as f64 / 10.0));
                let reading = Reading { channel: channel.clone(), at, value };
                let epoch = self.appender.epoch();
                Record { epoch, seq: Seq(seq), body: Body::Reading(reading) }
            };
            let records = (first..first + each).map(record).collect();
            self.appender.append(records).await.unwrap();
            let durable = commit == readings / each - 1;
            if durable && second % 60 == 59 {
                self.writer.roll_at = Some(Instant::now());
            }
            self.writer.commit(durable, false).await.unwrap();
            let after = self.cursor.position();
            let (_, through) = self.cursor.unsent(after, 1_000).await.unwrap();
            self.cursor.acknowledge(through);
        }
        if second % 30 == 29 {
            self.writer.retention.age_now();
            self.writer.purge().await.unwrap();
        }
        self.written += self.files.iter_mut().map(OnCard::sync).sum::<usize>() * PAGE;
    }
}

/// Bytes a reading, with figures written, readings removed and the log copied
/// into the file as they go.
async fn bytes(seconds: std::ops::Range<u64>, readings: u64, each: u64) -> f64 {
    let mut bench = Bench::new().await;
    let mut before = 0;
    for second in 0..seconds.end {
        if second == seconds.start {
            before = bench.written;
        }
        bench.second(second, readings, each).await;
    }
    let status = bench.writer.shared.status();
    assert!(status.readings < status.stored / 2, "old ones are removed: {status:?}");
    assert_eq!(status.forwarders[0].pending, 0);
    #[expect(clippy::cast_precision_loss, reason = "it is below 2^53")]
    let (written, count) =
        ((bench.written - before) as f64, ((seconds.end - seconds.start) * readings) as f64);
    written / count
}

/// Promised is a kilobyte. What isn't counted here, the index that SQLite shares
/// with other programs, is written twice a minute: 100 bytes a reading.
#[tokio::test]
async fn a_reading_every_100_ms_costs_less_than_a_kilobyte() {
    let bytes = bytes(60..360, 10, 1).await;
    assert!((500.0..920.0).contains(&bytes), "{bytes:.0} bytes a reading");
}

/// Promised are 300 bytes, the shared index included.
#[tokio::test]
async fn at_100_readings_a_second_each_costs_less_than_300_bytes() {
    // A commit comes every 80 ms.
    let bytes = bytes(60..180, 96, 8).await;
    assert!((50.0..285.0).contains(&bytes), "{bytes:.0} bytes a reading");
}
