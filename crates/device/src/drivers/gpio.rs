//! Digital inputs of a GPIO chip, reported when they change.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use reading::{Datum, Doubt, Kind, Value};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Unexpected, Visitor};
use serde::{Deserialize, Deserializer};

use crate::edges::{self, Edge, Input, Inputs, LineId};
use crate::kind::{Declared, Kinded, Pace};
use crate::settings::Report;
use crate::{Batch, Device, Driver, Failure, Sample};

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
    #[expect(dead_code, reason = "there is only one yet; the key is for those to come")]
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
    /// Of chip = "sim": the line changes this often by itself.
    #[serde(default, with = "humantime_serde::option")]
    #[schemars(with = "Option<String>")]
    toggle: Option<Duration>,
}

/// What a line is for.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum Direction {
    /// It is read.
    #[default]
    Input,
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
    inputs: Vec<Input>,
}

struct Open {
    inputs: Box<dyn Inputs>,
    /// The levels have still to be said.
    fresh: bool,
    edges: Vec<Edge>,
}

impl Kinded for Gpio {
    const NAME: &'static str = "gpio";
    const SUMMARY: &'static str = "digital inputs of a GPIO chip, reported when they change";
    const SAMPLE: &'static str = r#"[device.panel]
driver = "gpio"
chip = "gpiochip0"           # path, name or label; "sim" needs no hardware
# backend = "gpiocdev"       # or "rppal", in builds for the Raspberry Pi
# commands = "/run/tidemill/panel"   # of "sim": a named pipe that takes lines such as 17=1

[device.panel.channel]
door  = { line = 17, direction = "input", bias = "pull-up", active = "low", debounce = "20ms" }
alarm = { line = "GPIO27", label = "alarm contact" }
"#;
    const PACE: Pace = Pace::Speaks;
    type Settings = Settings;
    type Channel = Line;

    fn kind(channel: &Declared<Line>) -> Result<Kind, String> {
        match channel.common.kind.map(Kind::from) {
            None | Some(Kind::Boolean) => Ok(Kind::Boolean),
            Some(_) => Err("a line is a \"boolean\": leave `type` out".into()),
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
        let mut inputs: Vec<Input> = Vec::new();
        for channel in channels {
            let (name, own) = (channel.name, channel.own);
            if let Some(other) = inputs.iter().position(|input| input.line == own.line) {
                let message = format!(
                    "line {} is watched by a channel above, the {}. of them",
                    own.line,
                    other + 1
                );
                report.at(&["channel", &name, "line"], message);
            }
            if own.debounce.is_some_and(|debounce| debounce > DEBOUNCE_MAX) {
                report.at(&["channel", &name, "debounce"], "expected 10s or less");
            }
            if own.toggle.is_some() && !sim {
                report.at(&["channel", &name, "toggle"], "only chip = \"sim\" has it");
            } else if own.toggle.is_some_and(|toggle| toggle < Duration::from_millis(1)) {
                report.at(&["channel", &name, "toggle"], "expected 1ms or more");
            }
            inputs.push(Input {
                line: own.line,
                bias: match own.bias {
                    Bias::AsIs => edges::Bias::AsIs,
                    Bias::Disabled => edges::Bias::Disabled,
                    Bias::PullUp => edges::Bias::PullUp,
                    Bias::PullDown => edges::Bias::PullDown,
                },
                active_low: own.active == Active::Low,
                // The kernel takes zero for "leave it as it was".
                debounce: own.debounce.filter(|debounce| !debounce.is_zero()),
                toggle: own.toggle,
            });
        }
        Some(Box::new(Checked { settings, inputs }))
    }
}

#[async_trait]
impl Driver for Checked {
    async fn open(&self) -> Result<Box<dyn Device>, Failure> {
        let inputs = match self.settings.backend {
            _ if self.settings.chip == "sim" => {
                edges::open_sim(self.settings.commands.as_deref(), &self.inputs)?
            }
            #[cfg(feature = "rpi")]
            Backend::Rppal => edges::open_rpi(&self.inputs)?,
            // Without the feature `rppal` has been refused by the check.
            _ => edges::open_cdev(&self.settings.chip, &self.inputs)?,
        };
        Ok(Box::new(Open { inputs, fresh: true, edges: Vec::new() }))
    }
}

#[async_trait]
impl Device for Open {
    async fn read(&mut self, batch: &mut Batch) -> Result<(), Failure> {
        if self.fresh {
            // The lines are watched already, so that no change falls between.
            for (channel, active) in self.inputs.levels()?.into_iter().enumerate() {
                batch.good(channel, Datum::Boolean(active));
            }
            self.fresh = false;
            return Ok(());
        }
        self.inputs.changes(&mut self.edges).await?;
        batch.samples.extend(self.edges.drain(..).map(sample));
        Ok(())
    }
}

fn sample(edge: Edge) -> Sample {
    let datum = Datum::Boolean(edge.active);
    let value = match edge.missed {
        false => Value::Good(datum),
        true => Value::Uncertain(datum, Doubt::EdgesMissed),
    };
    Sample { channel: edge.input, at: edge.at, value }
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

    #[test]
    fn a_missed_edge_makes_the_next_one_doubtful() {
        let edge = Edge { input: 3, active: true, at: None, missed: true };
        let doubtful = Value::Uncertain(Datum::Boolean(true), Doubt::EdgesMissed);
        assert_eq!(sample(edge), Sample { channel: 3, at: None, value: doubtful });
    }
}
