//! BME280, and BMP280, which has no humidity: Bosch's data sheets
//! BST-BME280-DS002 and BST-BMP280-DS001.

use std::time::Duration;

use async_trait::async_trait;
use reading::Fault;
use tokio::time::sleep;

use super::{Part, Trouble, Wire};

/// Registers: BME280, section 5.3.
const ID: u8 = 0xd0;
const CALIBRATION_LOW: u8 = 0x88;
const CALIBRATION_HIGH: u8 = 0xe1;
const CONTROL_HUMIDITY: u8 = 0xf2;
const STATUS: u8 = 0xf3;
const CONTROL: u8 = 0xf4;
const CONFIGURATION: u8 = 0xf5;
const DATA: u8 = 0xf7;

/// Each quantity once (oversampling ×1), and then to sleep again: what the data
/// sheet advises for a weather station (section 3.5.1), without self-heating.
const ONCE_HUMIDITY: u8 = 0b001;
const ONCE: u8 = 0b0010_0101;
/// No filter.
const PLAIN: u8 = 0;
const MEASURING_FLAG: u8 = 1 << 3;
/// 9.3 ms at most: section 9.1.
const MEASURING: Duration = Duration::from_millis(10);
/// So often is asked whether it still measures.
const PATIENCE: usize = 5;
/// What a quantity reads that hasn't been measured: section 5.4.7 to 5.4.9.
const SKIPPED: i32 = 0x80000;
const SKIPPED_HUMIDITY: i32 = 0x8000;

/// Which of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Variant {
    /// With humidity.
    Bme280,
    /// Without.
    Bmp280,
}

impl Variant {
    /// What its register "id" holds; 0x56 and 0x57 are samples.
    fn of(id: u8) -> Option<Variant> {
        match id {
            0x60 => Some(Variant::Bme280),
            0x56..=0x58 => Some(Variant::Bmp280),
            _ => None,
        }
    }
}

pub(crate) struct Bme280 {
    variant: Variant,
    calibration: Calibration,
}

impl Bme280 {
    pub(crate) fn new(variant: Variant) -> Bme280 {
        Bme280 { variant, calibration: Calibration::default() }
    }
}

#[async_trait]
impl Part for Bme280 {
    async fn begin(&mut self, wire: &Wire) -> Result<(), Trouble> {
        let [id] = wire.write_read([ID]).await?;
        let wrong = |what: &str| {
            let wanted = match self.variant {
                Variant::Bme280 => "BME280",
                Variant::Bmp280 => "BMP280",
            };
            let detail = format!("what answers is no {wanted} but {what} (id {id:#04x})");
            Err(Trouble::Part(Fault::Absent, detail))
        };
        match Variant::of(id) {
            Some(variant) if variant == self.variant => {}
            Some(Variant::Bme280) => return wrong("a BME280: say part = \"bme280\""),
            Some(Variant::Bmp280) => {
                return wrong("a BMP280, without humidity: say part = \"bmp280\"");
            }
            None => return wrong("another part"),
        }
        let low = wire.write_read([CALIBRATION_LOW]).await?;
        let high = match self.variant {
            Variant::Bme280 => wire.write_read([CALIBRATION_HIGH]).await?,
            Variant::Bmp280 => [0; 7],
        };
        self.calibration = Calibration::of(&low, &high);
        if self.calibration.p[0] == 0.0 {
            return Err(Trouble::Corrupt);
        }
        wire.write([CONFIGURATION, PLAIN]).await
    }

    async fn measure(
        &mut self,
        wire: &Wire,
        values: &mut Vec<Result<f64, Fault>>,
    ) -> Result<(), Trouble> {
        if self.variant == Variant::Bme280 {
            // Takes effect with the next: section 5.4.3.
            wire.write([CONTROL_HUMIDITY, ONCE_HUMIDITY]).await?;
        }
        wire.write([CONTROL, ONCE]).await?;
        for _ in 0..PATIENCE {
            sleep(MEASURING).await;
            let [status] = wire.write_read([STATUS]).await?;
            if status & MEASURING_FLAG == 0 {
                let raw = match self.variant {
                    Variant::Bme280 => Raw::of(&wire.write_read::<1, 8>([DATA]).await?),
                    Variant::Bmp280 => Raw::of(&wire.write_read::<1, 6>([DATA]).await?),
                };
                let [temperature, pressure, humidity] = self.calibration.convert(&raw);
                values.push(temperature);
                if self.variant == Variant::Bme280 {
                    values.push(humidity);
                }
                values.push(pressure);
                return Ok(());
            }
        }
        Err(Trouble::Part(Fault::Timeout, "it doesn't end measuring".to_owned()))
    }
}

/// What the converters say.
struct Raw {
    pressure: i32,
    temperature: i32,
    humidity: i32,
}

impl Raw {
    /// From the registers "press" to "hum": BME280, section 4.
    fn of(data: &[u8]) -> Raw {
        let twenty_bits = |at: usize| {
            i32::from(data[at]) << 12 | i32::from(data[at + 1]) << 4 | i32::from(data[at + 2]) >> 4
        };
        let humidity = match data {
            [.., high, low] if data.len() == 8 => i32::from(*high) << 8 | i32::from(*low),
            _ => SKIPPED_HUMIDITY,
        };
        Raw { pressure: twenty_bits(0), temperature: twenty_bits(3), humidity }
    }
}

/// The trimming of one part, as dig_T1 to dig_H6 of section 4.2.2.
#[derive(Clone, Debug, Default)]
struct Calibration {
    t: [f64; 3],
    p: [f64; 9],
    h: [f64; 6],
}

impl Calibration {
    /// From the registers 0x88 to 0xa1 and 0xe1 to 0xe7: table 16.
    fn of(low: &[u8; 26], high: &[u8; 7]) -> Calibration {
        let unsigned = |at: usize| f64::from(u16::from_le_bytes([low[at], low[at + 1]]));
        let signed = |at: usize| f64::from(i16::from_le_bytes([low[at], low[at + 1]]));
        let mut p = [0.0; 9];
        for (place, p) in p.iter_mut().enumerate() {
            *p = if place == 0 { unsigned(6) } else { signed(6 + 2 * place) };
        }
        // Twelve bits each, which share a byte.
        let twelve_bits = |high: u8, low: u8| i16::from(high.cast_signed()) << 4 | i16::from(low);
        let h = [
            f64::from(low[25]),
            f64::from(i16::from_le_bytes([high[0], high[1]])),
            f64::from(high[2]),
            f64::from(twelve_bits(high[3], high[4] & 0x0f)),
            f64::from(twelve_bits(high[5], high[4] >> 4)),
            f64::from(high[6].cast_signed()),
        ];
        Calibration { t: [unsigned(0), signed(2), signed(4)], p, h }
    }

    /// Degrees Celsius, hectopascal, percent: section 8.1 (BMP280: 8.1), in
    /// double precision.
    fn convert(&self, raw: &Raw) -> [Result<f64, Fault>; 3] {
        // Without the temperature nothing else can be known.
        if raw.temperature == SKIPPED {
            return [Err(Fault::Corrupt); 3];
        }
        let fine = self.fine(f64::from(raw.temperature));
        let unless = |skipped, value| if skipped { Err(Fault::Corrupt) } else { Ok(value) };
        [
            Ok(fine / 5120.0),
            unless(raw.pressure == SKIPPED, self.pascal(f64::from(raw.pressure), fine) / 100.0),
            unless(raw.humidity == SKIPPED_HUMIDITY, self.percent(f64::from(raw.humidity), fine)),
        ]
    }

    /// t_fine.
    fn fine(&self, adc: f64) -> f64 {
        let [t1, t2, t3] = self.t;
        let square = (adc / 131_072.0 - t1 / 8192.0).powi(2);
        (adc / 16384.0 - t1 / 1024.0) * t2 + square * t3
    }

    fn pascal(&self, adc: f64, fine: f64) -> f64 {
        let [p1, p2, p3, p4, p5, p6, p7, p8, p9] = self.p;
        let x = fine / 2.0 - 64000.0;
        let offset = (x * x * p6 / 32768.0 + x * p5 * 2.0) / 4.0 + p4 * 65536.0;
        let slope = (p3 * x * x / 524_288.0 + p2 * x) / 524_288.0;
        let slope = (1.0 + slope / 32768.0) * p1;
        let p = (1_048_576.0 - adc - offset / 4096.0) * 6250.0 / slope;
        p + (p9 * p * p / 2_147_483_648.0 + p * p8 / 32768.0 + p7) / 16.0
    }

    fn percent(&self, adc: f64, fine: f64) -> f64 {
        let [h1, h2, h3, h4, h5, h6] = self.h;
        let x = fine - 76800.0;
        let slope = 1.0 + h6 / 67_108_864.0 * x * (1.0 + h3 / 67_108_864.0 * x);
        let h = (adc - (h4 * 64.0 + h5 / 16384.0 * x)) * (h2 / 65536.0 * slope);
        (h * (1.0 - h1 * h / 524_288.0)).clamp(0.0, 100.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::i2c::{Script, Step};

    /// The example of the BMP280's data sheet, section 3.12, and a BME280's
    /// humidity trimming behind it.
    const LOW: [u8; 26] = [
        0x70, 0x6b, 0x43, 0x67, 0x18, 0xfc, 0x7d, 0x8e, 0x43, 0xd6, 0xd0, 0x0b, 0x27, 0x0b, 0x8c,
        0x00, 0xf9, 0xff, 0x8c, 0x3c, 0xf8, 0xc6, 0x70, 0x17, 0x00, 0x4b,
    ];
    const HIGH: [u8; 7] = [0x6a, 0x01, 0x00, 0x13, 0x2a, 0x03, 0x1e];
    /// adc_P = 415148, adc_T = 519888, adc_H = 29000.
    const DATA: [u8; 8] = [0x65, 0x5a, 0xc0, 0x7e, 0xed, 0x00, 0x71, 0x48];

    #[test]
    fn the_data_sheets_example() {
        let calibration = Calibration::of(&LOW, &HIGH);
        assert_eq!(calibration.t, [27504.0, 26435.0, -1000.0]);
        let p = [36477.0, -10685.0, 3024.0, 2855.0, 140.0, -7.0, 15500.0, -14600.0, 6000.0];
        assert_eq!(calibration.p, p);
        assert_eq!(calibration.h, [75.0, 362.0, 0.0, 314.0, 50.0, 30.0]);
        let [temperature, pressure, _] = calibration.convert(&Raw::of(&DATA));
        // t_fine = 128422, 25.08 °C, 100653.27 Pa (its integers say 25767236 / 256).
        let (temperature, pressure) = (temperature.unwrap(), pressure.unwrap());
        assert!((temperature * 5120.0 - 128_422.0).abs() < 1.0, "{temperature}");
        assert!((pressure - 1006.5327).abs() < 1e-3, "{pressure}");
    }

    /// Section 4.2.3: the same humidity in whole numbers, as Q22.10.
    fn whole(adc: i64, fine: i64, h: [i64; 6]) -> f64 {
        let [h1, h2, h3, h4, h5, h6] = h;
        let x = fine - 76800;
        let slope = (((x * h6) >> 10) * (((x * h3) >> 11) + 32768)) >> 10;
        let x = ((((adc << 14) - (h4 << 20) - h5 * x) + 16384) >> 15)
            * (((slope + 2_097_152) * h2 + 8192) >> 14);
        let x = x - (((((x >> 15) * (x >> 15)) >> 7) * h1) >> 4);
        (x.clamp(0, 419_430_400) >> 12) as f64 / 1024.0
    }

    #[test]
    fn humidity_is_what_the_data_sheets_other_formula_gives() {
        let calibration = Calibration::of(&LOW, &HIGH);
        for adc in (0..0x10000).step_by(997) {
            for fine in [-100_000, 0, 76800, 128_422, 400_000] {
                let ours = calibration.percent(f64::from(adc), f64::from(fine));
                let theirs = whole(i64::from(adc), i64::from(fine), [75, 362, 0, 314, 50, 30]);
                assert!((ours - theirs).abs() < 0.02, "{adc} {fine}: {ours} {theirs}");
            }
        }
    }

    fn beginning(id: &'static [u8]) -> [Step; 4] {
        [
            Step::Ok(&[0xd0], id),
            Step::Ok(&[0x88], &LOW),
            Step::Ok(&[0xe1], &HIGH),
            Step::Ok(&[0xf5, 0], &[]),
        ]
    }

    #[tokio::test(start_paused = true)]
    async fn it_measures_once_and_sleeps() {
        let bus = Script::new(0x76, &beginning(&[0x60]));
        let (wire, mut part, mut values) = (bus.wire(), Bme280::new(Variant::Bme280), Vec::new());
        part.begin(&wire).await.unwrap();
        let measured = |data| {
            [
                Step::Ok(&[0xf2, 0x01], &[]),
                Step::Ok(&[0xf4, 0x25], &[]),
                Step::Ok(&[0xf3], &[0x08]),
                Step::Ok(&[0xf3], &[0x00]),
                Step::Ok(&[0xf7], data),
            ]
        };
        bus.then(&measured(&DATA));
        part.measure(&wire, &mut values).await.unwrap();
        let shown: Vec<String> =
            values.iter().map(|value| format!("{:.2}", value.unwrap())).collect();
        assert_eq!(shown, ["25.08", "49.08", "1006.53"]);
        // It has lost its supply for a moment, and measured nothing.
        values.clear();
        bus.then(&measured(&[0x80, 0, 0, 0x80, 0, 0, 0x80, 0]));
        part.measure(&wire, &mut values).await.unwrap();
        assert_eq!(values, [Err(Fault::Corrupt); 3]);
        assert_eq!(bus.left(), 0);
    }

    #[tokio::test]
    async fn another_part_is_told() {
        let bus = Script::new(0x76, &[Step::Ok(&[0xd0], &[0x58]), Step::Ok(&[0xd0], &[0x61])]);
        let (wire, mut part) = (bus.wire(), Bme280::new(Variant::Bme280));
        let told = |trouble| match trouble {
            Err(Trouble::Part(Fault::Absent, detail)) => detail,
            other => panic!("{other:?}"),
        };
        assert_eq!(
            told(part.begin(&wire).await),
            "what answers is no BME280 but a BMP280, without humidity: say part = \"bmp280\" (id 0x58)"
        );
        assert_eq!(
            told(part.begin(&wire).await),
            "what answers is no BME280 but another part (id 0x61)"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_bmp280_has_no_humidity() {
        let bus = Script::new(
            0x77,
            &[
                Step::Ok(&[0xd0], &[0x58]),
                Step::Ok(&[0x88], &LOW),
                Step::Ok(&[0xf5, 0], &[]),
                Step::Ok(&[0xf4, 0x25], &[]),
                Step::Ok(&[0xf3], &[0x00]),
                Step::Ok(&[0xf7], &[0x65, 0x5a, 0xc0, 0x7e, 0xed, 0x00]),
            ],
        );
        let (wire, mut part, mut values) = (bus.wire(), Bme280::new(Variant::Bmp280), Vec::new());
        part.begin(&wire).await.unwrap();
        part.measure(&wire, &mut values).await.unwrap();
        let [Ok(temperature), Ok(pressure)] = values[..] else { panic!("{values:?}") };
        assert_eq!(format!("{temperature:.2} {pressure:.2}"), "25.08 1006.53");
    }
}
