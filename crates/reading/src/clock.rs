//! What times are taken by.
//!
//! As a rule that is the system clock. On a board without a clock that runs on a
//! battery it shows any time until a time service has set it, and then jumps. So
//! until it is set, [`detach`] has [`Timestamp::now`] go on from what the system
//! clock showed by the time since the machine's start, which never jumps. All
//! that is stamped meanwhile is wrong by one and the same span, and when the clock
//! has been set, [`attach`] tells which.
//!
//! Like the system clock itself, this is one for the whole process.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime};

use rustix::time::{ClockId, clock_gettime};

use crate::Timestamp;

/// No number of microseconds that a clock is ahead of another by.
const NONE: i64 = i64::MIN;

/// How far the detached clock is ahead of the time since the machine's start, µs.
static DETACHED: AtomicI64 = AtomicI64::new(NONE);

/// What the detached clock showed when the system clock was found set, µs since
/// 1970, and how far behind it had been.
static SET_AT: AtomicI64 = AtomicI64::new(NONE);
static BEHIND: AtomicI64 = AtomicI64::new(0);

/// How wrong the system clock is to be taken for, µs: see [`pretend`].
#[cfg(debug_assertions)]
static WRONG: AtomicI64 = AtomicI64::new(0);

/// The time since the machine started, also while it slept: `CLOCK_BOOTTIME` of
/// clock_gettime(2).
pub fn uptime() -> Duration {
    // A kernel's monotonic clock is never negative.
    Duration::try_from(clock_gettime(ClockId::Boottime)).unwrap_or_default()
}

/// What the system clock shows, also while times are detached from it.
pub fn system() -> Timestamp {
    #[expect(clippy::disallowed_methods, reason = "here and nowhere else")]
    let now = Timestamp::from(SystemTime::now());
    #[cfg(debug_assertions)]
    let now = Timestamp::from_micros(now.as_micros() + WRONG.load(Ordering::Relaxed));
    now
}

fn uptime_micros() -> i64 {
    i64::try_from(uptime().as_micros()).unwrap_or(i64::MAX)
}

pub(crate) fn now() -> Timestamp {
    match DETACHED.load(Ordering::Relaxed) {
        NONE => system(),
        ahead => Timestamp::from_micros(ahead + uptime_micros()),
    }
}

/// How far times are ahead of [`uptime`] now, µs.
pub fn ahead() -> i64 {
    match DETACHED.load(Ordering::Relaxed) {
        NONE => system().as_micros() - uptime_micros(),
        ahead => ahead,
    }
}

/// Whether times aren't the system clock's, which is yet to be set.
pub fn is_detached() -> bool {
    DETACHED.load(Ordering::Relaxed) != NONE
}

/// From now on times go on from here by [`uptime`], whatever becomes of the
/// system clock. Gives how far they are ahead of it, µs.
pub fn detach() -> i64 {
    let ahead = ahead();
    DETACHED.store(ahead, Ordering::Relaxed);
    ahead
}

/// From now on times are the system clock's, which has been set. Gives how far
/// they are ahead of [`uptime`], µs: what was stamped before was less by as much
/// as this is more than what [`detach`] gave.
pub fn attach() -> i64 {
    let before = now();
    let was = DETACHED.swap(NONE, Ordering::Relaxed);
    let ahead = ahead();
    if was != NONE {
        BEHIND.store(ahead - was, Ordering::Relaxed);
        SET_AT.store(before.as_micros(), Ordering::Relaxed);
    }
    ahead
}

/// A moment that this process has noted, as the clock has it now: moved, when it
/// was noted before the clock was set forward.
pub fn as_set(noted: Timestamp) -> Timestamp {
    let (set_at, behind) = (SET_AT.load(Ordering::Relaxed), BEHIND.load(Ordering::Relaxed));
    if set_at == NONE || behind <= 0 || noted.as_micros() > set_at {
        return noted;
    }
    Timestamp::from_micros(noted.as_micros() + behind)
}

/// Takes the system clock for wrong by so many microseconds from now on: for
/// tests of the whole gateway. A release has no such thing.
#[cfg(debug_assertions)]
#[doc(hidden)]
pub fn pretend(wrong: i64) {
    WRONG.store(wrong, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One test: the clock is the whole process's.
    #[test]
    fn a_detached_clock_doesnt_jump_and_is_set_by_one_span() {
        const HOUR: i64 = 3_600_000_000;
        let near = |a: i64, b: i64| assert!((a - b).abs() < 1_000_000, "{a} is not near {b}");
        pretend(-HOUR);
        let noted = Timestamp::now();
        let detached = detach();
        pretend(0);
        let stamped = Timestamp::now();
        assert!(stamped.since(noted) < Duration::from_secs(1), "it has not jumped");
        assert_eq!(ahead(), detached);
        assert!(is_detached());
        let attached = attach();
        near(attached - detached, HOUR);
        near(Timestamp::now().as_micros() - stamped.as_micros(), HOUR);
        near(ahead(), attached);
        assert!(!is_detached());
        // What was noted before is an hour later now; what follows is as it is.
        near(as_set(noted).as_micros() - noted.as_micros(), HOUR);
        let now = Timestamp::now();
        assert_eq!(as_set(now), now);
    }
}
