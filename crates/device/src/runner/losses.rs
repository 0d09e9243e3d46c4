//! Readings that there should have been: counted, and told with their cause.

use std::sync::Arc;

use reading::{Gap, Timestamp};
use tokio::time::Instant;

use super::Runner;
use crate::Lost;

/// Why they are missing: more changes came than are kept or told.
const EDGES_MISSED: &str = "edges missed";
/// Answers took longer than `poll`.
const TOO_SLOW: &str = "device too slow";
/// Nobody took what it said for longer than `poll`.
const QUEUE_FULL: &str = "intake queue full";

/// Takes the loss of a channel's readings, as a gap. It must not wait.
pub type LoseFn = Arc<dyn Fn(Gap) + Send + Sync>;

impl Runner {
    /// Has it told of readings that the device couldn't give, or that were due
    /// while it, or whoever takes its readings, was busy. Without this they are
    /// only known to be missing.
    pub fn tells_losses(&mut self, lose: LoseFn) {
        self.lose = Some(lose);
    }

    /// What the device itself knows to be missing.
    pub(super) fn lost_edges(&self, lost: impl Iterator<Item = Lost>) {
        for Lost { channel, count, from, to } in lost {
            self.tell(channel, count, (from, to), EDGES_MISSED);
        }
    }

    /// A question has been answered and the answer passed on: what should have
    /// been asked since, had there been time. Parts of a poll add up.
    pub(super) fn late(&mut self, asked: Instant, answered: Instant) {
        let Some(poll) = self.config.poll.filter(|poll| !poll.is_zero()) else { return };
        let now = Instant::now();
        self.behind += (now - asked).saturating_sub(poll);
        let missed = self.behind.as_nanos() / poll.as_nanos();
        let Ok(count @ 1..) = u32::try_from(missed) else { return };
        self.behind -= poll * count;
        let reason = if answered - asked > poll { TOO_SLOW } else { QUEUE_FULL };
        let to = Timestamp::now();
        for channel in 0..self.tracks.len() {
            self.tell(channel, u64::from(count), (to - (now - asked), to), reason);
        }
    }

    fn tell(
        &self,
        channel: usize,
        count: u64,
        (from, to): (Timestamp, Timestamp),
        reason: &'static str,
    ) {
        let (Some(lose), Some(track)) = (&self.lose, self.tracks.get(channel)) else { return };
        let channel = Some(track.channel().clone());
        lose(Gap { from: from.min(to), to, count, channel, reason: reason.into() });
    }
}
