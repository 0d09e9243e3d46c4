//! Readings on disk until every forwarder has them and for as long as history
//! is kept.

mod appender;
mod commit;
mod config;
mod cursor;
mod history;
mod open;
mod quality;
mod retention;
mod ring;
mod rollup;
mod row;
mod state;
mod status;
mod writer;

use std::path::PathBuf;
use std::sync::Arc;

use reading::{Epoch, Seq};
use tokio::sync::watch;

pub use appender::{Appender, Dropped};
pub use config::Config;
pub use cursor::{Cursor, Subscription};
pub use history::{Bucket, Query};
pub use status::{ForwarderLedger, Status};
pub use writer::Writer;

/// Why the store can't be opened or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file can't be opened.
    #[error("the store {} can't be opened: {source}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        source: sqlx::Error,
    },
    /// The file was written by a newer version.
    #[error(
        "the store {} was written by a newer version: its schema is {found}, this one knows {known}; install that version, or name another file in store.path",
        path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its schema.
        found: i64,
        /// The newest schema that is known.
        known: i64,
    },
    /// The file's schema can't be brought up to date.
    #[error("the schema of the store {} can't be brought up to date: {source}", path.display())]
    Migrate {
        /// The file.
        path: PathBuf,
        /// Why.
        source: sqlx::migrate::MigrateError,
    },
    /// SQLite refused.
    #[error("the store can't be read: {0}")]
    Sqlite(#[from] sqlx::Error),
}

/// Readers' handle: history, gaps, status, cursors. Cloning copies a pointer.
#[derive(Clone)]
pub struct Store {
    shared: Arc<state::Shared>,
}

impl Store {
    /// The name of this start.
    pub fn epoch(&self) -> Epoch {
        self.shared.epoch
    }

    /// The highest number committed; changes wake whoever waits.
    pub fn committed(&self) -> watch::Receiver<Seq> {
        self.shared.committed.clone()
    }

    /// Figures for people; cheap, from memory.
    pub fn status(&self) -> Status {
        self.shared.status()
    }
}
