//! The machine the gateway runs on: temperature, load, memory, disk.

use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, io};

use async_trait::async_trait;
use reading::{Datum, Fault, Kind, Value};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::kind::{Declared, Kinded, Pace};
use crate::settings::Report;
use crate::{Batch, Device, Driver, Failure};

/// The driver.
pub(crate) struct System;

/// Its own keys of `[device.NAME]`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    /// A path on the file system to watch: the store's.
    #[serde(default = "disk")]
    disk: PathBuf,
    /// Where /sys and /proc are.
    #[serde(default = "crate::sysfs::root")]
    root: PathBuf,
}

fn disk() -> PathBuf {
    PathBuf::from("/var/lib/tidemill")
}

/// A channel's own keys.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Quantity {
    /// What to read; the channel's own name by default.
    source: Option<Source>,
}

/// What can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Source {
    /// Of the processor.
    CpuTemperature,
    /// Of all cores since the last time, in percent.
    CpuUsage,
    /// Processes that run or wait to, on average of a minute.
    #[serde(rename = "load_1m")]
    Load1m,
    /// The same of 5 minutes.
    #[serde(rename = "load_5m")]
    Load5m,
    /// The same of 15 minutes.
    #[serde(rename = "load_15m")]
    Load15m,
    /// Memory that isn't available, in percent.
    MemoryUsed,
    /// Memory that programs may still have, in bytes.
    MemoryAvailable,
    /// Swap in use, in percent.
    SwapUsed,
    /// The file system's space in use, in percent, as df says it.
    DiskUsed,
    /// What may still be written, in bytes.
    DiskFree,
    /// Seconds since the boot.
    Uptime,
    /// Of a Raspberry Pi: the supply is too weak, now.
    Undervoltage,
    /// Of a Raspberry Pi: the processor is slowed down, now.
    Throttled,
}

const SOURCES: &[(&str, Source)] = &[
    ("cpu_temperature", Source::CpuTemperature),
    ("cpu_usage", Source::CpuUsage),
    ("load_1m", Source::Load1m),
    ("load_5m", Source::Load5m),
    ("load_15m", Source::Load15m),
    ("memory_used", Source::MemoryUsed),
    ("memory_available", Source::MemoryAvailable),
    ("swap_used", Source::SwapUsed),
    ("disk_used", Source::DiskUsed),
    ("disk_free", Source::DiskFree),
    ("uptime", Source::Uptime),
    ("undervoltage", Source::Undervoltage),
    ("throttled", Source::Throttled),
];

/// Where a Raspberry Pi's firmware says how it fares, as hexadecimal bits.
const THROTTLED: &str = "sys/devices/platform/soc/soc:firmware/get_throttled";

#[derive(Clone)]
struct Machine {
    root: PathBuf,
    disk: PathBuf,
    sources: Vec<Source>,
    /// Busy and whole time of the processor at the last reading.
    cpu: Option<(u64, u64)>,
}

impl Kinded for System {
    const NAME: &'static str = "system";
    const SUMMARY: &'static str = "the machine itself: temperature, load, memory, disk";
    const SAMPLE: &'static str = r#"[device.machine]
driver = "system"
poll = "5s"                  # how often it is read
# disk = "/var/lib/tidemill" # a path on the file system to watch: the store's
# root = "/"                 # where /sys and /proc are

[device.machine.channel]     # without it: all that this machine has
cpu_temperature = { range = [-20, 120] }   # also cpu_usage, load_1m, load_5m, load_15m
memory_used     = { label = "memory" }     # also memory_available, swap_used
disk_free       = {}                       # also disk_used, uptime
weak_supply     = { source = "undervoltage" }   # of a Raspberry Pi; also throttled
"#;
    const PACE: Pace = Pace::Asked(Duration::from_secs(5));
    type Settings = Settings;
    type Channel = Quantity;

    /// All that this machine has.
    fn defaults(settings: &Settings) -> Vec<Declared<Quantity>> {
        let machine = Machine::new(settings, Vec::new());
        SOURCES
            .iter()
            .filter(|(_, source)| machine.has(*source))
            .map(|(name, source)| Declared::new(*name, Quantity { source: Some(*source) }))
            .collect()
    }

    fn kind(channel: &Declared<Quantity>) -> Result<Kind, String> {
        channel.always(match source(channel) {
            Some(Source::Undervoltage | Source::Throttled) => Kind::Boolean,
            _ => Kind::Number,
        })
    }

    fn unit(channel: &Declared<Quantity>) -> Option<&'static str> {
        match source(channel)? {
            Source::CpuTemperature => Some("Cel"),
            Source::CpuUsage | Source::MemoryUsed | Source::SwapUsed | Source::DiskUsed => {
                Some("%")
            }
            Source::MemoryAvailable | Source::DiskFree => Some("B"),
            Source::Uptime => Some("s"),
            Source::Load1m
            | Source::Load5m
            | Source::Load15m
            | Source::Undervoltage
            | Source::Throttled => None,
        }
    }

    fn build(
        settings: Settings,
        channels: Vec<Declared<Quantity>>,
        _: Option<Duration>,
        report: &mut Report<'_>,
    ) -> Option<Box<dyn Driver>> {
        let mut sources = Vec::new();
        for channel in &channels {
            match source(channel) {
                Some(source) => sources.push(source),
                None => {
                    let names: Vec<_> = SOURCES.iter().map(|(name, _)| *name).collect();
                    let message = format!(
                        "missing key `source`, as \"{}\" is not one; there are {}",
                        channel.name,
                        names.join(", ")
                    );
                    report.at(&["channel", &channel.name, "source"], message);
                }
            }
        }
        Some(Box::new(Machine::new(&settings, sources)))
    }
}

/// What the channel reads: as it says, or as it is called.
fn source(channel: &Declared<Quantity>) -> Option<Source> {
    let named = || SOURCES.iter().find(|(name, _)| *name == channel.name).map(|(_, of)| *of);
    channel.own.source.or_else(named)
}

#[async_trait]
impl Driver for Machine {
    async fn open(&self) -> Result<Box<dyn Device>, Failure> {
        let mut machine = self.clone();
        machine.cpu = machine.stat();
        Ok(Box::new(machine))
    }
}

#[async_trait]
impl Device for Machine {
    /// Files of /proc and /sys are made while they are read and don't block.
    async fn read(&mut self, batch: &mut Batch) -> Result<(), Failure> {
        for (channel, source) in self.sources.clone().into_iter().enumerate() {
            match self.value(source) {
                Ok(Some(datum)) => batch.good(channel, datum),
                // Nothing to say yet.
                Ok(None) => {}
                Err(fault) => batch.push(channel, Value::Bad(fault)),
            }
        }
        Ok(())
    }
}

impl Machine {
    fn new(settings: &Settings, sources: Vec<Source>) -> Machine {
        let Settings { disk, root } = settings.clone();
        Machine { root, disk, sources, cpu: None }
    }

    fn has(&self, source: Source) -> bool {
        self.clone().value(source).is_ok()
    }

    fn value(&mut self, source: Source) -> Result<Option<Datum>, Fault> {
        let number = match source {
            Source::CpuTemperature => self.temperature()?,
            Source::CpuUsage => return self.usage(),
            Source::Load1m => self.load(0)?,
            Source::Load5m => self.load(1)?,
            Source::Load15m => self.load(2)?,
            Source::MemoryUsed => self.share_used("MemTotal:", "MemAvailable:")?,
            Source::MemoryAvailable => self.memory("MemAvailable:")? * 1024.0,
            Source::SwapUsed => self.share_used("SwapTotal:", "SwapFree:")?,
            Source::DiskUsed => self.disk_used()?,
            Source::DiskFree => self.disk_free()?,
            Source::Uptime => self.word("proc/uptime", 0)?,
            Source::Undervoltage => return self.throttled(0),
            Source::Throttled => return self.throttled(2),
        };
        Datum::number(number).map(Some).ok_or(Fault::Corrupt)
    }

    fn text(&self, path: &str) -> Result<String, Fault> {
        fs::read_to_string(self.root.join(path)).map_err(|error| crate::failure::fault(&error))
    }

    /// The number that is the `place`th word of a file.
    fn word(&self, path: &str, place: usize) -> Result<f64, Fault> {
        let text = self.text(path)?;
        let word = text.split_whitespace().nth(place);
        word.and_then(|word| word.parse().ok()).ok_or(Fault::Corrupt)
    }

    fn load(&self, place: usize) -> Result<f64, Fault> {
        self.word("proc/loadavg", place)
    }

    /// A line of /proc/meminfo, in KiB.
    fn memory(&self, name: &str) -> Result<f64, Fault> {
        let text = self.text("proc/meminfo")?;
        let line = text.lines().find_map(|line| line.strip_prefix(name)).ok_or(Fault::Absent)?;
        let word = line.split_whitespace().next();
        word.and_then(|word| word.parse().ok()).ok_or(Fault::Corrupt)
    }

    fn share_used(&self, whole: &str, free: &str) -> Result<f64, Fault> {
        let (whole, free) = (self.memory(whole)?, self.memory(free)?);
        // No swap: there is nothing to be used.
        if whole > 0.0 { Ok((whole - free) / whole * 100.0) } else { Err(Fault::Absent) }
    }

    /// Busy and whole time of all cores: proc(5), /proc/stat.
    fn stat(&self) -> Option<(u64, u64)> {
        let text = self.text("proc/stat").ok()?;
        let times: Vec<u64> = text
            .lines()
            .next()?
            .strip_prefix("cpu ")?
            .split_whitespace()
            // user, nice, system, idle, iowait, irq, softirq, steal; a guest's
            // time is in user's already.
            .take(8)
            .map_while(|word| word.parse().ok())
            .collect();
        let idle = times.get(3)? + times.get(4)?;
        let whole = times.iter().sum::<u64>();
        Some((whole - idle, whole))
    }

    fn usage(&mut self) -> Result<Option<Datum>, Fault> {
        let now = self.stat().ok_or(Fault::Absent)?;
        let (busy, whole) = self.cpu.replace(now).unwrap_or(now);
        let (busy, whole) = (now.0.saturating_sub(busy), now.1.saturating_sub(whole));
        Ok(if whole == 0 { None } else { Datum::number(busy as f64 / whole as f64 * 100.0) })
    }

    /// The thermal zone of the processor, or the first there is, or a hwmon chip
    /// of the processor's, in degrees. Both are in thousandths.
    fn temperature(&self) -> Result<f64, Fault> {
        let zones = self.entries("sys/class/thermal", "thermal_zone");
        let is = |zone: &&PathBuf, words: &[&str]| {
            let kind = fs::read_to_string(zone.join("type")).unwrap_or_default();
            words.iter().any(|word| kind.to_lowercase().contains(word))
        };
        let zone = zones.iter().find(|zone| is(zone, &["cpu", "soc", "x86_pkg"])).or(zones.first());
        let chips = self.entries("sys/class/hwmon", "hwmon");
        let chip = chips.iter().find(|chip| {
            let name = fs::read_to_string(chip.join("name")).unwrap_or_default();
            ["cpu", "soc", "coretemp", "k10temp"].iter().any(|word| name.contains(word))
        });
        let files = [zone.map(|zone| zone.join("temp")), chip.map(|c| c.join("temp1_input"))];
        let file = files.into_iter().flatten().find(|file| file.exists()).ok_or(Fault::Absent)?;
        let text = fs::read_to_string(file).map_err(|error| crate::failure::fault(&error))?;
        text.trim().parse::<f64>().map(|milli| milli / 1000.0).map_err(|_| Fault::Corrupt)
    }

    fn entries(&self, folder: &str, prefix: &str) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.root.join(folder)).into_iter().flatten();
        let mut paths: Vec<PathBuf> = entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| {
                path.file_name().is_some_and(|n| n.to_string_lossy().starts_with(prefix))
            })
            .collect();
        // thermal_zone2 before thermal_zone10.
        paths.sort_by_key(|path| (path.as_os_str().len(), path.clone()));
        paths
    }

    fn throttled(&self, bit: u32) -> Result<Option<Datum>, Fault> {
        let text = self.text(THROTTLED)?;
        let text = text.trim();
        let bits = u32::from_str_radix(text.strip_prefix("0x").unwrap_or(text), 16);
        let bits = bits.map_err(|_| Fault::Corrupt)?;
        Ok(Some(Datum::Boolean(bits >> bit & 1 == 1)))
    }

    /// The file system of `disk`, or of the nearest folder above that is there.
    fn file_system(&self) -> Result<rustix::fs::StatVfs, Fault> {
        let path = self.disk.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
        rustix::fs::statvfs(path).map_err(|error| crate::failure::fault(&io::Error::from(error)))
    }

    fn disk_free(&self) -> Result<f64, Fault> {
        let fs = self.file_system()?;
        Ok(fs.f_bavail as f64 * fs.f_frsize as f64)
    }

    fn disk_used(&self) -> Result<f64, Fault> {
        let fs = self.file_system()?;
        // As df: what root alone may use counts as neither used nor free.
        let used = fs.f_blocks.saturating_sub(fs.f_bfree) as f64;
        let whole = used + fs.f_bavail as f64;
        if whole > 0.0 { Ok(used / whole * 100.0) } else { Err(Fault::Absent) }
    }
}

#[cfg(test)]
mod tests {
    use serde::de::IntoDeserializer;
    use serde::de::value::{Error as NameError, StrDeserializer};

    use super::*;

    const STAT: &str = "cpu  100 0 50 800 50 0 0 0 0 0\ncpu0 1 2 3 4\n";

    fn machine() -> (tempfile::TempDir, Machine) {
        let folder = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        put("proc/loadavg", "0.52 0.58 0.59 1/233 12345\n");
        put("proc/uptime", "1830.39 2608.08\n");
        put("proc/stat", STAT);
        put(
            "proc/meminfo",
            "MemTotal: 1000 kB\nMemAvailable:    250 kB\nSwapTotal: 0 kB\nSwapFree: 0 kB\n",
        );
        put("sys/class/thermal/thermal_zone0/type", "iwlwifi\n");
        put("sys/class/thermal/thermal_zone0/temp", "30000\n");
        put("sys/class/thermal/thermal_zone1/type", "cpu-thermal\n");
        put("sys/class/thermal/thermal_zone1/temp", "48312\n");
        put(THROTTLED, "50005\n");
        let settings = Settings { disk: disk(), root: folder.path().to_owned() };
        let machine = Machine::new(&settings, Vec::new());
        (folder, machine)
    }

    #[test]
    fn every_source_is_read_as_the_kernel_writes_it() {
        let (folder, mut machine) = machine();
        let mut number = |source| match machine.value(source).unwrap() {
            Some(Datum::Number(number)) => number,
            other => panic!("{other:?}"),
        };
        assert_eq!(number(Source::CpuTemperature), 48.312);
        assert_eq!([number(Source::Load1m), number(Source::Load15m)], [0.52, 0.59]);
        assert_eq!(number(Source::MemoryUsed), 75.0);
        assert_eq!(number(Source::MemoryAvailable), 256_000.0);
        assert_eq!(number(Source::Uptime), 1830.39);
        assert!((0.0..=100.0).contains(&number(Source::DiskUsed)));
        assert!(number(Source::DiskFree) > 0.0);
        assert_eq!(machine.value(Source::SwapUsed), Err(Fault::Absent));
        assert_eq!(machine.value(Source::Undervoltage), Ok(Some(true.into())));
        assert_eq!(machine.value(Source::CpuUsage), Ok(None), "the first time there is no last");
        let later = STAT.replace("100 0 50 800", "130 0 60 860");
        fs::write(folder.path().join("proc/stat"), later).unwrap();
        assert_eq!(machine.value(Source::CpuUsage), Ok(Datum::number(40.0)));
    }

    #[test]
    fn only_what_is_there_is_a_channel_by_default() {
        let (folder, machine) = machine();
        let names = |machine: &Machine| -> Vec<String> {
            let settings = Settings { disk: disk(), root: machine.root.clone() };
            System::defaults(&settings).into_iter().map(|channel| channel.name).collect()
        };
        let all = SOURCES.len();
        assert_eq!(names(&machine).len(), all - 1, "all but swap");
        fs::remove_dir_all(folder.path().join("sys")).unwrap();
        assert_eq!(names(&machine).len(), all - 4, "no temperature, no firmware");
    }

    #[test]
    fn names_and_sources_are_the_same_words() {
        for (name, source) in SOURCES {
            let name: StrDeserializer<'_, NameError> = (*name).into_deserializer();
            assert_eq!(Source::deserialize(name).unwrap(), *source);
        }
    }
}
