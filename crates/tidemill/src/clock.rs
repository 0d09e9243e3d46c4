//! Whether the system clock can be trusted. Many boards have no clock that runs
//! without power: until a time service has set it, it shows 1970, or the time
//! of the last shutdown.

use std::fs;
use std::path::Path;
use std::time::Duration;

use dashboard::Clock;
use reading::Timestamp;
use reading::clock::system;

/// Seconds since 1970 when this binary was built.
const BUILT: &str = env!("TIDEMILL_BUILT");

/// systemd-timesyncd makes the folder when it starts and the file when it has
/// set the clock; chrony makes its folder when it starts.
const TIMESYNCD: &str = "/run/systemd/timesync";
const TIMESYNCD_DONE: &str = "/run/systemd/timesync/synchronized";
const CHRONY: &str = "/run/chrony";

/// A clock that runs without power is believed when it shows what the system clock
/// does, within this. Without a battery it shows the time since the power came.
const NEAR: Duration = Duration::from_secs(60);

/// What tells how the clock is.
#[derive(Clone, Copy, Debug)]
struct Signs {
    /// Whether the kernel says that the clock follows a time source; `None` when
    /// it may not be asked, as in the sandbox that the package has.
    kernel: Option<bool>,
    /// It shows a time before this binary was made.
    before_build: bool,
    /// The board has a clock that runs without power, which shows the same.
    rtc: bool,
    /// systemd-timesyncd runs and will set the clock.
    timesyncd: bool,
    /// It says that it has.
    done: bool,
    /// chrony runs and will set the clock; only the kernel tells that it has.
    chrony: bool,
}

/// How long readings wait for the clock to be set. A board is on its network, and
/// has asked for the time, within a minute or two; one that isn't, isn't going to
/// be soon, and a reading that is uncertain is worth more than none.
const WAIT_MAX: Duration = Duration::from_secs(600);

/// How the clock is now.
pub fn state() -> Clock {
    #[cfg(debug_assertions)]
    let signs = pretended::signs().unwrap_or_else(signs);
    #[cfg(not(debug_assertions))]
    let signs = signs();
    judge(signs)
}

fn signs() -> Signs {
    Signs {
        kernel: kernel_follows(),
        before_build: before_build(),
        rtc: rtc(),
        timesyncd: Path::new(TIMESYNCD).exists(),
        done: Path::new(TIMESYNCD_DONE).exists(),
        chrony: Path::new(CHRONY).exists(),
    }
}

/// Not by [`Timestamp::now`], which stands apart from the system clock while that
/// isn't set.
fn before_build() -> bool {
    let built: i64 = BUILT.parse().unwrap_or(0);
    system() < Timestamp::from_micros(built.saturating_mul(1_000_000))
}

/// Whether a clock that runs without power shows what the system clock does.
fn rtc() -> bool {
    let shows = |clock: &fs::DirEntry| {
        let text = fs::read_to_string(clock.path().join("since_epoch")).ok()?;
        Some(Timestamp::from_micros(text.trim().parse::<i64>().ok()?.checked_mul(1_000_000)?))
    };
    let now = system();
    let near = |at: Timestamp| now.since(at).max(at.since(now)) < NEAR;
    let clocks = fs::read_dir("/sys/class/rtc").into_iter().flatten().flatten();
    clocks.filter_map(|clock| shows(&clock)).any(near)
}

/// A clock that nobody is going to set, as far as can be known, is as right as it
/// will ever be; waiting for it would only hold readings back.
fn judge(signs: Signs) -> Clock {
    let synchronized = signs.kernel == Some(true) || signs.done;
    let awaited = signs.timesyncd || (signs.chrony && signs.kernel.is_some());
    let set = !signs.before_build && (synchronized || signs.rtc || !awaited);
    Clock { synchronized, set, held: 0 }
}

/// How long readings wait for the clock.
pub(crate) fn wait_max() -> Duration {
    #[cfg(debug_assertions)]
    if let Some(wait) = pretended::wait_max() {
        return wait;
    }
    WAIT_MAX
}

/// A clock for tests of the whole gateway; a release has no such thing.
#[cfg(debug_assertions)]
mod pretended {
    use super::{Duration, Signs, before_build, fs};

    /// The file that `TIDEMILL_CLOCK` names says `set` or `unset`, and by how many
    /// seconds the clock is wrong: `unset -3600`. Read at each look.
    pub(super) fn signs() -> Option<Signs> {
        let text = fs::read_to_string(std::env::var_os("TIDEMILL_CLOCK")?).ok()?;
        let (word, wrong) = text.trim().split_once(' ')?;
        reading::clock::pretend(wrong.parse::<i64>().ok()?.saturating_mul(1_000_000));
        let before_build = before_build();
        let (timesyncd, done) = (true, word == "set");
        Some(Signs { kernel: None, before_build, rtc: false, timesyncd, done, chrony: false })
    }

    /// Seconds.
    pub(super) fn wait_max() -> Option<Duration> {
        let seconds = std::env::var("TIDEMILL_CLOCK_WAIT").ok()?;
        seconds.parse().ok().map(Duration::from_secs)
    }
}

/// Asks the kernel, which unlearns it 16 s of error bound after the last
/// correction: adjtimex(2). `None` when a sandbox doesn't let us.
fn kernel_follows() -> Option<bool> {
    let mut timex = libc::timex { modes: 0, ..empty() };
    #[expect(unsafe_code, reason = "no safe crate asks this; it reads into a struct of ours")]
    // SAFETY: the pointer is to a whole `timex` that outlives the call, and with
    // `modes` 0 nothing is changed.
    let state = unsafe { libc::adjtimex(&raw mut timex) };
    (state >= 0).then(|| follows(state, timex.status))
}

/// `state` also tells of leap seconds that are announced, come or over: the clock
/// is as right as ever.
fn follows(state: libc::c_int, status: libc::c_int) -> bool {
    (0..libc::TIME_ERROR).contains(&state) && status & libc::STA_UNSYNC == 0
}

fn empty() -> libc::timex {
    #[expect(unsafe_code, reason = "the struct has private padding")]
    // SAFETY: `timex` is integers and padding, for which zero is a value.
    unsafe {
        std::mem::zeroed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Signs = Signs {
        kernel: Some(false),
        before_build: false,
        rtc: false,
        timesyncd: false,
        done: false,
        chrony: false,
    };

    #[test]
    fn a_clock_is_set_unless_somebody_is_still_going_to_set_it() {
        let set = |signs| judge(signs).set;
        assert!(set(PLAIN), "nobody will set it");
        assert!(!set(Signs { timesyncd: true, ..PLAIN }), "timesyncd hasn't yet");
        assert!(!set(Signs { chrony: true, ..PLAIN }), "chrony hasn't yet");
        for service in [Signs { timesyncd: true, ..PLAIN }, Signs { chrony: true, ..PLAIN }] {
            assert!(set(Signs { kernel: Some(true), ..service }));
            assert!(set(Signs { rtc: true, ..service }));
        }
        assert!(!set(Signs { before_build: true, ..PLAIN }), "1970");
        assert!(!set(Signs { before_build: true, rtc: true, done: true, ..PLAIN }));
    }

    #[test]
    fn in_a_sandbox_timesyncd_is_asked_and_chrony_is_believed() {
        let unknown = Signs { kernel: None, ..PLAIN };
        let timesyncd = Signs { timesyncd: true, ..unknown };
        assert!(!judge(timesyncd).set);
        let done = judge(Signs { done: true, ..timesyncd });
        assert!(done.set && done.synchronized);
        let chrony = judge(Signs { chrony: true, ..unknown });
        assert!(chrony.set && !chrony.synchronized, "nobody would ever say that it is set");
    }

    #[test]
    fn a_leap_second_unsets_no_clock() {
        let leap = [libc::TIME_INS, libc::TIME_DEL, libc::TIME_OOP, libc::TIME_WAIT];
        assert!(leap.into_iter().all(|state| follows(state, libc::STA_PLL | libc::STA_INS)));
        assert!(follows(libc::TIME_OK, libc::STA_PLL));
        assert!(!follows(libc::TIME_INS, libc::STA_UNSYNC));
        assert!(!follows(libc::TIME_ERROR, libc::STA_UNSYNC));
        assert!(!follows(-1, 0));
    }

    #[test]
    fn the_kernel_answers() {
        let clock = state();
        assert!(clock.set || !clock.synchronized, "{clock:?}");
    }
}
