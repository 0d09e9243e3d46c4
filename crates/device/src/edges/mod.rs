//! Digital inputs: their levels, and the changes of them. One trait, so that
//! the driver doesn't know who watches the lines.

mod cdev;
#[cfg(feature = "rpi")]
mod rpi;
mod sim;

use std::time::Duration;

use async_trait::async_trait;
use reading::Timestamp;

use crate::Failure;

pub(crate) use cdev::open as open_cdev;
#[cfg(feature = "rpi")]
pub(crate) use rpi::open as open_rpi;
pub(crate) use sim::open as open_sim;

/// Who holds a line, for whoever asks the kernel.
const CONSUMER: &str = "tidemill";

/// Which line of a chip.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LineId {
    /// By its number on the chip, from 0.
    Offset(u32),
    /// By the name that the board gives it.
    Name(String),
}

/// What holds a line at a level while nothing drives it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Bias {
    /// Whatever it was.
    #[default]
    AsIs,
    /// Nothing.
    Disabled,
    /// A resistor to the supply.
    PullUp,
    /// A resistor to ground.
    PullDown,
}

/// One input as it is wanted.
#[derive(Clone, Debug)]
pub(crate) struct Input {
    pub(crate) line: LineId,
    pub(crate) bias: Bias,
    pub(crate) active_low: bool,
    /// Levels that last less are no change.
    pub(crate) debounce: Option<Duration>,
    /// Of the simulation: changes this often.
    pub(crate) toggle: Option<Duration>,
}

/// A change of one input, or its level at the opening.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Edge {
    /// The place of the input in the request.
    pub(crate) input: usize,
    /// Whether it is now active, with `active_low` taken into account.
    pub(crate) active: bool,
    /// When, as the kernel saw it.
    pub(crate) at: Option<Timestamp>,
    /// Changes before this one have been lost.
    pub(crate) missed: bool,
}

/// Inputs that are being watched. Dropping it releases them.
#[async_trait]
pub(crate) trait Inputs: Send {
    /// The levels now, one for each input.
    ///
    /// # Errors
    /// When they can't be read.
    fn levels(&mut self) -> Result<Vec<bool>, Failure>;

    /// Waits for changes and adds them to `edges`. Cancel safe.
    ///
    /// # Errors
    /// When the chip is lost.
    async fn changes(&mut self, edges: &mut Vec<Edge>) -> Result<(), Failure>;
}

impl std::fmt::Display for LineId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            LineId::Offset(offset) => write!(f, "{offset}"),
            LineId::Name(name) => write!(f, "\"{name}\""),
        }
    }
}
