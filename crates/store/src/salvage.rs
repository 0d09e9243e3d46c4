//! What a damaged file still has is copied to a new one.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::TryStreamExt as _;
use reading::{Body, Channel, Epoch, Gap, Record, Seq, Timestamp};
use sqlx::{Connection as _, Row as _, SqliteConnection};
use tokio::time::Instant;
use tracing::warn;

use crate::aside::{self, beside};
use crate::raw::{Cell, Pages, Row};
use crate::row::{LogRow, integer, number};
use crate::state::Ledger;
use crate::{Config, commit, open};

/// Why readings are gone that the file had.
const STORE_DAMAGED: &str = "store damaged";

/// How long copying may take: a gateway that starts is worth more than the
/// oldest of its history, which stays in the file that is put aside.
const BUDGET: Duration = Duration::from_secs(6);

/// Bytes read at a time.
const BLOCK: usize = 256 * 1024;

/// Numbers of records and ids beyond are of damage, not of a gateway.
const SEQ_MAX: i64 = 1 << 48;
const ID_MAX: i64 = 1 << 20;

/// Holes told one by one, at most; more are told together.
const HOLES_MAX: usize = 16;

/// What became of a damaged file.
#[derive(Debug, Default)]
pub(crate) struct Salvaged {
    /// Readings copied.
    pub(crate) saved: u64,
    /// Readings that are gone.
    pub(crate) lost: u64,
    /// What tells of them.
    pub(crate) gaps: Vec<Gap>,
}

/// A reading as a row, not looked into.
struct Reading {
    seq: i64,
    channel: i64,
    time: i64,
    value: Cell,
    quality: i64,
}

/// What the file has but the log of readings, which is copied as it is found.
#[derive(Default)]
struct Found {
    channels: BTreeMap<i64, Row>,
    epochs: BTreeMap<i64, Row>,
    gaps: BTreeMap<i64, Row>,
    ledger: Option<[i64; 6]>,
    forwarders: HashMap<String, Row>,
    losses: HashMap<String, i64>,
    untold: Vec<Row>,
    undated: BTreeMap<i64, Row>,
    /// Of the channels that readings have.
    ids: HashSet<i64>,
    /// It is told what it would else look for.
    running: bool,
    saved: u64,
    lost: u64,
    /// Not all pages were looked at.
    cut: bool,
}

/// What a running gateway knows, and need not ask of its file.
pub(crate) struct Known {
    pub(crate) ledger: Ledger,
    pub(crate) channels: Vec<(i64, Channel)>,
    pub(crate) epochs: Vec<(Seq, Epoch)>,
    /// The newest records.
    pub(crate) recent: Vec<Arc<Vec<Record>>>,
}

/// Makes a new file of what the damaged one still has, puts that aside and the
/// new one in its place. Killed at any instant, the next start does it again, or
/// what is left of it: all that follows from the damage is in the new file.
///
/// # Errors
/// When the new one can't be written.
pub(crate) async fn replace(
    config: &Config,
    known: Option<&Known>,
) -> Result<Salvaged, sqlx::Error> {
    let path = &config.path;
    // What an attempt before this one has left to do.
    aside::take_finished(path).map_err(sqlx::Error::Io)?;
    let new = aside::unfinished(path);
    aside::remove_unfinished(path);
    let mut db = open::connect(config, &new).await?;
    open::MIGRATIONS.run_direct(None, &mut db, false).await?;
    let salvaged = salvage(path, &mut db, known).await;
    // The new file is whole without a log beside it once this is through.
    let whole = sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(&mut db).await;
    db.close().await?;
    let salvaged = salvaged?;
    whole?;
    let aside = aside::swap(path).map_err(sqlx::Error::Io)?;
    let lost: u64 = salvaged.gaps.iter().map(|gap| gap.count).sum();
    warn!(path = %path.display(), aside = %aside.display(), saved = salvaged.saved, lost,
        "the damaged store is put aside, what it had is copied");
    Ok(salvaged)
}

/// Copies what a file still has to a new one that has its tables.
async fn salvage(
    old: &Path,
    db: &mut SqliteConnection,
    known: Option<&Known>,
) -> Result<Salvaged, sqlx::Error> {
    let pages = Pages::open(old, &beside(old, "-wal"), open::PAGE_SIZE as usize);
    let until = Instant::now() + BUDGET;
    let mut found = Found::default();
    if let Some(known) = known {
        found.take(known, db).await?;
    }
    found.copy(&pages, db, until).await?;
    let gaps = found.finish(db).await?;
    if found.cut {
        let seconds = BUDGET.as_secs();
        warn!(seconds, "not all could be copied in time: it is in the file put aside");
    }
    Ok(Salvaged { saved: found.saved, lost: found.lost, gaps })
}

async fn insert(db: &mut SqliteConnection, readings: &[Reading]) -> Result<(), sqlx::Error> {
    let mut rest = readings;
    let inserts = commit::inserts();
    for (size, sql) in commit::ROWS.iter().zip(inserts) {
        while rest.len() >= *size {
            let (now, later) = rest.split_at(*size);
            rest = later;
            let mut query = sqlx::query(sql.as_str());
            for row in now {
                query = query.bind(row.seq).bind(row.channel).bind(row.time);
                query = match &row.value {
                    Cell::Null => query.bind(None::<f64>),
                    Cell::Integer(truth) => query.bind(*truth),
                    Cell::Real(number) => query.bind(*number),
                    Cell::Text(text) => query.bind(text.clone()),
                };
                query = query.bind(row.quality);
            }
            query.execute(&mut *db).await?;
        }
    }
    Ok(())
}

/// A moment that a clock can show.
fn is_time(micros: i64) -> bool {
    Timestamp::from_micros(micros).as_micros() == micros
}

impl Found {
    /// What need not be asked of the file.
    async fn take(&mut self, known: &Known, db: &mut SqliteConnection) -> Result<(), sqlx::Error> {
        let l = &known.ledger;
        let ledger = [l.counted, l.stored, l.dropped, l.removed, l.purged, l.rolled];
        self.ledger = Some(ledger.map(integer));
        self.running = true;
        commit::begin(db).await?;
        let outcome = self.take_rows(known, db).await;
        commit::finish(db, outcome).await
    }

    async fn take_rows(
        &mut self,
        known: &Known,
        db: &mut SqliteConnection,
    ) -> Result<(), sqlx::Error> {
        let ids: HashMap<_, _> = known.channels.iter().map(|(id, c)| (c, *id)).collect();
        for (id, channel) in &known.channels {
            commit::insert_channel(db, *id, channel, "number").await?;
        }
        for (first, epoch) in &known.epochs {
            let sql = "INSERT OR IGNORE INTO epoch (epoch, first_seq, started) VALUES (?, ?, ?)";
            let query = sqlx::query(sql).bind(epoch.to_string()).bind(integer(first.0));
            query.bind(Timestamp::now().as_micros()).execute(&mut *db).await?;
        }
        for batch in &known.recent {
            let id = |channel: &Channel| ids.get(channel).copied().unwrap_or(0);
            let rows: Vec<_> = batch
                .iter()
                .filter_map(|record| {
                    let reading = record.reading()?;
                    let seq = integer(record.seq.0);
                    Some(LogRow { seq, channel: id(&reading.channel), reading })
                })
                .collect();
            commit::insert_log(db, &rows).await?;
            for record in batch.iter() {
                if let Body::Gap(gap) = &record.body {
                    let channel = gap.channel.as_ref().map(id);
                    commit::insert_gap(db, record.seq, gap, channel).await?;
                }
            }
        }
        Ok(())
    }

    async fn copy(
        &mut self,
        pages: &Pages,
        db: &mut SqliteConnection,
        until: Instant,
    ) -> Result<(), sqlx::Error> {
        let block = u32::try_from(BLOCK / pages.size()).unwrap_or(1).max(1);
        // From the end: there the newest are, as long as the file grows.
        let mut last = pages.count();
        while last > 0 {
            let first = last.saturating_sub(block - 1).max(1);
            commit::begin(db).await?;
            let outcome = self.copy_pages(pages, (first, last), db).await;
            commit::finish(db, outcome).await?;
            last = first - 1;
            if Instant::now() >= until && last > 0 {
                self.cut = true;
                break;
            }
        }
        Ok(())
    }

    async fn copy_pages(
        &mut self,
        pages: &Pages,
        (first, last): (u32, u32),
        db: &mut SqliteConnection,
    ) -> Result<(), sqlx::Error> {
        let bytes = pages.read(first, last);
        let mut readings = Vec::new();
        for (number, page) in (first..=last).zip(bytes.chunks(pages.size())) {
            for row in pages.rows(number, page) {
                self.sort(row, &mut readings, db).await?;
            }
        }
        readings.sort_unstable_by_key(|reading: &Reading| reading.seq);
        if let (true, Some([counted, ..])) = (self.running, self.ledger) {
            // A running gateway has numbered no further.
            readings.retain(|reading| reading.seq <= counted);
        }
        insert(db, &readings).await
    }

    /// Each table is known by the shape of its rows; what has another, or
    /// values that no gateway writes, is damage.
    async fn sort(
        &mut self,
        row: Row,
        readings: &mut Vec<Reading>,
        db: &mut SqliteConnection,
    ) -> Result<(), sqlx::Error> {
        use Cell::{Integer, Null, Real, Text};
        match (row.number, &row.cells[..]) {
            (
                Some(seq @ 1..SEQ_MAX),
                [Null, Integer(id @ 0..ID_MAX), Integer(time), value, Integer(q @ 0..=127)],
            ) if is_time(*time) => {
                self.ids.insert(*id);
                let (channel, time, quality, value) = (*id, *time, *q, value.clone());
                readings.push(Reading { seq, channel, time, value, quality });
            }
            (
                Some(seq @ 1..SEQ_MAX),
                [Null, Integer(from), Integer(to), Integer(0..), Null | Integer(_), Text(_)],
            ) if is_time(*from) && is_time(*to) => {
                self.gaps.insert(seq, row);
            }
            (
                Some(id @ 1..ID_MAX),
                [Null, Text(device), Text(name), Text(kind), Text(_), Null | Text(_), ..],
            ) if Channel::new(device, name).is_ok()
                && ["number", "boolean", "text"].contains(&kind.as_str()) =>
            {
                self.channels.insert(id, row);
            }
            (Some(id @ 1..ID_MAX), [Null, Text(epoch), Integer(1..SEQ_MAX), Integer(_), ..])
                if epoch.parse::<reading::Epoch>().is_ok() && row.cells.len() == 5 =>
            {
                self.epochs.insert(id, row);
            }
            (
                Some(1),
                [Null, Integer(a), Integer(b), Integer(c), Integer(d), Integer(e), Integer(f)],
            ) => {
                let ledger = [*a, *b, *c, *d, *e, *f];
                let sound = ledger.iter().all(|n| (0..SEQ_MAX).contains(n)) && b >= d;
                let newer = self.ledger.is_none_or(|known| known < ledger);
                if sound && newer && !self.running {
                    self.ledger = Some(ledger);
                }
            }
            (Some(_), [Integer(_), Integer(_), Integer(1..), Null | Text(_), Text(_)]) => {
                self.untold.push(row);
            }
            (
                Some(first @ 1..SEQ_MAX),
                [
                    Null,
                    Null | Integer(0..SEQ_MAX),
                    Null | Text(_),
                    Integer(_),
                    Integer(0..),
                    Null | Integer(_),
                    Integer(0..=1),
                    Integer(0..SEQ_MAX),
                ],
            ) => {
                self.undated.insert(first, row);
            }
            (None, [Text(name), Text(_), position, ..]) if row.cells.len() == 7 => {
                let counts = row.cells[2..].iter().all(|c| matches!(c, Integer(0..SEQ_MAX)));
                let newer = |known: &Row| match (&known.cells[2], position) {
                    (Integer(known), Integer(this)) => known < this,
                    _ => false,
                };
                if counts && self.forwarders.get(name).is_none_or(newer) {
                    self.forwarders.insert(name.clone(), row);
                }
            }
            // The index of the starts has the same shape.
            (None, [Text(reason), Integer(count @ 1..)]) if reason.parse::<Epoch>().is_err() => {
                let known = self.losses.entry(reason.clone()).or_default();
                *known = (*known).max(*count);
            }
            (
                None,
                [
                    Integer(0..ID_MAX),
                    Integer(_),
                    Integer(_),
                    Integer(_),
                    min,
                    sum,
                    max,
                    Integer(0..),
                    Integer(0..),
                ],
            ) if [min, sum, max].iter().all(|c| matches!(c, Null | Integer(_) | Real(_)))
                && *sum != Null =>
            {
                save_figures(db, &row).await?;
            }
            _ => {}
        }
        Ok(())
    }

    /// What has been gathered is written, and what is missing is counted.
    async fn finish(&mut self, db: &mut SqliteConnection) -> Result<Vec<Gap>, sqlx::Error> {
        commit::begin(db).await?;
        let outcome = self.complete(db).await;
        commit::finish(db, outcome).await
    }

    async fn complete(&mut self, db: &mut SqliteConnection) -> Result<Vec<Gap>, sqlx::Error> {
        self.save_channels(db).await?;
        for (id, row) in &self.epochs {
            let sql = "INSERT OR IGNORE INTO epoch (id, epoch, first_seq, started, boot_id)
                VALUES (?, ?, ?, ?, ?)";
            bind(sqlx::query(sql).bind(id), &row.cells[1..], 4).execute(&mut *db).await?;
        }
        for (seq, row) in &self.gaps {
            // A number is a reading's or a gap's.
            let sql = "INSERT OR IGNORE INTO gap (seq, from_time, to_time, count, channel, reason)
                SELECT ?1, ?2, ?3, ?4, ?5, ?6 WHERE NOT EXISTS (SELECT 1 FROM log WHERE seq = ?1)";
            bind(sqlx::query(sql).bind(seq), &row.cells[1..], 5).execute(&mut *db).await?;
        }
        for row in &self.untold {
            let sql = "INSERT INTO untold VALUES (?, ?, ?, ?, ?)";
            bind(sqlx::query(sql), &row.cells, 5).execute(&mut *db).await?;
        }
        for (first, row) in &self.undated {
            let sql = "INSERT OR IGNORE INTO undated (first_seq, last_seq, boot_id, ahead, since,
                correction, given_up, through) VALUES (?, ?, ?, ?, ?, ?, ?, ?)";
            bind(sqlx::query(sql).bind(first), &row.cells[1..], 7).execute(&mut *db).await?;
        }
        for (reason, count) in &self.losses {
            let sql = "INSERT OR IGNORE INTO loss (reason, count) VALUES (?, ?)";
            sqlx::query(sql).bind(reason.clone()).bind(count).execute(&mut *db).await?;
        }
        for row in self.forwarders.values() {
            let sql = "INSERT OR IGNORE INTO forwarder
                (name, channels, position, counted, stored, acknowledged, dropped)
                VALUES (?, ?, ?, ?, ?, ?, ?)";
            bind(sqlx::query(sql), &row.cells, 7).execute(&mut *db).await?;
        }
        if let Some([.., purged, _]) = self.ledger {
            // Of pages that were free: removed long ago.
            sqlx::query("DELETE FROM log WHERE seq <= ?").bind(purged).execute(&mut *db).await?;
        }
        self.complete_figures(db).await?;
        let gaps = self.count(db).await?;
        // In the file itself: whoever opens it may not be who made it.
        for gap in &gaps {
            let sql = "INSERT INTO loss (reason, count) VALUES (?, ?)
                ON CONFLICT (reason) DO UPDATE SET count = count + excluded.count";
            let query = sqlx::query(sql).bind(gap.reason.to_string()).bind(integer(gap.count));
            query.execute(&mut *db).await?;
            commit::insert_untold(db, gap).await?;
        }
        commit::mark(db, true).await?;
        Ok(gaps)
    }

    async fn save_channels(&mut self, db: &mut SqliteConnection) -> Result<(), sqlx::Error> {
        for (id, row) in &self.channels {
            let mut cells = row.cells[1..].to_vec();
            // Those of an older file have no counts.
            cells.resize(7, Cell::Integer(0));
            cells.iter_mut().skip(5).for_each(|cell| {
                if !matches!(cell, Cell::Integer(_)) {
                    *cell = Cell::Integer(0);
                }
            });
            let sql = "INSERT OR IGNORE INTO channel
                (id, device, name, kind, unit, label, stored, dropped)
                VALUES (?, ?, ?, ?, ?, ?, ?, ?)";
            bind(sqlx::query(sql).bind(id), &cells, 7).execute(&mut *db).await?;
        }
        // The id must not be given to another channel: its readings would bear
        // a wrong name.
        let nameless: Vec<i64> =
            self.ids.iter().copied().filter(|id| !self.channels.contains_key(id)).collect();
        for id in nameless {
            let sql = "INSERT OR IGNORE INTO channel (id, device, name, kind, unit)
                VALUES (?, 'salvaged', ?, 'number', '')";
            sqlx::query(sql).bind(id).bind(format!("channel-{id}")).execute(&mut *db).await?;
        }
        Ok(())
    }

    /// History finds readings by the figures of their minute: those that are
    /// missing are made of the readings.
    async fn complete_figures(&self, db: &mut SqliteConnection) -> Result<(), sqlx::Error> {
        let rolled = self.ledger.map_or(0, |ledger| ledger[5]);
        let sql = format!(
            "{} FROM log WHERE seq <= ? GROUP BY 1, 2
            ON CONFLICT (channel, minute) DO UPDATE SET
                first = min(first, excluded.first), last = max(last, excluded.last)",
            crate::rollup::GATHER
        );
        sqlx::query(sqlx::AssertSqlSafe(sql)).bind(rolled).execute(db).await?;
        Ok(())
    }

    /// Writes the ledger and says what is missing.
    async fn count(&mut self, db: &mut SqliteConnection) -> Result<Vec<Gap>, sqlx::Error> {
        let last = integer(crate::open::next_seq(&mut *db).await?.0 - 1);
        let [counted, stored, dropped, removed, purged, rolled] = self.ledger.unwrap_or_default();
        let (saved_before, saved_after) = between(&mut *db, "log", counted, last).await?;
        let (_, gaps_after) = between(&mut *db, "gap", counted, last).await?;
        self.saved = number(saved_before + saved_after);
        let holes = self.holes(&mut *db, purged, last).await?;
        let lost_before = match self.ledger {
            Some(_) => (stored - removed - saved_before).max(0),
            None => 0,
        };
        // Numbers that were given and are nowhere.
        let lost_after = (last - counted - saved_after - gaps_after).max(0);
        let lost = lost_before + lost_after;
        self.lost = number(lost);
        let sql = "UPDATE ledger SET counted = ?, stored = ?, dropped = ?, removed = ?,
            purged = ?, rolled = ?";
        sqlx::query(sql)
            .bind(last)
            .bind(stored + saved_after + lost_after)
            .bind(dropped)
            .bind(removed + lost)
            .bind(purged)
            .bind(rolled)
            .execute(&mut *db)
            .await?;
        let sql = "UPDATE channel SET stored = stored + more.count FROM
            (SELECT channel AS id, count(*) AS count FROM log WHERE seq > ? GROUP BY channel) AS more
            WHERE more.id = channel.id";
        sqlx::query(sql).bind(counted).execute(&mut *db).await?;
        // Nothing at all is left: how much there was nobody knows.
        let nothing = self.saved == 0 && self.ledger.is_none() && self.epochs.is_empty();
        Ok(tell(number(lost), holes, nothing))
    }

    /// Numbers that are nowhere, with the times around them.
    async fn holes(
        &self,
        db: &mut SqliteConnection,
        after: i64,
        last: i64,
    ) -> Result<Vec<Hole>, sqlx::Error> {
        // Gaps are numbered among the readings: no hole.
        let sql = "SELECT seq, time FROM (
                SELECT seq, time FROM log
                UNION ALL SELECT seq, to_time FROM gap WHERE seq > ?1)
            ORDER BY seq";
        let mut rows = sqlx::query(sql).bind(after).fetch(db);
        let mut holes: Vec<Hole> = Vec::new();
        let mut before: (i64, Option<i64>) = (after, None);
        while let Some(row) = rows.try_next().await? {
            let (seq, time): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
            if seq > before.0 + 1 {
                note(
                    &mut holes,
                    Hole { width: seq - before.0 - 1, from: before.1, to: Some(time) },
                );
            }
            before = (seq, Some(time));
        }
        if last > before.0 {
            note(&mut holes, Hole { width: last - before.0, from: before.1, to: None });
        }
        Ok(holes)
    }
}

/// Numbers that are missing in a row.
struct Hole {
    width: i64,
    from: Option<i64>,
    to: Option<i64>,
}

fn note(holes: &mut Vec<Hole>, hole: Hole) {
    let full = holes.len() >= HOLES_MAX;
    match holes.last_mut() {
        Some(last) if full => {
            last.width += hole.width;
            last.to = hole.to;
        }
        _ => holes.push(hole),
    }
}

/// Gaps of `lost` readings in all, in the holes as they come.
fn tell(mut lost: u64, holes: Vec<Hole>, nothing: bool) -> Vec<Gap> {
    let now = Timestamp::now();
    let gap = |count, hole: &Hole| {
        let to = hole.to.map_or(now, Timestamp::from_micros);
        let from = hole.from.map_or(to, Timestamp::from_micros);
        let (from, to) = (from.min(to), to.max(from));
        Gap { from, to, count, channel: None, reason: STORE_DAMAGED.into() }
    };
    if nothing {
        let unknown = Hole { width: 0, from: None, to: None };
        return vec![gap(0, &unknown)];
    }
    let mut gaps = Vec::new();
    for hole in &holes {
        let count = lost.min(number(hole.width));
        if count > 0 {
            lost -= count;
            gaps.push(gap(count, hole));
        }
    }
    if lost > 0 {
        gaps.push(gap(lost, &Hole { width: 0, from: None, to: None }));
    }
    gaps
}

/// How many rows a table has through a number, and after it.
async fn between(
    db: &mut SqliteConnection,
    table: &'static str,
    counted: i64,
    last: i64,
) -> Result<(i64, i64), sqlx::Error> {
    let sql = format!(
        "SELECT count(*) FILTER (WHERE seq <= ?1), count(*) FILTER (WHERE seq > ?1)
        FROM {table} WHERE seq <= ?2"
    );
    let query = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(counted).bind(last);
    let row = query.fetch_one(db).await?;
    Ok((row.try_get(0)?, row.try_get(1)?))
}

async fn save_figures(db: &mut SqliteConnection, row: &Row) -> Result<(), sqlx::Error> {
    // Of two states of a minute the later one counts more.
    let sql = "INSERT INTO rollup (channel, minute, first, last, min, sum, max, count, bad)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
        ON CONFLICT (channel, minute) DO UPDATE SET first = excluded.first, last = excluded.last,
            min = excluded.min, sum = excluded.sum, max = excluded.max,
            count = excluded.count, bad = excluded.bad
        WHERE excluded.count + excluded.bad > count + bad";
    bind(sqlx::query(sql), &row.cells, 9).execute(db).await?;
    Ok(())
}

type Query<'q> = sqlx::query::Query<'q, sqlx::Sqlite, sqlx::sqlite::SqliteArguments>;

/// Binds `len` cells; those that an older file doesn't have are NULL.
fn bind<'q>(mut query: Query<'q>, cells: &[Cell], len: usize) -> Query<'q> {
    for n in 0..len {
        query = match cells.get(n) {
            None | Some(Cell::Null) => query.bind(None::<i64>),
            Some(Cell::Integer(number)) => query.bind(*number),
            Some(Cell::Real(number)) => query.bind(*number),
            Some(Cell::Text(text)) => query.bind(text.clone()),
        };
    }
    query
}
