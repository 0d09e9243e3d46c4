use std::sync::Arc;
use std::time::Duration;

use reading::{Body, Epoch, Gap, Record, Seq};
use tokio::time::Instant;
use tracing::warn;

use crate::state::{Queued, Shared};

/// Records waiting to be committed, about 8 MB when they are numbers: two
/// seconds of what a device at full speed gives.
pub(crate) const QUEUE_MAX: usize = 65_536;

/// How long to wait for room while nothing is committed: longer than a slow
/// card takes for a durable commit, shorter than a person's patience with a
/// view that stands still. The next append doesn't wait again.
const WAIT: Duration = Duration::from_secs(1);

/// The same when the disk is known to be at fault.
const WAIT_FAULT: Duration = Duration::from_millis(100);

/// Causes told apart in [`Appender::losses`]; what is beyond joins the last.
const LOSSES_MAX: usize = 64;

/// Why readings were not stored.
const QUEUE_FULL: &str = "store queue full";
const DISK_FAULT: &str = "store can't write";

/// Intake's handle, the only one that adds records. Dropping it lets the
/// [`crate::Writer`] commit durably what it holds; it ends when the cursors are
/// gone too.
pub struct Appender {
    pub(crate) shared: Arc<Shared>,
    pub(crate) next: Seq,
    pub(crate) losses: Vec<Gap>,
}

/// Readings that the store refused, to be told as gaps.
#[derive(Clone, Debug, PartialEq)]
pub struct Dropped {
    /// How many.
    pub count: u64,
    /// Why: `store queue full`.
    pub reason: &'static str,
}

impl Appender {
    /// The number that the next record bears.
    pub fn next(&self) -> Seq {
        self.next
    }

    /// The start in which the records are numbered.
    pub fn epoch(&self) -> Epoch {
        self.shared.epoch
    }

    /// Hands numbered records over, in ascending order. While the queue is full
    /// it waits for the writer, as long as that gets on; when nothing has been
    /// committed for a second (100 ms when the disk is known to be at fault) it
    /// gives up: what a stuck disk can't take must not stop the view. What is
    /// given up is counted and told by [`Appender::losses`].
    ///
    /// Don't drop the future before it is done: the records would be neither
    /// stored nor counted.
    ///
    /// # Errors
    /// How many readings were dropped, and why.
    pub async fn append(&mut self, records: Vec<Record>) -> Result<(), Dropped> {
        let Some(last) = records.last() else { return Ok(()) };
        debug_assert!(records[0].seq >= self.next && records.is_sorted_by(|a, b| a.seq < b.seq));
        self.next = last.seq.next();
        if self.make_room(records.len()).await {
            self.push(records);
            Ok(())
        } else {
            Err(self.refuse(records))
        }
    }

    /// Waits for room; `false` when there is none.
    async fn make_room(&self, len: usize) -> bool {
        let mut waiting: Option<(u64, Instant)> = None;
        loop {
            let room = self.shared.room.notified();
            let until = {
                let mut state = self.shared.state();
                // A batch longer than the queue goes in when that is empty.
                if state.queued + len <= QUEUE_MAX || state.queued == 0 {
                    return true;
                }
                if state.stuck {
                    return false;
                }
                let wait = if state.error.is_some() { WAIT_FAULT } else { WAIT };
                let since = match waiting {
                    Some((commits, since)) if commits == state.commits => since,
                    _ => waiting.insert((state.commits, Instant::now())).1,
                };
                if since.elapsed() >= wait {
                    state.stuck = true;
                    drop(state);
                    warn!("the store's queue is full: readings are dropped until there is room");
                    return false;
                }
                since + wait
            };
            // Either way the state is looked at again.
            drop(tokio::time::timeout_at(until, room).await);
        }
    }

    fn push(&mut self, records: Vec<Record>) {
        let readings = readings(&records);
        let mut state = self.shared.state();
        let before = state.queued;
        state.taken += readings;
        state.queued_readings += readings;
        state.queued += records.len();
        state.queue.push_back(Queued { at: Instant::now(), records });
        let wakes = before == 0
            || state.queued / crate::writer::COMMIT_RECORDS
                > before / crate::writer::COMMIT_RECORDS;
        drop(state);
        // In between the writer sleeps until the commit is due.
        if wakes {
            self.shared.work.notify_one();
        }
    }

    fn refuse(&mut self, records: Vec<Record>) -> Dropped {
        let count = readings(&records);
        let reason = {
            let mut state = self.shared.state();
            state.taken += count;
            state.ledger.dropped += count;
            if state.error.is_some() { DISK_FAULT } else { QUEUE_FULL }
        };
        for record in records {
            match record.body {
                Body::Reading(reading) => {
                    let at = reading.at;
                    self.lose(Gap {
                        from: at,
                        to: at,
                        count: 1,
                        channel: None,
                        reason: reason.into(),
                    });
                }
                // It tells of readings that are counted already.
                Body::Gap(gap) => self.lose(gap),
            }
        }
        Dropped { count, reason }
    }

    /// What has been lost since it was last asked, for intake to number and
    /// append as gap records: readings that didn't get into the queue, and
    /// readings that were removed to keep the file within its size before every
    /// forwarder had them. Empty while there is no room to store it.
    pub fn losses(&mut self) -> Vec<Gap> {
        let removed = {
            let mut state = self.shared.state();
            if state.stuck {
                return Vec::new();
            }
            std::mem::take(&mut state.removed_owed)
        };
        removed.into_iter().for_each(|gap| self.lose(gap));
        std::mem::take(&mut self.losses)
    }

    /// Adds to the loss of the same cause and channel, if there is one.
    fn lose(&mut self, gap: Gap) {
        merge(&mut self.losses, gap);
    }
}

/// Adds a gap to one of the same cause and channel, or to the list.
pub(crate) fn merge(losses: &mut Vec<Gap>, gap: Gap) {
    let full = losses.len() >= LOSSES_MAX;
    let same = |known: &&mut Gap| known.reason == gap.reason && known.channel == gap.channel;
    let known = match losses.iter_mut().find(same) {
        None if full => losses.last_mut(),
        found => found,
    };
    match known {
        Some(known) => {
            if known.channel != gap.channel {
                known.channel = None;
            }
            known.count += gap.count;
            known.from = known.from.min(gap.from);
            known.to = known.to.max(gap.to);
        }
        None => losses.push(gap),
    }
}

pub(crate) fn readings(records: &[Record]) -> u64 {
    records.iter().filter(|record| record.reading().is_some()).count() as u64
}

impl Drop for Appender {
    fn drop(&mut self) {
        self.shared.state().appender_gone = true;
        self.shared.work.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use reading::{Channel, Timestamp};

    use super::*;

    #[test]
    fn losses_of_one_cause_become_one_gap() {
        let at = Timestamp::from_micros;
        let gap = |from, to, reason: &'static str| Gap {
            from: at(from),
            to: at(to),
            count: 1,
            channel: None,
            reason: reason.into(),
        };
        let mut losses = Vec::new();
        merge(&mut losses, gap(5, 6, "a"));
        merge(&mut losses, gap(1, 2, "b"));
        merge(&mut losses, gap(3, 9, "a"));
        assert_eq!(losses, [Gap { count: 2, ..gap(3, 9, "a") }, gap(1, 2, "b")]);
    }

    #[test]
    fn the_list_of_losses_has_a_limit_and_counts_on() {
        let mut losses = Vec::new();
        for n in 0..1_000 {
            let at = Timestamp::from_micros(n);
            let channel: Option<Channel> = format!("d/c{n}").parse().ok();
            merge(&mut losses, Gap { from: at, to: at, count: 1, channel, reason: "x".into() });
        }
        assert_eq!(losses.len(), LOSSES_MAX);
        assert_eq!(losses.iter().map(|gap| gap.count).sum::<u64>(), 1_000);
    }
}
