//! A queue, a file and a disk that are full.

use std::time::{Duration, Instant};

use bytesize::ByteSize;
use reading::{Body, Record, Seq};
use sqlx::{Connection, SqliteConnection};
use store::{Config, Store};

use crate::support::*;

fn readings(count: u64) -> Vec<Body> {
    (0..count).map(|n| number("weather/temperature", at(n as f64), n as f64)).collect()
}

/// Another program that keeps the file locked, or makes every insert fail.
async fn meddler(config: &Config) -> SqliteConnection {
    SqliteConnection::connect(&format!("sqlite://{}", config.path.display())).await.unwrap()
}

#[tokio::test]
async fn a_producer_at_full_speed_is_slowed_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut gateway = open(&config(folder.path()), &[]).await;
    for _ in 0..100 {
        gateway.append(readings(4_000)).await.unwrap();
    }
    let status = gateway.settle().await;
    assert_eq!((status.stored, status.dropped, status.queued), (400_000, 0, 0));
    assert!(gateway.appender.losses().is_empty());
    gateway.stop().await;
}

/// A writer that gets nothing done: not even a fault is known.
#[tokio::test]
async fn what_a_full_queue_costs_is_counted_and_told_when_there_is_room() {
    let folder = tempfile::tempdir().unwrap();
    let specs = [spec("weather/temperature", reading::Kind::Number, "Cel")];
    let opened = Store::open(&config(folder.path()), &specs, &[]).await.unwrap();
    let (store, mut appender, writer, _) = opened;
    let number_them = |appender: &store::Appender, bodies: Vec<Body>| {
        let (epoch, first) = (appender.epoch(), appender.next());
        let number = |(n, body)| Record { epoch, seq: Seq(first.0 + n as u64), body };
        bodies.into_iter().enumerate().map(number).collect::<Vec<_>>()
    };
    let records = number_them(&appender, readings(65_000));
    appender.append(records).await.unwrap();
    let records = number_them(&appender, readings(1_000));
    let dropped = appender.append(records).await.unwrap_err();
    assert_eq!((dropped.count, dropped.reason), (1_000, "store queue full"));
    let status = store.status();
    balanced(&status);
    let of = &status.channels[0];
    assert_eq!((of.channel.as_str(), of.stored, of.dropped), ("weather/temperature", 0, 1_000));
    let causes: Vec<_> = status.losses.iter().map(|l| (l.reason.as_str(), l.count)).collect();
    assert_eq!(causes, [("store queue full", 1_000)]);
    assert!(appender.losses().is_empty(), "there is no room for its record either");

    let mut committed = store.committed();
    let told = async {
        committed.wait_for(|committed| *committed >= Seq(65_000)).await.unwrap();
        let gaps = appender.losses();
        assert_eq!((gaps.len(), gaps[0].count), (1, 1_000));
        let records = number_them(&appender, gaps.into_iter().map(Body::Gap).collect());
        appender.append(records).await.unwrap();
        drop(appender);
    };
    let (written, ()) = tokio::join!(writer.run(), told);
    written.unwrap();
    let told = store.all_gaps(at(0.0), at(2_000.0), 10).await.unwrap();
    assert_eq!((told.len(), told[0].2.count), (1, 1_000));
    assert_eq!(&*told[0].2.reason, "store queue full");
    balanced(&store.status());
}

#[tokio::test]
async fn while_the_disk_is_at_fault_losses_are_counted_and_then_it_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path());
    let mut gateway = open(&config, &[forwarder("cloud", &["*"])]).await;
    let mut meddler = meddler(&config).await;
    let sql = "CREATE TRIGGER fault BEFORE INSERT ON log BEGIN SELECT raise(ABORT, 'fault'); END";
    sqlx::query(sql).execute(&mut meddler).await.unwrap();

    gateway.append(readings(65_000)).await.unwrap();
    let began = Instant::now();
    while gateway.store.status().error.is_none() && began.elapsed() < Duration::from_secs(5) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let status = gateway.store.status();
    assert_eq!(status.error.as_deref(), Some("fault"));
    assert_eq!((status.queued, status.read, status.stored), (65_000, 0, 0));

    // The first waits a little, those that follow don't.
    let began = Instant::now();
    let mut dropped = 0;
    for _ in 0..100 {
        dropped += gateway.append(readings(1_000)).await.unwrap_err().count;
        balanced(&gateway.store.status());
    }
    assert_eq!(dropped, 100_000);
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    assert!(gateway.appender.losses().is_empty(), "there is no room to store them");
    // A gap that is dropped is told later; its readings aren't counted twice.
    assert!(gateway.append(vec![gap(1.0, 3, None); 600]).await.is_err());

    sqlx::query("DROP TRIGGER fault").execute(&mut meddler).await.unwrap();
    let mut committed = gateway.store.committed();
    let going_on = committed.wait_for(|committed| *committed >= Seq(65_000));
    tokio::time::timeout(Duration::from_secs(8), going_on).await.unwrap().unwrap();
    let mut losses = gateway.appender.losses();
    losses.sort_by_key(|loss| loss.count);
    let counts: Vec<_> = losses.iter().map(|loss| (loss.count, &*loss.reason)).collect();
    assert_eq!(counts, [(1_800, "line down"), (100_000, "store can't write")]);
    assert_eq!((losses[1].from, losses[1].to), (at(0.0), at(999.0)));
    assert!(gateway.appender.losses().is_empty(), "they are told once");

    let told = losses.into_iter().map(Body::Gap).collect();
    gateway.append(told).await.unwrap();
    let status = gateway.settle().await;
    balanced(&status);
    assert_eq!((status.read, status.stored, status.dropped), (165_000, 65_000, 100_000));
    assert_eq!(status.error, None);
    let (records, _) = drain(&gateway.cursors[0], Seq(0), 10_000).await;
    assert_eq!(records.len(), 65_002);
    gateway.stop().await;

    // The ledger is kept.
    let gateway = open(&config, &[forwarder("cloud", &["*"])]).await;
    let status = gateway.store.status();
    assert_eq!((status.read, status.stored, status.dropped), (165_000, 65_000, 100_000));
    gateway.stop().await;
}

#[tokio::test]
async fn a_file_that_is_locked_for_a_while_stops_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path());
    let mut gateway = open(&config, &[]).await;
    let mut meddler = meddler(&config).await;
    let lock = meddler.begin_with("BEGIN IMMEDIATE").await.unwrap();
    gateway.append(readings(10)).await.unwrap();
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert!(gateway.store.status().error.unwrap().contains("locked"));
    lock.rollback().await.unwrap();
    gateway.settle().await;
    gateway.stop().await;
}

#[tokio::test]
async fn a_full_file_gives_up_the_oldest_and_says_what_was_owed() {
    let folder = tempfile::tempdir().unwrap();
    let config = Config { max_size: ByteSize::mib(4), ..config(folder.path()) };
    let subscriptions = [forwarder("behind", &["*"]), forwarder("panel", &["panel/*"])];
    let mut gateway = open(&config, &subscriptions).await;
    let mut appended = 0;
    for n in 0..60 {
        let mut bodies = readings(5_000);
        bodies.push(number("panel/load", at(f64::from(n)), 1.0));
        gateway.append(bodies).await.unwrap();
        appended += 5_001;
        gateway.settle().await;
        balanced(&gateway.store.status());
        let file = |suffix| {
            let path = format!("{}{suffix}", config.path.display());
            std::fs::metadata(path).unwrap().len()
        };
        assert!(file("") + file("-wal") <= 4 * 1024 * 1024, "{} {}", file(""), file("-wal"));
    }
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let status = gateway.store.status();
    balanced(&status);
    assert_eq!(status.stored, appended);
    assert!(status.readings < appended / 2, "{status:?}");
    let [behind, panel] = &status.forwarders[..] else { panic!() };
    assert_eq!(behind.pending, status.readings);
    assert_eq!(behind.dropped, appended - status.readings);
    assert!(panel.dropped > 0 && panel.dropped + panel.pending == 60, "{panel:?}");
    let losses = gateway.appender.losses();
    assert_eq!(losses.len(), 1);
    assert_eq!((losses[0].count, &*losses[0].reason), (behind.dropped, "store full"));
    // What is left is given, nothing more.
    let position = gateway.cursors[0].position();
    let (records, through) = drain(&gateway.cursors[0], position, 1_000).await;
    assert_eq!(records.len() as u64, behind.pending);
    gateway.cursors[0].acknowledge(through);
    assert_eq!(gateway.store.status().forwarders[0].pending, 0);
    let before = gateway.store.status();
    gateway.stop().await;
    let gateway = open(&config, &subscriptions).await;
    let after = gateway.store.status();
    assert_eq!((before.forwarders, before.readings), (after.forwarders, after.readings));
    gateway.stop().await;
}

#[tokio::test]
async fn what_is_acknowledged_is_no_loss_when_it_goes() {
    let folder = tempfile::tempdir().unwrap();
    let config = Config { max_size: ByteSize::mib(1), ..config(folder.path()) };
    let mut gateway = open(&config, &[forwarder("cloud", &["*"])]).await;
    for _ in 0..40 {
        gateway.append(readings(2_000)).await.unwrap();
        gateway.settle().await;
        let (_, through) = drain(&gateway.cursors[0], gateway.cursors[0].position(), 1_000).await;
        gateway.cursors[0].acknowledge(through);
    }
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let status = gateway.store.status();
    assert!(status.readings < 40_000);
    assert_eq!(status.forwarders[0].acknowledged, 80_000);
    assert_eq!(status.forwarders[0].dropped, 0);
    assert!(gateway.appender.losses().is_empty());
    gateway.stop().await;
}

#[tokio::test]
async fn old_readings_go_once_every_forwarder_has_them() {
    let folder = tempfile::tempdir().unwrap();
    // `at` is in the past or the future, as the clock has it: this is neither.
    let old = reading::Timestamp::now() - Duration::from_secs(3_600);
    let config = Config { keep: Duration::from_secs(600), ..config(folder.path()) };
    let mut gateway = open(&config, &[forwarder("cloud", &["*"])]).await;
    let body = |at| number("weather/temperature", at, 1.0);
    gateway.append((0..10).map(|_| body(old)).collect()).await.unwrap();
    gateway.append(vec![body(reading::Timestamp::now())]).await.unwrap();
    gateway.settle().await;
    gateway.cursors[0].unsent(Seq(0), 6).await.unwrap();
    gateway.cursors[0].acknowledge(Seq(6));
    gateway.stop().await;
    // Rolled up when opened, so that they may go a second later.
    let gateway = open(&config, &[forwarder("cloud", &["*"])]).await;
    tokio::time::sleep(Duration::from_millis(1_800)).await;
    let status = gateway.store.status();
    assert_eq!((status.readings, status.forwarders[0].pending), (5, 5));
    assert_eq!(status.forwarders[0].dropped, 0);
    gateway.stop().await;
}

#[tokio::test]
async fn a_folder_that_cannot_be_made_is_named() {
    let config = Config { path: "/dev/null/tidemill.db".into(), ..Config::default() };
    let Err(error) = Store::open(&config, &[], &[]).await else { panic!("it was opened") };
    assert!(error.to_string().starts_with("the store /dev/null/tidemill.db can't be opened: "));
}

#[tokio::test]
async fn a_loss_that_a_record_tells_is_not_told_again_after_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let config = Config { flush: Duration::from_millis(50), ..config(folder.path()) };
    let mut gateway = open(&config, &[forwarder("cloud", &["*"])]).await;
    let Body::Gap(lost) = gap(1.0, 3, None) else { panic!() };
    gateway.appender.lose(lost);
    gateway.append(readings(1)).await.unwrap();
    // In the file as one that nothing tells yet.
    let began = Instant::now();
    while gateway.store.status().durable < 1 {
        assert!(began.elapsed() < Duration::from_secs(10));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let told = gateway.appender.losses().into_iter().map(Body::Gap).collect();
    gateway.append(told).await.unwrap();
    gateway.settle().await;
    let (_copy, path) = gateway.killed();
    let mut copy = open(&Config { path, ..config.clone() }, &[]).await;
    assert_eq!(copy.appender.losses(), []);
    let status = copy.store.status();
    assert_eq!((status.committed, status.dropped), (2, 3));
    copy.stop().await;
    gateway.stop().await;
}
