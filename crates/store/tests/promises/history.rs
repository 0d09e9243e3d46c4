use reading::{Body, Fault, Reading, Timestamp, Value};
use store::{Bucket, Query};

use crate::support::*;

fn query(name: &str, from: f64, to: f64) -> Query {
    Query { channel: channel(name), from: at(from), to: at(to) }
}

fn times(records: &[reading::Record]) -> Vec<Timestamp> {
    records.iter().map(|record| record.reading().unwrap().at).collect()
}

/// One a second for ten minutes, each followed by one of another channel.
fn ten_minutes() -> Vec<Body> {
    let second = |n: u32| {
        let n = f64::from(n);
        [number("weather/temperature", at(n), n), number("other/x", at(n), -1.0)]
    };
    (0..600).flat_map(second).collect()
}

/// Seconds after the start, smallest, mean, largest, numbers, bad.
type Plain = (f64, Option<f64>, Option<f64>, Option<f64>, u64, u64);

fn plain(buckets: &[Bucket]) -> Vec<Plain> {
    let seconds = |b: &Bucket| (b.from.as_micros() - START) as f64 / 1e6;
    buckets.iter().map(|b| (seconds(b), b.min, b.mean, b.max, b.count, b.bad)).collect()
}

#[tokio::test]
async fn history_is_the_newest_of_the_span_in_order_of_time() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path());
    let mut gateway = open(&config, &[]).await;
    gateway.append(ten_minutes()).await.unwrap();
    gateway.settle().await;
    // The first round reads what isn't in the one-minute figures, the second what is.
    for _ in 0..2 {
        let history = |from, to, max| {
            let query = query("weather/temperature", from, to);
            let store = gateway.store.clone();
            async move { store.history(&query, max).await.unwrap() }
        };
        let records = history(100.0, 200.0, 1_000).await;
        let expected: Vec<_> = (100..200).map(|n| at(f64::from(n))).collect();
        assert_eq!(times(&records), expected);
        assert_eq!(times(&history(100.0, 200.0, 2).await), [at(198.0), at(199.0)]);
        assert_eq!(history(-100.0, 0.0, 10).await, []);
        assert_eq!(history(600.0, 700.0, 10).await, []);
        gateway.stop().await;
        gateway = open(&config, &[]).await;
    }
    let unknown = gateway.store.history(&query("no/such", 0.0, 1.0), 1).await.unwrap();
    assert_eq!(unknown, []);
    gateway.stop().await;
}

#[tokio::test]
async fn a_clock_that_jumped_hides_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path());
    let mut gateway = open(&config, &[]).await;
    let seconds = [1_000.0, 1_001.0, -50_000.0, -49_999.0, 1_002.0, 0.0, 1_003.0];
    let bodies = seconds.map(|s| number("weather/temperature", at(s), s));
    gateway.append(bodies.to_vec()).await.unwrap();
    gateway.stop().await;
    let gateway = open(&config, &[]).await;
    for (from, to, expected) in [
        (999.0, 1_010.0, &[1_000.0, 1_001.0, 1_002.0, 1_003.0][..]),
        (-50_000.0, 0.0, &[-50_000.0, -49_999.0]),
        (0.0, 1.0, &[0.0]),
    ] {
        let query = query("weather/temperature", from, to);
        let found = gateway.store.history(&query, 100).await.unwrap();
        assert_eq!(times(&found), expected.iter().map(|s| at(*s)).collect::<Vec<_>>());
    }
    gateway.stop().await;
}

#[tokio::test]
async fn reduced_tells_the_same_from_readings_and_from_figures() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path());
    let mut gateway = open(&config, &[]).await;
    gateway.append(ten_minutes()).await.unwrap();
    let bad = Value::Bad(Fault::Absent);
    let bad = Reading { channel: channel("weather/temperature"), at: at(60.5), value: bad };
    gateway.append(vec![Body::Reading(bad)]).await.unwrap();
    gateway.settle().await;
    for round in 0..2 {
        let fine = query("weather/temperature", 60.0, 120.0);
        let buckets = gateway.store.reduced(&fine, 3).await.unwrap();
        assert_eq!(
            plain(&buckets),
            [
                (60.0, Some(60.0), Some(69.5), Some(79.0), 20, 1),
                (80.0, Some(80.0), Some(89.5), Some(99.0), 20, 0),
                (100.0, Some(100.0), Some(109.5), Some(119.0), 20, 0),
            ],
            "{round}"
        );
        let coarse = query("weather/temperature", 0.0, 600.0);
        let buckets = gateway.store.reduced(&coarse, 2).await.unwrap();
        assert_eq!(
            plain(&buckets),
            [
                (0.0, Some(0.0), Some(149.5), Some(299.0), 300, 1),
                (300.0, Some(300.0), Some(449.5), Some(599.0), 300, 0),
            ],
            "{round}"
        );
        let all = gateway.store.reduced(&coarse, 7).await.unwrap();
        assert!(all.len() <= 7 && all.iter().map(|b| b.count).sum::<u64>() == 600);
        gateway.stop().await;
        gateway = open(&config, &[]).await;
    }
    gateway.stop().await;
}

#[tokio::test]
async fn figures_remain_when_the_readings_are_gone() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(folder.path());
    let minute = Timestamp::from_micros(Timestamp::now().as_micros() / 60_000_000 * 60_000_000);
    let seconds = |n| std::time::Duration::from_secs(n);
    let old = minute - seconds(3_600);
    let mut gateway = open(&config, &[]).await;
    let body = |n| number("weather/temperature", old + seconds(n), n as f64);
    gateway.append((0..120).map(body).collect()).await.unwrap();
    gateway.append(vec![number("weather/temperature", minute, 7.0)]).await.unwrap();
    gateway.stop().await;
    config.keep = seconds(600);
    let gateway = open(&config, &[]).await;
    tokio::time::sleep(std::time::Duration::from_millis(1_800)).await;
    assert_eq!(gateway.store.status().readings, 1);
    let channel = channel("weather/temperature");
    let query = Query { channel, from: old, to: minute + seconds(60) };
    assert_eq!(gateway.store.history(&query, 1_000).await.unwrap().len(), 1);
    // Buckets of five seconds and of an hour.
    for (points, expected) in [(732, vec![60, 60, 1]), (2, vec![120, 1])] {
        let buckets = gateway.store.reduced(&query, points).await.unwrap();
        let counts: Vec<_> = buckets.iter().map(|bucket| bucket.count).collect();
        assert_eq!(counts, expected, "{points}");
    }
    gateway.stop().await;
}

#[tokio::test]
async fn the_latest_of_each_channel_is_known_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path());
    let mut gateway = open(&config, &[]).await;
    let door =
        Reading { channel: channel("panel/door"), at: at(1.0), value: Value::Good(true.into()) };
    gateway.append(vec![Body::Reading(door)]).await.unwrap();
    gateway.append(ten_minutes()).await.unwrap();
    gateway.settle().await;
    let expected = gateway.store.latest().await.unwrap();
    assert_eq!(seqs(&expected), [1, 1_200]);
    gateway.stop().await;
    let mut gateway = open(&config, &[]).await;
    assert_eq!(gateway.store.latest().await.unwrap(), expected);
    gateway.append(vec![number("weather/temperature", at(700.0), 1.0)]).await.unwrap();
    gateway.settle().await;
    assert_eq!(seqs(&gateway.store.latest().await.unwrap()), [1, 1_202]);
    gateway.stop().await;
}

#[tokio::test]
async fn gaps_are_found_by_span_and_channel() {
    let folder = tempfile::tempdir().unwrap();
    let mut gateway = open(&config(folder.path()), &[]).await;
    let bodies = vec![
        gap(0.0, 1, Some("weather/temperature")),
        gap(10.0, 2, None),
        gap(10.0, 3, Some("panel/door")),
        gap(20.0, 4, Some("weather/temperature")),
    ];
    gateway.append(bodies).await.unwrap();
    gateway.settle().await;
    let gaps = gateway.store.gaps(&query("weather/temperature", 0.5, 20.0)).await.unwrap();
    let found: Vec<_> = gaps.iter().map(|(_, seq, gap)| (seq.0, gap.count)).collect();
    assert_eq!(found, [(1, 1), (2, 2)]);
    assert_eq!(gaps[0].0, gateway.store.epoch());
    let counts = async |max| {
        let gaps = gateway.store.all_gaps(at(0.5), at(20.0), max).await.unwrap();
        gaps.iter().map(|(_, _, gap)| gap.count).collect::<Vec<_>>()
    };
    assert_eq!(counts(10).await, [1, 2, 3], "of every channel");
    assert_eq!(counts(2).await, [2, 3], "the newest");
    gateway.stop().await;
}
