//! Parts on an I2C bus that the gateway speaks to itself, where the kernel has no
//! driver or nobody loads it.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use reading::{Datum, Fault, Kind, Value};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Unexpected, Visitor};
use serde::{Deserialize, Deserializer};
use tokio::time::sleep;

use crate::i2c::{
    self, Ads1115, Bme280, FULL_SCALES, Ina219, Input, Part, RATES, Scd4x, Sht31, Trouble, Variant,
    Wire,
};
use crate::kind::{Declared, Kinded, Pace};
use crate::settings::Report;
use crate::worker::Worker;
use crate::{Batch, Device, Driver, Failure};

/// The driver.
pub(crate) struct I2c;

/// Long wires garble a byte now and then: what fails is asked again at once.
const TRIES: usize = 3;
/// A part that was just busy is not a moment later.
const AGAIN: Duration = Duration::from_millis(10);
/// The addresses outside are the bus's own: I2C specification (UM10204), 3.1.12.
const ADDRESSES: std::ops::RangeInclusive<u8> = 0x08..=0x77;

/// Its own keys of `[device.NAME]`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    /// Which part it is.
    part: Chip,
    /// The bus: its number, or its path.
    #[serde(default)]
    bus: Bus,
    /// The part's address, such as 0x76; by default the one it has when nothing
    /// else is wired.
    address: Option<u8>,
    /// Of an ads1115: samples a second, 128 by default; the slower the less
    /// noise.
    rate: Option<u16>,
    /// Of an ina219: the resistor that the current flows through, in ohms; 0.1
    /// by default.
    shunt: Option<f64>,
    /// Of an scd4x: how high above the sea it is, in metres; CO2 depends on it.
    altitude: Option<u16>,
    /// Of an scd4x: whether it takes the least it has seen in a week for fresh
    /// air, as it does by default; false where there never is any.
    self_calibration: Option<bool>,
}

/// A part that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Chip {
    /// Temperature, humidity and pressure.
    Bme280,
    /// Temperature and pressure.
    Bmp280,
    /// Temperature and humidity; also SHT30 and SHT35.
    #[serde(alias = "sht30", alias = "sht35")]
    Sht31,
    /// Four analogue inputs.
    Ads1115,
    /// CO2, temperature and humidity: SCD40 and SCD41.
    #[serde(alias = "scd40", alias = "scd41")]
    Scd4x,
    /// Voltage, current and power of a supply.
    Ina219,
}

/// What is known of a part before it is spoken to.
struct About {
    name: &'static str,
    /// All it can have; the first is the usual one.
    addresses: &'static [u8],
    /// What it measures; the first are its channels when the file has none.
    sources: &'static [&'static str],
    defaults: usize,
}

const INA219_ADDRESSES: &[u8] = &[
    0x40, 0x41, 0x42, 0x43, 0x44, 0x45, 0x46, 0x47, 0x48, 0x49, 0x4a, 0x4b, 0x4c, 0x4d, 0x4e, 0x4f,
];

impl Chip {
    fn about(self) -> About {
        const fn about(
            name: &'static str,
            addresses: &'static [u8],
            sources: &'static [&'static str],
            defaults: usize,
        ) -> About {
            About { name, addresses, sources, defaults }
        }
        match self {
            Chip::Bme280 => {
                about("bme280", &[0x76, 0x77], &["temperature", "humidity", "pressure"], 3)
            }
            Chip::Bmp280 => about("bmp280", &[0x76, 0x77], &["temperature", "pressure"], 2),
            Chip::Sht31 => about("sht31", &[0x44, 0x45], &["temperature", "humidity"], 2),
            Chip::Ads1115 => about(
                "ads1115",
                &[0x48, 0x49, 0x4a, 0x4b],
                &["a0", "a1", "a2", "a3", "a0-a1", "a0-a3", "a1-a3", "a2-a3"],
                4,
            ),
            Chip::Scd4x => about("scd4x", &[0x62], &["co2", "temperature", "humidity"], 3),
            Chip::Ina219 => about(
                "ina219",
                INA219_ADDRESSES,
                &["voltage", "current", "power", "shunt_voltage"],
                3,
            ),
        }
    }
}

/// A channel's own keys.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Quantity {
    /// What to read: "temperature", "a0", "a0-a1"; the channel's own name by
    /// default.
    source: Option<String>,
    /// Of an ads1115: the volts that the greatest number stands for; 4.096 by
    /// default.
    full_scale: Option<f64>,
}

fn source(channel: &Declared<Quantity>) -> &str {
    channel.own.source.as_deref().unwrap_or(&channel.name)
}

/// A bus, by number or by path.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Bus(String);

impl Default for Bus {
    fn default() -> Bus {
        Bus("/dev/i2c-1".to_owned())
    }
}

impl Kinded for I2c {
    const NAME: &'static str = "i2c";
    const SUMMARY: &'static str =
        "parts on an I2C bus: BME280, BMP280, SHT31, ADS1115, SCD40, SCD41, INA219";
    const SAMPLE: &'static str = r#"[device.room]
driver = "i2c"               # where the kernel has a driver loaded, use "iio" or "hwmon"
part = "bme280"              # or "bmp280", "sht31", "ads1115", "scd4x", "ina219"
bus = 1                      # or its path, "/dev/i2c-1"
address = 0x76               # by default the part's usual one
poll = "10s"
# rate = 128                 # of an ads1115: samples a second, 8 to 860
# shunt = 0.1                # of an ina219: its resistor in ohms
# altitude = 300             # of an scd4x: metres above the sea
# self_calibration = false   # of an scd4x: where there is never fresh air

[device.room.channel]        # without it: all that the part measures
temperature = { range = [-40, 85] }
humidity    = {}
air         = { source = "pressure", label = "air pressure" }
# battery   = { source = "a0", full_scale = 2.048, scale = 11 }   # of an ads1115, also "a0-a1"
"#;
    const PACE: Pace = Pace::Asked(Duration::from_secs(10));
    type Settings = Settings;
    type Channel = Quantity;

    fn defaults(settings: &Settings) -> Vec<Declared<Quantity>> {
        let about = settings.part.about();
        let own = Quantity { source: None, full_scale: None };
        let named = |source: &&str| Declared::new(*source, own.clone());
        about.sources[..about.defaults].iter().map(named).collect()
    }

    fn kind(channel: &Declared<Quantity>) -> Result<Kind, String> {
        channel.always(Kind::Number)
    }

    fn unit(channel: &Declared<Quantity>) -> Option<&'static str> {
        Some(match source(channel) {
            "temperature" => "Cel",
            "humidity" => "%RH",
            "pressure" => "hPa",
            "co2" => "ppm",
            "current" => "A",
            "power" => "W",
            _ => "V",
        })
    }

    fn build(
        settings: Settings,
        channels: Vec<Declared<Quantity>>,
        _: Option<Duration>,
        report: &mut Report<'_>,
    ) -> Option<Box<dyn Driver>> {
        check(&settings, report);
        let about = settings.part.about();
        let (mut places, mut inputs) = (Vec::new(), Vec::new());
        for channel in &channels {
            let (name, source) = (&channel.name, source(channel));
            let place = about.sources.iter().position(|known| *known == source);
            if place.is_none() {
                let message = format!(
                    "part = \"{}\" doesn't measure \"{source}\"; there are {}",
                    about.name,
                    about.sources.join(", ")
                );
                report.at(&["channel", name, "source"], message);
            }
            let full_scale = channel.own.full_scale;
            if full_scale.is_some() && settings.part != Chip::Ads1115 {
                report.at(&["channel", name, "full_scale"], only("ads1115"));
            } else if full_scale.is_some_and(|given| !FULL_SCALES.contains(&given)) {
                let message = format!("expected one of {} volts", listed(FULL_SCALES));
                report.at(&["channel", name, "full_scale"], message);
            }
            match settings.part {
                // Each channel is an input of its own.
                Chip::Ads1115 => {
                    places.push(inputs.len());
                    inputs.extend(Input::new(source, full_scale.unwrap_or(FULL_SCALES[1])));
                }
                _ => places.push(place.unwrap_or_default()),
            }
        }
        Some(Box::new(Checked { settings, places, inputs, worker: Worker::default() }))
    }
}

/// The keys of the device.
fn check(settings: &Settings, report: &mut Report<'_>) {
    let part = settings.part;
    let given = [
        ("rate", settings.rate.is_some(), Chip::Ads1115),
        ("shunt", settings.shunt.is_some(), Chip::Ina219),
        ("altitude", settings.altitude.is_some(), Chip::Scd4x),
        ("self_calibration", settings.self_calibration.is_some(), Chip::Scd4x),
    ];
    for (key, _, of) in given.into_iter().filter(|(_, given, of)| *given && *of != part) {
        report.at(&[key], only(of.about().name));
    }
    if settings.address.is_some_and(|address| !ADDRESSES.contains(&address)) {
        let (name, addresses) = (part.about().name, i2c::hexadecimal(part.about().addresses));
        let message = format!("expected 0x08 to 0x77; part = \"{name}\" is at {addresses}");
        report.at(&["address"], message);
    }
    if settings.rate.is_some_and(|rate| !RATES.contains(&rate)) {
        report.at(&["rate"], format!("expected one of {} samples a second", listed(RATES)));
    }
    if settings.shunt.is_some_and(|ohms| !ohms.is_finite() || ohms <= 0.0) {
        report.at(&["shunt"], "expected ohms, more than 0, such as 0.1 (marked R100)");
    }
    if settings.altitude.is_some_and(|metres| metres > 3000) {
        report.at(&["altitude"], "expected 0 to 3000 metres");
    }
}

fn only(part: &str) -> String {
    format!("only part = \"{part}\" has it")
}

fn listed<T: fmt::Display>(values: &[T]) -> String {
    values.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

struct Checked {
    settings: Settings,
    /// Of each channel: its place among what the part gives.
    places: Vec<usize>,
    /// Of an ads1115.
    inputs: Vec<Input>,
    worker: Worker,
}

impl Checked {
    fn part(&self) -> Box<dyn Part> {
        let Settings { rate, shunt, altitude, self_calibration, .. } = self.settings;
        match self.settings.part {
            Chip::Bme280 => Box::new(Bme280::new(Variant::Bme280)),
            Chip::Bmp280 => Box::new(Bme280::new(Variant::Bmp280)),
            Chip::Sht31 => Box::new(Sht31),
            Chip::Ads1115 => Box::new(Ads1115::new(self.inputs.clone(), rate.unwrap_or(128))),
            Chip::Scd4x => Box::new(Scd4x::new(altitude, self_calibration)),
            Chip::Ina219 => Box::new(Ina219 { ohms: shunt.unwrap_or(0.1) }),
        }
    }

    fn address(&self) -> u8 {
        self.settings.address.unwrap_or(self.settings.part.about().addresses[0])
    }

    /// Begins to speak over a bus that is open.
    async fn begin(&self, wire: Wire) -> Result<Open, Failure> {
        let (About { addresses, .. }, address) = (self.settings.part.about(), self.address());
        let (bus, places) = (self.settings.bus.0.clone(), self.places.clone());
        let mut open =
            Open { part: self.part(), wire, bus, address, addresses, places, values: Vec::new() };
        match open.part.begin(&open.wire).await {
            Ok(()) => Ok(open),
            Err(trouble) => Err(open.lost(&trouble)),
        }
    }
}

#[async_trait]
impl Driver for Checked {
    fn i2c(&self) -> Option<(&str, u8)> {
        Some((&self.settings.bus.0, self.address()))
    }

    async fn open(&self) -> Result<Box<dyn Device>, Failure> {
        let (About { addresses, .. }, address) = (self.settings.part.about(), self.address());
        let bus = self.settings.bus.0.clone();
        let connect = move || i2c::connect(&bus, address, addresses);
        let line = self.worker.run(connect).await?;
        let wire = Wire::new(line, address, self.worker.clone());
        Ok(Box::new(self.begin(wire).await?))
    }
}

struct Open {
    part: Box<dyn Part>,
    wire: Wire,
    bus: String,
    address: u8,
    addresses: &'static [u8],
    places: Vec<usize>,
    /// What the part gave, used again.
    values: Vec<Result<f64, Fault>>,
}

impl Open {
    fn lost(&self, trouble: &Trouble) -> Failure {
        i2c::failure(&self.bus, self.address, self.addresses, trouble)
    }
}

#[async_trait]
impl Device for Open {
    async fn read(&mut self, batch: &mut Batch) -> Result<(), Failure> {
        let mut garbled = false;
        for attempt in 1.. {
            self.values.clear();
            match self.part.measure(&self.wire, &mut self.values).await {
                Ok(()) => break,
                Err(Trouble::Corrupt) => {
                    garbled = true;
                    self.values.clear();
                    if attempt == TRIES {
                        break;
                    }
                }
                Err(trouble @ Trouble::Part(..)) => return Err(self.lost(&trouble)),
                Err(trouble) if attempt == TRIES => return Err(self.lost(&trouble)),
                Err(Trouble::Bus(_)) => {}
            }
            sleep(AGAIN).await;
        }
        if self.values.is_empty() && garbled {
            for channel in 0..self.places.len() {
                batch.push(channel, Value::Bad(Fault::Corrupt));
            }
        }
        for (channel, place) in self.places.iter().enumerate() {
            let Some(value) = self.values.get(*place) else { continue };
            let datum = value.and_then(|number| Datum::number(number).ok_or(Fault::Corrupt));
            batch.push(channel, datum.map_or_else(Value::Bad, Value::Good));
        }
        Ok(())
    }
}

impl<'de> Deserialize<'de> for Bus {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Bus, D::Error> {
        struct Either;
        impl Visitor<'_> for Either {
            type Value = Bus;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the number of a bus, such as 1, or its path, such as \"/dev/i2c-1\"")
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Bus, E> {
                match u8::try_from(number) {
                    Ok(number) => Ok(Bus(format!("/dev/i2c-{number}"))),
                    Err(_) => Err(E::invalid_value(Unexpected::Signed(number), &self)),
                }
            }

            fn visit_str<E: de::Error>(self, path: &str) -> Result<Bus, E> {
                match path {
                    _ if path.starts_with('/') => Ok(Bus(path.to_owned())),
                    _ if path.starts_with("i2c-") => Ok(Bus(format!("/dev/{path}"))),
                    _ => Err(E::invalid_value(Unexpected::Str(path), &self)),
                }
            }
        }
        input.deserialize_any(Either)
    }
}

impl JsonSchema for Bus {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Bus".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["integer", "string"], "minimum": 0, "default": 1 })
    }
}

#[cfg(test)]
mod tests {
    use rustix::io::Errno;
    use serde::de::IntoDeserializer;
    use serde::de::value::Error as SerdeError;

    use super::*;
    use crate::Config;
    use crate::i2c::{Script, Step};

    fn parsed(text: &str) -> (Option<Config>, Vec<String>) {
        let text = format!("driver = 'i2c'\n{text}");
        let mut errors = Vec::new();
        let config = Config::parse("x", toml::de::DeTable::parse(&text).unwrap(), &mut errors);
        (config, errors.iter().map(|error| error.to_string().replace("device.x.", "")).collect())
    }

    #[test]
    fn every_wrong_key_is_told_with_its_mend() {
        let text = "part = 'bme280'\nbus = 'one'\naddress = 0x80\nrate = 128\nshunt = 0.1\n\
            [channel]\nco2 = {}\ntemperature = { full_scale = 4.096, type = 'text' }";
        let ads = "part = 'ads1115'\nrate = 100\nbus = 300\n[channel]\na0 = { full_scale = 5.0 }\n\
            a4 = {}";
        let scd = "part = 'scd41'\naltitude = 9000\n";
        let ina = "part = 'ina219'\nshunt = 0.0\n";
        let lost = "part = 'bme820'\n";
        let all: Vec<String> =
            [text, ads, scd, ina, lost].iter().flat_map(|text| parsed(text).1).collect();
        expect_test::expect![[r#"
            bus: expected the number of a bus, such as 1, or its path, such as "/dev/i2c-1", found the text "one"
            address: expected 0x08 to 0x77; part = "bme280" is at 0x76 or 0x77
            rate: only part = "ads1115" has it
            shunt: only part = "ina219" has it
            channel.co2.source: part = "bme280" doesn't measure "co2"; there are temperature, humidity, pressure
            channel.temperature.full_scale: only part = "ads1115" has it
            channel.temperature.type: it is a "number": leave `type` out
            rate: expected one of 8, 16, 32, 64, 128, 250, 475, 860 samples a second
            bus: expected the number of a bus, such as 1, or its path, such as "/dev/i2c-1", found the number 300
            channel.a0.full_scale: expected one of 6.144, 4.096, 2.048, 1.024, 0.512, 0.256 volts
            channel.a4.source: part = "ads1115" doesn't measure "a4"; there are a0, a1, a2, a3, a0-a1, a0-a3, a1-a3, a2-a3
            altitude: expected 0 to 3000 metres
            shunt: expected ohms, more than 0, such as 0.1 (marked R100)
            part: unknown value "bme820"; did you mean "bme280"? there are `bme280`, `bmp280`, `sht30`, `sht31`, `sht35`, `ads1115`, `scd40`, `scd41`, `scd4x`, `ina219`
        "#]].assert_eq(&format!("{}\n", all.join("\n")));
    }

    #[test]
    fn a_part_needs_no_more_than_its_name() {
        for (part, expected) in [
            ("bme280", "temperature Cel, humidity %RH, pressure hPa"),
            ("bmp280", "temperature Cel, pressure hPa"),
            ("sht30", "temperature Cel, humidity %RH"),
            ("ads1115", "a0 V, a1 V, a2 V, a3 V"),
            ("scd40", "co2 ppm, temperature Cel, humidity %RH"),
            ("ina219", "voltage V, current A, power W"),
        ] {
            let (config, errors) = parsed(&format!("part = '{part}'"));
            assert_eq!(errors, [""; 0]);
            let channels = config.unwrap().channels();
            let shown: Vec<String> = channels
                .iter()
                .map(|spec| format!("{} {}", spec.channel.name(), spec.unit.as_str()))
                .collect();
            assert_eq!(shown.join(", "), expected);
        }
    }

    #[test]
    fn a_bus_has_a_number_or_a_path() {
        let of = |text: &str| {
            let input: serde::de::value::StrDeserializer<'_, SerdeError> = text.into_deserializer();
            Bus::deserialize(input).map(|bus| bus.0)
        };
        assert_eq!(of("/dev/i2c/7").as_deref(), Ok("/dev/i2c/7"));
        assert_eq!(of("i2c-7").as_deref(), Ok("/dev/i2c-7"));
        assert_eq!(Bus::default().0, "/dev/i2c-1");
    }

    fn checked(part: Chip, places: Vec<usize>) -> Checked {
        let settings = Settings {
            part,
            bus: Bus::default(),
            address: None,
            rate: None,
            shunt: None,
            altitude: None,
            self_calibration: None,
        };
        Checked { settings, places, inputs: Vec::new(), worker: Worker::default() }
    }

    const BEGIN: &[Step] =
        &[Step::Ok(&[0x30, 0x93], &[]), Step::Ok(&[0xf3, 0x2d], &[0x80, 0x10, 0xe1])];
    const ASKED: Step = Step::Ok(&[0x24, 0x00], &[]);
    const GARBLED: Step = Step::Ok(&[], &[0x66, 0x66, 0x93, 0xbe, 0xef, 0x00]);

    #[tokio::test(start_paused = true)]
    async fn a_garbled_answer_is_asked_for_again_and_then_bad() {
        let bus = Script::new(0x44, BEGIN);
        // The channels are declared the other way round.
        let mut open = checked(Chip::Sht31, vec![1, 0]).begin(bus.wire()).await.unwrap();
        let answer = Step::Ok(&[], &[0x66, 0x66, 0x93, 0xbe, 0xef, 0x92]);
        bus.then(&[ASKED, GARBLED, Step::Fails(&[0x24, 0x00], Errno::REMOTEIO), ASKED, answer]);
        let mut batch = Batch::default();
        open.read(&mut batch).await.unwrap();
        let shown: Vec<_> = batch
            .samples
            .drain(..)
            .map(|sample| (sample.channel, sample.value.number().unwrap().round()))
            .collect();
        assert_eq!(shown, [(0, 75.0), (1, 25.0)]);
        bus.then(&[ASKED, GARBLED, ASKED, GARBLED, ASKED, GARBLED]);
        open.read(&mut batch).await.unwrap();
        let values: Vec<_> = batch.samples.drain(..).map(|sample| sample.value).collect();
        assert_eq!(values, [Value::Bad(Fault::Corrupt), Value::Bad(Fault::Corrupt)]);
        assert_eq!(bus.left(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_part_that_is_unplugged_is_lost_and_found_again() {
        let gone = Step::Fails(&[0x24, 0x00], Errno::NXIO);
        let bus = Script::new(0x44, BEGIN);
        let checked = checked(Chip::Sht31, vec![0, 1]);
        let mut open = checked.begin(bus.wire()).await.unwrap();
        bus.then(&[gone.clone(), gone.clone(), gone]);
        let lost = open.read(&mut Batch::default()).await.unwrap_err();
        assert_eq!(lost.fault, Fault::Absent);
        assert!(lost.detail.starts_with("nothing answers at 0x44 on /dev/i2c-1"), "{lost}");
        bus.then(&[Step::Fails(&[0x30, 0x93], Errno::NXIO)]);
        let still = checked.begin(bus.wire()).await.err().unwrap();
        assert!(still.detail.ends_with("or is it at 0x45?"), "{still}");
        bus.then(BEGIN);
        assert!(checked.begin(bus.wire()).await.is_ok());
    }

    /// A transfer that hangs holds its own thread: others go on, and a second
    /// opening waits rather than take another.
    #[tokio::test]
    async fn a_bus_that_hangs_holds_nobody_else() {
        use embedded_hal::i2c::{ErrorType, I2c as Hal, Operation};

        struct Hanging(std::sync::mpsc::Receiver<()>);
        impl ErrorType for Hanging {
            type Error = i2c::BusError;
        }
        impl Hal for Hanging {
            fn transaction(&mut self, _: u8, _: &mut [Operation<'_>]) -> Result<(), i2c::BusError> {
                _ = self.0.recv();
                Err(i2c::BusError(Errno::TIMEDOUT))
            }
        }
        let (go, gate) = std::sync::mpsc::sync_channel(0);
        let checked = checked(Chip::Sht31, vec![0, 1]);
        let wire = Wire::new(Box::new(Hanging(gate)), 0x44, checked.worker.clone());
        let patience = Duration::from_millis(20);
        assert!(tokio::time::timeout(patience, checked.begin(wire)).await.is_err());
        // As the runner does after its time-out.
        let bus = Script::new(0x44, BEGIN);
        let again = Wire::new(Box::new(bus.clone()), 0x44, checked.worker.clone());
        let mut again = std::pin::pin!(checked.begin(again));
        assert!(tokio::time::timeout(patience, &mut again).await.is_err());
        assert_eq!(bus.left(), BEGIN.len());
        drop(go);
        assert!(again.await.is_ok());
    }
}
