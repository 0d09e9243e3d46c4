//! ADS1115: four inputs of 16 bits. Texas Instruments' data sheet SBAS444.

use std::time::Duration;

use async_trait::async_trait;
use reading::Fault;
use tokio::time::sleep;

use super::{Part, Trouble, Wire};

/// Registers: section 8.1 (9.6 before revision E).
const CONVERSION: u8 = 0x00;
const CONFIGURATION: u8 = 0x01;

/// Bits of the configuration: table 8-3.
const START: u16 = 1 << 15;
const SINGLE_SHOT: u16 = 1 << 8;
const NO_COMPARATOR: u16 = 0b11;

/// What the greatest number stands for, in volts: bits 11 to 9. An input still
/// bears no more than the supply.
pub(crate) const FULL_SCALES: &[f64] = &[6.144, 4.096, 2.048, 1.024, 0.512, 0.256];
/// Samples a second: bits 7 to 5. The slower the less noise.
pub(crate) const RATES: &[u16] = &[8, 16, 32, 64, 128, 250, 475, 860];
/// So often is asked whether it still measures.
const PATIENCE: usize = 5;

/// What is measured against what: bits 14 to 12.
const MULTIPLEXER: &[&str] = &["a0-a1", "a0-a3", "a1-a3", "a2-a3", "a0", "a1", "a2", "a3"];

/// One input, or the difference of two.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Input {
    multiplexer: u16,
    gain: u16,
}

impl Input {
    /// "a0", or "a0-a1"; `full_scale` is one of [`FULL_SCALES`]. `None` for what
    /// there isn't.
    pub(crate) fn new(name: &str, full_scale: f64) -> Option<Input> {
        let place = MULTIPLEXER.iter().position(|known| *known == name)?;
        let gain = FULL_SCALES.iter().position(|known| *known == full_scale)?;
        Some(Input { multiplexer: u16::try_from(place).ok()?, gain: u16::try_from(gain).ok()? })
    }

    /// Volts; the greatest and the least number may stand for anything beyond.
    fn volts(self, code: i16) -> Result<f64, Fault> {
        if code == i16::MAX || code == i16::MIN {
            return Err(Fault::OutOfRange);
        }
        Ok(f64::from(code) / (32768.0 / FULL_SCALES[usize::from(self.gain)]))
    }
}

pub(crate) struct Ads1115 {
    inputs: Vec<Input>,
    /// A place in [`RATES`].
    rate: u16,
}

impl Ads1115 {
    /// `rate` is one of [`RATES`].
    pub(crate) fn new(inputs: Vec<Input>, rate: u16) -> Ads1115 {
        let rate = RATES.iter().position(|known| *known == rate).unwrap_or_default();
        Ads1115 { inputs, rate: u16::try_from(rate).unwrap_or_default() }
    }

    fn configuration(&self, input: Input) -> u16 {
        input.multiplexer << 12 | input.gain << 9 | SINGLE_SHOT | self.rate << 5 | NO_COMPARATOR
    }

    /// One conversion, and a tenth more: its clock is that far out (table 7.5).
    fn measuring(&self) -> Duration {
        Duration::from_secs_f64(1.1 / f64::from(RATES[usize::from(self.rate)]))
            + Duration::from_micros(100)
    }

    async fn configure(wire: &Wire, word: u16) -> Result<(), Trouble> {
        let [high, low] = word.to_be_bytes();
        wire.write([CONFIGURATION, high, low]).await
    }

    async fn register(wire: &Wire, register: u8) -> Result<u16, Trouble> {
        Ok(u16::from_be_bytes(wire.write_read([register]).await?))
    }
}

#[async_trait]
impl Part for Ads1115 {
    /// It has no name that could be read: what is written to it must be there.
    async fn begin(&mut self, wire: &Wire) -> Result<(), Trouble> {
        let Some(first) = self.inputs.first() else { return Ok(()) };
        let word = self.configuration(*first);
        Self::configure(wire, word).await?;
        let read = Self::register(wire, CONFIGURATION).await?;
        if read & !START != word {
            let detail =
                format!("what answers is no ADS1115: {word:#06x} reads back as {read:#06x}");
            return Err(Trouble::Part(Fault::Absent, detail));
        }
        Ok(())
    }

    async fn measure(
        &mut self,
        wire: &Wire,
        values: &mut Vec<Result<f64, Fault>>,
    ) -> Result<(), Trouble> {
        for input in &self.inputs {
            Self::configure(wire, START | self.configuration(*input)).await?;
            let mut done = false;
            for _ in 0..PATIENCE {
                sleep(self.measuring()).await;
                // The bit is set again when it rests.
                done = Self::register(wire, CONFIGURATION).await? & START != 0;
                if done {
                    break;
                }
            }
            values.push(match done {
                true => input.volts(Self::register(wire, CONVERSION).await?.cast_signed()),
                false => Err(Fault::Timeout),
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::i2c::{Script, Step};

    #[test]
    fn the_data_sheets_table() {
        // Table 8-2, input signal and ideal output.
        let of = |code: u16| Input::new("a0", 2.048).unwrap().volts(code.cast_signed());
        assert_eq!(of(0x7fff), Err(Fault::OutOfRange));
        assert_eq!(of(0x0001), Ok(1.0 / 16000.0));
        assert_eq!(of(0x0000), Ok(0.0));
        assert_eq!(of(0xffff), Ok(-1.0 / 16000.0));
        assert_eq!(of(0x8000), Err(Fault::OutOfRange));
        // 0x8583 is what the register holds after power-on: table 8-3.
        let reset = Ads1115::new(Vec::new(), 128);
        let input = Input::new("a0-a1", 2.048).unwrap();
        assert_eq!(START | reset.configuration(input), 0x8583);
        assert_eq!(Input::new("a4", 2.048), None);
        assert_eq!(Input::new("a0", 5.0), None);
    }

    #[tokio::test(start_paused = true)]
    async fn each_input_is_measured_in_turn() {
        let bus = Script::new(
            0x48,
            &[
                // a0 to ground, ±4.096 V, 128 a second.
                Step::Ok(&[0x01, 0x43, 0x83], &[]),
                Step::Ok(&[0x01], &[0xc3, 0x83]),
                Step::Ok(&[0x01, 0xc3, 0x83], &[]),
                Step::Ok(&[0x01], &[0x43, 0x83]),
                Step::Ok(&[0x01], &[0xc3, 0x83]),
                Step::Ok(&[0x00], &[0x33, 0x90]),
                // a2 against a3, ±0.256 V.
                Step::Ok(&[0x01, 0xbb, 0x83], &[]),
                Step::Ok(&[0x01], &[0xbb, 0x83]),
                Step::Ok(&[0x00], &[0xff, 0x00]),
            ],
        );
        let inputs = [("a0", 4.096), ("a2-a3", 0.256)]
            .map(|(name, full_scale)| Input::new(name, full_scale).unwrap());
        let (wire, mut part, mut values) =
            (bus.wire(), Ads1115::new(inputs.to_vec(), 128), Vec::new());
        part.begin(&wire).await.unwrap();
        part.measure(&wire, &mut values).await.unwrap();
        assert_eq!(values, [Ok(1.65), Ok(-0.002)]);
        assert_eq!(bus.left(), 0);
        bus.then(&[Step::Ok(&[0x01, 0x43, 0x83], &[]), Step::Ok(&[0x01], &[0xff, 0xff])]);
        let other = part.begin(&wire).await;
        assert!(matches!(other, Err(Trouble::Part(Fault::Absent, _))), "{other:?}");
    }
}
