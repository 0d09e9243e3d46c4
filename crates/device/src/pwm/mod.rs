//! Outputs between off and on: pulse width modulation. One trait, so that the
//! driver doesn't know who makes the pulses.

#[cfg(feature = "rpi")]
mod rpi;
mod sysfs;

use crate::Failure;

#[cfg(feature = "rpi")]
pub(crate) use rpi::open as open_rpi;
pub(crate) use sysfs::open as open_sysfs;

/// Pulses as they are wanted.
#[derive(Clone, Debug)]
pub(crate) struct Pulses {
    /// The channel of the PWM chip, or the BCM number of the line.
    pub(crate) channel: u32,
    /// Pulses a second.
    pub(crate) frequency: f64,
    /// On is low.
    pub(crate) active_low: bool,
    /// The share of the time that it is on at the opening, 0 to 1.
    pub(crate) initial: f64,
}

/// One output that is held. Dropping it leaves it as it is, as far as the board
/// does that.
pub(crate) trait Pwm: Send {
    /// The share of the time that it is on, 0 to 1, as it is read back.
    ///
    /// # Errors
    /// When the chip is lost.
    fn share(&mut self) -> Result<f64, Failure>;

    /// Sets the share of the time that it is on, 0 to 1.
    ///
    /// # Errors
    /// When the chip is lost.
    fn set(&mut self, share: f64) -> Result<(), Failure>;
}

/// An output that isn't there.
struct Sim(f64);

/// Makes one.
pub(crate) fn open_sim(wanted: &Pulses) -> Box<dyn Pwm> {
    Box::new(Sim(wanted.initial))
}

impl Pwm for Sim {
    fn share(&mut self) -> Result<f64, Failure> {
        Ok(self.0)
    }

    fn set(&mut self, share: f64) -> Result<(), Failure> {
        self.0 = share;
        Ok(())
    }
}
