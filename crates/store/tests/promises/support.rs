//! A store with its writer running, in a folder of its own.

use std::path::{Path, PathBuf};
use std::time::Duration;

use reading::{
    Body, Channel, ChannelSpec, Datum, Gap, Kind, Pattern, Reading, Record, Seq, Timestamp, Unit,
    Value,
};
use store::{Appender, Config, Cursor, Dropped, Status, Store, Subscription, Writer};
use tempfile::TempDir;
use tokio::task::JoinSet;

/// 2026-11-24T08:20:00Z, the beginning of a minute.
pub(crate) const START: i64 = 1_795_508_400_000_000;

pub(crate) fn at(seconds: f64) -> Timestamp {
    Timestamp::from_micros(START + (seconds * 1e6) as i64)
}

pub(crate) fn channel(name: &str) -> Channel {
    name.parse().unwrap()
}

pub(crate) fn spec(name: &str, kind: Kind, unit: &'static str) -> ChannelSpec {
    ChannelSpec {
        channel: channel(name),
        kind,
        unit: Unit::of(unit),
        label: None,
        range: None,
        output: false,
    }
}

pub(crate) fn number(name: &str, at: Timestamp, number: f64) -> Body {
    let value = Value::Good(Datum::Number(number));
    Body::Reading(Reading { channel: channel(name), at, value })
}

pub(crate) fn gap(seconds: f64, count: u64, name: Option<&str>) -> Body {
    let (from, to) = (at(seconds), at(seconds + 1.0));
    let channel = name.map(channel);
    Body::Gap(Gap { from, to, count, channel, reason: "line down".into() })
}

pub(crate) fn forwarder(name: &str, patterns: &[&str]) -> Subscription {
    let channels = patterns.iter().map(|p| p.parse::<Pattern>().unwrap()).collect();
    Subscription { forwarder: name.into(), channels }
}

pub(crate) fn config(folder: &Path) -> Config {
    Config { path: folder.join("tidemill.db"), ..Config::default() }
}

pub(crate) struct Running {
    pub(crate) store: Store,
    pub(crate) appender: Appender,
    pub(crate) cursors: Vec<Cursor>,
    tasks: JoinSet<Result<(), store::Error>>,
}

pub(crate) async fn open(config: &Config, forwarders: &[Subscription]) -> Running {
    let channels = [
        spec("weather/temperature", Kind::Number, "Cel"),
        spec("panel/door", Kind::Boolean, ""),
        spec("panel/mode", Kind::Text, ""),
    ];
    let (store, appender, writer, cursors) =
        Store::open(config, &channels, forwarders).await.unwrap();
    Running::new(store, appender, writer, cursors)
}

impl Running {
    fn new(store: Store, appender: Appender, writer: Writer, cursors: Vec<Cursor>) -> Running {
        let mut tasks = JoinSet::new();
        tasks.spawn(writer.run());
        Running { store, appender, cursors, tasks }
    }

    pub(crate) async fn append(&mut self, bodies: Vec<Body>) -> Result<(), Dropped> {
        let (epoch, first) = (self.appender.epoch(), self.appender.next());
        let number = |(n, body)| Record { epoch, seq: Seq(first.0 + n as u64), body };
        self.appender.append(bodies.into_iter().enumerate().map(number).collect()).await
    }

    /// Until everything that was appended is committed.
    pub(crate) async fn settle(&self) -> Status {
        let last = Seq(self.appender.next().0 - 1);
        let mut committed = self.store.committed();
        let settled = committed.wait_for(|committed| *committed >= last);
        tokio::time::timeout(Duration::from_secs(20), settled).await.expect("stalled").unwrap();
        self.store.status()
    }

    /// An orderly stop.
    pub(crate) async fn stop(self) {
        let Running { appender, cursors, mut tasks, .. } = self;
        drop(appender);
        drop(cursors);
        tasks.join_next().await.unwrap().unwrap().unwrap();
    }

    /// What a kill at this instant leaves, in another folder.
    pub(crate) fn killed(&self) -> (TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = self.store.status().path;
        let copy = folder.path().join("tidemill.db");
        for suffix in ["", "-wal"] {
            let name = |path: &Path| PathBuf::from(format!("{}{suffix}", path.display()));
            std::fs::copy(name(&path), name(&copy)).unwrap();
        }
        (folder, copy)
    }
}

/// Numbers that are random enough, the same for one seed.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    /// Less than the limit.
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 33) % limit.max(1)
    }
}

/// What the ledger promises of every look at it.
pub(crate) fn balanced(status: &Status) {
    assert_eq!(status.read, status.stored + status.dropped, "{status:?}");
    for f in &status.forwarders {
        assert_eq!(f.stored, f.acknowledged + f.pending + f.dropped, "{f:?}");
    }
}

/// Everything that a cursor gives from here on.
pub(crate) async fn drain(cursor: &Cursor, mut after: Seq, max: usize) -> (Vec<Record>, Seq) {
    let mut all = Vec::new();
    loop {
        let (records, through) = cursor.unsent(after, max).await.unwrap();
        assert!(records.len() <= max);
        assert!(records.iter().all(|record| record.seq > after && record.seq <= through));
        if through == after {
            return (all, after);
        }
        all.extend(records);
        after = through;
    }
}

pub(crate) fn seqs(records: &[Record]) -> Vec<u64> {
    records.iter().map(|record| record.seq.0).collect()
}
