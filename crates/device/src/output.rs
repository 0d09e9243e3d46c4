//! What may become of an output, and when: pure, so that it can be tested
//! without a device and without waiting.
//!
//! The [`Runner`](crate::Runner) asks before it writes, tells what was written,
//! and asks what has become due.

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use reading::{Channel, Datum, Kind};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer};
use tokio::time::Instant;

/// What a channel is to those who write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Writable {
    /// It is only read.
    #[default]
    No,
    /// A setting of the device, such as the total of a counter.
    Setting,
    /// It switches something, so the keys of an output hold for it.
    Output,
}

/// The value of an output, as the file has it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Level(pub(crate) Datum);

/// What an output becomes when nobody speaks to it.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Failsafe {
    /// No command for this long.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub(crate) after: Duration,
    /// The value then.
    pub(crate) value: Level,
}

/// The keys of an output, checked.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rules {
    /// At each opening.
    pub(crate) initial: Option<Datum>,
    /// When the gateway stops.
    pub(crate) on_stop: Option<Datum>,
    /// After so long without a command.
    pub(crate) failsafe: Option<(Duration, Datum)>,
    /// Of all with this name only one is on at a time.
    pub(crate) interlock: Option<String>,
    /// Once on, it stays on for at least this long.
    pub(crate) min_on: Duration,
    /// Once off, it stays off for at least this long.
    pub(crate) min_off: Duration,
    /// Once on, it goes off by itself after this long.
    pub(crate) pulse: Option<Duration>,
}

/// The channels of one device that can be written.
pub(crate) struct Outputs {
    lines: Vec<Line>,
}

struct Line {
    /// The channel's place in the configuration.
    place: usize,
    channel: Channel,
    kind: Kind,
    range: Option<RangeInclusive<f64>>,
    rules: Rules,
    /// What it was read back as; `None` before the first writing.
    state: Option<Datum>,
    /// Since when it has been on or off.
    since: Option<Instant>,
    pulse_at: Option<Instant>,
    failsafe_at: Option<Instant>,
}

/// Why an output is written by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// Its pulse is over.
    Pulse,
    /// No command has come for too long.
    Failsafe,
}

/// Whether a value means on.
fn is_on(datum: &Datum) -> bool {
    match datum {
        Datum::Boolean(on) => *on,
        Datum::Number(number) => *number != 0.0,
        Datum::Text(_) => false,
    }
}

impl Outputs {
    pub(crate) fn new() -> Outputs {
        Outputs { lines: Vec::new() }
    }

    pub(crate) fn add(&mut self, place: usize, spec: &reading::ChannelSpec, rules: Rules) {
        self.lines.push(Line {
            place,
            channel: spec.channel.clone(),
            kind: spec.kind,
            range: spec.range.clone(),
            rules,
            state: None,
            since: None,
            pulse_at: None,
            failsafe_at: None,
        });
    }

    /// The device is open: what to write first. Whatever was, is forgotten: a
    /// device that was away may have forgotten it as well.
    pub(crate) fn opened(&mut self, now: Instant) -> Vec<(usize, Datum)> {
        for line in &mut self.lines {
            (line.state, line.since, line.pulse_at) = (None, None, None);
            line.failsafe_at = line.rules.failsafe.as_ref().map(|(after, _)| now + *after);
        }
        self.written_first(|rules| &rules.initial)
    }

    /// What to write when the gateway stops.
    pub(crate) fn stopping(&self) -> Vec<(usize, Datum)> {
        self.written_first(|rules| &rules.on_stop)
    }

    /// Off before on, or two of an interlock might be on for an instant.
    fn written_first(&self, of: fn(&Rules) -> &Option<Datum>) -> Vec<(usize, Datum)> {
        let value = |line: &Line| Some((line.place, of(&line.rules).clone()?));
        let mut values: Vec<_> = self.lines.iter().filter_map(value).collect();
        values.sort_by_key(|(_, datum)| is_on(datum));
        values
    }

    /// Whether a command may be carried out: the place of its channel.
    ///
    /// # Errors
    /// Why not, as a sentence for people.
    pub(crate) fn allow(
        &self,
        channel: &Channel,
        value: &Datum,
        now: Instant,
    ) -> Result<usize, String> {
        let line = self.lines.iter().find(|line| line.channel == *channel);
        let line = line.ok_or_else(|| format!("{channel} can't be written"))?;
        if value.kind() != line.kind {
            let (takes, given) = (line.kind.as_str(), value.kind().as_str());
            return Err(format!("{channel} takes a {takes}, not a {given}"));
        }
        if let (Datum::Number(number), Some(range)) = (value, &line.range)
            && !range.contains(number)
        {
            return Err(format!("{channel} takes {} to {}", range.start(), range.end()));
        }
        if let Some(other) = self.locked_by(line, value) {
            return Err(format!("{channel} can't be on while {other} is: switch that off first"));
        }
        if let Some(until) = line.kept_until(value).filter(|until| *until > now) {
            let left = humantime::format_duration(seconds_up(until - now));
            let state = if is_on(value) { "off" } else { "on" };
            return Err(format!("{channel} must stay {state} for another {left}"));
        }
        Ok(line.place)
    }

    /// The other output of the interlock that is on.
    fn locked_by(&self, line: &Line, value: &Datum) -> Option<&Channel> {
        let name = line.rules.interlock.as_ref().filter(|_| is_on(value))?;
        let other = self.lines.iter().find(|other| {
            other.place != line.place
                && other.rules.interlock.as_ref() == Some(name)
                && other.state.as_ref().is_some_and(is_on)
        });
        other.map(|other| &other.channel)
    }

    /// A command has come that may be carried out.
    pub(crate) fn commanded(&mut self, place: usize, now: Instant) {
        for line in self.lines.iter_mut().filter(|line| line.place == place) {
            line.failsafe_at = line.rules.failsafe.as_ref().map(|(after, _)| now + *after);
        }
    }

    /// An output was written, and read back as this.
    pub(crate) fn written(&mut self, place: usize, state: Datum, now: Instant) {
        let Some(line) = self.lines.iter_mut().find(|line| line.place == place) else { return };
        if line.state.as_ref().map(is_on) != Some(is_on(&state)) {
            line.since = Some(now);
        }
        // Switching on what is on makes the pulse longer.
        line.pulse_at = line.rules.pulse.filter(|_| is_on(&state)).map(|pulse| now + pulse);
        line.state = Some(state);
    }

    /// When [`Outputs::due`] is to be asked.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.lines.iter().flat_map(|line| line.pulse_at.into_iter().chain(line.failsafe_at)).min()
    }

    /// What the passing of time says: one output to write, if any.
    pub(crate) fn due(&mut self, now: Instant) -> Option<(usize, Datum, Cause)> {
        for at in 0..self.lines.len() {
            let line = &mut self.lines[at];
            let (value, cause) = if line.pulse_at.take_if(|at| *at <= now).is_some() {
                (Datum::Boolean(false), Cause::Pulse)
            } else if line.failsafe_at.take_if(|at| *at <= now).is_some() {
                let Some((_, value)) = line.rules.failsafe.clone() else { continue };
                (value, Cause::Failsafe)
            } else {
                continue;
            };
            if line.state.as_ref() == Some(&value) {
                continue;
            }
            // A minimum time holds for the gateway itself as well.
            let again = line.kept_until(&value).filter(|until| *until > now).or_else(|| {
                let line = &self.lines[at];
                self.locked_by(line, &value).map(|_| now + LOCKED_AGAIN)
            });
            if again.is_some() {
                let line = &mut self.lines[at];
                match cause {
                    Cause::Pulse => line.pulse_at = again,
                    Cause::Failsafe => line.failsafe_at = again,
                }
                continue;
            }
            return Some((self.lines[at].place, value, cause));
        }
        None
    }
}

/// A failsafe that would switch on against its interlock waits, and tries again.
const LOCKED_AGAIN: Duration = Duration::from_secs(1);

impl Line {
    /// Until when it may not become `value`, if it may not yet.
    fn kept_until(&self, value: &Datum) -> Option<Instant> {
        let (state, since) = (self.state.as_ref()?, self.since?);
        match (is_on(state), is_on(value)) {
            (true, false) => Some(since + self.rules.min_on),
            (false, true) => Some(since + self.rules.min_off),
            _ => None,
        }
    }
}

/// In whole seconds, so that "another 0s" is never said.
fn seconds_up(duration: Duration) -> Duration {
    Duration::from_secs(duration.as_secs() + u64::from(duration.subsec_nanos() > 0))
}

impl<'de> Deserialize<'de> for Level {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Level, D::Error> {
        struct Any;
        impl Visitor<'_> for Any {
            type Value = Level;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value of the output's type: true, false, a number or a text")
            }

            fn visit_bool<E>(self, truth: bool) -> Result<Level, E> {
                Ok(Level(Datum::Boolean(truth)))
            }

            fn visit_i64<E>(self, number: i64) -> Result<Level, E> {
                Ok(Level(Datum::Number(number as f64)))
            }

            fn visit_f64<E: de::Error>(self, number: f64) -> Result<Level, E> {
                let datum = Datum::number(number);
                datum.map(Level).ok_or_else(|| E::custom("expected a finite number"))
            }

            fn visit_str<E>(self, text: &str) -> Result<Level, E> {
                Ok(Level(Datum::from(text)))
            }
        }
        input.deserialize_any(Any)
    }
}

impl JsonSchema for Level {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Level".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["boolean", "number", "string"] })
    }
}

#[cfg(test)]
mod tests;
