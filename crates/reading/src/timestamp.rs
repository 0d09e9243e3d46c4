use std::fmt;
use std::ops::{Add, Sub};
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::clock;

/// Microseconds since the Unix epoch, UTC, from the year 0 to 9999.
///
/// A person reads it as RFC 3339 with six decimals and `Z`:
/// `2026-11-24T08:20:03.123456Z`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

/// A text that isn't a time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a time: use RFC 3339, such as 2026-11-24T08:20:03Z")]
pub struct InvalidTimestamp(pub String);

#[cfg(debug_assertions)]
thread_local! {
    static PRETENDED: std::cell::Cell<Option<Timestamp>> = const { std::cell::Cell::new(None) };
}

impl Timestamp {
    /// 1970-01-01T00:00:00Z.
    pub const UNIX_EPOCH: Timestamp = Timestamp(0);
    /// 0000-01-01T00:00:00Z.
    pub const MIN: Timestamp = Timestamp(-62_167_219_200_000_000);
    /// 9999-12-30T22:00:00Z, the last that the time library prints.
    pub const MAX: Timestamp = Timestamp(253_402_207_200_000_000);

    /// The time now, as the system clock has it; until that is set, see [`clock`].
    pub fn now() -> Timestamp {
        #[cfg(debug_assertions)]
        if let Some(pretended) = PRETENDED.get() {
            return pretended;
        }
        clock::now()
    }

    /// What the clock shows on this thread from now on, or the true time again:
    /// for a simulation, whose clock jumps. A release has no such thing.
    #[cfg(debug_assertions)]
    #[doc(hidden)]
    pub fn pretend(time: Option<Timestamp>) {
        PRETENDED.set(time);
    }

    /// From a row or a payload; what lies outside the range becomes its end.
    pub const fn from_micros(micros: i64) -> Timestamp {
        if micros < Timestamp::MIN.0 {
            Timestamp::MIN
        } else if micros > Timestamp::MAX.0 {
            Timestamp::MAX
        } else {
            Timestamp(micros)
        }
    }

    /// For a row or a payload.
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// How long after `earlier` this is; zero when it is not after it.
    pub fn since(self, earlier: Timestamp) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

impl From<SystemTime> for Timestamp {
    fn from(time: SystemTime) -> Timestamp {
        let micros = |duration: Duration| i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
        match time.duration_since(UNIX_EPOCH) {
            Ok(after) => Timestamp::from_micros(micros(after)),
            Err(before) => Timestamp::from_micros(-micros(before.duration())),
        }
    }
}

impl Add<Duration> for Timestamp {
    type Output = Timestamp;

    fn add(self, duration: Duration) -> Timestamp {
        let micros = i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
        Timestamp::from_micros(self.0.saturating_add(micros))
    }
}

impl Sub<Duration> for Timestamp {
    type Output = Timestamp;

    fn sub(self, duration: Duration) -> Timestamp {
        let micros = i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
        Timestamp::from_micros(self.0.saturating_sub(micros))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = jiff::Timestamp::from_microsecond(self.0).map_err(|_| fmt::Error)?;
        write!(f, "{time:.6}")
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Timestamp {
    type Err = InvalidTimestamp;

    fn from_str(text: &str) -> Result<Timestamp, InvalidTimestamp> {
        let time: jiff::Timestamp = text.parse().map_err(|_| InvalidTimestamp(text.to_owned()))?;
        Ok(Timestamp::from_micros(time.as_microsecond()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_printed_with_six_decimals_and_z() {
        let at = Timestamp::from_micros(1_795_508_403_123_456);
        assert_eq!(at.to_string(), "2026-11-24T08:20:03.123456Z");
        assert_eq!("2026-11-24T08:20:03.123456Z".parse(), Ok(at));
        assert_eq!("2026-11-24T09:20:03.123456+01:00".parse(), Ok(at));
        assert_eq!(Timestamp::UNIX_EPOCH.to_string(), "1970-01-01T00:00:00.000000Z");
    }

    #[test]
    fn the_ends_of_the_range_are_printed() {
        assert_eq!(Timestamp::from_micros(i64::MIN).to_string(), "0000-01-01T00:00:00.000000Z");
        assert_eq!(Timestamp::from_micros(i64::MAX).to_string(), "9999-12-30T22:00:00.000000Z");
    }

    #[test]
    fn differences_never_overflow() {
        assert_eq!(Timestamp::MIN.since(Timestamp::MAX), Duration::ZERO);
        assert_eq!(Timestamp::MAX + Duration::MAX, Timestamp::MAX);
        assert_eq!(Timestamp::MIN - Duration::MAX, Timestamp::MIN);
    }
}
