//! A Raspberry Pi's lines through rppal, by their BCM numbers: a thread that
//! switches the line, so that any line will do. Its two hardware channels are the
//! kernel's.

use rppal::gpio::{Gpio, OutputPin};

use super::{Pulses, Pwm};
use crate::Failure;
use crate::edges::rpi_failure;

struct Rpi {
    pin: OutputPin,
    frequency: f64,
    active_low: bool,
    share: f64,
}

/// Takes a line.
///
/// # Errors
/// When this isn't a Pi that rppal knows, or there is no such line.
pub(crate) fn open(wanted: &Pulses) -> Result<Box<dyn Pwm>, Failure> {
    let Pulses { channel, frequency, active_low, initial } = *wanted;
    let number = u8::try_from(channel).unwrap_or(u8::MAX);
    let pin = Gpio::new().and_then(|gpio| gpio.get(number)).map_err(|error| rpi_failure(&error))?;
    let pin = if active_low { pin.into_output_high() } else { pin.into_output_low() };
    let mut rpi = Rpi { pin, frequency, active_low, share: 0.0 };
    rpi.set(initial)?;
    Ok(Box::new(rpi))
}

impl Pwm for Rpi {
    /// The line itself is only ever high or low.
    fn share(&mut self) -> Result<f64, Failure> {
        Ok(self.share)
    }

    fn set(&mut self, share: f64) -> Result<(), Failure> {
        let high = if self.active_low { 1.0 - share } else { share };
        let set = self.pin.set_pwm_frequency(self.frequency, high);
        set.map_err(|error| rpi_failure(&error))?;
        self.share = share;
        Ok(())
    }
}
