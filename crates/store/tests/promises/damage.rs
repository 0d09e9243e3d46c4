//! Files that are damaged in every way: it starts all the same, and what is gone
//! is told.

use std::collections::{HashMap, HashSet};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use reading::{Body, Record, Seq};
use store::{Config, Status};

use crate::support::*;

/// Damages in a run: `TIDEMILL_DAMAGES=500` for more.
const DAMAGES: u64 = 50;

/// A gateway must be up by then.
const START_MAX: Duration = Duration::from_secs(10);

const READINGS: u64 = 6_000;
const ACKNOWLEDGED: u64 = 2_000;

/// A store after some life: two starts, gaps, a forwarder a third through. With
/// a log beside it when it was killed.
async fn life(folder: &Path, killed: bool) -> (Config, Vec<Record>) {
    let config = config(folder);
    let subscription = [forwarder("cloud", &["*"])];
    let mut log = Vec::new();
    for start in 0..2 {
        let mut gateway = open(&config, &subscription).await;
        for n in 0..30_u64 {
            let (epoch, first) = (gateway.appender.epoch(), gateway.appender.next());
            let mut bodies: Vec<_> = (0..READINGS / 60)
                .map(|m| number("weather/temperature", at((n * 100 + m) as f64), m as f64))
                .collect();
            bodies.push(gap(n as f64, 1, None));
            for (m, body) in bodies.iter().cloned().enumerate() {
                log.push(Record { epoch, seq: Seq(first.0 + m as u64), body });
            }
            gateway.append(bodies).await.unwrap();
        }
        gateway.settle().await;
        if start == 0 {
            let after = gateway.cursors[0].position();
            let (_, through) =
                gateway.cursors[0].unsent(after, ACKNOWLEDGED as usize).await.unwrap();
            gateway.cursors[0].acknowledge(through);
        } else if killed {
            let (copy, path) = gateway.killed();
            gateway.stop().await;
            // Into the folder of the caller, in place of what was stopped.
            for suffix in ["", "-wal"] {
                std::fs::copy(beside(&path, suffix), beside(&config.path, suffix)).unwrap();
            }
            drop(copy);
            return (config, log);
        }
        gateway.stop().await;
    }
    (config, log)
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    PathBuf::from(format!("{}{suffix}", path.display()))
}

/// One random damage; what it was, for whoever has to find the cause, and how
/// many records it can have changed so that nobody can tell.
fn damage(path: &Path, dice: &mut Dice) -> (String, usize) {
    let has_log = std::fs::metadata(beside(path, "-wal")).is_ok_and(|log| log.len() > 0);
    let target = if has_log && dice.below(3) == 0 { beside(path, "-wal") } else { path.to_owned() };
    let file = OpenOptions::new().write(true).read(true).open(&target).unwrap();
    let len = file.metadata().unwrap().len();
    let name = target.file_name().unwrap().to_string_lossy().into_owned();
    match dice.below(6) {
        0 => {
            let to = dice.below(len);
            file.set_len(to).unwrap();
            // The end of a page is zeros then.
            (format!("{name} of {len} cut to {to}"), 1)
        }
        1 => {
            let count = 1 + dice.below(40);
            for _ in 0..count {
                flip(&file, dice.below(len), 1 << dice.below(8));
            }
            (format!("{count} bits of {name} flipped"), count as usize)
        }
        2 => {
            let (at, count) = (dice.below(len), 1 + dice.below(len / 2));
            let zeros = vec![0; count.min(len - at) as usize];
            file.write_all_at(&zeros, at).unwrap();
            // At both ends.
            (format!("{count} bytes of {name} at {at} zeroed"), 2)
        }
        3 => {
            let at = dice.below(len / 512) * 512;
            let noise: Vec<u8> = (0..512).map(|_| dice.below(256) as u8).collect();
            file.write_all_at(&noise, at).unwrap();
            (format!("noise on {name} at {at}"), 0)
        }
        4 => {
            // Where all begins: header, schema, the roots of the tables.
            let at = dice.below(16 * 512);
            flip(&file, at.min(len - 1), 1 << dice.below(8));
            (format!("a bit of {name} at {at} flipped"), 1)
        }
        _ => {
            let text = b"this is not a database, it is a letter to a friend ".repeat(4);
            file.set_len(0).unwrap();
            file.write_all_at(&text, 0).unwrap();
            (format!("{name} is a letter"), 0)
        }
    }
}

fn flip(file: &File, at: u64, bit: u8) {
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ bit], at).unwrap();
}

fn name(record: &Record) -> (u64, u64) {
    (record.epoch.0, record.seq.0)
}

/// What must hold whatever was damaged.
async fn holds(config: &Config, log: &[Record], what: &str, changed: usize) -> (Status, usize) {
    let began = Instant::now();
    let mut gateway = open(config, &[forwarder("cloud", &["*"])]).await;
    assert!(began.elapsed() < START_MAX, "{what}: {:?}", began.elapsed());
    let status = gateway.store.status();
    balanced(&status);
    assert_eq!(status.dropped, 0, "{what}");
    let strange = status.losses.iter().find(|loss| loss.reason != "store damaged");
    assert_eq!(strange, None, "{what}");
    assert_eq!(status.stored - status.readings, lost(&status), "{what}: each loss is counted");

    // A new name for what comes, and nothing under the name of another.
    let epoch = gateway.store.epoch();
    assert!(log.iter().all(|record| record.epoch != epoch), "{what}");
    let known: HashMap<_, _> = log.iter().map(|record| (record.seq, record)).collect();
    let position = gateway.cursors[0].position();
    let (records, through) = drain(&gateway.cursors[0], position, 1_000).await;
    let mut names = HashSet::new();
    let mut strange = 0;
    for record in &records {
        assert!(names.insert(name(record)), "{what}: {record:?} twice");
        // Where the tables of starts and of channels are gone, so are the names.
        let same = |known: &&Record| same_body(&known.body, &record.body);
        strange += usize::from(!known.get(&record.seq).is_some_and(same));
    }
    assert!(strange <= changed, "{what}: {strange} records that were never appended");
    gateway.cursors[0].acknowledge(through);
    balanced(&gateway.store.status());

    // It takes more, and tells what is gone.
    let told = gateway.appender.losses();
    assert_eq!(told.iter().map(|gap| gap.count).sum::<u64>(), lost(&status), "{what}: {told:?}");
    assert!(told.iter().all(|gap| gap.reason == "store damaged" && gap.from <= gap.to), "{what}");
    gateway.append(told.into_iter().map(Body::Gap).collect()).await.unwrap();
    gateway.append(vec![number("weather/temperature", at(9e6), 1.0)]).await.unwrap();
    let status = gateway.settle().await;
    balanced(&status);
    gateway.stop().await;
    // Another start finds nothing to mend.
    let before = asides(config).len();
    let gateway = open(config, &[forwarder("cloud", &["*"])]).await;
    let again = gateway.store.status();
    balanced(&again);
    assert_eq!((again.stored, again.readings), (status.stored, status.readings), "{what}");
    assert_eq!(asides(config).len(), before, "{what}");
    gateway.stop().await;
    (status, records.len())
}

fn same_body(known: &Body, found: &Body) -> bool {
    match (known, found) {
        (Body::Reading(known), Body::Reading(found)) => {
            let nameless = found.channel.device() == "salvaged";
            (nameless || known.channel == found.channel)
                && (known.at, &known.value) == (found.at, &found.value)
        }
        (Body::Gap(known), Body::Gap(found)) => {
            (known.from, known.to, known.count) == (found.from, found.to, found.count)
        }
        _ => false,
    }
}

fn lost(status: &Status) -> u64 {
    status.losses.iter().filter(|loss| loss.reason == "store damaged").map(|loss| loss.count).sum()
}

/// The files put aside.
fn asides(config: &Config) -> Vec<String> {
    let folder = std::fs::read_dir(config.path.parent().unwrap()).unwrap();
    let names = folder.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with("tidemill.db.damaged-")).collect()
}

fn copy(from: &Config, folder: &Path) -> Config {
    let to = config(folder);
    for suffix in ["", "-wal"] {
        // There may be no log.
        drop(std::fs::copy(beside(&from.path, suffix), beside(&to.path, suffix)));
    }
    to
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_damaged_it_starts_and_tells_what_is_gone() {
    let told = std::env::var("TIDEMILL_DAMAGES").ok().and_then(|count| count.parse().ok());
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let lives = [life(folders[0].path(), false).await, life(folders[1].path(), true).await];
    let mut put_aside = 0;
    for seed in 0..told.unwrap_or(DAMAGES) {
        let (config, log) = &lives[(seed % 2) as usize];
        let folder = tempfile::tempdir().unwrap();
        let config = copy(config, folder.path());
        let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let (what, changed) = damage(&config.path, &mut dice);
        holds(&config, log, &format!("seed {seed}: {what}"), changed).await;
        put_aside += u64::from(!asides(&config).is_empty());
    }
    assert!(put_aside * 3 > told.unwrap_or(DAMAGES), "{put_aside}: the damage does damage");
}

#[tokio::test]
async fn a_page_at_fault_costs_its_own_rows_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (config, log) = life(folder.path(), false).await;
    let file = OpenOptions::new().write(true).open(&config.path).unwrap();
    let len = file.metadata().unwrap().len();
    // Header and schema, and a page in the middle.
    file.write_all_at(&[0; 1_024], 0).unwrap();
    file.write_all_at(&[0; 512], len / 1_024 * 512).unwrap();
    let (status, _) = holds(&config, &log, "two pages", 0).await;
    assert!(lost(&status) < 60, "{status:?}");
    assert_eq!(asides(&config).len(), 1);
    let aside = &asides(&config)[0];
    assert!(aside.len() == "tidemill.db.damaged-2026-11-24T082003Z".len(), "{aside}");
}

#[tokio::test]
async fn a_log_without_its_file_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let (config, log) = life(folder.path(), true).await;
    std::fs::remove_file(&config.path).unwrap();
    let (status, _) = holds(&config, &log, "no file", 0).await;
    assert!(status.readings > 0, "{status:?}");
    assert!(asides(&config).iter().any(|name| name.ends_with("-wal")));
}

#[tokio::test]
async fn a_file_that_another_program_never_lets_go_is_put_aside_with_nothing_lost() {
    let folder = tempfile::tempdir().unwrap();
    let (config, log) = life(folder.path(), false).await;
    let url = format!("sqlite://{}", config.path.display());
    let mut other = <sqlx::SqliteConnection as sqlx::Connection>::connect(&url).await.unwrap();
    sqlx::query("BEGIN IMMEDIATE").execute(&mut other).await.unwrap();
    let (status, records) = holds(&config, &log, "locked", 0).await;
    assert_eq!((lost(&status), status.readings), (0, READINGS + 1));
    assert_eq!(records as u64, READINGS + 60 - ACKNOWLEDGED);
}

#[tokio::test]
async fn of_files_put_aside_the_newest_three_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path());
    for _ in 0..5 {
        std::fs::write(&config.path, "no database").unwrap();
        open(&config, &[]).await.stop().await;
    }
    assert_eq!(asides(&config).len(), 3);
}

#[tokio::test]
async fn damage_met_while_it_runs_is_mended_and_the_ledger_holds() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path());
    let subscription = [forwarder("cloud", &["*"])];
    let mut gateway = open(&config, &subscription).await;
    let readings = |count: u64| {
        (0..count).map(|n| number("weather/temperature", at(n as f64), n as f64)).collect()
    };
    for _ in 0..10 {
        gateway.append(readings(5_000)).await.unwrap();
    }
    gateway.settle().await;
    let epoch = gateway.store.epoch();
    gateway.stop().await;
    let mut gateway = open(&config, &subscription).await;
    // The first tenth is in the forwarder's hands when the rest goes bad.
    let (first, through) = gateway.cursors[0].unsent(Seq(0), 5_000).await.unwrap();
    assert_eq!(first.len(), 5_000);
    let file = OpenOptions::new().write(true).open(&config.path).unwrap();
    let len = file.metadata().unwrap().len();
    let noise = vec![0xa5; (len / 2) as usize];
    file.write_all_at(&noise, len / 4).unwrap();

    gateway.append(readings(1_000)).await.unwrap();
    // The forwarder reads on, and meets it.
    let mut after = through;
    let mut got = Vec::new();
    let began = Instant::now();
    while after < Seq(51_000) {
        assert!(began.elapsed() < START_MAX, "{:?}", gateway.store.status());
        match gateway.cursors[0].unsent(after, 5_000).await {
            Ok((records, through)) if through > after => {
                got.extend(records);
                gateway.cursors[0].acknowledge(through);
                after = through;
            }
            _ => tokio::time::sleep(Duration::from_millis(50)).await,
        }
        balanced(&gateway.store.status());
    }
    let status = gateway.settle().await;
    balanced(&status);
    let [cloud] = &status.forwarders[..] else { panic!() };
    let lost = lost(&status);
    assert!((10_000..30_000).contains(&lost), "{lost}");
    assert_eq!(cloud.dropped, lost, "what went was owed");
    assert_eq!((cloud.pending, cloud.acknowledged), (0, 51_000 - lost));
    assert_eq!((status.stored, status.readings), (51_000, 51_000 - lost));
    assert!(got.iter().take(10).all(|record| record.epoch == epoch));
    let told = gateway.appender.losses();
    assert_eq!(told.iter().map(|gap| gap.count).sum::<u64>(), lost);
    gateway.stop().await;
    // Not told yet: after the next start it is.
    let mut gateway = open(&config, &subscription).await;
    assert_eq!(gateway.appender.losses().iter().map(|gap| gap.count).sum::<u64>(), lost);
    balanced(&gateway.store.status());
    gateway.stop().await;
}

#[tokio::test]
async fn a_number_that_is_there_twice_is_damage() {
    let folder = tempfile::tempdir().unwrap();
    let (config, log) = life(folder.path(), false).await;
    let url = format!("sqlite://{}", config.path.display());
    let mut db = <sqlx::SqliteConnection as sqlx::Connection>::connect(&url).await.unwrap();
    // As a flipped bit makes it: the gap's number is a reading's.
    let sql = "UPDATE gap SET seq = seq - 1 WHERE seq = (SELECT max(seq) FROM gap)";
    sqlx::query(sql).execute(&mut db).await.unwrap();
    sqlx::Connection::close(db).await.unwrap();
    let (status, _) = holds(&config, &log, "twice", 0).await;
    assert_eq!((asides(&config).len(), lost(&status)), (1, 0));
}
