use std::borrow::Cow;

use crate::{Channel, Timestamp};

/// A record that readings are missing: how many, of what, when and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The time of the first missing reading, as far as it is known.
    pub from: Timestamp,
    /// The time of the last.
    pub to: Timestamp,
    /// How many are missing.
    pub count: u64,
    /// Of which channel; of several when there is none.
    pub channel: Option<Channel>,
    /// Why, in a few words: `store full`.
    pub reason: Cow<'static, str>,
}
