//! What is taken before the clock is set, and clocks that jump.

use reading::{Doubt, Record, Timestamp, Value};
use sqlx::{Connection as _, SqliteConnection};
use std::time::Duration;
use store::{Config, Query, Status};

use crate::support::*;

const SECOND: i64 = 1_000_000;
const HOUR: i64 = 3_600 * SECOND;
const YEARS: i64 = 56 * 365 * 24 * HOUR;

/// How far the clock is ahead of the uptime when it shows [`at`]`(0.0)` now.
fn right() -> i64 {
    START - i64::try_from(reading::clock::uptime().as_micros()).unwrap()
}

/// One a second from `from` on, as a clock shows it that is wrong by `wrong`.
fn seconds(from: u32, count: u32, wrong: i64) -> Vec<reading::Body> {
    let second = |n: u32| {
        let at = Timestamp::from_micros(at(f64::from(n)).as_micros() + wrong);
        number("weather/temperature", at, f64::from(n))
    };
    (from..from + count).map(second).collect()
}

/// Times in seconds after the start, and whether each is good.
fn told(records: &[Record]) -> Vec<(f64, bool)> {
    let one = |record: &Record| {
        let reading = record.reading()?;
        let seconds = (reading.at.as_micros() - START) as f64 / 1e6;
        match &reading.value {
            Value::Good(_) => Some((seconds, true)),
            Value::Uncertain(_, Doubt::ClockUnset) => Some((seconds, false)),
            other => panic!("{other:?}"),
        }
    };
    records.iter().filter_map(one).collect()
}

fn good(from: u32, count: u32) -> Vec<(f64, bool)> {
    (from..from + count).map(|n| (f64::from(n), true)).collect()
}

async fn released(gateway: &Running) -> Status {
    let done = async {
        while gateway.store.status().held > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), done).await.expect("it is still held back");
    gateway.store.status()
}

async fn all_of_history(gateway: &Running, from: f64, to: f64) -> Vec<(f64, bool)> {
    let query = Query { channel: channel("weather/temperature"), from: at(from), to: at(to) };
    let reduced = gateway.store.reduced(&query, 1).await.unwrap();
    let found = gateway.store.history(&query, 1_000_000).await.unwrap();
    let count: u64 = reduced.iter().map(|bucket| bucket.count).sum();
    assert_eq!(count, found.len() as u64, "figures and readings tell the same");
    told(&found)
}

/// As if the machine had been started anew since.
async fn reboot(config: &Config) {
    let url = format!("sqlite://{}", config.path.display());
    let mut db = SqliteConnection::connect(&url).await.unwrap();
    sqlx::query("UPDATE undated SET boot_id = 'another'").execute(&mut db).await.unwrap();
    db.close().await.unwrap();
}

#[tokio::test]
async fn what_is_taken_before_the_clock_is_set_waits_and_is_corrected() {
    for wrong in [-YEARS, -HOUR, HOUR, -SECOND] {
        let folder = tempfile::tempdir().unwrap();
        let config = config(folder.path());
        let mut gateway = open(&config, &[forwarder("cloud", &["*"])]).await;
        gateway.appender.hold(right() + wrong);
        gateway.append(seconds(0, 500, wrong)).await.unwrap();
        let lost = at(3.0).as_micros() + wrong;
        let lost = |from| reading::Gap {
            from: Timestamp::from_micros(from),
            to: Timestamp::from_micros(lost + SECOND),
            count: 1,
            channel: Some(channel("weather/temperature")),
            reason: "line down".into(),
        };
        gateway.append(vec![reading::Body::Gap(lost(at(3.0).as_micros() + wrong))]).await.unwrap();
        let status = gateway.settle().await;
        balanced(&status);
        assert_eq!(status.held, 500);
        assert_eq!(status.forwarders[0].pending, 500);
        assert_eq!(gateway.cursors[0].unsent(reading::Seq(0), 9).await.unwrap().0, []);
        let shown = wrong as f64 / 1e6;
        assert_eq!(all_of_history(&gateway, shown, shown + 500.0).await.len(), 500, "visible");

        let (concerned, waited) =
            (gateway.appender.date(right()), gateway.append(seconds(500, 10, 0)));
        assert_eq!(concerned, 500);
        waited.await.unwrap();
        gateway.settle().await;
        balanced(&released(&gateway).await);
        let (records, last) = drain(&gateway.cursors[0], reading::Seq(0), 7).await;
        assert_eq!(seqs(&records), (1..=511).collect::<Vec<_>>());
        let near: Vec<_> = told(&records).iter().map(|(s, good)| (s.round(), *good)).collect();
        assert_eq!(near, good(0, 510), "{wrong}");
        let reading::Body::Gap(gap) = &records[500].body else { panic!("{:?}", records[500]) };
        assert!(gap.from.since(at(3.0)) < Duration::from_millis(500) && gap.from <= gap.to);
        gateway.cursors[0].acknowledge(last);
        assert_eq!(gateway.store.status().forwarders[0].pending, 0);
        // From memory, from the file, and after a restart.
        for _ in 0..2 {
            let found = all_of_history(&gateway, -1.0, 520.0).await;
            let near: Vec<_> = found.iter().map(|(s, good)| (s.round(), *good)).collect();
            assert_eq!(near, good(0, 510), "{wrong}");
            gateway.stop().await;
            gateway = open(&config, &[forwarder("cloud", &["*"])]).await;
            gateway.appender.date(right());
            assert_eq!(gateway.cursors[0].position(), last);
            assert_eq!(gateway.store.status().held, 0);
        }
        gateway.stop().await;
    }
}

#[tokio::test]
async fn a_process_started_anew_corrects_what_waited_in_the_one_before() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path());
    let cloud = [forwarder("cloud", &["*"])];
    let mut gateway = open(&config, &cloud).await;
    assert_eq!(gateway.appender.held_since(), None);
    let unset = right() - YEARS;
    gateway.appender.hold(unset);
    gateway.append(seconds(0, 300, -YEARS)).await.unwrap();
    gateway.settle().await;
    // Killed, and started once more before the clock is set.
    let (_folder, path) = gateway.killed();
    let config = Config { path, ..config };
    gateway.stop().await;
    let mut gateway = open(&config, &cloud).await;
    assert!(gateway.appender.held_since().unwrap() <= reading::clock::uptime());
    gateway.appender.hold(unset);
    gateway.append(seconds(300, 300, -YEARS)).await.unwrap();
    assert_eq!(gateway.settle().await.held, 600);
    assert_eq!(drain(&gateway.cursors[0], reading::Seq(0), 100).await.0, []);
    gateway.stop().await;
    let mut gateway = open(&config, &cloud).await;
    assert_eq!(gateway.appender.date(unset + YEARS), 600);
    gateway.append(seconds(600, 300, 0)).await.unwrap();
    gateway.settle().await;
    released(&gateway).await;
    let (records, _) = drain(&gateway.cursors[0], reading::Seq(0), 100).await;
    assert_eq!(told(&records), good(0, 900));
    assert_eq!(all_of_history(&gateway, 0.0, 900.0).await, good(0, 900));
    gateway.stop().await;
}

#[tokio::test]
async fn a_machine_started_anew_lets_go_of_what_it_cant_correct_as_uncertain() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path());
    let cloud = [forwarder("cloud", &["*"])];
    let mut gateway = open(&config, &cloud).await;
    gateway.appender.hold(right() - HOUR);
    gateway.append(seconds(0, 100, -HOUR)).await.unwrap();
    gateway.stop().await;
    reboot(&config).await;
    let mut gateway = open(&config, &cloud).await;
    assert_eq!(gateway.appender.held_since(), None, "this one has ten minutes of its own");
    gateway.appender.hold(right() - HOUR);
    gateway.append(seconds(100, 100, -HOUR)).await.unwrap();
    gateway.settle().await;
    let held = async {
        while gateway.store.status().held != 100 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), held).await.expect("the first are let go");
    let (records, _) = drain(&gateway.cursors[0], reading::Seq(0), 9).await;
    let uncertain: Vec<_> = (0..100).map(|n| (f64::from(n) - 3600.0, false)).collect();
    assert_eq!(told(&records), uncertain);
    gateway.appender.date(right());
    balanced(&released(&gateway).await);
    let (records, _) = drain(&gateway.cursors[0], reading::Seq(100), 9).await;
    assert_eq!(records.len(), 100);
    assert!(told(&records).iter().all(|(_, good)| *good));
    gateway.stop().await;
}

#[tokio::test]
async fn a_clock_that_is_never_set_keeps_nothing_for_ever() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path());
    let cloud = [forwarder("cloud", &["*"])];
    let mut gateway = open(&config, &cloud).await;
    gateway.appender.hold(right() - HOUR);
    gateway.append(seconds(0, 100, -HOUR)).await.unwrap();
    gateway.settle().await;
    assert_eq!(gateway.appender.give_up(), 100);
    balanced(&released(&gateway).await);
    let expected: Vec<_> = (0..100).map(|n| (f64::from(n) - 3600.0, false)).collect();
    let (records, _) = drain(&gateway.cursors[0], reading::Seq(0), 9).await;
    assert_eq!(told(&records), expected);
    // What follows waits no more, and the clock set later changes nothing.
    gateway.append(seconds(100, 1, -HOUR)).await.unwrap();
    gateway.settle().await;
    assert_eq!(gateway.store.status().held, 0);
    assert_eq!(gateway.appender.date(right()), 0);
    gateway.append(seconds(101, 1, 0)).await.unwrap();
    gateway.settle().await;
    let (records, _) = drain(&gateway.cursors[0], reading::Seq(100), 9).await;
    assert_eq!(told(&records), [(-3500.0, true), (101.0, true)]);
    assert_eq!(all_of_history(&gateway, -3600.0, -3500.0).await, expected);
    gateway.stop().await;
    // Not held back again in this start of the machine.
    let gateway = open(&config, &cloud).await;
    assert!(gateway.appender.held_since().is_some());
    assert_eq!(gateway.store.status().held, 0);
    gateway.stop().await;
}

#[tokio::test]
async fn killed_in_the_middle_each_is_corrected_once() {
    const COUNT: u32 = 60_000;
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path());
    let cloud = [forwarder("cloud", &["*"])];
    let mut gateway = open(&config, &cloud).await;
    let unset = right() - YEARS;
    gateway.appender.hold(unset);
    for from in (0..COUNT).step_by(10_000) {
        gateway.append(seconds(from, 10_000, -YEARS)).await.unwrap();
    }
    gateway.settle().await;
    gateway.appender.date(unset + YEARS);
    let mut kills: Vec<(u64, tempfile::TempDir, std::path::PathBuf)> = Vec::new();
    while gateway.store.status().held > 0 {
        let held = gateway.store.status().held;
        if kills.last().is_none_or(|(before, ..)| *before != held) {
            let (folder, path) = gateway.killed();
            kills.push((held, folder, path));
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    gateway.stop().await;
    assert!(kills.len() > 2, "in some thousands a transaction");
    for (_, _folder, path) in kills {
        let config = Config { path, ..config.clone() };
        let mut gateway = open(&config, &cloud).await;
        // What was begun is gone on with, whatever the clock says now.
        gateway.appender.date(unset + YEARS);
        balanced(&released(&gateway).await);
        let (records, _) = drain(&gateway.cursors[0], reading::Seq(0), 10_000).await;
        assert!(told(&records) == good(0, COUNT), "each once");
        assert_eq!(all_of_history(&gateway, 0.0, f64::from(COUNT)).await.len(), COUNT as usize);
        gateway.stop().await;
    }
}

#[tokio::test]
async fn a_full_store_gives_up_what_waits_too_and_the_ledger_holds() {
    let folder = tempfile::tempdir().unwrap();
    let max_size = "1MiB".parse().unwrap();
    let config = Config { max_size, keep_free: "0B".parse().unwrap(), ..config(folder.path()) };
    let mut gateway = open(&config, &[forwarder("cloud", &["*"])]).await;
    gateway.appender.hold(right() - YEARS);
    for from in (0..60_000).step_by(5_000) {
        gateway.append(seconds(from, 5_000, -YEARS)).await.unwrap();
        gateway.settle().await;
    }
    let dropped = async {
        while gateway.store.status().forwarders[0].dropped == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), dropped).await.expect("the oldest go");
    gateway.appender.date(right());
    let status = released(&gateway).await;
    balanced(&status);
    let (records, _) = drain(&gateway.cursors[0], reading::Seq(0), 10_000).await;
    let pending = gateway.store.status().forwarders[0].pending;
    assert_eq!(records.iter().filter(|r| r.reading().is_some()).count() as u64, pending);
    assert!(told(&records).iter().all(|(seconds, good)| *good && *seconds > -1.0));
    gateway.stop().await;
}

#[tokio::test]
async fn a_clock_that_jumps_loses_nothing_and_purges_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path());
    let cloud = [forwarder("cloud", &["*"])];
    let mut gateway = open(&config, &cloud).await;
    // 56 years ahead and back, an hour back, an hour ahead, a leap second
    // inserted, which the kernel shows as a second that comes twice.
    for (n, wrong) in [0, YEARS, 0, -HOUR, 0, HOUR, 0, -SECOND].into_iter().enumerate() {
        let from = u32::try_from(n).unwrap() * 100;
        gateway.append(seconds(from, 100, wrong)).await.unwrap();
        gateway.settle().await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    for _ in 0..2 {
        let status = gateway.store.status();
        balanced(&status);
        assert_eq!((status.readings, status.held), (800, 0));
        let (records, _) = drain(&gateway.cursors[0], reading::Seq(0), 30).await;
        assert_eq!(seqs(&records), (1..=800).collect::<Vec<_>>(), "once, ascending");
        let years = YEARS as f64 / 1e6;
        assert_eq!(all_of_history(&gateway, -4_000.0, 5_000.0).await.len(), 700);
        assert_eq!(all_of_history(&gateway, years, years + 1_000.0).await.len(), 100);
        gateway.stop().await;
        gateway = open(&config, &cloud).await;
    }
    // The last value is the last that was read, not that of the latest time.
    let latest = gateway.store.latest().await.unwrap();
    assert_eq!(latest.iter().map(|record| record.seq.0).collect::<Vec<_>>(), [800]);
    gateway.stop().await;
}

/// What a reading is to be in the end: its time in seconds after the start, and
/// whether it is good.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    /// Its clock isn't set yet, and wrong by so many microseconds.
    Waits(i64),
    Is(f64, bool),
}

/// Numbers that follow from a seed: xorshift64*.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) % sides
    }
}

/// Starts of the machine and of the process, clocks that are set, never set and
/// right all along, kills: in the end each reading is given once, in order, with
/// the time and the quality that its clock deserved.
async fn any_life(seed: u64) {
    let mut dice = Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let (folder, cloud) = (tempfile::tempdir().unwrap(), [forwarder("cloud", &["*"])]);
    let (mut config, mut folders) = (config(folder.path()), vec![folder]);
    let (right, mut fates): (i64, Vec<Fate>) = (right(), Vec::new());
    let decide = |fates: &mut Vec<Fate>, corrected: bool| {
        for (n, fate) in (0u32..).zip(fates) {
            let Fate::Waits(wrong) = *fate else { continue };
            let off = if corrected { 0.0 } else { wrong as f64 / 1e6 };
            *fate = Fate::Is(f64::from(n) + off, corrected);
        }
    };
    for last in (0..6).map(|start| start == 5) {
        let mut gateway = open(&config, &cloud).await;
        let mut wrong = [-YEARS, -HOUR, HOUR, -SECOND, 0][dice.roll(5) as usize];
        if last || wrong == 0 {
            wrong = 0;
            gateway.appender.date(right);
            decide(&mut fates, true);
        } else {
            gateway.appender.hold(right + wrong);
        }
        for _ in 0..dice.roll(4) {
            let count = 1 + dice.roll(50) as u32;
            let from = fates.len() as u32;
            gateway.append(seconds(from, count, wrong)).await.unwrap();
            let is = |n| if wrong == 0 { Fate::Is(f64::from(n), true) } else { Fate::Waits(wrong) };
            fates.extend((from..from + count).map(is));
            if dice.roll(2) == 0 {
                gateway.settle().await;
            }
            match dice.roll(6) {
                0 | 1 if wrong != 0 => {
                    gateway.appender.date(right);
                    decide(&mut fates, true);
                    wrong = 0;
                }
                2 if wrong != 0 => {
                    gateway.appender.give_up();
                    decide(&mut fates, false);
                    // What follows is the intake's to mark: none does here.
                    break;
                }
                _ => {}
            }
        }
        gateway.settle().await;
        let waits = fates.iter().filter(|fate| matches!(fate, Fate::Waits(_))).count() as u64;
        let settled = async {
            while gateway.store.status().held != waits {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let settled = tokio::time::timeout(Duration::from_secs(20), settled).await;
        settled.unwrap_or_else(|_| panic!("seed {seed}: {:?} for {waits}", gateway.store.status()));
        balanced(&gateway.store.status());
        let given = drain(&gateway.cursors[0], reading::Seq(0), 64).await.0;
        let ready = fates.iter().position(|fate| matches!(fate, Fate::Waits(_)));
        let ready = &fates[..ready.unwrap_or(fates.len())];
        let told: Vec<_> = told(&given).iter().map(|(s, good)| Fate::Is(*s, *good)).collect();
        assert_eq!(told, ready, "seed {seed}");
        if last {
            let history = all_of_history(&gateway, -1e10, 1e10).await;
            assert_eq!(history.len(), fates.len(), "seed {seed}");
        }
        if dice.roll(2) == 0 {
            let (folder, path) = gateway.killed();
            folders.push(folder);
            config = Config { path, ..config };
        }
        gateway.stop().await;
        if dice.roll(3) == 0 {
            reboot(&config).await;
            decide(&mut fates, false);
        }
    }
}

#[tokio::test]
async fn whatever_becomes_of_the_clock_each_reading_gets_what_it_deserves() {
    let lives = std::env::var("TIDEMILL_LIVES").ok().and_then(|lives| lives.parse().ok());
    for seed in 0..lives.unwrap_or(8) {
        any_life(seed).await;
    }
}

#[tokio::test]
async fn a_damaged_file_still_knows_what_waits() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path());
    let cloud = [forwarder("cloud", &["*"])];
    let mut gateway = open(&config, &cloud).await;
    let unset = right() - YEARS;
    gateway.appender.hold(unset);
    gateway.append(seconds(0, 300, -YEARS)).await.unwrap();
    gateway.stop().await;
    // The header is gone.
    let mut bytes = std::fs::read(&config.path).unwrap();
    bytes[..100].fill(0xFF);
    std::fs::write(&config.path, bytes).unwrap();
    let mut gateway = open(&config, &cloud).await;
    assert_eq!(gateway.store.status().held, 300);
    assert_eq!(gateway.appender.date(unset + YEARS), 300);
    balanced(&released(&gateway).await);
    let (records, _) = drain(&gateway.cursors[0], reading::Seq(0), 100).await;
    assert_eq!(told(&records), good(0, 300));
    gateway.stop().await;
}
