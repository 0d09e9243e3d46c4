//! Finds the serial port of a USB device by its ids: names such as
//! `/dev/ttyUSB0` are given in the order of plugging, and change.

use std::fs;
use std::path::{Path, PathBuf};

use reading::Fault;

use crate::Failure;

/// Which USB device: `2341:0043`, or `2341:0043:SERIALNO`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UsbId {
    vendor: String,
    product: String,
    serial: Option<String>,
}

/// A serial port of a USB device.
#[derive(Debug, PartialEq, Eq)]
struct Port {
    name: String,
    /// The device in sysfs, the same for all ports of one device.
    device: PathBuf,
    serial: Option<String>,
}

impl std::str::FromStr for UsbId {
    type Err = String;

    fn from_str(text: &str) -> Result<UsbId, String> {
        let mut parts = text.splitn(3, ':');
        let mut hex = || {
            let part = parts.next()?.to_ascii_lowercase();
            (part.len() == 4 && part.bytes().all(|b| b.is_ascii_hexdigit())).then_some(part)
        };
        match (hex(), hex()) {
            (Some(vendor), Some(product)) => {
                let serial = parts.next().filter(|serial| !serial.is_empty()).map(str::to_owned);
                Ok(UsbId { vendor, product, serial })
            }
            _ => Err("expected \"vendor:product\" or \"vendor:product:serial\", the first two 4 \
                      hexadecimal digits, such as \"2341:0043\"; lsusb shows them"
                .into()),
        }
    }
}

impl std::fmt::Display for UsbId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.vendor, self.product)?;
        self.serial.as_ref().map_or(Ok(()), |serial| write!(f, ":{serial}"))
    }
}

impl UsbId {
    /// The path of its serial port; of several the first. `root` is where `sys` and
    /// `dev` are.
    ///
    /// # Errors
    /// When there is none, or more than one device is meant.
    pub(crate) fn port(&self, root: &Path) -> Result<String, Failure> {
        let mut ports = self.ports(&root.join("sys"));
        // ttyUSB2 before ttyUSB10.
        ports.sort_by(|a, b| (a.name.len(), &a.name).cmp(&(b.name.len(), &b.name)));
        let Some(first) = ports.first() else {
            return Err(Failure::new(
                Fault::Absent,
                format!("no serial port of a USB device {self}: is it plugged in?"),
            ));
        };
        if let Some(other) = ports.iter().find(|port| port.device != first.device) {
            let serial = |port: &Port| port.serial.clone().unwrap_or_else(|| "none".into());
            return Err(Failure::new(
                Fault::Absent,
                format!(
                    "two USB devices are {self}: say which by its serial number, usb = \
                     \"{}:{}:SERIAL\"; there are {} ({}) and {} ({})",
                    self.vendor,
                    self.product,
                    serial(first),
                    first.name,
                    serial(other),
                    other.name
                ),
            ));
        }
        Ok(root.join("dev").join(&first.name).to_string_lossy().into_owned())
    }

    fn ports(&self, sysfs: &Path) -> Vec<Port> {
        let Ok(entries) = fs::read_dir(sysfs.join("class/tty")) else { return Vec::new() };
        entries
            .filter_map(|entry| {
                let entry = entry.ok()?;
                let name = entry.file_name().into_string().ok()?;
                // `device` is the interface, or the port on it; the ids are at
                // the USB device above.
                let interface = entry.path().join("device").canonicalize().ok()?;
                let device = interface.ancestors().find(|at| at.join("idVendor").exists())?;
                let serial = attribute(device, "serial");
                let same = attribute(device, "idVendor")? == self.vendor
                    && attribute(device, "idProduct")? == self.product
                    && (self.serial.is_none() || serial == self.serial);
                same.then(|| Port { name, device: device.to_owned(), serial })
            })
            .collect()
    }
}

fn attribute(device: &Path, name: &str) -> Option<String> {
    Some(fs::read_to_string(device.join(name)).ok()?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// A sysfs as the kernel shapes it for cdc_acm (ttyACM) and usb-serial
    /// (ttyUSB), whose `device` links differ in depth.
    fn plug(root: &Path, bus: &str, tty: &str, product: &str, serial: Option<&str>) {
        let sysfs = root.join("sys");
        let device = sysfs.join("devices/usb1").join(bus);
        let interface = device.join(format!("{bus}:1.0"));
        let at = if tty.starts_with("ttyUSB") { interface.join(tty) } else { interface };
        let class = at.join("tty").join(tty);
        fs::create_dir_all(&class).unwrap();
        fs::write(device.join("idVendor"), "2341\n").unwrap();
        fs::write(device.join("idProduct"), format!("{product}\n")).unwrap();
        if let Some(serial) = serial {
            fs::write(device.join("serial"), format!("{serial}\n")).unwrap();
        }
        symlink(&at, class.join("device")).unwrap();
        fs::create_dir_all(sysfs.join("class/tty")).unwrap();
        symlink(&class, sysfs.join("class/tty").join(tty)).unwrap();
    }

    fn port(root: &Path, id: &str) -> Result<String, Failure> {
        let path = id.parse::<UsbId>().unwrap().port(root)?;
        Ok(path.strip_prefix(root.to_str().unwrap()).unwrap().to_owned())
    }

    #[test]
    fn a_port_is_found_by_its_ids() {
        let sysfs = tempfile::tempdir().unwrap();
        let root = sysfs.path();
        assert_eq!(port(root, "2341:0043").unwrap_err().fault, Fault::Absent);
        plug(root, "1-1", "ttyACM0", "0043", Some("A1"));
        plug(root, "1-2", "ttyUSB10", "7523", None);
        plug(root, "1-2", "ttyUSB2", "7523", None);
        fs::create_dir_all(root.join("sys/class/tty/tty0")).unwrap();
        assert_eq!(port(root, "2341:0043").unwrap(), "/dev/ttyACM0");
        assert_eq!(port(root, "2341:0043:A1").unwrap(), "/dev/ttyACM0");
        assert_eq!(port(root, "2341:0043:B2").unwrap_err().fault, Fault::Absent);
        assert_eq!(port(root, "2341:7523").unwrap(), "/dev/ttyUSB2");
    }

    #[test]
    fn two_alike_need_a_serial_number() {
        let sysfs = tempfile::tempdir().unwrap();
        let root = sysfs.path();
        plug(root, "1-1", "ttyACM0", "0043", Some("A1"));
        plug(root, "1-3", "ttyACM1", "0043", Some("B2"));
        let error = port(root, "2341:0043").unwrap_err().detail;
        assert!(error.contains("A1 (ttyACM0) and B2 (ttyACM1)"), "{error}");
        assert_eq!(port(root, "2341:0043:B2").unwrap(), "/dev/ttyACM1");
    }

    #[test]
    fn an_id_is_two_times_four_digits() {
        for id in ["2341", "2341:43", "2341:004g", ":0043", "23410:0043"] {
            assert!(id.parse::<UsbId>().is_err(), "{id}");
        }
        let id: UsbId = "2341:00AB:x:y".parse().unwrap();
        assert_eq!(id.to_string(), "2341:00ab:x:y");
    }
}
