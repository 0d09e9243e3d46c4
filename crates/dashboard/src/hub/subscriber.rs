//! One client's place in the hub, and what it wants.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use reading::{Channel, Pattern, Record, Seq};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::ring::{Next, Piece};
use super::{Hub, State};
use crate::frame;
use crate::ws::Prepared;

/// Patterns of one subscription: each costs every reading a comparison.
pub(super) const PATTERNS_MAX: usize = 32;

/// The channels that a client wants.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Filter(pub(super) Option<Vec<Pattern>>);

/// One client's place in a [`Hub`].
pub(crate) struct Subscriber {
    hub: Hub,
    filter: Filter,
    pub(super) position: u64,
    /// Readings of the filter's channels published before `position`.
    passed: u64,
    head: watch::Receiver<u64>,
    /// The number of the last reading that was published before it came.
    pub(crate) joined: Option<Seq>,
}

/// What a client gets next.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    /// Readings it has lost before these.
    pub(crate) skipped: u64,
    /// A `readings` frame, unless no reading is for it. Clients that want the
    /// same are given the same one.
    pub(crate) frame: Option<Arc<Prepared>>,
}

/// A `readings` frame under construction.
#[derive(Default)]
pub(super) struct Readings {
    entries: Vec<u8>,
    count: u64,
}

impl Readings {
    const HEAD: &[u8] = br#"{"type":"readings","readings":["#;

    /// Says where in the frame it stands.
    pub(super) fn add(&mut self, entry: &[u8]) -> Range<usize> {
        if self.count > 0 {
            self.entries.push(b',');
        }
        let from = Self::HEAD.len() + self.entries.len();
        self.entries.extend_from_slice(entry);
        self.count += 1;
        from..from + entry.len()
    }

    pub(super) fn end(self) -> Prepared {
        Prepared::text(|wire| {
            wire.reserve(Self::HEAD.len() + self.entries.len() + 2);
            wire.extend_from_slice(Self::HEAD);
            wire.extend_from_slice(&self.entries);
            wire.extend_from_slice(b"]}");
        })
    }

    fn end_unless_empty(self) -> Option<Arc<Prepared>> {
        (self.count > 0).then(|| Arc::new(self.end()))
    }
}

impl Subscriber {
    /// A client that wants everything from now on. The caller holds the lock, so
    /// that what it has told the client and what follows meet without a hole.
    pub(super) fn new(hub: Hub, state: &State) -> Subscriber {
        let filter = Filter::all();
        let (position, passed) = (state.head, state.published(&filter));
        let head = hub.shared.head.subscribe();
        Subscriber { hub, filter, position, passed, head, joined: state.last }
    }

    /// Waits until there may be something to take. Dropping the future loses
    /// nothing.
    pub(crate) async fn wait(&mut self) {
        loop {
            let due = {
                let state = self.hub.state();
                if self.position < state.head
                    && (Instant::now() >= state.due
                        || !matches!(state.ring.next(self.position), Next::Later))
                {
                    return;
                }
                state.due
            };
            // First the time, so that a busy gateway wakes a client only once for
            // all that has come meanwhile.
            sleep_until(due).await;
            let position = self.position;
            // The hub that `self` holds keeps the sender alive.
            let _ = self.head.wait_for(|head| *head > position).await;
        }
    }

    /// The next frame's worth; empty when there is nothing (any more).
    pub(crate) fn take(&mut self) -> Taken {
        loop {
            let piece = {
                let mut state = self.hub.state();
                if self.position == state.head {
                    return Taken::default();
                }
                state.seal();
                match state.ring.next(self.position) {
                    Next::Later => return Taken::default(),
                    Next::Forgotten => {
                        let newest = state.since(self.position, &self.filter);
                        let published = state.published(&self.filter);
                        self.position = state.head;
                        drop(state);
                        return self.skip(&newest, published);
                    }
                    Next::Piece(piece) => piece,
                }
            };
            // Outside the lock: the text of a piece is made by whoever is first.
            if let Some(frame) = self.read(&piece) {
                return Taken { skipped: 0, frame: Some(frame) };
            }
        }
    }

    fn read(&mut self, piece: &Piece) -> Option<Arc<Prepared>> {
        let from = std::mem::replace(&mut self.position, piece.end());
        if from == piece.first && self.filter == Filter::all() {
            self.passed += piece.len();
            return Some(piece.all());
        }
        let mut frame = Readings::default();
        for (reading, text) in piece.entries(from) {
            if self.filter.matches(&reading.channel) {
                frame.add(text);
            }
        }
        self.passed += frame.count;
        frame.end_unless_empty()
    }

    fn skip(&mut self, newest: &[Record], published: u64) -> Taken {
        let frame = readings(newest);
        let skipped = published - self.passed - newest.len() as u64;
        self.passed = published;
        self.hub.shared.skipped.fetch_add(skipped, Ordering::Relaxed);
        Taken { skipped, frame }
    }

    /// The channels it wants.
    pub(crate) fn wanted(&self) -> &Filter {
        &self.filter
    }

    /// From now on only these channels. Gives the newest of those that were not
    /// wanted before; to one too slow for what it wanted, also of the others.
    pub(crate) fn filter(&mut self, filter: Filter) -> Taken {
        let state = self.hub.state();
        let asked = self.position;
        let forgotten = state.ring.from(asked, state.head).is_none();
        if forgotten {
            self.position = state.head;
        }
        let untold = |channel: &Channel, at: Option<u64>| {
            let new = !self.filter.matches(channel);
            // What is still to be taken will be told anyway.
            (new || at >= Some(asked)) && at.is_none_or(|at| at < self.position)
        };
        let mut newest: Vec<_> = state
            .newest
            .iter()
            .filter(|(channel, newest)| filter.matches(channel) && untold(channel, newest.position))
            .filter_map(|(_, newest)| newest.record.clone())
            .collect();
        newest.sort_by_key(|record| record.seq);
        let skipped = if forgotten {
            let wanted = |record: &&Record| {
                record.reading().is_some_and(|reading| self.filter.matches(&reading.channel))
            };
            let told = newest.iter().filter(wanted).count() as u64;
            state.published(&self.filter) - self.passed - told
        } else {
            0
        };
        let pieces = state.ring.from(self.position, state.head).into_iter().flatten();
        let ahead = pieces.flat_map(|piece| piece.readings(self.position));
        let ahead = ahead.filter(|reading| filter.matches(&reading.channel)).count() as u64;
        self.passed = state.published(&filter) - ahead;
        drop(state);
        self.filter = filter;
        self.hub.shared.skipped.fetch_add(skipped, Ordering::Relaxed);
        Taken { skipped, frame: readings(&newest) }
    }
}

/// A frame of records that aren't in the ring (any more).
pub(crate) fn readings<'a>(records: impl IntoIterator<Item = &'a Record>) -> Option<Arc<Prepared>> {
    let mut frame = Readings::default();
    for record in records {
        if let Some(reading) = record.reading() {
            frame.add(frame::json(&frame::Entry::new(record.seq, reading)).as_bytes());
        }
    }
    frame.end_unless_empty()
}

impl Filter {
    /// Every channel.
    pub(crate) fn all() -> Filter {
        Filter(None)
    }

    /// From what a client said.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn parse(patterns: &[String]) -> Result<Filter, String> {
        if patterns.len() > PATTERNS_MAX {
            return Err(format!(
                "{} patterns are too many: at most {PATTERNS_MAX}",
                patterns.len()
            ));
        }
        let parsed: Result<Vec<Pattern>, _> = patterns.iter().map(|text| text.parse()).collect();
        let parsed = parsed.map_err(|error| error.to_string())?;
        Ok(Filter((!parsed.contains(&Pattern::any())).then_some(parsed)))
    }

    pub(crate) fn matches(&self, channel: &Channel) -> bool {
        match &self.0 {
            None => true,
            Some(patterns) => patterns.iter().any(|pattern| pattern.matches(channel)),
        }
    }
}
