//! One client of the broker, from CONNECT to the end.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::time::{self, Instant};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::hub::{Ended, Hub, Message, Place, Subscription};
use super::packet::{self, Connect, Packet, Replay};
use super::{PATIENCE, topic};
use crate::Version;
use crate::codec::Malformed;
use crate::transport::{Closed, Event, FRAME, Transport};

/// Publishes to a client that it hasn't acknowledged.
const INFLIGHT_MAX: u16 = 1_000;
/// Publishes of QoS 2 half done.
const HALF_DONE_MAX: usize = 1_000;
/// Filters in one SUBSCRIBE.
const FILTERS_MAX: usize = 100;
/// Answers that wait to be written: past this nothing more is read.
const ANSWERS_MAX: usize = 256 * 1024;

struct Client {
    transport: Transport,
    hub: Arc<Hub>,
    version: Version,
    place: Place,
    received: BytesMut,
    out: BytesMut,
    /// Identifiers of publishes to it that it hasn't acknowledged.
    inflight: HashSet<u16>,
    next_id: u16,
    inflight_max: u16,
    max_packet: usize,
    /// Of QoS 2, received and not released.
    half_done: HashSet<u16>,
    /// Publishes on this connection.
    published: u64,
    /// To be acknowledged once what came together has been looked at.
    acknowledgements: Vec<(u16, Option<u8>)>,
    /// Never to be acknowledged.
    withheld: usize,
    /// Bytes of the packet looked at.
    packet_size: usize,
}

/// How a connection ended, as far as the will is concerned.
enum End {
    /// DISCONNECT: no will.
    Orderly,
    /// Anything else.
    Broken(String),
}

/// Serves one connection to its end.
pub(crate) async fn serve(mut transport: Transport, hub: Arc<Hub>, stop: CancellationToken) {
    let mut received = BytesMut::new();
    let first = time::timeout(PATIENCE, connect(&mut transport, &mut received));
    let connect = tokio::select! {
        first = first => first,
        () = stop.cancelled() => return,
    };
    let Ok(Some((connect, code))) = connect else {
        debug!("no CONNECT");
        return;
    };
    let bent = hub.behaviour.borrow().clone();
    let code = bent.refuse.unwrap_or(code);
    let mut out = BytesMut::new();
    if code != 0 {
        packet::connack(connect.version, code, None, &bent, &mut out);
        let _ = time::timeout(PATIENCE, flush(&mut transport, &mut out, &mut received)).await;
        transport.close().await;
        return;
    }
    let place = hub.enter(&connect.client);
    let number = place.number;
    let assigned = connect.client.starts_with("auto-").then_some(connect.client.as_str());
    packet::connack(connect.version, 0, assigned, &bent, &mut out);
    if bent.close_at_once {
        let _ = time::timeout(PATIENCE, flush(&mut transport, &mut out, &mut received)).await;
        hub.leave(number);
        return;
    }
    let keep_alive = bent.keep_alive.unwrap_or(connect.keep_alive);
    let mut client = Client {
        transport,
        hub: Arc::clone(&hub),
        version: connect.version,
        place,
        received,
        out,
        inflight: HashSet::new(),
        next_id: 0,
        inflight_max: connect.receive_max.clamp(1, INFLIGHT_MAX),
        max_packet: connect.max_packet,
        half_done: HashSet::new(),
        published: 0,
        acknowledgements: Vec::new(),
        withheld: 0,
        packet_size: 0,
    };
    let end = client.converse(keep_alive, &stop).await;
    hub.leave(number);
    match end {
        End::Orderly => client.transport.close().await,
        End::Broken(why) => {
            debug!(client = connect.client, why, "client lost");
            if let Some(will) = connect.will.filter(|will| topic::is_topic(&will.topic)) {
                hub.publish(will, None);
            }
        }
    }
}

/// Waits for CONNECT; with it, the code of a refusal or 0.
async fn connect(transport: &mut Transport, received: &mut BytesMut) -> Option<(Connect, u8)> {
    loop {
        let version = match packet::level(received).ok()? {
            None => {
                transport.next(received, true).await.ok()?;
                continue;
            }
            Some(4) => Version::V4,
            Some(5) => Version::V5,
            // 3.1 and what is to come: refused in a form that all understand.
            Some(level) => {
                debug!(level, "unknown protocol level");
                let connect = Connect {
                    version: Version::V4,
                    client: String::new(),
                    keep_alive: 0,
                    will: None,
                    receive_max: 1,
                    max_packet: usize::MAX,
                };
                return Some((connect, 1));
            }
        };
        let Some(Packet::Connect(mut connect)) = packet::decode(version, received).ok()? else {
            return None;
        };
        if connect.client.is_empty() {
            let number = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0);
            connect.client = format!("auto-{number:016x}");
        }
        return Some((connect, 0));
    }
}

async fn flush(
    transport: &mut Transport,
    out: &mut BytesMut,
    received: &mut BytesMut,
) -> Result<(), Closed> {
    while !out.is_empty() || !transport.is_idle() {
        if transport.is_idle() {
            transport.send(out.split().freeze());
        }
        if transport.next(received, true).await? == Event::Received {
            received.clear();
        }
    }
    Ok(())
}

impl Client {
    async fn converse(&mut self, keep_alive: u16, stop: &CancellationToken) -> End {
        // MQTT 3.1.1, 3.1.2.10: one and a half times the keep-alive.
        let silence = Duration::from_millis(u64::from(keep_alive) * 1500);
        let mut heard = Instant::now();
        let mut behaviour = self.hub.behaviour.subscribe();
        loop {
            if let Err(end) = self.digest() {
                return end;
            }
            self.deliver();
            if self.transport.is_idle() && !self.out.is_empty() {
                self.transport.send(self.out.split().freeze());
            }
            let bent = behaviour.borrow_and_update().clone();
            let overdue = async {
                match keep_alive {
                    0 => std::future::pending().await,
                    _ => time::sleep_until(heard + silence).await,
                }
            };
            let room = self.room();
            let reading = self.out.len() < ANSWERS_MAX;
            tokio::select! {
                event = self.transport.next(&mut self.received, reading), if !bent.silent =>
                {
                    match event {
                        Ok(Event::Received) => heard = Instant::now(),
                        Ok(Event::Sent) => (),
                        Err(closed) => return End::Broken(closed.to_string()),
                    }
                }
                Some(message) = self.place.queue.recv(), if room && !bent.silent => {
                    self.give(&message);
                }
                _ = behaviour.changed() => (),
                ended = self.place.ended.changed() => return self.ended(ended.is_ok()).await,
                () = overdue, if !bent.silent => {
                    return End::Broken("nothing heard within the keep-alive".into());
                }
                () = stop.cancelled() => {
                    self.farewell(0x8B).await;
                    return End::Broken("the broker stops".into());
                }
            }
        }
    }

    /// Looks at every whole packet that has come.
    fn digest(&mut self) -> Result<(), End> {
        loop {
            let before = self.received.len();
            match packet::decode(self.version, &mut self.received) {
                Ok(Some(packet)) => {
                    self.packet_size = before - self.received.len();
                    self.packet(packet)?;
                }
                Ok(None) => break,
                Err(error) => return Err(End::Broken(Malformed::to_string(&error))),
            }
        }
        let bent = self.hub.behaviour.borrow().clone();
        let mut acknowledgements = std::mem::take(&mut self.acknowledgements);
        if bent.reverse_pubacks {
            acknowledgements.reverse();
        }
        for (id, reason) in acknowledgements {
            let reason = reason.filter(|_| self.version == Version::V5);
            packet::answer(0x40, id, reason, &mut self.out);
            if bent.double_pubacks {
                packet::answer(0x40, id, None, &mut self.out);
                packet::answer(0x40, id.wrapping_add(30_000), None, &mut self.out);
            }
        }
        Ok(())
    }

    fn packet(&mut self, packet: Packet) -> Result<(), End> {
        match packet {
            Packet::Publish { message, id } => self.published(message, id)?,
            Packet::Puback(id) => {
                self.inflight.remove(&id);
            }
            Packet::Pubrel(id) => {
                self.half_done.remove(&id);
                packet::answer(0x70, id, None, &mut self.out);
            }
            Packet::Subscribe { id, filters } => self.subscribe(id, filters)?,
            Packet::Unsubscribe { id, filters } => {
                let gone = |filter: &String| self.hub.unsubscribe(self.place.number, filter);
                let mut codes: Vec<u8> =
                    filters.iter().map(|filter| if gone(filter) { 0 } else { 0x11 }).collect();
                if self.version == Version::V4 {
                    codes.clear();
                }
                packet::answers(self.version, 0xB0, id, &codes, &mut self.out);
            }
            Packet::Ping => {
                if !self.hub.behaviour.borrow().withhold_pings {
                    packet::pong(&mut self.out);
                }
            }
            Packet::Disconnect { with_will: false } => return Err(End::Orderly),
            Packet::Disconnect { with_will: true } => {
                return Err(End::Broken("it asked for its will".into()));
            }
            Packet::Connect(_) => return Err(End::Broken("CONNECT twice".into())),
            Packet::Other => return Err(End::Broken("a packet that no client sends".into())),
        }
        Ok(())
    }

    fn published(&mut self, message: Message, id: u16) -> Result<(), End> {
        let bent = self.hub.behaviour.borrow().clone();
        if !topic::is_topic(&message.topic) {
            return Err(End::Broken("a topic that can't be published to".into()));
        }
        if bent.maximum_packet_size.is_some_and(|most| self.packet_size > most as usize) {
            packet::disconnect(self.version, 0x95, &mut self.out);
            return Err(End::Broken("a packet larger than allowed".into()));
        }
        let unanswered = self.acknowledgements.len() + self.withheld + 1;
        if bent.receive_maximum.is_some_and(|most| unanswered > usize::from(most)) {
            return Err(End::Broken("more unacknowledged than allowed".into()));
        }
        let holds = |text: &String| {
            !text.is_empty() && message.payload.windows(text.len()).any(|w| w == text.as_bytes())
        };
        self.published += 1;
        if bent.close_after.is_some_and(|most| self.published > most)
            || bent.close_on.as_ref().is_some_and(holds)
        {
            return Err(End::Broken("bent to close".into()));
        }
        let one = bent.refuse_on.as_ref().filter(|(text, _)| holds(text)).map(|(_, code)| *code);
        let reason = one.or(bent.puback_reason);
        let refused = message.qos == 1 && reason.is_some_and(|reason| reason >= 0x80);
        let lost = bent.withhold_pubacks || bent.lose_puback_on.as_ref().is_some_and(holds);
        let mut again = false;
        match message.qos {
            1 if lost => self.withheld += 1,
            1 => self.acknowledgements.push((id, reason)),
            2 => {
                again = !self.half_done.insert(id);
                if self.half_done.len() > HALF_DONE_MAX {
                    return Err(End::Broken("too much half done".into()));
                }
                packet::answer(0x50, id, None, &mut self.out);
            }
            _ => (),
        }
        if !refused && !again {
            let qos = message.qos.min(1);
            self.hub.publish(Message { qos, ..message }, Some(self.place.number));
        }
        Ok(())
    }

    fn subscribe(&mut self, id: u16, filters: Vec<(Subscription, Replay)>) -> Result<(), End> {
        if filters.is_empty() || filters.len() > FILTERS_MAX {
            return Err(End::Broken("a SUBSCRIBE of none or too many".into()));
        }
        let number = self.place.number;
        let mut codes = Vec::with_capacity(filters.len());
        let mut replays = Vec::new();
        for (subscription, replay) in filters {
            let (filter, qos) = (subscription.filter.clone(), subscription.qos);
            let allowed = topic::is_filter(&filter) && !filter.starts_with("$share/");
            match allowed.then(|| self.hub.subscribe(number, subscription)).flatten() {
                Some(new) => {
                    codes.push(qos);
                    if replay == Replay::Always || (replay == Replay::WhenNew && new) {
                        replays.push((filter, qos));
                    }
                }
                None => codes.push(0x80),
            }
        }
        packet::answers(self.version, 0x90, id, &codes, &mut self.out);
        for (filter, qos) in replays {
            self.hub.replay(number, &filter, qos);
        }
        Ok(())
    }

    fn room(&self) -> bool {
        self.out.len() < FRAME && self.inflight.len() < usize::from(self.inflight_max)
    }

    /// Gathers what waits into the next frame.
    fn deliver(&mut self) {
        if self.hub.behaviour.borrow().silent {
            return;
        }
        while self.room() {
            match self.place.queue.try_recv() {
                Ok(message) => self.give(&message),
                Err(_) => break,
            }
        }
    }

    fn give(&mut self, message: &Message) {
        // MQTT 5, 3.1.2.11.4: what is larger than it takes is passed over.
        if message.topic.len() + message.payload.len() + 16 > self.max_packet {
            return;
        }
        let mut id = 0;
        if message.qos > 0 {
            loop {
                self.next_id = if self.next_id == u16::MAX { 1 } else { self.next_id + 1 };
                // Fewer are in flight than there are identifiers.
                if self.inflight.insert(self.next_id) {
                    break;
                }
            }
            id = self.next_id;
        }
        let written = packet::publish(self.version, message, id, &mut self.out);
        debug_assert!(written, "what came in goes out");
    }

    async fn ended(&mut self, known: bool) -> End {
        let why = *self.place.ended.borrow();
        match why {
            Ended::TakenOver => self.farewell(0x8E).await,
            Ended::Slow => self.farewell(0x97).await,
            Ended::No | Ended::Cut => (),
        }
        End::Broken(if known { format!("{why:?}") } else { "the broker is gone".into() })
    }

    /// DISCONNECT with a reason, if the client takes it soon.
    async fn farewell(&mut self, reason: u8) {
        packet::disconnect(self.version, reason, &mut self.out);
        let all = flush(&mut self.transport, &mut self.out, &mut self.received);
        let _ = time::timeout(Duration::from_millis(300), all).await;
    }
}
