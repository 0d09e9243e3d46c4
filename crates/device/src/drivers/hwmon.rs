//! Chips that watch a machine: temperatures, voltages, currents and fans.
//!
//! The files and their units: the kernel's Documentation/hwmon/sysfs-interface.

use std::path::{Path, PathBuf};
use std::time::Duration;

use reading::Kind;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::Driver;
use crate::kind::{Declared, Kinded, Pace};
use crate::scan::{attribute, entries};
use crate::settings::Report;
use crate::sysfs::{self, Chips, Item, Place};
use crate::worker::Worker;

/// The driver.
pub(crate) struct Hwmon;

/// Its own keys of `[device.NAME]`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    /// Which one: its name ("ina219"), its label, its place on its bus
    /// ("1-0040") or its entry ("hwmon0"); by default the only one.
    chip: Option<String>,
    /// Where /sys is.
    #[serde(default = "sysfs::root")]
    root: PathBuf,
}

/// A channel's own keys.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Quantity {
    /// What to read, as the kernel calls it: "temp1", "in0", "curr1",
    /// "in0_lcrit_alarm"; the channel's own name by default.
    source: Option<String>,
}

const PLACE: Place =
    Place { folder: "sys/class/hwmon", start: "hwmon", key: "chip", what: "hwmon chip" };

/// The kernel's name of a quantity, our unit, and the factor from its to ours.
const QUANTITIES: &[(&str, &str, f64)] = &[
    ("curr", "A", 1e-3),
    ("energy", "J", 1e-6),
    ("fan", "1/min", 1.0),
    ("freq", "Hz", 1.0),
    ("humidity", "%RH", 1e-3),
    ("in", "V", 1e-3),
    ("power", "W", 1e-6),
    ("temp", "Cel", 1e-3),
];

/// Unit and factor of a source: `temp1` or `temp1_max`.
fn quantity(source: &str) -> Option<(&'static str, f64)> {
    let word = source.split(|c: char| c.is_ascii_digit()).next().unwrap_or_default();
    let found = QUANTITIES.iter().find(|(name, ..)| *name == word);
    found.map(|(_, unit, factor)| (*unit, *factor))
}

/// Whether a source is one of the chip's own verdicts.
fn is_alarm(source: &str) -> bool {
    ["alarm", "beep", "fault"].iter().any(|end| source.ends_with(&format!("_{end}")))
}

fn source(channel: &Declared<Quantity>) -> &str {
    channel.own.source.as_deref().unwrap_or(&channel.name)
}

fn item(path: &Path, source: &str) -> Option<Item> {
    let file = [format!("{source}_input"), source.to_owned()]
        .map(|file| path.join(file))
        .into_iter()
        .find(|file| file.is_file())?;
    if is_alarm(source) {
        return Some(Item::Boolean { file });
    }
    let factor = quantity(source).map_or(1.0, |(_, factor)| factor);
    Some(Item::Number { file, offset: None, scale: None, factor })
}

/// What a chip measures, and what the kernel calls it for people.
pub(crate) fn sources(path: &Path) -> Vec<(String, Option<String>)> {
    let source = |(file, _): (String, PathBuf)| {
        let source = file.strip_suffix("_input").or_else(|| is_alarm(&file).then_some(&file))?;
        Some((source.to_owned(), attribute(path, &format!("{source}_label"))))
    };
    entries(path, "").into_iter().filter_map(source).collect()
}

impl Kinded for Hwmon {
    const NAME: &'static str = "hwmon";
    const SUMMARY: &'static str =
        "chips that watch a machine: voltages, currents, fans, temperatures";
    const SAMPLE: &'static str = r#"[device.supply]
driver = "hwmon"
chip = "ina219"              # or a label, "1-0040" (its place on the bus), "hwmon0"; by default the only one
poll = "10s"
# root = "/"                 # where /sys is

[device.supply.channel]      # without it: all that the chip has when the gateway starts
voltage = { source = "in1" } # the kernel's name; without it, the channel's own
current = { source = "curr1", range = [-3.2, 3.2] }
power1  = {}
# low   = { source = "in0_lcrit_alarm" }   # one of the chip's own verdicts
"#;
    const PACE: Pace = Pace::Asked(Duration::from_secs(10));
    type Settings = Settings;
    type Channel = Quantity;

    /// All that the chip has. One that isn't there yet may come: then there is
    /// one channel, so that its absence can be told.
    fn defaults(settings: &Settings) -> Vec<Declared<Quantity>> {
        let found = PLACE.find(&settings.root, settings.chip.as_deref());
        let mut sources = found.map(|path| sources(&path)).unwrap_or_default();
        if sources.is_empty() {
            sources.push(("temp1".to_owned(), None));
        }
        let declared = sources.into_iter().map(|(source, label)| {
            let mut channel = Declared::new(source.clone(), Quantity { source: Some(source) });
            channel.common.label = label;
            channel
        });
        declared.collect()
    }

    fn kind(channel: &Declared<Quantity>) -> Result<Kind, String> {
        channel.always(if is_alarm(source(channel)) { Kind::Boolean } else { Kind::Number })
    }

    fn unit(channel: &Declared<Quantity>) -> Option<&'static str> {
        let source = source(channel);
        quantity(source).filter(|_| !is_alarm(source)).map(|(unit, _)| unit)
    }

    fn build(
        settings: Settings,
        channels: Vec<Declared<Quantity>>,
        _: Option<Duration>,
        report: &mut Report<'_>,
    ) -> Option<Box<dyn Driver>> {
        for channel in &channels {
            if source(channel).contains('/') {
                let message = "expected the kernel's name, such as \"temp1\" or \"in0\"";
                report.at(&["channel", &channel.name, "source"], message);
            }
        }
        Some(Box::new(Chips {
            place: &PLACE,
            root: settings.root,
            wanted: settings.chip,
            sources: channels.iter().map(|channel| source(channel).to_owned()).collect(),
            item,
            has: |path| sources(path).into_iter().map(|(source, _)| source).collect(),
            worker: Worker::default(),
        }))
    }
}

#[cfg(test)]
mod tests {
    use reading::Fault;

    use super::*;
    use crate::sysfs::tree;
    use crate::{Batch, Config};

    /// An INA219 and the Raspberry Pi's own watch over its supply.
    const FILES: &[(&str, &str)] = &[
        ("sys/class/hwmon/hwmon0/name", "rpi_volt\n"),
        ("sys/class/hwmon/hwmon0/in0_lcrit_alarm", "1\n"),
        ("sys/class/hwmon/hwmon1/name", "ina219\n"),
        ("sys/class/hwmon/hwmon1/in1_input", "12004\n"),
        ("sys/class/hwmon/hwmon1/in1_label", "battery\n"),
        ("sys/class/hwmon/hwmon1/curr1_input", "-250\n"),
        ("sys/class/hwmon/hwmon1/power1_input", "3001000\n"),
        ("sys/class/hwmon/hwmon1/shunt_resistor", "100000\n"),
    ];

    fn config(root: &Path, rest: &str) -> Config {
        let text = format!("driver = 'hwmon'\nroot = '{}'\n{rest}", root.display());
        let mut errors = Vec::new();
        let config = Config::parse("x", toml::de::DeTable::parse(&text).unwrap(), &mut errors);
        assert_eq!(errors, []);
        config.unwrap()
    }

    async fn shown(config: &Config) -> Vec<String> {
        let mut device = config.driver.open().await.unwrap();
        let mut batch = Batch::default();
        device.read(&mut batch).await.unwrap();
        let specs = config.channels();
        let one = |sample: crate::Sample| {
            let spec = &specs[sample.channel];
            let label = spec.label.as_deref().unwrap_or("-");
            let value = match (sample.value.datum(), sample.value.reason()) {
                (Some(datum), _) => format!("{datum:?}"),
                (None, reason) => reason.unwrap_or_default().to_owned(),
            };
            format!("{} ({label}) {value} {}", spec.channel.name(), spec.unit.as_str())
        };
        batch.samples.into_iter().map(one).collect()
    }

    #[tokio::test]
    async fn a_chip_shows_all_it_has_in_units_of_people() {
        let root = tree(FILES);
        let ina219 = shown(&config(root.path(), "chip = 'ina219'")).await;
        let expected = [
            "in1 (battery) Number(12.004) V",
            "curr1 (-) Number(-0.25) A",
            "power1 (-) Number(3.001) W",
        ];
        assert_eq!(ina219, expected);
        let volt = shown(&config(root.path(), "chip = 'rpi_volt'")).await;
        assert_eq!(volt, ["in0_lcrit_alarm (-) Boolean(true) "]);
        let text = "chip = 'ina219'\n[channel]\nv = { source = 'in1' }\ntemp1 = {}";
        let declared = shown(&config(root.path(), text)).await;
        assert_eq!(declared, ["v (-) Number(12.004) V", "temp1 (-) absent Cel"]);
    }

    #[tokio::test]
    async fn which_chip_must_be_clear() {
        let root = tree(FILES);
        let failure = config(root.path(), "").driver.open().await.err().unwrap();
        assert_eq!(failure.fault, Fault::Absent);
        assert!(failure.detail.contains("rpi_volt (hwmon0), ina219 (hwmon1)"), "{failure}");
        let text = "chip = 'ina219'\n[channel]\nfan1 = {}";
        let failure = config(root.path(), text).driver.open().await.err().unwrap();
        assert!(failure.detail.contains("has no fan1; it has in1, curr1, power1"), "{failure}");
    }
}
