use std::collections::VecDeque;
use std::sync::Arc;

use reading::{Record, Seq};

/// Recent records kept in memory, about 1 MB: what a forwarder that keeps up
/// reads without asking SQLite. One that is further behind reads the file.
const RING_MAX: usize = 8_192;

/// The newest committed records, in the batches in which they were committed.
pub(crate) struct Ring {
    batches: VecDeque<Arc<Vec<Record>>>,
    len: usize,
    /// Every committed record after this one is in the ring.
    floor: Seq,
}

impl Ring {
    /// An empty ring after `floor`, the last number that is in the file already.
    pub(crate) fn new(floor: Seq) -> Ring {
        Ring { batches: VecDeque::new(), len: 0, floor }
    }

    /// Adds a batch that has been committed, in place of the oldest.
    pub(crate) fn push(&mut self, batch: Arc<Vec<Record>>) {
        self.len += batch.len();
        self.batches.push_back(batch);
        // The newest batch always stays, however long it is.
        while self.len > RING_MAX && self.batches.len() > 1 {
            let Some(oldest) = self.batches.pop_front() else { break };
            self.len -= oldest.len();
            self.floor = oldest.last().map_or(self.floor, |record| record.seq);
        }
    }

    /// Lets go of records through a number: they are others in the file.
    pub(crate) fn forget(&mut self, through: Seq) {
        self.floor = self.floor.max(through);
        while let Some(first) = self.batches.front_mut() {
            let begins = first.partition_point(|record| record.seq <= through);
            self.len -= begins;
            if begins < first.len() {
                // What follows in the same batch stays.
                *first = Arc::new(first[begins..].to_vec());
                break;
            }
            self.batches.pop_front();
        }
    }

    /// All that it has.
    pub(crate) fn all(&self) -> Vec<Arc<Vec<Record>>> {
        self.batches.iter().cloned().collect()
    }

    /// The batches that have everything after `after`, at most as many as hold
    /// `max` records; `None` when the ring begins later.
    pub(crate) fn after(&self, after: Seq, max: usize) -> Option<Vec<Arc<Vec<Record>>>> {
        if after < self.floor {
            return None;
        }
        let begins = self
            .batches
            .partition_point(|batch| batch.last().is_none_or(|record| record.seq <= after));
        let mut found = Vec::new();
        let mut len = 0;
        for batch in self.batches.range(begins..) {
            // Part of the first may lie before `after`: it counts for nothing.
            len += batch.len() - batch.partition_point(|record| record.seq <= after);
            found.push(Arc::clone(batch));
            if len >= max {
                break;
            }
        }
        Some(found)
    }
}

#[cfg(test)]
mod tests {
    use reading::{Body, Epoch, Gap, Timestamp};

    use super::*;

    fn batch(from: u64, count: u64) -> Arc<Vec<Record>> {
        let at = Timestamp::UNIX_EPOCH;
        let gap = Gap { from: at, to: at, count: 1, channel: None, reason: "test".into() };
        let record = |seq| Record { epoch: Epoch(1), seq: Seq(seq), body: Body::Gap(gap.clone()) };
        Arc::new((from..from + count).map(record).collect())
    }

    #[test]
    fn it_knows_what_it_has_forgotten() {
        let mut ring = Ring::new(Seq(10));
        assert!(ring.after(Seq(9), 1).is_none());
        assert_eq!(ring.after(Seq(10), 1).unwrap().len(), 0);
        ring.push(batch(11, 5_000));
        ring.push(batch(5_011, 5_000));
        assert!(ring.after(Seq(5_009), 1).is_none(), "the first batch is gone");
        assert_eq!(ring.after(Seq(5_010), 1).unwrap()[0][0].seq, Seq(5_011));
        assert_eq!(ring.after(Seq(10_010), 1).unwrap().len(), 0);
    }

    #[test]
    fn what_is_forgotten_is_read_from_the_file() {
        let mut ring = Ring::new(Seq(10));
        ring.push(batch(11, 5));
        ring.push(batch(16, 5));
        ring.forget(Seq(17));
        assert!(ring.after(Seq(16), 1).is_none());
        assert_eq!(ring.after(Seq(17), 9).unwrap()[0][0].seq, Seq(18));
        ring.forget(Seq(30));
        assert_eq!(ring.after(Seq(30), 1).unwrap().len(), 0);
        assert_eq!(ring.len, 0);
    }

    #[test]
    fn it_gives_no_more_batches_than_are_asked_for() {
        let mut ring = Ring::new(Seq(0));
        for n in 0..10 {
            ring.push(batch(n * 10 + 1, 10));
        }
        assert_eq!(ring.after(Seq(5), 5).unwrap().len(), 1);
        assert_eq!(ring.after(Seq(5), 6).unwrap().len(), 2);
        assert_eq!(ring.after(Seq(0), usize::MAX).unwrap().len(), 10);
    }
}
