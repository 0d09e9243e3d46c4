//! Readings that are taken before the clock is set.
//!
//! Until it is, they bear times that are all wrong by one and the same span (see
//! [`reading::clock`]), and the store holds them back from forwarders. When it is
//! set, the store corrects them; when it isn't in time, they go as they are,
//! uncertain. This says which, and when.

use std::time::Duration;

use dashboard::Hub;
use reading::{Doubt, Reading, Timestamp, Value};
use store::Appender;
use tracing::{info, warn};

use crate::clock;

/// How often a clock that isn't set is looked at.
const LOOK: Duration = Duration::from_millis(250);

/// So long after the clock was set readings may come that were stamped before it:
/// longer than a device takes over a batch, and waits until intake has it.
const LATE: Duration = Duration::from_secs(120);

/// Follows the clock from one turn of the intake to the next.
pub(crate) struct Dating {
    phase: Phase,
    /// When to look again, by the time since the machine's start.
    next: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Phase {
    /// The clock is set: there is nothing to do.
    Set,
    /// It isn't, and readings wait.
    Waiting { ahead: i64, until: Duration },
    /// It isn't, and they wait no longer.
    GivenUp { ahead: i64 },
    /// It has just been set: some readings may have been stamped before.
    Late { behind: i64, until: Duration },
}

impl Dating {
    /// For a clock that is set.
    pub(crate) fn set() -> Dating {
        Dating { phase: Phase::Set, next: Duration::ZERO }
    }

    /// Before any device is read.
    pub(crate) fn begin(appender: &mut Appender) -> Dating {
        let now = reading::clock::uptime();
        if clock::state().set {
            let readings = appender.date(reading::clock::ahead());
            if readings > 0 {
                info!(readings, "the clock has been set: what was taken before is corrected");
            }
            return Dating::set();
        }
        let ahead = reading::clock::detach();
        let shows = Timestamp::now();
        // A process that is started anew doesn't begin to wait anew.
        let until = appender.held_since().unwrap_or(now) + clock::wait_max();
        let phase = if now < until {
            appender.hold(ahead);
            let at_most = until - now;
            warn!(%shows, ?at_most, "the clock is not set: readings wait to be forwarded");
            Phase::Waiting { ahead, until }
        } else {
            appender.give_up();
            warn!(%shows, "the clock is not set: readings are uncertain");
            Phase::GivenUp { ahead }
        };
        Dating { phase, next: now + LOOK }
    }

    /// Before the readings of a turn get their numbers.
    pub(crate) fn turn(
        &mut self,
        readings: &mut [Vec<Reading>],
        appender: &mut Appender,
        hub: &Hub,
    ) {
        if self.phase == Phase::Set {
            return;
        }
        self.look(appender, hub);
        let readings = readings.iter_mut().flatten();
        match self.phase {
            Phase::Set | Phase::Waiting { .. } => {}
            Phase::GivenUp { .. } => readings.for_each(doubt),
            Phase::Late { behind, .. } => {
                let now = Timestamp::now();
                readings.for_each(|reading| reading.at = dated(reading.at, behind, now));
            }
        }
    }

    fn look(&mut self, appender: &mut Appender, hub: &Hub) {
        let now = reading::clock::uptime();
        if now < self.next {
            return;
        }
        self.next = now + LOOK;
        match self.phase {
            Phase::Waiting { ahead, .. } | Phase::GivenUp { ahead } if clock::state().set => {
                let right = reading::clock::attach();
                let readings = appender.date(right);
                let behind = right - ahead;
                if matches!(self.phase, Phase::Waiting { .. }) {
                    hub.correct(behind);
                }
                #[expect(clippy::cast_precision_loss, reason = "a span for people")]
                let seconds = behind as f64 / 1e6;
                info!(behind_s = seconds, readings, "the clock is set: what waited is corrected");
                self.phase = Phase::Late { behind, until: now + LATE };
            }
            Phase::Waiting { ahead, until } if now >= until => {
                let readings = appender.give_up();
                warn!(readings, "the clock is still not set: what waited goes, uncertain");
                self.phase = Phase::GivenUp { ahead };
            }
            Phase::Late { until, .. } if now >= until => self.phase = Phase::Set,
            _ => {}
        }
    }
}

/// A reading stamped by a clock that isn't set.
fn doubt(reading: &mut Reading) {
    if let Value::Good(datum) = &reading.value {
        reading.value = Value::Uncertain(datum.clone(), Doubt::ClockUnset);
    }
}

/// The time of a reading that comes when the clock has been set, having been so
/// many microseconds behind. It was stamped just now: by the clock before, if it is
/// nearer to what that would show than to what this one does. When the two are so
/// near to each other that it can't be told, it hardly matters.
fn dated(at: Timestamp, behind: i64, now: Timestamp) -> Timestamp {
    let late = now.as_micros() - at.as_micros();
    let before = (late - behind).abs() < late.abs();
    if before { Timestamp::from_micros(at.as_micros() + behind) } else { at }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_late_is_dated_by_the_clock_that_stamped_it() {
        let now = Timestamp::from_micros(1_795_508_400_000_000);
        const SECOND: i64 = 1_000_000;
        for behind in [56 * 365 * 86_400 * SECOND, 3_600 * SECOND, -3_600 * SECOND, -20 * SECOND] {
            for ago in [0, 1, 5 * SECOND] {
                let at = |shown: i64| Timestamp::from_micros(shown);
                let right = at(now.as_micros() - ago);
                assert_eq!(dated(right, behind, now), right, "{behind} {ago}");
                let wrong = at(right.as_micros() - behind);
                assert_eq!(dated(wrong, behind, now), right, "{behind} {ago}");
            }
        }
        // So near that it can't be told: no more wrong than the clock was.
        let right = Timestamp::from_micros(now.as_micros() - SECOND);
        let dated = dated(right, SECOND, now);
        assert!((dated.as_micros() - right.as_micros()).abs() <= SECOND);
    }
}
