//! A power cut at any moment: the calls of the real writer, recorded by strace,
//! are replayed up to a cut, with what wasn't synchronised there in part, torn
//! or out of order; then the real store is opened on what that leaves.
//!
//! `TIDEMILL_STATES=100000` for more states than a usual run looks at.

mod disk;
mod life;
mod recorder;

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Instant;

use reading::{Epoch, Record, Seq};
use sqlx::{Connection as _, Row as _, SqliteConnection};
use store::{Appender, Cursor, Status, Store, Writer};
use tempfile::TempDir;

use self::disk::{Disk, Fate, State};
use self::life::{LIFE, Told, config};
use self::recorder::{Call, record};
use crate::support::*;

/// States in a usual run, all different.
const STATES: usize = 10_000;

/// Looked at side by side: each waits for its threads more than it works.
const BESIDE: usize = 6;

/// One in so many takes another reading, stops, and starts once more.
const THOROUGH: usize = 16;

/// In memory where there is such a place: nothing here needs a real disk.
fn scratch() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// The recorded program: this test alone, started by the one below. By itself
/// it lives the last start, which is short.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_to_be_recorded() {
    let told = |name| std::env::var_os(name);
    if let (Some(folder), Some(start)) = (told(recorder::FOLDER), told(recorder::START)) {
        life::live(Path::new(&folder), start.to_str().unwrap().parse().unwrap()).await;
    } else {
        life::live(&scratch().path().join("store"), life::SHORT).await;
    }
}

#[test]
fn a_power_cut_at_any_moment_loses_nothing_durable() {
    let states = states();
    let home = scratch();
    let began = Instant::now();
    let recording =
        Recording::of(&LIFE.collect::<Vec<_>>(), &State::new(), Told::default(), home.path());
    println!("{} calls recorded in {:?}", recording.calls(), began.elapsed());

    let began = Instant::now();
    let cuts = recording.cuts().take(states).enumerate();
    let mut home = home;
    // What fails stays where it can be looked at, with what was recorded.
    home.disable_cleanup(true);
    let found = beside(cuts, async |(n, (what, state, expected))| {
        let look = Look::new(&home, n, what, state);
        expected.holds(&look, n % THOROUGH == 0).await;
    });
    home.disable_cleanup(false);
    println!("{found} different states looked at in {:?}", began.elapsed());
    assert_eq!(found, states, "the recorded life is too short for so many states");
}

#[test]
fn a_power_cut_while_a_damaged_file_is_put_aside_loses_nothing_more() {
    let mut home = scratch();
    home.disable_cleanup(true);
    let before =
        Recording::of(&[life::BEFORE], &State::new(), Told::default(), &home.path().join("before"));
    let mut files = before.end();
    // The header, and every third page behind those with which the tables begin.
    let mut pages = files.get_mut("tidemill.db").unwrap().chunks_mut(512);
    pages.next().unwrap().fill(0);
    pages.skip(40).step_by(3).for_each(|page| page.fill(0));
    let recording = Recording::of(&[life::SHORT], &files, before.told(), home.path());
    // What a start that nobody cuts short makes of it.
    let look = Look::new(&home, usize::MAX, "without a cut".to_owned(), recording.end());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let saved = runtime.block_on(Saved::of(&look));
    assert!(saved.lost > 0 && saved.records.len() > 50, "{saved:?}");
    let calls = recording.calls();
    let cuts = recording.cuts().take(states() / 30).enumerate();
    let found = beside(cuts, async |(n, (what, state, _))| {
        let look = Look::new(&home, n, what, state);
        Saved::of(&look).await.is_as(&saved, &look.what);
    });
    println!("{found} different states of {calls} calls looked at");
    home.disable_cleanup(false);
}

#[test]
fn a_power_cut_while_damage_is_mended_loses_nothing_untold() {
    let mut home = scratch();
    home.disable_cleanup(true);
    let recording =
        Recording::of(&[life::BEFORE, life::MENDED], &State::new(), Told::default(), home.path());
    let calls = recording.calls();
    let cuts = recording.cuts().filter(|(what, ..)| what.starts_with("start 1"));
    let found =
        beside(cuts.take(states() / 30).enumerate(), async |(n, (what, state, expected))| {
            let look = Look::new(&home, n, what, state);
            expected.holds_but_for_damage(&look).await;
        });
    println!("{found} different states of {calls} calls looked at");
    home.disable_cleanup(false);
}

/// How many a usual run looks at, or the longer one that was asked for.
fn states() -> usize {
    let told = std::env::var("TIDEMILL_STATES").ok().and_then(|count| count.parse().ok());
    told.unwrap_or(STATES)
}

/// Does the same with each item, on some threads; says how many there were.
/// Each thread that fails tells why, the others go on to the end.
fn beside<T: Send>(items: impl Iterator<Item = T>, work: impl AsyncFn(T) + Sync) -> usize {
    let work = &work;
    let (sender, items_of_all) = mpsc::sync_channel(BESIDE);
    let items_of_all = Arc::new(Mutex::new(items_of_all));
    std::thread::scope(move |scope| {
        for _ in 0..BESIDE {
            let items = Arc::clone(&items_of_all);
            scope.spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                let next = || items.lock().unwrap_or_else(PoisonError::into_inner).recv();
                runtime.unwrap().block_on(async {
                    while let Ok(item) = next() {
                        work(item).await;
                    }
                });
            });
        }
        drop(items_of_all);
        let count = items.map_while(|item| sender.send(item).ok()).count();
        // Nothing more comes.
        drop(sender);
        count
    })
}

/// What must be in a state.
#[derive(Clone)]
struct Expected {
    /// What each number was given to, from 1.
    given: Arc<Vec<Record>>,
    epochs: Arc<Vec<Epoch>>,
    durable: u64,
    acknowledged: u64,
}

/// What some starts asked of the disk.
struct Recording {
    /// The folder before, and what its numbers had been given to.
    disk: Disk,
    before: Told,
    starts: Vec<Vec<Call>>,
}

impl Recording {
    /// The starts one after the other, on a folder that has these files.
    fn of(starts: &[usize], files: &State, before: Told, home: &Path) -> Recording {
        // A kill may interrupt a call that has had its effect already: then what
        // is recorded isn't what happened, and it is recorded once more.
        let whole = (0..5).find_map(|attempt| {
            let folder = home.join(format!("recorded-{attempt}"));
            disk::put(files, &folder);
            let disk = Disk::of(&folder);
            let mut replayed = disk.clone();
            let mut calls = Vec::new();
            for start in starts {
                calls.push(record("crash::a_start_to_be_recorded", *start, &folder));
                replayed.restart();
                calls[calls.len() - 1].iter().for_each(|call| {
                    replayed.ask(call);
                });
            }
            let same = replayed.cut(Fate::All, &mut Dice(1)) == disk::files(&folder);
            same.then_some(Recording { disk, before: before.clone(), starts: calls })
        });
        whole.expect("the calls, replayed, give the very files that they were recorded of")
    }

    /// The folder after it.
    fn end(&self) -> State {
        let mut disk = self.disk.clone();
        for start in &self.starts {
            disk.restart();
            start.iter().for_each(|call| {
                disk.ask(call);
            });
        }
        disk.cut(Fate::All, &mut Dice(1))
    }

    /// What the numbers are given to after it.
    fn told(&self) -> Told {
        let mut told = self.before.clone();
        for call in self.starts.iter().flatten() {
            if let Call::Note(line) = call {
                told.note(line);
            }
        }
        told
    }

    fn calls(&self) -> usize {
        self.starts.iter().map(Vec::len).sum()
    }

    fn cuts(self) -> Cuts {
        let mut told = self.before.clone();
        let mut tellings = Vec::new();
        for call in self.starts.iter().flatten() {
            if let Call::Note(line) = call {
                if line.starts_with("start") {
                    tellings.push(Arc::new(told.given.clone()));
                }
                told.note(line);
            }
        }
        tellings.push(Arc::new(told.given));
        let given = Arc::clone(&tellings[0]);
        let epochs = Arc::new(told.epochs);
        let expected = Expected { given, epochs, durable: 0, acknowledged: 0 };
        Cuts {
            disk: self.disk.clone(),
            tellings,
            round: 0,
            start: 0,
            call: 0,
            expected,
            told: self.before.clone(),
            dice: Dice(1),
            seen: HashSet::new(),
            new: 0,
            recording: self,
        }
    }
}

/// All cuts of a recording, over and over, each time with another fate of what
/// wasn't synchronised.
struct Cuts {
    recording: Recording,
    tellings: Vec<Arc<Vec<Record>>>,
    round: usize,
    start: usize,
    call: usize,
    disk: Disk,
    expected: Expected,
    told: Told,
    dice: Dice,
    seen: HashSet<u64>,
    /// In this round.
    new: usize,
}

impl Cuts {
    fn told_so_far(&mut self) {
        let starts = self.told.epochs.len() - self.recording.before.epochs.len();
        self.expected.given = Arc::clone(&self.tellings[starts]);
        self.expected.durable = self.told.durable;
        self.expected.acknowledged = self.told.acknowledged;
    }
}

impl Iterator for Cuts {
    /// Which it is, for whoever has to find the cause; what is there; what must be.
    type Item = (String, State, Expected);

    /// The next state that hasn't been seen yet; none when a round has shown
    /// nothing new.
    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let Some(calls) = self.recording.starts.get(self.start) else {
                if self.new == 0 {
                    return None;
                }
                self.new = 0;
                self.round += 1;
                (self.start, self.call) = (0, 0);
                self.disk = self.recording.disk.clone();
                self.told = self.recording.before.clone();
                self.told_so_far();
                continue;
            };
            let Some(call) = calls.get(self.call) else {
                self.start += 1;
                self.call = 0;
                self.disk.restart();
                continue;
            };
            self.call += 1;
            if let Call::Note(line) = call {
                self.told.note(line);
                self.told_so_far();
                continue;
            }
            if !self.disk.ask(call) {
                continue;
            }
            let fate = Fate::ALL[(self.round + self.call) % Fate::ALL.len()];
            let state = self.disk.cut(fate, &mut self.dice);
            let mut hasher = DefaultHasher::new();
            state.hash(&mut hasher);
            if self.seen.insert(hasher.finish()) {
                self.new += 1;
                let what = format!("start {} call {} {fate:?}", self.start, self.call);
                return Some((what, state, self.expected.clone()));
            }
        }
    }
}

/// Readings among the first so many records.
fn readings(records: &[Record], through: u64) -> u64 {
    records[..through as usize].iter().filter(|record| record.reading().is_some()).count() as u64
}

/// A state in a folder of its own.
struct Look {
    folder: PathBuf,
    what: String,
}

impl Look {
    fn new(home: &TempDir, n: usize, what: String, state: State) -> Look {
        let folder = home.path().join(n.to_string());
        disk::put(&state, &folder);
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
    async fn holds(&self, look: &Look, thorough: bool) {
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
    async fn holds_but_for_damage(&self, look: &Look) {
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
struct Saved {
    records: Vec<Record>,
    lost: u64,
    position: u64,
    dropped: u64,
}

impl Saved {
    async fn of(look: &Look) -> Saved {
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
    fn is_as(&self, other: &Saved, what: &str) {
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
