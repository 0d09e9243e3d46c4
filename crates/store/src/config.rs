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
    /// Free space on the file system below which the store doesn't grow and the
    /// oldest go, but no more than a quarter of the file system.
    #[schemars(with = "String")]
    pub keep_free: ByteSize,
    /// Bytes that the card may be written in all, as its maker states them
    /// (TBW); without it, 200 times the size of the file system.
    #[schemars(with = "Option<String>")]
    pub card_endurance: Option<ByteSize>,
}

/// What may lie in memory: some 250,000 readings.
const STAND_IN_SIZE: ByteSize = ByteSize::mib(16);
/// Less than this leaves no room for the log beside the file.
const SIZE_MIN: ByteSize = ByteSize::kib(256);
/// Each flush waits for the card: more often than this it would do little else.
const FLUSH_MIN: Duration = Duration::from_millis(10);
/// Longer, and a power cut costs more than anybody would expect.
const FLUSH_MAX: Duration = Duration::from_secs(3600);

impl Config {
    /// A small store at `path`, for as long as this one can't be opened.
    #[must_use]
    pub fn stand_in(&self, path: PathBuf) -> Config {
        let max_size = self.max_size.min(STAND_IN_SIZE);
        Config { path, max_size, keep_free: ByteSize::b(0), ..self.clone() }
    }

    /// What the types can't say: each key that can't be as it is, with what
    /// would be right.
    pub fn check(&self) -> Vec<(&'static str, String)> {
        let mut wrong = Vec::new();
        if self.path.file_name().is_none() {
            wrong.push(("path", "name a file, such as /var/lib/tidemill/tidemill.db".to_owned()));
        }
        if !(FLUSH_MIN..=FLUSH_MAX).contains(&self.flush) {
            wrong.push(("flush", "use 10ms to 1h".to_owned()));
        }
        if self.max_size < SIZE_MIN {
            wrong.push(("max_size", format!("use {}KiB or more", SIZE_MIN.as_u64() / 1024)));
        }
        if self.card_endurance == Some(ByteSize::b(0)) {
            wrong.push(("card_endurance", "use what the maker states, such as 30TiB".to_owned()));
        }
        wrong
    }
}

impl Default for Config {
    fn default() -> Config {
        Config {
            path: "/var/lib/tidemill/tidemill.db".into(),
            flush: Duration::from_secs(1),
            keep: Duration::from_secs(30 * 86_400),
            keep_rollups: Duration::from_secs(2 * 31_557_600),
            max_size: ByteSize::gib(2),
            keep_free: ByteSize::mib(64),
            card_endurance: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_is_told_with_what_would_be_right() {
        assert_eq!(Config::default().check(), []);
        let config = Config {
            path: "".into(),
            flush: Duration::ZERO,
            max_size: ByteSize::b(0),
            card_endurance: Some(ByteSize::b(0)),
            ..Config::default()
        };
        let wrong = config.check();
        let keys: Vec<&str> = wrong.iter().map(|(key, _)| *key).collect();
        assert_eq!(keys, ["path", "flush", "max_size", "card_endurance"]);
        assert_eq!(wrong[2].1, "use 256KiB or more");
    }
}
