//! SCD40 and SCD41: carbon dioxide, temperature and humidity. Sensirion's data
//! sheet of the SCD4x.

use std::time::Duration;

use async_trait::async_trait;
use reading::Fault;
use tokio::time::{Instant, sleep};

use super::sensirion::{celsius, command, percent, words};
use super::{Part, Trouble, Wire};

/// Commands: table 9.
const START: [u8; 2] = [0x21, 0xb1];
const READ: [u8; 2] = [0xec, 0x05];
const STOP: [u8; 2] = [0x3f, 0x86];
const IS_READY: [u8; 2] = [0xe4, 0xb8];
const SERIAL_NUMBER: [u8; 2] = [0x36, 0x82];
const ALTITUDE: u16 = 0x2427;
const SELF_CALIBRATION: u16 = 0x2416;

/// While it stops it answers nothing.
const STOPPING: Duration = Duration::from_millis(500);
const ANSWERING: Duration = Duration::from_millis(2);
/// It measures every five seconds; thrice without a value it has forgotten to,
/// as after a moment without supply.
const SILENCE_MAX: Duration = Duration::from_secs(15);

pub(crate) struct Scd4x {
    /// Above the sea, in metres: the air's pressure counts.
    altitude: Option<u16>,
    /// Whether it may take the least it has seen in a week for fresh air.
    self_calibration: Option<bool>,
    /// Since when it has said nothing.
    silent: Instant,
}

impl Scd4x {
    pub(crate) fn new(altitude: Option<u16>, self_calibration: Option<bool>) -> Scd4x {
        Scd4x { altitude, self_calibration, silent: Instant::now() }
    }

    async fn set(wire: &Wire, code: u16, word: u16) -> Result<(), Trouble> {
        wire.write(command(code, word)).await?;
        sleep(ANSWERING).await;
        Ok(())
    }

    async fn ask<const N: usize>(wire: &Wire, command: [u8; 2]) -> Result<[u8; N], Trouble> {
        wire.write(command).await?;
        sleep(ANSWERING).await;
        wire.read().await
    }
}

#[async_trait]
impl Part for Scd4x {
    async fn begin(&mut self, wire: &Wire) -> Result<(), Trouble> {
        // It may still measure from before, and then takes no other command.
        wire.write(STOP).await?;
        sleep(STOPPING).await;
        let serial: [u8; 9] = Self::ask(wire, SERIAL_NUMBER).await?;
        if words::<3>(&serial).is_err() {
            let detail = "what answers is no SCD40 or SCD41".to_owned();
            return Err(Trouble::Part(Fault::Absent, detail));
        }
        // In its memory only: what is kept without supply wears out (section 3.10.1).
        if let Some(metres) = self.altitude {
            Self::set(wire, ALTITUDE, metres).await?;
        }
        if let Some(on) = self.self_calibration {
            Self::set(wire, SELF_CALIBRATION, on.into()).await?;
        }
        wire.write(START).await?;
        self.silent = Instant::now();
        Ok(())
    }

    async fn measure(
        &mut self,
        wire: &Wire,
        values: &mut Vec<Result<f64, Fault>>,
    ) -> Result<(), Trouble> {
        let [ready] = words(&Self::ask::<3>(wire, IS_READY).await?)?;
        if ready & 0x07ff == 0 {
            return match self.silent.elapsed() > SILENCE_MAX {
                true => {
                    let seconds = SILENCE_MAX.as_secs();
                    let detail = format!("it has measured nothing for {seconds} s");
                    Err(Trouble::Part(Fault::Timeout, detail))
                }
                false => Ok(()),
            };
        }
        self.silent = Instant::now();
        let [co2, temperature, humidity] = words(&Self::ask::<9>(wire, READ).await?)?;
        // Nowhere is there none: it is what a part says that has just begun.
        let co2 = if co2 == 0 { Err(Fault::Corrupt) } else { Ok(f64::from(co2)) };
        values.extend([co2, Ok(celsius(temperature)), Ok(percent(humidity))]);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::i2c::{Script, Step};

    /// The data sheet's examples, of the commands' own sections.
    #[tokio::test(start_paused = true)]
    async fn the_data_sheets_examples() {
        let bus = Script::new(
            0x62,
            &[
                Step::Ok(&[0x3f, 0x86], &[]),
                Step::Ok(&[0x36, 0x82], &[]),
                Step::Ok(&[], &[0xf8, 0x96, 0x31, 0x9f, 0x07, 0xc2, 0x3b, 0xbe, 0x89]),
                Step::Ok(&[0x24, 0x27, 0x07, 0x9e, 0x09], &[]),
                Step::Ok(&[0x24, 0x16, 0x00, 0x01, 0xb0], &[]),
                Step::Ok(&[0x21, 0xb1], &[]),
                Step::Ok(&[0xe4, 0xb8], &[]),
                Step::Ok(&[], &[0x80, 0x00, 0xa2]),
                Step::Ok(&[0xe4, 0xb8], &[]),
                Step::Ok(&[], &[0x80, 0x06, 0x04]),
                Step::Ok(&[0xec, 0x05], &[]),
                Step::Ok(&[], &[0x01, 0xf4, 0x33, 0x66, 0x67, 0xa2, 0x5e, 0xb9, 0x3c]),
            ],
        );
        let (wire, mut part, mut values) =
            (bus.wire(), Scd4x::new(Some(1950), Some(true)), Vec::new());
        part.begin(&wire).await.unwrap();
        part.measure(&wire, &mut values).await.unwrap();
        assert_eq!(values, [], "nothing new yet");
        part.measure(&wire, &mut values).await.unwrap();
        let [Ok(co2), Ok(temperature), Ok(humidity)] = values[..] else { panic!("{values:?}") };
        assert_eq!(format!("{co2} ppm {temperature:.0} °C {humidity:.0} %"), "500 ppm 25 °C 37 %");
        assert_eq!(bus.left(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_has_forgotten_to_measure_is_lost() {
        let bus =
            Script::new(0x62, &[Step::Ok(&[0xe4, 0xb8], &[]), Step::Ok(&[], &[0x80, 0x00, 0xa2])]);
        let (wire, mut part, mut values) = (bus.wire(), Scd4x::new(None, None), Vec::new());
        sleep(SILENCE_MAX + Duration::from_secs(1)).await;
        let silent = part.measure(&wire, &mut values).await;
        assert!(matches!(silent, Err(Trouble::Part(Fault::Timeout, _))), "{silent:?}");
    }
}
