//! One-minute figures, gathered in memory as records are committed.

use std::collections::BTreeMap;

use reading::{Body, Datum, Record, Timestamp, Value};
use sqlx::{AssertSqlSafe, SqliteConnection};

use crate::row::integer;

/// Microseconds in a minute.
pub(crate) const MINUTE: i64 = 60_000_000;

/// Readings gathered before the figures are written though the minute isn't
/// over: what history has to look through itself, and opening after a kill.
pub(crate) const ROLL_RECORDS: u64 = 65_536;

/// What is gathered and not yet written: the records after `Ledger::rolled`.
#[derive(Default)]
pub(crate) struct Rollups {
    minutes: BTreeMap<(i64, i64), Figures>,
    records: u64,
}

/// Of one channel in one minute.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Figures {
    first: i64,
    last: i64,
    /// Smallest, sum, largest.
    numbers: Option<(f64, f64, f64)>,
    count: u64,
    bad: u64,
}

/// Adds to what an earlier write of the same minute left there.
const WRITE: &str = "INSERT INTO rollup (channel, minute, first, last, min, sum, max, count, bad)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (channel, minute) DO UPDATE SET
        first = min(first, excluded.first), last = max(last, excluded.last),
        min = coalesce(min(min, excluded.min), min, excluded.min),
        max = coalesce(max(max, excluded.max), max, excluded.max),
        sum = sum + excluded.sum, count = count + excluded.count, bad = bad + excluded.bad";

/// The same out of the log: what to gather of it follows.
pub(crate) const GATHER: &str =
    "INSERT INTO rollup (channel, minute, first, last, min, sum, max, count, bad)
    SELECT channel, (time - (time % 60000000 + 60000000) % 60000000) / 60000000,
        min(seq), max(seq),
        min(CASE WHEN typeof(value) <> 'text' THEN value END),
        total(CASE WHEN typeof(value) <> 'text' THEN value END),
        max(CASE WHEN typeof(value) <> 'text' THEN value END),
        sum(typeof(value) IN ('real', 'integer')),
        sum(quality >= 64)";

/// For what was not written when the process ended.
const RECOVER: &str = "FROM log WHERE seq > ? AND seq <= ? GROUP BY 1, 2
    ON CONFLICT (channel, minute) DO UPDATE SET
        first = min(first, excluded.first), last = max(last, excluded.last),
        min = coalesce(min(min, excluded.min), min, excluded.min),
        max = coalesce(max(max, excluded.max), max, excluded.max),
        sum = sum + excluded.sum, count = count + excluded.count, bad = bad + excluded.bad";

/// The minute that a time lies in, since 1970; before it too.
pub(crate) fn minute(at: Timestamp) -> i64 {
    at.as_micros().div_euclid(MINUTE)
}

/// Writes the figures of all readings after `after` through `through`.
pub(crate) async fn recover(
    db: &mut SqliteConnection,
    after: u64,
    through: u64,
) -> Result<(), sqlx::Error> {
    let sql = format!("{GATHER} {RECOVER}");
    let query = sqlx::query(AssertSqlSafe(sql)).bind(integer(after)).bind(integer(through));
    query.execute(db).await?;
    Ok(())
}

impl Rollups {
    pub(crate) fn is_empty(&self) -> bool {
        self.minutes.is_empty()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.records >= ROLL_RECORDS
    }

    /// Adds a committed record of the channel with this id.
    pub(crate) fn add(&mut self, channel: i64, record: &Record) {
        let Body::Reading(reading) = &record.body else { return };
        let seq = integer(record.seq.0);
        self.records += 1;
        let empty = Figures { first: seq, last: seq, numbers: None, count: 0, bad: 0 };
        let figures = self.minutes.entry((channel, minute(reading.at))).or_insert(empty);
        figures.last = seq;
        match &reading.value {
            Value::Good(datum) | Value::Uncertain(datum, _) => figures.count(datum),
            Value::Bad(_) => figures.bad += 1,
        }
    }

    pub(crate) async fn write(&self, db: &mut SqliteConnection) -> Result<(), sqlx::Error> {
        for ((channel, minute), figures) in &self.minutes {
            sqlx::query(WRITE)
                .bind(channel)
                .bind(minute)
                .bind(figures.first)
                .bind(figures.last)
                .bind(figures.numbers.map(|(min, _, _)| min))
                .bind(figures.numbers.map_or(0.0, |(_, sum, _)| sum))
                .bind(figures.numbers.map(|(_, _, max)| max))
                .bind(integer(figures.count))
                .bind(integer(figures.bad))
                .execute(&mut *db)
                .await?;
        }
        Ok(())
    }

    pub(crate) fn clear(&mut self) {
        self.minutes.clear();
        self.records = 0;
    }
}

impl Figures {
    fn count(&mut self, datum: &Datum) {
        let number = match datum {
            Datum::Number(number) => *number,
            Datum::Boolean(truth) => f64::from(u8::from(*truth)),
            Datum::Text(_) => return,
        };
        self.count += 1;
        self.numbers = Some(match self.numbers {
            None => (number, number, number),
            Some((min, sum, max)) => (min.min(number), sum + number, max.max(number)),
        });
    }
}
