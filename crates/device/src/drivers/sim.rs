//! Wave forms and faults, for a demonstration and for tests without hardware.

use std::f64::consts::TAU;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use reading::{Datum, Fault, Kind, Timestamp, Value};
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::time::Instant;

use crate::kind::{Declared, Kinded, Pace};
use crate::output::Writable;
use crate::settings::Report;
use crate::{Batch, Device, Driver, Failure, Sample, Taken};

/// The driver.
pub(crate) struct Sim;

/// A machine that slept owes no more samples than this at once.
const DUE_MAX: u64 = 100_000;

/// Its own keys of `[device.NAME]`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    /// The same seed gives the same random numbers.
    #[serde(default)]
    seed: u64,
    /// Values a second and channel, given in bursts, one burst each `poll`;
    /// without it one value each `poll`.
    rate: Option<f64>,
    /// What goes wrong every so often.
    fault: Option<Misfortune>,
    /// How often, counted from each opening.
    #[serde(default = "fault_every", with = "humantime_serde")]
    #[schemars(with = "String")]
    fault_every: Duration,
}

fn fault_every() -> Duration {
    Duration::from_secs(30)
}

/// What can go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Misfortune {
    /// The driver panics.
    Panic,
    /// An answer never comes.
    Hang,
    /// The device is unplugged, and back at the next try.
    Lost,
    /// A frame isn't understood.
    Noise,
}

/// A channel's own keys.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Signal {
    /// The form of the wave.
    #[serde(default)]
    wave: Wave,
    /// The lowest value; 0 by default.
    low: Option<f64>,
    /// The highest value; 1 by default.
    high: Option<f64>,
    /// How long one wave takes; "60s" by default.
    #[serde(default, with = "humantime_serde::option")]
    #[schemars(with = "Option<String>")]
    period: Option<Duration>,
    /// By how much a counter grows and how far a random walk goes at most, each
    /// value; 1 for a counter, a twentieth of the span for a walk.
    step: Option<f64>,
    /// Random noise on top, up to this much either way.
    noise: Option<f64>,
    /// What a cycle says in turn, one each `period`.
    values: Option<Vec<String>>,
    /// It is an output: it keeps what is written to it, and has no wave.
    #[serde(default)]
    output: bool,
}

/// The form of a wave.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Wave {
    /// A sine between `low` and `high`.
    #[default]
    Sine,
    /// From `low` to `high`, and from the start again.
    Ramp,
    /// `low` for half a period, then `high`; with `type = "boolean"` false and true.
    Square,
    /// A random walk between `low` and `high`.
    Walk,
    /// Grows by `step`.
    Counter,
    /// The texts of `values` in turn.
    Cycle,
}

/// One checked channel.
#[derive(Clone, Debug)]
struct Generator {
    signal: Signal,
    kind: Kind,
    low: f64,
    high: f64,
    period: f64,
    texts: Vec<Arc<str>>,
    random: Random,
    /// Where the random walk is.
    walk: f64,
    /// Of an output: what it was set to.
    set: Option<Datum>,
}

struct Checked {
    settings: Settings,
    generators: Vec<Generator>,
    /// The time between two values of one channel.
    step: Duration,
    /// How many values each channel has given, over all openings.
    ticks: Arc<AtomicU64>,
}

struct Open {
    settings: Settings,
    generators: Vec<Generator>,
    step: Duration,
    ticks: Arc<AtomicU64>,
    opened: Instant,
    /// Values of each channel since it was opened.
    given: u64,
    /// When the next misfortune comes.
    fault_at: Instant,
}

impl Kinded for Sim {
    const NAME: &'static str = "sim";
    const SUMMARY: &'static str = "wave forms and faults, for a demonstration without hardware";
    const SAMPLE: &'static str = r#"[device.demo]
driver = "sim"
poll = "1s"                  # how often it is asked
seed = 1                     # the same seed gives the same random numbers
# rate = 1000                # values a second and channel, in one burst each poll
# fault = "lost"             # "panic", "hang", "lost" or "noise", every so often
# fault_every = "30s"

[device.demo.channel]
temperature = { wave = "sine", low = 18, high = 24, period = "60s", noise = 0.1, unit = "Cel" }
level       = { wave = "ramp", low = 0, high = 3.5, period = "5min", unit = "m" }
humidity    = { wave = "walk", low = 30, high = 70, step = 0.5, unit = "%RH" }
pulses      = { wave = "counter", step = 1 }
pump        = { wave = "square", type = "boolean", period = "20s" }
mode        = { wave = "cycle", values = ["idle", "heating", "cooling"], period = "30s" }
valve       = { output = true, initial = false, failsafe = { after = "10min", value = false } }
heater      = { output = true, type = "number", initial = 0, range = [0, 100], unit = "%" }
"#;
    const PACE: Pace = Pace::Asked(Duration::from_secs(1));
    type Settings = Settings;
    type Channel = Signal;

    fn defaults(_: &Settings) -> Vec<Declared<Signal>> {
        let wave = |name: &str, kind, signal| Declared {
            name: name.to_owned(),
            kind,
            common: Default::default(),
            own: signal,
        };
        let square = Signal { wave: Wave::Square, ..Signal::default() };
        vec![wave("sine", Kind::Number, Signal::default()), wave("switch", Kind::Boolean, square)]
    }

    fn kind(channel: &Declared<Signal>) -> Result<Kind, String> {
        let signal = &channel.own;
        if signal.output {
            return Ok(channel.common.kind.map_or(Kind::Boolean, Kind::from));
        }
        let natural = if signal.wave == Wave::Cycle { Kind::Text } else { Kind::Number };
        match channel.common.kind.map_or(natural, Kind::from) {
            Kind::Boolean if signal.wave == Wave::Square => Ok(Kind::Boolean),
            kind if kind == natural => Ok(kind),
            kind => Err(format!(
                "this wave gives a {}, not a {}: \"cycle\" gives texts, \"square\" booleans",
                natural.as_str(),
                kind.as_str()
            )),
        }
    }

    fn writable(channel: &Declared<Signal>) -> Writable {
        if channel.own.output { Writable::Output } else { Writable::No }
    }

    fn build(
        settings: Settings,
        channels: Vec<Declared<Signal>>,
        poll: Option<Duration>,
        report: &mut Report<'_>,
    ) -> Option<Box<dyn Driver>> {
        let mut step = poll.unwrap_or(Duration::from_secs(1));
        if let Some(rate) = settings.rate {
            if !(0.001..=1e6).contains(&rate) {
                report.at(&["rate"], "expected 0.001 to 1000000 values a second");
                return None;
            }
            step = Duration::from_secs_f64(1.0 / rate);
        }
        if settings.fault_every < Duration::from_millis(1) {
            report.at(&["fault_every"], "expected 1ms or more");
            return None;
        }
        let generators = channels.into_iter().enumerate();
        let generators: Option<Vec<_>> = generators
            .map(|(n, channel)| Generator::new(channel, settings.seed, n as u64, report))
            .collect();
        Some(Box::new(Checked { settings, generators: generators?, step, ticks: Arc::default() }))
    }
}

impl Generator {
    fn new(
        channel: Declared<Signal>,
        seed: u64,
        place: u64,
        report: &mut Report<'_>,
    ) -> Option<Generator> {
        let (name, signal) = (channel.name, channel.own);
        let mut wrong = |key: &str, message: &str| {
            report.at(&["channel", &name, key], message);
            None
        };
        let (low, high) = (signal.low.unwrap_or(0.0), signal.high.unwrap_or(1.0));
        if !(low <= high && low.is_finite() && high.is_finite()) {
            return wrong("high", "expected `low` to be below `high`, and both finite");
        }
        let period = signal.period.unwrap_or(Duration::from_secs(60)).as_secs_f64();
        if period < 0.001 {
            return wrong("period", "expected 1ms or more");
        }
        let texts: Vec<Arc<str>> =
            signal.values.iter().flatten().map(|text| text.as_str().into()).collect();
        if (signal.wave == Wave::Cycle) == texts.is_empty() {
            return wrong(
                "values",
                "a cycle needs `values`, and only a cycle: values = [\"a\", \"b\"]",
            );
        }
        let random = Random::new(seed ^ (place + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let walk = f64::midpoint(low, high);
        if signal.output && signal.wave != Wave::default() {
            return wrong("wave", "an output keeps what is written to it: leave `wave` out");
        }
        let kind = channel.kind;
        Some(Generator { signal, kind, low, high, period, texts, random, walk, set: None })
    }

    /// The value at `time` seconds, the `tick`th.
    fn at(&mut self, tick: u64, time: f64) -> Value {
        let turns = time / self.period;
        let phase = turns.fract();
        let span = self.high - self.low;
        let mut number = match self.signal.wave {
            Wave::Sine => self.low + span * (0.5 + 0.5 * (phase * TAU).sin()),
            Wave::Ramp => self.low + span * phase,
            Wave::Square if self.kind == Kind::Boolean => {
                return Value::Good(Datum::Boolean(phase >= 0.5));
            }
            Wave::Square => {
                if phase >= 0.5 {
                    self.high
                } else {
                    self.low
                }
            }
            Wave::Walk => {
                let step = self.signal.step.unwrap_or(span / 20.0);
                self.walk =
                    (self.walk + step * self.random.either_way()).clamp(self.low, self.high);
                self.walk
            }
            Wave::Counter => tick as f64 * self.signal.step.unwrap_or(1.0),
            Wave::Cycle => {
                let text = &self.texts[turns as usize % self.texts.len()];
                return Value::Good(Datum::Text(text.clone()));
            }
        };
        if let Some(noise) = self.signal.noise {
            number += noise * self.random.either_way();
        }
        Datum::number(number).map_or(Value::Bad(Fault::Corrupt), Value::Good)
    }
}

#[async_trait]
impl Driver for Checked {
    async fn open(&self) -> Result<Box<dyn Device>, Failure> {
        let now = Instant::now();
        Ok(Box::new(Open {
            settings: self.settings.clone(),
            generators: self.generators.clone(),
            step: self.step,
            ticks: self.ticks.clone(),
            opened: now,
            given: 0,
            fault_at: now + self.settings.fault_every,
        }))
    }
}

#[async_trait]
impl Device for Open {
    async fn read(&mut self, batch: &mut Batch) -> Result<(), Failure> {
        let now = Instant::now();
        if let Some(misfortune) = self.settings.fault
            && now >= self.fault_at
        {
            self.fault_at = now + self.settings.fault_every;
            match misfortune {
                #[expect(clippy::panic, reason = "a bug, as asked for")]
                Misfortune::Panic => panic!("the simulated bug"),
                Misfortune::Hang => std::future::pending().await,
                Misfortune::Lost => {
                    return Err(Failure::new(Fault::Absent, "unplugged, as `fault` asks"));
                }
                Misfortune::Noise => batch.noise(|| "noise, as `fault` asks".into()),
            }
        }
        // Without a rate one value is due at each call, the first at once.
        let due = match self.settings.rate {
            None => 1,
            Some(rate) => {
                let whole = ((now - self.opened).as_secs_f64() * rate) as u64;
                whole.saturating_sub(self.given)
            }
        };
        let (due, at) = (due.min(DUE_MAX), Timestamp::now());
        self.given += due;
        let first = self.ticks.fetch_add(due, Ordering::Relaxed);
        for n in 0..due {
            let tick = first + n;
            let time = tick as f64 * self.step.as_secs_f64();
            // The last is now; those before it were due a step earlier each.
            let ago = self.step.saturating_mul(u32::try_from(due - 1 - n).unwrap_or(u32::MAX));
            for (channel, generator) in self.generators.iter_mut().enumerate() {
                let value = match &generator.set {
                    Some(datum) => Value::Good(datum.clone()),
                    None if generator.signal.output => continue,
                    None => generator.at(tick, time),
                };
                batch.samples.push(Sample { channel, at: Some(at - ago), value });
            }
        }
        Ok(())
    }

    async fn write(&mut self, channel: usize, value: &Datum) -> Result<Taken, Failure> {
        self.generators[channel].set = Some(value.clone());
        Ok(Taken::State(value.clone()))
    }
}

/// xorshift64*: small, and the same on every machine.
#[derive(Clone, Debug)]
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Random {
        Random(seed | 1)
    }

    /// From -1 to 1.
    fn either_way(&mut self) -> f64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let high = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32;
        high as f64 / f64::from(u32::MAX) * 2.0 - 1.0
    }
}
