//! Readings on disk until every forwarder has them and for as long as history
//! is kept. (Skeleton: the signatures are agreed, the bodies are to be written.)

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytesize::ByteSize;
use reading::{Channel, ChannelSpec, Epoch, Gap, Pattern, Record, Seq, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

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

/// Why the store can't be opened or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// SQLite refused.
    #[error(transparent)]
    Sqlite(#[from] sqlx::Error),
    /// The file was written by a newer version.
    #[error(transparent)]
    Migrate(#[from] sqlx::migrate::MigrateError),
}

/// Readers' handle: history, gaps, status, cursors. Cloning copies a pointer.
#[derive(Clone)]
pub struct Store {
    _inner: Arc<()>,
}

/// Intake's handle, the only one that adds records. Dropping it lets the
/// [`Writer`] commit durably what it holds; it ends when the cursors are gone too.
pub struct Appender {}

/// The one task that writes the file.
pub struct Writer {}

/// Readings that the store refused, to be told as gaps.
#[derive(Clone, Debug, PartialEq)]
pub struct Dropped {
    /// How many.
    pub count: u64,
    /// Why: `store queue full`.
    pub reason: &'static str,
}

/// How far one forwarder has got, kept across restarts.
///
/// There is one per forwarder. Everything through its position has been
/// acknowledged; `unsent` gives what follows.
pub struct Cursor {}

/// Who forwards what: opens a [`Cursor`].
#[derive(Clone, Debug)]
pub struct Subscription {
    /// The forwarder's name in the configuration.
    pub forwarder: String,
    /// The channels it forwards.
    pub channels: Vec<Pattern>,
}

/// What `status`, `/metrics` and the page tell of the store.
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
    /// Readings accepted and not yet committed.
    pub queued: u64,
    /// Since the store was made: readings taken from devices.
    pub read: u64,
    /// Since the store was made: committed.
    pub stored: u64,
    /// Since the store was made: never stored.
    pub dropped: u64,
    /// Bytes this process had written to the file since it started.
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
    /// Of these, removed before they were acknowledged.
    pub dropped: u64,
}

/// What to read of the history.
#[derive(Clone, Debug)]
pub struct Query {
    /// Which channel.
    pub channel: Channel,
    /// The first time, inclusive.
    pub from: Timestamp,
    /// The last, exclusive.
    pub to: Timestamp,
}

/// Numbers of one span of time, reduced.
#[derive(Clone, Debug, PartialEq)]
pub struct Bucket {
    /// The beginning of the span.
    pub from: Timestamp,
    /// The smallest number; `None` when none is good or uncertain.
    pub min: Option<f64>,
    /// Their mean.
    pub mean: Option<f64>,
    /// The largest.
    pub max: Option<f64>,
    /// How many numbers.
    pub count: u64,
    /// How many bad readings.
    pub bad: u64,
}

impl Store {
    /// Opens the file, making and migrating it as needed; makes a new epoch
    /// durable; starts no task.
    ///
    /// # Errors
    /// When the file can't be opened or was written by a newer version.
    pub async fn open(
        _config: &Config,
        _channels: &[ChannelSpec],
        _forwarders: &[Subscription],
    ) -> Result<(Store, Appender, Writer, Vec<Cursor>), Error> {
        todo!()
    }

    /// The name of this start.
    pub fn epoch(&self) -> Epoch {
        todo!()
    }

    /// The highest number committed; changes wake whoever waits.
    pub fn committed(&self) -> watch::Receiver<Seq> {
        todo!()
    }

    /// The last reading of each channel, for a page that opens after a restart.
    ///
    /// # Errors
    /// When the file can't be read.
    pub async fn latest(&self) -> Result<Vec<Record>, Error> {
        todo!()
    }

    /// Raw readings of one channel in time order, the newest `max` of the span.
    ///
    /// # Errors
    /// When the file can't be read.
    pub async fn history(&self, _query: &Query, _max: usize) -> Result<Vec<Record>, Error> {
        todo!()
    }

    /// The same reduced to at most `points` buckets, from rollups where raw
    /// readings are gone.
    ///
    /// # Errors
    /// When the file can't be read.
    pub async fn reduced(&self, _query: &Query, _points: usize) -> Result<Vec<Bucket>, Error> {
        todo!()
    }

    /// Gaps that touch the span, of one channel or of several.
    ///
    /// # Errors
    /// When the file can't be read.
    pub async fn gaps(&self, _query: &Query) -> Result<Vec<(Epoch, Seq, Gap)>, Error> {
        todo!()
    }

    /// Figures for people; cheap, from memory.
    pub fn status(&self) -> Status {
        todo!()
    }
}

impl Appender {
    /// The number that the next record bears.
    pub fn next(&self) -> Seq {
        todo!()
    }

    /// Numbers readings that intake is about to publish and append.
    pub fn epoch(&self) -> Epoch {
        todo!()
    }

    /// Hands numbered records over, in ascending order. Waits a little while the
    /// queue is full, then gives up: what a stuck disk can't take must not stop
    /// the view. What is given up is counted and told by [`Appender::losses`].
    ///
    /// # Errors
    /// How many were dropped, and why.
    pub async fn append(&mut self, _records: Vec<Record>) -> Result<(), Dropped> {
        todo!()
    }

    /// What has been lost since it was last asked, for intake to number and
    /// append as gap records.
    pub fn losses(&mut self) -> Vec<Gap> {
        todo!()
    }
}

impl Writer {
    /// Commits until nobody appends or acknowledges any more.
    ///
    /// # Errors
    /// Never for a fault of the disk: it waits and tries again.
    pub async fn run(self) -> Result<(), Error> {
        todo!()
    }
}

impl Cursor {
    /// The forwarder it belongs to.
    pub fn forwarder(&self) -> &str {
        todo!()
    }

    /// Everything through this number is acknowledged (or not for this forwarder).
    pub fn position(&self) -> Seq {
        todo!()
    }

    /// Committed records after `after` that this forwarder is to send, in order,
    /// at most `max`; from memory when they are recent. With them, the number
    /// through which the log was looked at: greater than the last record's when
    /// what follows isn't for this forwarder.
    ///
    /// # Errors
    /// When the file can't be read.
    pub async fn unsent(&self, _after: Seq, _max: usize) -> Result<(Vec<Record>, Seq), Error> {
        todo!()
    }

    /// Waits until something after `after` is committed; `false` when the store
    /// has closed.
    pub async fn wait(&mut self, _after: Seq) -> bool {
        todo!()
    }

    /// Moves on: the broker has everything through `through`.
    pub fn acknowledge(&self, _through: Seq) {
        todo!()
    }
}
