//! One client's place in the hub, and what it wants.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use reading::{Channel, Pattern, Record};
use tokio::sync::watch;

use super::ring::Piece;
use super::{Hub, State};
use crate::frame;

/// A frame ends with the piece that reaches this: about 32 KiB of text, which is
/// what one client may hold beside its position.
const FRAME_READINGS_MAX: u64 = 256;

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
}

/// What a client gets next.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Taken {
    /// Readings it has lost before these.
    pub(crate) skipped: u64,
    /// A `readings` frame, unless no reading is for it.
    pub(crate) frame: Option<String>,
    /// Whether there is more already.
    pub(crate) more: bool,
}

/// A `readings` frame under construction.
struct Readings {
    text: String,
    count: u64,
}

impl Readings {
    const HEAD: &str = r#"{"type":"readings","readings":["#;

    fn new() -> Readings {
        Readings { text: String::from(Readings::HEAD), count: 0 }
    }

    fn add(&mut self, entry: &str) {
        if self.count > 0 {
            self.text.push(',');
        }
        self.text += entry;
        self.count += 1;
    }

    fn end(mut self) -> Option<String> {
        self.text += "]}";
        (self.count > 0).then_some(self.text)
    }
}

impl Subscriber {
    /// A client that wants everything from now on. The caller holds the lock, so
    /// that what it has told the client and what follows meet without a hole.
    pub(super) fn new(hub: Hub, state: &State) -> Subscriber {
        let filter = Filter::all();
        let (position, passed) = (state.head, state.published(&filter));
        let head = hub.shared.head.subscribe();
        Subscriber { hub, filter, position, passed, head }
    }

    /// Waits until there may be something to take. Dropping the future loses
    /// nothing.
    pub(crate) async fn wait(&mut self) {
        // The hub that `self` holds keeps the sender alive.
        let position = self.position;
        let _ = self.head.wait_for(|head| *head > position).await;
    }

    /// The next frame's worth; empty when there is nothing (any more).
    pub(crate) fn take(&mut self) -> Taken {
        loop {
            let pieces = {
                let state = self.hub.state();
                if self.position == state.head {
                    return Taken::default();
                }
                let Some(pieces) = state.ring.from(self.position, state.head) else {
                    let newest = state.since(self.position, &self.filter);
                    let published = state.published(&self.filter);
                    self.position = state.head;
                    drop(state);
                    return self.skip(&newest, published);
                };
                let enough = self.position + FRAME_READINGS_MAX;
                let mut reached = self.position;
                let more = |piece: &&Arc<Piece>| {
                    let more = reached < enough;
                    reached = piece.end();
                    more
                };
                pieces.take_while(more).cloned().collect::<Vec<_>>()
            };
            // Outside the lock: the text of a piece is made by whoever is first.
            let from = self.position;
            if let Some(frame) = self.assemble(&pieces) {
                let more = self.position - from >= FRAME_READINGS_MAX;
                return Taken { skipped: 0, frame: Some(frame), more };
            }
        }
    }

    fn assemble(&mut self, pieces: &[Arc<Piece>]) -> Option<String> {
        let mut frame = Readings::new();
        for piece in pieces {
            for (reading, text) in piece.entries(self.position) {
                if self.filter.matches(&reading.channel) {
                    frame.add(text);
                }
            }
            self.position = piece.end();
        }
        self.passed += frame.count;
        frame.end()
    }

    fn skip(&mut self, newest: &[Record], published: u64) -> Taken {
        let frame = readings(newest);
        let skipped = published - self.passed - newest.len() as u64;
        self.passed = published;
        self.hub.shared.skipped.fetch_add(skipped, Ordering::Relaxed);
        Taken { skipped, frame, more: false }
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
        Taken { skipped, frame: readings(&newest), more: false }
    }
}

fn readings(records: &[Record]) -> Option<String> {
    let mut frame = Readings::new();
    for record in records {
        if let Some(reading) = record.reading() {
            frame.add(&frame::json(&frame::Entry::new(record.seq, reading)));
        }
    }
    frame.end()
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

    pub(super) fn matches(&self, channel: &Channel) -> bool {
        match &self.0 {
            None => true,
            Some(patterns) => patterns.iter().any(|pattern| pattern.matches(channel)),
        }
    }
}
