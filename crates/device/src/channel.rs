//! What becomes of one channel's values between the device and the readings.

use std::time::Duration;

use reading::{Channel, Datum, Fault, Reading, Timestamp, Value};
use tokio::time::Instant;

use crate::alarm::{Alarms, Driven};
use crate::config::ChannelConfig;
use crate::filters::Chain;

/// A noisy line makes thousands of bad frames a second; one bad reading a
/// second says the same.
const CORRUPT_EVERY: Duration = Duration::from_secs(1);

/// One channel while its device runs.
pub(crate) struct Track {
    config: ChannelConfig,
    filters: Chain,
    /// When it is stale, unless something comes; `None` when it never is, or
    /// has been said to be.
    stale_at: Option<Instant>,
    /// Until when another "not understood" would say nothing new.
    quiet_until: Option<Instant>,
    /// What has come last, and since when nothing else has.
    same: Option<(Datum, Instant)>,
    /// Whether it has been said that it is stuck.
    stuck: bool,
    alarms: Alarms,
}

impl Track {
    pub(crate) fn new(config: ChannelConfig) -> Track {
        let filters = Chain::new(&config.filters);
        let alarms = Alarms::new(&config.alarms);
        Track {
            config,
            filters,
            stale_at: None,
            quiet_until: None,
            same: None,
            stuck: false,
            alarms,
        }
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
        (self.same, self.stuck) = (None, false);
        self.filters.reset();
        self.alarms.interrupted();
    }

    /// A sample has come. `None` when it is one more of the same noise, or when
    /// a filter holds it back.
    pub(crate) fn reading(&mut self, value: Value, at: Timestamp, now: Instant) -> Option<Reading> {
        let (datum, doubt) = match value {
            Value::Good(datum) => (datum, None),
            Value::Uncertain(datum, doubt) => (datum, Some(doubt)),
            Value::Bad(fault) => return self.fault(fault, at, now),
        };
        let Some(datum) = self.scaled(datum) else { return self.fault(Fault::Corrupt, at, now) };
        self.opened(now);
        if self.is_stuck(&datum, now) {
            // Said once, as what is stale is.
            let again = std::mem::replace(&mut self.stuck, true);
            return if again { None } else { self.fault(Fault::Stuck, at, now) };
        }
        let value = match (self.filters.push(datum, now)?, doubt) {
            (Value::Good(datum), Some(doubt)) => Value::Uncertain(datum, doubt),
            (value, _) => value,
        };
        Some(self.judged(value, at, now))
    }

    /// Whether the value hasn't changed for longer than it can.
    fn is_stuck(&mut self, datum: &Datum, now: Instant) -> bool {
        let Some(most) = self.config.stuck else { return false };
        match &self.same {
            Some((same, since)) if same == datum => now.duration_since(*since) >= most,
            _ => {
                (self.same, self.stuck) = (Some((datum.clone(), now)), false);
                false
            }
        }
    }

    /// The alarms of this channel, when they are others than before.
    pub(crate) fn alarm(&mut self, at: Timestamp, now: Instant) -> Option<Reading> {
        let text = self.alarms.news(now)?;
        let value = Value::Good(Datum::from(text.as_str()));
        Some(Reading { channel: self.channel().alarm(), at, value })
    }

    /// The outputs that have to follow the alarms.
    pub(crate) fn driven(&mut self) -> Vec<Driven> {
        self.alarms.driven(&self.config.spec.channel)
    }

    /// A bad reading, unless it is one more of the same noise.
    fn fault(&mut self, fault: Fault, at: Timestamp, now: Instant) -> Option<Reading> {
        if fault == Fault::Corrupt {
            if self.quiet_until.is_some_and(|until| now < until) {
                return None;
            }
            self.quiet_until = Some(now + CORRUPT_EVERY);
        }
        self.filters.interrupted();
        Some(self.bad(fault, at))
    }

    /// When [`Track::due`] is to be asked.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.stale_at.into_iter().chain(self.filters.next()).chain(self.alarms.next()).min()
    }

    /// What the passing of time says: once, that the channel is stale, or what
    /// a filter held back.
    pub(crate) fn due(&mut self, at: Timestamp, now: Instant) -> Option<Reading> {
        let late = self.filters.due(now).map(|value| self.judged(value, at, now));
        if self.stale_at.take_if(|stale_at| *stale_at <= now).is_none() {
            return late;
        }
        self.filters.interrupted();
        Some(self.bad(Fault::Stale, at))
    }

    pub(crate) fn bad(&self, fault: Fault, at: Timestamp) -> Reading {
        Reading { channel: self.channel().clone(), at, value: Value::Bad(fault) }
    }

    /// What is to be written so that the channel reads `datum`.
    pub(crate) fn unscaled(&self, datum: &Datum) -> Datum {
        match datum {
            Datum::Number(number) => {
                Datum::Number((number - self.config.offset) / self.config.scale)
            }
            datum => datum.clone(),
        }
    }

    /// Scale and offset. `None` for another type than the channel's, which never
    /// changes, and for what isn't finite, which no payload can carry.
    pub(crate) fn scaled(&self, datum: Datum) -> Option<Datum> {
        if datum.kind() != self.config.spec.kind {
            return None;
        }
        match datum {
            Datum::Number(number) => Datum::number(number * self.config.scale + self.config.offset),
            datum => Some(datum),
        }
    }

    /// The range is that of the reading: a filter may have brought it inside.
    fn judged(&mut self, value: Value, at: Timestamp, now: Instant) -> Reading {
        let value = match (value.number(), &self.config.spec.range) {
            (Some(number), Some(range)) if !range.contains(&number) => {
                Value::Bad(Fault::OutOfRange)
            }
            _ => value,
        };
        self.alarms.see(&value, now);
        Reading { channel: self.channel().clone(), at, value }
    }
}
