//! Two devices on one serial port would each get half of what is sent, and two
//! at one address of an I2C bus each other's measurements. Devices on a Modbus
//! share theirs knowingly.

use std::collections::HashMap;

use device::settings::ConfigError;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// The drivers that speak over a bus, whose port several devices share.
const BUSES: &[&str] = &["modbus"];

/// The ports that are taken: by which device, and whether on a bus.
#[derive(Default)]
pub(super) struct Ports(HashMap<String, (String, bool)>);

impl Ports {
    /// Notes the port of a device, and tells of another that has it.
    pub(super) fn take(
        &mut self,
        device: &str,
        table: &Spanned<DeTable<'_>>,
        errors: &mut Vec<ConfigError>,
    ) {
        let text = |key: &str| match table.get_ref().get(key) {
            Some(value) => match value.get_ref() {
                DeValue::String(text) => Some((text.to_string(), value.span())),
                _ => None,
            },
            None => None,
        };
        let bus = text("driver").is_some_and(|(driver, _)| BUSES.contains(&driver.as_str()));
        for key in ["port", "usb"] {
            let Some((port, span)) = text(key) else { continue };
            // A name of /dev/serial/by-id and the port that it leads to are one.
            let real =
                std::fs::canonicalize(&port).ok().and_then(|path| path.to_str().map(str::to_owned));
            let taken =
                self.0.entry(real.unwrap_or(port)).or_insert_with(|| (device.to_owned(), bus));
            if taken.0 != device && !(taken.1 && bus) {
                errors.push(ConfigError {
                    span: Some(span),
                    path: format!("device.{device}.{key}"),
                    message: format!(
                        "the device {} has this port, and each would get half of what is sent; \
                         only devices on a Modbus share one",
                        taken.0
                    ),
                });
            }
        }
    }
}

/// Tells of a device whose part another has as well.
pub(super) fn take_part(
    others: &[device::Config],
    device: &device::Config,
    span: std::ops::Range<usize>,
    errors: &mut Vec<ConfigError>,
) {
    let Some((bus, address)) = device.i2c() else { return };
    if let Some(other) = others.iter().find(|other| other.i2c() == device.i2c()) {
        errors.push(ConfigError {
            span: Some(span),
            path: format!("device.{}.address", device.name()),
            message: format!("the device {} is at {address:#04x} on {bus} already", other.name()),
        });
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::Config;

    fn errors(devices: &str) -> String {
        let parsed = Config::parse(devices, Path::new("t.toml"));
        parsed.err().map(|invalid| invalid.to_string()).unwrap_or_default()
    }

    #[test]
    fn two_devices_on_one_port_are_told() {
        let device = |name: &str, at: &str| {
            format!("[device.{name}]\ndriver = 'serial'\n{at}\n[device.{name}.channel]\nt = {{}}\n")
        };
        let one = "port = '/dev/ttyUSB0'";
        let told = errors(&(device("a", one) + &device("b", one)));
        assert!(told.contains("8:8: device.b.port: the device a has this port"), "{told}");
        let usb = "usb = '2341:0043'";
        assert!(errors(&(device("a", usb) + &device("b", usb))).contains("device.b.usb"));
        assert_eq!(errors(&(device("a", one) + &device("b", "port = '/dev/ttyUSB1'"))), "");

        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("by-id");
        std::os::unix::fs::symlink("/dev/null", &link).unwrap();
        let link = format!("port = '{}'", link.display());
        let told = errors(&(device("a", "port = '/dev/null'") + &device("b", &link)));
        assert!(told.contains("device.b.port: the device a has this port"), "{told}");
    }

    #[test]
    fn two_devices_at_one_address_are_told() {
        let device = |name: &str, keys: &str| {
            format!("[device.{name}]\ndriver = 'i2c'\npart = 'bme280'\n{keys}\n")
        };
        let told = errors(&(device("a", "") + &device("b", "bus = '/dev/i2c-1'\naddress = 0x76")));
        assert!(
            told.contains("device.b.address: the device a is at 0x76 on /dev/i2c-1 already"),
            "{told}"
        );
        assert_eq!(errors(&(device("a", "") + &device("b", "address = 0x77"))), "");
        assert_eq!(errors(&(device("a", "") + &device("b", "bus = 2"))), "");
    }
}
