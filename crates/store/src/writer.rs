mod batch;
#[cfg(test)]
mod cost;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fs::File;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use reading::{Channel, Kind, Record, Seq};
use sqlx::sqlite::SqliteConnection;
use sqlx::{Connection, Executor};
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{debug, error, info, warn};

use crate::retention::Retention;
use crate::rollup::Rollups;
use crate::state::{Forwarder, Shared};
use crate::wear::{self, Meter};
use crate::{Config, Error, damage};

/// Records a commit, about: enough that its cost hardly counts, few enough that
/// it lasts some 10 ms.
pub(crate) const COMMIT_RECORDS: usize = 8_192;

/// How long a reading waits for others that come with it.
const GATHER: Duration = Duration::from_millis(10);

/// The least time between two commits, and the most from append to commit: less
/// than the 100 ms that are promised by what intake waits and a commit takes.
const PACE: Duration = Duration::from_millis(70);

/// A durable commit is made when the next one could come too late.
const AHEAD: Duration = Duration::from_millis(100);

/// Between two attempts while the disk is at fault.
const RETRY_MIN: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(2);

/// Attempts at the end, when nobody waits for the outcome any more.
const LAST_TRIES: u32 = 6;

/// The one task that writes the file.
pub struct Writer {
    pub(crate) shared: Arc<Shared>,
    pub(crate) db: SqliteConnection,
    /// Held until the connection is closed.
    lock: File,
    /// Dropped when nothing more can come.
    committed: Option<watch::Sender<Seq>>,
    /// The same of what forwarders may have.
    pub(crate) ready: Option<watch::Sender<Seq>>,
    pub(crate) channels: HashMap<Channel, Known>,
    pub(crate) next_id: i64,
    /// Channels that the file doesn't have yet.
    pub(crate) unsaved: Vec<(i64, Channel, Kind)>,
    /// Taken from the queue, not yet committed.
    batch: Vec<Record>,
    batch_at: Option<Instant>,
    /// When the oldest reading came that is committed but not durable.
    undurable_at: Option<Instant>,
    committed_at: Instant,
    pub(crate) full: bool,
    pub(crate) rollups: Rollups,
    /// What is in `rollups` came after this number. As a rule the file has the
    /// figures of all before; those of what waited for the clock are made of the
    /// log.
    pub(crate) gathered: u64,
    roll_at: Option<Instant>,
    /// The positions that the file has.
    pub(crate) positions: Vec<Seq>,
    dropped: u64,
    since_ledger: u64,
    /// The version of the losses that the file has.
    pub(crate) losses_saved: u64,
    /// The version of what waits for the clock that the file has.
    held_saved: u64,
    pub(crate) config: Config,
    pub(crate) retention: Retention,
    /// The last thing done was a removal or a correction: a commit that is due
    /// comes next.
    purged: bool,
    failures: u32,
    written_before: u64,
    wear: Meter,
}

pub(crate) struct Known {
    pub(crate) id: i64,
    /// For which of the forwarders.
    forwarders: Box<[bool]>,
}

enum Plan {
    Wait(Instant),
    Commit { durable: bool, last: bool },
    Purge,
    Date,
    Mend,
    Change,
    End,
}

impl Writer {
    pub(crate) fn new(
        shared: Arc<Shared>,
        db: SqliteConnection,
        lock: File,
        [committed, ready]: [watch::Sender<Seq>; 2],
        config: &Config,
    ) -> Writer {
        let state = shared.state();
        let positions = state.forwarders.iter().map(|forwarder| forwarder.position).collect();
        let dropped = state.ledger.dropped;
        // What opening added, such as of a damaged file, isn't in the file.
        let losses_saved = 0;
        let newest = state.newest;
        drop(state);
        let known = shared.channels.read().unwrap_or_else(PoisonError::into_inner);
        let gathered = shared.committed.borrow().0;
        let next_id = known.keys().max().map_or(1, |id| id + 1);
        drop(known);
        let mut writer = Writer {
            db,
            lock,
            committed: Some(committed),
            ready: Some(ready),
            channels: HashMap::new(),
            next_id,
            unsaved: Vec::new(),
            batch: Vec::new(),
            batch_at: None,
            undurable_at: None,
            committed_at: Instant::now(),
            full: true,
            rollups: Rollups::default(),
            gathered,
            roll_at: None,
            positions,
            dropped,
            since_ledger: 0,
            losses_saved,
            held_saved: 0,
            config: config.clone(),
            retention: Retention::new(config, newest),
            purged: false,
            failures: 0,
            written_before: wear::written(),
            wear: Meter::new(config.card_endurance.map(|size| size.as_u64()), Instant::now()),
            shared,
        };
        writer.measure();
        writer
    }

    /// Commits until nobody appends or acknowledges any more.
    ///
    /// # Errors
    /// Never for a fault of the disk: it waits and tries again.
    pub async fn run(mut self) -> Result<(), Error> {
        let shared = Arc::clone(&self.shared);
        loop {
            let outcome = match self.plan() {
                Plan::Wait(until) => {
                    // Either way the state is looked at again.
                    drop(tokio::time::timeout_at(until, shared.work.notified()).await);
                    continue;
                }
                Plan::Commit { durable, last } => {
                    shared.steps.at_file(self.commit(durable, last)).await
                }
                Plan::Purge => shared.steps.at_file(self.purge()).await,
                Plan::Date => shared.steps.at_file(self.date()).await,
                Plan::Mend => shared.steps.at_file(self.mend()).await,
                Plan::Change => shared.steps.at_file(self.change()).await,
                Plan::End => break,
            };
            match outcome {
                Ok(()) => self.succeeded(),
                Err(error) => self.failed(&error).await,
            }
        }
        shared.steps.at_file(self.close()).await
    }

    fn plan(&mut self) -> Plan {
        let now = Instant::now();
        let state = self.shared.state();
        if state.damaged && self.failures <= LAST_TRIES {
            return Plan::Mend;
        }
        if state.change.is_some() {
            return Plan::Change;
        }
        let queued = !self.batch.is_empty() || !state.queue.is_empty();
        let first = self.batch_at.or_else(|| state.queue.front().map(|queued| queued.at));
        let closing = state.appender_gone;
        let gone = closing && state.cursors == 0;
        if closing && !queued {
            // Whoever waits for more may go.
            (self.committed, self.ready) = (None, None);
        }
        if gone && self.failures > LAST_TRIES {
            return Plan::End;
        }
        let moved = state.moved_at.map(|at| at + self.shared.flush);
        let durable = self.undurable_at.or(first).map(|at| at + self.shared.flush);
        if gone && !queued {
            let clean = moved.is_none() && self.undurable_at.is_none() && self.rollups.is_empty();
            let clean = clean && self.since_ledger == 0 && state.ledger.dropped == self.dropped;
            let clean = clean && state.losses.version == self.losses_saved;
            let clean = clean && state.held.version == self.held_saved;
            return if clean { Plan::End } else { Plan::Commit { durable: true, last: true } };
        }
        let due = first.map(|at| {
            let full = closing || state.queued >= COMMIT_RECORDS;
            if full { now } else { (at + GATHER).max(self.committed_at + PACE).min(at + PACE) }
        });
        // So early that intake's wait and the commit itself come within `flush`.
        let ahead = AHEAD.min(self.shared.flush / 2);
        let idle = [durable.map(|at| at - ahead), moved, self.roll_at];
        let next = due.into_iter().chain(idle.into_iter().flatten()).min();
        let due = next.is_some_and(|at| at <= now);
        if self.retention.due(&state, now) && !(due && self.purged) {
            self.purged = true;
            return Plan::Purge;
        }
        // What is left at the end is done after the next start.
        if !closing && self.dates(&state) && !(due && self.purged) {
            self.purged = true;
            return Plan::Date;
        }
        self.purged = false;
        if due {
            let soon = |at: Option<Instant>| at.is_some_and(|at| at <= now + AHEAD);
            return Plan::Commit { durable: closing || soon(durable) || soon(moved), last: false };
        }
        Plan::Wait(next.unwrap_or(now + crate::retention::EVERY).min(self.retention.next()))
    }

    /// Whether a commit waits for the disk.
    pub(crate) async fn synchronous(&mut self, full: bool) -> Result<(), sqlx::Error> {
        if self.full != full {
            let sql =
                if full { "PRAGMA synchronous = FULL" } else { "PRAGMA synchronous = NORMAL" };
            self.db.execute(sql).await?;
            self.full = full;
        }
        Ok(())
    }

    /// The figures gathered so far are in the file.
    pub(crate) fn rolled(&mut self) {
        self.rollups.clear();
        self.roll_at = None;
    }

    /// All the forwarders' rows are in the file.
    pub(crate) fn saved(&mut self, rows: &[Forwarder]) {
        self.positions = rows.iter().map(|row| row.position).collect();
    }

    /// Looks at the file's size and at what has been written.
    pub(crate) fn measure(&mut self) {
        let len = |suffix: &str| {
            let mut path = self.shared.path.clone().into_os_string();
            path.push(suffix);
            std::fs::metadata(path).map_or(0, |file| file.len())
        };
        let size = len("") + len("-wal");
        let written = wear::written().saturating_sub(self.written_before);
        let capacity = wear::capacity(&self.shared.path);
        let mut state = self.shared.state();
        let wear = self.wear.look(Instant::now(), written, state.ledger.stored, capacity);
        state.size = size;
        state.bytes_written = written;
        // An idle store wears nothing: what was last known stays.
        state.wear = wear.or(state.wear.take());
    }

    fn succeeded(&mut self) {
        if self.failures > 0 {
            self.failures = 0;
            self.shared.state().error = None;
            info!(path = %self.shared.path.display(), "storing again");
        }
    }

    /// Says so once a cause, and waits before the next attempt.
    async fn failed(&mut self, error: &sqlx::Error) {
        let cause = cause(error);
        {
            let mut state = self.shared.state();
            state.damaged |= damage::is_damage(error);
            if state.error.as_ref() == Some(&cause) {
                debug!(%cause, failures = self.failures, "still can't store");
            } else {
                let path = self.shared.path.display();
                warn!(%path, %cause, "can't store: readings wait in memory, then are dropped");
            }
            state.error = Some(cause);
        }
        // Whoever waits for room waits less now.
        self.shared.room.notify_one();
        let wait = RETRY_MIN * 2u32.saturating_pow(self.failures.min(10));
        self.failures += 1;
        tokio::time::sleep(wait.min(RETRY_MAX)).await;
    }

    async fn close(mut self) -> Result<(), Error> {
        self.shared.state().change = None;
        if !self.batch.is_empty() {
            let count = self.shared.state().queued_readings;
            error!(count, "readings could not be stored before the end");
        }
        self.measure();
        // A reader may hold it up; the next start does it then.
        if let Err(error) = self.db.execute("PRAGMA wal_checkpoint(TRUNCATE)").await {
            debug!(%error, "the log beside the store stays");
        }
        self.db.close().await?;
        drop(self.lock);
        Ok(())
    }
}

/// What SQLite says, without sqlx's words around it.
fn cause(error: &sqlx::Error) -> String {
    match error.as_database_error() {
        Some(error) => error.message().to_owned(),
        None => error.to_string(),
    }
}
