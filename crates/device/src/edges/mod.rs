//! Digital lines: their levels, the changes of inputs, and writing outputs. One
//! trait, so that the driver doesn't know who holds the lines.

mod cdev;
mod meter;
#[cfg(feature = "rpi")]
mod rpi;
mod sim;

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use reading::Timestamp;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Unexpected, Visitor};
use serde::{Deserialize, Deserializer};

use crate::Failure;

pub(crate) use cdev::open as open_cdev;
pub(crate) use meter::Meter;
#[cfg(feature = "rpi")]
pub(crate) use rpi::{failure as rpi_failure, open as open_rpi};
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

/// What holds a line while nothing drives it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
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

/// What a line is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// It is read, and these changes are told. Never driven.
    Input(Edges),
    /// It is driven, from the moment it is taken: active or not.
    Output(bool),
}

/// Which changes of a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Edges {
    /// Those that make it active.
    #[default]
    Rising,
    /// Those that make it inactive.
    Falling,
    /// All.
    Both,
}

/// One line as it is wanted.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) line: LineId,
    pub(crate) role: Role,
    pub(crate) bias: Bias,
    pub(crate) active_low: bool,
    /// Levels that last less are no change.
    pub(crate) debounce: Option<Duration>,
    /// Of the simulation: changes this often.
    pub(crate) toggle: Option<Duration>,
}

/// A change of one input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Edge {
    /// The place of the line in the request.
    pub(crate) line: usize,
    /// Whether it is now active, with `active_low` taken into account.
    pub(crate) active: bool,
    /// When, as the kernel saw it.
    pub(crate) at: Option<Timestamp>,
    /// So many changes before this one have been lost.
    pub(crate) missed: u32,
}

/// Lines that are held. Dropping it releases them: an output then stays as it
/// is, as far as the board does that.
#[async_trait]
pub(crate) trait Lines: Send {
    /// The levels now, one for each line; of an output what it is read back as.
    ///
    /// # Errors
    /// When they can't be read.
    fn levels(&mut self) -> Result<Vec<bool>, Failure>;

    /// Waits for changes and adds them to `edges`. Cancel safe.
    ///
    /// # Errors
    /// When the chip is lost.
    async fn changes(&mut self, edges: &mut Vec<Edge>) -> Result<(), Failure>;

    /// Drives an output, and reads it back.
    ///
    /// # Errors
    /// When the chip is lost.
    fn drive(&mut self, line: usize, active: bool) -> Result<bool, Failure>;
}

impl Edges {
    /// Whether a change that leads to this state is one.
    pub(crate) fn is(self, active: bool) -> bool {
        match self {
            Edges::Rising => active,
            Edges::Falling => !active,
            Edges::Both => true,
        }
    }

    /// What tells of the changes of both.
    pub(crate) fn and(self, other: Edges) -> Edges {
        if self == other { self } else { Edges::Both }
    }
}

impl Edge {
    /// How many changes of a kind this one stands for, those that were missed
    /// before it with it, on a line of which `told` are told.
    pub(crate) fn count(&self, kind: Edges, told: Edges) -> u64 {
        let missed = u64::from(self.missed);
        match (kind, told) {
            // They alternate: the last that was missed led to the other state.
            (Edges::Rising | Edges::Falling, Edges::Both) => match kind.is(self.active) {
                true => missed / 2 + 1,
                false => missed.div_ceil(2),
            },
            _ => missed + 1,
        }
    }
}

impl fmt::Display for LineId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LineId::Offset(offset) => write!(f, "{offset}"),
            LineId::Name(name) => write!(f, "\"{name}\""),
        }
    }
}

impl<'de> Deserialize<'de> for LineId {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<LineId, D::Error> {
        struct Either;
        impl Visitor<'_> for Either {
            type Value = LineId;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the number of a line on its chip, or its name in quotes")
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<LineId, E> {
                let offset = u32::try_from(number).ok();
                offset
                    .map(LineId::Offset)
                    .ok_or_else(|| E::invalid_value(Unexpected::Signed(number), &self))
            }

            fn visit_str<E>(self, name: &str) -> Result<LineId, E> {
                Ok(LineId::Name(name.to_owned()))
            }
        }
        input.deserialize_any(Either)
    }
}

impl JsonSchema for LineId {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Line".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["integer", "string"], "minimum": 0 })
    }
}

/// When an edge came, of which the kernel tells the time since the boot
/// (CLOCK_MONOTONIC). Its wall clock would jump under us while it is being set.
fn since_boot(then: Duration) -> Timestamp {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let now = Duration::try_from(now).unwrap_or(then);
    Timestamp::now() - now.saturating_sub(then)
}
