//! I2C buses, and devices that the kernel reads itself: 1-Wire and IIO.

use std::path::Path;

use serde::Serialize;

use super::{attribute, entries, slug};

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
            }
        })
        .collect()
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
    entries(&root.join("sys/bus/iio/devices"), "iio:device")
        .into_iter()
        .map(|(device, path)| {
            let mut channels: Vec<String> = entries(&path, "in_")
                .into_iter()
                .filter_map(|(file, _)| {
                    let name = file.strip_prefix("in_")?;
                    let name = name.strip_suffix("_input").or_else(|| name.strip_suffix("_raw"))?;
                    Some(name.to_owned())
                })
                .collect();
            channels.sort();
            channels.dedup();
            let name = attribute(&path, "name").unwrap_or_default();
            let snippet = iio_snippet(&device, &name, &channels);
            IioDevice { device, name, channels, snippet }
        })
        .collect()
}

fn iio_snippet(device: &str, name: &str, channels: &[String]) -> Option<String> {
    if channels.is_empty() {
        return None;
    }
    // Of several chips of a kind, each needs a name of its own; the kernel's
    // number tells them apart.
    let title = slug(&format!("{name}-{}", device.trim_start_matches("iio:device")));
    let device = if name.is_empty() { device } else { name };
    let mut text = format!(
        "[device.{title}]\ndriver = \"iio\"\ndevice = {device:?}\n[device.{title}.channel]\n"
    );
    for channel in channels {
        text += &format!("{} = {{ source = {channel:?} }}\n", slug(channel));
    }
    Some(text)
}
