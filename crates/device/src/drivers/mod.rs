//! Every driver there is. A new one is a file here and a line in [`DRIVERS`].

mod sim;

use crate::DriverKind;

/// Every driver, by name.
pub const DRIVERS: &[DriverKind] = &[DriverKind::of::<sim::Sim>()];
