use std::collections::HashMap;

use reading::{Channel, Epoch, Gap, Record, Seq, Timestamp};
use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection};

use crate::rollup::{MINUTE, minute};
use crate::row::{self, number};
use crate::{Error, Store};

/// Gaps of one channel in one answer, at most: the newest.
const GAPS_MAX: usize = 10_000;

/// Readings that are looked through for the last of each channel, which takes
/// some 10 ms, and minutes for that of a channel that has none among them.
const NEWEST_MAX: i64 = 10_000;
const MINUTES_MAX: i64 = 1_440;

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

/// Where the readings of a channel in a span of time are: in the log between
/// these numbers, and after `rolled`.
struct Span {
    between: Option<(i64, i64)>,
    rolled: i64,
}

impl Store {
    /// The last reading of each configured channel, for a page that opens after
    /// a restart.
    ///
    /// # Errors
    /// When the file can't be read.
    pub async fn latest(&self) -> Result<Vec<Record>, Error> {
        self.shared.looked(self.latest_of_file().await)
    }

    async fn latest_of_file(&self) -> Result<Vec<Record>, Error> {
        let (mut found, missing): (Vec<_>, Vec<_>) = {
            let state = self.shared.state();
            let known = |channel: &&Channel| state.latest.contains_key(*channel);
            let (known, missing): (Vec<_>, Vec<_>) = state.configured.iter().partition(known);
            let found = known.iter().filter_map(|channel| state.latest.get(*channel).cloned());
            (found.collect(), missing.into_iter().cloned().collect())
        };
        // What was stored before this start: of most channels among the newest, of
        // the others in the one-minute figures. The last is the one with the
        // highest number: the clock may have been ahead for a while.
        let mut newest: HashMap<i64, i64> = HashMap::new();
        if !missing.is_empty() {
            let sql = "SELECT channel, max(seq) FROM
                (SELECT seq, channel FROM log ORDER BY seq DESC LIMIT ?) GROUP BY channel";
            let query = sqlx::query(sql).bind(NEWEST_MAX);
            for row in query.fetch_all(&self.shared.history).await? {
                newest.insert(row.try_get(0)?, row.try_get(1)?);
            }
        }
        for channel in &missing {
            let Some(id) = self.shared.channel_id(channel) else { continue };
            let sql = "SELECT seq, channel, time, value, quality FROM log WHERE seq = coalesce(?1,
                (SELECT max(last) FROM
                    (SELECT last FROM rollup WHERE channel = ?2 ORDER BY minute DESC LIMIT ?3)))";
            let query = sqlx::query(sql).bind(newest.get(&id)).bind(id).bind(MINUTES_MAX);
            if let Some(row) = query.fetch_optional(&self.shared.history).await? {
                found.extend(row::record(&self.shared, &row)?);
            }
        }
        found.sort_by_key(|record| record.seq);
        Ok(found)
    }

    /// Raw readings of one channel in time order, the newest `max` of the span.
    ///
    /// # Errors
    /// When the file can't be read.
    pub async fn history(&self, query: &Query, max: usize) -> Result<Vec<Record>, Error> {
        self.shared.looked(self.history_of_file(query, max).await)
    }

    async fn history_of_file(&self, query: &Query, max: usize) -> Result<Vec<Record>, Error> {
        let Some(id) = self.shared.channel_id(&query.channel) else { return Ok(Vec::new()) };
        let mut tx = self.shared.history.begin().await?;
        let span = find(&mut tx, id, query).await?;
        let mut found = Vec::new();
        let ranges = [Some((span.rolled + 1, i64::MAX)), span.between];
        for (first, last) in ranges.into_iter().flatten() {
            let sql = "SELECT seq, channel, time, value, quality FROM log
                WHERE seq BETWEEN ? AND ? AND +channel = ? AND time >= ? AND time < ?
                ORDER BY seq DESC LIMIT ?";
            let rows = sqlx::query(sql)
                .bind(first)
                .bind(last)
                .bind(id)
                .bind(query.from.as_micros())
                .bind(query.to.as_micros())
                .bind(i64::try_from(max - found.len()).unwrap_or(i64::MAX))
                .fetch_all(&mut *tx)
                .await?;
            for row in &rows {
                found.extend(row::record(&self.shared, row)?);
            }
        }
        tx.commit().await?;
        found.reverse();
        found.sort_by_key(|record| record.reading().map(|reading| reading.at));
        Ok(found)
    }

    /// The same reduced to at most `points` buckets, those that have a reading,
    /// from rollups where raw readings are gone. Buckets of a minute and more
    /// are of whole minutes, and are made from rollups alone.
    ///
    /// # Errors
    /// When the file can't be read.
    pub async fn reduced(&self, query: &Query, points: usize) -> Result<Vec<Bucket>, Error> {
        self.shared.looked(self.reduced_of_file(query, points).await)
    }

    async fn reduced_of_file(&self, query: &Query, points: usize) -> Result<Vec<Bucket>, Error> {
        let Some(id) = self.shared.channel_id(&query.channel) else { return Ok(Vec::new()) };
        let (from, to) = (query.from.as_micros(), query.to.as_micros());
        if to <= from || points == 0 {
            return Ok(Vec::new());
        }
        let points = i64::try_from(points).unwrap_or(i64::MAX);
        let width = (to - from - 1) / points + 1;
        let cut = if width < MINUTE {
            Cut { base: from, width }
        } else {
            let base = minute(query.from) * MINUTE;
            // The base is up to a minute earlier: the buckets must reach the end.
            let width = (to - base - 1) / points + 1;
            Cut { base, width: (width - 1).div_euclid(MINUTE) * MINUTE + MINUTE }
        };
        let mut tx = self.shared.history.begin().await?;
        let span = find(&mut tx, id, query).await?;
        // Before `raw` the figures tell, from there on the readings.
        let raw = if width < MINUTE { begin_of_raw(&mut tx).await? } else { i64::MAX };
        let mut buckets = cut.minutes(&mut tx, id, (from, to.min(raw))).await?;
        let tail = (span.rolled + 1, i64::MAX);
        buckets.extend(cut.readings(&mut tx, id, tail, (from, to)).await?);
        if let (Some(between), true) = (span.between, raw < to) {
            buckets.extend(cut.readings(&mut tx, id, between, (from.max(raw), to)).await?);
        }
        tx.commit().await?;
        Ok(merge(buckets))
    }

    /// Gaps that touch the span, of one channel or of several, by number; the
    /// newest 10,000.
    ///
    /// # Errors
    /// When the file can't be read.
    pub async fn gaps(&self, query: &Query) -> Result<Vec<(Epoch, Seq, Gap)>, Error> {
        let Query { channel, from, to } = query;
        self.shared.looked(self.gaps_of_file(Some(channel), (*from, *to), GAPS_MAX).await)
    }

    /// Gaps of all channels that touch the span from the first time, inclusive,
    /// to the last, exclusive; by number, the newest `max`.
    ///
    /// # Errors
    /// When the file can't be read.
    pub async fn all_gaps(
        &self,
        from: Timestamp,
        to: Timestamp,
        max: usize,
    ) -> Result<Vec<(Epoch, Seq, Gap)>, Error> {
        self.shared.looked(self.gaps_of_file(None, (from, to), max).await)
    }

    async fn gaps_of_file(
        &self,
        channel: Option<&Channel>,
        (from, to): (Timestamp, Timestamp),
        max: usize,
    ) -> Result<Vec<(Epoch, Seq, Gap)>, Error> {
        let id = channel.and_then(|channel| self.shared.channel_id(channel));
        let sql = "SELECT seq, from_time, to_time, count, channel, reason FROM gap
            WHERE (? OR channel IS NULL OR channel IS ?) AND to_time >= ? AND from_time < ?
            ORDER BY seq DESC LIMIT ?";
        let rows = sqlx::query(sql)
            .bind(channel.is_none())
            .bind(id)
            .bind(from.as_micros())
            .bind(to.as_micros())
            .bind(i64::try_from(max).unwrap_or(i64::MAX))
            .fetch_all(&self.shared.history)
            .await?;
        let mut found = Vec::with_capacity(rows.len());
        for row in rows.iter().rev() {
            let (seq, gap) = row::gap(&self.shared, row)?;
            found.push((self.shared.epoch_of(seq), seq, gap));
        }
        Ok(found)
    }
}

/// The figures of each minute say where its readings are: exact also when the
/// clock has jumped and the log isn't in the order of time.
async fn find(db: &mut SqliteConnection, id: i64, query: &Query) -> Result<Span, sqlx::Error> {
    let sql = "SELECT (SELECT rolled FROM ledger), min(first), max(last) FROM rollup
        WHERE channel = ? AND minute BETWEEN ? AND ?";
    let row = sqlx::query(sql)
        .bind(id)
        .bind(minute(query.from))
        .bind(minute(query.to))
        .fetch_one(db)
        .await?;
    let between = row.try_get::<Option<i64>, _>(1)?.zip(row.try_get(2)?);
    Ok(Span { between, rolled: row.try_get(0)? })
}

/// The first whole minute that has all its raw readings, microseconds.
async fn begin_of_raw(db: &mut SqliteConnection) -> Result<i64, sqlx::Error> {
    let sql = "SELECT purged, (SELECT time FROM log ORDER BY seq LIMIT 1) FROM ledger";
    let row = sqlx::query(sql).fetch_one(db).await?;
    let purged: i64 = row.try_get(0)?;
    let oldest: Option<i64> = row.try_get(1)?;
    Ok(match oldest {
        _ if purged == 0 => i64::MIN,
        // Only what isn't in the figures yet, if anything.
        None => i64::MAX,
        Some(oldest) => (oldest.div_euclid(MINUTE) + 1) * MINUTE,
    })
}

/// How a span of time is cut into buckets, microseconds.
struct Cut {
    base: i64,
    width: i64,
}

/// A bucket as it is summed up: where it begins, smallest, sum, largest, numbers, bad.
type Part = (i64, Option<f64>, f64, Option<f64>, u64, u64);

impl Cut {
    async fn minutes(
        &self,
        db: &mut SqliteConnection,
        id: i64,
        (from, to): (i64, i64),
    ) -> Result<Vec<Part>, sqlx::Error> {
        if to <= from {
            return Ok(Vec::new());
        }
        // A minute that begins before the span counts where the span begins.
        let sql = "SELECT (max(minute * 60000000, ?1) - ?1) / ?2 AS bucket,
                min(min), total(sum), max(max), sum(count), sum(bad)
            FROM rollup WHERE channel = ?3 AND minute >= ?4 AND minute * 60000000 < ?5
            GROUP BY bucket";
        let rows = sqlx::query(sql)
            .bind(self.base)
            .bind(self.width)
            .bind(id)
            .bind(from.div_euclid(MINUTE))
            .bind(to)
            .fetch_all(db)
            .await?;
        rows.iter().map(|row| self.part(row)).collect()
    }

    async fn readings(
        &self,
        db: &mut SqliteConnection,
        id: i64,
        (first, last): (i64, i64),
        (from, to): (i64, i64),
    ) -> Result<Vec<Part>, sqlx::Error> {
        let sql = "SELECT (time - ?1) / ?2 AS bucket,
                min(CASE WHEN typeof(value) <> 'text' THEN value END),
                total(CASE WHEN typeof(value) <> 'text' THEN value END),
                max(CASE WHEN typeof(value) <> 'text' THEN value END),
                sum(typeof(value) IN ('real', 'integer')), sum(quality >= 64)
            FROM log WHERE seq BETWEEN ?3 AND ?4 AND +channel = ?5 AND time >= ?6 AND time < ?7
            GROUP BY bucket";
        let rows = sqlx::query(sql)
            .bind(self.base)
            .bind(self.width)
            .bind(first)
            .bind(last)
            .bind(id)
            .bind(from)
            .bind(to)
            .fetch_all(db)
            .await?;
        rows.iter().map(|row| self.part(row)).collect()
    }

    fn part(&self, row: &SqliteRow) -> Result<Part, sqlx::Error> {
        let begins = self.base + row.try_get::<i64, _>(0)? * self.width;
        // A boolean's smallest and largest are integers.
        let float = |column| row.try_get_unchecked::<Option<f64>, _>(column);
        let count = number(row.try_get(4)?);
        Ok((begins, float(1)?, row.try_get(2)?, float(3)?, count, number(row.try_get(5)?)))
    }
}

/// One bucket of all parts that begin together.
fn merge(mut parts: Vec<Part>) -> Vec<Bucket> {
    parts.sort_by_key(|part| part.0);
    let mut buckets = Vec::new();
    for same in parts.chunk_by(|a, b| a.0 == b.0) {
        let sum: f64 = same.iter().map(|part| part.2).sum();
        let count: u64 = same.iter().map(|part| part.4).sum();
        #[expect(clippy::cast_precision_loss, reason = "nobody sees a mean that exactly")]
        let mean = (count > 0).then(|| sum / count as f64);
        buckets.push(Bucket {
            from: Timestamp::from_micros(same[0].0),
            min: same.iter().filter_map(|part| part.1).reduce(f64::min),
            mean,
            max: same.iter().filter_map(|part| part.3).reduce(f64::max),
            count,
            bad: same.iter().map(|part| part.5).sum(),
        });
    }
    buckets
}
