//! The whole of intake, store and forwarder with everything around them
//! simulated: time, scheduling, network, disk, clock and the ends of a process.
//!
//! A run is a seed. It chooses a gateway (devices, forwarders, `flush`, …) and
//! then, step by step, what happens to it: brokers of many moods, faults of the
//! card, a card cut at any call by a kill or by a power cut that leaves any part
//! of what was not durable, jumps of the clock, parts that aren't scheduled. After each
//! step the ledger must balance and the consumer, which stores each reading
//! once by its name, must have seen nothing that can't be. In the end all is
//! healed, and whatever was given is at the consumer, or told by a gap, or within what
//! that end may lose.
//!
//! | module | is |
//! | --- | --- |
//! | `dice` | chance that repeats |
//! | `scheduler` | who is polled next, and what time it is |
//! | `disk` | a card under SQLite |
//! | `broker`, `consumer` | a broker and a network of many moods; who listens to it |
//! | `devices`, `plan` | what the seed chooses for the whole run |
//! | `world` | the lives of a gateway |
//! | `faults` | what is done to it |
//! | `checks` | what is promised |
//!
//! `TIDEMILL_SEED=123 cargo test -p tidemill --lib simulation` repeats one run
//! and prints its steps, with `TIDEMILL_VERBOSE=1` every message as well;
//! `cargo xtask simulate 100000` runs many.

mod broker;
mod checks;
mod consumer;
mod devices;
mod dice;
mod disk;
mod faults;
mod plan;
mod scheduler;
mod world;

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::runtime::Runtime;

use world::{World, Wrong};

/// Seeds that once failed: 869, a durable commit that came as late as `flush`
/// allows without what intake waits; 994, one that had nothing to write and so
/// made nothing durable.
const REGRESSIONS: &[u64] = &[869, 994];

/// Seeds when nobody asks for more.
const SEEDS: u64 = 1_000;

/// What has to happen in a thousand runs: a simulation in which nothing goes
/// wrong shows nothing.
const COMES: &[&str] = &[
    "Kill:",
    "Power:",
    "stopped:",
    "cut at a call",
    "cut while it starts",
    "disk: Some(Io)",
    "disk: Some(Full)",
    "disk: Some(Sync)",
    "slow card: true",
    "writer stalls",
    "the clock jumps",
    "store full",
    "refused by the broker",
    " again, ",
];

/// Lines of a trace that a failure shows.
const SHOWN_MAX: usize = 60;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// A folder, in memory where Linux has a place for that, and paused time.
fn place() -> io::Result<(TempDir, Runtime)> {
    let memory = Path::new("/dev/shm");
    let place = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    let folder = tempfile::Builder::new().prefix("tidemill-simulation").tempdir_in(place)?;
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    Ok((folder, runtime.enable_time().start_paused(true).build()?))
}

/// One run, and its trace.
fn run(seed: u64) -> (Vec<String>, Result<(), Wrong>) {
    match place() {
        Ok((folder, runtime)) => runtime.block_on(World::run(seed, folder.path())),
        Err(error) => (Vec::new(), Err(format!("no place to run: {error}"))),
    }
}

/// The step log of a failure, and how to repeat it.
fn told(seed: u64, trace: &[String], wrong: &str) -> String {
    let hidden = trace.len().saturating_sub(SHOWN_MAX);
    let shown = trace[hidden..].join("\n");
    format!(
        "seed {seed}: {wrong}\n… {hidden} steps before\n{shown}\n\nrepeat it: \
         TIDEMILL_SEED={seed} cargo test -p tidemill --lib simulation -- --nocapture"
    )
}

/// Runs seeds on all processors until one fails.
fn run_all(seeds: std::ops::Range<u64>) -> Result<(), String> {
    let next = AtomicU64::new(seeds.start);
    let failed = Mutex::new(None);
    let began = Instant::now();
    let told_at = Mutex::new(began);
    let came: Vec<AtomicU64> = COMES.iter().map(|_| AtomicU64::new(0)).collect();
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                let lock = || failed.lock().unwrap_or_else(PoisonError::into_inner);
                while lock().is_none() {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        break;
                    }
                    let (trace, outcome) = run(seed);
                    for (what, count) in COMES.iter().zip(&came) {
                        let lines = trace.iter().filter(|line| line.contains(what)).count();
                        count.fetch_add(lines as u64, Ordering::Relaxed);
                    }
                    if let Err(wrong) = outcome {
                        lock().get_or_insert(told(seed, &trace, &wrong));
                    }
                    let mut told_at = told_at.lock().unwrap_or_else(PoisonError::into_inner);
                    if told_at.elapsed() > Duration::from_secs(10) {
                        *told_at = Instant::now();
                        let done = seed - seeds.start;
                        eprintln!("{done} seeds in {:.0} s", began.elapsed().as_secs_f64());
                    }
                }
            });
        }
    });
    if let Some(failed) = failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(failed);
    }
    let came = COMES.iter().zip(came).map(|(what, count)| (*what, count.into_inner()));
    let came: Vec<(&str, u64)> = came.collect();
    eprintln!(
        "{} seeds in {:.0} s: {came:?}",
        seeds.end - seeds.start,
        began.elapsed().as_secs_f64()
    );
    let missing: Vec<_> = came.iter().filter(|(_, count)| *count == 0).collect();
    if seeds.end - seeds.start >= SEEDS && !missing.is_empty() {
        return Err(format!("never came: {missing:?}"));
    }
    Ok(())
}

#[test]
fn a_thousand_lives_keep_every_promise() {
    if let Some(seed) = number("TIDEMILL_SEED") {
        // What the gateway says, where `RUST_LOG` asks for it.
        let filter = tracing_subscriber::EnvFilter::from_default_env();
        tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).init();
        let (trace, outcome) = run(seed);
        println!("{}", trace.join("\n"));
        outcome.unwrap();
        return;
    }
    for seed in REGRESSIONS {
        let (trace, outcome) = run(*seed);
        if let Err(wrong) = outcome {
            panic!("{}", told(*seed, &trace, &wrong));
        }
    }
    let first = number("TIDEMILL_FIRST_SEED").unwrap_or(1);
    let count = number("TIDEMILL_SEEDS").unwrap_or(SEEDS);
    if let Err(told) = run_all(first..first + count) {
        panic!("{told}");
    }
}

#[test]
fn a_seed_repeats_itself() {
    for seed in 1..=number("TIDEMILL_SEEDS").unwrap_or(12) {
        let (first, _) = run(seed);
        let (second, _) = run(seed);
        let differs = first.iter().zip(&second).position(|(a, b)| a != b);
        if let Some(line) = differs {
            panic!("seed {seed}, line {line}:\n{}\n{}", first[line], second[line]);
        }
        assert_eq!(first.len(), second.len(), "seed {seed}");
    }
}
