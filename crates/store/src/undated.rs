//! Readings taken before the clock was set.
//!
//! They bear times that are wrong by one span for a whole start of the gateway
//! (see [`reading::clock`]), and are held back from forwarders until it is known.
//! Then the writer corrects them, some thousand a transaction, and each
//! transaction says how far it got, so that a kill in the middle neither corrects
//! twice nor leaves out. When it doesn't become known they are marked uncertain
//! in the same way. Their one-minute figures are made with the correction.

use reading::{Body, Datum, Doubt, Gap, Record, Seq, Timestamp, Value, clock};
use sqlx::{Row as _, SqliteConnection};
use tracing::{info, warn};

use crate::row::{integer, number};
use crate::state::State;
use crate::{Appender, Writer, commit, quality, rollup};

/// Rows of one transaction: some 20 ms on an x86 machine, so that no commit waits
/// long. Ten minutes of 1,000 readings a second are corrected in 1.7 s there.
const SLICE: i64 = 8_192;

/// Gaps told in such a start may be of an earlier one, whose clock was right.
/// Those from a minute before its beginning until an hour after are its own.
const OWN: std::ops::RangeInclusive<i64> = -60_000_000..=3_600_000_000;

/// The records of one start that were numbered before the clock was set.
#[derive(Clone, Debug)]
pub(crate) struct Undated {
    first: u64,
    /// `None` while more come.
    last: Option<u64>,
    boot_id: Option<String>,
    ahead: i64,
    since: i64,
    verdict: Option<Verdict>,
    through: u64,
    /// Readings in the file that are held back.
    pub(crate) readings: u64,
}

/// What becomes of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// So many microseconds are added to their times.
    Correct(i64),
    /// They stay as they are, and are uncertain.
    Doubt,
}

/// Those that are not as they are to be yet, in order; usually none.
#[derive(Debug, Default)]
pub(crate) struct Held {
    rows: Vec<Undated>,
    /// Ascends with each change: the file has one of them.
    pub(crate) version: u64,
    /// When the first reading of this start of the machine was taken that had to
    /// wait, by `CLOCK_BOOTTIME`, µs.
    pub(crate) since: Option<i64>,
}

/// What to look through next.
#[derive(Clone, Copy, Debug)]
struct Part {
    after: u64,
    through: u64,
    verdict: Option<Verdict>,
}

impl Undated {
    /// Whether a number is of these.
    fn has(&self, seq: Seq) -> bool {
        (self.first..=self.last.unwrap_or(u64::MAX)).contains(&seq.0)
    }

    /// Moves a time, when it was told by the clock of this start.
    fn corrected(&self, at: Timestamp, correction: i64) -> Timestamp {
        let own = OWN.contains(&(at.as_micros() - self.ahead - self.since));
        if own { Timestamp::from_micros(at.as_micros() + correction) } else { at }
    }

    /// A gap that was noted before the clock was set, corrected.
    fn correct(&self, gap: &mut Gap, correction: i64) {
        let times = [gap.from, gap.to].map(|at| self.corrected(at, correction));
        (gap.from, gap.to) = (times[0].min(times[1]), times[0].max(times[1]));
    }

    /// A record of these as it is to be.
    fn settle(&self, record: &mut Record) {
        let (Body::Reading(reading), true) = (&mut record.body, self.has(record.seq)) else {
            return;
        };
        match self.verdict {
            Some(Verdict::Correct(correction)) => {
                reading.at = Timestamp::from_micros(reading.at.as_micros() + correction);
            }
            Some(Verdict::Doubt) => {
                if let Value::Good(datum) = &reading.value {
                    reading.value = Value::Uncertain(Datum::clone(datum), Doubt::ClockUnset);
                }
            }
            None => {}
        }
    }
}

impl Held {
    /// What the file has; those of an earlier start of the machine can't be
    /// corrected any more. `next` is the number that comes next.
    pub(crate) async fn load(
        db: &mut SqliteConnection,
        boot_id: Option<&str>,
        next: Seq,
    ) -> Result<Held, sqlx::Error> {
        let sql = "DELETE FROM undated WHERE first_seq >= ?1
            OR last_seq < coalesce((SELECT min(seq) FROM log), ?1)";
        sqlx::query(sql).bind(integer(next.0)).execute(&mut *db).await?;
        let sql = "SELECT first_seq, last_seq, boot_id, ahead, since, correction, given_up, through
            FROM undated ORDER BY first_seq";
        let mut held = Held::default();
        for row in sqlx::query(sql).fetch_all(&mut *db).await? {
            let (correction, given_up): (Option<i64>, i64) = (row.try_get(5)?, row.try_get(6)?);
            let doubt = (given_up != 0).then_some(Verdict::Doubt);
            let last = row.try_get::<Option<i64>, _>(1)?.map_or(next.0 - 1, number);
            let mut undated = Undated {
                first: number(row.try_get(0)?),
                last: Some(last),
                boot_id: row.try_get(2)?,
                ahead: row.try_get(3)?,
                since: row.try_get(4)?,
                verdict: correction.map(Verdict::Correct).or(doubt),
                through: number(row.try_get(7)?),
                readings: 0,
            };
            let this_boot = boot_id.is_some() && undated.boot_id.as_deref() == boot_id;
            if this_boot {
                held.since = held.since.into_iter().chain([undated.since]).min();
            }
            if undated.through >= last {
                continue;
            }
            let sql = "SELECT count(*) FROM log WHERE seq > ? AND seq <= ?";
            let count = sqlx::query_scalar(sql).bind(integer(undated.through)).bind(integer(last));
            undated.readings = number(count.fetch_one(&mut *db).await?);
            if undated.verdict.is_none() && !this_boot {
                warn!(
                    readings = undated.readings,
                    "the machine was started anew before its clock was set: readings from before \
                     can't be corrected, they are forwarded as uncertain"
                );
                undated.verdict = Some(Verdict::Doubt);
            }
            held.rows.push(undated);
        }
        Ok(held)
    }

    /// Nothing is held back.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Readings in the file that are held back.
    pub(crate) fn readings(&self) -> u64 {
        self.rows.iter().map(|row| row.readings).sum()
    }

    /// What forwarders may have, of what is committed.
    pub(crate) fn limit(&self, committed: Seq) -> Seq {
        self.rows.first().map_or(committed, |row| committed.min(Seq(row.through)))
    }

    /// Records have been committed.
    pub(crate) fn committed(&mut self, records: &[Record]) {
        for row in &mut self.rows {
            let held = |record: &&Record| record.reading().is_some() && row.has(record.seq);
            row.readings += records.iter().filter(held).count() as u64;
        }
    }

    /// Records through a number are removed: they need no correction.
    pub(crate) fn removed(&mut self, through: u64) {
        for row in &mut self.rows {
            row.through = row.through.max(through.min(row.last.unwrap_or(u64::MAX)));
        }
    }

    /// Says what becomes of those without a verdict.
    fn judge(&mut self, last: u64, verdict: impl Fn(&Undated) -> Verdict) -> u64 {
        let mut judged = 0;
        if self.rows.is_empty() {
            return judged;
        }
        for row in self.rows.iter_mut().filter(|row| row.verdict.is_none()) {
            row.last.get_or_insert(last);
            row.verdict = Some(verdict(row));
            judged += row.readings;
        }
        self.forget();
        self.version += 1;
        judged
    }

    /// What is as it is to be waits no more.
    fn forget(&mut self) {
        self.rows.retain(|row| row.last.is_none_or(|last| row.through < last));
    }

    /// The next part of the log to look through: figures are made of it in order,
    /// after `rolled`; those of what is after `gathered` are gathered in memory.
    fn next(&self, rolled: u64, gathered: u64, committed: u64) -> Option<Part> {
        let part = match self.rows.first() {
            Some(row) if rolled >= row.first - 1 => Part {
                after: row.through,
                through: row.last?.min(committed),
                verdict: Some(row.verdict?),
            },
            first => {
                let through = first.map_or(gathered, |row| gathered.min(row.first - 1));
                Part { after: rolled, through, verdict: None }
            }
        };
        (part.after < part.through).then_some(part)
    }

    /// What the file is to have.
    pub(crate) fn rows(&self) -> Vec<Undated> {
        self.rows.clone()
    }
}

impl Appender {
    /// The clock isn't set: what follows bears times that are `ahead` microseconds
    /// ahead of `CLOCK_BOOTTIME`, and is held back from forwarders until
    /// [`Appender::date`] or [`Appender::give_up`] says what becomes of it.
    /// Before anything is appended.
    pub fn hold(&mut self, ahead: i64) {
        let since = i64::try_from(clock::uptime().as_micros()).unwrap_or(i64::MAX);
        let mut state = self.shared.state();
        let through = self.next.0 - 1;
        state.held.since.get_or_insert(since);
        state.held.version += 1;
        state.held.rows.push(Undated {
            first: self.next.0,
            last: None,
            boot_id: self.shared.boot_id.clone(),
            ahead,
            since,
            verdict: None,
            through,
            readings: 0,
        });
    }

    /// The clock is set: true times are `ahead` microseconds ahead of
    /// `CLOCK_BOOTTIME`. What is held back is corrected, then forwarded; what
    /// follows is not held back. Returns how many readings are concerned.
    pub fn date(&mut self, ahead: i64) -> u64 {
        let mut state = self.shared.state();
        let rows = state.held.rows.clone();
        for row in rows.iter().filter(|row| row.verdict.is_none() && row.last.is_none()) {
            state.losses.shift(|gap| row.correct(gap, ahead - row.ahead));
        }
        let last = self.next.0 - 1;
        let judged = state.held.judge(last, |row| Verdict::Correct(ahead - row.ahead));
        drop(state);
        self.shared.work.notify_one();
        judged
    }

    /// The clock hasn't been set for too long: what is held back is forwarded as
    /// it is, uncertain, and what follows is not held back. Returns how many
    /// readings are concerned.
    pub fn give_up(&mut self) -> u64 {
        let judged = self.shared.state().held.judge(self.next.0 - 1, |_| Verdict::Doubt);
        self.shared.work.notify_one();
        judged
    }

    /// When, by `CLOCK_BOOTTIME`, the first reading was taken in this start of the
    /// machine that had to wait for the clock.
    pub fn held_since(&self) -> Option<std::time::Duration> {
        let since = self.shared.state().held.since?;
        Some(std::time::Duration::from_micros(number(since)))
    }
}

impl Writer {
    /// Whether something is to be corrected, or figures are to be made of the log.
    pub(crate) fn dates(&self, state: &State) -> bool {
        self.part(state).is_some()
    }

    fn part(&self, state: &State) -> Option<Part> {
        let committed = self.shared.committed.borrow().0;
        state.held.next(state.ledger.rolled, self.gathered, committed)
    }

    /// One transaction of it.
    pub(crate) async fn date(&mut self) -> Result<(), sqlx::Error> {
        let (part, mut rows) = {
            let state = self.shared.state();
            (self.part(&state), state.held.rows())
        };
        let Some(part) = part else { return Ok(()) };
        let sql = "SELECT max(seq), count(*) FROM
            (SELECT seq FROM log WHERE seq > ? AND seq <= ? ORDER BY seq LIMIT ?)";
        let row = sqlx::query(sql)
            .bind(integer(part.after))
            .bind(integer(part.through))
            .bind(SLICE)
            .fetch_one(&mut self.db)
            .await?;
        let (last, count): (Option<i64>, i64) = (row.try_get(0)?, row.try_get(1)?);
        let through = if count < SLICE { part.through } else { last.map_or(part.through, number) };
        let part = Part { through, ..part };
        if let (Some(_), Some(row)) = (part.verdict, rows.first_mut()) {
            row.through = part.through;
            row.readings = row.readings.saturating_sub(number(count));
        }
        self.synchronous(false).await?;
        commit::begin(&mut self.db).await?;
        let outcome = self.date_rows(part, &rows).await;
        let oldest = commit::finish(&mut self.db, outcome).await?;
        self.dated(part, number(count), oldest);
        Ok(())
    }

    /// Gives the time of the oldest reading.
    async fn date_rows(
        &mut self,
        part: Part,
        rows: &[Undated],
    ) -> Result<Option<i64>, sqlx::Error> {
        let db = &mut self.db;
        let (after, through) = (integer(part.after), integer(part.through));
        match (part.verdict, rows.first()) {
            (Some(Verdict::Correct(correction)), Some(row)) => {
                let sql = "UPDATE log SET time = time + ? WHERE seq > ? AND seq <= ?";
                let query = sqlx::query(sql).bind(correction).bind(after).bind(through);
                query.execute(&mut *db).await?;
                let begin = row.ahead + row.since;
                let sql = "UPDATE gap SET from_time = min(times.a, times.b), to_time = max(times.a, times.b)
                    FROM (SELECT seq AS s,
                        from_time + iif(from_time BETWEEN ?1 AND ?2, ?3, 0) AS a,
                        to_time + iif(to_time BETWEEN ?1 AND ?2, ?3, 0) AS b
                        FROM gap WHERE seq > ?4 AND seq <= ?5) AS times
                    WHERE gap.seq = times.s";
                sqlx::query(sql)
                    .bind(begin + OWN.start())
                    .bind(begin + OWN.end())
                    .bind(correction)
                    .bind(after)
                    .bind(through)
                    .execute(&mut *db)
                    .await?;
            }
            (Some(Verdict::Doubt), _) => {
                let doubt = quality::doubt_code(Doubt::ClockUnset);
                let sql = "UPDATE log SET quality = ? WHERE seq > ? AND seq <= ? AND quality = 0";
                let query = sqlx::query(sql).bind(doubt).bind(after).bind(through);
                query.execute(&mut *db).await?;
            }
            _ => {}
        }
        rollup::recover(db, part.after, part.through).await?;
        let sql = "UPDATE ledger SET rolled = max(rolled, ?)";
        sqlx::query(sql).bind(through).execute(&mut *db).await?;
        save(db, rows).await?;
        let sql = "SELECT time FROM log ORDER BY seq LIMIT 1";
        sqlx::query_scalar(sql).fetch_optional(db).await
    }

    /// The figures in memory follow.
    fn dated(&self, part: Part, count: u64, oldest: Option<i64>) {
        let mut state = self.shared.state();
        let state = &mut *state;
        state.ledger.rolled = state.ledger.rolled.max(part.through);
        state.oldest = oldest;
        if part.verdict.is_some()
            && let Some(row) = state.held.rows.first_mut()
        {
            row.through = part.through;
            row.readings = row.readings.saturating_sub(count);
            state.ring.forget(Seq(part.through));
            if row.last == Some(part.through) {
                let row = state.held.rows.remove(0);
                state.latest.values_mut().for_each(|record| row.settle(record));
                info!(
                    first = row.first,
                    last = part.through,
                    "what waited for the clock is let go"
                );
            }
        }
        self.release(state.held.limit(*self.shared.committed.borrow()));
    }

    /// Forwarders may go so far.
    pub(crate) fn release(&self, limit: Seq) {
        let Some(ready) = &self.ready else { return };
        ready.send_if_modified(|known| {
            let more = limit > *known;
            *known = limit.max(*known);
            more
        });
    }

    /// After a removal through a number: what is held back now.
    pub(crate) async fn recount_held(&mut self, through: u64) -> Result<(), sqlx::Error> {
        let mut rows = {
            let mut state = self.shared.state();
            if state.held.is_empty() {
                return Ok(());
            }
            state.held.removed(through);
            state.held.rows()
        };
        for row in &mut rows {
            let sql = "SELECT count(*) FROM log WHERE seq > ? AND seq <= ?";
            let last = integer(row.last.unwrap_or(u64::MAX));
            let count = sqlx::query_scalar(sql).bind(integer(row.through)).bind(last);
            row.readings = number(count.fetch_one(&mut self.db).await?);
        }
        let mut state = self.shared.state();
        for (row, counted) in state.held.rows.iter_mut().zip(&rows) {
            row.readings = counted.readings;
        }
        state.held.forget();
        self.release(state.held.limit(*self.shared.committed.borrow()));
        Ok(())
    }
}

/// Writes what is held back, and nothing else is.
pub(crate) async fn save(db: &mut SqliteConnection, rows: &[Undated]) -> Result<(), sqlx::Error> {
    let sql = "DELETE FROM undated WHERE last_seq IS NULL OR through < last_seq";
    sqlx::query(sql).execute(&mut *db).await?;
    for row in rows {
        let (correction, given_up) = match row.verdict {
            None => (None, 0),
            Some(Verdict::Correct(correction)) => (Some(correction), 0),
            Some(Verdict::Doubt) => (None, 1),
        };
        let sql = "INSERT OR REPLACE INTO undated
            (first_seq, last_seq, boot_id, ahead, since, correction, given_up, through)
            VALUES (?, ?, ?, ?, ?, ?, ?, ?)";
        sqlx::query(sql)
            .bind(integer(row.first))
            .bind(row.last.map(integer))
            .bind(row.boot_id.clone())
            .bind(row.ahead)
            .bind(row.since)
            .bind(correction)
            .bind(given_up)
            .bind(integer(row.through))
            .execute(&mut *db)
            .await?;
    }
    Ok(())
}
