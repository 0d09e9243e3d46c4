//! A broker at the other end of a pipe, of the moods that brokers and networks
//! have. It takes MQTT apart by itself, so that a mistake of ours isn't made
//! twice.

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use forward::{Dial, Stream};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::Notify;
use tokio::time::{self, Instant};

use super::consumer::{Consumer, Name, Record};
use super::dice::Dice;

/// Connections that wait to be accepted.
const BACKLOG_MAX: usize = 8;

/// Bytes that are on their way at a time.
const PIPES: [usize; 6] = [100, 1_000, 8_000, 8_000, 65_536, 65_536];

/// How broker and network behave.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Mood {
    pub(super) dial: Answer,
    /// CONNACK with this code, MQTT 3.1.1's or 5's.
    pub(super) refuse: bool,
    /// Neither read nor write: a half-open link.
    pub(super) silent: bool,
    /// From a packet to its answer, at most, milliseconds.
    pub(super) latency: u64,
    /// Of a hundred PUBACKs, how many are lost.
    pub(super) lose: u64,
    /// Of a hundred messages, after how many the connection breaks before the
    /// answer, whether it was taken or not.
    pub(super) breaks: u64,
    pub(super) double: bool,
    pub(super) shuffle: bool,
    /// Values of which one in so many breaks the connection each time.
    pub(super) poison: Option<u64>,
    /// Values of which one in so many is refused for good (MQTT 5).
    pub(super) refuses: Option<u64>,
    /// Of a hundred messages, how many are answered by "quota exceeded" (MQTT 5).
    pub(super) quota: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Answer {
    #[default]
    Opens,
    Refuses,
    Hangs,
}

/// A broker, what it is connected by, and who listens to it.
pub(super) struct Broker {
    state: Mutex<State>,
    changed: Notify,
}

pub(super) struct State {
    mood: Mood,
    dice: Dice,
    knocking: VecDeque<DuplexStream>,
    /// Drop the connection now.
    cut: bool,
    pub(super) consumer: Consumer,
    /// Readings whose PUBACK has been written.
    pub(super) acknowledged: BTreeSet<Name>,
    pub(super) connections: u64,
    /// Every message is told.
    verbose: bool,
    /// What must not be.
    pub(super) wrong: Vec<String>,
}

impl Broker {
    pub(super) fn new(lanes: usize, dice: Dice) -> Arc<Broker> {
        Arc::new(Broker {
            state: Mutex::new(State {
                mood: Mood::default(),
                dice,
                knocking: VecDeque::new(),
                cut: false,
                consumer: Consumer::new(lanes),
                acknowledged: BTreeSet::new(),
                connections: 0,
                verbose: std::env::var_os("TIDEMILL_VERBOSE").is_some(),
                wrong: Vec::new(),
            }),
            changed: Notify::new(),
        })
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn bend(&self, mood: Mood) {
        self.state().mood = mood;
        self.changed.notify_one();
    }

    /// The connection is gone without a word.
    pub(super) fn cut(&self) {
        self.state().cut = true;
        self.changed.notify_one();
    }

    /// How a forwarder reaches it.
    pub(super) fn dial(self: &Arc<Self>) -> Dial {
        let broker = Arc::clone(self);
        Arc::new(move |_| {
            let broker = Arc::clone(&broker);
            Box::pin(async move {
                let answer = broker.state().mood.dial;
                match answer {
                    Answer::Refuses => return Err(io::ErrorKind::ConnectionRefused.into()),
                    Answer::Hangs => std::future::pending().await,
                    Answer::Opens => (),
                }
                let mut state = broker.state();
                let (ours, theirs) = tokio::io::duplex(*state.dice.pick(&PIPES));
                if state.knocking.len() < BACKLOG_MAX {
                    state.knocking.push_back(theirs);
                }
                drop(state);
                broker.changed.notify_one();
                Ok(Box::new(ours) as Stream)
            })
        })
    }

    /// Serves one connection after another, for ever.
    pub(super) async fn run(self: Arc<Self>) {
        let mut peer: Option<Peer> = None;
        loop {
            let silent = {
                let mut state = self.state();
                if std::mem::take(&mut state.cut) {
                    peer = None;
                }
                // A client that comes again takes its own place over.
                if let Some(stream) = state.knocking.pop_back() {
                    state.knocking.clear();
                    state.connections += 1;
                    peer = Some(Peer::new(stream));
                }
                state.mood.silent
            };
            let Some(client) = &mut peer else {
                self.changed.notified().await;
                continue;
            };
            let mut bytes = [0; 4096];
            let due = client.answers.front().map(|answer| answer.at);
            let going_on = tokio::select! {
                biased;
                () = self.changed.notified() => true,
                () = sleep(due), if !silent => self.answer(client).await,
                read = client.stream.read(&mut bytes), if !silent && !client.ending => match read {
                    Ok(count @ 1..) => {
                        client.received.extend_from_slice(&bytes[..count]);
                        self.packets(client)
                    }
                    _ => false,
                },
            };
            if !going_on {
                peer = None;
            }
        }
    }

    async fn answer(&self, client: &mut Peer) -> bool {
        let Some(answer) = client.answers.pop_front() else { return true };
        if answer.bytes.is_empty() || client.stream.write_all(&answer.bytes).await.is_err() {
            return false;
        }
        self.state().acknowledged.extend(answer.takes);
        true
    }

    /// Looks at whole packets; `false` when the connection is to end.
    fn packets(&self, client: &mut Peer) -> bool {
        let mut state = self.state();
        let mut answers = Vec::new();
        let mut going_on = true;
        while going_on && let Some((kind, body)) = client.packet() {
            going_on = state.packet(client, kind, &body, &mut answers);
        }
        client.ending |= !going_on;
        if state.mood.shuffle {
            for i in (1..answers.len()).rev() {
                let other = usize::try_from(state.dice.below(i as u64 + 1)).unwrap_or(0);
                answers.swap(i, other);
            }
        }
        if !going_on {
            // What was answered before may still come, or not.
            if state.dice.chance(50) {
                answers.clear();
            }
            answers.push(Answered { at: Instant::now(), bytes: Vec::new(), takes: Vec::new() });
        }
        let latency = state.mood.latency;
        let wait = if latency == 0 { 0 } else { state.dice.below(latency) };
        let last = client.answers.back().map_or_else(Instant::now, |answer| answer.at);
        let at = last.max(Instant::now() + Duration::from_millis(wait));
        client.answers.extend(answers.into_iter().map(|answer| Answered { at, ..answer }));
        true
    }
}

async fn sleep(until: Option<Instant>) {
    match until {
        Some(until) => time::sleep_until(until).await,
        None => std::future::pending().await,
    }
}

/// A client.
struct Peer {
    stream: DuplexStream,
    received: Vec<u8>,
    five: bool,
    answers: VecDeque<Answered>,
    /// The last that came on this connection.
    last: Option<Name>,
    /// It has broken: nothing more is looked at.
    ending: bool,
}

struct Answered {
    at: Instant,
    /// None ends the connection.
    bytes: Vec<u8>,
    /// What the client knows to be taken once it has this.
    takes: Vec<Name>,
}

impl Peer {
    fn new(stream: DuplexStream) -> Peer {
        Peer {
            stream,
            received: Vec::new(),
            five: true,
            answers: VecDeque::new(),
            last: None,
            ending: false,
        }
    }

    /// Type and flags, and what follows the length (MQTT 5, section 2.1).
    fn packet(&mut self) -> Option<(u8, Vec<u8>)> {
        let (len, size) = varint(self.received.get(1..)?)?;
        let end = 1 + size + len;
        if self.received.len() < end {
            return None;
        }
        let packet: Vec<u8> = self.received.drain(..end).collect();
        Some((packet[0], packet[1 + size..].to_vec()))
    }
}

/// A variable byte integer, and how long it is (MQTT 5, section 1.5.5).
fn varint(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut value = 0;
    for (i, byte) in bytes.iter().take(4).enumerate() {
        value |= usize::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            return Some((value, i + 1));
        }
    }
    None
}

impl State {
    fn packet(
        &mut self,
        client: &mut Peer,
        kind: u8,
        body: &[u8],
        answers: &mut Vec<Answered>,
    ) -> bool {
        let now = Instant::now();
        let mut answer = |bytes: Vec<u8>, takes| answers.push(Answered { at: now, bytes, takes });
        match kind >> 4 {
            1 => {
                client.five = body.get(6) == Some(&5);
                let code = match (self.mood.refuse, client.five) {
                    (false, _) => 0,
                    (true, false) => 3,
                    (true, true) => 0x88,
                };
                let present = u8::from(code == 0 && self.dice.chance(50));
                match client.five {
                    true => answer(vec![0x20, 3, present, code, 0], Vec::new()),
                    false => answer(vec![0x20, 2, present, code], Vec::new()),
                }
                code == 0
            }
            3 => self.publish(client, kind, body, &mut answer),
            8 => {
                let granted: &[u8] = if client.five { &[0, 0] } else { &[0] };
                let mut suback = vec![0x90, 2 + granted.len() as u8];
                suback.extend(body.iter().take(2).chain(granted));
                answer(suback, Vec::new());
                true
            }
            12 => {
                answer(vec![0xD0, 0], Vec::new());
                true
            }
            14 => false,
            other => {
                self.wrong.push(format!("a packet of type {other}"));
                false
            }
        }
    }

    fn publish(
        &mut self,
        client: &mut Peer,
        kind: u8,
        body: &[u8],
        answer: &mut impl FnMut(Vec<u8>, Vec<Name>),
    ) -> bool {
        let Some((topic, id, payload)) = parts(kind, body, client.five) else {
            self.wrong.push(format!("a PUBLISH that can't be read: {body:?}"));
            return false;
        };
        let records = self.consumer.read(&topic, payload);
        if self.consumer.lanes() == 1 {
            for (name, _) in &records {
                if client.last.is_some_and(|last| last >= *name) {
                    let last = client.last;
                    self.wrong.push(format!("{name:?} follows {last:?} on one connection"));
                }
                client.last = Some(*name);
            }
        }
        if self.verbose {
            let names: Vec<&Name> = records.iter().map(|record| &record.0).collect();
            println!("link {} id {id:?}: {topic} {names:?}", self.connections);
        }
        let readings = |record: &(Name, Record)| matches!(record.1, Record::Reading(_));
        let names: Vec<Name> = records.iter().filter(|r| readings(r)).map(|r| r.0).collect();
        let one_in = |of: Option<u64>| {
            let value = |record: &Record| match record {
                Record::Reading(content) => content.value,
                Record::Gap(_) => 1,
            };
            of.is_some_and(|of| records.iter().any(|record| value(&record.1) % of == 0))
        };
        if one_in(self.mood.poison) {
            // Once given up, it may come after all if that is forgotten by a kill.
            self.consumer.late.extend(records.iter().map(|record| record.0));
            return false;
        }
        if client.five && one_in(self.mood.refuses) {
            self.consumer.late.extend(records.iter().map(|record| record.0));
            // Payload format invalid.
            answer(vec![0x40, 3, id[0], id[1], 0x99], Vec::new());
            return true;
        }
        if client.five && self.dice.chance(self.mood.quota) {
            self.consumer.late.extend(records.iter().map(|record| record.0));
            answer(vec![0x40, 3, id[0], id[1], 0x97], Vec::new());
            return true;
        }
        let breaks = self.dice.chance(self.mood.breaks);
        if !breaks || self.dice.chance(50) {
            self.consumer.take(records);
        }
        if breaks {
            return false;
        }
        if !self.dice.chance(self.mood.lose) {
            answer(vec![0x40, 2, id[0], id[1]], names);
            if self.mood.double {
                answer(vec![0x40, 2, id[0], id[1]], Vec::new());
                answer(vec![0x40, 2, 0xF7, id[1]], Vec::new());
            }
        }
        true
    }
}

/// Topic, identifier and payload of a PUBLISH of QoS 1 (section 3.3).
fn parts(kind: u8, body: &[u8], five: bool) -> Option<(String, [u8; 2], &[u8])> {
    if kind & 0x06 != 0x02 {
        return None;
    }
    let len = usize::from(u16::from_be_bytes([*body.first()?, *body.get(1)?]));
    let topic = String::from_utf8(body.get(2..2 + len)?.to_vec()).ok()?;
    let rest = body.get(2 + len..)?;
    let id = [*rest.first()?, *rest.get(1)?];
    let mut payload = &rest[2..];
    if five {
        let (properties, size) = varint(payload)?;
        payload = payload.get(size + properties..)?;
    }
    Some((topic, id, payload))
}
