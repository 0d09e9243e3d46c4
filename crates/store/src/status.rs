use std::path::PathBuf;

use serde::{Deserialize, Serialize};

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
    /// Why nothing can be stored now, if that is so.
    pub error: Option<String>,
    /// One per cursor.
    pub forwarders: Vec<ForwarderLedger>,
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
