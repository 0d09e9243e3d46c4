//! Two devices on one serial port would each get half of what is sent. Devices
//! on a Modbus share theirs knowingly.

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
            let taken = self.0.entry(port).or_insert_with(|| (device.to_owned(), bus));
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
    }
}
