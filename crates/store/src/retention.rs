//! What goes, and when: by age what every forwarder has, by size the oldest.

use std::collections::HashMap;
use std::path::Path;
use std::sync::PoisonError;
use std::time::Duration;

use reading::{Channel, Gap, Seq, Timestamp};
use sqlx::Row;
use tokio::time::Instant;
use tracing::{info, warn};

use crate::losses::Losses;
use crate::open::wal_max;
use crate::rollup::{MINUTE, minute};
use crate::row::{self, integer, number};
use crate::state::{Forwarder, Ledger, OfChannel, State};
use crate::today::Today;
use crate::{Config, Writer, commit};

/// How often the size is looked at, at the latest.
pub(crate) const EVERY: Duration = Duration::from_secs(1);

/// How often age is looked at.
const AGE_EVERY: Duration = Duration::from_secs(30);

/// Rows removed a commit: twice what a commit adds, so that a full file stays
/// within its size at full speed, and some 10 ms, so that nobody waits long.
const CHUNK: i64 = 16_384;

/// Bytes that the file may grow between two looks at its size.
const COMMITS_MAX: u64 = 1024 * 1024;

/// Minutes of figures removed at once when nothing else is left.
const OLDEST_MINUTES: i64 = 1_440;

/// Why readings are gone that a forwarder didn't have yet.
pub(crate) const STORE_FULL: &str = "store full";

/// Bytes in the file, of all pages and of those in use.
#[derive(Clone, Copy)]
struct Pages {
    all: u64,
    used: u64,
}

/// Whether the file system has less than `keep_free` bytes for us, or than a
/// quarter of its own size where that is less.
fn space_is_low(path: &Path, keep_free: u64) -> bool {
    let folder = path.parent().unwrap_or(path);
    let Ok(system) = rustix::fs::statvfs(folder) else { return false };
    let whole = system.f_blocks.saturating_mul(system.f_frsize);
    let free = system.f_bavail.saturating_mul(system.f_frsize);
    free < keep_free.min(whole / 4)
}

/// The writer's calendar of removals.
pub(crate) struct Retention {
    keep: Duration,
    keep_rollups: Duration,
    /// Bytes of pages in use that the file may have.
    pages_max: u64,
    next: Instant,
    next_age: Instant,
    /// Records committed when it last looked.
    counted: u64,
    told: bool,
    keep_free: u64,
    /// The disk has less than that.
    low: bool,
    /// When it is, for removal by age.
    today: Today,
    /// By forwarder: the position before the readings that are being removed,
    /// until their removal is committed.
    pub(crate) reserved: Vec<Option<Seq>>,
}

impl Retention {
    /// `newest`: the time of the newest reading in the file.
    pub(crate) fn new(config: &Config, newest: Option<Timestamp>) -> Retention {
        let max = config.max_size.as_u64();
        let now = Instant::now();
        Retention {
            keep: config.keep,
            keep_rollups: config.keep_rollups.max(config.keep),
            // The log beside the file is part of the size, and so is what is
            // committed before it is looked at.
            pages_max: max.saturating_sub(wal_max(max) + COMMITS_MAX.min(max / 4)),
            next: now + EVERY,
            next_age: now + EVERY,
            counted: 0,
            told: false,
            keep_free: config.keep_free.as_u64(),
            low: false,
            today: Today::new(newest),
            reserved: Vec::new(),
        }
    }

    pub(crate) fn next(&self) -> Instant {
        self.next
    }

    /// The age of readings is looked at the next time.
    #[cfg(test)]
    pub(crate) fn age_now(&mut self) {
        self.next_age = Instant::now();
    }

    pub(crate) fn due(&self, state: &State, now: Instant) -> bool {
        now >= self.next || state.ledger.stored >= self.counted + CHUNK as u64 / 2
    }
}

/// What the file has beside the readings.
struct Figures {
    ledger: Ledger,
    rows: Vec<Forwarder>,
    losses: Losses,
    channels: Vec<(i64, Channel, OfChannel)>,
}

/// What somebody was still to get of what goes.
#[derive(Default)]
struct Owed {
    /// It lies after this number, if there is any.
    after: Option<Seq>,
    /// Readings, by forwarder.
    dropped: Vec<u64>,
    /// What tells of it.
    lost: Option<Gap>,
    /// Gap records that go too, and are told again.
    gaps: Vec<Gap>,
}

impl Owed {
    fn note(&self, losses: &mut Losses) {
        self.lost.iter().cloned().for_each(|gap| losses.add(gap));
        self.gaps.iter().cloned().for_each(|gap| losses.tell(gap));
    }
}

/// Which one-minute figures go.
#[derive(Clone, Copy, PartialEq)]
enum Old {
    Before(i64),
    Oldest,
}

impl Writer {
    /// One round: a chunk by size or by age; more follows at once when there is.
    pub(crate) async fn purge(&mut self) -> Result<(), sqlx::Error> {
        let now = Instant::now();
        self.retention.next = now + EVERY;
        self.retention.counted = self.shared.state().ledger.stored;
        let pages = self.pages().await?;
        let limit = self.limit(pages);
        if pages.used > limit {
            if self.remove_oldest(limit < self.retention.pages_max).await? {
                self.retention.next = now;
            }
        } else if now >= self.retention.next_age {
            self.retention.next_age = now + AGE_EVERY;
            if self.remove_aged().await? {
                self.retention.next = now;
                self.retention.next_age = now;
            }
        }
        Ok(())
    }

    async fn pages(&mut self) -> Result<Pages, sqlx::Error> {
        let sql = "SELECT page_count * page_size, (page_count - freelist_count) * page_size
            FROM pragma_page_count, pragma_freelist_count, pragma_page_size";
        let row = sqlx::query(sql).fetch_one(&mut self.db).await?;
        Ok(Pages { all: number(row.try_get(0)?), used: number(row.try_get(1)?) })
    }

    /// Bytes of pages that may be in use now, and says so when it begins to tell.
    fn limit(&mut self, pages: Pages) -> u64 {
        let path = self.shared.path.display();
        let max = self.retention.pages_max;
        let low = space_is_low(&self.shared.path, self.retention.keep_free);
        if low != self.retention.low {
            self.retention.low = low;
            let keep_free = self.retention.keep_free;
            if low {
                warn!(%path, keep_free, "the disk is nearly full: the store doesn't grow, the oldest go");
            } else {
                info!(%path, "the disk has room again: the store may grow");
            }
        }
        if pages.used > max && !self.retention.told {
            warn!(%path, max_size = self.shared.max_size, "the store is full: the oldest go");
            self.retention.told = true;
        }
        // Pages that are free within the file need no room on the disk.
        let spare = COMMITS_MAX.min(pages.all / 4);
        if low { max.min(pages.all.saturating_sub(spare)) } else { max }
    }

    async fn remove_oldest(&mut self, low: bool) -> Result<bool, sqlx::Error> {
        let chunk = if low {
            // No more than is needed: the file may be small.
            let ledger = self.shared.state().ledger;
            integer((ledger.stored - ledger.removed) / 8 + 1).min(CHUNK)
        } else {
            CHUNK
        };
        let sql = "SELECT max(seq) FROM (SELECT seq FROM log ORDER BY seq LIMIT ?)";
        let last: Option<i64> = sqlx::query_scalar(sql).bind(chunk).fetch_one(&mut self.db).await?;
        match last {
            Some(last) => self.remove(Seq(number(last))).await,
            // Only figures are left: the oldest of them.
            None => self.remove_rollups(Old::Oldest).await,
        }
    }

    async fn remove_aged(&mut self) -> Result<bool, sqlx::Error> {
        if !self.shared.state().held.is_empty() {
            // Until the clock is set nobody knows what day it is.
            return Ok(false);
        }
        let today = self.retention.today.at(Timestamp::now(), Instant::now());
        let before = today - self.retention.keep;
        // The front of the log as far as it is old: one whose time is wrong
        // stops it, rather than that younger ones behind it go.
        let sql = "SELECT max(seq), min(CASE WHEN time >= ? THEN seq END)
            FROM (SELECT seq, time FROM log ORDER BY seq LIMIT ?)";
        let row =
            sqlx::query(sql).bind(before.as_micros()).bind(CHUNK).fetch_one(&mut self.db).await?;
        let (last, young): (Option<i64>, Option<i64>) = (row.try_get(0)?, row.try_get(1)?);
        let aged = young.map(|seq| seq - 1).or(last).map_or(0, number);
        let (kept, rolled, purged) = {
            let state = self.shared.state();
            let kept = state.forwarders.iter().map(|f| f.position.0).min();
            (kept.unwrap_or(u64::MAX), state.ledger.rolled, state.ledger.purged)
        };
        let through = aged.min(kept).min(rolled);
        let more = through > purged && self.remove(Seq(through)).await?;
        let old = minute(today - self.retention.keep_rollups);
        Ok(more | self.remove_rollups(Old::Before(old)).await?)
    }

    /// Removes readings through a number, and what of the ledger follows.
    async fn remove(&mut self, through: Seq) -> Result<bool, sqlx::Error> {
        self.reserve(through);
        let owed = self.owed(through).await?;
        self.shared.steps.pause().await;
        let mut figures = self.figures_without(&owed);
        let roll = through.0 > figures.ledger.rolled;
        self.synchronous(false).await?;
        if roll {
            // What goes before the clock was set leaves no figures.
            let all = self.gathers();
            figures.ledger.rolled = if all { self.shared.committed.borrow().0 } else { through.0 };
        }
        figures.ledger.purged = figures.ledger.purged.max(through.0);
        commit::begin(&mut self.db).await?;
        let outcome = self.remove_rows(through, &owed, roll, &mut figures).await;
        self.shared.steps.pause().await;
        let (removed, oldest) = commit::finish(&mut self.db, outcome).await?;
        self.shared.steps.pause().await;
        let Figures { ledger, rows, losses, .. } = figures;

        self.retention.reserved.clear();
        if roll {
            self.rolled();
        }
        self.saved(&rows);
        {
            let mut state = self.shared.state();
            state.ledger.removed = ledger.removed;
            state.ledger.purged = ledger.purged;
            state.ledger.rolled = ledger.rolled;
            state.oldest = oldest;
            for (forwarder, dropped) in state.forwarders.iter_mut().zip(&owed.dropped) {
                forwarder.dropped += dropped;
            }
            owed.note(&mut state.losses);
            if state.losses.version == losses.version {
                self.losses_saved = losses.version;
            }
        }
        self.recount_held(through.0).await?;
        Ok(removed > 0)
    }

    /// From now on no acknowledgement counts a reading that is about to go.
    fn reserve(&mut self, through: Seq) {
        let mut state = self.shared.state();
        self.retention.reserved.resize(state.forwarders.len(), None);
        for (forwarder, reserved) in state.forwarders.iter_mut().zip(&mut self.retention.reserved) {
            if forwarder.position < through {
                reserved.get_or_insert(forwarder.position);
                forwarder.looked = forwarder.looked.max(through);
                forwarder.pass(through);
            }
        }
    }

    /// What of the log through a number is reserved: somebody was to get it.
    async fn owed(&mut self, through: Seq) -> Result<Owed, sqlx::Error> {
        let mut owed = Owed { dropped: vec![0; self.retention.reserved.len()], ..Owed::default() };
        let Some(after) = self.retention.reserved.iter().flatten().min().copied() else {
            return Ok(owed);
        };
        owed.after = Some(after);
        let sql = "SELECT seq, channel, time FROM log WHERE seq > ? AND seq <= ? ORDER BY seq";
        let rows = sqlx::query(sql)
            .bind(integer(after.0))
            .bind(integer(through.0))
            .fetch_all(&mut self.db)
            .await?;
        let mut known: HashMap<i64, Vec<bool>> = HashMap::new();
        let mut lost: Option<Gap> = None;
        for row in &rows {
            let (seq, id) = (row::seq(row)?, row.try_get(1)?);
            let at = Timestamp::from_micros(row.try_get(2)?);
            let matches = known.entry(id).or_insert_with(|| self.matches(id));
            let mut any = false;
            for (i, reserved) in self.retention.reserved.iter().enumerate() {
                if matches[i] && reserved.is_some_and(|after| seq > after) {
                    owed.dropped[i] += 1;
                    any = true;
                }
            }
            if any {
                let reason = STORE_FULL.into();
                let channel = self.shared.channel(id);
                let gap = lost.get_or_insert_with(|| {
                    let channel = channel.clone();
                    Gap { from: at, to: at, count: 0, channel, reason }
                });
                if gap.channel != channel {
                    gap.channel = None;
                }
                gap.count += 1;
                gap.from = gap.from.min(at);
                gap.to = gap.to.max(at);
            }
        }
        owed.lost = lost;
        let sql = "SELECT seq, from_time, to_time, count, channel, reason FROM gap
            WHERE seq > ? AND seq <= ? ORDER BY seq";
        let rows = sqlx::query(sql)
            .bind(integer(after.0))
            .bind(integer(through.0))
            .fetch_all(&mut self.db)
            .await?;
        for row in &rows {
            // It goes too, and is told again.
            owed.gaps.push(row::gap(&self.shared, row)?.1);
        }
        Ok(owed)
    }

    fn matches(&self, channel: i64) -> Vec<bool> {
        let channel = self.shared.channel(channel);
        let state = self.shared.state();
        let matches = |f: &Forwarder| channel.as_ref().is_some_and(|channel| f.matches(channel));
        state.forwarders.iter().map(matches).collect()
    }

    /// What the file is to have once what is owed has gone.
    fn figures_without(&self, owed: &Owed) -> Figures {
        let state = self.shared.state();
        let mut rows: Vec<_> = state.forwarders.iter().map(Forwarder::row).collect();
        for (row, dropped) in rows.iter_mut().zip(&owed.dropped) {
            row.dropped += dropped;
        }
        let mut losses = state.losses.clone();
        owed.note(&mut losses);
        let changed = state.by_channel.iter().filter(|(_, of)| of.changed);
        let channels = changed.filter_map(|(channel, of)| {
            Some((self.shared.channel_id(channel)?, channel.clone(), *of))
        });
        Figures { ledger: state.ledger, rows, losses, channels: channels.collect() }
    }

    async fn remove_rollups(&mut self, which: Old) -> Result<bool, sqlx::Error> {
        // By channel, as the table is ordered: each seeks its own oldest.
        let channels: Vec<i64> = {
            let channels = self.shared.channels.read();
            channels.unwrap_or_else(PoisonError::into_inner).keys().copied().collect()
        };
        let before = match which {
            Old::Before(minute) => minute,
            Old::Oldest => {
                let sql = "SELECT min(minute) FROM rollup WHERE channel = ?";
                let mut oldest: Option<i64> = None;
                for channel in &channels {
                    let minute: Option<i64> =
                        sqlx::query_scalar(sql).bind(channel).fetch_one(&mut self.db).await?;
                    oldest = oldest.into_iter().chain(minute).min();
                }
                let Some(oldest) = oldest else { return Ok(false) };
                oldest + OLDEST_MINUTES
            }
        };
        self.synchronous(false).await?;
        commit::begin(&mut self.db).await?;
        let outcome = self.remove_figures(&channels, before).await;
        let removed = commit::finish(&mut self.db, outcome).await?;
        Ok(removed > 0 && which == Old::Oldest)
    }

    /// The statements of a removal; gives how many readings went, and the time
    /// of the oldest that is left.
    async fn remove_rows(
        &mut self,
        through: Seq,
        owed: &Owed,
        roll: bool,
        figures: &mut Figures,
    ) -> Result<(u64, Option<i64>), sqlx::Error> {
        let db = &mut self.db;
        if roll {
            // What history can still tell of them.
            self.rollups.write(db).await?;
        }
        let last = integer(through.0);
        let sql = "DELETE FROM log WHERE seq <= ?";
        let removed = sqlx::query(sql).bind(last).execute(&mut *db).await?.rows_affected();
        if let Some(after) = owed.after {
            let sql = "DELETE FROM gap WHERE seq > ? AND seq <= ?";
            sqlx::query(sql).bind(integer(after.0)).bind(last).execute(&mut *db).await?;
        }
        figures.ledger.removed += removed;
        commit::save_ledger(db, &figures.ledger).await?;
        commit::save_channels(db, &figures.channels).await?;
        // With the removal, so that a kill can't make it a silent loss.
        commit::save_losses(db, &figures.losses).await?;
        for row in &figures.rows {
            commit::save_forwarder(db, row, Seq(figures.ledger.counted)).await?;
        }
        let sql = "SELECT time FROM log ORDER BY seq LIMIT 1";
        Ok((removed, sqlx::query_scalar(sql).fetch_optional(db).await?))
    }

    async fn remove_figures(&mut self, channels: &[i64], before: i64) -> Result<u64, sqlx::Error> {
        let mut removed = 0;
        for channel in channels {
            let sql = "DELETE FROM rollup WHERE channel = ? AND minute < ?";
            let query = sqlx::query(sql).bind(channel).bind(before);
            removed += query.execute(&mut self.db).await?.rows_affected();
        }
        // Gaps stay as long as the figures that they explain.
        let sql = "DELETE FROM gap WHERE to_time < ? AND seq <= (SELECT purged FROM ledger)";
        let query = sqlx::query(sql).bind(before.saturating_mul(MINUTE));
        Ok(removed + query.execute(&mut self.db).await?.rows_affected())
    }
}
