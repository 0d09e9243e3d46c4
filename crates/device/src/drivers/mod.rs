//! Every driver there is. A new one is a file here and a line in [`DRIVERS`].

mod gpio;
mod hwmon;
mod i2c;
mod iio;
mod modbus;
mod serial;
mod sim;
mod system;
mod w1;

use crate::DriverKind;

pub(crate) use hwmon::sources as hwmon_sources;
pub(crate) use iio::sources as iio_sources;
pub(crate) use serial::refused;

/// Every driver, by name.
pub const DRIVERS: &[DriverKind] = &[
    DriverKind::of::<gpio::Gpio>(),
    DriverKind::of::<hwmon::Hwmon>(),
    DriverKind::of::<i2c::I2c>(),
    DriverKind::of::<iio::Iio>(),
    DriverKind::of::<modbus::Modbus>(),
    DriverKind::of::<serial::Serial>(),
    DriverKind::of::<sim::Sim>(),
    DriverKind::of::<system::System>(),
    DriverKind::of::<w1::OneWire>(),
];

#[cfg(test)]
mod tests {
    use toml::Spanned;
    use toml::de::{DeTable, DeValue};

    use super::*;
    use crate::Config;

    /// The sample is the driver's reference page, so it must be true.
    #[test]
    fn every_sample_is_accepted_by_its_driver() {
        for driver in DRIVERS {
            let file = DeTable::parse(driver.sample).expect(driver.name).into_inner();
            let DeValue::Table(devices) = file["device"].get_ref() else { panic!("[device.NAME]") };
            let (name, device) = devices.iter().next().unwrap();
            let DeValue::Table(table) = device.get_ref() else { panic!("[device.NAME]") };
            let mut errors = Vec::new();
            let table = Spanned::new(device.span(), table.clone());
            let config = Config::parse(name.get_ref(), table, &mut errors);
            assert_eq!(errors, [], "{}", driver.name);
            let config = config.expect(driver.name);
            assert_eq!(config.driver(), driver.name);
            assert!(!config.channels().is_empty());
        }
    }

    /// What is commented out must be true as well.
    #[test]
    fn every_key_of_a_sample_is_in_the_schema_and_the_other_way_round() {
        for driver in DRIVERS {
            let schema = (driver.schema)();
            let keys = schema.get("properties").and_then(|keys| keys.as_object()).unwrap();
            for key in
                keys.keys().filter(|key| !["label", "poll", "timeout"].contains(&key.as_str()))
            {
                let shown = driver.sample.lines().any(|line| {
                    let line = line.trim_start_matches("# ");
                    line.starts_with(&format!("{key} =")) || line.contains(&format!(".{key}]"))
                });
                assert!(shown, "{}: the sample doesn't show `{key}`", driver.name);
            }
        }
    }

    #[test]
    fn every_file_here_is_in_the_list() {
        let here = concat!(env!("CARGO_MANIFEST_DIR"), "/src/drivers");
        let mut files: Vec<String> = std::fs::read_dir(here)
            .unwrap()
            .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
            .filter(|name| name != "mod")
            .collect();
        files.sort();
        // A folder beside a driver has its tests.
        files.dedup();
        let listed: Vec<&str> = DRIVERS.iter().map(|driver| driver.name).collect();
        assert_eq!(files, listed);
    }
}
