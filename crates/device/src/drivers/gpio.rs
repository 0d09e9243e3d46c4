//! Lines of a GPIO chip: inputs, reported when they change, counters and the
//! like, and outputs.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use reading::{Datum, Kind};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Unexpected, Visitor};
use serde::{Deserialize, Deserializer};
use tokio::time::{Instant, sleep_until};

use crate::edges::{self, Edge, Edges, LineId, Lines, Meter, Role};
use crate::kind::{Declared, Kinded, Pace};
use crate::output::Writable;
use crate::settings::Report;
use crate::{Batch, Device, Driver, Failure, Taken};

/// The driver.
pub(crate) struct Gpio;

/// The longest debounce: what needs more is no contact that bounces.
const DEBOUNCE_MAX: Duration = Duration::from_secs(10);

/// Its own keys of `[device.NAME]`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    /// The chip: a path, a name or a label; "sim" needs no hardware.
    #[serde(default = "chip")]
    chip: String,
    /// Who watches the lines.
    #[serde(default)]
    backend: Backend,
    /// Of chip = "sim": a named pipe that takes lines such as `17=1`, made when
    /// it isn't there.
    commands: Option<String>,
}

fn chip() -> String {
    "gpiochip0".to_owned()
}

/// Who watches the lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Backend {
    /// The kernel, on every board.
    #[default]
    Gpiocdev,
    /// A Raspberry Pi's registers; `line` is the BCM number.
    Rppal,
}

/// A channel's own keys.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Line {
    /// The line, by its number on the chip or by its name.
    line: LineId,
    /// What the line is for.
    #[serde(default)]
    direction: Direction,
    /// What holds the line while nothing drives it.
    #[serde(default)]
    bias: Bias,
    /// The level that is true.
    #[serde(default)]
    active: Active,
    /// A level that lasts less is no change.
    #[serde(default, with = "humantime_serde::option")]
    #[schemars(with = "Option<String>")]
    debounce: Option<Duration>,
    /// Of a counter or frequency: which edges count; "rising" makes active.
    edge: Option<Edges>,
    /// Of a counter, frequency or pulse-width: a reading at most this often;
    /// "1s" by default.
    #[serde(default, with = "humantime_serde::option")]
    #[schemars(with = "Option<String>")]
    every: Option<Duration>,
    /// Of chip = "sim": the line changes this often by itself.
    #[serde(default, with = "humantime_serde::option")]
    #[schemars(with = "Option<String>")]
    toggle: Option<Duration>,
}

/// What a line is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum Direction {
    /// It is read.
    #[default]
    Input,
    /// It is driven, from the opening on.
    Output,
    /// Its edges are counted: the total, which outlives restarts and can be set.
    Counter,
    /// Edges a second.
    Frequency,
    /// How long the last pulse was active, in seconds.
    PulseWidth,
}

/// What holds a line while nothing drives it.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum Bias {
    /// Whatever it was.
    #[default]
    AsIs,
    /// Nothing.
    Disabled,
    /// A resistor to the supply.
    PullUp,
    /// A resistor to ground.
    PullDown,
}

/// The level that is true.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum Active {
    /// The supply's.
    #[default]
    High,
    /// Ground: a contact to ground with a pull-up.
    Low,
}

struct Checked {
    settings: Settings,
    lines: Vec<edges::Line>,
    channels: Vec<Purpose>,
}

/// What a channel is, and on which of the lines.
#[derive(Clone, Debug)]
struct Purpose {
    line: usize,
    direction: Direction,
    edge: Edges,
    every: Duration,
}

struct Open {
    lines: Box<dyn Lines>,
    channels: Vec<Purpose>,
    /// Of each line: what is made of its edges.
    meters: Vec<Vec<Meter>>,
    /// The levels have still to be said.
    fresh: bool,
    edges: Vec<Edge>,
}

/// How often a counter speaks at most, unless `every` says otherwise.
const EVERY: Duration = Duration::from_secs(1);

impl Kinded for Gpio {
    const NAME: &'static str = "gpio";
    const SUMMARY: &'static str =
        "lines of a GPIO chip: inputs, counters, frequencies, pulse widths and outputs";
    const SAMPLE: &'static str = r#"[device.panel]
driver = "gpio"
chip = "gpiochip0"           # path, name or label; "sim" needs no hardware
# backend = "gpiocdev"       # or "rppal", in builds for the Raspberry Pi
# commands = "/run/tidemill/panel"   # of "sim": a named pipe that takes lines such as 17=1

[device.panel.channel]
door  = { line = 17, direction = "input", bias = "pull-up", active = "low", debounce = "20ms" }
alarm = { line = "GPIO27", label = "alarm contact" }
water = { line = 5, direction = "counter", edge = "rising", scale = 0.001, unit = "m3", bias = "pull-up" }
flow  = { line = 5, direction = "frequency", scale = 0.06, unit = "m3/min" }   # of the same line
wind  = { line = 6, direction = "frequency", every = "5s", scale = 0.667, unit = "m/s" }
echo  = { line = 13, direction = "pulse-width", unit = "s" }
pump  = { line = 22, direction = "output", initial = false, on_stop = false, failsafe = { after = "10min", value = false } }
up    = { line = 23, direction = "output", interlock = "shutter", pulse = "30s" }   # never on together
down  = { line = 24, direction = "output", interlock = "shutter", pulse = "30s" }   # with the other
fan   = { line = 25, direction = "output", active = "low", min_on = "1min", min_off = "5min" }
"#;
    const PACE: Pace = Pace::Speaks;
    type Settings = Settings;
    type Channel = Line;

    fn kind(channel: &Declared<Line>) -> Result<Kind, String> {
        let kind = match channel.own.direction {
            Direction::Input | Direction::Output => Kind::Boolean,
            Direction::Counter | Direction::Frequency | Direction::PulseWidth => Kind::Number,
        };
        match channel.common.kind.map(Kind::from) {
            Some(given) if given != kind => {
                Err(format!("with this direction it is a \"{}\": leave `type` out", kind.as_str()))
            }
            _ => Ok(kind),
        }
    }

    fn unit(channel: &Declared<Line>) -> Option<&'static str> {
        match channel.own.direction {
            Direction::Input | Direction::Output => None,
            Direction::Counter => Some("1"),
            Direction::Frequency => Some("Hz"),
            Direction::PulseWidth => Some("s"),
        }
    }

    fn writable(channel: &Declared<Line>) -> Writable {
        match channel.own.direction {
            Direction::Output => Writable::Output,
            Direction::Counter => Writable::Setting,
            Direction::Input | Direction::Frequency | Direction::PulseWidth => Writable::No,
        }
    }

    fn build(
        settings: Settings,
        channels: Vec<Declared<Line>>,
        _: Option<Duration>,
        report: &mut Report<'_>,
    ) -> Option<Box<dyn Driver>> {
        let sim = settings.chip == "sim";
        if settings.backend == Backend::Rppal && !cfg!(feature = "rpi") {
            report.at(&["backend"], "this build is without rppal: leave `backend` out");
        }
        if settings.commands.is_some() && !sim {
            report.at(&["commands"], "only chip = \"sim\" has it");
        }
        let (mut lines, mut purposes): (Vec<edges::Line>, Vec<Purpose>) = Default::default();
        for channel in &channels {
            let (name, own) = (&channel.name, &channel.own);
            check(name, own, sim, report);
            let line = lines.iter().position(|line| line.line == own.line);
            let place = line.unwrap_or(lines.len());
            match line {
                None => lines.push(wanted(channel)),
                Some(line) => {
                    let mut others = purposes.iter().filter(|purpose| purpose.line == line);
                    let alone = |direction| !measures(direction);
                    if alone(own.direction) || others.any(|other| alone(other.direction)) {
                        let message = format!(
                            "line {} is that of a channel above; only \"counter\", \
                             \"frequency\" and \"pulse-width\" can share one",
                            own.line
                        );
                        report.at(&["channel", name, "line"], message);
                    }
                    join(&mut lines[line], &wanted(channel));
                }
            }
            purposes.push(Purpose {
                line: place,
                direction: own.direction,
                edge: own.edge.unwrap_or_default(),
                every: own.every.unwrap_or(EVERY),
            });
        }
        Some(Box::new(Checked { settings, lines, channels: purposes }))
    }
}

/// Whether channels of this kind may share a line.
fn measures(direction: Direction) -> bool {
    !matches!(direction, Direction::Input | Direction::Output)
}

/// The line as one channel needs it.
fn wanted(channel: &Declared<Line>) -> edges::Line {
    let (own, initial) = (&channel.own, channel.common.initial.as_ref());
    let on = initial.is_some_and(|level| level.0 == Datum::Boolean(true));
    edges::Line {
        line: own.line.clone(),
        role: match own.direction {
            Direction::Output => Role::Output(on),
            Direction::Input | Direction::PulseWidth => Role::Input(Edges::Both),
            Direction::Counter | Direction::Frequency => Role::Input(own.edge.unwrap_or_default()),
        },
        bias: own.bias.into(),
        active_low: own.active == Active::Low,
        // The kernel takes zero for "leave it as it was".
        debounce: own.debounce.filter(|debounce| !debounce.is_zero()),
        toggle: own.toggle,
    }
}

/// Two channels share a line: what one of them says holds for both.
fn join(line: &mut edges::Line, also: &edges::Line) {
    if let (Role::Input(edges), Role::Input(more)) = (&mut line.role, also.role) {
        *edges = edges.and(more);
    }
    if line.bias == edges::Bias::AsIs {
        line.bias = also.bias;
    }
    line.active_low |= also.active_low;
    line.debounce = line.debounce.max(also.debounce);
    line.toggle = line.toggle.or(also.toggle);
}

/// The keys of one channel.
fn check(name: &str, own: &Line, sim: bool, report: &mut Report<'_>) {
    let mut wrong = |key: &str, message: &str| report.at(&["channel", name, key], message);
    if own.debounce.is_some_and(|debounce| debounce > DEBOUNCE_MAX) {
        wrong("debounce", "expected 10s or less");
    }
    if own.toggle.is_some() && !sim {
        wrong("toggle", "only chip = \"sim\" has it");
    } else if own.toggle.is_some_and(|toggle| toggle < Duration::from_micros(1)) {
        wrong("toggle", "expected 1us or more");
    }
    if own.direction == Direction::Output {
        let given = [("debounce", own.debounce.is_some()), ("toggle", own.toggle.is_some())];
        for (key, _) in given.into_iter().filter(|(_, given)| *given) {
            wrong(key, "an output doesn't have it: it is driven");
        }
    }
    if own.edge.is_some() && !matches!(own.direction, Direction::Counter | Direction::Frequency) {
        wrong("edge", "only a \"counter\" or \"frequency\" has it");
    }
    if own.every.is_some() && !measures(own.direction) {
        wrong("every", "only a \"counter\", \"frequency\" or \"pulse-width\" has it");
    } else if own.every.is_some_and(|every| every < Duration::from_millis(10)) {
        wrong("every", "expected 10ms or more");
    }
}

impl From<Bias> for edges::Bias {
    fn from(bias: Bias) -> edges::Bias {
        match bias {
            Bias::AsIs => edges::Bias::AsIs,
            Bias::Disabled => edges::Bias::Disabled,
            Bias::PullUp => edges::Bias::PullUp,
            Bias::PullDown => edges::Bias::PullDown,
        }
    }
}

#[async_trait]
impl Driver for Checked {
    async fn open(&self) -> Result<Box<dyn Device>, Failure> {
        let lines = match self.settings.backend {
            _ if self.settings.chip == "sim" => {
                edges::open_sim(self.settings.commands.as_deref(), &self.lines)?
            }
            #[cfg(feature = "rpi")]
            Backend::Rppal => edges::open_rpi(&self.lines)?,
            // Without the feature `rppal` has been refused by the check.
            _ => edges::open_cdev(&self.settings.chip, &self.lines)?,
        };
        let now = Instant::now();
        let mut meters: Vec<Vec<Meter>> = self.lines.iter().map(|_| Vec::new()).collect();
        for (channel, purpose) in self.channels.iter().enumerate() {
            let (edge, every) = (purpose.edge, purpose.every);
            let Role::Input(told) = self.lines[purpose.line].role else { continue };
            meters[purpose.line].push(match purpose.direction {
                Direction::Output => continue,
                Direction::Input => Meter::level(channel, now),
                Direction::Counter => Meter::total(channel, (edge, told), every, now),
                Direction::Frequency => Meter::frequency(channel, (edge, told), every, now),
                Direction::PulseWidth => Meter::width(channel, every, now),
            });
        }
        let channels = self.channels.clone();
        Ok(Box::new(Open { lines, channels, meters, fresh: true, edges: Vec::new() }))
    }
}

impl Open {
    /// Those of one channel: one or none.
    fn of(&mut self, channel: usize) -> impl Iterator<Item = &mut Meter> {
        self.meters.iter_mut().flatten().filter(move |meter| meter.is_of(channel))
    }

    /// Gives the edges that have come to the meters, and lets those speak whose
    /// time it is.
    fn turn(&mut self, batch: &mut Batch) {
        let now = Instant::now();
        for edge in self.edges.drain(..) {
            batch.missed += u64::from(edge.missed);
            for meter in &mut self.meters[edge.line] {
                batch.samples.extend(meter.edge(&edge, now));
            }
        }
        for meter in self.meters.iter_mut().flatten() {
            let (sample, together) = meter.speak(now);
            batch.samples.extend(sample);
            batch.missed += together;
        }
    }
}

#[async_trait]
impl Device for Open {
    async fn read(&mut self, batch: &mut Batch) -> Result<(), Failure> {
        if self.fresh {
            // The lines are watched already, so that no change falls between.
            // Outputs are read back when they are written.
            let levels = self.lines.levels()?;
            for (channel, purpose) in self.channels.iter().enumerate() {
                if purpose.direction == Direction::Input {
                    batch.good(channel, Datum::Boolean(levels[purpose.line]));
                }
            }
            self.fresh = false;
            self.turn(batch);
        }
        while batch.samples.is_empty() {
            let due = self.meters.iter().flatten().filter_map(Meter::due).min();
            let wait = async {
                match due {
                    Some(due) => sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                changes = self.lines.changes(&mut self.edges) => changes?,
                () = wait => {}
            }
            self.turn(batch);
        }
        Ok(())
    }

    async fn write(&mut self, channel: usize, value: &Datum) -> Result<Taken, Failure> {
        let purpose = &self.channels[channel];
        if purpose.direction == Direction::Output {
            let active = *value == Datum::Boolean(true);
            let state = self.lines.drive(purpose.line, active)?;
            return Ok(Taken::State(Datum::Boolean(state)));
        }
        self.restore(channel, value);
        let total = self.of(channel).find_map(|meter| meter.total_now());
        let refused = || Taken::Refused("only outputs and counters can be written".to_owned());
        Ok(total.map_or_else(refused, Taken::State))
    }

    fn restore(&mut self, channel: usize, last: &Datum) {
        self.of(channel).for_each(|meter| meter.set(last));
    }

    fn finish(&mut self, batch: &mut Batch) {
        let now = Instant::now();
        let meters = self.meters.iter_mut().flatten();
        batch.samples.extend(meters.filter_map(|meter| meter.unsaid(now)));
    }
}

impl<'de> Deserialize<'de> for LineId {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<LineId, D::Error> {
        struct Either;
        impl Visitor<'_> for Either {
            type Value = LineId;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the number of a line on its chip, or its name in quotes")
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<LineId, E> {
                let offset = u32::try_from(number).ok();
                offset
                    .map(LineId::Offset)
                    .ok_or_else(|| E::invalid_value(Unexpected::Signed(number), &self))
            }

            fn visit_str<E>(self, name: &str) -> Result<LineId, E> {
                Ok(LineId::Name(name.to_owned()))
            }
        }
        input.deserialize_any(Either)
    }
}

impl JsonSchema for LineId {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Line".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["integer", "string"], "minimum": 0 })
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use reading::Value;

    use super::*;
    use crate::Config;

    async fn open(settings: &str) -> Box<dyn Device> {
        let mut errors = Vec::new();
        let table = toml::de::DeTable::parse(settings).unwrap();
        let config = Config::parse("panel", table, &mut errors);
        assert_eq!(errors, []);
        config.unwrap().driver.open().await.unwrap()
    }

    async fn next(device: &mut dyn Device) -> Vec<(usize, bool)> {
        let mut batch = Batch::default();
        device.read(&mut batch).await.unwrap();
        let active = |value: &Value| value.datum() == Some(&Datum::Boolean(true));
        batch.samples.iter().map(|sample| (sample.channel, active(&sample.value))).collect()
    }

    #[tokio::test]
    async fn the_levels_come_first_and_then_every_change() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("panel");
        let mut device = open(&format!(
            "driver = 'gpio'\nchip = 'sim'\ncommands = '{}'\n[channel]\n\
             door = {{ line = 17, bias = 'pull-up', active = 'low' }}\nalarm = {{ line = 'A' }}",
            pipe.display()
        ))
        .await;
        assert_eq!(next(&mut *device).await, [(0, false), (1, false)]);
        let mut commands = std::fs::OpenOptions::new().write(true).open(&pipe).unwrap();
        commands.write_all(b"17=0\nnonsense\nA=1\nA=1\nA=0\n").unwrap();
        assert_eq!(next(&mut *device).await, [(0, true), (1, true), (1, false)]);
        commands.write_all(b"17=1\n").unwrap();
        assert_eq!(next(&mut *device).await, [(0, false)]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_bounce_is_no_change_and_a_line_may_toggle_by_itself() {
        let mut device = open(
            "driver = 'gpio'\nchip = 'sim'\n[channel]\n\
             slow = { line = 1, toggle = '1s', debounce = '300ms' }\n\
             fast = { line = 2, toggle = '200ms', debounce = '300ms' }",
        )
        .await;
        assert_eq!(next(&mut *device).await, [(0, false), (1, false)]);
        let begin = tokio::time::Instant::now();
        assert_eq!(next(&mut *device).await, [(0, true)], "the fast one never lasts");
        assert_eq!(begin.elapsed().as_millis(), 1300);
    }

    #[tokio::test]
    async fn an_output_is_driven_by_writing_alone_and_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("panel");
        let mut device = open(&format!(
            "driver = 'gpio'\nchip = 'sim'\ncommands = '{}'\n[channel]\n\
             pump = {{ line = 22, direction = 'output', active = 'low', initial = true }}\n\
             door = {{ line = 17 }}",
            pipe.display()
        ))
        .await;
        assert_eq!(next(&mut *device).await, [(1, false)], "the inputs alone");
        // The pipe moves inputs only, and moving one drives nothing.
        let mut commands = std::fs::OpenOptions::new().write(true).open(&pipe).unwrap();
        commands.write_all(b"22=1\n17=1\n").unwrap();
        assert_eq!(next(&mut *device).await, [(1, true)]);
        for on in [true, false, false, true] {
            let taken = device.write(0, &on.into()).await.unwrap();
            assert_eq!(taken, Taken::State(on.into()));
        }
    }

    #[tokio::test]
    async fn a_counter_counts_goes_on_and_is_set() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("panel");
        let mut device = open(&format!(
            "driver = 'gpio'\nchip = 'sim'\ncommands = '{}'\n[channel]\n\
             water = {{ line = 5, direction = 'counter', every = '20ms', scale = 0.5 }}\n\
             flow = {{ line = 5, direction = 'frequency', every = '1h' }}",
            pipe.display()
        ))
        .await;
        device.restore(0, &Datum::Number(41.000_000_1));
        assert_eq!(numbers(&mut *device).await, [(0, 41.0)]);
        let mut commands = std::fs::OpenOptions::new().write(true).open(&pipe).unwrap();
        commands.write_all(b"5=1\n5=0\n5=1\n5=0\n").unwrap();
        assert_eq!(numbers(&mut *device).await, [(0, 43.0)]);
        let taken = device.write(0, &Datum::Number(7.0)).await.unwrap();
        assert_eq!(taken, Taken::State(Datum::Number(7.0)));
        commands.write_all(b"5=1\n").unwrap();
        assert_eq!(numbers(&mut *device).await, [(0, 8.0)]);
    }

    /// 100 kHz on one line: a bounded queue, counted, and not a reading each.
    #[tokio::test]
    async fn noise_on_a_line_is_counted_and_no_flood() {
        let mut device = open(
            "driver = 'gpio'\nchip = 'sim'\n[channel]\n\
             noise = { line = 1, toggle = '5us' }\n\
             total = { line = 2, toggle = '5us', direction = 'counter', every = '100ms' }",
        )
        .await;
        let (begin, mut batch, mut levels) = (Instant::now(), Batch::default(), 0);
        let mut total = 0.0;
        while begin.elapsed() < Duration::from_millis(1500) {
            device.read(&mut batch).await.unwrap();
            levels += batch.samples.iter().filter(|sample| sample.channel == 0).count();
            let totals = batch.samples.iter().filter(|sample| sample.channel == 1);
            total = totals.filter_map(|sample| sample.value.number()).fold(total, f64::max);
            assert!(batch.samples.capacity() < 10_000, "{}", batch.samples.capacity());
            batch.samples.clear();
        }
        // A second makes a hundred levels and one that stands for all others.
        assert!((100..=320).contains(&levels), "{levels} levels");
        assert!(batch.missed > 50_000, "{} told as one", batch.missed);
        // 100,000 rising edges a second; a slow machine is late, and not wrong.
        assert!((50_000.0..160_000.0).contains(&total), "{total}");
    }

    async fn numbers(device: &mut dyn Device) -> Vec<(usize, f64)> {
        let mut batch = Batch::default();
        device.read(&mut batch).await.unwrap();
        batch.samples.iter().filter_map(|s| Some((s.channel, s.value.number()?))).collect()
    }
}
