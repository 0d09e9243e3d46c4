//! Chips for which the kernel has a driver of Linux Industrial I/O: DHT11 and
//! DHT22, BME280, ADS1115 and hundreds more.
//!
//! The files and their units: the kernel's
//! Documentation/ABI/testing/sysfs-bus-iio.

use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use reading::Kind;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::iio::{Buffer, Column, LENGTH_MAX, Wanted};
use crate::kind::{Declared, Kinded, Pace};
use crate::scan::entries;
use crate::settings::Report;
use crate::sysfs::{self, Chips, Item, Place};
use crate::worker::Worker;
use crate::{Device, Driver, Failure};

/// The driver.
pub(crate) struct Iio;

/// Its own keys of `[device.NAME]`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    /// Which one: its name ("bme280"), its label, its place on its bus
    /// ("1-0076") or its entry ("iio:device0"); by default the only one.
    device: Option<String>,
    /// How many measurements the kernel keeps between two questions: with it the
    /// chip measures at the pace of its trigger, and each comes with its own time.
    buffer: Option<u32>,
    /// With `buffer`: the name of the trigger that makes it measure; by default the
    /// one that is set.
    trigger: Option<String>,
    /// Where /sys is.
    #[serde(default = "sysfs::root")]
    root: PathBuf,
}

/// A channel's own keys.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Quantity {
    /// What to read, as the kernel calls it: "temp", "humidityrelative",
    /// "voltage0"; the channel's own name by default.
    source: Option<String>,
}

const PLACE: Place =
    Place { folder: "sys/bus/iio/devices", start: "iio:device", key: "device", what: "IIO device" };

/// The kernel's name of a quantity, what it is to people, the unit we give it
/// in, and the factor from the kernel's to ours.
type Quantified = (&'static str, &'static str, Option<&'static str>, f64);

/// Of those that fit the longest counts.
const QUANTITIES: &[Quantified] = &[
    ("accel", "acceleration", Some("m/s2"), 1.0),
    ("angl", "angle", Some("rad"), 1.0),
    ("anglvel", "angular-velocity", Some("rad/s"), 1.0),
    ("capacitance", "capacitance", Some("nF"), 1.0),
    ("concentration", "concentration", Some("%"), 1.0),
    // Air's are so small that nobody says them in percent.
    ("concentration_co2", "co2", Some("ppm"), 1e4),
    ("concentration_voc", "voc", Some("ppm"), 1e4),
    ("count", "count", None, 1.0),
    ("current", "current", Some("A"), 1e-3),
    ("distance", "distance", Some("m"), 1.0),
    ("electricalconductivity", "conductivity", Some("S/m"), 1.0),
    ("energy", "energy", Some("J"), 1.0),
    ("gravity", "gravity", Some("m/s2"), 1.0),
    ("humidityrelative", "humidity", Some("%RH"), 1e-3),
    ("illuminance", "illuminance", Some("lx"), 1.0),
    ("incli", "inclination", Some("deg"), 1.0),
    ("intensity", "intensity", None, 1.0),
    ("magn", "magnetic-field", Some("G"), 1.0),
    ("massconcentration", "mass-concentration", Some("ug/m3"), 1.0),
    ("ph", "ph", Some("pH"), 1.0),
    ("power", "power", Some("W"), 1e-3),
    // The kernel's is kPa; forecasts have hPa.
    ("pressure", "pressure", Some("hPa"), 10.0),
    ("proximity", "proximity", None, 1.0),
    ("resistance", "resistance", Some("Ohm"), 1.0),
    ("rot", "rotation", Some("deg"), 1.0),
    ("temp", "temperature", Some("Cel"), 1e-3),
    ("uvindex", "uv-index", None, 1.0),
    ("voltage", "voltage", Some("V"), 1e-3),
];

/// The quantity of a source and what stands behind it: its number, its axis.
fn quantity(source: &str) -> Option<(&'static Quantified, &str)> {
    let fits = QUANTITIES.iter().filter_map(|quantity| {
        let rest = source.strip_prefix(quantity.0)?;
        // "anglvel" is no "angl".
        (!rest.starts_with(|c: char| c.is_ascii_lowercase())).then_some((quantity, rest))
    });
    fits.max_by_key(|(quantity, _)| quantity.0.len())
}

/// The kernel's name of what a channel reads.
fn source(channel: &Declared<Quantity>) -> String {
    let own = channel.own.source.clone();
    own.unwrap_or_else(|| {
        // A channel `humidity` is the kernel's `humidityrelative`.
        let fits = QUANTITIES.iter().filter_map(|(kernel, name, ..)| {
            let rest = channel.name.strip_prefix(name)?;
            (!rest.starts_with(|c: char| c.is_ascii_lowercase())).then(|| format!("{kernel}{rest}"))
        });
        fits.max_by_key(String::len).unwrap_or_else(|| channel.name.clone())
    })
}

/// What people call a source: `humidityrelative` is `humidity`.
fn name(source: &str) -> String {
    match quantity(source) {
        Some(((_, name, ..), rest)) => format!("{name}{rest}"),
        None => source.to_owned(),
    }
    .to_ascii_lowercase()
}

/// What a device measures.
pub(crate) fn sources(path: &Path) -> Vec<String> {
    let mut sources: Vec<String> = entries(path, "in_")
        .into_iter()
        .filter_map(|(file, _)| {
            let source = file.strip_prefix("in_")?;
            let source = source.strip_suffix("_input").or_else(|| source.strip_suffix("_raw"))?;
            Some(source.to_owned())
        })
        // What the chip remembers of a channel is no channel.
        .filter(|source| !source.ends_with("_mean") && !source.ends_with("_peak"))
        .collect();
    sources.sort();
    sources.dedup();
    sources
}

/// The files of a source: processed, or raw with scale and offset. `None` when
/// there is neither.
fn item(path: &Path, source: &str) -> Option<Item> {
    let Column { offset, scale, factor, .. } = column(path, source);
    let input = path.join(format!("in_{source}_input"));
    if input.exists() {
        return Some(Item::Number { file: input, offset: None, scale: None, factor });
    }
    let raw = path.join(format!("in_{source}_raw"));
    let there = raw.exists();
    there.then_some(Item::Number { file: raw, offset, scale, factor })
}

/// Scale and offset of a source's raw numbers, which the channels of one quantity
/// may share.
fn column(path: &Path, source: &str) -> Column {
    let factor = quantity(source).map_or(1.0, |((.., factor), _)| *factor);
    let without_number: String = source.chars().filter(|c| !c.is_ascii_digit()).collect();
    let quantity = source.split(|c: char| c == '_' || c.is_ascii_digit()).next().unwrap_or(source);
    let shared = |what: &str| {
        let of = [source, &without_number, quantity];
        let files = of.map(|of| path.join(format!("in_{of}_{what}")));
        files.into_iter().chain([path.join(format!("in_{what}"))]).find(|file| file.exists())
    };
    let (offset, scale) = (shared("offset"), shared("scale"));
    Column { source: source.to_owned(), offset, scale, factor }
}

impl Kinded for Iio {
    const NAME: &'static str = "iio";
    const SUMMARY: &'static str =
        "chips that the kernel reads itself: DHT11, DHT22, BME280, ADS1115 and others";
    const SAMPLE: &'static str = r#"[device.room]
driver = "iio"
device = "bme280"            # or a label, "1-0076" (its place on the bus), "iio:device0"; by default the only one
poll = "10s"
# buffer = 256               # what the kernel keeps between two polls; needs a chip with a buffer
# trigger = "every-10ms"     # with buffer: what makes it measure; by default the one that is set
# root = "/"                 # where /sys is

[device.room.channel]        # without it: all that the chip has when the gateway starts
temperature = { source = "temp", range = [-40, 85] }   # the kernel's name; without it, the channel's own
humidity    = { label = "humidity" }
pressure    = {}
"#;
    const PACE: Pace = Pace::Asked(Duration::from_secs(10));
    type Settings = Settings;
    type Channel = Quantity;

    /// All that the chip has. One that isn't there yet may come: then there is
    /// one channel, so that its absence can be told.
    fn defaults(settings: &Settings) -> Vec<Declared<Quantity>> {
        let found = PLACE.find(&settings.root, settings.device.as_deref());
        let mut sources = found.map(|path| sources(&path)).unwrap_or_default();
        if sources.is_empty() {
            sources.push("temp".to_owned());
        }
        let declared = sources
            .into_iter()
            .map(|source| Declared::new(name(&source), Quantity { source: Some(source) }));
        declared.collect()
    }

    fn kind(channel: &Declared<Quantity>) -> Result<Kind, String> {
        channel.always(Kind::Number)
    }

    fn unit(channel: &Declared<Quantity>) -> Option<&'static str> {
        quantity(&source(channel)).and_then(|((_, _, unit, _), _)| *unit)
    }

    fn build(
        settings: Settings,
        channels: Vec<Declared<Quantity>>,
        _: Option<Duration>,
        report: &mut Report<'_>,
    ) -> Option<Box<dyn Driver>> {
        for channel in &channels {
            let given = channel.own.source.as_deref().unwrap_or_default();
            if given.contains('/') || given.starts_with("in_") {
                let message = "expected the kernel's name without in_ and _raw, such as \"temp\" or \"voltage0\"";
                report.at(&["channel", &channel.name, "source"], message);
            }
        }
        if settings.buffer.is_some_and(|length| !(2..=LENGTH_MAX).contains(&length)) {
            report.at(&["buffer"], format!("expected 2 to {LENGTH_MAX} measurements"));
        }
        if settings.trigger.is_some() && settings.buffer.is_none() {
            report.at(&["trigger"], "only with `buffer`, such as buffer = 256");
        }
        let chips = Chips {
            place: &PLACE,
            root: settings.root,
            wanted: settings.device,
            sources: channels.iter().map(source).collect(),
            item,
            has: sources,
            worker: Worker::default(),
        };
        Some(match settings.buffer {
            Some(length) => Box::new(Buffered { chips, length, trigger: settings.trigger }),
            None => Box::new(chips),
        })
    }
}

/// A chip that measures at the pace of its trigger.
struct Buffered {
    chips: Chips,
    length: u32,
    trigger: Option<String>,
}

#[async_trait]
impl Driver for Buffered {
    async fn open(&self) -> Result<Box<dyn Device>, Failure> {
        let (chip, _) = self.chips.find()?;
        let entry = chip.file_name().unwrap_or_default();
        let wanted = Wanted {
            file: self.chips.root.join("dev").join(entry),
            columns: self.chips.sources.iter().map(|source| column(&chip, source)).collect(),
            length: self.length,
            trigger: self.trigger.clone(),
            chip,
        };
        Ok(Box::new(Buffer::start(wanted, self.chips.worker.clone()).await?))
    }
}

#[cfg(test)]
mod tests {
    use reading::{Datum, Fault, Value};

    use super::*;
    use crate::sysfs::tree;
    use crate::{Batch, Config};

    /// A BME280, an ADS1115 and a DHT11 as their drivers in Linux 6.6 show them.
    const BME280: &[(&str, &str)] = &[
        ("sys/bus/iio/devices/iio:device0/name", "bme280\n"),
        ("sys/bus/iio/devices/iio:device0/in_temp_input", "21870\n"),
        ("sys/bus/iio/devices/iio:device0/in_humidityrelative_input", "46513\n"),
        ("sys/bus/iio/devices/iio:device0/in_pressure_input", "100.563199218\n"),
        ("sys/bus/iio/devices/iio:device0/in_temp_oversampling_ratio", "2\n"),
    ];
    const ADS1115: &[(&str, &str)] = &[
        ("sys/bus/iio/devices/iio:device1/name", "ads1015\n"),
        ("sys/bus/iio/devices/iio:device1/in_voltage0_raw", "13200\n"),
        ("sys/bus/iio/devices/iio:device1/in_voltage0_scale", "0.125000000\n"),
        ("sys/bus/iio/devices/iio:device1/in_voltage0-voltage1_raw", "-100\n"),
        ("sys/bus/iio/devices/iio:device1/in_voltage-voltage_scale", "0.0625\n"),
        ("sys/bus/iio/devices/iio:device1/in_temp_raw", "296\n"),
        ("sys/bus/iio/devices/iio:device1/in_temp_offset", "-80\n"),
        ("sys/bus/iio/devices/iio:device1/in_temp_scale", "125\n"),
        ("sys/bus/iio/devices/iio:device1/in_accel_x_raw", "1000\n"),
        ("sys/bus/iio/devices/iio:device1/in_accel_scale", "0.009806\n"),
    ];

    fn config(root: &Path, rest: &str) -> Config {
        let text = format!("driver = 'iio'\nroot = '{}'\n{rest}", root.display());
        let mut errors = Vec::new();
        let config = Config::parse("x", toml::de::DeTable::parse(&text).unwrap(), &mut errors);
        assert_eq!(errors, []);
        config.unwrap()
    }

    async fn values(config: &Config) -> Vec<(String, String, Value)> {
        let mut device = config.driver.open().await.unwrap();
        let mut batch = Batch::default();
        device.read(&mut batch).await.unwrap();
        let specs = config.channels();
        let one = |sample: crate::Sample| {
            let spec = &specs[sample.channel];
            (spec.channel.name().to_owned(), spec.unit.as_str().to_owned(), sample.value)
        };
        batch.samples.into_iter().map(one).collect()
    }

    fn shown(values: &[(String, String, Value)]) -> String {
        let one = |(name, unit, value): &(String, String, Value)| match value.number() {
            Some(number) => format!("{name} {number:.4} {unit}"),
            None => format!("{name} {}", value.reason().unwrap_or_default()),
        };
        values.iter().map(one).collect::<Vec<_>>().join("\n")
    }

    #[tokio::test]
    async fn a_chip_shows_all_it_has_in_units_of_people() {
        let root = tree(&[BME280, ADS1115].concat());
        let bme280 = config(root.path(), "device = 'bme280'");
        let expected = "humidity 46.5130 %RH\npressure 1005.6320 hPa\ntemperature 21.8700 Cel";
        assert_eq!(shown(&values(&bme280).await), expected);
        let ads = config(root.path(), "device = 'iio:device1'");
        expect_test::expect![[r#"
            acceleration_x 9.8060 m/s2
            temperature 27.0000 Cel
            voltage0 1.6500 V
            voltage0-voltage1 -0.0063 V"#]]
        .assert_eq(&shown(&values(&ads).await));
    }

    #[tokio::test]
    async fn declared_channels_go_by_either_name() {
        let root = tree(BME280);
        let text = "[channel]\nhumidity = {}\ntemp = {}\nair = { source = 'pressure', unit = 'mbar' }\nco2 = {}";
        let values = values(&config(root.path(), text)).await;
        let expected = "humidity 46.5130 %RH\ntemp 21.8700 Cel\nair 1005.6320 mbar\nco2 absent";
        assert_eq!(shown(&values), expected);
    }

    #[tokio::test]
    async fn a_chip_that_is_gone_is_lost_and_one_that_comes_later_is_found() {
        let root = tree(&[]);
        let later = config(root.path(), "device = 'bme280'");
        assert_eq!(later.channels().len(), 1, "one that can tell of the absence");
        assert_eq!(later.driver.open().await.err().unwrap().fault, Fault::Absent);
        for (path, text) in BME280 {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let mut device = later.driver.open().await.unwrap();
        let mut batch = Batch::default();
        device.read(&mut batch).await.unwrap();
        assert_eq!(batch.samples[0].value, Value::Good(Datum::Number(21.87)));
        std::fs::remove_dir_all(root.path().join("sys")).unwrap();
        assert_eq!(device.read(&mut batch).await.unwrap_err().fault, Fault::Absent);
        let wrong = tree(ADS1115);
        let config = config(wrong.path(), "[channel]\nhumidity = {}");
        let failure = config.driver.open().await.err().unwrap();
        assert!(failure.detail.contains("has no humidityrelative; it has accel_x"), "{failure}");
    }

    /// An accelerometer with a trigger: a pipe is its file, and what is written to
    /// it what the kernel would have kept.
    #[tokio::test]
    async fn a_buffer_gives_every_measurement_with_its_own_time() {
        const CHIP: &str = "sys/bus/iio/devices/iio:device0";
        let file = |name: &str| format!("{CHIP}/{name}");
        let mut files = vec![
            (file("name"), "lis2dh12\n"),
            (file("in_accel_x_raw"), "0\n"),
            (file("in_accel_y_raw"), "0\n"),
            (file("in_accel_scale"), "0.0095\n"),
            (file("buffer/enable"), "1\n"),
            (file("buffer/length"), "2\n"),
            (file("trigger/current_trigger"), "\n"),
            (file("current_timestamp_clock"), "monotonic\n"),
            ("sys/bus/iio/devices/trigger0/name".to_owned(), "every-10ms\n"),
        ];
        let elements = [
            ("accel_x", "le:s12/16>>4"),
            ("accel_y", "le:s12/16>>4"),
            ("accel_z", "le:s12/16>>4"),
            ("timestamp", "le:s64/64>>0"),
        ];
        for (index, (name, kind)) in elements.iter().enumerate() {
            let at = |what: &str| file(&format!("scan_elements/in_{name}_{what}"));
            files.push((at("en"), "1\n"));
            files.push((at("type"), kind));
            files.push((at("index"), ["0\n", "1\n", "2\n", "3\n"][index]));
        }
        let files: Vec<(&str, &str)> =
            files.iter().map(|(path, text)| (path.as_str(), *text)).collect();
        let root = tree(&files);
        std::fs::create_dir(root.path().join("dev")).unwrap();
        let pipe = root.path().join("dev/iio:device0");
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        let text = "buffer = 4\ntrigger = 'every-10ms'\n[channel]\n\
                    y = { source = 'accel_y' }\nx = { source = 'accel_x' }";
        let config = config(root.path(), text);
        let mut device = config.driver.open().await.unwrap();
        let read = |name: &str| std::fs::read_to_string(root.path().join(file(name))).unwrap();
        let set = [
            "buffer/enable",
            "buffer/length",
            "trigger/current_trigger",
            "current_timestamp_clock",
            "scan_elements/in_accel_x_en",
            "scan_elements/in_accel_z_en",
            "scan_elements/in_timestamp_en",
        ]
        .map(read);
        assert_eq!(set, ["1", "4", "every-10ms", "realtime", "1\n", "0", "1\n"]);

        let mut batch = Batch::default();
        device.read(&mut batch).await.unwrap();
        assert!(batch.samples.is_empty(), "nothing yet");
        let mut kernel = std::fs::OpenOptions::new().write(true).open(&pipe).unwrap();
        // x, y, four bytes of nothing, and the time: 16 bytes a scan.
        let scan = |x: i16, y: i16, nanos: i64| {
            let axes = [(x << 4).to_le_bytes(), (y << 4).to_le_bytes(), [0; 2], [0; 2]].concat();
            [axes, nanos.to_le_bytes().to_vec()].concat()
        };
        let first = 1_764_000_000_000_000_000;
        let bytes = [scan(1000, -1000, first), scan(-2048, 2047, first + 10_000_000)].concat();
        use std::io::Write;
        kernel.write_all(&bytes[..24]).unwrap();
        device.read(&mut batch).await.unwrap();
        kernel.write_all(&bytes[24..]).unwrap();
        device.read(&mut batch).await.unwrap();
        let samples: Vec<String> = batch
            .samples
            .drain(..)
            .map(|sample| {
                let (at, number) = (sample.at.unwrap(), sample.value.number().unwrap());
                format!("{} {number:.3} {at}", sample.channel)
            })
            .collect();
        assert_eq!(
            samples,
            [
                "0 -9.500 2025-11-24T16:00:00.000000Z",
                "1 9.500 2025-11-24T16:00:00.000000Z",
                "0 19.447 2025-11-24T16:00:00.010000Z",
                "1 -19.456 2025-11-24T16:00:00.010000Z",
            ]
        );
        kernel.write_all(&scan(1, 1, first)).unwrap();
        device.finish(&mut batch);
        assert_eq!(batch.samples.len(), 2, "what the kernel still keeps");
        drop(device);
        assert_eq!(read("buffer/enable"), "0", "it stops with the device");
        std::fs::remove_dir_all(root.path().join(CHIP).join("scan_elements")).unwrap();
        let without = config.driver.open().await.err().unwrap();
        assert!(without.detail.ends_with("has no buffer: leave `buffer` out"), "{without}");
    }
}
