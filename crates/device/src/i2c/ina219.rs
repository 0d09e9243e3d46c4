//! INA219: voltage and current of a supply. Texas Instruments' data sheet
//! SBOS448.

use async_trait::async_trait;
use reading::Fault;

use super::{Part, Trouble, Wire};

/// Registers: section 8.6.
const CONFIGURATION: u8 = 0x00;
const SHUNT: u8 = 0x01;
const BUS: u8 = 0x02;

/// 32 V, ±320 mV, 12 bits, both without end: what it holds after power-on, so
/// that a moment without supply changes nothing (section 8.6.2.1).
const PLAIN: u16 = 0x399f;
/// Steps of the registers: section 8.6.3.
const SHUNT_STEPS_A_VOLT: f64 = 100_000.0;
const BUS_STEPS_A_VOLT: f64 = 250.0;
/// ±320 mV; beyond, it stays there.
const SHUNT_MAX: i16 = 32000;

pub(crate) struct Ina219 {
    /// Of the resistor that the current flows through.
    pub(crate) ohms: f64,
}

impl Ina219 {
    /// Volts of the supply, amperes, watts, and volts across the resistor. The
    /// part could work out the current itself, but then it would forget how.
    fn convert(&self, bus: u16, shunt: i16) -> [Result<f64, Fault>; 4] {
        let volts = f64::from(bus >> 3) / BUS_STEPS_A_VOLT;
        if shunt.unsigned_abs() >= SHUNT_MAX.unsigned_abs() {
            let beyond = Err(Fault::OutOfRange);
            return [Ok(volts), beyond, beyond, beyond];
        }
        let across = f64::from(shunt) / SHUNT_STEPS_A_VOLT;
        let amperes = across / self.ohms;
        [Ok(volts), Ok(amperes), Ok(volts * amperes), Ok(across)]
    }
}

#[async_trait]
impl Part for Ina219 {
    /// It has no name that could be read: what is written to it must be there.
    async fn begin(&mut self, wire: &Wire) -> Result<(), Trouble> {
        let [high, low] = PLAIN.to_be_bytes();
        wire.write([CONFIGURATION, high, low]).await?;
        let read = u16::from_be_bytes(wire.write_read([CONFIGURATION]).await?);
        if read != PLAIN {
            let detail =
                format!("what answers is no INA219: {PLAIN:#06x} reads back as {read:#06x}");
            return Err(Trouble::Part(Fault::Absent, detail));
        }
        Ok(())
    }

    async fn measure(
        &mut self,
        wire: &Wire,
        values: &mut Vec<Result<f64, Fault>>,
    ) -> Result<(), Trouble> {
        let bus = u16::from_be_bytes(wire.write_read([BUS]).await?);
        let shunt = i16::from_be_bytes(wire.write_read([SHUNT]).await?);
        values.extend(self.convert(bus, shunt));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::i2c::{Script, Step};

    #[tokio::test]
    async fn the_data_sheets_example() {
        // Table 8: 2 mΩ, registers 0x07d0 and 0x5d98 are 11.98 V, 10 A, 119.8 W, 20 mV.
        let bus = Script::new(
            0x40,
            &[
                Step::Ok(&[0x00, 0x39, 0x9f], &[]),
                Step::Ok(&[0x00], &[0x39, 0x9f]),
                Step::Ok(&[0x02], &[0x5d, 0x98]),
                Step::Ok(&[0x01], &[0x07, 0xd0]),
            ],
        );
        let (wire, mut part, mut values) = (bus.wire(), Ina219 { ohms: 0.002 }, Vec::new());
        part.begin(&wire).await.unwrap();
        part.measure(&wire, &mut values).await.unwrap();
        let shown: Vec<String> =
            values.iter().map(|value| format!("{:.4}", value.unwrap())).collect();
        assert_eq!(shown, ["11.9800", "10.0000", "119.8000", "0.0200"]);
        bus.then(&[Step::Ok(&[0x00, 0x39, 0x9f], &[]), Step::Ok(&[0x00], &[0x85, 0x83])]);
        let other = part.begin(&wire).await;
        assert!(matches!(other, Err(Trouble::Part(Fault::Absent, _))), "{other:?}");
    }

    #[test]
    fn a_current_that_is_too_strong_is_none() {
        // 0x8300 is -320 mV: table 7.
        let part = Ina219 { ohms: 0.1 };
        let of = |shunt: u16| part.convert(0x5d98, shunt.cast_signed())[1];
        assert_eq!(of(0x8300), Err(Fault::OutOfRange));
        assert_eq!(of(0x7d00), Err(Fault::OutOfRange));
        assert!((of(0xf060).unwrap() + 0.4).abs() < 1e-9, "-40 mV");
        assert_eq!(part.convert(0, 0x7d00)[0], Ok(0.0), "the voltage is still known");
    }
}
