use std::path::PathBuf;

use reading::Channel;
use serde::{Deserialize, Serialize};

use crate::wear::Wear;

/// What `status`, `/metrics` and the page tell of the store: one consistent
/// look at the ledger, `read = stored + dropped`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
pub struct Status {
    /// The file.
    pub path: PathBuf,
    /// Bytes of the file and its log beside it.
    pub size: u64,
    /// The most it may take, bytes.
    pub max_size: u64,
    /// Raw readings in it now.
    pub readings: u64,
    /// Time of the oldest raw reading.
    pub oldest: Option<String>,
    /// The highest number committed.
    pub committed: u64,
    /// The highest number that a power cut doesn't lose.
    #[serde(default)]
    pub durable: u64,
    /// Readings stored and kept from forwarders until the clock is set; not in
    /// JSON, where it stands beside the clock.
    #[serde(skip)]
    pub held: u64,
    /// Readings accepted and not yet committed; not yet in `read`.
    pub queued: u64,
    /// Since the store was made: readings whose fate is known, stored or dropped.
    pub read: u64,
    /// Since the store was made: committed.
    pub stored: u64,
    /// Since the store was made: never stored.
    pub dropped: u64,
    /// Bytes this process has written to disk since the store was opened, as
    /// Linux counts them; 0 where it doesn't.
    pub bytes_written: u64,
    /// What that means for the card, once that can be told.
    #[serde(default)]
    pub wear: Option<Wear>,
    /// Since the store was made: readings lost, by cause, whether they were never
    /// stored or removed before every forwarder had them.
    #[serde(default)]
    pub losses: Vec<Loss>,
    /// Why nothing can be stored now, if that is so.
    pub error: Option<String>,
    /// One per cursor.
    pub forwarders: Vec<ForwarderLedger>,
    /// One per channel, in the order of their names. What was lost of several
    /// together, or of nobody knows which, is in the figures above alone.
    #[serde(skip)]
    pub channels: Vec<ChannelLedger>,
}

/// One channel's part of the ledger: what was read of it is the sum.
#[derive(Clone, Debug, PartialEq)]
pub struct ChannelLedger {
    /// Which.
    pub channel: Channel,
    /// Committed since the store was made.
    pub stored: u64,
    /// Never stored.
    pub dropped: u64,
}

/// Readings lost for one cause.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
pub struct Loss {
    /// Why: `store full`, `store queue full`, `store can't write`, `store damaged`…
    pub reason: String,
    /// How many.
    pub count: u64,
}

/// `stored = acknowledged + pending + dropped`, for one forwarder.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
pub struct ForwarderLedger {
    /// Its name.
    pub name: String,
    /// Readings stored that it is to forward.
    pub stored: u64,
    /// Of these, acknowledged by the broker.
    pub acknowledged: u64,
    /// Of these, waiting.
    pub pending: u64,
    /// Of these, removed before they were acknowledged, or refused for good.
    pub dropped: u64,
}
