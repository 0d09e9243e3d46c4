//! What is connected to this machine: chips, ports and buses as the kernel
//! shows them, each with a piece of configuration that would read it.
//!
//! Nothing is switched, opened for good or asked over a bus: only files of
//! sysfs and `/dev` are read, and the kernel is asked about GPIO lines.

mod bus;
mod gpio;
mod holders;
mod serial;

use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;

pub use bus::{HwmonChip, I2cBus, IioDevice, OneWire, PwmChip};
pub use gpio::{Chip, Line};
pub use holders::{Holders, Process};
pub use serial::{Port, Usb};

/// Everything found.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Scan {
    /// GPIO chips with their lines.
    pub gpio: Vec<Chip>,
    /// Serial ports behind which there is hardware.
    pub serial: Vec<Port>,
    /// I2C buses that programs may use.
    pub i2c: Vec<I2cBus>,
    /// Devices on 1-Wire buses.
    pub onewire: Vec<OneWire>,
    /// Devices of Linux Industrial I/O.
    pub iio: Vec<IioDevice>,
    /// Chips that watch the machine, or a supply.
    pub hwmon: Vec<HwmonChip>,
    /// Chips that make pulses.
    pub pwm: Vec<PwmChip>,
}

impl Scan {
    /// Looks around; `root` is `/`, or a folder that looks like it. What can't
    /// be read isn't there.
    pub fn of(root: &Path, holders: &Holders) -> Scan {
        Scan {
            gpio: gpio::chips(root, holders),
            serial: serial::ports(root, holders),
            i2c: bus::i2c(root),
            onewire: bus::onewire(root),
            iio: bus::iio(root),
            hwmon: bus::hwmon(root),
            pwm: bus::pwm(root),
        }
    }

    /// Every piece of configuration in it.
    pub fn snippets(&self) -> impl Iterator<Item = &str> {
        let gpio = self.gpio.iter().filter_map(|chip| chip.snippet.as_deref());
        let serial = self.serial.iter().map(|port| port.snippet.as_str());
        let i2c = self.i2c.iter().filter_map(|bus| bus.snippet.as_deref());
        let onewire = self.onewire.iter().filter_map(|device| device.snippet.as_deref());
        let iio = self.iio.iter().filter_map(|device| device.snippet.as_deref());
        let hwmon = self.hwmon.iter().filter_map(|chip| chip.snippet.as_deref());
        let pwm = self.pwm.iter().filter_map(|chip| chip.snippet.as_deref());
        gpio.chain(serial).chain(i2c).chain(onewire).chain(iio).chain(hwmon).chain(pwm)
    }
}

/// The entries of a folder whose names begin so, `name2` before `name10`.
pub(crate) fn entries(folder: &Path, start: &str) -> Vec<(String, PathBuf)> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut found: Vec<(String, PathBuf)> = entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            Some((entry.file_name().into_string().ok()?, entry.path()))
        })
        .filter(|(name, _)| name.starts_with(start))
        .collect();
    found.sort_by(|(a, _), (b, _)| (a.len(), a).cmp(&(b.len(), b)));
    found
}

/// The text of a small file of sysfs, if there is one.
pub(crate) fn attribute(folder: &Path, name: &str) -> Option<String> {
    let text = fs::read_to_string(folder.join(name)).ok()?;
    // The device tree ends its texts with a zero.
    let text = text.trim_matches(['\0', '\n', ' ']).to_owned();
    (!text.is_empty()).then_some(text)
}

/// A text as the name of a device: `Arduino Uno (CDC)` is `arduino-uno-cdc`.
fn slug(text: &str) -> String {
    let mut name = String::new();
    for c in text.chars().map(|c| c.to_ascii_lowercase()) {
        if c.is_ascii_alphanumeric() {
            name.push(c);
        } else if !name.is_empty() && !name.ends_with('-') {
            name.push('-');
        }
    }
    name.truncate(32);
    let name = name.trim_end_matches('-');
    if name.is_empty() { "device".to_owned() } else { name.to_owned() }
}

#[cfg(test)]
mod tests;
