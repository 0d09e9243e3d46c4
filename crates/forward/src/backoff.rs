use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::time::Duration;

/// The ceiling of the first wait: a broker that was just restarted is found
/// within the second.
const FIRST: Duration = Duration::from_millis(500);
/// No broker is asked less often than this.
pub(crate) const CAP: Duration = Duration::from_secs(60);
/// No wait is shorter, lest a broker that refuses at once be hammered.
const FLOOR: Duration = Duration::from_millis(100);
/// A connection that held this long was a good one. A shorter success doesn't
/// count: brokers that accept and close at once would be met at full speed.
pub(crate) const GOOD: Duration = Duration::from_secs(60);

/// Waits between tries: the ceiling doubles, and the wait is anywhere below it
/// (full jitter), so that a fleet doesn't come back in step.
#[derive(Debug)]
pub(crate) struct Backoff {
    ceiling: Duration,
    /// What spreads the waits, and how many there were.
    spread: u64,
    waits: u64,
}

impl Backoff {
    /// `spread` is different for each gateway and each of its starts; the waits
    /// follow from it, so that a simulation repeats them.
    pub(crate) fn new(spread: u64) -> Backoff {
        Backoff { ceiling: FIRST, spread, waits: 0 }
    }

    /// The next wait.
    pub(crate) fn next(&mut self) -> Duration {
        let wait = self.ceiling.mul_f64(self.fraction()).max(FLOOR);
        self.ceiling = (self.ceiling * 2).min(CAP);
        wait
    }

    /// The last connection was a good one.
    pub(crate) fn reset(&mut self) {
        self.ceiling = FIRST;
    }

    /// Trying soon would do harm: two clients of one id would throw each other
    /// out for ever.
    pub(crate) fn yield_to_other(&mut self) {
        self.ceiling = CAP;
    }

    /// From 0 to 1, uniformly enough. The standard library's hasher spares a
    /// dependency.
    fn fraction(&mut self) -> f64 {
        self.waits += 1;
        let hasher = BuildHasherDefault::<DefaultHasher>::default();
        let bits = hasher.hash_one((self.spread, self.waits)) >> 32;
        f64::from(u32::try_from(bits).unwrap_or_default()) / f64::from(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_cap_and_are_spread() {
        let mut backoff = Backoff::new(1);
        let waits: Vec<Duration> = (0..200).map(|_| backoff.next()).collect();
        assert!(waits[0] <= FIRST && waits[1] <= FIRST * 2);
        assert!(waits.iter().all(|&wait| (FLOOR..=CAP).contains(&wait)));
        let late = &waits[20..];
        assert!(late.iter().any(|&wait| wait < CAP / 4) && late.iter().any(|&wait| wait > CAP / 2));
        backoff.reset();
        assert!(backoff.next() <= FIRST);
    }

    #[test]
    fn a_fleet_does_not_come_back_in_step() {
        let fleet = (0..100).map(|spread| {
            let mut backoff = Backoff::new(spread);
            (0..8).map(|_| backoff.next()).last().unwrap().as_millis()
        });
        let seconds: std::collections::BTreeSet<_> = fleet.map(|wait| wait / 1_000).collect();
        assert!(seconds.len() > 30, "{seconds:?}");
    }
}
