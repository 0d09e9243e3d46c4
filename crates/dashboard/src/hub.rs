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
    room: Room,
}

/// How much the ring holds.
#[derive(Clone, Copy)]
struct Room {
    readings: usize,
    bytes: usize,
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
        let room = Room { readings: RING_READINGS_MAX, bytes: RING_BYTES_MAX };
        Hub::with_room(gateway.into(), epoch, channels, room)
    }

    fn with_room(gateway: String, epoch: Epoch, channels: Vec<ChannelSpec>, room: Room) -> Hub {
        let shared = Shared {
            gateway,
            epoch,
            channels,
            state: Mutex::default(),
            head: watch::Sender::new(0),
            skipped: AtomicU64::new(0),
            room,
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
        state.push(first, records, self.shared.room);
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

    fn push(&mut self, mut first: u64, records: &[Record], room: Room) {
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
        while self.ring_readings > room.readings || self.ring_bytes > room.bytes {
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

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;
    use proptest::prelude::*;
    use reading::{Doubt, Fault, Gap, Kind, Timestamp, Unit, Value};

    const EPOCH: Epoch = Epoch(0x9f2c_44e0_1a7b_3d58);

    fn spec(channel: &str, unit: &'static str) -> ChannelSpec {
        ChannelSpec {
            channel: channel.parse().unwrap(),
            kind: Kind::Number,
            unit: Unit::of(unit),
            label: None,
            range: None,
            output: false,
        }
    }

    fn record(seq: u64, channel: &str, value: Value) -> Record {
        let at = Timestamp::from_micros(1_795_508_403_123_456);
        let reading = Reading { channel: channel.parse().unwrap(), at, value };
        Record { epoch: EPOCH, seq: Seq(seq), body: Body::Reading(reading) }
    }

    fn good(seq: u64, channel: &str) -> Record {
        record(seq, channel, Value::Good(Datum::Number(seq as f64)))
    }

    fn small(readings: usize) -> Hub {
        let room = Room { readings, bytes: usize::MAX };
        Hub::with_room("greenhouse".into(), EPOCH, vec![spec("a/a", "Cel"), spec("a/b", "")], room)
    }

    fn seqs(frame: &str) -> Vec<u64> {
        let frame: serde_json::Value = serde_json::from_str(frame).unwrap();
        assert_eq!(frame["type"], "readings");
        frame["readings"].as_array().unwrap().iter().map(|r| r["seq"].as_u64().unwrap()).collect()
    }

    #[test]
    fn hello_tells_every_channel_and_its_last_reading() {
        let hub = small(8);
        hub.seed(vec![good(7, "a/a")]);
        expect![[r#"{"type":"hello","gateway":"greenhouse","epoch":"9f2c44e01a7b3d58","channels":[{"channel":"a/a","device":"a","name":"a","kind":"number","unit":"Cel","label":null,"output":false,"last":{"seq":7,"time":"2026-11-24T08:20:03.123456Z","value":7.0,"quality":"good"}},{"channel":"a/b","device":"a","name":"b","kind":"number","unit":"","label":null,"output":false,"last":null}]}"#]].assert_eq(&hub.subscribe().0);
        hub.publish(&[record(8, "a/a", Value::Bad(Fault::Timeout))]);
        expect![[r#"{"type":"hello","gateway":"greenhouse","epoch":"9f2c44e01a7b3d58","channels":[{"channel":"a/a","device":"a","name":"a","kind":"number","unit":"Cel","label":null,"output":false,"last":{"seq":8,"time":"2026-11-24T08:20:03.123456Z","value":null,"quality":"bad","reason":"timeout"}},{"channel":"a/b","device":"a","name":"b","kind":"number","unit":"","label":null,"output":false,"last":null}]}"#]].assert_eq(&hub.subscribe().0);
        hub.seed(vec![good(7, "a/a")]);
        assert!(hub.subscribe().0.contains(r#""seq":8"#), "what comes late is not the newest");
    }

    #[test]
    fn a_frame_has_all_qualities_and_kinds() {
        let hub = small(8);
        let (_, mut client) = hub.subscribe();
        let at = Timestamp::UNIX_EPOCH;
        let gap = Gap { from: at, to: at, count: 1, channel: None, reason: "store full".into() };
        hub.publish(&[
            record(1, "a/a", Value::Good(Datum::Number(21.5))),
            record(2, "a/a", Value::Uncertain(Datum::Number(-1.0), Doubt::ClockUnset)),
            Record { epoch: EPOCH, seq: Seq(3), body: Body::Gap(gap) },
            record(4, "a/b", Value::Bad(Fault::Absent)),
            record(5, "a/b", Value::Good(Datum::from(true))),
            record(6, "a/b", Value::Good(Datum::from("\"<b>\u{7}"))),
        ]);
        expect![[r#"{"type":"readings","readings":[{"seq":1,"channel":"a/a","time":"2026-11-24T08:20:03.123456Z","value":21.5,"quality":"good"},{"seq":2,"channel":"a/a","time":"2026-11-24T08:20:03.123456Z","value":-1.0,"quality":"uncertain","reason":"clock not set"},{"seq":4,"channel":"a/b","time":"2026-11-24T08:20:03.123456Z","value":null,"quality":"bad","reason":"absent"},{"seq":5,"channel":"a/b","time":"2026-11-24T08:20:03.123456Z","value":true,"quality":"good"},{"seq":6,"channel":"a/b","time":"2026-11-24T08:20:03.123456Z","value":"\"<b>\u0007","quality":"good"}]}"#]].assert_eq(&client.take().frame.unwrap());
        assert_eq!(client.take(), Taken::default());
    }

    #[test]
    fn a_slow_client_is_told_and_keeps_the_newest() {
        let hub = small(100);
        let (_, mut slow) = hub.subscribe();
        let (_, mut healthy) = hub.subscribe();
        let mut got = Vec::new();
        for seq in 0..1000 {
            hub.publish(&[good(seq, if seq % 10 == 0 { "a/b" } else { "a/a" })]);
            got.extend(healthy.take().frame.map(|frame| seqs(&frame)).unwrap());
        }
        assert_eq!(got, (0..1000).collect::<Vec<_>>(), "the slow one costs the other nothing");
        let taken = slow.take();
        assert_eq!(taken.skipped, 998);
        assert_eq!(seqs(&taken.frame.unwrap()), [990, 999], "the newest of each channel");
        assert_eq!(slow.take(), Taken::default());
        hub.publish(&[good(1000, "a/a")]);
        assert_eq!(seqs(&slow.take().frame.unwrap()), [1000]);
        assert_eq!(hub.skipped(), 998);
    }

    #[test]
    fn nothing_is_kept_for_nobody() {
        let hub = small(100);
        hub.publish(&[good(1, "a/a")]);
        assert!(hub.state().ring.is_empty());
        let (_, client) = hub.subscribe();
        hub.publish(&[good(2, "a/a")]);
        assert_eq!(hub.state().ring.len(), 1);
        assert!(hub.state().ring[0].texts.get().is_none(), "nothing is serialised unasked");
        drop(client);
        hub.publish(&[good(3, "a/a")]);
        assert!(hub.state().ring.is_empty());
        let (hello, mut late) = hub.subscribe();
        assert!(hello.contains(r#""seq":3"#));
        assert_eq!(late.take(), Taken::default());
    }

    #[test]
    fn long_texts_are_bounded_by_bytes() {
        let hub = Hub::new("g", EPOCH, vec![]);
        let (_, mut slow) = hub.subscribe();
        for seq in 0..1000 {
            let text = "x".repeat(64 << 10);
            hub.publish(&[record(seq, "a/a", Value::Good(Datum::from(text.as_str())))]);
        }
        let state = hub.state();
        assert!(state.ring_bytes <= RING_BYTES_MAX);
        let held: usize = state.ring.iter().map(|piece| piece.bytes).sum();
        assert_eq!(held, state.ring_bytes);
        drop(state);
        assert_eq!(slow.take().skipped, 999);
    }

    #[test]
    fn many_readings_are_several_frames() {
        let hub = small(10_000);
        let (_, mut client) = hub.subscribe();
        let records: Vec<_> = (0..1000).map(|seq| good(seq, "a/a")).collect();
        hub.publish(&records);
        let mut got = Vec::new();
        let mut frames = 0;
        while let Some(frame) = client.take().frame {
            assert!(frame.len() < 64 << 10, "{}", frame.len());
            got.extend(seqs(&frame));
            frames += 1;
        }
        assert_eq!(got, (0..1000).collect::<Vec<_>>());
        assert!(frames > 1);
    }

    #[test]
    fn a_subscription_filters_and_tells_what_it_adds() {
        let hub = small(100);
        let (_, mut client) = hub.subscribe();
        let only = |text: &str| Filter::parse(&[text.to_owned()]).unwrap();
        assert_eq!(client.filter(only("a/a")), None, "nothing new is wanted");
        hub.publish(&[good(1, "a/a"), good(2, "a/b")]);
        assert_eq!(seqs(&client.take().frame.unwrap()), [1]);
        let newest = client.filter(only("a/b")).expect("the last of a channel not seen so far");
        assert_eq!(seqs(&newest), [2]);
        hub.publish(&[good(3, "a/a"), good(4, "a/b")]);
        assert_eq!(seqs(&client.take().frame.unwrap()), [4]);
        hub.publish(&[good(5, "a/a")]);
        assert_eq!(client.take(), Taken::default());
        client.filter(Filter::all());
        for seq in 6..206 {
            hub.publish(&[good(seq, "a/a")]);
        }
        assert_eq!(client.take().skipped, 199);
    }

    #[test]
    fn a_wrong_subscription_is_told_what_is_wrong() {
        let parse = |texts: &[&str]| {
            Filter::parse(&texts.iter().map(|&text| text.to_owned()).collect::<Vec<_>>())
        };
        assert_eq!(parse(&["a/b", "*"]), Ok(Filter::all()));
        assert!(parse(&["a/b", "A B"]).unwrap_err().contains("A B"));
        assert!(parse(&vec!["a/b"; PATTERNS_MAX]).is_ok());
        assert!(parse(&vec!["a/b"; PATTERNS_MAX + 1]).unwrap_err().contains("at most 32"));
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_ends_when_there_is_something() {
        let hub = small(100);
        let (_, mut client) = hub.subscribe();
        let soon = std::time::Duration::from_secs(1);
        assert!(tokio::time::timeout(soon, client.wait()).await.is_err());
        hub.publish(&[good(1, "a/a")]);
        tokio::time::timeout(soon, client.wait()).await.expect("woken");
        client.take();
        assert!(tokio::time::timeout(soon, client.wait()).await.is_err());
    }

    #[derive(Clone, Debug)]
    enum Step {
        Publish(Vec<bool>),
        Take(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            prop::collection::vec(any::<bool>(), 0..300).prop_map(Step::Publish),
            (0..3_usize).prop_map(Step::Take),
        ]
    }

    proptest! {
        /// Whatever the pace, each client gets each of its readings once and in
        /// order, or it is counted as skipped; and nobody's ring grows.
        #[test]
        fn every_reading_is_delivered_or_counted(steps in prop::collection::vec(step(), 0..60)) {
            let hub = small(500);
            let filters = [Filter::all(), Filter::parse(&["a/a".into()]).unwrap(), Filter(Some(vec![]))];
            let mut clients: Vec<_> = filters
                .into_iter()
                .map(|filter| {
                    let (_, mut client) = hub.subscribe();
                    client.filter(filter);
                    (client, Vec::new(), 0)
                })
                .collect();
            let mut published = [0, 0];
            let mut seq = 0;
            let take = |(client, got, skipped): &mut (Subscriber, Vec<u64>, u64)| {
                let taken = client.take();
                *skipped += taken.skipped;
                got.extend(taken.frame.map(|frame| seqs(&frame)).unwrap_or_default());
            };
            for step in steps {
                match step {
                    Step::Take(client) => take(&mut clients[client]),
                    Step::Publish(channels) => {
                        let records: Vec<_> = channels
                            .into_iter()
                            .map(|b| {
                                seq += 1;
                                published[usize::from(b)] += 1;
                                good(seq, if b { "a/b" } else { "a/a" })
                            })
                            .collect();
                        hub.publish(&records);
                        prop_assert!(hub.state().ring_readings <= 500);
                    }
                }
            }
            let wanted = [published[0] + published[1], published[0], 0];
            for (client, wanted) in clients.iter_mut().zip(wanted) {
                while client.0.position < seq {
                    take(client);
                }
                let (_, got, skipped) = client;
                prop_assert!(got.is_sorted_by(|a, b| a < b));
                prop_assert_eq!(got.len() as u64 + *skipped, wanted);
            }
        }
    }
}
