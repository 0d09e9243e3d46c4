//! What is made of a line's edges: a total, a frequency, the width of a pulse,
//! or the level itself. Pure; the driver brings edges and asks when to speak.

use std::time::Duration;

use reading::{Datum, Doubt, Timestamp, Value};
use tokio::time::Instant;

use super::{Edge, Edges};
use crate::{Lost, Sample};

/// A total is said again after this long without an edge: it is true now as
/// well, and a store that keeps a week must not forget it.
const TOTAL_AGAIN: Duration = Duration::from_secs(3600);

/// Levels told one by one within [`LEVELS_EVERY`]. A contact or a sensor makes a
/// few; more is a wire that picks up noise, and is told as one doubtful level.
const LEVELS_MAX: u32 = 100;
const LEVELS_EVERY: Duration = Duration::from_secs(1);

/// One channel of a line.
pub(crate) struct Meter {
    channel: usize,
    what: What,
    /// Edges have been missed since the last sample.
    doubt: bool,
    /// The last edge of the kind that counts, as the kernel saw it.
    at: Option<Timestamp>,
    /// How often it speaks at most.
    every: Duration,
    /// When it is to speak.
    due: Option<Instant>,
    /// When it spoke last.
    said: Instant,
}

enum What {
    /// The level, as it changes.
    Level { active: bool, within: u32, held: u64, last: Option<Timestamp>, lost: Option<Lost> },
    /// How many edges there were, ever.
    Total { edge: Edges, told: Edges, total: f64 },
    /// How many a second: those since `from`, the last edge that was counted.
    Frequency { edge: Edges, told: Edges, count: u64, from: Option<Timestamp> },
    /// How long it was active, in seconds.
    Width { began: Option<Timestamp>, last: Option<Duration> },
}

/// The edges that count, and those that the line tells of.
type Told = (Edges, Edges);

impl Meter {
    /// The level itself.
    pub(crate) fn level(channel: usize, now: Instant) -> Meter {
        let what = What::Level { active: false, within: 0, held: 0, last: None, lost: None };
        Meter::new(channel, what, LEVELS_EVERY, now)
    }

    /// The number of edges, said at most once in `every`.
    pub(crate) fn total(
        channel: usize,
        (edge, told): Told,
        every: Duration,
        now: Instant,
    ) -> Meter {
        let mut meter = Meter::new(channel, What::Total { edge, told, total: 0.0 }, every, now);
        // What it is before the first edge is worth saying.
        meter.due = Some(now);
        meter
    }

    /// Edges a second, said once in `every`.
    pub(crate) fn frequency(
        channel: usize,
        (edge, told): Told,
        every: Duration,
        now: Instant,
    ) -> Meter {
        let what = What::Frequency { edge, told, count: 0, from: None };
        let mut meter = Meter::new(channel, what, every, now);
        meter.due = Some(now + every);
        meter
    }

    /// The width of the last pulse, said at most once in `every`.
    pub(crate) fn width(channel: usize, every: Duration, now: Instant) -> Meter {
        Meter::new(channel, What::Width { began: None, last: None }, every, now)
    }

    fn new(channel: usize, what: What, every: Duration, now: Instant) -> Meter {
        Meter { channel, what, doubt: false, at: None, every, due: None, said: now }
    }

    /// Whether it is the meter of a channel.
    pub(crate) fn is_of(&self, channel: usize) -> bool {
        self.channel == channel
    }

    /// The total goes on from here; of another meter nothing.
    pub(crate) fn set(&mut self, value: &Datum) {
        if let (What::Total { total, .. }, Datum::Number(number)) = (&mut self.what, value) {
            // An edge is whole; what the scale made of it may not be.
            *total = number.round().max(0.0);
        }
    }

    /// The total, of a meter that has one.
    pub(crate) fn total_now(&self) -> Option<Datum> {
        match self.what {
            What::Total { total, .. } => Datum::number(total),
            _ => None,
        }
    }

    /// An edge has come, and `edge.missed` before it have not. Gives a sample
    /// that is to be told at once.
    pub(crate) fn edge(&mut self, edge: &Edge, now: Instant) -> Option<Sample> {
        let at = edge.at.unwrap_or_else(Timestamp::now);
        self.doubt |= edge.missed > 0;
        match &mut self.what {
            What::Level { active, within, held, last, lost } => {
                *active = edge.active;
                self.at = Some(at);
                if self.due.is_none() {
                    self.due = Some(now + LEVELS_EVERY);
                }
                let before = last.replace(at).unwrap_or(at);
                let not_told = u64::from(edge.missed) + u64::from(*within >= LEVELS_MAX);
                if not_told > 0 {
                    let none = Lost { channel: self.channel, count: 0, from: before, to: at };
                    let lost = lost.get_or_insert(none);
                    (lost.count, lost.to) = (lost.count + not_told, at);
                }
                if *within >= LEVELS_MAX {
                    *held += 1;
                    return None;
                }
                *within += 1;
                return Some(self.sample(Datum::Boolean(edge.active)));
            }
            What::Total { edge: kind, told, total } => {
                let edges = edge.count(*kind, *told);
                if edges == 0 {
                    return None;
                }
                #[expect(clippy::cast_precision_loss, reason = "totals stay below 2^53")]
                {
                    *total += edges as f64;
                }
                self.at = Some(at);
                let due = now.max(self.said + self.every);
                // One that waits for its next hour speaks sooner.
                self.due = Some(self.due.map_or(due, |old| old.min(due)));
            }
            What::Frequency { edge: kind, told, count, .. } => {
                *count += edge.count(*kind, *told);
                if kind.is(edge.active) {
                    self.at = Some(at);
                }
            }
            What::Width { began, last } => match (edge.active, *began) {
                (true, _) => *began = Some(at),
                (false, Some(from)) => {
                    // Of a pulse with holes the width is unknown.
                    *last = (edge.missed == 0).then(|| at.since(from)).or(*last);
                    *began = None;
                    self.at = Some(at);
                    let due = now.max(self.said + self.every);
                    self.due = Some(self.due.map_or(due, |old| old.min(due)));
                }
                (false, None) => {}
            },
        }
        None
    }

    /// When [`Meter::speak`] is to be asked.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// What it has to say by now; also the levels that it hasn't told since it
    /// was last asked.
    pub(crate) fn speak(&mut self, now: Instant) -> (Option<Sample>, Option<Lost>) {
        if self.due.take_if(|due| *due <= now).is_none() {
            return (None, None);
        }
        self.said = now;
        let mut untold = None;
        let datum = match &mut self.what {
            What::Level { active, within, held, lost, .. } => {
                *within = 0;
                untold = lost.take();
                if std::mem::take(held) == 0 {
                    return (None, untold);
                }
                // The last one is told, for all of them.
                untold = untold.map(|lost| Lost { count: lost.count - 1, ..lost });
                self.doubt = true;
                Some(Datum::Boolean(*active))
            }
            What::Total { total, .. } => {
                self.due = Some(now + TOTAL_AGAIN.max(self.every));
                Datum::number(*total)
            }
            What::Frequency { count, from, .. } => {
                self.due = Some(now + self.every);
                let (edges, began) = (std::mem::take(count), *from);
                *from = self.at;
                frequency(edges, began, self.at, self.every)
            }
            What::Width { last, .. } => last.take().and_then(|w| Datum::number(w.as_secs_f64())),
        };
        // A frequency is that of the time until now, others of their last edge.
        let sample = datum.map(|datum| self.sample(datum));
        if matches!(self.what, What::Frequency { .. }) {
            return (sample.map(|sample| Sample { at: None, ..sample }), untold);
        }
        (sample, untold.filter(|lost| lost.count > 0))
    }

    /// A total that has grown since it was last said.
    pub(crate) fn unsaid(&mut self, now: Instant) -> Option<Sample> {
        let grown = self.at.is_some() && self.due.is_some_and(|due| due < now + TOTAL_AGAIN / 2);
        match self.what {
            What::Total { total, .. } if grown => {
                Datum::number(total).map(|datum| self.sample(datum))
            }
            _ => None,
        }
    }

    fn sample(&mut self, datum: Datum) -> Sample {
        let value = match std::mem::take(&mut self.doubt) {
            false => Value::Good(datum),
            true => Value::Uncertain(datum, Doubt::EdgesMissed),
        };
        Sample { channel: self.channel, at: self.at.take(), value }
    }
}

/// Edges a second. Between two edges it is exact, however short the window.
fn frequency(
    edges: u64,
    from: Option<Timestamp>,
    to: Option<Timestamp>,
    window: Duration,
) -> Option<Datum> {
    #[expect(clippy::cast_precision_loss, reason = "edges of one window")]
    let edges = edges as f64;
    let time = match (from, to) {
        (Some(from), Some(to)) if to > from => to.since(from),
        _ => window,
    };
    Datum::number(edges / time.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_micros(millis * 1000)
    }

    fn edge(active: bool, millis: i64, missed: u32) -> Edge {
        Edge { line: 0, active, at: Some(at(millis)), missed }
    }

    fn number(sample: &Sample) -> f64 {
        sample.value.number().unwrap()
    }

    const SECOND: Duration = Duration::from_secs(1);
    /// Rising edges of a line that tells of all.
    const BOTH: Told = (Edges::Rising, Edges::Both);

    #[test]
    fn a_total_goes_on_where_it_was_and_is_said_once_in_a_while() {
        let now = Instant::now();
        let mut meter = Meter::total(3, BOTH, SECOND, now);
        meter.set(&Datum::Number(11.999_999_9));
        assert_eq!(number(&meter.speak(now).0.unwrap()), 12.0, "at once");
        for n in 0..5 {
            assert_eq!(meter.edge(&edge(true, n * 100, 0), now), None);
            assert_eq!(meter.edge(&edge(false, n * 100 + 50, 0), now), None);
        }
        assert_eq!(meter.due(), Some(now + SECOND));
        assert_eq!(meter.speak(now).0, None);
        let sample = meter.speak(now + SECOND).0.unwrap();
        assert_eq!((number(&sample), sample.at, sample.channel), (17.0, Some(at(400)), 3));
        // Without edges it is said again, so that no store forgets it.
        let again = meter.due().unwrap();
        assert_eq!(again, now + SECOND + TOTAL_AGAIN);
        assert_eq!(meter.unsaid(now + 2 * SECOND), None);
        meter.edge(&edge(true, 3000, 0), now + 3 * SECOND);
        assert_eq!(number(&meter.unsaid(now + 3 * SECOND).unwrap()), 18.0, "at the stop");
    }

    #[test]
    fn missed_edges_are_counted_and_make_the_total_doubtful() {
        let now = Instant::now();
        let mut meter = Meter::total(0, BOTH, SECOND, now);
        meter.speak(now);
        // Four between: falling, rising, falling, rising are not told.
        meter.edge(&edge(true, 0, 0), now);
        meter.edge(&edge(false, 5, 4), now);
        let sample = meter.speak(now + SECOND).0.unwrap();
        assert_eq!(sample.value, Value::Uncertain(Datum::Number(3.0), Doubt::EdgesMissed));
        meter.edge(&edge(true, 6, 0), now + SECOND);
        let sample = meter.speak(now + 2 * SECOND).0.unwrap();
        assert_eq!(sample.value, Value::Good(Datum::Number(4.0)));
    }

    #[test]
    fn a_frequency_is_exact_between_edges_and_zero_without() {
        let now = Instant::now();
        let mut meter = Meter::frequency(0, BOTH, SECOND, now);
        for n in 0..40 {
            meter.edge(&edge(n % 2 == 0, n * 25, 0), now);
        }
        assert_eq!(number(&meter.speak(now + SECOND).0.unwrap()), 20.0);
        // 30 ms a period: 33.3 Hz, though no whole number of them fills a second.
        for n in 1..=33 {
            meter.edge(&edge(true, 950 + n * 30, 0), now);
        }
        let exact = number(&meter.speak(now + 2 * SECOND).0.unwrap());
        assert!((exact - 1.0 / 0.03).abs() < 1e-9, "{exact}");
        assert_eq!(number(&meter.speak(now + 3 * SECOND).0.unwrap()), 0.0);
    }

    #[test]
    fn a_width_is_that_of_the_last_whole_pulse() {
        let now = Instant::now();
        let mut meter = Meter::width(0, SECOND, now);
        meter.edge(&edge(false, 0, 0), now);
        assert_eq!(meter.due(), None, "no pulse yet");
        for (active, millis) in [(true, 10), (false, 12), (true, 20), (false, 21)] {
            meter.edge(&edge(active, millis, 0), now);
        }
        assert_eq!(number(&meter.speak(now + SECOND).0.unwrap()), 0.001);
    }

    #[test]
    fn a_fluttering_level_is_told_as_one_that_is_doubtful() {
        let now = Instant::now();
        let mut meter = Meter::level(0, now);
        let told = (0..1000).filter(|n| meter.edge(&edge(n % 2 == 0, *n, 0), now).is_some());
        assert_eq!(told.count(), 100);
        let (sample, lost) = meter.speak(now + LEVELS_EVERY);
        let value = Value::Uncertain(false.into(), Doubt::EdgesMissed);
        assert_eq!(sample.unwrap().value, value);
        let untold = Lost { channel: 0, count: 899, from: at(99), to: at(999) };
        assert_eq!(lost, Some(untold));
        let next = meter.edge(&edge(true, 5000, 0), now + 2 * LEVELS_EVERY).unwrap();
        assert_eq!(next.value, Value::Good(true.into()), "it has calmed down");
    }

    #[test]
    fn levels_that_the_kernel_lost_are_told_with_their_time() {
        let now = Instant::now();
        let mut meter = Meter::level(7, now);
        meter.edge(&edge(true, 10, 0), now);
        let sample = meter.edge(&edge(false, 500, 4), now).unwrap();
        assert_eq!(sample.value, Value::Uncertain(false.into(), Doubt::EdgesMissed));
        let lost = Lost { channel: 7, count: 4, from: at(10), to: at(500) };
        assert_eq!(meter.speak(now + LEVELS_EVERY), (None, Some(lost)));
        meter.edge(&edge(true, 2000, 0), now + 2 * LEVELS_EVERY);
        assert_eq!(meter.speak(now + 3 * LEVELS_EVERY), (None, None), "once");
    }
}
