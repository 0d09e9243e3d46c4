use std::time::Duration;

/// The first wait: a cable that was pulled is often back at once.
const FIRST: Duration = Duration::from_secs(1);
/// The longest. Who plugs a device in again doesn't wait for it: see `LOOKED_EVERY`.
const LONGEST: Duration = Duration::from_secs(60);
/// A device that lasted this long has run well. A shorter success must not
/// reset the wait, or a device that dies at once is opened every second.
const RAN_WELL: Duration = Duration::from_secs(30);

/// How long to wait before a device is opened again.
#[derive(Debug)]
pub(crate) struct Backoff {
    next: Duration,
    random: u64,
}

impl Backoff {
    /// `seed` sets the jitter, so that devices of one hub don't return in step.
    pub(crate) fn new(seed: u64) -> Backoff {
        // SplitMix64's increment: any seed but zero will do for xorshift.
        Backoff { next: FIRST, random: seed.wrapping_add(0x9e37_79b9_7f4a_7c15) | 1 }
    }

    /// Tells how long the device had been open.
    pub(crate) fn lasted(&mut self, open: Duration) {
        if open >= RAN_WELL {
            self.next = FIRST;
        }
    }

    /// Tells that it was plugged in again: it is another device now.
    pub(crate) fn plugged_in(&mut self) {
        self.next = FIRST;
    }

    /// The wait: between three quarters and the whole of 1, 2, 4 … 60 s.
    pub(crate) fn wait(&mut self) -> Duration {
        let whole = self.next;
        self.next = (whole * 2).min(LONGEST);
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let share = (self.random >> 32) as f64 / f64::from(u32::MAX);
        whole.mul_f64(0.75 + 0.25 * share)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_doubles_to_a_minute_and_only_a_good_run_resets_it() {
        let mut backoff = Backoff::new(7);
        let whole = [1, 2, 4, 8, 16, 32, 60, 60];
        for seconds in whole.map(Duration::from_secs) {
            backoff.lasted(Duration::from_secs(29));
            let wait = backoff.wait();
            assert!(wait <= seconds && wait >= seconds.mul_f64(0.75), "{wait:?} of {seconds:?}");
        }
        backoff.lasted(RAN_WELL);
        assert!(backoff.wait() <= FIRST);
    }
}
