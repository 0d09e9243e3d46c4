//! I2C buses, and chips that the kernel drives itself: 1-Wire, IIO, hwmon, PWM.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::{attribute, entries, slug};
use crate::drivers;
use crate::sysfs::on_bus;

/// An I2C bus that programs may use. What is on it isn't asked: some chips take
/// a question for a command.
#[derive(Clone, Debug, Default, Serialize)]
pub struct I2cBus {
    /// `/dev/i2c-1`.
    pub path: String,
    /// What its driver calls it.
    pub name: String,
    /// Addresses that a driver of the kernel has, with its chip's name.
    pub taken: Vec<(u16, String)>,
    /// A configuration that reads a part on it, which one to be filled in.
    pub snippet: Option<String>,
}

/// A device on a 1-Wire bus.
#[derive(Clone, Debug, Default, Serialize)]
pub struct OneWire {
    /// `28-0316a2795bff`: family and number.
    pub id: String,
    /// Whether it measures a temperature.
    pub thermometer: bool,
    /// A configuration that reads it.
    pub snippet: Option<String>,
}

/// A device of Linux Industrial I/O.
#[derive(Clone, Debug, Default, Serialize)]
pub struct IioDevice {
    /// `iio:device0`.
    pub device: String,
    /// The chip: `bme280`.
    pub name: String,
    /// What it measures: `temp`, `humidityrelative`, `voltage0`.
    pub channels: Vec<String>,
    /// A configuration that reads it.
    pub snippet: Option<String>,
}

/// A chip that watches the machine, or a supply.
#[derive(Clone, Debug, Default, Serialize)]
pub struct HwmonChip {
    /// `hwmon0`.
    pub chip: String,
    /// `ina219`.
    pub name: String,
    /// What it measures: `in1`, `curr1`, `temp1`.
    pub channels: Vec<String>,
    /// A configuration that reads it.
    pub snippet: Option<String>,
}

/// A chip that makes pulses.
#[derive(Clone, Debug, Default, Serialize)]
pub struct PwmChip {
    /// `pwmchip0`.
    pub chip: String,
    /// Its device, which stays the same: `fe20c000.pwm`.
    pub device: String,
    /// How many outputs it has.
    pub channels: u32,
    /// A configuration that drives the first, which is off until it is told
    /// otherwise.
    pub snippet: Option<String>,
}

pub(super) fn i2c(root: &Path) -> Vec<I2cBus> {
    let all = root.join("sys/bus/i2c/devices");
    entries(&root.join("dev"), "i2c-")
        .into_iter()
        .map(|(bus, _)| {
            let number = bus.trim_start_matches("i2c-");
            let taken =
                entries(&all, &format!("{number}-")).into_iter().filter_map(|(at, path)| {
                    let address = u16::from_str_radix(at.split_once('-')?.1, 16).ok()?;
                    Some((address, attribute(&path, "name")?))
                });
            I2cBus {
                path: format!("/dev/{bus}"),
                name: attribute(&all.join(&bus), "name").unwrap_or_default(),
                taken: taken.collect(),
                snippet: number.parse().ok().map(i2c_snippet),
            }
        })
        .collect()
}

/// Which part is on a bus nobody knows who doesn't ask it.
fn i2c_snippet(bus: u8) -> String {
    format!(
        "[device.i2c-{bus}]\ndriver = \"i2c\"\nbus = {bus}\n\
         part = \"bme280\"   # what is wired: tidemill drivers i2c lists the parts\n"
    )
}

pub(super) fn onewire(root: &Path) -> Vec<OneWire> {
    entries(&root.join("sys/bus/w1/devices"), "")
        .into_iter()
        .filter(|(name, _)| !name.contains("bus_master"))
        .map(|(id, path)| {
            let thermometer = path.join("temperature").exists();
            let snippet = thermometer.then(|| {
                let device = slug(&format!("w1-{id}"));
                format!(
                    "[device.{device}]\ndriver = \"w1\"\n[device.{device}.channel]\n\
                     temperature = {{ sensor = {id:?} }}\n"
                )
            });
            OneWire { id, thermometer, snippet }
        })
        .collect()
}

pub(super) fn iio(root: &Path) -> Vec<IioDevice> {
    let found = entries(&root.join("sys/bus/iio/devices"), "iio:device");
    let names = selectors(&found);
    let device = |((device, path), selector): ((String, PathBuf), String)| {
        let name = attribute(&path, "name").unwrap_or_default();
        let channels = drivers::iio_sources(&path);
        // The kernel's number tells several chips of a kind apart.
        let title = slug(&format!("{name}-{}", device.trim_start_matches("iio:device")));
        let snippet = chip_snippet(&title, ("iio", "device"), &selector, &channels);
        IioDevice { device, name, channels, snippet }
    };
    found.into_iter().zip(names).map(device).collect()
}

pub(super) fn hwmon(root: &Path) -> Vec<HwmonChip> {
    let found = entries(&root.join("sys/class/hwmon"), "hwmon");
    let names = selectors(&found);
    let chip = |((chip, path), selector): ((String, PathBuf), String)| {
        let name = attribute(&path, "name").unwrap_or_default();
        let sources = drivers::hwmon_sources(&path);
        let channels: Vec<String> = sources.into_iter().map(|(source, _)| source).collect();
        let title = slug(&format!("{name}-{}", chip.trim_start_matches("hwmon")));
        let snippet = chip_snippet(&title, ("hwmon", "chip"), &selector, &channels);
        HwmonChip { chip, name, channels, snippet }
    };
    found.into_iter().zip(names).map(chip).collect()
}

/// What names each chip alone: its name, or, where several have it, its place on
/// its bus, or else its entry.
fn selectors(chips: &[(String, PathBuf)]) -> Vec<String> {
    let names: Vec<_> = chips.iter().map(|(_, path)| attribute(path, "name")).collect();
    let alone = |name: &Option<String>| names.iter().filter(|other| *other == name).count() == 1;
    let selector = |((entry, path), name): (&(String, PathBuf), &Option<String>)| match name {
        Some(text) if alone(name) => text.clone(),
        // As the kernel writes them: bus and address.
        _ => on_bus(path).filter(|place| place.contains('-')).unwrap_or_else(|| entry.clone()),
    };
    chips.iter().zip(&names).map(selector).collect()
}

fn chip_snippet(
    title: &str,
    (driver, key): (&str, &str),
    chip: &str,
    channels: &[String],
) -> Option<String> {
    if channels.is_empty() {
        return None;
    }
    let mut text = format!(
        "[device.{title}]\ndriver = {driver:?}\n{key} = {chip:?}\n[device.{title}.channel]\n"
    );
    for channel in channels {
        text += &format!("{} = {{ source = {channel:?} }}\n", slug(channel));
    }
    Some(text)
}

pub(super) fn pwm(root: &Path) -> Vec<PwmChip> {
    let chip = |(chip, path): (String, PathBuf)| {
        let device = on_bus(&path).unwrap_or_default();
        let channels = attribute(&path, "npwm").and_then(|count| count.parse().ok()).unwrap_or(0);
        let snippet = (channels > 0).then(|| {
            // It is off until it is told to be on, as it is without.
            format!(
                "[device.{0}]\ndriver = \"gpio\"\npwm_chip = {0:?}\n[device.{0}.channel]\n\
                 pwm0 = {{ line = 0, direction = \"pwm\", frequency = 1000 }}\n",
                slug(&chip)
            )
        });
        PwmChip { chip, device, channels, snippet }
    };
    entries(&root.join("sys/class/pwm"), "pwmchip").into_iter().map(chip).collect()
}
