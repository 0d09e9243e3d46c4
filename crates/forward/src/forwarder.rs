use std::time::Duration;

use bytes::BytesMut;
use reading::Timestamp;
use tokio::sync::watch;
use tokio::time::{self, Instant};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::backoff::{Backoff, GOOD};
use crate::codec::Hello;
use crate::lost::Lost;
use crate::outbox::{self, FETCH_MAX, Outbox};
use crate::session::{Message, Session, Settings};
use crate::transport::{Closed, Event, FRAME, Transport};
use crate::window::Progress;
use crate::{Config, Endpoint, Gateway, Link, State, connect, payload, secret};

/// An orderly stop waits so long for what is in flight. What isn't acknowledged
/// by then is sent again after the next start.
const DRAIN: Duration = Duration::from_secs(3);
/// For goodbye on the layers below MQTT, which few servers answer in time.
const GOODBYE: Duration = Duration::from_millis(500);
/// Answers to a broker that wait to be written: past this nothing more is read,
/// so a broker that floods us only fills its own buffers.
const ANSWERS_MAX: usize = 64 * 1024;

/// Sends what is in the store to one broker.
pub struct Forwarder {
    name: String,
    config: Config,
    gateway: Gateway,
    cursor: store::Cursor,
    link: watch::Sender<Link>,
    outbox: Outbox,
}

/// Why a connection is over, or wasn't made.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Secret(#[from] secret::Error),
    #[error(transparent)]
    Connect(#[from] connect::Error),
    #[error(transparent)]
    Lost(#[from] Lost),
    #[error(transparent)]
    Closed(#[from] Closed),
    #[error("the connection took nothing for {0:?}")]
    Stuck(Duration),
    #[error("the store can't be read: {0}")]
    Store(#[from] store::Error),
    #[error("no URL: set `url`")]
    NoUrl,
}

/// How an orderly stop proceeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Readings flow.
    Running,
    /// Nothing new is sent; what is in flight is waited for.
    Draining(Instant),
    /// `offline` is sent; its acknowledgement is waited for.
    Leaving(Instant),
}

/// One connection's moving parts.
struct Connection {
    transport: Transport,
    session: Session,
    /// From the broker, not yet whole packets: bounded by the largest packet and
    /// one read.
    received: BytesMut,
    /// For the broker, gathered while the last frame is being written.
    out: BytesMut,
    /// Since when the frame being written makes no way.
    stuck_since: Instant,
    /// Whether the log may hold something after what was looked at.
    more: bool,
    /// The store has closed: nothing more will come from it.
    closed: bool,
    phase: Phase,
}

impl Forwarder {
    /// A forwarder, and how its connection stands.
    pub fn new(
        name: String,
        config: Config,
        gateway: Gateway,
        cursor: store::Cursor,
    ) -> (Forwarder, watch::Receiver<Link>) {
        let (link, state) = watch::channel(Link::new());
        let outbox = Outbox::new(&config, &gateway);
        (Forwarder { name, config, gateway, cursor, link, outbox }, state)
    }

    /// Forwards until told to stop; a broken connection is made again. At the
    /// stop it waits up to three seconds for what is in flight, publishes
    /// `offline` and disconnects.
    pub async fn run(mut self, stop: CancellationToken) {
        let endpoints = self.config.endpoints();
        let mut backoff = Backoff::new();
        let mut turn = 0;
        while !stop.is_cancelled() {
            let begun = Instant::now();
            let endpoint = endpoints.get(turn % endpoints.len().max(1));
            turn = turn.wrapping_add(1);
            let error = match self.connection(endpoint, &stop).await {
                Ok(()) => break,
                Err(error) => error,
            };
            if begun.elapsed() >= GOOD && self.link.borrow().state == State::Online {
                backoff.reset();
            }
            if matches!(error, Error::Lost(Lost::Disconnected { taken_over: true, .. })) {
                backoff.yield_to_other();
            }
            self.offline(&error);
            let _ = stop.run_until_cancelled(time::sleep(backoff.next())).await;
        }
        self.told(State::Offline, Some("the gateway stops".to_owned()));
    }

    /// One connection, until it breaks or is told to stop.
    async fn connection(
        &mut self,
        endpoint: Option<&Endpoint>,
        stop: &CancellationToken,
    ) -> Result<(), Error> {
        let settings = self.settings()?;
        let connecting = connect::connect(&self.config, endpoint.ok_or(Error::NoUrl)?);
        let Some(transport) = stop.run_until_cancelled(connecting).await else { return Ok(()) };
        let (transport, now) = (transport?, Instant::now());
        let mut out = BytesMut::with_capacity(FRAME);
        let session = Session::new(&settings, now, &mut out);
        let mut connection = Connection {
            transport,
            session,
            received: BytesMut::new(),
            out,
            stuck_since: now,
            more: true,
            closed: false,
            phase: Phase::Running,
        };
        self.outbox.restart(self.cursor.position());
        let result = self.converse(&mut connection, stop).await;
        if result.is_ok() {
            let _ = time::timeout(GOODBYE, connection.transport.close()).await;
        }
        result
    }

    async fn converse(
        &mut self,
        connection: &mut Connection,
        stop: &CancellationToken,
    ) -> Result<(), Error> {
        loop {
            let now = Instant::now();
            connection.session.tick(now, &mut connection.out)?;
            if connection.left(now, &self.prefixed("status")) {
                return self.leave(connection).await;
            }
            if connection.phase == Phase::Running {
                self.send(connection, now).await?;
            }
            connection.hand_over(now);
            self.count(connection, 0);
            let running = connection.phase == Phase::Running;
            let wants = running && connection.session.is_open() && self.outbox.wants();
            let waits = wants && !connection.more && !connection.closed;
            let deadline = connection.deadline(self.config.ack_timeout);
            let reading = connection.out.len() < ANSWERS_MAX;
            tokio::select! {
                event = connection.transport.next(&mut connection.received, reading) => {
                    self.happened(event?, connection)?;
                }
                open = self.cursor.wait(self.outbox.looked()), if waits => {
                    connection.more = open;
                    connection.closed = !open;
                }
                () = time::sleep_until(deadline) => {
                    if connection.is_stuck(self.config.ack_timeout) {
                        return Err(Error::Stuck(self.config.ack_timeout));
                    }
                }
                () = stop.cancelled(), if running => {
                    connection.phase = Phase::Draining(Instant::now() + DRAIN);
                }
            }
        }
    }

    /// Reads on in the log and publishes, as far as window and frame allow.
    async fn send(&mut self, connection: &mut Connection, now: Instant) -> Result<(), Error> {
        if !connection.session.is_open() {
            return Ok(());
        }
        loop {
            let sent = self.outbox.fill(&mut connection.session, now, &mut connection.out);
            self.count(connection, sent);
            if !connection.more || !self.outbox.wants() {
                return Ok(());
            }
            let before = self.outbox.looked();
            let (records, looked) = self.cursor.unsent(before, FETCH_MAX).await?;
            connection.more = looked > before;
            if records.is_empty() && looked > before && self.outbox.is_empty() {
                // None of it is for this broker.
                if !connection.session.extend(looked) {
                    self.cursor.acknowledge(looked);
                }
            }
            self.outbox.put(records, looked);
        }
    }

    fn happened(&mut self, event: Event, connection: &mut Connection) -> Result<(), Error> {
        let now = Instant::now();
        if event == Event::Sent {
            connection.stuck_since = now;
            return Ok(());
        }
        let was_open = connection.session.is_open();
        let mut progress = Progress::default();
        let Connection { session, received, out, .. } = connection;
        let result = session.receive(received, now, &mut progress, out);
        // What came before a fault is acknowledged all the same.
        if let Some(through) = progress.through {
            self.cursor.acknowledge(through);
        }
        self.link.send_if_modified(|link| {
            link.acknowledged += progress.readings;
            link.in_flight = session.in_flight();
            false
        });
        result?;
        if !was_open && session.is_open() {
            self.online(connection, now);
        }
        if let Some(complaint) = connection.session.complaint() {
            warn!(forwarder = self.name, "{complaint}");
        }
        Ok(())
    }

    /// The broker has let us in: what subscribers find first.
    fn online(&mut self, connection: &mut Connection, now: Instant) {
        connection.publish_retained(&self.prefixed("status"), b"online", now);
        let patterns = self.config.patterns();
        let ours = |channel| patterns.iter().any(|pattern| pattern.matches(channel));
        let channels = self.gateway.channels.iter().filter(|spec| ours(&spec.channel));
        let described = payload::info(&self.gateway, channels);
        let topic = self.prefixed("info");
        if described.len() <= connection.session.payload_max(topic.len()) {
            connection.publish_retained(&topic, &described, now);
        } else {
            let bytes = described.len();
            warn!(forwarder = self.name, bytes, "{topic} is larger than the broker takes");
        }
        let since = self.link.borrow().since;
        let away = Timestamp::now().since(since);
        let resumed = connection.session.resumed();
        info!(forwarder = self.name, ?away, resumed, "online");
        self.told(State::Online, None);
    }

    /// Tells the log when readings stop flowing, and the page why they don't.
    fn offline(&self, error: &Error) {
        let state = self.link.borrow().state;
        if state == State::Offline {
            debug!(forwarder = self.name, %error, "still offline");
        } else {
            warn!(forwarder = self.name, %error, "offline: readings wait in the store");
        }
        self.told(State::Offline, Some(error.to_string()));
        self.link.send_modify(|link| {
            link.in_flight = 0;
            link.turns += 1;
        });
    }

    fn told(&self, state: State, error: Option<String>) {
        self.link.send_if_modified(|link| {
            let changed = link.state != state || link.error != error;
            if link.state != state {
                link.since = Timestamp::now();
            }
            link.state = state;
            link.error = error;
            changed
        });
    }

    /// Figures change silently: whoever shows them asks at a pace of its own.
    fn count(&self, connection: &Connection, sent: u64) {
        self.link.send_if_modified(|link| {
            link.sent += sent;
            link.turns += 1;
            link.in_flight = connection.session.in_flight();
            false
        });
    }

    /// DISCONNECT, so that the broker drops the will.
    async fn leave(&mut self, connection: &mut Connection) -> Result<(), Error> {
        connection.session.end(&mut connection.out);
        let flush = async {
            while !connection.out.is_empty() || !connection.transport.is_idle() {
                connection.hand_over(Instant::now());
                connection.transport.next(&mut connection.received, false).await?;
            }
            Ok::<(), Closed>(())
        };
        // A broker that is gone needs no goodbye.
        let _ = time::timeout(GOODBYE, flush).await;
        info!(forwarder = self.name, "disconnected");
        Ok(())
    }

    fn settings(&self) -> Result<Settings, Error> {
        let config = &self.config;
        let client_id = config
            .client_id
            .clone()
            .unwrap_or_else(|| format!("{}-{}", self.gateway.id, self.name));
        let hello = Hello {
            client_id,
            username: config.username.clone().unwrap_or_default(),
            password: secret::password(config)?.unwrap_or_default(),
            will: Some((self.prefixed("status"), "offline")),
            keep_alive: u16::try_from(config.keep_alive.as_secs()).unwrap_or(u16::MAX),
            clean: false,
        };
        Ok(Settings {
            version: config.version,
            hello,
            inflight: config.inflight,
            max_packet: usize::try_from(config.max_packet.as_u64()).unwrap_or(usize::MAX),
            ack_timeout: config.ack_timeout,
        })
    }

    fn prefixed(&self, rest: &str) -> String {
        format!("{}/{rest}", outbox::prefix(&self.config, &self.gateway))
    }
}

impl Connection {
    /// Gives what was gathered to the transport once it has written the last.
    fn hand_over(&mut self, now: Instant) {
        if self.transport.is_idle() && !self.out.is_empty() {
            self.transport.send(self.out.split().freeze());
            self.stuck_since = now;
        }
    }

    fn is_stuck(&self, timeout: Duration) -> bool {
        !self.transport.is_idle() && self.stuck_since.elapsed() >= timeout
    }

    fn deadline(&self, timeout: Duration) -> Instant {
        let mut deadline = self.session.deadline();
        if !self.transport.is_idle() {
            deadline = deadline.min(self.stuck_since + timeout);
        }
        match self.phase {
            Phase::Running => deadline,
            Phase::Draining(end) | Phase::Leaving(end) => deadline.min(end),
        }
    }

    /// Steps through an orderly stop; `true` once it is time to disconnect.
    fn left(&mut self, now: Instant, status: &str) -> bool {
        let done = |session: &Session, end| session.is_idle() || now >= end;
        match self.phase {
            Phase::Running => false,
            Phase::Draining(_) if !self.session.is_open() => true,
            Phase::Draining(end) => {
                if done(&self.session, end) {
                    if self.session.room() == 0 {
                        return true;
                    }
                    self.publish_retained(status, b"offline", now);
                    self.phase = Phase::Leaving(end.max(now + GOODBYE));
                }
                false
            }
            Phase::Leaving(end) => done(&self.session, end),
        }
    }

    fn publish_retained(&mut self, topic: &str, payload: &[u8], now: Instant) {
        let message = Message { topic, payload, retain: true, through: None, readings: 0 };
        self.session.publish(&message, now, &mut self.out);
    }
}
