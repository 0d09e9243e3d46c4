//! The newest readings, and everyone who wants the next.
//!
//! Publishing puts readings into one ring that all clients share; each client
//! only has a position in it, so a client costs the same whether it reads or
//! not. A reading is serialised once, by the first client that wants it, and
//! never when there is none. A client whose position has fallen out of the ring
//! is told how many readings it has lost, is given the newest of each channel,
//! and goes on from there.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use reading::{Body, Channel, ChannelSpec, Datum, Epoch, Pattern, Reading, Record, Seq};
use tokio::sync::watch;

use crate::frame;

/// How far a client may fall behind, in readings: 16 s at 1,000 readings/s.
const RING_READINGS_MAX: usize = 16_384;

/// The same in bytes as [`weight`] counts them, for channels of long texts.
const RING_BYTES_MAX: usize = 6 << 20;

/// Readings that are serialised together. The ring forgets whole pieces, and a
/// frame is made of whole pieces.
const PIECE_READINGS_MAX: usize = 128;

/// A frame ends with the piece that reaches this: about 32 KiB of text, which is
/// what one client may hold beside its position.
const FRAME_READINGS_MAX: usize = 256;

/// Patterns of one subscription: each costs every reading a comparison.
const PATTERNS_MAX: usize = 32;

/// The newest of every channel, and everyone who wants the next. Cloning it
/// copies a handle.
#[derive(Clone)]
pub struct Hub {
    shared: Arc<Shared>,
}

struct Shared {
    gateway: String,
    epoch: Epoch,
    channels: Vec<ChannelSpec>,
    /// A std mutex: it is never held across an await, nor while serialising.
    state: Mutex<State>,
    /// Wakes the clients. Its receivers are counted to know whether there are any.
    head: watch::Sender<u64>,
    skipped: AtomicU64,
}

#[derive(Default)]
struct State {
    newest: HashMap<Channel, Newest>,
    ring: VecDeque<Arc<Piece>>,
    ring_readings: usize,
    ring_bytes: usize,
    /// The position after the last reading: how many have been published.
    head: u64,
}

#[derive(Default)]
struct Newest {
    record: Option<Record>,
    /// The position of the record; none when it comes from the store.
    position: Option<u64>,
    /// How many readings of this channel have been published.
    published: u64,
}

/// Readings that were published together.
struct Piece {
    first: u64,
    bytes: usize,
    readings: Vec<(Seq, Reading)>,
    texts: OnceLock<Texts>,
}

/// The JSON of each reading of a piece, one after the other.
struct Texts {
    all: String,
    ends: Vec<usize>,
}

/// The channels that a client wants.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Filter(Option<Vec<Pattern>>);

/// One client's place in a [`Hub`].
pub(crate) struct Subscriber {
    hub: Hub,
    filter: Filter,
    position: u64,
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

impl Hub {
    /// A hub that knows the channels and has no reading yet.
    pub fn new(gateway: impl Into<String>, epoch: Epoch, channels: Vec<ChannelSpec>) -> Hub {
        let shared = Shared {
            gateway: gateway.into(),
            epoch,
            channels,
            state: Mutex::default(),
            head: watch::Sender::new(0),
            skipped: AtomicU64::new(0),
        };
        Hub { shared: Arc::new(shared) }
    }

    /// The last reading of each channel, from the store: a page that opens
    /// after a restart isn't empty. Nobody is told, and what has been published
    /// stays.
    pub fn seed(&self, last: Vec<Record>) {
        let mut state = self.state();
        for record in last {
            let Some(channel) = record.reading().map(|reading| reading.channel.clone()) else {
                continue;
            };
            let newest = state.newest.entry(channel).or_default();
            if newest.record.is_none() {
                newest.record = Some(record);
            }
        }
    }

    /// Tells every client of the readings among the records. Never waits for a
    /// client, serialises nothing, and costs a table lookup a reading when there
    /// is no client.
    pub fn publish(&self, records: &[Record]) {
        let mut state = self.state();
        let first = state.head;
        for record in records {
            state.remember(record);
        }
        // Under the lock, so that a client that comes now is either counted
        // here or begins after these readings.
        if self.shared.head.receiver_count() == 0 {
            state.forget();
            return;
        }
        state.push(first, records);
        let head = state.head;
        drop(state);
        self.shared.head.send_replace(head);
    }

    /// How many clients there are now.
    pub(crate) fn clients(&self) -> usize {
        self.shared.head.receiver_count()
    }

    /// How many readings clients have lost by being slow.
    pub(crate) fn skipped(&self) -> u64 {
        self.shared.skipped.load(Ordering::Relaxed)
    }

    /// What is known of a channel.
    pub(crate) fn spec(&self, channel: &Channel) -> Option<&ChannelSpec> {
        self.shared.channels.iter().find(|spec| spec.channel == *channel)
    }

    /// Each channel and its newest reading, in the order of the configuration.
    pub(crate) fn channels(&self) -> Vec<(&ChannelSpec, Option<Record>)> {
        self.described(&self.state())
    }

    fn described(&self, state: &State) -> Vec<(&ChannelSpec, Option<Record>)> {
        let last = |spec: &ChannelSpec| state.newest.get(&spec.channel)?.record.clone();
        self.shared.channels.iter().map(|spec| (spec, last(spec))).collect()
    }

    /// The first frame of a client, and its place right after what it tells.
    pub(crate) fn subscribe(&self) -> (String, Subscriber) {
        let filter = Filter::all();
        let (channels, subscriber) = {
            let state = self.state();
            let (position, passed) = (state.head, state.published(&filter));
            let head = self.shared.head.subscribe();
            let hub = self.clone();
            (self.described(&state), Subscriber { hub, filter, position, passed, head })
        };
        let channels =
            channels.iter().map(|(spec, last)| frame::Described::new(spec, last.as_ref()));
        let hello = frame::json(&frame::Frame::Hello {
            gateway: &self.shared.gateway,
            epoch: self.shared.epoch,
            channels: channels.collect(),
        });
        (hello, subscriber)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().expect("no holder panics")
    }
}

impl State {
    fn remember(&mut self, record: &Record) {
        let Some(reading) = record.reading() else { return };
        let newest = match self.newest.get_mut(&reading.channel) {
            Some(newest) => newest,
            None => self.newest.entry(reading.channel.clone()).or_default(),
        };
        newest.record = Some(record.clone());
        newest.position = Some(self.head);
        newest.published += 1;
        self.head += 1;
    }

    fn push(&mut self, mut first: u64, records: &[Record]) {
        let readings: Vec<_> = records
            .iter()
            .filter_map(|record| match &record.body {
                Body::Reading(reading) => Some((record.seq, reading.clone())),
                Body::Gap(_) => None,
            })
            .collect();
        for readings in readings.chunks(PIECE_READINGS_MAX) {
            let bytes = readings.iter().map(|(_, reading)| weight(reading)).sum();
            let texts = OnceLock::new();
            let piece = Piece { first, bytes, readings: readings.to_vec(), texts };
            first += readings.len() as u64;
            self.ring_readings += readings.len();
            self.ring_bytes += bytes;
            self.ring.push_back(Arc::new(piece));
        }
        while self.ring_readings > RING_READINGS_MAX || self.ring_bytes > RING_BYTES_MAX {
            let Some(oldest) = self.ring.pop_front() else { break };
            self.ring_readings -= oldest.readings.len();
            self.ring_bytes -= oldest.bytes;
        }
    }

    fn forget(&mut self) {
        self.ring.clear();
        (self.ring_readings, self.ring_bytes) = (0, 0);
    }

    /// How many readings of the filter's channels have been published.
    fn published(&self, filter: &Filter) -> u64 {
        let of = |(channel, newest): (&Channel, &Newest)| match filter.matches(channel) {
            true => newest.published,
            false => 0,
        };
        self.newest.iter().map(of).sum()
    }

    /// The newest of each channel published at `position` or later, in order.
    fn since(&self, position: u64, filter: &Filter) -> Vec<Record> {
        let mut found: Vec<_> = self
            .newest
            .iter()
            .filter(|(channel, newest)| {
                newest.position >= Some(position) && filter.matches(channel)
            })
            .filter_map(|(_, newest)| Some((newest.position, newest.record.clone()?)))
            .collect();
        found.sort_by_key(|(position, _)| *position);
        found.into_iter().map(|(_, record)| record).collect()
    }

    /// Pieces from `position` on; `None` when the ring has forgotten it.
    fn pieces(&self, position: u64) -> Option<impl Iterator<Item = &Arc<Piece>>> {
        let oldest = self.ring.front().map_or(self.head, |piece| piece.first);
        let from = self.ring.partition_point(|piece| piece.first < position);
        (position >= oldest).then(|| self.ring.range(from..))
    }
}

/// Bytes that a reading takes in the ring: itself, and its JSON twice since a
/// string grows by doubling.
fn weight(reading: &Reading) -> usize {
    let text = match reading.value.datum() {
        Some(Datum::Text(text)) => text.len(),
        _ => 0,
    };
    size_of::<(Seq, Reading)>() + 2 * (110 + reading.channel.as_str().len()) + 3 * text
}

impl Piece {
    fn texts(&self) -> &Texts {
        self.texts.get_or_init(|| {
            let mut texts = Texts { all: String::new(), ends: Vec::new() };
            for (seq, reading) in &self.readings {
                texts.all += &frame::json(&frame::Entry::new(*seq, reading));
                texts.ends.push(texts.all.len());
            }
            texts
        })
    }
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
                let Some(pieces) = state.pieces(self.position) else {
                    let newest = state.since(self.position, &self.filter);
                    let published = state.published(&self.filter);
                    self.position = state.head;
                    drop(state);
                    return self.skip(&newest, published);
                };
                let mut readings = 0;
                let enough = |piece: &&Arc<Piece>| {
                    let more = readings < FRAME_READINGS_MAX;
                    readings += piece.readings.len();
                    more
                };
                pieces.take_while(enough).cloned().collect::<Vec<_>>()
            };
            // Outside the lock: the text of a piece is made by whoever is first.
            let count: usize = pieces.iter().map(|piece| piece.readings.len()).sum();
            if let Some(frame) = self.assemble(&pieces) {
                let more = count >= FRAME_READINGS_MAX;
                return Taken { skipped: 0, frame: Some(frame), more };
            }
        }
    }

    fn assemble(&mut self, pieces: &[Arc<Piece>]) -> Option<String> {
        let mut frame = Readings::new();
        for piece in pieces {
            let texts = piece.texts();
            let mut from = 0;
            for ((_, reading), &end) in piece.readings.iter().zip(&texts.ends) {
                if self.filter.matches(&reading.channel) {
                    frame.add(&texts.all[from..end]);
                }
                from = end;
            }
            self.position += piece.readings.len() as u64;
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

    /// From now on only these channels. Gives a frame with the newest of those
    /// that were not wanted before.
    pub(crate) fn filter(&mut self, filter: Filter) -> Option<String> {
        let state = self.hub.state();
        let mut newest: Vec<_> = state
            .newest
            .iter()
            .filter(|(channel, _)| filter.matches(channel) && !self.filter.matches(channel))
            // What is still to be taken will be told anyway.
            .filter(|(_, newest)| newest.position.is_none_or(|at| at < self.position))
            .filter_map(|(_, newest)| newest.record.clone())
            .collect();
        newest.sort_by_key(|record| record.seq);
        let ahead = |piece: &Arc<Piece>| {
            piece.readings.iter().filter(|(_, r)| filter.matches(&r.channel)).count() as u64
        };
        let ahead: u64 = state.pieces(self.position).into_iter().flatten().map(ahead).sum();
        self.passed = state.published(&filter) - ahead;
        drop(state);
        self.filter = filter;
        readings(&newest)
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

    fn matches(&self, channel: &Channel) -> bool {
        match &self.0 {
            None => true,
            Some(patterns) => patterns.iter().any(|pattern| pattern.matches(channel)),
        }
    }
}
