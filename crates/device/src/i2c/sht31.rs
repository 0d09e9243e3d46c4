//! SHT30, SHT31, SHT35: temperature and humidity. Sensirion's data sheet of the
//! SHT3x-DIS.

use std::time::Duration;

use async_trait::async_trait;
use reading::Fault;
use tokio::time::sleep;

use super::sensirion::{celsius, percent, words};
use super::{Part, Trouble, Wire};

/// Ends periodic measuring, in which another program may have left it: section 4.8.
const BREAK: [u8; 2] = [0x30, 0x93];
/// Section 4.11.
const READ_STATUS: [u8; 2] = [0xf3, 0x2d];
/// Once, with high repeatability and no clock stretching: table 9.
const MEASURE: [u8; 2] = [0x24, 0x00];
/// 15 ms, or 15.5 below 2.4 V: table 4.
const MEASURING: Duration = Duration::from_millis(17);
const BREAKING: Duration = Duration::from_millis(2);

pub(crate) struct Sht31;

#[async_trait]
impl Part for Sht31 {
    async fn begin(&mut self, wire: &Wire) -> Result<(), Trouble> {
        wire.write(BREAK).await?;
        sleep(BREAKING).await;
        let status: [u8; 3] = wire.write_read(READ_STATUS).await?;
        match words::<1>(&status) {
            Ok(_) => Ok(()),
            Err(_) => Err(Trouble::Part(Fault::Absent, "what answers is no SHT31".to_owned())),
        }
    }

    async fn measure(
        &mut self,
        wire: &Wire,
        values: &mut Vec<Result<f64, Fault>>,
    ) -> Result<(), Trouble> {
        wire.write(MEASURE).await?;
        sleep(MEASURING).await;
        let [temperature, humidity] = words(&wire.read::<6>().await?)?;
        values.extend([Ok(celsius(temperature)), Ok(percent(humidity))]);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::i2c::{Script, Step};

    #[tokio::test(start_paused = true)]
    async fn a_measurement_is_checked_and_converted() {
        let bus = Script::new(
            0x44,
            &[
                Step::Ok(&[0x30, 0x93], &[]),
                Step::Ok(&[0xf3, 0x2d], &[0x80, 0x10, 0xe1]),
                Step::Ok(&[0x24, 0x00], &[]),
                // 0xbeef is the data sheet's example of the checksum.
                Step::Ok(&[], &[0x66, 0x66, 0x93, 0xbe, 0xef, 0x92]),
            ],
        );
        let (wire, mut values) = (bus.wire(), Vec::new());
        Sht31.begin(&wire).await.unwrap();
        Sht31.measure(&wire, &mut values).await.unwrap();
        // 175 × 0.4 - 45, and 48879 / 65535.
        let [Ok(temperature), Ok(humidity)] = values[..] else { panic!("{values:?}") };
        assert!((temperature - 25.0).abs() < 1e-9, "{temperature}");
        assert!((humidity - 74.584_57).abs() < 1e-5, "{humidity}");
        bus.then(&[
            Step::Ok(&[0x24, 0x00], &[]),
            Step::Ok(&[], &[0x66, 0x66, 0x93, 0xbe, 0xee, 0x92]),
            Step::Ok(&[0x30, 0x93], &[]),
            Step::Ok(&[0xf3, 0x2d], &[0x80, 0x10, 0x00]),
        ]);
        assert_eq!(Sht31.measure(&wire, &mut values).await, Err(Trouble::Corrupt));
        assert!(matches!(Sht31.begin(&wire).await, Err(Trouble::Part(Fault::Absent, _))));
        assert_eq!(bus.left(), 0);
    }
}
