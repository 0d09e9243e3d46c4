//! The machine the gateway runs on: temperature, load, memory, disk, network, and
//! what a Raspberry Pi's firmware says of its supply.

use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, io};

use async_trait::async_trait;
use reading::{Datum, Fault, Kind, Value};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::kind::{Declared, Kinded, Pace};
use crate::scan::{attribute, entries};
use crate::settings::Report;
use crate::sysfs;
use crate::{Batch, Device, Driver, Failure};

/// The driver.
pub(crate) struct System;

/// Its own keys of `[device.NAME]`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    /// A path on the file system to watch; by default where the store is.
    #[serde(default = "disk")]
    disk: PathBuf,
    /// The network interface to watch, such as "eth0"; by default the one that
    /// leads to the world.
    interface: Option<String>,
    /// Where /sys and /proc are.
    #[serde(default = "sysfs::root")]
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
    /// How much of an eMMC's life is used up at most, in percent, as its maker
    /// reckons; an SD card doesn't say.
    DiskLifeUsed,
    /// An eMMC has used up most of its spare blocks.
    DiskEndOfLife,
    /// Bytes received since the boot.
    NetworkReceived,
    /// Bytes sent since the boot.
    NetworkSent,
    /// Packets that were damaged or could not be sent, since the boot.
    NetworkErrors,
    /// The interface has a link.
    NetworkUp,
    /// Seconds since the boot.
    Uptime,
    /// Of a Raspberry Pi: the supply is too weak, now.
    Undervoltage,
    /// Of a Raspberry Pi: the processor is slowed down, now.
    Throttled,
    /// Of a Raspberry Pi: the processor may not run at full speed, now.
    FrequencyCapped,
    /// Of a Raspberry Pi: it is so hot that the firmware acts, now.
    TemperatureLimited,
    /// Of a Raspberry Pi: the supply has been too weak since the boot.
    UndervoltageSinceBoot,
    /// Of a Raspberry Pi: the processor has been slowed down since the boot.
    ThrottledSinceBoot,
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
    ("disk_life_used", Source::DiskLifeUsed),
    ("disk_end_of_life", Source::DiskEndOfLife),
    ("network_received", Source::NetworkReceived),
    ("network_sent", Source::NetworkSent),
    ("network_errors", Source::NetworkErrors),
    ("network_up", Source::NetworkUp),
    ("uptime", Source::Uptime),
    ("undervoltage", Source::Undervoltage),
    ("throttled", Source::Throttled),
    ("frequency_capped", Source::FrequencyCapped),
    ("temperature_limited", Source::TemperatureLimited),
    ("undervoltage_since_boot", Source::UndervoltageSinceBoot),
    ("throttled_since_boot", Source::ThrottledSinceBoot),
];

/// Bits of what a Raspberry Pi's firmware says of itself: Raspberry Pi's
/// documentation of `vcgencmd get_throttled`.
impl Source {
    fn bit(self) -> Option<u32> {
        Some(match self {
            Source::Undervoltage => 0,
            Source::FrequencyCapped => 1,
            Source::Throttled => 2,
            Source::TemperatureLimited => 3,
            Source::UndervoltageSinceBoot => 16,
            Source::ThrottledSinceBoot => 18,
            _ => return None,
        })
    }

    fn is_boolean(self) -> bool {
        self.bit().is_some() || matches!(self, Source::DiskEndOfLife | Source::NetworkUp)
    }
}

#[derive(Clone)]
struct Machine {
    root: PathBuf,
    disk: PathBuf,
    /// As the settings have it, or as it was found.
    interface: Option<String>,
    /// The settings have it.
    fixed: bool,
    sources: Vec<Source>,
    /// Busy and whole time of the processor at the last reading.
    cpu: Option<(u64, u64)>,
}

impl Kinded for System {
    const NAME: &'static str = "system";
    const SUMMARY: &'static str =
        "the machine itself: temperature, load, memory, disk, network, supply";
    const SAMPLE: &'static str = r#"[device.machine]
driver = "system"
poll = "5s"                  # how often it is read
# disk = "/var/lib/tidemill" # a path on the file system to watch; by default where the store is
# interface = "eth0"         # by default the one that leads to the world
# root = "/"                 # where /sys and /proc are

[device.machine.channel]     # without it: all that this machine has
cpu_temperature = { range = [-20, 120] }   # also cpu_usage, load_1m, load_5m, load_15m
memory_used     = { label = "memory" }     # also memory_available, swap_used
disk_free       = {}                       # also disk_used; of an eMMC disk_life_used, disk_end_of_life
uplink          = { source = "network_up" }     # also network_received, network_sent, network_errors
weak_supply     = { source = "undervoltage" }   # of a Raspberry Pi; also throttled, frequency_capped,
# temperature_limited, undervoltage_since_boot, throttled_since_boot; of any machine uptime
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
            Some(source) if source.is_boolean() => Kind::Boolean,
            _ => Kind::Number,
        })
    }

    fn unit(channel: &Declared<Quantity>) -> Option<&'static str> {
        match source(channel)? {
            Source::CpuTemperature => Some("Cel"),
            Source::CpuUsage
            | Source::MemoryUsed
            | Source::SwapUsed
            | Source::DiskUsed
            | Source::DiskLifeUsed => Some("%"),
            Source::MemoryAvailable
            | Source::DiskFree
            | Source::NetworkReceived
            | Source::NetworkSent => Some("B"),
            Source::Uptime => Some("s"),
            Source::NetworkErrors => Some("1"),
            _ => None,
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
        let Settings { disk, root, interface } = settings.clone();
        Machine { root, disk, fixed: interface.is_some(), interface, sources, cpu: None }
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
            Source::DiskLifeUsed => self.life_used()?,
            Source::DiskEndOfLife => return Ok(Some(self.is_worn_out()?.into())),
            Source::NetworkReceived => self.network("statistics/rx_bytes")?,
            Source::NetworkSent => self.network("statistics/tx_bytes")?,
            Source::NetworkErrors => {
                self.network("statistics/rx_errors")? + self.network("statistics/tx_errors")?
            }
            Source::NetworkUp => return Ok(Some(self.is_up()?.into())),
            Source::Undervoltage
            | Source::Throttled
            | Source::FrequencyCapped
            | Source::TemperatureLimited
            | Source::UndervoltageSinceBoot
            | Source::ThrottledSinceBoot => return self.firmware(source),
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

    fn entries(&self, folder: &str, start: &str) -> Vec<PathBuf> {
        entries(&self.root.join(folder), start).into_iter().map(|(_, path)| path).collect()
    }

    /// What a Raspberry Pi's firmware says, as hexadecimal bits; or the alarm that
    /// the kernel makes of the supply's.
    fn firmware(&self, source: Source) -> Result<Option<Datum>, Fault> {
        // `soc/soc:firmware`, and with the bus's address on a Pi 5.
        let platform = self.entries("sys/devices/platform", "soc").into_iter();
        let file = platform
            .flat_map(|soc| entries(&soc, ""))
            .filter(|(name, _)| name.ends_with("firmware"))
            .map(|(_, path)| path.join("get_throttled"))
            .find(|file| file.exists());
        if let (Some(file), Some(bit)) = (file, source.bit()) {
            let text = sysfs::text(&file)?;
            let bits = u32::from_str_radix(text.strip_prefix("0x").unwrap_or(&text), 16);
            let bits = bits.map_err(|_| Fault::Corrupt)?;
            return Ok(Some(Datum::Boolean(bits >> bit & 1 == 1)));
        }
        let mut chips = self.entries("sys/class/hwmon", "hwmon").into_iter();
        match chips.find(|chip| attribute(chip, "name").as_deref() == Some("rpi_volt")) {
            Some(chip) if source == Source::Undervoltage => {
                let alarm = sysfs::number(&chip.join("in0_lcrit_alarm"))?;
                Ok(Some(Datum::Boolean(alarm != 0.0)))
            }
            _ => Err(Fault::Absent),
        }
    }

    /// A file of the interface's folder.
    fn network(&mut self, file: &str) -> Result<f64, Fault> {
        sysfs::number(&self.interface()?.join(file))
    }

    /// The kernel's Documentation/ABI/testing/sysfs-class-net, "operstate"; a
    /// tunnel doesn't know.
    fn is_up(&mut self) -> Result<bool, Fault> {
        let state = sysfs::text(&self.interface()?.join("operstate"))?;
        Ok(matches!(state.as_str(), "up" | "unknown"))
    }

    /// The interface's folder. One that was found stays the one, or its counters
    /// would jump; until it is gone.
    fn interface(&mut self) -> Result<PathBuf, Fault> {
        let folder = self.root.join("sys/class/net");
        if let Some(path) = self.interface.as_ref().map(|name| folder.join(name))
            && path.exists()
        {
            return Ok(path);
        }
        if self.fixed {
            return Err(Fault::Absent);
        }
        let found = self.default_route().ok_or(Fault::Absent)?;
        let path = folder.join(&found);
        self.interface = Some(found);
        Ok(path)
    }

    /// The interface of the default route that counts least: proc(5),
    /// /proc/net/route.
    fn default_route(&self) -> Option<String> {
        let text = self.text("proc/net/route").ok()?;
        let routes = text.lines().skip(1).filter_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let [name, "00000000", _, _, _, _, metric, ..] = fields[..] else { return None };
            Some((metric.parse::<u32>().ok()?, name.to_owned()))
        });
        routes.min().map(|(_, name)| name)
    }

    /// JEDEC 84-B51, EXT_CSD 268 and 269: tenths of its life, of each of its two
    /// kinds of cells; 11 is beyond.
    fn life_used(&self) -> Result<f64, Fault> {
        let text = sysfs::text(&self.emmc("life_time")?)?;
        let tenths = text.split_whitespace().map(|word| {
            u8::from_str_radix(word.trim_start_matches("0x"), 16).map_err(|_| Fault::Corrupt)
        });
        match tenths.collect::<Result<Vec<u8>, Fault>>()?.into_iter().max() {
            Some(tenths @ 1..=11) => Ok(f64::from(tenths) * 10.0),
            _ => Err(Fault::Absent),
        }
    }

    /// JEDEC 84-B51, EXT_CSD 267: 2 and 3 say that 80 and 90 % of the spare blocks
    /// are in use.
    fn is_worn_out(&self) -> Result<bool, Fault> {
        let text = sysfs::text(&self.emmc("pre_eol_info")?)?;
        match u8::from_str_radix(text.trim_start_matches("0x"), 16) {
            Ok(0) => Err(Fault::Absent),
            Ok(state) => Ok(state > 1),
            Err(_) => Err(Fault::Corrupt),
        }
    }

    /// A file of the first eMMC.
    fn emmc(&self, file: &str) -> Result<PathBuf, Fault> {
        let cards = self.entries("sys/block", "mmcblk").into_iter();
        let mut files = cards.map(|card| card.join("device").join(file));
        files.find(|file| file.exists()).ok_or(Fault::Absent)
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
mod tests;
