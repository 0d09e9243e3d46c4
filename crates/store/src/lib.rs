//! Readings on disk until every forwarder has them and for as long as history
//! is kept.
//!
//! One SQLite file in WAL mode is the log of all records, the outbox of every
//! forwarder and the history that people look at. One [`Writer`] writes it; it
//! gets numbered records from the one [`Appender`] and positions from the
//! [`Cursor`]s, and readers have connections of their own.
//!
//! # The promises
//! - **Killed at any instant**, no reading older than 100 ms is lost: the writer
//!   commits within 70 ms of an append. **Power cut**: none older than
//!   `store.flush`. Most commits are `synchronous=NORMAL`, which a killed process
//!   survives and a power cut may undo back to the last `FULL` one; one of those
//!   is made every `flush` while there is something to make durable. Nothing
//!   damages the file either way. An idle store writes nothing.
//! - **Numbers ascend** over all starts: the first of a start is one more than
//!   anything the file knows of, in the log, a gap, a position or a removal. The
//!   start has an [`Epoch`] of its own, durable before [`Store::open`] returns,
//!   because after a power cut numbers may be given again.
//! - **Forgotten only after** [`Cursor::acknowledge`], but for `max_size`: age
//!   alone removes nothing that a configured forwarder is still to get.
//! - **The ledger balances** in every [`Status`]: `read = stored + dropped`, and
//!   for each forwarder `stored = acknowledged + pending + dropped`, also after a
//!   kill, when what was committed last is counted anew. What is dropped comes
//!   out of [`Appender::losses`] once, to be numbered and stored as a gap.
//! - **What is lost is told**: counted by cause, and written as untold until the
//!   gap record that tells it is committed, so that a kill makes no loss silent.
//! - **A damaged file is put aside**, at the start or while it runs; what it still
//!   has is copied to a new one, page by page, without asking SQLite.
//! - **A clock that isn't set yet** holds back: what [`Appender::hold`] says was
//!   stamped before is stored and read, and given to no cursor until
//!   [`Appender::date`] has its times corrected or [`Appender::give_up`] lets it
//!   go as it is, uncertain. A start of the same boot corrects for one before.
//! - **A disk at fault stops nothing**: the writer keeps its batch, tries again
//!   (100 ms to 2 s), says so once a cause; the appender waits a little, then
//!   counts losses; all goes on by itself.
//! - **Memory has a limit**: a queue of 65,536 records, a ring of 8,192, the
//!   numbers that a forwarder has in flight; the backlog is in the file alone.
//!
//! # The format
//! `migrations/` has the tables with a comment each. In short:
//!
//! | table | a row is |
//! | --- | --- |
//! | `log` | a reading: number, channel, time, value, code of its quality |
//! | `gap` | a gap, numbered among the readings |
//! | `epoch` | a start: a record belongs to the last with `first_seq <= seq` |
//! | `channel`, `quality` | what an id, a code stands for |
//! | `rollup` | a minute of a channel: smallest, sum, largest, counts, and its first and last number |
//! | `forwarder`, `ledger` | a position; counts, each with the number through which it counts |
//! | `undated` | a start whose clock wasn't set: what is added to its times, and how far that has got |
//! | `loss`, `untold` | readings lost for a cause; a loss that no gap record tells yet |
//!
//! People read the views `readings` and `gaps`. A value is REAL for a number,
//! INTEGER 0 or 1 for a boolean, TEXT for a text, NULL when the reading is bad.
//!
//! The log has no index on time, which would make five times as many bytes to
//! write. Instead each minute's figures say between which numbers its readings
//! are, which holds also when the clock has jumped. Figures are gathered in
//! memory and written, with the last number that they include, when the minute
//! is over; after a kill they are made from the log.
//!
//! # What it costs
//! Bytes a reading, measured with `examples/append.rs` over 8 to 17 minutes on a
//! two-core x86 machine, each reading appended alone, acknowledged as it is
//! committed and removed when it is half a minute old; what Linux counts for this
//! process, and what the disk (ext4, of its own) was given in all. Before durable
//! commits filled their sector and SQLite used `fdatasync`, over two minutes:
//!
//! | a second, channels | bytes | the disk | before | the disk |
//! | --- | --- | --- | --- | --- |
//! | 10 of one | 1,000 | 1,070 | 1,236 | 1,525 |
//! | 100 of one | 282 | 292 | 281 | 313 |
//! | 100 of ten | 294 | 302 | 273 | 304 |
//!
//! Until the log beside the file has once been as long as it gets, nine minutes at
//! ten a second, each durable commit makes it longer, and the file system notes
//! that too: 600 bytes a reading at ten a second, 50 at a hundred.
//!
//! Of the 1,000 bytes ten commits of a page of 512 each are 536, new leaves of the
//! log and the position are 200, filling the sector 80; removal costs 50 to 100, the
//! index that SQLite shares with other programs 100. Pages of 512 bytes are the
//! default because a commit writes whole pages and most commits are small.
//!
//! At full speed 370,000 to 570,000 readings a second are stored, with 59 bytes
//! each, and 310,000 a second are read back by a cursor from the file.
//!
//! Removed rows leave free pages that are used again: the file never shrinks,
//! which would cost as many writes as the readings themselves. After `max_size`
//! has been made smaller, `VACUUM` (with the service stopped) makes the file so.

mod appender;
mod aside;
mod change;
mod commit;
mod config;
mod cursor;
mod damage;
mod history;
mod losses;
mod mend;
mod open;
mod quality;
mod raw;
mod replay;
mod retention;
mod ring;
mod rollup;
mod row;
mod salvage;
mod sector;
mod skip;
mod state;
mod status;
mod steps;
mod today;
mod undated;
mod wear;
mod writer;

use std::path::PathBuf;
use std::sync::Arc;

use reading::{Epoch, Seq};
use tokio::sync::watch;

pub use appender::{Appender, Dropped};
pub use config::Config;
pub use cursor::{Cursor, Subscription};
pub use history::{Bucket, Query};
pub use status::{ChannelLedger, ForwarderLedger, Loss, Status};
pub use wear::{CYCLES_ASSUMED, Wear};
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
    /// Another process has it open for writing.
    #[error(
        "the store {} is in use by another gateway: stop that one, or name another file in store.path",
        path.display()
    )]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// It is closing.
    #[error("the store has closed")]
    Closed,
    /// SQLite refused.
    #[error("the store can't be read: {0}")]
    Sqlite(#[from] sqlx::Error),
}

impl Error {
    /// The disk is full, read-only or fails: later it may be possible.
    pub fn is_of_the_disk(&self) -> bool {
        matches!(self, Error::Open { source, .. } if damage::is_of_the_disk(source))
    }
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

    /// For a simulation: from now on transactions pause where others may go on.
    #[cfg(debug_assertions)]
    #[doc(hidden)]
    pub fn simulate(&self) {
        self.shared.steps.simulate();
    }

    /// For a simulation: whether the store is at its file, so that simulated time
    /// has to stand still. A reader is until its connection is back in its pool.
    #[cfg(debug_assertions)]
    #[doc(hidden)]
    pub fn is_at_file(&self) -> bool {
        let pools = [&self.shared.backlog, &self.shared.history];
        let reads = |pool: &sqlx::SqlitePool| pool.size() as usize > pool.num_idle();
        self.shared.steps.is_at_file() || pools.into_iter().any(reads)
    }

    /// For a simulation: how often it has been at its file.
    #[cfg(debug_assertions)]
    #[doc(hidden)]
    pub fn times_at_file(&self) -> usize {
        self.shared.steps.times()
    }

    /// Figures for people; cheap, from memory.
    pub fn status(&self) -> Status {
        self.shared.status()
    }

    /// This one is used while the file at `path` can't be, and why that is so: its
    /// status is to say it for as long as it lasts.
    pub fn stand_in_for(&self, path: PathBuf, cause: String) {
        self.shared.state().stands_in_for = Some((path, cause));
    }
}
