//! The newest readings, and everyone who wants the next.
//!
//! Publishing puts readings into one ring that all clients share; each client
//! only has a position in it, so a client costs the same whether it reads or
//! not. A reading is serialised once, by the first client that wants it, and
//! never when there is none. A client whose position has fallen out of the ring
//! is told how many readings it has lost, is given the newest of each channel,
//! and goes on from there.

mod ring;
mod subscriber;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use reading::{Body, Channel, ChannelSpec, Epoch, Record, Seq, Timestamp};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::frame;
use ring::{Ring, Room};
pub(crate) use subscriber::{Filter, Subscriber, Taken, readings};

/// Readings are gathered this long into one message: 20 a second are more than
/// an eye wants. It is the same for all clients, so that they share messages and
/// 500 of them cost 10,000 writes of the same bytes a second, not 500,000.
const GATHER: Duration = Duration::from_millis(50);

/// The newest of every channel, and everyone who wants the next. Cloning it
/// copies a handle.
#[derive(Clone)]
pub struct Hub {
    shared: Arc<Shared>,
}

struct Shared {
    gateway: String,
    epoch: Epoch,
    /// A std mutex: it is never held across an await, nor while serialising.
    state: Mutex<State>,
    /// Wakes the clients. Its receivers are counted to know whether there are any.
    head: watch::Sender<u64>,
    /// Tells the clients that the channels are others.
    described: watch::Sender<()>,
    skipped: AtomicU64,
}

struct State {
    /// In the order of the configuration.
    specs: Vec<Arc<ChannelSpec>>,
    newest: HashMap<Channel, Newest>,
    ring: Ring,
    /// The position after the last reading: how many have been published.
    head: u64,
    /// The number of the last reading.
    last: Option<Seq>,
    gather: Duration,
    /// When what has been gathered may be told.
    due: Instant,
}

#[derive(Default)]
struct Newest {
    record: Option<Record>,
    /// The position of the record; none when it comes from the store.
    position: Option<u64>,
    /// How many readings of this channel have been published.
    published: u64,
}

impl Hub {
    /// A hub that knows the channels and has no reading yet.
    pub fn new(gateway: impl Into<String>, epoch: Epoch, channels: Vec<ChannelSpec>) -> Hub {
        Hub::with_room(gateway.into(), epoch, channels, Room::default(), GATHER)
    }

    fn with_room(
        gateway: String,
        epoch: Epoch,
        channels: Vec<ChannelSpec>,
        room: Room,
        gather: Duration,
    ) -> Hub {
        let (newest, ring, due) = (HashMap::new(), Ring::new(room), Instant::now());
        let specs = channels.into_iter().map(Arc::new).collect();
        let state = State { specs, newest, ring, head: 0, last: None, gather, due };
        let shared = Shared {
            gateway,
            epoch,
            state: Mutex::new(state),
            head: watch::Sender::new(0),
            described: watch::Sender::new(()),
            skipped: AtomicU64::new(0),
        };
        Hub { shared: Arc::new(shared) }
    }

    /// The channels are these from now on; clients are told by a new `hello`. What
    /// is known of a channel that stays the same kind stays known.
    pub fn describe(&self, channels: Vec<ChannelSpec>) {
        let mut state = self.state();
        let kept = |old: &Arc<ChannelSpec>| {
            channels.iter().any(|new| (&new.channel, new.kind) == (&old.channel, old.kind))
        };
        let gone: Vec<_> = state.specs.iter().filter(|old| !kept(old)).cloned().collect();
        for spec in gone {
            // How many there were is still counted for clients that are behind.
            if let Some(newest) = state.newest.get_mut(&spec.channel) {
                (newest.record, newest.position) = (None, None);
            }
        }
        state.specs = channels.into_iter().map(Arc::new).collect();
        drop(state);
        self.shared.described.send_replace(());
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

    /// The clock is set, which was so many microseconds behind: the newest readings
    /// that have been published get the times that they really had.
    pub fn correct(&self, behind: i64) {
        let mut state = self.state();
        for newest in state.newest.values_mut().filter(|newest| newest.position.is_some()) {
            if let Some(Record { body: Body::Reading(reading), .. }) = &mut newest.record {
                reading.at = Timestamp::from_micros(reading.at.as_micros() + behind);
            }
        }
    }

    /// The newest reading of every channel that has one.
    pub fn newest(&self) -> Vec<Record> {
        self.state().newest.values().filter_map(|newest| newest.record.clone()).collect()
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
            state.ring.clear();
            return;
        }
        let readings = records.iter().filter_map(|record| Some((record.seq, record.reading()?)));
        state.ring.push(first, readings);
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
    pub(crate) fn spec(&self, channel: &Channel) -> Option<Arc<ChannelSpec>> {
        self.state().specs.iter().find(|spec| spec.channel == *channel).cloned()
    }

    /// Each channel and its newest reading, in the order of the configuration.
    pub(crate) fn channels(&self) -> Vec<(Arc<ChannelSpec>, Option<Record>)> {
        self.state().described()
    }

    /// The first frame of a client, and its place right after what it tells.
    pub(crate) fn subscribe(&self) -> (String, Subscriber) {
        let (channels, subscriber) = {
            let state = self.state();
            (state.described(), Subscriber::new(self.clone(), &state))
        };
        (self.told(&channels), subscriber)
    }

    /// Changes when the channels are others: the time for [`Hub::hello`].
    pub(crate) fn described(&self) -> watch::Receiver<()> {
        self.shared.described.subscribe()
    }

    /// What a client is told of the channels.
    pub(crate) fn hello(&self) -> String {
        self.told(&self.channels())
    }

    fn told(&self, channels: &[(Arc<ChannelSpec>, Option<Record>)]) -> String {
        let channels =
            channels.iter().map(|(spec, last)| frame::Described::new(spec, last.as_ref()));
        frame::json(&frame::Frame::Hello {
            gateway: &self.shared.gateway,
            epoch: self.shared.epoch,
            channels: channels.collect(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().expect("no holder panics")
    }
}

impl State {
    fn described(&self) -> Vec<(Arc<ChannelSpec>, Option<Record>)> {
        let last = |spec: &ChannelSpec| self.newest.get(&spec.channel)?.record.clone();
        self.specs.iter().map(|spec| (spec.clone(), last(spec))).collect()
    }

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
        self.last = Some(record.seq);
    }

    /// What has been gathered may be told, if it is time.
    fn seal(&mut self) {
        let now = Instant::now();
        if now >= self.due {
            self.ring.seal();
            self.due = now + self.gather;
        }
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
}
