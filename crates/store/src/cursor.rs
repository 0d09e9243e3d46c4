use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use reading::{Body, Channel, Pattern, Record, Seq};
use sqlx::AssertSqlSafe;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::Error;
use crate::row::{self, integer};
use crate::state::Shared;

/// Numbers that one look at the file passes over, at most: a forwarder of a
/// rare channel gets its answer piecemeal and no read lasts long.
const LOOK_MAX: u64 = 100_000;

/// How far one forwarder has got, kept across restarts.
///
/// There is one per forwarder. Everything through its position has been
/// acknowledged; `unsent` gives what follows.
pub struct Cursor {
    pub(crate) shared: Arc<Shared>,
    pub(crate) forwarder: String,
    filter: Filter,
    /// What of the log it may give.
    ready: watch::Receiver<Seq>,
}

/// Who forwards what: opens a [`Cursor`].
#[derive(Clone, Debug)]
pub struct Subscription {
    /// The forwarder's name in the configuration.
    pub forwarder: String,
    /// The channels it forwards.
    pub channels: Vec<Pattern>,
}

impl Cursor {
    pub(crate) fn new(shared: Arc<Shared>, subscription: &Subscription) -> Cursor {
        Cursor {
            forwarder: subscription.forwarder.clone(),
            filter: Filter::new(subscription.channels.clone()),
            ready: shared.ready.clone(),
            shared,
        }
    }

    /// The forwarder it belongs to.
    pub fn forwarder(&self) -> &str {
        &self.forwarder
    }

    /// Everything through this number is acknowledged (or not for this
    /// forwarder, or removed to keep the file within its size).
    pub fn position(&self) -> Seq {
        self.shared.state().forwarder(&self.forwarder).map_or(Seq(0), |of| of.position)
    }

    /// What `unsent` may give goes through here: the highest number committed, or
    /// the last before those that wait for the clock to be set.
    pub fn committed(&self) -> Seq {
        *self.ready.borrow()
    }

    /// Committed records after `after` that this forwarder is to send, in order,
    /// at most `max`; from memory when they are recent. With them, the number
    /// through which the log was looked at: greater than the last record's when
    /// what follows isn't for this forwarder. It may be greater than `after`
    /// with no records at all; when it equals `after` there is no more yet.
    ///
    /// # Errors
    /// When the file can't be read.
    pub async fn unsent(&self, after: Seq, max: usize) -> Result<(Vec<Record>, Seq), Error> {
        let ready = *self.ready.borrow();
        if after >= ready || max == 0 {
            return Ok((Vec::new(), after));
        }
        let (begin, recent) = {
            let state = self.shared.state();
            // What was removed isn't given any more; it leaves a hole in the
            // numbers, as wide as it likes.
            let begin = after.max(Seq(state.ledger.purged));
            (begin, state.ring.after(begin, max))
        };
        let (records, through) = match recent {
            _ if begin >= ready => (Vec::new(), begin),
            Some(batches) => self.recent(&batches, begin, ready, max),
            None => {
                let stored = self.shared.steps.at_file(self.stored(begin, ready, max));
                self.shared.looked(stored.await)?
            }
        };
        let seqs = records.iter().filter(|record| record.reading().is_some()).map(|r| r.seq);
        if let Some(forwarder) = self.shared.state().forwarder(&self.forwarder) {
            forwarder.give(seqs, after, through);
        }
        Ok((records, through))
    }

    fn recent(
        &self,
        batches: &[Arc<Vec<Record>>],
        after: Seq,
        ready: Seq,
        max: usize,
    ) -> (Vec<Record>, Seq) {
        let mut found = Vec::new();
        let mut through = after;
        for batch in batches {
            let begins = batch.partition_point(|record| record.seq <= after);
            for record in &batch[begins..] {
                // The last batch may be newer than the look at what is ready.
                if found.len() == max || record.seq > ready {
                    return (found, through);
                }
                through = record.seq;
                if self.filter.passes(record) {
                    found.push(record.clone());
                }
            }
        }
        (found, if through == after { ready } else { through })
    }

    async fn stored(
        &self,
        after: Seq,
        ready: Seq,
        max: usize,
    ) -> Result<(Vec<Record>, Seq), Error> {
        let until = ready.min(Seq(after.0.saturating_add(LOOK_MAX)));
        let limit = i64::try_from(max).unwrap_or(i64::MAX);
        let rows = sqlx::query(AssertSqlSafe(self.filter.sql(&self.shared)))
            .bind(integer(after.0))
            .bind(integer(until.0))
            .bind(limit)
            .fetch_all(&self.shared.backlog)
            .await?;
        let mut records = Vec::with_capacity(rows.len());
        for row in &rows {
            records.extend(row::record(&self.shared, row)?);
        }
        // With the limit reached, what follows has not been looked at.
        let mut through = match rows.last() {
            Some(last) if rows.len() == max => row::seq(last)?,
            _ => until,
        };
        self.add_gaps(&mut records, after, through).await?;
        if records.len() > max {
            records.truncate(max);
            through = records.last().map_or(through, |record| record.seq);
        }
        Ok((records, through))
    }

    async fn add_gaps(
        &self,
        records: &mut Vec<Record>,
        after: Seq,
        through: Seq,
    ) -> Result<(), Error> {
        let sql = "SELECT seq, from_time, to_time, count, channel, reason FROM gap \
                   WHERE seq > ? AND seq <= ? ORDER BY seq";
        let rows = sqlx::query(sql)
            .bind(integer(after.0))
            .bind(integer(through.0))
            .fetch_all(&self.shared.backlog)
            .await?;
        let len = records.len();
        for row in &rows {
            let (seq, gap) = row::gap(&self.shared, row)?;
            let record = Record { epoch: self.shared.epoch_of(seq), seq, body: Body::Gap(gap) };
            if self.filter.passes(&record) {
                records.push(record);
            }
        }
        if records.len() > len {
            records.sort_by_key(|record| record.seq);
        }
        Ok(())
    }

    /// Waits until there is something to give after `after`; `false` when the store
    /// has closed: the appender is gone and what it left is committed.
    pub async fn wait(&mut self, after: Seq) -> bool {
        self.ready.wait_for(|ready| *ready > after).await.is_ok()
    }

    /// Moves on: the broker has everything through `through`. It goes no further
    /// than [`Cursor::unsent`] has looked without leaving anything out.
    pub fn acknowledge(&self, through: Seq) {
        let mut state = self.shared.state();
        let Some(forwarder) = state.forwarder(&self.forwarder) else { return };
        let Some(passed) = forwarder.pass(through) else { return };
        forwarder.acknowledged += passed.taken;
        forwarder.dropped += passed.skipped;
        // The writer has a deadline for the first move; the others ride along.
        if state.moved_at.is_none() {
            state.moved_at = Some(Instant::now());
            drop(state);
            self.shared.work.notify_one();
        }
    }
}

impl Drop for Cursor {
    fn drop(&mut self) {
        self.shared.state().cursors -= 1;
        self.shared.work.notify_one();
    }
}

/// Which records are for one forwarder; a glob is matched once a channel.
struct Filter {
    patterns: Vec<Pattern>,
    all: bool,
    known: Mutex<HashMap<Channel, bool>>,
}

impl Filter {
    fn new(patterns: Vec<Pattern>) -> Filter {
        let all = patterns.iter().any(|pattern| pattern.as_str() == "*");
        Filter { patterns, all, known: Mutex::default() }
    }

    fn passes(&self, record: &Record) -> bool {
        match &record.body {
            _ if self.all => true,
            Body::Reading(reading) => self.matches(&reading.channel),
            Body::Gap(gap) => gap.channel.as_ref().is_none_or(|channel| self.matches(channel)),
        }
    }

    fn matches(&self, channel: &Channel) -> bool {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(matches) = known.get(channel) {
            return *matches;
        }
        let matches = self.patterns.iter().any(|pattern| pattern.matches(channel));
        known.insert(channel.clone(), matches);
        matches
    }

    /// Ids are integers of our own, so the text is safe.
    fn sql(&self, shared: &Shared) -> String {
        let mut sql = "SELECT seq, channel, time, value, quality FROM log \
                       WHERE seq > ? AND seq <= ?"
            .to_owned();
        if !self.all {
            let channels = shared.channels.read().unwrap_or_else(PoisonError::into_inner);
            let mut ids: Vec<_> =
                channels.iter().filter(|(_, c)| self.matches(c)).map(|(id, _)| *id).collect();
            ids.sort_unstable();
            let ids: Vec<_> = ids.iter().map(i64::to_string).collect();
            // `+`: the order of the log, whatever the planner thinks.
            sql += &format!(" AND +channel IN ({})", ids.join(","));
        }
        sql + " ORDER BY seq LIMIT ?"
    }
}
