//! What is lost: counted by cause, and told by gaps that outlive a kill.

use std::collections::BTreeMap;

use reading::Gap;

/// Gaps that wait to be told, told apart by cause and channel; what is beyond
/// joins the one of its cause and of several channels.
const LOSSES_MAX: usize = 64;

/// Causes told apart; there are fewer.
const CAUSES_MAX: usize = 32;

/// Losses since the store was made.
#[derive(Clone, Debug, Default)]
pub(crate) struct Losses {
    causes: BTreeMap<String, u64>,
    /// To be handed to intake, which numbers them.
    fresh: Vec<Gap>,
    /// Handed to intake, and not yet committed as records.
    handed: Vec<Gap>,
    /// Ascends with each change: the file has one of them.
    pub(crate) version: u64,
}

impl Losses {
    /// What the file has.
    pub(crate) fn new(causes: BTreeMap<String, u64>, fresh: Vec<Gap>) -> Losses {
        Losses { causes, fresh, ..Losses::default() }
    }

    /// Counts a loss, and has it told.
    pub(crate) fn add(&mut self, gap: Gap) {
        let full = self.causes.len() >= CAUSES_MAX;
        match self.causes.get_mut(&*gap.reason) {
            Some(count) => *count += gap.count,
            None if full => {}
            None => drop(self.causes.insert(gap.reason.to_string(), gap.count)),
        }
        self.tell(gap);
    }

    /// Has a loss told, that is counted already.
    pub(crate) fn tell(&mut self, gap: Gap) {
        self.version += 1;
        merge(&mut self.fresh, gap);
    }

    /// Corrects what is told of before the clock was set.
    pub(crate) fn shift(&mut self, correct: impl Fn(&mut Gap)) {
        self.version += 1;
        self.handed.iter_mut().chain(&mut self.fresh).for_each(correct);
    }

    /// A gap record could not be stored: it is told again.
    pub(crate) fn tell_again(&mut self, gap: Gap) {
        self.told(&gap);
        self.tell(gap);
    }

    /// What is to be told now.
    pub(crate) fn hand_out(&mut self) -> Vec<Gap> {
        let gaps = std::mem::take(&mut self.fresh);
        gaps.iter().cloned().for_each(|gap| merge(&mut self.handed, gap));
        gaps
    }

    /// A gap record is committed.
    pub(crate) fn told(&mut self, gap: &Gap) {
        let same = |known: &Gap| known.reason == gap.reason && known.channel == gap.channel;
        let Some(at) = self.handed.iter().position(same) else { return };
        self.version += 1;
        let known = &mut self.handed[at];
        known.count = known.count.saturating_sub(gap.count);
        if known.count == 0 {
            self.handed.remove(at);
        }
    }

    /// What no committed record tells.
    pub(crate) fn untold(&self) -> impl Iterator<Item = &Gap> {
        self.handed.iter().chain(&self.fresh)
    }

    /// Readings, by cause.
    pub(crate) fn causes(&self) -> impl Iterator<Item = (&str, u64)> {
        self.causes.iter().map(|(reason, count)| (reason.as_str(), *count))
    }
}

/// Adds a gap to one of the same cause and channel, or to the list.
fn merge(losses: &mut Vec<Gap>, mut gap: Gap) {
    let same = |known: &Gap| known.reason == gap.reason && known.channel == gap.channel;
    let mut at = losses.iter().position(same);
    if at.is_none() && losses.len() >= LOSSES_MAX {
        gap.channel = None;
        let joins = |known: &Gap| known.reason == gap.reason && known.channel.is_none();
        at = losses.iter().position(joins);
    }
    let Some(known) = at.map(|at| &mut losses[at]) else { return losses.push(gap) };
    known.count += gap.count;
    known.from = known.from.min(gap.from);
    known.to = known.to.max(gap.to);
}

#[cfg(test)]
mod tests {
    use reading::{Channel, Timestamp};

    use super::*;

    fn gap(from: i64, to: i64, reason: &'static str) -> Gap {
        let (from, to) = (Timestamp::from_micros(from), Timestamp::from_micros(to));
        Gap { from, to, count: 1, channel: None, reason: reason.into() }
    }

    #[test]
    fn losses_of_one_cause_become_one_gap() {
        let mut losses = Losses::default();
        losses.add(gap(5, 6, "a"));
        losses.add(gap(1, 2, "b"));
        losses.add(gap(3, 9, "a"));
        assert_eq!(losses.hand_out(), [Gap { count: 2, ..gap(3, 9, "a") }, gap(1, 2, "b")]);
        assert_eq!(losses.causes().collect::<Vec<_>>(), [("a", 2), ("b", 1)]);
    }

    #[test]
    fn the_list_of_losses_has_a_limit_and_counts_on() {
        let mut losses = Losses::default();
        for n in 0..1_000 {
            let channel: Option<Channel> = format!("d/c{n}").parse().ok();
            losses.add(Gap { channel, ..gap(n, n, "x") });
        }
        let gaps = losses.hand_out();
        assert_eq!(gaps.len(), LOSSES_MAX + 1);
        assert_eq!(gaps.iter().map(|gap| gap.count).sum::<u64>(), 1_000);
    }

    #[test]
    fn a_loss_is_untold_until_its_record_is_committed() {
        let mut losses = Losses::default();
        losses.add(gap(1, 1, "a"));
        let first = losses.hand_out();
        assert!(losses.hand_out().is_empty(), "once");
        losses.add(gap(2, 2, "a"));
        assert_eq!(losses.untold().count(), 2);
        losses.tell_again(first[0].clone());
        let both = losses.hand_out();
        assert_eq!(both, [Gap { count: 2, ..gap(1, 2, "a") }]);
        losses.told(&both[0]);
        assert_eq!(losses.untold().count(), 0);
        assert_eq!(losses.causes().collect::<Vec<_>>(), [("a", 2)]);
    }
}
