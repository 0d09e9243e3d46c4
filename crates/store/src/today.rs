//! What day it is for removal by age: a clock that jumps must remove nothing.

use std::time::Duration;

use reading::Timestamp;
use tokio::time::Instant;

/// A step forward beyond this is doubted.
const STEP_MAX: Duration = Duration::from_secs(3_600);

/// How long a doubted step has to last until it is believed: a clock that is
/// wrong is set right by then, and `max_size` guards the disk meanwhile.
const DOUBT: Duration = Duration::from_secs(86_400);

/// The time as it goes on from what was last believed.
pub(crate) struct Today {
    /// The time that was believed, and when that was.
    believed: Option<(Timestamp, Instant)>,
    /// Since when the clock has been further ahead than it can be.
    doubted: Option<Instant>,
}

impl Today {
    /// Begins with the newest reading: after a long rest, too, nothing goes
    /// before the clock has been ahead of it for a day.
    pub(crate) fn new(newest: Option<Timestamp>) -> Today {
        Today { believed: newest.map(|at| (at, Instant::now())), doubted: None }
    }

    /// The time to judge age by: the clock's, or an earlier one while it is in
    /// doubt. A step back is believed at once, for it removes nothing.
    pub(crate) fn at(&mut self, clock: Timestamp, now: Instant) -> Timestamp {
        let Some((believed, when)) = self.believed else {
            self.believed = Some((clock, now));
            return clock;
        };
        let due = believed + now.saturating_duration_since(when);
        if clock.since(due) > STEP_MAX {
            let since = *self.doubted.get_or_insert(now);
            if now.saturating_duration_since(since) < DOUBT {
                return due;
            }
        }
        self.doubted = None;
        self.believed = Some((clock, now));
        clock
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);
    const YEARS: Duration = Duration::from_secs(56 * 365 * 86_400);

    #[test]
    fn a_jump_forward_is_believed_after_a_day() {
        let (start, began) = (Timestamp::from_micros(1_795_508_400_000_000), Instant::now());
        let mut today = Today::new(Some(start));
        assert_eq!(today.at(start + HOUR, began + HOUR), start + HOUR);
        let wrong = |hours: u32| start + YEARS + HOUR * hours;
        for hours in 2..26 {
            let now = began + HOUR * hours;
            assert_eq!(today.at(wrong(hours), now), start + HOUR * hours, "{hours}");
        }
        assert_eq!(today.at(wrong(27), began + HOUR * 27), wrong(27));
    }

    #[test]
    fn a_jump_that_is_taken_back_was_never_believed() {
        let (start, began) = (Timestamp::from_micros(1_795_508_400_000_000), Instant::now());
        let mut today = Today::new(Some(start));
        assert_eq!(today.at(start + YEARS, began), start);
        assert_eq!(today.at(start + HOUR, began + HOUR), start + HOUR);
        // The next one is doubted for a whole day again.
        assert_eq!(today.at(start + YEARS, began + HOUR * 24), start + HOUR * 24);
        assert_eq!(today.at(start + YEARS, began + HOUR * 47), start + HOUR * 47);
    }

    #[test]
    fn a_step_back_and_a_leap_second_are_believed_at_once() {
        let (start, began) = (Timestamp::from_micros(1_795_508_400_000_000), Instant::now());
        let mut today = Today::new(Some(start));
        assert_eq!(today.at(start - HOUR, began), start - HOUR);
        let second = Duration::from_secs(1);
        assert_eq!(today.at(start - HOUR + second, began), start - HOUR + second);
        assert_eq!(today.at(start, began), start, "an hour forward, as far as it may");
    }
}
