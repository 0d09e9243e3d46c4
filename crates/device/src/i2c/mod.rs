//! Parts on an I2C bus that have no driver of the kernel's: how they are spoken
//! to, and what each says. One part, one file, with a pure conversion.

mod ads1115;
mod bme280;
mod ina219;
mod kernel;
mod scd4x;
#[cfg(test)]
mod script;
mod sensirion;
mod sht31;
mod wire;

use async_trait::async_trait;
use reading::Fault;

pub(crate) use ads1115::{Ads1115, FULL_SCALES, Input, RATES};
pub(crate) use bme280::{Bme280, Variant};
pub(crate) use ina219::Ina219;
pub(crate) use kernel::connect;
pub(crate) use scd4x::Scd4x;
#[cfg(test)]
pub(crate) use script::{Script, Step};
pub(crate) use sht31::Sht31;
#[cfg(test)]
pub(crate) use wire::BusError;
pub(crate) use wire::{Trouble, Wire, failure, hexadecimal};

/// A part on a bus.
#[async_trait]
pub(crate) trait Part: Send {
    /// Finds out whether it is the part that is wanted, and makes it ready.
    ///
    /// # Errors
    /// When it doesn't answer, or as another part would.
    async fn begin(&mut self, wire: &Wire) -> Result<(), Trouble>;

    /// Measures, and adds a value for each of its quantities, in their order; or
    /// none, when it has nothing new.
    ///
    /// # Errors
    /// When it doesn't answer, or not as it should.
    async fn measure(
        &mut self,
        wire: &Wire,
        values: &mut Vec<Result<f64, Fault>>,
    ) -> Result<(), Trouble>;
}
