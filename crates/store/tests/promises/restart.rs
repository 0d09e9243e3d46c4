use std::time::{Duration, Instant};

use reading::{Body, Datum, Reading, Seq, Value};
use sqlx::Connection;
use store::{Config, Error, Store};

use crate::support::*;

fn readings(count: u64) -> Vec<Body> {
    (0..count).map(|n| number("weather/temperature", at(n as f64), n as f64)).collect()
}

#[tokio::test]
async fn numbers_go_on_and_each_start_has_its_epoch() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path());
    let subscription = [forwarder("cloud", &["*"])];
    let mut epochs = Vec::new();
    for start in 0..3 {
        let mut gateway = open(&config, &subscription).await;
        assert_eq!(gateway.appender.next(), Seq(start * 10 + 1));
        epochs.push(gateway.store.epoch());
        gateway.append(readings(10)).await.unwrap();
        gateway.stop().await;
    }
    assert!(epochs[0] != epochs[1] && epochs[1] != epochs[2]);
    let gateway = open(&config, &subscription).await;
    let (records, _) = drain(&gateway.cursors[0], Seq(0), 7).await;
    assert_eq!(seqs(&records), (1..=30).collect::<Vec<_>>());
    for record in records {
        assert_eq!(record.epoch, epochs[(record.seq.0 as usize - 1) / 10], "{}", record.seq);
    }
    gateway.stop().await;
}

#[tokio::test]
async fn a_position_is_exact_after_an_orderly_stop() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path());
    let subscriptions = [forwarder("a", &["*"]), forwarder("b", &["panel/*"])];
    let mut gateway = open(&config, &subscriptions).await;
    gateway.append(readings(10)).await.unwrap();
    gateway.append(vec![number("panel/load", at(1.0), 1.0)]).await.unwrap();
    gateway.settle().await;
    let (records, _) = gateway.cursors[0].unsent(Seq(0), 5).await.unwrap();
    assert_eq!(records.len(), 5);
    gateway.cursors[0].acknowledge(Seq(3));
    let (records, through) = drain(&gateway.cursors[1], Seq(0), 5).await;
    assert_eq!((seqs(&records), through), (vec![11], Seq(11)));
    gateway.stop().await;

    let gateway = open(&config, &subscriptions).await;
    assert_eq!(gateway.cursors[0].position(), Seq(3));
    assert_eq!(gateway.cursors[1].position(), Seq(0));
    let status = gateway.store.status();
    balanced(&status);
    assert_eq!((status.read, status.stored, status.readings), (11, 11, 11));
    let [a, b] = &status.forwarders[..] else { panic!() };
    assert_eq!((a.stored, a.acknowledged, a.pending), (11, 3, 8));
    assert_eq!((b.stored, b.acknowledged, b.pending), (1, 0, 1));
    gateway.stop().await;
}

#[tokio::test]
async fn a_kill_loses_nothing_that_was_committed() {
    let folder = tempfile::tempdir().unwrap();
    let config = Config { flush: Duration::from_secs(3600), ..config(folder.path()) };
    let subscription = [forwarder("cloud", &["*"])];
    let mut gateway = open(&config, &subscription).await;
    gateway.append(readings(10)).await.unwrap();
    gateway.settle().await;
    let (_, through) = gateway.cursors[0].unsent(Seq(0), 100).await.unwrap();
    gateway.cursors[0].acknowledge(through);
    gateway.append(readings(300)).await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    let (_copy, path) = gateway.killed();
    let copy = open(&Config { path, ..config.clone() }, &subscription).await;
    // The position was to be written an hour later: what was acknowledged is sent
    // again, and the ledger says so.
    assert_eq!(copy.cursors[0].position(), Seq(0));
    let status = copy.store.status();
    balanced(&status);
    assert_eq!((status.stored, status.forwarders[0].pending), (310, 310));
    let (records, _) = drain(&copy.cursors[0], Seq(0), 64).await;
    assert_eq!(seqs(&records), (1..=310).collect::<Vec<_>>());
    copy.stop().await;
    gateway.stop().await;
}

#[tokio::test]
async fn a_reading_is_committed_within_100_ms_and_durable_within_flush() {
    let folder = tempfile::tempdir().unwrap();
    let flush = Duration::from_millis(400);
    let config = Config { flush, ..config(folder.path()) };
    let mut gateway = open(&config, &[]).await;
    // When each was appended.
    let mut waiting = std::collections::VecDeque::new();
    let (mut ahead, mut rounds) = (0, 0);
    // A machine that is busy with other tests may be late now and then.
    let (mut late, mut overdue) = (0, 0);
    for _ in 0..150 {
        let began = Instant::now();
        waiting.push_back((gateway.appender.next().0, began));
        gateway.append(readings(1)).await.unwrap();
        gateway.settle().await;
        late += u32::from(began.elapsed() > Duration::from_millis(100));
        tokio::time::sleep(Duration::from_millis(15)).await;
        let status = gateway.store.status();
        waiting.retain(|(seq, _)| *seq > status.durable);
        rounds += u32::from(ahead != status.durable);
        ahead = status.durable;
        let oldest = waiting.front().map(|(_, at)| at.elapsed()).unwrap_or_default();
        overdue += u32::from(oldest > flush);
    }
    assert!(late <= 15 && overdue <= 15, "{late} late, {overdue} overdue");
    // Not each commit is durable: that would wear a card out.
    assert!((3..=60).contains(&rounds), "{rounds}");
    // The last one needs nothing to follow it.
    gateway.append(readings(1)).await.unwrap();
    tokio::time::sleep(flush * 2).await;
    assert_eq!(gateway.store.status().durable, 151);
    gateway.stop().await;
}

#[tokio::test]
async fn an_idle_store_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let config = Config { flush: Duration::from_millis(50), ..config(folder.path()) };
    let mut gateway = open(&config, &[forwarder("cloud", &["*"])]).await;
    gateway.append(readings(1)).await.unwrap();
    gateway.settle().await;
    let (_, through) = gateway.cursors[0].unsent(Seq(0), 1).await.unwrap();
    gateway.cursors[0].acknowledge(through);
    tokio::time::sleep(Duration::from_millis(400)).await;
    let stamp = || {
        ["", "-wal"].map(|suffix| {
            let path = format!("{}{suffix}", config.path.display());
            std::fs::metadata(path).unwrap().modified().unwrap()
        })
    };
    let before = stamp();
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(before, stamp());
    gateway.stop().await;
}

#[tokio::test]
async fn a_forwarder_that_is_new_begins_with_what_comes() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path());
    let mut gateway = open(&config, &[]).await;
    gateway.append(readings(5)).await.unwrap();
    gateway.stop().await;
    let mut gateway = open(&config, &[forwarder("cloud", &["*"])]).await;
    assert_eq!(gateway.cursors[0].position(), Seq(5));
    gateway.append(readings(1)).await.unwrap();
    gateway.settle().await;
    let (records, _) = drain(&gateway.cursors[0], Seq(5), 10).await;
    assert_eq!(seqs(&records), [6]);
    gateway.stop().await;
}

#[tokio::test]
async fn other_patterns_are_counted_anew() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path());
    let mut gateway = open(&config, &[forwarder("cloud", &["*"])]).await;
    gateway.append(readings(5)).await.unwrap();
    gateway.append(vec![number("panel/load", at(1.0), 1.0)]).await.unwrap();
    gateway.settle().await;
    gateway.cursors[0].unsent(Seq(0), 2).await.unwrap();
    gateway.cursors[0].acknowledge(Seq(2));
    gateway.stop().await;
    let gateway = open(&config, &[forwarder("cloud", &["panel/*"])]).await;
    let status = gateway.store.status();
    balanced(&status);
    assert_eq!((status.forwarders[0].stored, status.forwarders[0].pending), (3, 1));
    gateway.stop().await;
}

#[tokio::test]
async fn a_file_of_a_newer_version_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path());
    open(&config, &[]).await.stop().await;
    let url = format!("sqlite://{}", config.path.display());
    let mut db = sqlx::SqliteConnection::connect(&url).await.unwrap();
    let sql = "INSERT INTO _sqlx_migrations VALUES (9999, 'later', 0, 1, x'00', 0)";
    sqlx::query(sql).execute(&mut db).await.unwrap();
    db.close().await.unwrap();
    let Err(error) = Store::open(&config, &[], &[]).await else { panic!("it was opened") };
    assert!(matches!(error, Error::Newer { found: 9999, known: 3, .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains("tidemill.db was written by a newer version"), "{text}");
}

#[tokio::test]
async fn two_gateways_never_share_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path());
    let gateway = open(&config, &[]).await;
    let Err(error) = Store::open(&config, &[], &[]).await else { panic!("it was opened") };
    assert!(matches!(error, Error::InUse { .. }), "{error}");
    gateway.stop().await;
    open(&config, &[]).await.stop().await;
}

#[tokio::test]
async fn waiting_ends_when_nothing_more_can_come() {
    let folder = tempfile::tempdir().unwrap();
    let mut gateway = open(&config(folder.path()), &[forwarder("cloud", &["*"])]).await;
    gateway.append(readings(1)).await.unwrap();
    let mut cursor = gateway.cursors.remove(0);
    drop(gateway.appender);
    assert!(cursor.wait(Seq(0)).await, "the last reading is committed first");
    assert!(!cursor.wait(Seq(1)).await);
}

/// Larger than what is checked whole, and with more rows than are looked at.
#[tokio::test]
async fn a_large_file_is_taken_for_what_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path());
    let mut gateway = open(&config, &[]).await;
    let text = |n: u64| {
        let value = Value::Good(Datum::Text("x".repeat(2_000).into()));
        let channel = channel("panel/mode");
        Body::Reading(Reading { channel, at: at(n as f64), value })
    };
    gateway.append((0..12_000).map(text).collect()).await.unwrap();
    gateway.stop().await;
    assert!(std::fs::metadata(&config.path).unwrap().len() > 20 << 20);

    let gateway = open(&config, &[]).await;
    let status = gateway.store.status();
    assert_eq!((status.stored, status.losses.len()), (12_000, 0));
    gateway.stop().await;
    let names = std::fs::read_dir(folder.path()).unwrap();
    let names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
    assert!(names.iter().all(|name| !name.to_string_lossy().contains("damaged")), "{names:?}");
}
