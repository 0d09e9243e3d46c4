use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `[store]`.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The SQLite file.
    pub path: PathBuf,
    /// A power cut loses at most this much.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub flush: Duration,
    /// History of raw readings.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub keep: Duration,
    /// One-minute minimum, mean, maximum and count.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    pub keep_rollups: Duration,
    /// Then the oldest go, forwarded ones first; each loss is a gap record.
    #[schemars(with = "String")]
    pub max_size: ByteSize,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            path: "/var/lib/tidemill/tidemill.db".into(),
            flush: Duration::from_secs(1),
            keep: Duration::from_secs(30 * 86_400),
            keep_rollups: Duration::from_secs(2 * 31_557_600),
            max_size: ByteSize::gib(2),
        }
    }
}
