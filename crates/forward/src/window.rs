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
    /// Send the next message only when the last is answered.
    one_by_one: bool,
    /// Refusals since a reading was last taken; `None` before the first was.
    refusals: Option<usize>,
}

/// So many refusals in a row are the message's fault; more are the broker's, or
/// its settings', and nothing is given up for those.
const REFUSALS_MAX: usize = 100;

#[derive(Debug)]
struct Sent {
    /// What of the log it carries; nothing, when it isn't of the log.
    part: Option<Part>,
    /// Readings in it.
    readings: u64,
    at: Instant,
    fate: Fate,
}

/// What became of a message.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    InFlight,
    Taken,
    /// Never to be taken, in the broker's words.
    Refused(String),
}

/// Readings go in one of two lanes, each in the order of the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Lane {
    /// From the cursor on.
    #[default]
    Log,
    /// Ahead of it: what is fresh.
    Fresh,
}

/// A part of the log: the numbers after `after`, through `through`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) after: Seq,
    pub(crate) through: Seq,
}

/// What of the log a message carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) lane: Lane,
    pub(crate) span: Span,
}

/// What acknowledgements settle.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Everything through this number: the cursor may move here.
    pub(crate) through: Option<Seq>,
    /// Readings newly acknowledged without a hole before them.
    pub(crate) readings: u64,
    /// Taken in the fresh lane.
    pub(crate) fresh: Vec<Span>,
    /// Refused for good, with the broker's words; those in the lane of the log
    /// are within `through`.
    pub(crate) refused: Vec<(Part, String)>,
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
            one_by_one: false,
            refusals: None,
        }
    }

    /// The broker allows fewer than was configured.
    pub(crate) fn narrow(&mut self, capacity: u16) {
        self.capacity = self.capacity.min(usize::from(capacity)).max(1);
    }

    /// From now on one by one, or no longer.
    pub(crate) fn one_by_one(&mut self, yes: bool) {
        self.one_by_one = yes;
    }

    pub(crate) fn room(&self) -> usize {
        self.capacity().saturating_sub(self.sent.len())
    }

    /// The same for a backlog: it leaves a part to what is fresh.
    pub(crate) fn room_for_backlog(&self) -> usize {
        self.room().saturating_sub(self.capacity() / 4)
    }

    fn capacity(&self) -> usize {
        if self.one_by_one { 1 } else { self.capacity }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.sent.is_empty()
    }

    /// Readings sent and not acknowledged, those behind a hole included.
    pub(crate) fn readings(&self) -> u64 {
        self.readings
    }

    /// Gives an identifier to what is about to be sent. There must be room.
    pub(crate) fn push(&mut self, part: Option<Part>, readings: u64, at: Instant) -> u16 {
        let id = plus(self.first, self.sent.len());
        self.sent.push_back(Sent { part, readings, at, fate: Fate::InFlight });
        self.readings += readings;
        id
    }

    /// What follows the last message of a lane isn't for this broker: it is
    /// settled with that message. `false` when none is in flight right before.
    pub(crate) fn extend(&mut self, lane: Lane, span: Span) -> bool {
        let of_lane = |part: &&mut Part| part.lane == lane;
        match self.sent.iter_mut().rev().filter_map(|sent| sent.part.as_mut()).find(of_lane) {
            Some(part) if part.span.through == span.after => {
                part.span.through = span.through;
                true
            }
            _ => false,
        }
    }

    /// The broker has what was sent under an identifier.
    pub(crate) fn acknowledge(&mut self, id: u16, now: Instant, progress: &mut Progress) -> Known {
        let Some(sent) = self.in_flight(id) else { return Known::Unknown };
        sent.fate = Fate::Taken;
        if sent.readings > 0 {
            self.refusals = Some(0);
        }
        self.move_on(now, progress);
        Known::InFlight
    }

    /// The broker will never take what was sent under an identifier.
    pub(crate) fn refuse(
        &mut self,
        id: u16,
        why: String,
        now: Instant,
        progress: &mut Progress,
    ) -> Known {
        let Some(sent) = self.in_flight(id) else { return Known::Unknown };
        sent.fate = Fate::Refused(why);
        self.refusals = self.refusals.map(|before| before + 1).filter(|&n| n <= REFUSALS_MAX);
        self.move_on(now, progress);
        Known::InFlight
    }

    /// A broker that has refused all that is in flight, and has taken no reading
    /// to show that the fault isn't its own: what it says.
    pub(crate) fn refused_all(&self) -> Option<&str> {
        match &self.sent.front()?.fate {
            Fate::Refused(why) if self.sent.iter().all(|sent| sent.fate != Fate::InFlight) => {
                Some(why)
            }
            _ => None,
        }
    }

    fn in_flight(&mut self, id: u16) -> Option<&mut Sent> {
        let place = minus(id, self.first);
        self.sent.get_mut(place).filter(|sent| id != 0 && sent.fate == Fate::InFlight)
    }

    fn move_on(&mut self, now: Instant, progress: &mut Progress) {
        let settled = |fate: &Fate| match fate {
            Fate::InFlight => false,
            Fate::Taken => true,
            Fate::Refused(_) => self.refusals.is_some(),
        };
        while self.sent.front().is_some_and(|sent| settled(&sent.fate)) {
            let Some(sent) = self.sent.pop_front() else { break };
            self.first = plus(self.first, 1);
            self.moved = Some(now);
            self.readings -= sent.readings;
            if let Some(Part { lane: Lane::Log, span }) = sent.part {
                progress.through = progress.through.max(Some(span.through));
            }
            match (sent.fate, sent.part) {
                (Fate::Refused(why), Some(part)) => progress.refused.push((part, why)),
                (_, Some(Part { lane: Lane::Fresh, span })) => {
                    progress.readings += sent.readings;
                    progress.fresh.push(span);
                }
                _ => progress.readings += sent.readings,
            }
        }
    }

    /// Whether what an identifier in flight stands for is of the log; `None`
    /// when nothing in flight has it.
    pub(crate) fn is_of_the_log(&mut self, id: u16) -> Option<bool> {
        self.in_flight(id).map(|sent| sent.part.is_some())
    }

    /// Whether something of a lane isn't settled.
    pub(crate) fn has(&self, lane: Lane) -> bool {
        self.sent.iter().any(|sent| sent.part.is_some_and(|part| part.lane == lane))
    }

    /// What of the lane of the log isn't settled, and of how many messages it
    /// is; `None` when it is of none.
    pub(crate) fn unsettled(&self) -> Option<(Span, usize)> {
        let mut spans = self
            .sent
            .iter()
            .filter_map(|sent| sent.part)
            .filter_map(|part| (part.lane == Lane::Log).then_some(part.span));
        let first = spans.next()?;
        let (mut through, mut messages) = (first.through, 1);
        for span in spans {
            (through, messages) = (span.through, messages + 1);
        }
        Some((Span { after: first.after, through }, messages))
    }

    /// When the oldest message in flight will have waited for too long: so long after it
    /// was sent, or after the one before it was acknowledged. A thin link may
    /// take minutes for a full window; as long as it gets on, that is no fault.
    pub(crate) fn deadline(&self, timeout: Duration) -> Option<Instant> {
        let since = |sent: &Sent| self.moved.map_or(sent.at, |moved| moved.max(sent.at));
        // A refused one has its answer: what is late is behind it.
        let late = self.sent.iter().find(|sent| sent.fate == Fate::InFlight);
        late.map(|sent| since(sent) + timeout)
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

    fn part(lane: Lane, seq: u64) -> Option<Part> {
        Some(Part { lane, span: Span { after: Seq(seq - 1), through: Seq(seq) } })
    }

    fn log(seq: u64) -> Option<Part> {
        part(Lane::Log, seq)
    }

    #[tokio::test]
    async fn lanes_move_apart() {
        let now = Instant::now();
        let mut window = Window::new(10);
        let mut progress = Progress::default();
        let old = window.push(log(1), 1, now);
        let fresh = window.push(part(Lane::Fresh, 900), 1, now);
        let span = |after, through| Span { after: Seq(after), through: Seq(through) };
        assert!(window.extend(Lane::Log, span(1, 5)));
        assert!(window.extend(Lane::Fresh, span(900, 901)));
        assert!(!window.extend(Lane::Fresh, span(902, 903)), "902 is left out");
        assert_eq!(window.unsettled(), Some((Span { after: Seq(0), through: Seq(5) }, 1)));
        window.acknowledge(fresh, now, &mut progress);
        assert_eq!(progress, Progress::default(), "in the order of sending");
        window.acknowledge(old, now, &mut progress);
        let span = Span { after: Seq(899), through: Seq(901) };
        let expected =
            Progress { through: Some(Seq(5)), readings: 2, fresh: vec![span], refused: vec![] };
        assert_eq!(progress, expected);
    }

    #[tokio::test]
    async fn a_refusal_counts_once_a_reading_is_taken() {
        let now = Instant::now();
        let mut window = Window::new(10);
        let mut progress = Progress::default();
        let ids: Vec<u16> = (1..=3).map(|seq| window.push(log(seq), 1, now)).collect();
        window.refuse(ids[0], "no".into(), now, &mut progress);
        assert_eq!((progress.through, window.refused_all()), (None, None), "more is in flight");
        window.acknowledge(ids[1], now, &mut progress);
        assert_eq!((progress.through, progress.readings), (Some(Seq(2)), 1));
        assert_eq!(progress.refused.len(), 1);
        window.refuse(ids[2], "no".into(), now, &mut progress);
        assert_eq!((progress.through, progress.refused.len()), (Some(Seq(3)), 2));
        // A broker that takes nothing any more isn't given everything up for.
        for seq in 4..4 + REFUSALS_MAX as u64 + 5 {
            let id = window.push(log(seq), 1, now);
            window.refuse(id, "no".into(), now, &mut progress);
        }
        assert_eq!(progress.through, Some(Seq(2 + REFUSALS_MAX as u64)));
        assert_eq!(window.refused_all(), Some("no"));
    }

    #[tokio::test]
    async fn the_cursor_waits_for_a_hole() {
        let now = Instant::now();
        let mut window = Window::new(10);
        let ids: Vec<u16> = (1..=3).map(|seq| window.push(log(seq), 1, now)).collect();
        let mut progress = Progress::default();
        assert_eq!(window.acknowledge(ids[2], now, &mut progress), Known::InFlight);
        assert_eq!(window.acknowledge(ids[1], now, &mut progress), Known::InFlight);
        assert_eq!(progress, Progress::default());
        assert_eq!(window.acknowledge(ids[0], now, &mut progress), Known::InFlight);
        assert_eq!((progress.through, progress.readings), (Some(Seq(3)), 3));
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
                        let id = window.push(log(next), 1, now);
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
