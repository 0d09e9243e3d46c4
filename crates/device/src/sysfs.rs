//! Sensors that the kernel reads: each a file of sysfs that holds one number.

use std::path::{Path, PathBuf};
use std::{fs, io};

use async_trait::async_trait;
use reading::{Datum, Fault, Value};

use crate::scan::{attribute, entries};
use crate::worker::Worker;
use crate::{Batch, Device, Driver, Failure};

/// Sensors on a long or noisy wire (DHT11) fail now and then; asking again at
/// once is what their makers advise.
const TRIES: usize = 3;

/// Where /sys is, unless `root` says otherwise.
pub(crate) fn root() -> PathBuf {
    PathBuf::from("/")
}

/// The text of a file, without the end of its line.
pub(crate) fn text(path: &Path) -> Result<String, Fault> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(text.trim_end().to_owned()),
        Err(error) => Err(crate::failure::fault(&error)),
    }
}

/// The number in a file.
pub(crate) fn number(path: &Path) -> Result<f64, Fault> {
    text(path)?.parse().map_err(|_| Fault::Corrupt)
}

/// Why a file of sysfs could not be written, with the mend.
pub(crate) fn written(path: &Path, error: &io::Error) -> Failure {
    let mend = match error.kind() {
        io::ErrorKind::ReadOnlyFilesystem => {
            "; the service sees /sys read-only: systemctl edit tidemill, then [Service] \
             ReadWritePaths=/sys/devices"
        }
        io::ErrorKind::PermissionDenied => {
            "; let a udev rule give it to a group of the gateway's user, as 60-tidemill.rules does"
        }
        _ => "",
    };
    let Failure { fault, detail } = Failure::io(&path.display().to_string(), error);
    Failure::new(fault, detail + mend)
}

/// Where the kernel keeps one kind of chip, and how a person names one.
#[derive(Debug)]
pub(crate) struct Place {
    /// Below the root: `sys/bus/iio/devices`.
    pub folder: &'static str,
    /// How the names of its entries begin: `iio:device`.
    pub start: &'static str,
    /// The key of the configuration that selects one.
    pub key: &'static str,
    /// What there is none of, when there is none.
    pub what: &'static str,
}

impl Place {
    /// The chip that is `wanted`, by its entry (`iio:device0`), its name
    /// (`bme280`), its label or its place on its bus (`1-0076`); the only one
    /// there is, when nothing is wanted.
    ///
    /// # Errors
    /// When there is none, or more than one is meant.
    pub(crate) fn find(&self, root: &Path, wanted: Option<&str>) -> Result<PathBuf, Failure> {
        let chips = entries(&root.join(self.folder), self.start);
        let said = chips.iter().map(|(entry, path)| match attribute(path, "name") {
            Some(name) => format!("{name} ({entry})"),
            None => entry.clone(),
        });
        let said = said.collect::<Vec<_>>().join(", ");
        let (key, what) = (self.key, self.what);
        let mut meant = chips.iter().filter(|(entry, path)| {
            wanted.is_none_or(|wanted| {
                let names = [attribute(path, "name"), attribute(path, "label"), on_bus(path)];
                entry == wanted || names.iter().flatten().any(|name| name == wanted)
            })
        });
        let absent = |detail: String| Failure::new(Fault::Absent, detail);
        match (meant.next(), meant.next(), wanted) {
            (Some((_, path)), None, _) => Ok(path.clone()),
            (Some(_), Some(_), None) => {
                Err(absent(format!("there are several: {said}; say which with `{key}`")))
            }
            (Some((one, _)), Some((other, _)), Some(wanted)) => Err(absent(format!(
                "there are several {wanted}: say {key} = \"{one}\" or \"{other}\", or where it \
                 is on its bus, such as \"1-0076\""
            ))),
            (None, ..) if chips.is_empty() => Err(absent(format!(
                "the kernel shows no {what}; load its driver: a dtoverlay in \
                 /boot/firmware/config.txt, or modprobe, and look at the wiring"
            ))),
            (None, ..) => Err(absent(format!(
                "there is no {what} {}; there are {said}",
                wanted.unwrap_or_default()
            ))),
        }
    }
}

/// A chip's place on its bus, which stays the same: `1-0076`.
pub(crate) fn on_bus(path: &Path) -> Option<String> {
    // hwmon chips have a link to it; those of IIO lie in it.
    let device = match fs::canonicalize(path.join("device")) {
        Ok(device) => device,
        Err(_) => fs::canonicalize(path).ok()?.parent()?.to_owned(),
    };
    Some(device.file_name()?.to_str()?.to_owned())
}

/// One channel of a chip.
#[derive(Clone, Debug)]
pub(crate) enum Item {
    /// (number + offset) × scale × factor. Offset and scale are files as well,
    /// read each time: a chip may choose its scale itself.
    Number { file: PathBuf, offset: Option<PathBuf>, scale: Option<PathBuf>, factor: f64 },
    /// Anything but 0 is true.
    Boolean { file: PathBuf },
}

impl Item {
    pub(crate) fn value(&self) -> Result<Datum, Fault> {
        let optional = |path: &Option<PathBuf>, missing: f64| match path {
            Some(path) => number(path),
            None => Ok(missing),
        };
        match self {
            Item::Number { file, offset, scale, factor } => {
                let number = number(file)? + optional(offset, 0.0)?;
                Datum::number(number * optional(scale, 1.0)? * factor).ok_or(Fault::Corrupt)
            }
            Item::Boolean { file } => Ok(Datum::Boolean(number(file)? != 0.0)),
        }
    }

    /// Asks again when the sensor merely failed.
    fn patiently(&self) -> Result<Datum, Fault> {
        let mut value = self.value();
        for _ in 1..TRIES {
            match value {
                Err(Fault::Io | Fault::Timeout | Fault::Busy) => value = self.value(),
                _ => break,
            }
        }
        value
    }
}

/// A chip's settings, checked: which one, and what to read of it.
pub(crate) struct Chips {
    pub place: &'static Place,
    /// Where /sys is.
    pub root: PathBuf,
    /// As [`Place::find`] takes it.
    pub wanted: Option<String>,
    /// What each channel reads, as the kernel calls it.
    pub sources: Vec<String>,
    /// The files of a source, unless the chip hasn't got it.
    pub item: fn(&Path, &str) -> Option<Item>,
    /// The sources that a chip has.
    pub has: fn(&Path) -> Vec<String>,
    pub worker: Worker,
}

impl Chips {
    /// Where the chip is.
    ///
    /// # Errors
    /// When it isn't there, or has nothing of what is wanted.
    pub(crate) fn find(&self) -> Result<(PathBuf, Vec<Option<Item>>), Failure> {
        let path = self.place.find(&self.root, self.wanted.as_deref())?;
        let items: Vec<_> = self.sources.iter().map(|source| (self.item)(&path, source)).collect();
        if items.iter().all(Option::is_none) {
            let (wanted, has) = (self.sources.join(", "), (self.has)(&path).join(", "));
            let detail = format!("{} has no {wanted}; it has {has}", path.display());
            return Err(Failure::new(Fault::Absent, detail));
        }
        Ok((path, items))
    }
}

#[async_trait]
impl Driver for Chips {
    async fn open(&self) -> Result<Box<dyn Device>, Failure> {
        let (path, items) = self.find()?;
        Ok(Box::new(Chip { path, items, worker: self.worker.clone() }))
    }
}

/// An open chip. Gone when none of its files is there any more.
pub(crate) struct Chip {
    /// Where it is.
    pub path: PathBuf,
    /// Its channels, in their order; `None` for what this chip hasn't got.
    pub items: Vec<Option<Item>>,
    pub worker: Worker,
}

#[async_trait]
impl Device for Chip {
    async fn read(&mut self, batch: &mut Batch) -> Result<(), Failure> {
        if !self.path.exists() {
            let detail =
                format!("{} is gone: the kernel's driver let go of it", self.path.display());
            return Err(Failure::new(Fault::Absent, detail));
        }
        for (channel, item) in self.items.iter().enumerate() {
            let value = match item.clone() {
                // Some sensors take a second: none may hold the others' task.
                Some(item) => self.worker.run(move || item.patiently()).await,
                None => Err(Fault::Absent),
            };
            batch.push(channel, value.map_or_else(Value::Bad, Value::Good));
        }
        Ok(())
    }
}

/// A folder that looks like `/`, for tests.
#[cfg(test)]
pub(crate) fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    root
}

#[cfg(test)]
mod tests {
    use super::*;

    const IIO: Place = Place {
        folder: "sys/bus/iio/devices",
        start: "iio:device",
        key: "device",
        what: "IIO device",
    };

    #[test]
    fn a_chip_is_found_by_any_of_its_names() {
        let root = tree(&[
            ("sys/devices/i2c-1/1-0048/iio:device0/name", "ads1115\n"),
            ("sys/devices/i2c-1/1-0049/iio:device1/name", "ads1115\n"),
            ("sys/devices/i2c-1/1-0049/iio:device1/label", "tank\n"),
            ("sys/bus/iio/devices/trigger0/name", "x\n"),
        ]);
        let link = |number: u8, at: &str| {
            let from = root.path().join(format!("sys/devices/i2c-1/{at}/iio:device{number}"));
            let to = root.path().join(format!("sys/bus/iio/devices/iio:device{number}"));
            std::os::unix::fs::symlink(from, to).unwrap();
        };
        link(0, "1-0048");
        let find = |wanted| IIO.find(root.path(), wanted);
        assert!(find(None).unwrap().ends_with("iio:device0"), "the only one");
        link(1, "1-0049");
        for wanted in ["1-0049", "tank", "iio:device1"] {
            assert!(find(Some(wanted)).unwrap().ends_with("iio:device1"), "{wanted}");
        }
        for (wanted, said) in [
            (None, "say which with `device`"),
            (Some("ads1115"), "there are several ads1115"),
            (Some("bme280"), "there is no IIO device bme280; there are ads1115 (iio:device0)"),
        ] {
            let failure = find(wanted).unwrap_err();
            assert_eq!(failure.fault, Fault::Absent);
            assert!(failure.detail.contains(said), "{failure}");
        }
        let nothing = IIO.find(&root.path().join("sys"), None).unwrap_err();
        assert!(nothing.detail.contains("dtoverlay"), "{nothing}");
    }
}
