use std::collections::HashMap;
use std::fs::File;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use reading::{Body, Channel, Gap, Kind, Record, Seq, Timestamp};
use sqlx::sqlite::SqliteConnection;
use sqlx::{Connection, Executor};
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{debug, error, info, warn};

use crate::appender::readings;
use crate::retention::Retention;
use crate::rollup::{MINUTE, Rollups};
use crate::row::{LogRow, integer};
use crate::state::{Forwarder, Ledger, Shared, State};
use crate::{Config, Error, commit};

/// Records a commit, about: enough that its cost hardly counts, few enough that
/// it lasts some 10 ms.
pub(crate) const COMMIT_RECORDS: usize = 8_192;

/// How long a reading waits for others that come with it.
const GATHER: Duration = Duration::from_millis(10);

/// The least time between two commits, and the most from append to commit, less
/// than the 100 ms that are promised by what a commit takes.
const PACE: Duration = Duration::from_millis(80);

/// A durable commit is made when the next one could come too late.
const AHEAD: Duration = Duration::from_millis(100);

/// An acknowledged position is written with the next commit when it has moved
/// by so much; less waits for a durable one.
const MOVED: u64 = 100;

/// The ledger is written once in so many records: what opening counts after a
/// kill, some 20 ms.
const LEDGER_RECORDS: u64 = 50_000;

/// Between two attempts while the disk is at fault.
const RETRY_MIN: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(5);

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
    channels: HashMap<Channel, Known>,
    next_id: i64,
    /// Channels that the file doesn't have yet.
    unsaved: Vec<(i64, Channel, Kind)>,
    /// Taken from the queue, not yet committed.
    batch: Vec<Record>,
    batch_at: Option<Instant>,
    /// When the oldest reading came that is committed but not durable.
    undurable_at: Option<Instant>,
    committed_at: Instant,
    full: bool,
    pub(crate) rollups: Rollups,
    roll_at: Option<Instant>,
    /// The positions that the file has.
    positions: Vec<Seq>,
    dropped: u64,
    since_ledger: u64,
    pub(crate) retention: Retention,
    /// The last thing done was a removal: a commit that is due comes next.
    purged: bool,
    failures: u32,
    written_before: u64,
}

struct Known {
    id: i64,
    /// For which of the forwarders.
    forwarders: Box<[bool]>,
}

enum Plan {
    Wait(Instant),
    Commit { durable: bool, last: bool },
    Purge,
    End,
}

/// What goes into one commit beside the records.
struct Extras {
    ledger: Ledger,
    write_ledger: bool,
    roll: bool,
    forwarders: Vec<(usize, Forwarder)>,
}

impl Writer {
    pub(crate) fn new(
        shared: Arc<Shared>,
        db: SqliteConnection,
        lock: File,
        committed: watch::Sender<Seq>,
        config: &Config,
    ) -> Writer {
        let state = shared.state();
        let positions = state.forwarders.iter().map(|forwarder| forwarder.position).collect();
        let dropped = state.ledger.dropped;
        drop(state);
        let known = shared.channels.read().unwrap_or_else(PoisonError::into_inner);
        let next_id = known.keys().max().map_or(1, |id| id + 1);
        drop(known);
        let writer = Writer {
            db,
            lock,
            committed: Some(committed),
            channels: HashMap::new(),
            next_id,
            unsaved: Vec::new(),
            batch: Vec::new(),
            batch_at: None,
            undurable_at: None,
            committed_at: Instant::now(),
            full: true,
            rollups: Rollups::default(),
            roll_at: None,
            positions,
            dropped,
            since_ledger: 0,
            retention: Retention::new(config),
            purged: false,
            failures: 0,
            written_before: written(),
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
        loop {
            let outcome = match self.plan() {
                Plan::Wait(until) => {
                    // Either way the state is looked at again.
                    drop(tokio::time::timeout_at(until, self.shared.work.notified()).await);
                    continue;
                }
                Plan::Commit { durable, last } => self.commit(durable, last).await,
                Plan::Purge => self.purge().await,
                Plan::End => break,
            };
            match outcome {
                Ok(()) => self.succeeded(),
                Err(error) => self.failed(&error).await,
            }
        }
        self.close().await
    }

    fn plan(&mut self) -> Plan {
        let now = Instant::now();
        let state = self.shared.state();
        let queued = !self.batch.is_empty() || !state.queue.is_empty();
        let first = self.batch_at.or_else(|| state.queue.front().map(|queued| queued.at));
        let closing = state.appender_gone;
        let gone = closing && state.cursors == 0;
        if closing && !queued {
            // Whoever waits for more may go.
            self.committed = None;
        }
        if gone && self.failures > LAST_TRIES {
            return Plan::End;
        }
        let moved = state.moved_at.map(|at| at + self.shared.flush);
        let durable = self.undurable_at.or(first).map(|at| at + self.shared.flush);
        if gone && !queued {
            let clean = moved.is_none() && self.undurable_at.is_none() && self.rollups.is_empty();
            let clean = clean && self.since_ledger == 0 && state.ledger.dropped == self.dropped;
            return if clean { Plan::End } else { Plan::Commit { durable: true, last: true } };
        }
        let due = first.map(|at| {
            let full = closing || state.queued >= COMMIT_RECORDS;
            if full { now } else { (at + GATHER).max(self.committed_at + PACE).min(at + PACE) }
        });
        let idle = [self.undurable_at.map(|at| at + self.shared.flush), moved, self.roll_at];
        let next = due.into_iter().chain(idle.into_iter().flatten()).min();
        let due = next.is_some_and(|at| at <= now);
        if self.retention.due(&state, now) && !(due && self.purged) {
            self.purged = true;
            return Plan::Purge;
        }
        self.purged = false;
        if due {
            let soon = |at: Option<Instant>| at.is_some_and(|at| at <= now + AHEAD);
            return Plan::Commit { durable: closing || soon(durable) || soon(moved), last: false };
        }
        Plan::Wait(next.unwrap_or(now + crate::retention::EVERY).min(self.retention.next()))
    }

    async fn commit(&mut self, durable: bool, last: bool) -> Result<(), sqlx::Error> {
        self.take();
        self.know();
        let extras = self.extras(durable, last);
        let written = self.write(&extras, durable).await;
        if written.is_err() && !extras.forwarders.is_empty() {
            self.shared.state().moved_at.get_or_insert(Instant::now());
        }
        written?;
        self.done(extras, durable);
        Ok(())
    }

    /// From the queue into the writer's hands.
    fn take(&mut self) {
        let mut state = self.shared.state();
        while self.batch.len() < COMMIT_RECORDS {
            let Some(queued) = state.queue.pop_front() else { break };
            self.batch_at.get_or_insert(queued.at);
            if self.batch.is_empty() {
                self.batch = queued.records;
            } else {
                self.batch.extend(queued.records);
            }
        }
    }

    /// Gives ids to channels that have none.
    fn know(&mut self) {
        for record in &self.batch {
            let (channel, kind) = match &record.body {
                Body::Reading(reading) => {
                    let kind = reading.value.datum().map_or(Kind::Number, |datum| datum.kind());
                    (&reading.channel, kind)
                }
                Body::Gap(Gap { channel: Some(channel), .. }) => (channel, Kind::Number),
                Body::Gap(_) => continue,
            };
            if self.channels.contains_key(channel) {
                continue;
            }
            let id = self.shared.channel_id(channel).unwrap_or_else(|| {
                let id = self.next_id;
                self.next_id += 1;
                self.unsaved.push((id, channel.clone(), kind));
                let channels = self.shared.channels.write();
                channels.unwrap_or_else(PoisonError::into_inner).insert(id, channel.clone());
                id
            });
            let state = self.shared.state();
            let forwarders = state.forwarders.iter().map(|f| f.matches(channel)).collect();
            drop(state);
            self.channels.insert(channel.clone(), Known { id, forwarders });
        }
    }

    fn id(&self, channel: &Channel) -> i64 {
        self.channels.get(channel).map_or(0, |known| known.id)
    }

    fn extras(&self, durable: bool, last: bool) -> Extras {
        let now = Instant::now();
        let mut state = self.shared.state();
        let before = self.shared.committed.borrow().0;
        let through = self.batch.last().map_or(before, |record| record.seq.0);
        let roll = !self.rollups.is_empty()
            && (last || self.rollups.is_full() || self.roll_at.is_some_and(|at| at <= now));
        let mut ledger = state.ledger;
        ledger.counted = through;
        ledger.stored += readings(&self.batch);
        if roll {
            ledger.rolled = before;
        }
        let due = self.since_ledger + self.batch.len() as u64 >= LEDGER_RECORDS;
        let mut write_ledger = roll || last || due || ledger.dropped != self.dropped;
        let moved = |i: usize, state: &State| {
            state.forwarders[i].position.0 - self.positions[i].0.min(state.forwarders[i].position.0)
        };
        let which: Vec<usize> = (0..self.positions.len())
            .filter(|i| {
                let moved = moved(*i, &state);
                write_ledger || moved >= MOVED || (durable && moved > 0)
            })
            .collect();
        // A durable commit needs something to write.
        write_ledger |= durable && self.batch.is_empty() && which.is_empty();
        let forwarders = which.into_iter().map(|i| (i, self.row(&state, i))).collect();
        if durable || write_ledger {
            state.moved_at = None;
        }
        Extras { ledger, write_ledger, roll, forwarders }
    }

    /// A forwarder's row as it is once the batch is committed.
    fn row(&self, state: &State, index: usize) -> Forwarder {
        let mut row = state.forwarders[index].row();
        row.stored += self.matching(index);
        if let Some(Some(before)) = self.retention.reserved.get(index) {
            // Of a removal that hasn't been committed.
            row.position = *before;
        }
        row
    }

    fn matching(&self, index: usize) -> u64 {
        let reading = |record: &&Record| {
            record.reading().is_some_and(|reading| {
                self.channels.get(&reading.channel).is_some_and(|known| known.forwarders[index])
            })
        };
        self.batch.iter().filter(reading).count() as u64
    }

    async fn write(&mut self, extras: &Extras, durable: bool) -> Result<(), sqlx::Error> {
        self.synchronous(durable).await?;
        commit::begin(&mut self.db).await?;
        let outcome = self.statements(extras).await;
        commit::finish(&mut self.db, outcome).await
    }

    async fn statements(&mut self, extras: &Extras) -> Result<(), sqlx::Error> {
        let db = &mut self.db;
        for (id, channel, kind) in &self.unsaved {
            commit::insert_channel(db, *id, channel, kind.as_str()).await?;
        }
        let ids = &self.channels;
        let id = |channel: &Channel| ids.get(channel).map_or(0, |known| known.id);
        let mut rows = Vec::with_capacity(self.batch.len());
        for record in &self.batch {
            if let Body::Reading(reading) = &record.body {
                let seq = integer(record.seq.0);
                rows.push(LogRow { seq, channel: id(&reading.channel), reading });
            }
        }
        commit::insert_log(db, &rows).await?;
        for record in &self.batch {
            if let Body::Gap(gap) = &record.body {
                commit::insert_gap(db, record.seq, gap, gap.channel.as_ref().map(id)).await?;
            }
        }
        if extras.roll {
            self.rollups.write(db).await?;
        }
        if extras.write_ledger {
            commit::save_ledger(db, &extras.ledger).await?;
        }
        for (_, forwarder) in &extras.forwarders {
            commit::save_forwarder(db, forwarder, Seq(extras.ledger.counted)).await?;
        }
        Ok(())
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

    /// The commit is made: the figures follow, all at once.
    fn done(&mut self, extras: Extras, durable: bool) {
        let now = Instant::now();
        let wrote_ledger = extras.write_ledger;
        if extras.roll {
            self.rolled();
        }
        if wrote_ledger {
            self.since_ledger = 0;
            self.dropped = extras.ledger.dropped;
        }
        for (index, row) in &extras.forwarders {
            self.positions[*index] = row.position;
        }
        if !wrote_ledger {
            self.since_ledger += self.batch.len() as u64;
        }
        self.unsaved.clear();
        self.committed_at = now;
        let batch_at = self.batch_at.take();
        self.undurable_at = if durable { None } else { self.undurable_at.or(batch_at) };
        for record in &self.batch {
            if let Some(reading) = record.reading() {
                self.rollups.add(self.id(&reading.channel), record);
            }
        }
        if !self.rollups.is_empty() && self.roll_at.is_none() {
            let past = Timestamp::now().as_micros().rem_euclid(MINUTE);
            let left = Duration::from_micros((MINUTE - past).unsigned_abs());
            self.roll_at = Some(now + left);
        }
        self.publish(&extras);
        if durable {
            self.measure();
        }
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

    fn publish(&mut self, extras: &Extras) {
        let matching: Vec<u64> = (0..self.positions.len()).map(|i| self.matching(i)).collect();
        let batch = Arc::new(std::mem::take(&mut self.batch));
        let count = readings(&batch);
        let mut state = self.shared.state();
        state.ledger.stored += count;
        state.ledger.counted = extras.ledger.counted;
        state.ledger.rolled = extras.ledger.rolled;
        state.queued -= batch.len();
        state.queued_readings -= count;
        state.commits += 1;
        state.stuck = false;
        for (forwarder, count) in state.forwarders.iter_mut().zip(matching) {
            forwarder.stored += count;
        }
        for record in batch.iter() {
            if let Some(reading) = record.reading() {
                if let Some(latest) = state.latest.get_mut(&reading.channel) {
                    *latest = record.clone();
                } else {
                    state.latest.insert(reading.channel.clone(), record.clone());
                }
            }
        }
        if state.oldest.is_none() {
            let first = batch.iter().find_map(Record::reading);
            state.oldest = first.map(|reading| reading.at.as_micros());
        }
        let last = batch.last().map(|record| record.seq);
        if last.is_some() {
            state.ring.push(batch);
        }
        drop(state);
        self.shared.room.notify_one();
        if let (Some(last), Some(committed)) = (last, &self.committed) {
            committed.send_replace(last);
        }
    }

    /// Looks at the file's size and at what has been written.
    fn measure(&self) {
        let len = |suffix: &str| {
            let mut path = self.shared.path.clone().into_os_string();
            path.push(suffix);
            std::fs::metadata(path).map_or(0, |file| file.len())
        };
        let size = len("") + len("-wal");
        let written = written().saturating_sub(self.written_before);
        let mut state = self.shared.state();
        state.size = size;
        state.bytes_written = written;
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

/// Bytes that this process had written to disk, as Linux counts them.
fn written() -> u64 {
    let io = std::fs::read_to_string("/proc/self/io").unwrap_or_default();
    let line = io.lines().find_map(|line| line.strip_prefix("write_bytes: "));
    line.and_then(|bytes| bytes.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use reading::{Datum, Reading, Value};
    use tokio::task::JoinSet;

    use super::*;
    use crate::Store;

    /// SQLite's own "database or disk is full", and the end of it.
    #[tokio::test]
    async fn a_full_disk_is_told_and_storing_goes_on_by_itself() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tidemill.db");
        let config = Config { path: path.clone(), ..Config::default() };
        let (store, mut appender, mut writer, _) = Store::open(&config, &[], &[]).await.unwrap();
        let pages: i64 =
            sqlx::query_scalar("PRAGMA page_count").fetch_one(&mut writer.db).await.unwrap();
        let limit = format!("PRAGMA max_page_count = {}", pages + 400);
        sqlx::query(sqlx::AssertSqlSafe(limit)).fetch_one(&mut writer.db).await.unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(writer.run());

        let records = |appender: &crate::Appender, count: u64| -> Vec<Record> {
            let first = appender.next().0;
            let channel: Channel = "a/b".parse().unwrap();
            let value = Value::Good(Datum::Number(0.5));
            let reading = Reading { channel, at: Timestamp::now(), value };
            let record = |seq| Record {
                epoch: appender.epoch(),
                seq: Seq(seq),
                body: Body::Reading(reading.clone()),
            };
            (first..first + count).map(record).collect()
        };
        let mut committed = store.committed();
        let mut until = async |seq| {
            let wait = committed.wait_for(|committed| *committed >= Seq(seq));
            tokio::time::timeout(Duration::from_secs(8), wait).await.map(drop)
        };
        appender.append(records(&appender, 4_000)).await.unwrap();
        until(4_000).await.unwrap();
        appender.append(records(&appender, 6_000)).await.unwrap();
        tokio::time::sleep(Duration::from_millis(400)).await;
        let status = store.status();
        assert_eq!(status.error.as_deref(), Some("database or disk is full"));
        assert_eq!((status.stored, status.queued, status.dropped), (4_000, 6_000, 0));

        // Somebody makes room.
        let url = format!("sqlite://{}", path.display());
        let mut other = SqliteConnection::connect(&url).await.unwrap();
        sqlx::query("DELETE FROM log WHERE seq <= 4000").execute(&mut other).await.unwrap();
        until(10_000).await.unwrap();
        assert_eq!(store.status().error, None);
        drop(appender);
        tasks.join_next().await.unwrap().unwrap().unwrap();
    }
}
