//! What must hold of a state that a power cut leaves.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use reading::{Epoch, Record, Seq};
use sqlx::{Connection as _, Row as _, SqliteConnection};
use store::{Appender, Cursor, Status, Store, Writer};

use super::disk::{self, State};
use super::life::{Told, config};
use crate::support::*;

/// One in so many takes another reading, stops, and starts once more.
pub(super) const THOROUGH: usize = 50;

/// What must be in a state.
#[derive(Clone)]
pub(super) struct Expected {
    /// What each number was given to, from 1.
    pub(super) given: Arc<Vec<Record>>,
    pub(super) epochs: Arc<Vec<Epoch>>,
    pub(super) durable: u64,
    pub(super) acknowledged: u64,
}

/// Readings among the first so many records.
fn readings(records: &[Record], through: u64) -> u64 {
    records[..through as usize].iter().filter(|record| record.reading().is_some()).count() as u64
}

/// A state in a folder of its own.
pub(super) struct Look {
    folder: PathBuf,
    pub(super) what: String,
}

impl Look {
    pub(super) fn new(home: &Path, n: usize, what: String, state: &State) -> Look {
        let folder = home.join(n.to_string());
        disk::put(state, &folder);
        if n.is_multiple_of(THOROUGH) {
            // SQLite's shared memory, as a power cut may leave it.
            std::fs::write(folder.join("tidemill.db-shm"), [0xa5; 32_768]).unwrap();
        }
        let what = format!("{}: {what}", folder.display());
        Look { folder, what }
    }

    /// The store opened on it, by a gateway that does nothing yet.
    async fn open(&self) -> Found {
        let config = config(&self.folder);
        let opened = Store::open(&config, &[], &[forwarder("cloud", &["*"])]).await;
        let what = &self.what;
        let (store, mut appender, writer, mut cursors) =
            opened.unwrap_or_else(|error| panic!("{what}: {error}"));
        let raw = Raw::of(&config.path).await;
        assert_eq!(raw.sound, "ok", "{what}");
        let cursor = cursors.remove(0);
        let (records, _) = cursor.unsent(Seq(0), usize::MAX).await.unwrap();
        let status = store.status();
        balanced(&status);
        // What is lost is told.
        let lost = status.losses.iter().map(|loss| loss.count).sum();
        let untold: u64 = appender.losses().iter().map(|gap| gap.count).sum();
        assert_eq!(lost, untold + raw.told, "{what}");
        let position = cursor.position().0;
        let pending = records.iter().filter(|r| r.seq.0 > position && r.reading().is_some());
        assert_eq!(status.forwarders[0].pending, pending.count() as u64, "{what}");
        let last = store.committed().borrow().0;
        assert_eq!(appender.next(), Seq(last + 1), "{what}");
        let aside = disk::files(&self.folder).into_keys();
        let aside = aside.filter(|name| name.starts_with("tidemill.db.")).collect();
        Found { store, appender, writer, cursor, records, status, raw, lost, position, last, aside }
    }
}

impl Drop for Look {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // A thread of SQLite's may still be about to close the file.
            drop(std::fs::remove_dir_all(&self.folder));
        }
    }
}

/// What a state has.
struct Found {
    store: Store,
    appender: Appender,
    writer: Writer,
    cursor: Cursor,
    records: Vec<Record>,
    status: Status,
    raw: Raw,
    lost: u64,
    position: u64,
    last: u64,
    /// Of files put aside, or on the way.
    aside: Vec<String>,
}

impl Expected {
    /// For a recording that begins with the state.
    pub(super) fn told(&self) -> Told {
        Told {
            epochs: self.epochs.to_vec(),
            given: self.given.to_vec(),
            durable: self.durable,
            acknowledged: self.acknowledged,
        }
    }

    pub(super) async fn holds(&self, look: &Look, thorough: bool) {
        let what = &look.what;
        let found = look.open().await;
        assert!(found.aside.is_empty(), "{what}: {:?}", found.aside);
        // No number is given twice under one epoch.
        let last = found.last;
        assert!(!self.epochs.contains(&found.store.epoch()), "{what}");
        // Nothing durable is missing: what went was acknowledged, or is told.
        assert!(last >= self.durable, "{what}: {last} of {}", self.durable);
        let (purged, end) = (found.raw.purged, last as usize);
        assert_eq!(found.records.len() as u64, last - purged, "{what}: after {purged} to {end}");
        for (found, given) in found.records.iter().zip(&self.given[purged as usize..end]) {
            assert_eq!(found, given, "{what}");
        }
        // Each figure is as the numbers say.
        let readings = |through| readings(&self.given, through);
        let (status, position) = (&found.status, found.position);
        let cloud = &status.forwarders[0];
        assert_eq!((status.stored, cloud.stored), (readings(last), readings(last)), "{what}");
        assert_eq!(status.readings, readings(last) - readings(purged), "{what}");
        assert_eq!(cloud.acknowledged + cloud.dropped, readings(position), "{what}");
        assert!(cloud.acknowledged <= readings(self.acknowledged), "{what}");
        assert!(position <= self.acknowledged.max(purged) && purged <= position, "{what}");
        assert_eq!(found.lost, cloud.dropped, "{what}");
        if thorough {
            found.goes_on(look).await;
        }
    }

    /// The same of a file of which a part was overwritten on the way.
    pub(super) async fn holds_but_for_damage(&self, look: &Look) {
        let what = &look.what;
        let found = look.open().await;
        assert!(
            found.aside.iter().all(|name| name.contains(".damaged-")),
            "{what}: {:?}",
            found.aside
        );
        assert!(!self.epochs.contains(&found.store.epoch()), "{what}");
        let mut there = 0;
        for record in &found.records {
            assert_eq!(*record, self.given[record.seq.0 as usize - 1], "{what}");
            there += u64::from(record.reading().is_some());
        }
        let purged = found.raw.purged;
        let gone = readings(&self.given, found.last) - readings(&self.given, purged) - there;
        let numbers = found.last - purged - found.records.len() as u64;
        // A gap record that is gone counts as a reading: nobody knows what it was.
        assert!((gone..=numbers).contains(&found.lost), "{what}: {gone} gone, {} told", found.lost);
        found.goes_on(look).await;
    }
}

impl Found {
    /// It takes a reading, stops, starts once more.
    async fn goes_on(self, look: &Look) {
        let Found { store, mut appender, writer, cursor, last, .. } = self;
        let epoch = store.epoch();
        let body = number("weather/temperature", at(1.0), 1.0);
        let more = Record { epoch, seq: Seq(last + 1), body };
        appender.append(vec![more.clone()]).await.unwrap();
        drop((appender, cursor));
        writer.run().await.unwrap();
        drop(store);
        let gateway = open(&config(&look.folder), &[forwarder("cloud", &["*"])]).await;
        let (records, _) = gateway.cursors[0].unsent(Seq(last), 2).await.unwrap();
        assert_eq!(records, [more], "{}", look.what);
        assert_ne!(gateway.store.epoch(), epoch);
        gateway.stop().await;
    }
}

/// What was saved of a damaged file.
#[derive(Debug)]
pub(super) struct Saved {
    pub(super) records: Vec<Record>,
    pub(super) lost: u64,
    position: u64,
    dropped: u64,
}

impl Saved {
    pub(super) async fn of(look: &Look) -> Saved {
        let found = look.open().await;
        let what = &look.what;
        // The damaged one is put aside, once, and nothing else is left behind.
        let mut aside: Vec<_> =
            found.aside.iter().map(|name| name.trim_end_matches("-wal")).collect();
        aside.dedup();
        assert!(aside.len() == 1 && aside[0].contains(".damaged-"), "{what}: {aside:?}");
        let Found { records, lost, position, ref status, .. } = found;
        let dropped = status.forwarders[0].dropped;
        Saved { records, lost, position, dropped }
    }

    /// A start that was cut short may have stored some more, or less.
    pub(super) fn is_as(&self, other: &Saved, what: &str) {
        assert_eq!(
            (self.lost, self.position, self.dropped),
            (other.lost, other.position, other.dropped),
            "{what}"
        );
        let epoch = other.records[other.records.len() - 1].epoch;
        let of_before = |saved: &Saved| {
            saved.records.iter().filter(|r| r.epoch != epoch).cloned().collect::<Vec<_>>()
        };
        assert_eq!(of_before(self), of_before(other), "{what}");
    }
}

/// What SQLite says of the file.
struct Raw {
    sound: String,
    /// The last number removed.
    purged: u64,
    /// Readings that gap records in the file tell of, of those that the store lost.
    told: u64,
}

impl Raw {
    async fn of(path: &Path) -> Raw {
        let url = format!("sqlite://{}", path.display());
        let mut db = SqliteConnection::connect(&url).await.unwrap();
        let sql = "SELECT integrity_check, purged,
            (SELECT coalesce(sum(count), 0) FROM gap WHERE reason LIKE 'store %')
            FROM pragma_integrity_check, ledger";
        let row = sqlx::query(sql).fetch_one(&mut db).await.unwrap();
        let number = |column| row.get::<i64, _>(column).cast_unsigned();
        let raw = Raw { sound: row.get(0), purged: number(1), told: number(2) };
        drop(row);
        db.close().await.unwrap();
        raw
    }
}
