use std::collections::VecDeque;
use std::time::Duration;

use reading::Datum;
use tokio::time::Instant;

use super::Signal;
use super::fit::{self, Curve};
use super::settings::{Average, Clamp, Delta, Filter, Polynomial, Timeout, Turns, Values, Window};

/// One filter at work: its settings, and what it remembers.
#[derive(Debug)]
pub(super) enum Stage {
    /// A calibration; `None` when the points define none, which the check has
    /// refused.
    Curve(Option<Curve>),
    Median(Recent),
    Mean(Recent),
    Average {
        settings: Average,
        average: Option<f64>,
        count: usize,
    },
    Clamp(Clamp),
    FilterOut(Values),
    Delta {
        by: Delta,
        last: Option<f64>,
    },
    Throttle {
        after: Duration,
        last: Option<Instant>,
    },
    Heartbeat {
        after: Duration,
        last: Option<(Datum, Instant)>,
    },
    Debounce {
        after: Duration,
        pending: Option<(Datum, Instant)>,
    },
    Timeout {
        settings: Timeout,
        at: Option<Instant>,
    },
}

/// The last values of a channel, and how many results were made of them.
#[derive(Debug)]
pub(super) struct Recent {
    size: usize,
    send: Turns,
    values: VecDeque<f64>,
    count: usize,
}

impl Stage {
    pub(super) fn new(filter: &Filter) -> Stage {
        match filter.clone() {
            Filter::CalibrateLinear(points) => Stage::Curve(fit::polynomial(1, &points)),
            Filter::CalibratePolynomial(Polynomial { degree, datapoints }) => {
                Stage::Curve(fit::polynomial(degree, &datapoints))
            }
            Filter::Median(window) => Stage::Median(Recent::new(window)),
            Filter::SlidingWindowMovingAverage(window) => Stage::Mean(Recent::new(window)),
            Filter::ExponentialMovingAverage(settings) => {
                Stage::Average { settings, average: None, count: 0 }
            }
            Filter::Clamp(clamp) => Stage::Clamp(clamp),
            Filter::FilterOut(values) => Stage::FilterOut(values),
            Filter::Delta(by) => Stage::Delta { by, last: None },
            Filter::Throttle(after) => Stage::Throttle { after, last: None },
            Filter::Heartbeat(after) => Stage::Heartbeat { after, last: None },
            Filter::Debounce(after) => Stage::Debounce { after, pending: None },
            Filter::Timeout(settings) => Stage::Timeout { settings, at: None },
        }
    }

    /// What this stage makes of what the one before says.
    pub(super) fn step(&mut self, signal: Signal, now: Instant) -> Signal {
        match signal {
            Signal::Datum(datum) => self.datum(datum, now),
            Signal::Held => self.held(now),
            Signal::Stale => {
                self.interrupted();
                Signal::Stale
            }
            Signal::Nothing => Signal::Nothing,
        }
    }

    fn datum(&mut self, datum: Datum, now: Instant) -> Signal {
        match self {
            Stage::Throttle { after, last } => {
                if last.is_some_and(|last| now < last + *after) {
                    return Signal::Held;
                }
                *last = Some(now);
            }
            Stage::Heartbeat { last, .. } => *last = Some((datum.clone(), now)),
            Stage::Debounce { after, pending } => {
                // The same value again is no change: it goes on waiting.
                if pending.as_ref().is_none_or(|(waiting, _)| *waiting != datum) {
                    *pending = Some((datum, now + *after));
                }
                return Signal::Held;
            }
            Stage::Timeout { settings, at } => *at = Some(now + settings.after),
            Stage::FilterOut(Values(values)) => {
                if values.contains(&datum) {
                    return Signal::Held;
                }
            }
            _ => {
                // The check has refused filters for numbers on anything else.
                let Datum::Number(number) = datum else { return Signal::Datum(datum) };
                return match self.number(number).and_then(Datum::number) {
                    Some(datum) => Signal::Datum(datum),
                    None => Signal::Held,
                };
            }
        }
        Signal::Datum(datum)
    }

    fn number(&mut self, number: f64) -> Option<f64> {
        match self {
            Stage::Curve(curve) => Some(curve.as_ref().map_or(number, |curve| curve.at(number))),
            Stage::Median(recent) => recent.push(number).then(|| recent.median()),
            Stage::Mean(recent) => recent.push(number).then(|| recent.mean()),
            Stage::Average { settings, average, count } => {
                let before = average.unwrap_or(number);
                let now = before + settings.alpha * (number - before);
                *average = Some(now);
                settings.send.turn(count).then_some(now)
            }
            Stage::Clamp(Clamp { min, max, ignore_out_of_range }) => {
                let inside = number.max(min.unwrap_or(f64::MIN)).min(max.unwrap_or(f64::MAX));
                (inside == number || !*ignore_out_of_range).then_some(inside)
            }
            Stage::Delta { by, last } => {
                let enough = last.is_none_or(|last| {
                    let by = match by {
                        Delta::Absolute(by) => *by,
                        Delta::Share(share) => *share * last.abs(),
                    };
                    (number - last).abs() >= by
                });
                enough.then(|| *last.insert(number))
            }
            _ => Some(number),
        }
    }

    /// A value was held back before this stage: the device is alive.
    fn held(&mut self, now: Instant) -> Signal {
        match self {
            Stage::Heartbeat { after, last: Some((datum, at)) } if now >= *at + *after => {
                *at = now;
                Signal::Datum(datum.clone())
            }
            Stage::Timeout { settings, at: Some(at) } => {
                *at = now + settings.after;
                Signal::Held
            }
            _ => Signal::Held,
        }
    }

    /// When [`Stage::due`] is to be asked.
    pub(super) fn next(&self) -> Option<Instant> {
        match self {
            Stage::Debounce { pending, .. } => pending.as_ref().map(|(_, at)| *at),
            Stage::Timeout { at, .. } => *at,
            _ => None,
        }
    }

    /// What the passing of time says.
    pub(super) fn due(&mut self, now: Instant) -> Signal {
        match self {
            Stage::Debounce { pending, .. } => match pending.take_if(|(_, at)| *at <= now) {
                Some((datum, _)) => Signal::Datum(datum),
                None => Signal::Nothing,
            },
            Stage::Timeout { settings, at } => match at.take_if(|at| *at <= now) {
                Some(_) => {
                    settings.value.map_or(Signal::Stale, |v| Signal::Datum(Datum::Number(v)))
                }
                None => Signal::Nothing,
            },
            _ => Signal::Nothing,
        }
    }

    /// A bad reading has gone past: what is held back must not hide that the
    /// channel is good again, and what was let through no longer holds.
    pub(super) fn interrupted(&mut self) {
        match self {
            Stage::Delta { last, .. } => *last = None,
            Stage::Throttle { last, .. } => *last = None,
            Stage::Heartbeat { last, .. } => *last = None,
            Stage::Debounce { pending, .. } => *pending = None,
            Stage::Timeout { at, .. } => *at = None,
            Stage::Curve(_)
            | Stage::Median(_)
            | Stage::Mean(_)
            | Stage::Average { .. }
            | Stage::Clamp(_)
            | Stage::FilterOut(_) => {}
        }
    }

    /// Forgets everything.
    pub(super) fn reset(&mut self) {
        self.interrupted();
        match self {
            Stage::Median(recent) | Stage::Mean(recent) => {
                recent.values.clear();
                recent.count = 0;
            }
            Stage::Average { average, count, .. } => {
                *average = None;
                *count = 0;
            }
            _ => {}
        }
    }
}

impl Recent {
    fn new(window: Window) -> Recent {
        Recent { size: window.size, send: window.send, values: VecDeque::new(), count: 0 }
    }

    /// Takes a value; tells whether a result is due.
    fn push(&mut self, number: f64) -> bool {
        if self.values.len() == self.size {
            self.values.pop_front();
        }
        self.values.push_back(number);
        self.send.turn(&mut self.count)
    }

    fn median(&self) -> f64 {
        let mut sorted: Vec<f64> = self.values.iter().copied().collect();
        sorted.sort_unstable_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        if sorted.len() % 2 == 1 {
            sorted[middle]
        } else {
            f64::midpoint(sorted[middle - 1], sorted[middle])
        }
    }

    /// Summed anew each time: a running sum drifts away over the weeks.
    fn mean(&self) -> f64 {
        self.values.iter().sum::<f64>() / self.values.len() as f64
    }
}

impl Turns {
    /// Counts a value; tells whether a result is due.
    fn turn(&self, count: &mut usize) -> bool {
        let turn = *count % self.every == self.first_at - 1;
        *count = (*count + 1) % self.every;
        turn
    }
}
