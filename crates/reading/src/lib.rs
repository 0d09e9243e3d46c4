//! What was measured, when, and how far to trust it.
//!
//! This is the vocabulary that every other crate speaks. It does no I/O, knows
//! no runtime and serialises nothing: a row, an MQTT payload and a frame of the
//! feed are each the business of the crate that owns that boundary. It is the
//! only crate that asks the system clock for the time.

mod channel;
pub mod clock;
mod gap;
mod pattern;
mod record;
mod timestamp;
mod value;

pub use channel::{Channel, ChannelSpec, InvalidName, Unit, is_name};
pub use gap::Gap;
pub use pattern::{InvalidPattern, Pattern};
pub use record::{Body, Epoch, InvalidEpoch, Record, Seq};
pub use timestamp::{InvalidTimestamp, Timestamp};
pub use value::{Datum, Doubt, Fault, Kind, Quality, Value};

/// One value of one channel at one instant.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// What was measured.
    pub channel: Channel,
    /// When it was true, which is not always when it arrived.
    pub at: Timestamp,
    /// What was measured, or why nothing was.
    pub value: Value,
}
