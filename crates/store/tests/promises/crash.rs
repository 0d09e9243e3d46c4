//! A power cut at any moment: the calls of the real writer, recorded by strace,
//! are replayed up to a cut, with what wasn't synchronised there in part, torn
//! or out of order; then the real store is opened on what that leaves.
//!
//! `TIDEMILL_STATES=100000` for more states than a usual run looks at.

mod disk;
mod expected;
mod life;
mod recorder;
mod recording;

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Instant;

use tempfile::TempDir;

use self::disk::State;
use self::expected::{Look, Saved, THOROUGH};
use self::life::{LIFE, Told};
use self::recording::Recording;
use crate::upgrade;

/// States in a usual run, all different.
const STATES: usize = 10_000;

/// Looked at side by side: each waits for its threads more than it works.
const BESIDE: usize = 4;

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
    at_home(|home| {
        let began = Instant::now();
        let recording = Recording::of(&LIFE, &State::new(), Told::default(), home);
        println!("{} calls recorded in {:?}", recording.calls(), began.elapsed());

        let began = Instant::now();
        let cuts = recording.cuts().take(states()).enumerate();
        let found = beside(cuts, async |(n, (what, state, expected))| {
            expected.holds(&Look::new(home, n, what, &state), n % THOROUGH == 0).await;
        });
        println!("{found} different states looked at in {:?}", began.elapsed());
        assert_eq!(found, states(), "the recorded life is too short for so many states");
    });
}

#[test]
fn a_power_cut_while_it_starts_after_another_loses_nothing_durable() {
    at_home(|home| {
        let first = Recording::of(&[life::BEFORE], &State::new(), Told::default(), home);
        // Somewhere in it, with different fates.
        let cuts = first.cuts().skip(500).step_by(97).take(states().div_ceil(2_500));
        for (n, (_, state, expected)) in cuts.enumerate() {
            let home = home.join(format!("cut-{n}"));
            let second = Recording::of(&[life::SHORT], &state, expected.told(), &home);
            let cuts = second.cuts().take(100).enumerate();
            let found = beside(cuts, async |(n, (what, state, expected))| {
                expected.holds(&Look::new(&home, n, what, &state), true).await;
            });
            assert!(found > 50, "{found}");
        }
    });
}

#[test]
fn a_power_cut_while_the_schema_is_upgraded_keeps_every_row() {
    at_home(|home| {
        let old = home.join("old");
        std::fs::create_dir(&old).unwrap();
        let given = runtime().block_on(upgrade::file_of(1, &old));
        let told = Told {
            epochs: vec![upgrade::EPOCH],
            given,
            durable: upgrade::RECORDS,
            acknowledged: upgrade::ACKNOWLEDGED,
        };
        let recording = Recording::of(&[life::SHORT], &disk::files(&old), told, home);
        let cuts = recording.cuts().take(states() / 30).enumerate();
        let found = beside(cuts, async |(n, (what, state, expected))| {
            expected.holds(&Look::new(home, n, what, &state), n % THOROUGH == 0).await;
        });
        assert!(found > 200, "{found}");
    });
}

#[test]
fn a_power_cut_while_a_damaged_file_is_put_aside_loses_nothing_more() {
    at_home(|home| {
        // With a log beside it that has a part of it.
        let starts = [life::BEFORE, life::SHORT, life::BEFORE];
        let before = Recording::of(&starts, &State::new(), Told::default(), &home.join("before"));
        let mut files = before.end();
        // The header, and every third page behind those with which the tables begin.
        let mut pages = files.get_mut("tidemill.db").unwrap().chunks_mut(512);
        pages.next().unwrap().fill(0);
        pages.skip(life::INTACT).step_by(3).for_each(|page| page.fill(0));
        let recording = Recording::of(&[life::SHORT], &files, before.told(), home);
        // What a start that nobody cuts short makes of it.
        let look = Look::new(home, usize::MAX, "without a cut".to_owned(), &recording.end());
        let saved = runtime().block_on(Saved::of(&look));
        assert!(saved.lost > 0 && saved.records.len() > 50, "{saved:?}");
        let cuts = recording.cuts().take(states() / 30).enumerate();
        let found = beside(cuts, async |(n, (what, state, _))| {
            let look = Look::new(home, n, what, &state);
            Saved::of(&look).await.is_as(&saved, &look.what);
        });
        assert!(found > 200, "{found}");
    });
}

#[test]
fn a_power_cut_while_damage_is_mended_loses_nothing_untold() {
    at_home(|home| {
        let starts = [life::BEFORE, life::SHORT, life::MENDED];
        let recording = Recording::of(&starts, &State::new(), Told::default(), home);
        let cuts = recording.cuts().filter(|(what, ..)| what.starts_with("start 2"));
        let cuts = cuts.take(states() / 30).enumerate();
        let found = beside(cuts, async |(n, (what, state, expected))| {
            expected.holds_but_for_damage(&Look::new(home, n, what, &state)).await;
        });
        assert!(found > 200, "{found}");
    });
}

/// Does it in a folder that is kept when it fails: what doesn't hold can be
/// looked at there, and what was recorded.
fn at_home(test: impl FnOnce(&Path)) {
    let mut home = scratch();
    home.disable_cleanup(true);
    test(home.path());
    home.disable_cleanup(false);
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
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
                let next = || items.lock().unwrap_or_else(PoisonError::into_inner).recv();
                runtime().block_on(async {
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
