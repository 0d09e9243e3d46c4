//! What becomes of one channel's values between the device and the readings.

use std::time::Duration;

use reading::{Channel, Datum, Fault, Reading, Timestamp, Value};
use tokio::time::Instant;

use crate::config::ChannelConfig;

/// A noisy line makes thousands of bad frames a second; one bad reading a
/// second says the same.
const CORRUPT_EVERY: Duration = Duration::from_secs(1);

/// One channel while its device runs.
pub(crate) struct Track {
    config: ChannelConfig,
    /// When it is stale, unless something comes; `None` when it never is, or
    /// has been said to be.
    stale_at: Option<Instant>,
    /// Until when another "not understood" would say nothing new.
    quiet_until: Option<Instant>,
}

impl Track {
    pub(crate) fn new(config: ChannelConfig) -> Track {
        Track { config, stale_at: None, quiet_until: None }
    }

    pub(crate) fn channel(&self) -> &Channel {
        &self.config.spec.channel
    }

    /// The device is open: from now on silence counts.
    pub(crate) fn opened(&mut self, now: Instant) {
        self.stale_at = self.config.stale.map(|stale| now + stale);
    }

    /// The device is lost, which its own bad reading says.
    pub(crate) fn lost(&mut self) {
        self.stale_at = None;
        self.quiet_until = None;
    }

    /// A sample has come. `None` when it is one more of the same noise.
    pub(crate) fn reading(&mut self, value: Value, at: Timestamp, now: Instant) -> Option<Reading> {
        let value = self.converted(value);
        match &value {
            Value::Bad(Fault::Corrupt) => {
                if self.quiet_until.is_some_and(|until| now < until) {
                    return None;
                }
                self.quiet_until = Some(now + CORRUPT_EVERY);
            }
            Value::Bad(_) => {}
            Value::Good(_) | Value::Uncertain(..) => self.opened(now),
        }
        Some(Reading { channel: self.channel().clone(), at, value })
    }

    /// When [`Track::due`] is to be asked.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.stale_at
    }

    /// What the passing of time says: once, that the channel is stale.
    pub(crate) fn due(&mut self, at: Timestamp, now: Instant) -> Option<Reading> {
        self.stale_at.take_if(|stale_at| *stale_at <= now)?;
        Some(self.bad(Fault::Stale, at))
    }

    pub(crate) fn bad(&self, fault: Fault, at: Timestamp) -> Reading {
        Reading { channel: self.channel().clone(), at, value: Value::Bad(fault) }
    }

    /// Scale, offset, range, and the promise that the type never changes.
    fn converted(&self, value: Value) -> Value {
        let (datum, doubt) = match value {
            Value::Good(datum) => (datum, None),
            Value::Uncertain(datum, doubt) => (datum, Some(doubt)),
            Value::Bad(fault) => return Value::Bad(fault),
        };
        if datum.kind() != self.config.spec.kind {
            return Value::Bad(Fault::Corrupt);
        }
        let datum = match datum {
            Datum::Number(number) => {
                let number = number * self.config.scale + self.config.offset;
                // Not finite: no payload can carry it.
                let Some(datum) = Datum::number(number) else { return Value::Bad(Fault::Corrupt) };
                if self.config.spec.range.as_ref().is_some_and(|range| !range.contains(&number)) {
                    return Value::Bad(Fault::OutOfRange);
                }
                datum
            }
            datum => datum,
        };
        match doubt {
            None => Value::Good(datum),
            Some(doubt) => Value::Uncertain(datum, doubt),
        }
    }
}
