//! One commit: what goes into it, its statements, and what follows from it.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use reading::{Body, Channel, Gap, Kind, Record, Seq, Timestamp};
use tokio::time::Instant;

use super::{COMMIT_RECORDS, Known, Writer};
use crate::appender::readings;
use crate::commit;
use crate::losses::Losses;
use crate::rollup::MINUTE;
use crate::row::{LogRow, integer};
use crate::state::{Forwarder, Ledger, OfChannel, State};
use crate::undated::{self, Undated};

/// An acknowledged position is written with the next commit when it has moved
/// by so much; less waits for a durable one.
const MOVED: u64 = 100;

/// The ledger is written once in so many records: what opening counts after a
/// kill, some 20 ms.
const LEDGER_RECORDS: u64 = 50_000;

/// What goes into one commit beside the records.
struct Extras {
    ledger: Ledger,
    write_ledger: bool,
    /// The ledger's row has to be written even when it is as the file has it.
    touch: bool,
    roll: bool,
    forwarders: Vec<(usize, Forwarder)>,
    /// Losses as they are once the batch is committed, when the file has others.
    losses: Option<Losses>,
    /// What waits for the clock, when the file has something else, and its version.
    held: Option<(u64, Vec<Undated>)>,
    channels: Vec<(i64, Channel, OfChannel)>,
}

impl Writer {
    pub(crate) async fn commit(&mut self, durable: bool, last: bool) -> Result<(), sqlx::Error> {
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
        write_ledger |= durable && state.losses.version != self.losses_saved;
        let moved = |i: usize, state: &State| {
            state.forwarders[i].position.0 - self.positions[i].0.min(state.forwarders[i].position.0)
        };
        let which: Vec<usize> = (0..self.positions.len())
            .filter(|i| {
                let moved = moved(*i, &state);
                write_ledger || moved >= MOVED || (durable && moved > 0)
            })
            .collect();
        // A durable commit needs something to write, and SQLite doesn't write a
        // row that is as before.
        let touch = durable && self.batch.is_empty();
        write_ledger |= touch;
        let forwarders = which.into_iter().map(|i| (i, self.row(&state, i))).collect();
        if durable || write_ledger {
            state.moved_at = None;
        }
        let losses = self.losses(&state, write_ledger);
        let channels = if write_ledger { self.channel_ledgers(&state) } else { Vec::new() };
        let held = (state.held.version != self.held_saved)
            .then(|| (state.held.version, state.held.rows()));
        Extras { ledger, write_ledger, touch, roll, forwarders, losses, held, channels }
    }

    fn losses(&self, state: &State, due: bool) -> Option<Losses> {
        let gaps = || {
            self.batch.iter().filter_map(|record| match &record.body {
                Body::Gap(gap) => Some(gap),
                Body::Reading(_) => None,
            })
        };
        if !(due || gaps().next().is_some()) {
            return None;
        }
        let mut losses = state.losses.clone();
        gaps().for_each(|gap| losses.told(gap));
        (losses.version != self.losses_saved).then_some(losses)
    }

    /// The ledgers of channels that the file has otherwise, with the batch.
    pub(crate) fn channel_ledgers(&self, state: &State) -> Vec<(i64, Channel, OfChannel)> {
        let mut more: HashMap<&Channel, u64> = HashMap::new();
        for reading in self.batch.iter().filter_map(Record::reading) {
            *more.entry(&reading.channel).or_default() += 1;
        }
        let mut found = Vec::new();
        for (channel, of) in &state.by_channel {
            let more = more.remove(channel).unwrap_or(0);
            if !of.changed && more == 0 {
                continue;
            }
            let id = self.channels.get(channel).map(|known| known.id);
            let Some(id) = id.or_else(|| self.shared.channel_id(channel)) else { continue };
            let stored = of.stored + more;
            found.push((id, channel.clone(), OfChannel { stored, ..*of }));
        }
        for (channel, stored) in more {
            found.push((
                self.id(channel),
                channel.clone(),
                OfChannel { stored, ..OfChannel::default() },
            ));
        }
        found
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
        self.shared.steps.pause().await;
        let outcome = self.statements(extras).await;
        self.shared.steps.pause().await;
        let outcome = commit::finish(&mut self.db, outcome).await;
        self.shared.steps.pause().await;
        outcome
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
        if extras.touch {
            commit::touch_ledger(db).await?;
        }
        if extras.write_ledger {
            commit::save_ledger(db, &extras.ledger).await?;
            commit::save_channels(db, &extras.channels).await?;
        }
        if let Some(losses) = &extras.losses {
            commit::save_losses(db, losses).await?;
        }
        if let Some((_, rows)) = &extras.held {
            undated::save(db, rows).await?;
        }
        for (_, forwarder) in &extras.forwarders {
            commit::save_forwarder(db, forwarder, Seq(extras.ledger.counted)).await?;
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
        if let Some(losses) = &extras.losses {
            self.losses_saved = losses.version;
        }
        if let Some((version, _)) = extras.held {
            self.held_saved = version;
        }
        self.unsaved.clear();
        self.committed_at = now;
        let batch_at = self.batch_at.take();
        self.undurable_at = if durable { None } else { self.undurable_at.or(batch_at) };
        if self.gathers() {
            for record in &self.batch {
                if let Some(reading) = record.reading() {
                    self.rollups.add(self.id(&reading.channel), record);
                }
            }
        } else {
            self.gathered = extras.ledger.counted;
        }
        if !self.rollups.is_empty() && self.roll_at.is_none() {
            let past = Timestamp::now().as_micros().rem_euclid(MINUTE);
            let left = Duration::from_micros((MINUTE - past).unsigned_abs());
            self.roll_at = Some(now + left);
        }
        self.publish(&extras, durable);
        if durable {
            self.measure();
        }
    }

    /// Whether figures are gathered in memory: not while there are readings in
    /// the log, before these, that are to get theirs.
    pub(crate) fn gathers(&self) -> bool {
        let state = self.shared.state();
        state.held.is_empty() && state.ledger.rolled >= self.gathered
    }

    fn publish(&mut self, extras: &Extras, durable: bool) {
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
        if durable {
            state.durable = extras.ledger.counted;
        }
        state.stuck = false;
        for (forwarder, count) in state.forwarders.iter_mut().zip(matching) {
            forwarder.stored += count;
        }
        for record in batch.iter() {
            if let Body::Gap(gap) = &record.body {
                state.losses.told(gap);
            }
            if let Some(reading) = record.reading() {
                state.of_channel(&reading.channel).stored += 1;
                if let Some(latest) = state.latest.get_mut(&reading.channel) {
                    *latest = record.clone();
                } else {
                    state.latest.insert(reading.channel.clone(), record.clone());
                }
            }
        }
        for (_, channel, of) in &extras.channels {
            if let Some(known) = state.by_channel.get_mut(channel) {
                // What was lost meanwhile is written next time.
                known.changed = known.dropped != of.dropped;
            }
        }
        if state.oldest.is_none() {
            let first = batch.iter().find_map(Record::reading);
            state.oldest = first.map(|reading| reading.at.as_micros());
        }
        state.held.committed(&batch);
        let last = batch.last().map(|record| record.seq);
        if last.is_some() {
            state.ring.push(batch);
        }
        let limit = last.map(|last| state.held.limit(last));
        drop(state);
        self.shared.room.notify_one();
        if let (Some(last), Some(committed)) = (last, &self.committed) {
            committed.send_replace(last);
        }
        if let Some(limit) = limit {
            self.release(limit);
        }
    }
}
