//! Tells systemd that the gateway makes progress, and only then.
//!
//! A process that lives but does nothing any more is what people find weeks
//! later. So the ping is not a sign of life of some timer: each part with work
//! must have got on with it since the last looks. If one has not, the log names
//! it, the pings cease, and systemd kills the process and starts it again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::{self, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use crate::status::Observed;

/// Looks in a row without progress after which intake or writer are taken for
/// stalled. Looks are counted, not seconds: a machine that slept has not
/// stalled. The ping comes three times in systemd's `WatchdogSec`, so by default
/// this is half a minute.
const LOOKS_MAX: u32 = 3;

/// Counts the turns of a loop that must never stand still.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pulse(Arc<AtomicU64>);

impl Pulse {
    /// One more turn.
    pub(crate) fn beat(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// How many so far.
    pub(crate) fn beats(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How far one part has got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Its name, as the log has it.
    pub(crate) part: String,
    /// Whether it has anything to do. One that hasn't can't be stalled.
    pub(crate) busy: bool,
    /// Changes whenever it gets on.
    pub(crate) mark: u64,
    /// How long it may take over one step: its own deadlines, and a margin.
    pub(crate) patience: Duration,
}

/// Pings as long as there is progress, until told to stop.
pub(crate) async fn run(
    observed: Arc<Observed>,
    intake: Pulse,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let Some(limit) = sd_notify::watchdog_enabled() else {
        // Nobody watches: not under systemd, or WatchdogSec is off.
        stop.cancelled().await;
        return Ok(());
    };
    let look = move || {
        let mut parts = observed.progress();
        parts.push(Progress {
            part: "intake".to_owned(),
            busy: true,
            mark: intake.beats(),
            patience: Duration::ZERO,
        });
        parts
    };
    let ping = || {
        // systemd that can't be told restarts us, which is what it should do.
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Watchdog]);
    };
    watch(limit / 3, look, ping, stop).await;
    Ok(())
}

async fn watch(
    period: Duration,
    look: impl Fn() -> Vec<Progress>,
    ping: impl Fn(),
    stop: CancellationToken,
) {
    let mut ticks = time::interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut judge = Judge { period, seen: BTreeMap::new() };
    let mut told = Vec::new();
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        let stalled = judge.stalled(&look());
        for part in stalled.iter().filter(|part| !told.contains(*part)) {
            error!(part, "makes no progress; without it the watchdog restarts the gateway");
        }
        for part in told.iter().filter(|part| !stalled.contains(*part)) {
            info!(part, "makes progress again");
        }
        if stalled.is_empty() {
            ping();
        }
        told = stalled;
    }
}

/// What was seen of each part: its mark, and in how many looks it has stood
/// there.
struct Judge {
    period: Duration,
    seen: BTreeMap<String, (u64, u32)>,
}

impl Judge {
    /// The parts that stand still with work to do.
    fn stalled(&mut self, parts: &[Progress]) -> Vec<String> {
        // Parts come and go when the configuration is read again.
        self.seen.retain(|name, _| parts.iter().any(|part| part.part == *name));
        let mut stalled = Vec::new();
        for part in parts {
            let looks = match self.seen.get(&part.part) {
                Some((mark, looks)) if part.busy && *mark == part.mark => looks + 1,
                _ => 0,
            };
            self.seen.insert(part.part.clone(), (part.mark, looks));
            let patient = part.patience.as_nanos() / self.period.as_nanos().max(1);
            let patient = u32::try_from(patient).unwrap_or(u32::MAX).max(LOOKS_MAX);
            if looks >= patient {
                stalled.push(part.part.clone());
            }
        }
        stalled
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    fn part(name: &str, busy: bool, mark: u64) -> Progress {
        Progress { part: name.to_owned(), busy, mark, patience: Duration::ZERO }
    }

    fn judge() -> Judge {
        Judge { period: Duration::from_secs(10), seen: BTreeMap::new() }
    }

    #[test]
    fn work_without_progress_is_a_stall() {
        let mut judge = judge();
        for _ in 0..LOOKS_MAX {
            assert_eq!(judge.stalled(&[part("writer", true, 7)]), Vec::<String>::new());
        }
        assert_eq!(judge.stalled(&[part("writer", true, 7)]), ["writer"]);
        assert_eq!(judge.stalled(&[part("writer", true, 8)]), Vec::<String>::new(), "it got on");
    }

    #[test]
    fn without_work_there_is_no_stall() {
        let mut judge = judge();
        for _ in 0..100 {
            assert_eq!(judge.stalled(&[part("writer", false, 7)]), Vec::<String>::new());
        }
        // Its time counts from when the work came.
        assert_eq!(judge.stalled(&[part("writer", true, 7)]), Vec::<String>::new());
    }

    #[test]
    fn a_forwarder_is_given_its_own_deadlines() {
        let mut judge = judge();
        let mut slow = part("forwarder cloud", true, 1);
        slow.patience = Duration::from_secs(200);
        let looks = (0..).find(|_| !judge.stalled(std::slice::from_ref(&slow)).is_empty());
        assert_eq!(looks, Some(20));
    }

    #[test]
    fn a_part_that_is_gone_is_forgotten() {
        let mut judge = judge();
        for _ in 0..3 {
            judge.stalled(&[part("forwarder old", true, 1)]);
        }
        assert_eq!(judge.stalled(&[]), Vec::<String>::new());
        assert_eq!(judge.stalled(&[part("forwarder old", true, 1)]), Vec::<String>::new());
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn a_stall_ends_the_pings_and_progress_brings_them_back() {
        let intake = Pulse::default();
        let pings = Arc::new(Mutex::new(Vec::new()));
        let began = time::Instant::now();
        let (pulse, heard, stop) = (intake.clone(), pings.clone(), CancellationToken::new());
        let watching = watch(
            Duration::from_secs(10),
            move || vec![part("intake", true, pulse.beats())],
            || heard.lock().unwrap().push(began.elapsed().as_secs()),
            stop.clone(),
        );
        let working = async {
            // Half a second beside the looks, which no rounding of timers bridges.
            let mut beats = time::interval_at(began + Duration::from_millis(500), SECOND);
            for second in 0..200 {
                beats.tick().await;
                // It hangs from the 52nd to the 118th second.
                if !(52..118).contains(&second) {
                    intake.beat();
                }
            }
            stop.cancel();
        };
        tokio::join!(watching, working);
        let pings = pings.lock().unwrap();
        let silent = pings.windows(2).map(|two| two[1] - two[0]).max();
        assert_eq!(silent, Some(40), "three looks of patience, then silence: {pings:?}");
        assert!(pings.contains(&80) && pings.contains(&120), "{pings:?}");
    }
}
