//! Which registers are read together.

use std::time::Duration;

use tokio::time::Instant;

use super::{Place, Request};

/// The most registers in one question (protocol, 6.3).
pub(crate) const REGISTERS_MAX: u16 = 125;
/// The most bits in one question (protocol, 6.1).
const BITS_MAX: u16 = 2000;
/// A block that isn't answered rests so long, then twice as long, …
const REST_FIRST: Duration = Duration::from_secs(1);
/// … but not longer than this.
const REST_LONGEST: Duration = Duration::from_secs(60);

/// Registers that are read with one question.
#[derive(Clone, Debug)]
pub(crate) struct Block {
    pub request: Request,
    /// The channels in it, and how far from its beginning each lies.
    pub channels: Vec<(usize, usize)>,
    /// What was last told to the log.
    pub told: Option<String>,
    rest: Option<(Instant, Duration)>,
}

impl Block {
    /// It doesn't answer while others of its slave do.
    pub(crate) fn silent(&mut self, now: Instant) {
        let rest = self.rest.map_or(REST_FIRST, |(_, rest)| (rest * 2).min(REST_LONGEST));
        self.rest = Some((now + rest, rest));
    }

    pub(crate) fn answered(&mut self) {
        self.rest = None;
    }

    /// Whether it was silent, and should not be asked twice.
    pub(crate) fn was_silent(&self) -> bool {
        self.rest.is_some()
    }

    /// Whether it isn't to be asked yet.
    pub(crate) fn rests(&self, now: Instant) -> bool {
        self.rest.is_some_and(|(until, _)| now < until)
    }
}

/// Joins what lies together: `points` are the channels' places and how many
/// registers (or bits) each takes. Over holes of up to `gap` they are joined as
/// well; no question asks for more than `limit` registers.
pub(crate) fn plan(points: &[(Place, u16)], gap: u16, limit: u16) -> Vec<Block> {
    let mut order: Vec<usize> = (0..points.len()).collect();
    order.sort_by_key(|&point| (points[point].0.table, points[point].0.at));
    let mut blocks: Vec<Block> = Vec::new();
    for channel in order {
        let (Place { table, at }, width) = points[channel];
        let most = u32::from(if table.is_bits() { BITS_MAX.min(limit * 16) } else { limit });
        let end = u32::from(at) + u32::from(width);
        if let Some(Block { request, channels, .. }) = blocks.last_mut() {
            let last = u32::from(request.at) + u32::from(request.count);
            let joined = end.max(last) - u32::from(request.at);
            let near = u32::from(at) <= last + u32::from(gap);
            if request.table == table && near && joined <= most {
                request.count = joined as u16;
                channels.push((channel, usize::from(at - request.at)));
                continue;
            }
        }
        let request = Request { table, at, count: width };
        blocks.push(Block { request, channels: vec![(channel, 0)], told: None, rest: None });
    }
    blocks
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::Table;
    use super::*;

    fn shown(points: &[(&str, u16)], gap: u16, limit: u16) -> Vec<String> {
        let points: Vec<_> =
            points.iter().map(|(at, width)| (at.parse().unwrap(), *width)).collect();
        let shown = |block: Block| format!("{} {:?}", block.request, block.channels);
        plan(&points, gap, limit).into_iter().map(shown).collect()
    }

    #[test]
    fn neighbours_are_read_together() {
        let points =
            [("input:2", 2), ("input:0", 2), ("holding:4", 1), ("input:6", 1), ("input:6", 1)];
        let apart =
            ["holding:4 [(2, 0)]", "input:0 to 3 [(1, 0), (0, 2)]", "input:6 [(3, 0), (4, 0)]"];
        assert_eq!(shown(&points, 1, 125), apart, "two registers are unknown between");
        let joined = ["holding:4 [(2, 0)]", "input:0 to 6 [(1, 0), (0, 2), (3, 6), (4, 6)]"];
        assert_eq!(shown(&points, 2, 125), joined);
        let short = ["input:0 to 3 [(1, 0), (0, 2)]", "input:6 [(3, 0), (4, 0)]"];
        assert_eq!(shown(&points, 2, 6)[1..], short);
        assert_eq!(
            shown(&[("coil:0", 1), ("coil:9", 1)], 8, 125),
            ["coil:0 to 9 [(0, 0), (1, 9)]"]
        );
    }

    #[test]
    fn a_silent_block_rests_longer_each_time() {
        let mut block = plan(&["input:0".parse().map(|at| (at, 1)).unwrap()], 0, 125).remove(0);
        let mut now = Instant::now();
        for seconds in [1, 2, 4, 8, 16, 32, 60, 60] {
            block.silent(now);
            assert!(block.rests(now + Duration::from_secs(seconds) - Duration::from_millis(1)));
            now += Duration::from_secs(seconds);
            assert!(!block.rests(now));
        }
        block.answered();
        assert!(!block.was_silent());
    }

    proptest! {
        /// Every channel lies wholly in one question, and no question is larger
        /// than it may be.
        #[test]
        fn every_channel_is_asked_for(
            points in prop::collection::vec((0u16..300, 1u16..5), 1..40),
            gap in 0u16..20,
            limit in 4u16..=REGISTERS_MAX,
        ) {
            let points: Vec<_> =
                points.into_iter().map(|(at, width)| (Place { table: Table::Input, at }, width)).collect();
            let blocks = plan(&points, gap, limit);
            let mut seen = vec![0; points.len()];
            for block in &blocks {
                prop_assert!(block.request.count <= limit);
                for &(channel, offset) in &block.channels {
                    seen[channel] += 1;
                    let (place, width) = points[channel];
                    prop_assert_eq!(usize::from(place.at), usize::from(block.request.at) + offset);
                    prop_assert!(offset + usize::from(width) <= usize::from(block.request.count));
                }
            }
            prop_assert!(seen.iter().all(|times| *times == 1));
        }
    }
}
