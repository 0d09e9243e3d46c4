//! Lines of a GPIO chip: inputs, reported when they change, counters and the
//! like, and outputs; and channels of a PWM chip, which are outputs between off
//! and on.

use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use reading::{Datum, Kind};
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::time::{Instant, sleep_until};

use crate::edges::{self, Edge, Edges, LineId, Lines, Meter, Role};
use crate::kind::{Declared, Kinded, Pace};
use crate::output::{Level, Writable};
use crate::pwm::{self, Pulses, Pwm};
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
    /// Of direction = "pwm": the PWM chip, by its entry ("pwmchip0") or the name of
    /// its device, which stays the same ("fe20c000.pwm").
    #[serde(default = "pwm_chip")]
    pwm_chip: String,
    /// Where /sys is; only for the PWM chip.
    #[serde(default = "crate::sysfs::root")]
    root: PathBuf,
    /// Of chip = "sim": a named pipe that takes lines such as `17=1`, made when
    /// it isn't there.
    commands: Option<String>,
}

fn chip() -> String {
    "gpiochip0".to_owned()
}

fn pwm_chip() -> String {
    "pwmchip0".to_owned()
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
    /// The line, by its number on the chip or by its name; of direction = "pwm"
    /// the number of the PWM chip's channel.
    line: LineId,
    /// What the line is for.
    #[serde(default)]
    direction: Direction,
    /// What holds the line while nothing drives it.
    #[serde(default)]
    bias: edges::Bias,
    /// The level that is true.
    #[serde(default)]
    active: Active,
    /// A level that lasts less is no change.
    #[serde(default, with = "humantime_serde::option")]
    #[schemars(with = "Option<String>")]
    debounce: Option<Duration>,
    /// Of a counter or frequency: which edges count; "rising" makes active.
    edge: Option<Edges>,
    /// Of direction = "pwm": pulses a second; 1000 by default.
    frequency: Option<f64>,
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
    /// It is driven for a share of the time, 0 to 1, in pulses.
    Pwm,
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
    pulses: Vec<Pulses>,
    channels: Vec<Purpose>,
}

/// What a channel is, and where.
#[derive(Clone, Debug)]
struct Purpose {
    /// Which of the lines, or of the pulses.
    line: usize,
    direction: Direction,
    edge: Edges,
    every: Duration,
}

struct Open {
    /// None, when all channels are pulses.
    lines: Option<Box<dyn Lines>>,
    pulses: Vec<Box<dyn Pwm>>,
    channels: Vec<Purpose>,
    /// Of each line: what is made of its edges.
    meters: Vec<Vec<Meter>>,
    /// The levels have still to be said.
    fresh: bool,
    edges: Vec<Edge>,
}

/// How often a counter speaks at most, unless `every` says otherwise.
const EVERY: Duration = Duration::from_secs(1);
/// Pulses a second, unless `frequency` says otherwise: a lamp doesn't flicker.
const FREQUENCY: f64 = 1000.0;

impl Kinded for Gpio {
    const NAME: &'static str = "gpio";
    const SUMMARY: &'static str =
        "lines of a GPIO chip: inputs, counters, frequencies, pulse widths, outputs and PWM";
    const SAMPLE: &'static str = r#"[device.panel]
driver = "gpio"
chip = "gpiochip0"           # path, name or label; "sim" needs no hardware
# backend = "gpiocdev"       # or "rppal", in builds for the Raspberry Pi
# pwm_chip = "pwmchip0"      # or its device, such as "fe20c000.pwm"; needs dtoverlay=pwm
# root = "/"                 # where /sys is
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
lamp  = { line = 0, direction = "pwm", frequency = 1000, scale = 100, unit = "%", initial = 0 }   # of the PWM chip
"#;
    const PACE: Pace = Pace::Speaks;
    type Settings = Settings;
    type Channel = Line;

    fn kind(channel: &Declared<Line>) -> Result<Kind, String> {
        let kind = match channel.own.direction {
            Direction::Input | Direction::Output => Kind::Boolean,
            Direction::Counter | Direction::Frequency | Direction::PulseWidth | Direction::Pwm => {
                Kind::Number
            }
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
            Direction::Counter | Direction::Pwm => Some("1"),
            Direction::Frequency => Some("Hz"),
            Direction::PulseWidth => Some("s"),
        }
    }

    fn off(channel: &Declared<Line>) -> Option<Datum> {
        match channel.own.direction {
            Direction::Output => Some(Datum::Boolean(false)),
            Direction::Pwm => Some(Datum::Number(channel.common.offset.unwrap_or(0.0))),
            _ => None,
        }
    }

    fn writable(channel: &Declared<Line>) -> Writable {
        match channel.own.direction {
            Direction::Output | Direction::Pwm => Writable::Output,
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
        let mut pulses: Vec<Pulses> = Vec::new();
        for channel in &channels {
            let (name, own) = (&channel.name, &channel.own);
            check(name, own, sim, report);
            if own.direction == Direction::Pwm {
                let wanted = pulsed(channel, settings.backend, report);
                if pulses.iter().any(|other| other.channel == wanted.channel) {
                    report.at(&["channel", name, "line"], "it is that of a channel above");
                }
                purposes.push(Purpose {
                    line: pulses.len(),
                    direction: own.direction,
                    edge: Edges::default(),
                    every: EVERY,
                });
                pulses.push(wanted);
                continue;
            }
            let line = lines.iter().position(|line| line.line == own.line);
            let place = line.unwrap_or(lines.len());
            match line {
                None => lines.push(wanted(channel)),
                Some(line) => {
                    let mut others = purposes.iter().filter(|purpose| {
                        purpose.line == line && purpose.direction != Direction::Pwm
                    });
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
        Some(Box::new(Checked { settings, lines, pulses, channels: purposes }))
    }
}

/// Whether channels of this kind may share a line.
fn measures(direction: Direction) -> bool {
    !matches!(direction, Direction::Input | Direction::Output | Direction::Pwm)
}

/// The pulses that a channel is to make.
fn pulsed(channel: &Declared<Line>, backend: Backend, report: &mut Report<'_>) -> Pulses {
    let (name, own, common) = (&channel.name, &channel.own, &channel.common);
    let number = match &own.line {
        LineId::Offset(number) => *number,
        LineId::Name(_) => {
            let message = "a PWM channel has no name: expected its number, such as 0";
            report.at(&["channel", name, "line"], message);
            0
        }
    };
    // A program that switches the line itself is not that quick.
    let most = if backend == Backend::Rppal { 1e3 } else { 1e7 };
    let frequency = own.frequency.unwrap_or(FREQUENCY);
    if !(frequency > 0.0 && frequency <= most) {
        let message = format!("expected pulses a second, more than 0 and at most {most}");
        report.at(&["channel", name, "frequency"], message);
    }
    let (scale, offset) = (common.scale.unwrap_or(1.0), common.offset.unwrap_or(0.0));
    let mut share = |keys: &[&str], level: Option<&Level>| match level {
        Some(Level(Datum::Number(number))) => {
            let share = (number - offset) / scale;
            if !(0.0..=1.0).contains(&share) {
                let message = format!("expected {offset} (off) to {} (on)", scale + offset);
                report.at(&[&["channel", name], keys].concat(), message);
            }
            share
        }
        _ => 0.0,
    };
    share(&["on_stop"], common.on_stop.as_ref());
    share(&["failsafe", "value"], common.failsafe.as_ref().map(|failsafe| &failsafe.value));
    let initial = share(&["initial"], common.initial.as_ref());
    Pulses { channel: number, frequency, active_low: own.active == Active::Low, initial }
}

/// The line as one channel needs it.
fn wanted(channel: &Declared<Line>) -> edges::Line {
    let (own, initial) = (&channel.own, channel.common.initial.as_ref());
    let on = initial.is_some_and(|level| level.0 == Datum::Boolean(true));
    edges::Line {
        line: own.line.clone(),
        role: match own.direction {
            Direction::Output | Direction::Pwm => Role::Output(on),
            Direction::Input | Direction::PulseWidth => Role::Input(Edges::Both),
            Direction::Counter | Direction::Frequency => Role::Input(own.edge.unwrap_or_default()),
        },
        bias: own.bias,
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
    if own.direction == Direction::Pwm && own.bias != edges::Bias::AsIs {
        wrong("bias", "a \"pwm\" doesn't have it: it is driven");
    }
    if own.frequency.is_some() && own.direction != Direction::Pwm {
        wrong("frequency", "only a \"pwm\" has it");
    }
    if matches!(own.direction, Direction::Output | Direction::Pwm) {
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

#[async_trait]
impl Driver for Checked {
    async fn open(&self) -> Result<Box<dyn Device>, Failure> {
        // Without the feature `rppal` has been refused by the check.
        let lines = match self.settings.backend {
            _ if self.lines.is_empty() => None,
            _ if self.settings.chip == "sim" => {
                Some(edges::open_sim(self.settings.commands.as_deref(), &self.lines)?)
            }
            #[cfg(feature = "rpi")]
            Backend::Rppal => Some(edges::open_rpi(&self.lines)?),
            _ => Some(edges::open_cdev(&self.settings.chip, &self.lines)?),
        };
        let mut pulses = Vec::new();
        for wanted in &self.pulses {
            pulses.push(match self.settings.backend {
                _ if self.settings.chip == "sim" => pwm::open_sim(wanted),
                #[cfg(feature = "rpi")]
                Backend::Rppal => pwm::open_rpi(wanted)?,
                _ => pwm::open_sysfs(&self.settings.root, &self.settings.pwm_chip, wanted).await?,
            });
        }
        let now = Instant::now();
        let mut meters: Vec<Vec<Meter>> = self.lines.iter().map(|_| Vec::new()).collect();
        for (channel, purpose) in self.channels.iter().enumerate() {
            let (edge, every) = (purpose.edge, purpose.every);
            let line = self.lines.get(purpose.line).filter(|_| purpose.direction != Direction::Pwm);
            let Some(Role::Input(told)) = line.map(|line| line.role) else { continue };
            meters[purpose.line].push(match purpose.direction {
                Direction::Output | Direction::Pwm => continue,
                Direction::Input => Meter::level(channel, now),
                Direction::Counter => Meter::total(channel, (edge, told), every, now),
                Direction::Frequency => Meter::frequency(channel, (edge, told), every, now),
                Direction::PulseWidth => Meter::width(channel, every, now),
            });
        }
        let channels = self.channels.clone();
        Ok(Box::new(Open { lines, pulses, channels, meters, fresh: true, edges: Vec::new() }))
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
            let (sample, lost) = meter.speak(now);
            batch.samples.extend(sample);
            batch.missed += lost.as_ref().map_or(0, |lost| lost.count);
            batch.lost.extend(lost);
        }
    }
}

#[async_trait]
impl Device for Open {
    async fn read(&mut self, batch: &mut Batch) -> Result<(), Failure> {
        if self.fresh {
            // The lines are watched already, so that no change falls between.
            // Outputs are read back when they are written.
            let levels = match &mut self.lines {
                Some(lines) => lines.levels()?,
                None => Vec::new(),
            };
            for (channel, purpose) in self.channels.iter().enumerate() {
                if purpose.direction == Direction::Input {
                    batch.good(channel, Datum::Boolean(levels[purpose.line]));
                }
            }
            self.fresh = false;
            self.turn(batch);
        }
        while batch.samples.is_empty() && batch.lost.is_empty() {
            let due = self.meters.iter().flatten().filter_map(Meter::due).min();
            let wait = async {
                match due {
                    Some(due) => sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            let changes = async {
                match &mut self.lines {
                    Some(lines) => lines.changes(&mut self.edges).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                changes = changes => changes?,
                () = wait => {}
            }
            self.turn(batch);
        }
        Ok(())
    }

    async fn write(&mut self, channel: usize, value: &Datum) -> Result<Taken, Failure> {
        let Purpose { line, direction, .. } = self.channels[channel];
        if let (Direction::Output, Some(lines)) = (direction, &mut self.lines) {
            let state = lines.drive(line, *value == Datum::Boolean(true))?;
            return Ok(Taken::State(Datum::Boolean(state)));
        }
        if let (Direction::Pwm, Datum::Number(share)) = (direction, value) {
            if !(0.0..=1.0).contains(share) {
                let detail = "it takes 0 (off) to 1 (on), times its scale";
                return Ok(Taken::Refused(detail.to_owned()));
            }
            let pwm = &mut self.pulses[line];
            pwm.set(*share)?;
            return Ok(Taken::State(Datum::Number(pwm.share()?)));
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

#[cfg(test)]
mod tests;
