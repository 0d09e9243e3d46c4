//! Thermometers on a 1-Wire bus that the kernel drives: DS18B20 and its kin.
//!
//! The file `w1_slave` holds the nine bytes of the sensor's scratchpad, the
//! kernel's verdict on their CRC, and the temperature: the kernel's
//! Documentation/w1/slaves/w1_therm.rst. The scratchpad: data sheet of the
//! DS18B20, figure 9.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use reading::{Datum, Fault, Kind, Value};
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::time;

use crate::kind::{Declared, Kinded, Pace};
use crate::scan::entries;
use crate::settings::Report;
use crate::sysfs;
use crate::worker::Worker;
use crate::{Batch, Device, Driver, Failure};

/// The driver.
pub(crate) struct OneWire;

/// Its own keys of `[device.NAME]`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    /// Where /sys is.
    #[serde(default = "sysfs::root")]
    root: PathBuf,
}

/// A channel's own keys.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Thermometer {
    /// Which sensor: "28-0316a2795bff". By default the one the channel is
    /// called after, else the only one on the bus.
    sensor: Option<String>,
}

const DEVICES: &str = "sys/bus/w1/devices";
/// DS18S20, DS1822, DS18B20, DS1825, DS28EA00.
const FAMILIES: &[&str] = &["10-", "22-", "28-", "3b-", "42-"];
/// 85 °C is what a sensor says that has lost its supply since it last measured.
const POWER_ON: f64 = 85.0;
/// Byte 6 of the scratchpad of a DS18B20 after power-on, until it measures.
const RESERVED_AT_POWER_ON: u8 = 0x0c;
/// A sensor that was as near to 85 °C as this may well be there.
const NEAR: f64 = 5.0;
/// A conversion at full resolution takes 750 ms.
const CONVERSION_MAX: Duration = Duration::from_millis(1000);
const CONVERSION_ASKED_EVERY: Duration = Duration::from_millis(25);

/// Whether a text is the name of a sensor: family and 12 hexadecimal digits.
fn is_sensor(text: &str) -> bool {
    let hex = |part: &str, length| {
        part.len() == length && part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    };
    text.split_once('-').is_some_and(|(family, number)| hex(family, 2) && hex(number, 12))
}

/// The sensors on all buses.
fn sensors(root: &Path) -> Vec<String> {
    let there = entries(&root.join(DEVICES), "").into_iter().map(|(name, _)| name);
    there.filter(|name| FAMILIES.iter().any(|family| name.starts_with(family))).collect()
}

/// The sensor a channel names, unless it is the only one there is.
fn named(channel: &Declared<Thermometer>) -> Option<String> {
    let own = channel.own.sensor.clone();
    own.or_else(|| is_sensor(&channel.name).then(|| channel.name.clone()))
}

/// The temperature in a `w1_slave`, in degrees Celsius. `last` is what the
/// sensor said before.
fn temperature(text: &str, last: Option<f64>) -> Result<f64, Fault> {
    // The kernel leaves the file empty when the sensor didn't answer.
    let (bytes, rest) = text.split_once(" : ").ok_or(Fault::Timeout)?;
    let bytes: Vec<u8> =
        bytes.split_whitespace().map_while(|byte| u8::from_str_radix(byte, 16).ok()).collect();
    let verdict = rest.lines().next().is_some_and(|line| line.trim_end().ends_with("YES"));
    // A shorted bus reads as zeros, whose CRC is right.
    if !verdict || bytes.len() != 9 || bytes.iter().all(|byte| *byte == 0) {
        return Err(Fault::Corrupt);
    }
    let milli = rest.rsplit_once("t=").and_then(|(_, milli)| milli.trim().parse::<f64>().ok());
    let degrees = milli.ok_or(Fault::Corrupt)? / 1000.0;
    let powered_on = degrees == POWER_ON && bytes[6] == RESERVED_AT_POWER_ON;
    believable(degrees, powered_on, last)
}

/// The same of a file `temperature`, which has no more than the number.
fn bare(text: &str, last: Option<f64>) -> Result<f64, Fault> {
    if text.is_empty() {
        return Err(Fault::Timeout);
    }
    let degrees = text.parse::<f64>().map_err(|_| Fault::Corrupt)? / 1000.0;
    believable(degrees, degrees == POWER_ON, last)
}

fn believable(degrees: f64, powered_on: bool, last: Option<f64>) -> Result<f64, Fault> {
    let near = last.is_some_and(|last| (last - degrees).abs() <= NEAR);
    if powered_on && !near { Err(Fault::Corrupt) } else { Ok(degrees) }
}

fn read(folder: &Path, last: Option<f64>) -> Result<f64, Fault> {
    match sysfs::text(&folder.join("w1_slave")) {
        Ok(text) => temperature(&text, last),
        Err(Fault::Absent) => bare(&sysfs::text(&folder.join("temperature"))?, last),
        Err(fault) => Err(fault),
    }
}

impl Kinded for OneWire {
    const NAME: &'static str = "w1";
    const SUMMARY: &'static str =
        "thermometers on a 1-Wire bus: DS18B20, DS18S20, DS1822, DS1825, DS28EA00";
    const SAMPLE: &'static str = r#"[device.boiler]
driver = "w1"                # needs dtoverlay=w1-gpio in /boot/firmware/config.txt
poll = "10s"
# timeout = "30s"            # how long all of them may take together
# root = "/"                 # where /sys is

[device.boiler.channel]      # without it: every sensor found when the gateway starts
flow   = { sensor = "28-0316a2795bff", range = [-55, 125] }
return = { sensor = "28-0316a279b3ff" }
"#;
    const PACE: Pace = Pace::Asked(Duration::from_secs(10));
    type Settings = Settings;
    type Channel = Thermometer;

    /// Every sensor found. The kernel looks for them after the boot: when there
    /// is none yet, there is one channel for the only one that may come.
    fn defaults(settings: &Settings) -> Vec<Declared<Thermometer>> {
        let mut names = sensors(&settings.root);
        if names.is_empty() {
            names.push("temperature".to_owned());
        }
        names.into_iter().map(|name| Declared::new(name, Thermometer { sensor: None })).collect()
    }

    fn kind(channel: &Declared<Thermometer>) -> Result<Kind, String> {
        channel.always(Kind::Number)
    }

    fn unit(_: &Declared<Thermometer>) -> Option<&'static str> {
        Some("Cel")
    }

    fn build(
        settings: Settings,
        channels: Vec<Declared<Thermometer>>,
        _: Option<Duration>,
        report: &mut Report<'_>,
    ) -> Option<Box<dyn Driver>> {
        for channel in &channels {
            match named(channel) {
                Some(sensor) if !is_sensor(&sensor) => {
                    let message = "expected family and number, such as \"28-0316a2795bff\": ls \
                                   /sys/bus/w1/devices shows them";
                    report.at(&["channel", &channel.name, "sensor"], message);
                }
                None if channels.len() > 1 => {
                    let message = format!(
                        "missing key `sensor`, such as \"28-0316a2795bff\": which of the {} is it?",
                        channels.len()
                    );
                    report.at(&["channel", &channel.name, "sensor"], message);
                }
                _ => {}
            }
        }
        let sensors = channels.iter().map(named).collect();
        Some(Box::new(Checked { settings, sensors, worker: Worker::default() }))
    }
}

struct Checked {
    settings: Settings,
    sensors: Vec<Option<String>>,
    worker: Worker,
}

#[async_trait]
impl Driver for Checked {
    async fn open(&self) -> Result<Box<dyn Device>, Failure> {
        let root = &self.settings.root;
        let absent = |detail: String| Failure::new(Fault::Absent, detail);
        let folder = root.join(DEVICES);
        if !folder.is_dir() {
            return Err(absent(format!(
                "{} isn't there; add dtoverlay=w1-gpio to /boot/firmware/config.txt and start again",
                folder.display()
            )));
        }
        let there = sensors(root);
        let found = |sensor: &Option<String>| match sensor {
            Some(sensor) => Ok(sensor.clone()),
            None if there.len() == 1 => Ok(there[0].clone()),
            None if there.is_empty() => Err(absent(
                "no thermometer is on a 1-Wire bus; look at the wiring and its 4.7 kΩ resistor"
                    .to_owned(),
            )),
            None => {
                Err(absent(format!("there are several: say `sensor`, one of {}", there.join(", "))))
            }
        };
        let wanted = self.sensors.iter().map(found).collect::<Result<Vec<_>, _>>()?;
        if !wanted.iter().any(|sensor| folder.join(sensor).exists()) {
            let there = if there.is_empty() { "none".to_owned() } else { there.join(", ") };
            let wanted = wanted.join(", ");
            return Err(absent(format!("no {wanted} on a 1-Wire bus; there are: {there}")));
        }
        let sensors = wanted.into_iter().map(|sensor| (folder.join(sensor), None)).collect();
        Ok(Box::new(Bus { folder, sensors, worker: self.worker.clone() }))
    }
}

/// Sensors, which may be on several buses.
struct Bus {
    folder: PathBuf,
    /// Where each channel's sensor is, and what it said last.
    sensors: Vec<(PathBuf, Option<f64>)>,
    worker: Worker,
}

#[async_trait]
impl Device for Bus {
    async fn read(&mut self, batch: &mut Batch) -> Result<(), Failure> {
        self.convert().await;
        let mut absent = 0;
        for (channel, (folder, last)) in self.sensors.iter_mut().enumerate() {
            let (path, before) = (folder.clone(), *last);
            // Without a conversion in common each takes 750 ms.
            let value = self.worker.run(move || read(&path, before)).await;
            absent += usize::from(value == Err(Fault::Absent));
            *last = value.ok();
            let datum = value.and_then(|degrees| Datum::number(degrees).ok_or(Fault::Corrupt));
            batch.push(channel, datum.map_or_else(Value::Bad, Value::Good));
        }
        if absent == self.sensors.len() {
            batch.samples.clear();
            let detail = "every thermometer is gone from the bus; look at the wiring";
            return Err(Failure::new(Fault::Absent, detail));
        }
        Ok(())
    }
}

impl Bus {
    /// Lets all sensors measure at the same time, where the kernel can
    /// (`therm_bulk_read`, Linux 5.10). Where it can't, or it fails, each
    /// measures when it is read.
    async fn convert(&self) {
        if self.sensors.len() < 2 {
            return;
        }
        let masters: Vec<PathBuf> = entries(&self.folder, "w1_bus_master")
            .into_iter()
            .map(|(_, path)| path.join("therm_bulk_read"))
            .filter(|file| file.exists())
            .collect();
        let started = masters.clone();
        self.worker
            .run(move || {
                for file in started {
                    if let Err(error) = fs::write(&file, "trigger\n") {
                        tracing::debug!(file = %file.display(), %error, "no conversion in common");
                    }
                }
            })
            .await;
        let until = time::Instant::now() + CONVERSION_MAX;
        // -1: some sensor is still at it.
        let busy = |file: &PathBuf| sysfs::text(file).is_ok_and(|state| state == "-1");
        while time::Instant::now() < until && masters.iter().any(busy) {
            time::sleep(CONVERSION_ASKED_EVERY).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Config;
    use crate::sysfs::tree;

    const GOOD: &str =
        "72 01 4b 46 7f ff 0e 10 57 : crc=57 YES\n72 01 4b 46 7f ff 0e 10 57 t=23125\n";

    fn config(root: &Path, rest: &str) -> (Option<Config>, Vec<String>) {
        let text = format!("driver = 'w1'\nroot = '{}'\n{rest}", root.display());
        let mut errors = Vec::new();
        let config = Config::parse("x", toml::de::DeTable::parse(&text).unwrap(), &mut errors);
        (config, errors.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn only_what_can_be_believed_is_a_temperature() {
        let of = temperature;
        assert_eq!(of(GOOD, None), Ok(23.125));
        let below = "5e ff 4b 46 7f ff 02 10 4c : crc=4c YES\n5e ff 4b 46 7f ff 02 10 4c t=-10125";
        assert_eq!(of(below, None), Ok(-10.125));
        assert_eq!(of(&GOOD.replace("YES", "NO"), None), Err(Fault::Corrupt));
        let gone = "ff ff ff ff ff ff ff ff ff : crc=c9 NO\nff ff ff ff ff ff ff ff ff t=-62";
        assert_eq!(of(gone, None), Err(Fault::Corrupt));
        let shorted = "00 00 00 00 00 00 00 00 00 : crc=00 YES\n00 00 00 00 00 00 00 00 00 t=0";
        assert_eq!(of(shorted, None), Err(Fault::Corrupt), "zeros have the right CRC");
        assert_eq!(of("", None), Err(Fault::Timeout));
        assert_eq!(of("72 01 : crc=57 YES\nt=23125", None), Err(Fault::Corrupt));
        let powered = "50 05 4b 46 7f ff 0c 10 1c : crc=1c YES\n50 05 4b 46 7f ff 0c 10 1c t=85000";
        assert_eq!(of(powered, None), Err(Fault::Corrupt), "it has not measured yet");
        assert_eq!(of(powered, Some(21.0)), Err(Fault::Corrupt));
        assert_eq!(of(powered, Some(83.0)), Ok(85.0), "a hot boiler");
        let measured = powered.replace("ff 0c 10", "ff 10 10");
        assert_eq!(of(&measured, None), Ok(85.0), "a measured 85 °C");
        assert_eq!(bare("21375", None), Ok(21.375));
        assert_eq!(bare("85000", Some(20.0)), Err(Fault::Corrupt));
        assert_eq!(bare("85000", Some(84.5)), Ok(85.0));
        assert_eq!(bare("", None), Err(Fault::Timeout));
    }

    #[tokio::test]
    async fn every_sensor_found_is_a_channel() {
        let root = tree(&[
            ("sys/bus/w1/devices/28-0316a2795bff/w1_slave", GOOD),
            ("sys/bus/w1/devices/28-0316a279b3ff/temperature", "-1250\n"),
            ("sys/bus/w1/devices/w1_bus_master1/therm_bulk_read", "0\n"),
            ("sys/bus/w1/devices/3a-000000000001/state", "x"),
        ]);
        let (config, errors) = config(root.path(), "");
        assert_eq!(errors, [""; 0]);
        let config = config.unwrap();
        let names: Vec<_> = config.channels().iter().map(|c| c.channel.name().to_owned()).collect();
        assert_eq!(names, ["28-0316a2795bff", "28-0316a279b3ff"]);
        let mut device = config.driver.open().await.unwrap();
        let mut batch = Batch::default();
        device.read(&mut batch).await.unwrap();
        let values: Vec<_> = batch.samples.drain(..).map(|s| s.value.number().unwrap()).collect();
        assert_eq!(values, [23.125, -1.25]);
        let bulk = root.path().join("sys/bus/w1/devices/w1_bus_master1/therm_bulk_read");
        assert_eq!(fs::read_to_string(bulk).unwrap(), "trigger\n", "one conversion for all");
        fs::remove_dir_all(root.path().join("sys/bus/w1/devices/28-0316a279b3ff")).unwrap();
        device.read(&mut batch).await.unwrap();
        let values: Vec<_> = batch.samples.drain(..).map(|s| s.value).collect();
        assert_eq!(values[1], Value::Bad(Fault::Absent), "one that is gone spoils no other");
        fs::remove_dir_all(root.path().join("sys/bus/w1/devices")).unwrap();
        assert_eq!(device.read(&mut batch).await.unwrap_err().fault, Fault::Absent);
    }

    #[tokio::test]
    async fn the_only_sensor_needs_no_name_and_may_come_later() {
        let root = tree(&[]);
        let (config, _) = config(root.path(), "");
        let config = config.unwrap();
        let failure = config.driver.open().await.err().unwrap();
        assert!(failure.detail.contains("dtoverlay=w1-gpio"), "{failure}");
        let folder = root.path().join("sys/bus/w1/devices/28-0316a2795bff");
        fs::create_dir_all(folder.parent().unwrap()).unwrap();
        let failure = config.driver.open().await.err().unwrap();
        assert!(failure.detail.contains("4.7"), "{failure}");
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("w1_slave"), GOOD).unwrap();
        let mut batch = Batch::default();
        config.driver.open().await.unwrap().read(&mut batch).await.unwrap();
        assert_eq!(batch.samples[0].value.number(), Some(23.125));
    }

    #[test]
    fn a_sensor_must_be_named_and_right() {
        let root = tree(&[]);
        let (_, errors) = config(root.path(), "[channel]\na = { sensor = '28-xyz' }\nb = {}");
        assert_eq!(errors.len(), 2, "{errors:?}");
        assert!(errors[0].contains("device.x.channel.a.sensor: expected family"), "{errors:?}");
        assert!(errors[1].contains("which of the 2"), "{errors:?}");
    }
}
