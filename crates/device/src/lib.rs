//! Drivers, and the loop that reads them.
//!
//! A [`Driver`] is the checked settings of one device; opening it gives a
//! [`Device`]; a [`Runner`] keeps one device open and turns its samples into
//! readings. To add a driver, write one file in `drivers/` and add its name to
//! the list in `drivers/mod.rs`.
//!
//! Nothing here ends because a device is wrong: a lost device is a bad reading
//! with a reason, noise is counted, and a panic is caught and the device opened
//! again.

mod alarm;
mod backoff;
mod channel;
mod config;
mod drivers;
mod edges;
mod failure;
mod filters;
mod health;
mod i2c;
mod iio;
mod kind;
mod modbus;
mod output;
mod pwm;
mod recording;
mod runner;
pub mod scan;
mod serial;
pub mod settings;
mod sysfs;
mod usb;
mod worker;

use std::time::Duration;

use async_trait::async_trait;
use reading::{Channel, Datum, Timestamp, Value};
use tokio::sync::oneshot;

pub use alarm::Driven;
pub use config::Config;
pub use drivers::DRIVERS;
pub use failure::Failure;
pub use health::{Health, State};
pub use kind::DriverKind;
pub use recording::{Replay, Replayed, Tap, Tape};
pub use runner::{COMMANDS_MAX, LoseFn, Runner};
pub use serial::preset::{PRESETS, Preset};

/// The checked settings of one device: how to open it.
#[async_trait]
pub trait Driver: Send + Sync {
    /// Opens the device. Called at the start, and again after a failure.
    ///
    /// # Errors
    /// When it can't be opened, with the mend. The runner tries again.
    async fn open(&self) -> Result<Box<dyn Device>, Failure>;

    /// Bus and address of a part on an I2C bus: two devices can't have the same.
    fn i2c(&self) -> Option<(&str, u8)> {
        None
    }

    /// Whether what it needs is plugged in, as far as a glance tells that costs
    /// next to nothing; `None` when none does.
    fn is_there(&self) -> Option<bool> {
        None
    }

    /// Where what goes over its line can be listened to; `None` when it has no line
    /// of its own.
    fn tap(&self) -> Option<&Tap> {
        None
    }

    /// Understands what was recorded of its line; `None` when it has none.
    fn rehearse(&self) -> Option<Box<dyn Rehearsal>> {
        None
    }
}

/// Understands what went over a line once, without the line. Takes no time: how
/// long a silence was is told.
pub trait Rehearsal: Send {
    /// The device said this.
    fn received(&mut self, bytes: &[u8], batch: &mut Batch);

    /// It was asked this.
    fn asked(&mut self, request: &[u8]);

    /// For so long nothing went over the line.
    fn silent(&mut self, silence: Duration, batch: &mut Batch);
}

/// An open device. Dropping it closes the device, at once.
#[async_trait]
pub trait Device: Send {
    /// Waits until there is something to say, and adds it to `batch`.
    ///
    /// A device that must be asked answers at once, and the [`Runner`] asks it
    /// every so often; one that speaks on its own waits. Cancel safe: what a
    /// dropped call has taken from the device is in `batch` or still to come.
    ///
    /// # Errors
    /// When the device is lost. What is merely not understood is not an error:
    /// see [`Batch::noise`].
    async fn read(&mut self, batch: &mut Batch) -> Result<(), Failure>;

    /// Writes a channel and reads its state back. Called for channels that the
    /// driver calls writable, with a value of the channel's type, before scale
    /// and offset. A device that speaks on its own is written between two calls
    /// of [`Device::read`], the first of which was dropped.
    ///
    /// # Errors
    /// When the device is lost. What it merely refuses is not an error: see
    /// [`Taken::Refused`].
    async fn write(&mut self, channel: usize, _value: &Datum) -> Result<Taken, Failure> {
        Ok(Taken::Refused(format!("channel {channel} can't be written: a bug of the driver")))
    }

    /// Takes up the last good value of a channel, before scale and offset: of
    /// this run, or from before the gateway was started. Called once for each
    /// channel that has one, before anything is read. Most devices know their
    /// values better than we do.
    fn restore(&mut self, _channel: usize, _last: &Datum) {}

    /// Adds what has been held back to `batch`: the gateway stops.
    fn finish(&mut self, _batch: &mut Batch) {}
}

/// What a device made of a value that was written.
#[derive(Clone, Debug, PartialEq)]
pub enum Taken {
    /// What the channel reads now.
    State(Datum),
    /// It is there, but doesn't take the value: why, as a sentence for people.
    Refused(String),
}

/// A value for an output, on its way to the device.
#[derive(Debug)]
pub struct Command {
    /// Which output.
    pub channel: Channel,
    /// What it is to become, of the channel's type.
    pub value: Datum,
    /// Told when the device has taken it, or why it hasn't. A command that
    /// nobody waits for any more isn't carried out.
    pub reply: oneshot::Sender<Result<(), String>>,
}

/// One value of one channel, as the device gave it.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// The channel's place in the configuration, from 0.
    pub channel: usize,
    /// When it was true, if the device knows better than the [`Runner`].
    pub at: Option<Timestamp>,
    /// What it is, before scale, offset and range.
    pub value: Value,
}

/// What one call of [`Device::read`] found. The runner owns one and uses it
/// again, so that a read allocates nothing once it has grown.
#[derive(Debug, Default)]
pub struct Batch {
    /// In the order in which they were true.
    pub samples: Vec<Sample>,
    /// How many frames were not understood.
    noise: u64,
    /// The first of them, for the log.
    heard: Option<String>,
    /// How many changes the device knows to be missing from the samples, which
    /// say so where it matters.
    pub missed: u64,
    /// Of these, what would have been readings.
    pub(crate) lost: Vec<Lost>,
}

/// Changes of one channel that would have been readings, and aren't.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Lost {
    /// The channel's place in the configuration.
    pub(crate) channel: usize,
    /// How many.
    pub(crate) count: u64,
    /// After this,
    pub(crate) from: Timestamp,
    /// and up to this.
    pub(crate) to: Timestamp,
}

impl Batch {
    /// Adds a value taken now.
    pub fn push(&mut self, channel: usize, value: Value) {
        self.samples.push(Sample { channel, at: None, value });
    }

    /// Adds a good value taken now.
    pub fn good(&mut self, channel: usize, datum: Datum) {
        self.push(channel, Value::Good(datum));
    }

    /// Counts a frame that was not understood. `describe` is called for the
    /// first only: noise must be cheap.
    pub fn noise(&mut self, describe: impl FnOnce() -> String) {
        self.noise += 1;
        if self.heard.is_none() {
            self.heard = Some(describe());
        }
    }
}
