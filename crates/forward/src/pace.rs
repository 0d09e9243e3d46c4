use std::time::Duration;

use tokio::time::Instant;

/// No more than so many a second, in small bursts.
#[derive(Debug)]
struct Bucket {
    /// A second; 0: as many as there are.
    rate: f64,
    /// May be sent now.
    tokens: f64,
    filled: Instant,
}

/// A burst is a tenth of a second's worth, and at least one.
const BURST: f64 = 0.1;

/// How fast a broker and a link are to be used.
#[derive(Debug)]
pub(crate) struct Pace {
    messages: Bucket,
    /// Readings that aren't fresh any more.
    backlog: Bucket,
    /// When what is held back may go on.
    ready: Option<Instant>,
}

impl Pace {
    /// Messages, and readings of a backlog, a second; 0 for no limit.
    pub(crate) fn new(messages: u32, backlog: u32, now: Instant) -> Pace {
        Pace {
            messages: Bucket::new(messages, now),
            backlog: Bucket::new(backlog, now),
            ready: None,
        }
    }

    /// How many readings the next message may hold; 0: none may be sent now.
    pub(crate) fn allows(&mut self, old: bool, now: Instant) -> usize {
        if self.messages.available(now) == 0 {
            self.hold(self.messages.ready());
            return 0;
        }
        match old {
            true => {
                let readings = self.backlog.available(now);
                if readings == 0 {
                    self.hold(self.backlog.ready());
                }
                readings
            }
            false => usize::MAX,
        }
    }

    /// A message has been sent with so many readings.
    pub(crate) fn spend(&mut self, old: bool, readings: usize) {
        self.messages.tokens -= 1.0;
        if old {
            self.backlog.tokens -= readings as f64;
        }
    }

    /// When something that was held back may go on, since it was last asked.
    pub(crate) fn ready(&mut self) -> Option<Instant> {
        self.ready.take()
    }

    fn hold(&mut self, until: Instant) {
        self.ready = Some(self.ready.map_or(until, |other| other.min(until)));
    }
}

impl Bucket {
    fn new(rate: u32, now: Instant) -> Bucket {
        let rate = f64::from(rate);
        Bucket { rate, tokens: (rate * BURST).max(1.0), filled: now }
    }

    fn available(&mut self, now: Instant) -> usize {
        if self.rate == 0.0 {
            return usize::MAX;
        }
        let came = now.saturating_duration_since(self.filled).as_secs_f64() * self.rate;
        self.tokens = (self.tokens + came).min((self.rate * BURST).max(1.0));
        self.filled = now;
        // Rounding must not hold back what the timer was set for.
        (self.tokens + 1e-6) as usize
    }

    fn ready(&self) -> Instant {
        let missing = (1.0 - self.tokens).max(0.0);
        // Not one by one when a pack could have more: a hundredth of a second.
        self.filled + Duration::from_secs_f64(missing / self.rate).max(Duration::from_millis(10))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_allowed_is_the_rate_whatever_the_steps() {
        let begun = Instant::now();
        let mut pace = Pace::new(100, 1_000, begun);
        let (mut sent, mut messages, mut now) = (0, 0, begun);
        while now < begun + Duration::from_secs(20) {
            let allowed = pace.allows(true, now).min(150);
            if allowed == 0 {
                now = pace.ready().expect("a time");
                continue;
            }
            pace.spend(true, allowed);
            (sent, messages) = (sent + allowed, messages + 1);
        }
        assert!((19_900..=20_200).contains(&sent), "{sent}");
        assert!(messages <= 2_011, "{messages}");
    }

    #[tokio::test]
    async fn without_a_limit_nothing_waits() {
        let now = Instant::now();
        let mut pace = Pace::new(0, 0, now);
        for _ in 0..1_000 {
            assert_eq!((pace.allows(true, now), pace.ready()), (usize::MAX, None));
            pace.spend(true, 1_000);
        }
    }

    #[tokio::test]
    async fn what_is_fresh_waits_for_no_backlog() {
        let now = Instant::now();
        let mut pace = Pace::new(0, 1, now);
        pace.spend(true, 1);
        assert_eq!((pace.allows(true, now), pace.allows(false, now)), (0, usize::MAX));
    }
}
