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

/// Why readings were not stored.
const QUEUE_FULL: &str = "store queue full";
const DISK_FAULT: &str = "store can't write";

/// Intake's handle, the only one that adds records. Dropping it lets the
/// [`crate::Writer`] commit durably what it holds; it ends when the cursors are
/// gone too.
pub struct Appender {
    pub(crate) shared: Arc<Shared>,
    pub(crate) next: Seq,
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
        let mut state = self.shared.state();
        state.taken += count;
        state.ledger.dropped += count;
        let reason = if state.error.is_some() { DISK_FAULT } else { QUEUE_FULL };
        for record in records {
            match record.body {
                Body::Reading(reading) => {
                    state.of_channel(&reading.channel).dropped += 1;
                    state.losses.add(Gap {
                        from: reading.at,
                        to: reading.at,
                        count: 1,
                        channel: Some(reading.channel),
                        reason: reason.into(),
                    });
                }
                // It tells of readings that are counted already.
                Body::Gap(gap) => state.losses.tell_again(gap),
            }
        }
        Dropped { count, reason }
    }

    /// Readings that were lost on their way here, such as edges that a kernel's
    /// queue couldn't hold: counted as read and dropped, and told as a gap by
    /// [`Appender::losses`].
    pub fn lose(&mut self, gap: Gap) {
        self.shared.lose(gap);
    }

    /// What has been lost since it was last asked, for intake to number and
    /// append as gap records. Empty while there is no room to store it. What is
    /// not committed as a record is told again after the next start.
    pub fn losses(&mut self) -> Vec<Gap> {
        let mut state = self.shared.state();
        if state.stuck { Vec::new() } else { state.losses.hand_out() }
    }
}

impl crate::Store {
    /// The same as [`Appender::lose`], for whoever knows of the loss and isn't
    /// intake, which numbers the gap all the same.
    pub fn lose(&self, gap: Gap) {
        self.shared.lose(gap);
    }
}

impl Shared {
    fn lose(&self, gap: Gap) {
        let mut state = self.state();
        state.taken += gap.count;
        state.ledger.dropped += gap.count;
        if let Some(channel) = &gap.channel {
            state.of_channel(channel).dropped += gap.count;
        }
        if !state.losses.causes().any(|(reason, _)| reason == gap.reason) {
            warn!(reason = %gap.reason, count = gap.count, "readings are lost");
        }
        state.losses.add(gap);
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
