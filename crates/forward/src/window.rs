use std::collections::VecDeque;
use std::time::Duration;

use reading::Seq;
use tokio::time::Instant;

/// What was sent and isn't acknowledged yet, in the order of sending.
///
/// Packet identifiers are given in turn, so the place of one in the queue is a
/// subtraction. Acknowledgements may come in any order; only those at the front
/// move the cursor, so it never passes a reading that the broker hasn't.
#[derive(Debug)]
pub(crate) struct Window {
    sent: VecDeque<Sent>,
    /// The identifier of the front, or of the next to be sent.
    first: u16,
    capacity: usize,
    readings: u64,
    /// When the front last moved on.
    moved: Option<Instant>,
}

#[derive(Debug)]
struct Sent {
    /// The cursor may move here, once everything before is acknowledged too.
    through: Option<Seq>,
    /// Readings in it.
    readings: u64,
    at: Instant,
    acknowledged: bool,
}

/// How far an acknowledgement moves the cursor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Everything through this number.
    pub(crate) through: Option<Seq>,
    /// Readings newly acknowledged without a hole before them.
    pub(crate) readings: u64,
}

/// What the broker says of an identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Known {
    /// It was waited for.
    InFlight,
    /// It was acknowledged already, or never sent: nothing follows from it.
    Unknown,
}

impl Window {
    pub(crate) fn new(capacity: u16) -> Window {
        Window {
            sent: VecDeque::new(),
            first: 1,
            // One identifier stays free, so that front and back never meet.
            capacity: usize::from(capacity).clamp(1, 65_534),
            readings: 0,
            moved: None,
        }
    }

    /// The broker allows fewer than was configured.
    pub(crate) fn narrow(&mut self, capacity: u16) {
        self.capacity = self.capacity.min(usize::from(capacity)).max(1);
    }

    pub(crate) fn room(&self) -> usize {
        self.capacity.saturating_sub(self.sent.len())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.sent.is_empty()
    }

    /// Readings sent and not acknowledged, those behind a hole included.
    pub(crate) fn readings(&self) -> u64 {
        self.readings
    }

    /// Gives an identifier to what is about to be sent. There must be room.
    pub(crate) fn push(&mut self, through: Option<Seq>, readings: u64, at: Instant) -> u16 {
        let id = plus(self.first, self.sent.len());
        self.sent.push_back(Sent { through, readings, at, acknowledged: false });
        self.readings += readings;
        id
    }

    /// What follows the last message sent isn't for this broker: the cursor may
    /// pass it with that message. `false` when nothing is in flight.
    pub(crate) fn extend(&mut self, through: Seq) -> bool {
        match self.sent.back_mut() {
            Some(last) => {
                last.through = last.through.max(Some(through));
                true
            }
            None => false,
        }
    }

    /// The broker has what was sent under an identifier.
    pub(crate) fn acknowledge(&mut self, id: u16, now: Instant, progress: &mut Progress) -> Known {
        let place = minus(id, self.first);
        match self.sent.get_mut(place) {
            Some(sent) if id != 0 && !sent.acknowledged => sent.acknowledged = true,
            _ => return Known::Unknown,
        }
        while self.sent.front().is_some_and(|sent| sent.acknowledged) {
            if let Some(sent) = self.sent.pop_front() {
                self.first = plus(self.first, 1);
                self.moved = Some(now);
                self.readings -= sent.readings;
                progress.readings += sent.readings;
                progress.through = progress.through.max(sent.through);
            }
        }
        Known::InFlight
    }

    /// How far an identifier in flight moves the cursor; `None` when it isn't.
    pub(crate) fn through(&self, id: u16) -> Option<Option<Seq>> {
        let sent = self.sent.get(minus(id, self.first)).filter(|_| id != 0)?;
        (!sent.acknowledged).then_some(sent.through)
    }

    /// When the oldest message will have waited for too long: so long after it
    /// was sent, or after the one before it was acknowledged. A thin link may
    /// take minutes for a full window; as long as it gets on, that is no fault.
    pub(crate) fn deadline(&self, timeout: Duration) -> Option<Instant> {
        let since = |sent: &Sent| self.moved.map_or(sent.at, |moved| moved.max(sent.at));
        self.sent.front().map(|sent| since(sent) + timeout)
    }
}

/// Identifiers run from 1 to 65535 and around.
fn plus(id: u16, steps: usize) -> u16 {
    let sum = (usize::from(id) - 1 + steps) % 65_535 + 1;
    u16::try_from(sum).unwrap_or(1)
}

/// How many steps lead from one identifier to another.
fn minus(id: u16, first: u16) -> usize {
    (usize::from(id) + 65_535 - usize::from(first)) % 65_535
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[tokio::test]
    async fn the_cursor_waits_for_a_hole() {
        let now = Instant::now();
        let mut window = Window::new(10);
        let ids: Vec<u16> = (1..=3).map(|seq| window.push(Some(Seq(seq)), 1, now)).collect();
        let mut progress = Progress::default();
        assert_eq!(window.acknowledge(ids[2], now, &mut progress), Known::InFlight);
        assert_eq!(window.acknowledge(ids[1], now, &mut progress), Known::InFlight);
        assert_eq!(progress, Progress::default());
        assert_eq!(window.acknowledge(ids[0], now, &mut progress), Known::InFlight);
        assert_eq!(progress, Progress { through: Some(Seq(3)), readings: 3 });
        assert!(window.is_empty());
        for id in [0, 1, 3, 65_535] {
            assert_eq!(window.acknowledge(id, now, &mut progress), Known::Unknown);
        }
    }

    /// What a test does to a window: acknowledge the nth outstanding one, or an
    /// identifier out of the blue, or send.
    #[derive(Clone, Debug)]
    enum Step {
        Send,
        Acknowledge(usize),
        Invent(u16),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => Just(Step::Send),
            4 => (0_usize..40).prop_map(Step::Acknowledge),
            1 => any::<u16>().prop_map(Step::Invent),
        ];
        proptest::collection::vec(step, 1..400)
    }

    proptest! {
        /// Against a model that keeps every reading ever sent.
        #[test]
        fn the_cursor_never_passes_what_is_not_acknowledged(
            steps in steps(), capacity in 1_u16..30, first in prop_oneof![Just(1_u16), 65_500_u16..],
        ) {
            let now = Instant::now();
            let mut window = Window::new(capacity);
            window.first = first;
            let mut outstanding: BTreeMap<u64, u16> = BTreeMap::new();
            let (mut next, mut cursor) = (1_u64, 0_u64);
            for step in steps {
                let mut progress = Progress::default();
                match step {
                    Step::Send if window.room() == 0 => continue,
                    Step::Send => {
                        let id = window.push(Some(Seq(next)), 1, now);
                        prop_assert!(id != 0 && !outstanding.values().any(|&other| other == id));
                        outstanding.insert(next, id);
                        next += 1;
                    }
                    Step::Acknowledge(n) => {
                        let Some((&seq, &id)) = outstanding.iter().nth(n) else { continue };
                        outstanding.remove(&seq);
                        prop_assert_eq!(window.acknowledge(id, now, &mut progress), Known::InFlight);
                    }
                    Step::Invent(id) => {
                        let known = outstanding.iter().find(|(_, other)| **other == id);
                        let seq = known.map(|(&seq, _)| seq);
                        let expected = if seq.is_some() { Known::InFlight } else { Known::Unknown };
                        prop_assert_eq!(window.acknowledge(id, now, &mut progress), expected);
                        if let Some(seq) = seq { outstanding.remove(&seq); }
                    }
                }
                cursor = cursor.max(progress.through.map_or(0, |seq| seq.0));
                let complete = outstanding.keys().next().map_or(next - 1, |&oldest| oldest - 1);
                prop_assert_eq!(cursor, complete, "as far as it can, and no farther");
                prop_assert!(window.sent.len() <= usize::from(capacity));
            }
        }
    }
}
