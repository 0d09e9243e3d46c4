use std::collections::VecDeque;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::time::Duration;

use bytes::BytesMut;
use reading::{ChannelSpec, Timestamp};
use tokio::sync::watch;
use tokio::time::{self, Instant};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::backoff::{Backoff, GOOD};
use crate::codec::{Hello, Will};
use crate::commands::{Answer, Commands, SetFn};
use crate::connect::Dial;
use crate::connection::{Aside, Connection, GOODBYE, Phase};
use crate::lanes::{Lanes, Manner};
use crate::lost::Lost;
use crate::outbox::{self, FETCH_MAX};
use crate::quarantine::{Quarantine, REFUSED, SOON, Verdict};
use crate::reason::{OF_THE_BROKER, TAKEN_OVER};
use crate::session::{Session, Settings};
use crate::sparkplug::{Node, Wanted};
use crate::transport::{Closed, Event, FRAME};
use crate::window::{Lane, Progress, Span};
use crate::{
    Config, Endpoint, Gateway, Link, State, Version, connect, homeassistant, payload, secret,
};

/// An orderly stop waits so long for what is in flight. What isn't acknowledged
/// by then is sent again after the next start.
const DRAIN: Duration = Duration::from_secs(3);
/// Answers to a broker that wait to be written: past this nothing more is read,
/// so a broker that floods us only fills its own buffers.
const ANSWERS_MAX: usize = 64 * 1024;
/// So many connections in a row that were made and soon closed without a word
/// look like another client of the same id: MQTT 3.1.1 has no word for it.
const SHORT_MAX: u32 = 3;
/// Messages aside that wait; answers to commands beyond are let fall. A gateway
/// has fewer channels to describe.
const ASIDE_MAX: usize = 10_000;

/// Sends what is in the store to one broker.
pub struct Forwarder {
    name: String,
    config: Config,
    gateway: Gateway,
    cursor: store::Cursor,
    link: watch::Sender<Link>,
    lanes: Lanes,
    quarantine: Quarantine,
    commands: Commands,
    /// How to reach the broker, if not by DNS and TCP.
    dial: Option<Dial>,
    /// The channels when they are others than `gateway` has.
    channels: watch::Receiver<Vec<ChannelSpec>>,
    /// What of the log was in flight when the last connection broke, and in how
    /// many messages.
    unsettled: Option<(Span, usize)>,
    /// Connections in a row that were soon closed.
    short: u32,
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

impl Error {
    /// Whether a message may have been the reason.
    fn is_suspicious(&self) -> bool {
        match self {
            Error::Closed(_) => true,
            Error::Lost(Lost::Disconnected { code, .. }) => !OF_THE_BROKER.contains(code),
            Error::Lost(Lost::PublishRefused { suspicious, .. }) => *suspicious,
            _ => false,
        }
    }
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
        let forwarder = Forwarder {
            name,
            lanes: Lanes::new(&config, &gateway),
            quarantine: Quarantine::default(),
            commands: Commands::new(&config, &gateway),
            dial: None,
            // Its sender is gone, so it never changes.
            channels: watch::channel(Vec::new()).1,
            config,
            gateway,
            cursor,
            link,
            unsettled: None,
            short: 0,
        };
        (forwarder, state)
    }

    /// Carries out commands from the broker for the outputs among its channels.
    /// Without it, none are subscribed to.
    #[must_use]
    pub fn with_outputs(mut self, set: SetFn) -> Forwarder {
        self.commands.carried_out_by(set);
        self
    }

    /// Follows the gateway's channels as they change: the broker is told anew,
    /// and the connection stays.
    #[must_use]
    pub fn following(mut self, channels: watch::Receiver<Vec<ChannelSpec>>) -> Forwarder {
        self.channels = channels;
        self
    }

    /// Reaches brokers through another network than the machine's.
    #[must_use]
    pub fn with_dial(mut self, dial: Dial) -> Forwarder {
        self.dial = Some(dial);
        self
    }

    /// Forwards until told to stop; a broken connection is made again. At the
    /// stop it waits up to three seconds for what is in flight, publishes
    /// `offline` and disconnects.
    pub async fn run(mut self, stop: CancellationToken) {
        let endpoints = self.config.endpoints();
        let hasher = BuildHasherDefault::<DefaultHasher>::default();
        let spread = hasher.hash_one((self.client_id(), self.gateway.epoch));
        let mut backoff = Backoff::new(spread);
        let mut turn = 0;
        while !stop.is_cancelled() {
            let begun = Instant::now();
            let endpoint = endpoints.get(turn % endpoints.len().max(1));
            turn = turn.wrapping_add(1);
            let error = match self.connection(endpoint, &stop).await {
                Ok(()) => break,
                Err(error) => error,
            };
            let was_online = self.link.borrow().state == State::Online;
            let good = begun.elapsed() >= GOOD && was_online;
            if good {
                backoff.reset();
            }
            self.short = match &error {
                Error::Closed(_) if was_online && !good => self.short + 1,
                _ => 0,
            };
            if matches!(error, Error::Lost(Lost::Disconnected { code: TAKEN_OVER, .. })) {
                backoff.yield_to_other();
            }
            let verdict = self.judge(&error).await;
            self.offline(&error, verdict);
            if matches!(verdict, Verdict::Guilty(_)) {
                backoff.reset();
            }
            let wait = match verdict {
                Verdict::Suspect => backoff.next().min(SOON),
                _ => backoff.next(),
            };
            let _ = stop.run_until_cancelled(time::sleep(wait)).await;
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
        let connecting =
            connect::connect(&self.config, endpoint.ok_or(Error::NoUrl)?, self.dial.as_ref());
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
            aside: VecDeque::new(),
            closed: false,
            phase: Phase::Running,
        };
        self.lanes.restart(self.cursor.position());
        self.follow();
        let result = self.converse(&mut connection, stop).await;
        self.unsettled = connection.session.unsettled();
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
            if connection.is_stuck(self.config.ack_timeout) {
                return Err(Error::Stuck(self.config.ack_timeout));
            }
            let status = self.prefixed("status");
            if connection.left(now, || goodbye(status, self.lanes.node())) {
                return self.leave(connection).await;
            }
            if connection.phase == Phase::Running {
                connection.put_aside(now);
                // What a reading is of comes before it.
                if connection.aside.is_empty() {
                    self.send(connection, now).await?;
                }
            }
            connection.hand_over(now);
            self.count(connection, 0);
            let running = connection.phase == Phase::Running;
            let sends = running && connection.session.is_open();
            let waits = self.lanes.waits().filter(|_| sends && !connection.closed);
            let mut deadline = connection.deadline(self.config.ack_timeout);
            if let Some(next) = self.lanes.next(now).filter(|_| sends) {
                deadline = deadline.min(next);
            }
            let reading = connection.out.len() < ANSWERS_MAX;
            // In this order: the broker, who may have something for us at every
            // turn, comes last. Random order couldn't be simulated.
            tokio::select! {
                biased;
                () = stop.cancelled(), if running => {
                    connection.phase = Phase::Draining(Instant::now() + DRAIN);
                }
                open = self.cursor.wait(waits.unwrap_or_default()), if waits.is_some() => {
                    self.lanes.wake();
                    connection.closed = !open;
                }
                Ok(()) = self.channels.changed(), if running => {
                    let asked = self.commands.filter().is_some();
                    let before = self.follow();
                    if connection.session.is_open() {
                        if !asked {
                            self.ask(connection, Instant::now());
                        }
                        self.describe(connection, &before);
                    }
                }
                answer = self.commands.next(), if sends && !self.commands.is_idle() => {
                    self.answer(connection, &answer);
                }
                event = connection.transport.next(&mut connection.received, reading) => {
                    self.happened(event?, connection).await?;
                }
                () = time::sleep_until(deadline) => (),
            }
        }
    }

    /// Reads on in the log and publishes, as far as window, frame and pace
    /// allow.
    async fn send(&mut self, connection: &mut Connection, now: Instant) -> Result<(), Error> {
        if !connection.session.is_open() {
            return Ok(());
        }
        let careful = self.quarantine.careful(self.lanes.sent());
        connection.session.one_by_one(careful);
        let manner = Manner { careful, calm: self.quarantine.calm(now) };
        let Connection { session, out, .. } = connection;
        let sent = self.lanes.send(&self.cursor, session, manner, now, out).await?;
        self.count(connection, sent);
        Ok(())
    }

    async fn happened(&mut self, event: Event, connection: &mut Connection) -> Result<(), Error> {
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
        self.settle(&progress).await?;
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
        for delivery in connection.session.deliveries() {
            match self.lanes.node().map(|node| node.wanted(&delivery)) {
                None => {
                    if let Some(answer) = self.commands.take(&delivery, Timestamp::now()) {
                        self.answer(connection, &answer);
                    }
                }
                Some(Ok(wanted)) => self.obey(connection, wanted),
                Some(Err(why)) => warn!(forwarder = self.name, why, "a command is refused"),
            }
        }
        Ok(())
    }

    /// What became of a command. Of Sparkplug's the answer is the reading that
    /// follows, and the log has what was refused.
    fn answer(&mut self, connection: &mut Connection, answer: &Answer) {
        if self.lanes.node().is_some() || connection.aside.len() >= ASIDE_MAX {
            return;
        }
        let (topic, payload) = self.commands.message(answer);
        connection.aside.push_back(Aside { topic, payload, retain: false });
    }

    /// What a host of Sparkplug wants.
    fn obey(&mut self, connection: &mut Connection, wanted: Vec<Wanted>) {
        for wanted in wanted {
            match wanted {
                Wanted::Rebirth if connection.aside.is_empty() => self.describe(connection, &[]),
                // It is being born already.
                Wanted::Rebirth => (),
                Wanted::Set(device, channel, value) => {
                    drop(self.commands.wanted(format!("{device}/{channel}"), &value));
                }
            }
        }
    }

    async fn settle(&mut self, progress: &Progress) -> Result<(), Error> {
        for (part, why) in &progress.refused {
            // What is refused in the fresh lane is met again in the other.
            if part.lane == Lane::Log {
                self.drop_refused(part.span, why).await?;
            }
        }
        if progress.readings > 0 {
            self.quarantine.taken();
        }
        if let Some(through) = progress.through {
            self.cursor.acknowledge(through);
        }
        self.lanes.settle(progress, self.cursor.position());
        Ok(())
    }

    /// The broker will never have these: they are counted as dropped, and told.
    async fn drop_refused(&mut self, span: Span, why: &str) -> Result<(), store::Error> {
        let (mut records, _) = self.cursor.unsent(span.after, FETCH_MAX).await?;
        records.retain(|record| record.seq <= span.through);
        let channel = records.first().and_then(|record| record.reading()).map(|r| &r.channel);
        warn!(
            forwarder = self.name,
            readings = records.len(),
            first = span.after.0 + 1,
            channel = channel.map(ToString::to_string),
            why,
            "{REFUSED}: they are told as a gap"
        );
        self.cursor.skip(&records, REFUSED);
        Ok(())
    }

    /// Whether it was a message that broke the connection; if it is known which,
    /// it is passed over.
    async fn judge(&mut self, error: &Error) -> Verdict {
        let Some((unsettled, messages)) = self.unsettled.take() else { return Verdict::Innocent };
        if !error.is_suspicious() {
            return Verdict::Innocent;
        }
        let verdict = self.quarantine.lost(unsettled, messages, Instant::now());
        if let Verdict::Guilty(span) = verdict {
            let why = error.to_string();
            if let Err(error) = self.drop_refused(span, &why).await {
                // It breaks the connection again, and is found again.
                debug!(forwarder = self.name, %error, "the store can't be read");
                return Verdict::Suspect;
            }
            self.cursor.acknowledge(span.through);
        }
        verdict
    }

    /// The broker has let us in: what subscribers find first.
    fn online(&mut self, connection: &mut Connection, now: Instant) {
        self.ask(connection, now);
        if self.lanes.node().is_none() {
            connection.retain(self.prefixed("status"), b"online".to_vec());
        }
        self.describe(connection, &[]);
        let since = self.link.borrow().since;
        let away = Timestamp::now().since(since);
        let resumed = connection.session.resumed();
        info!(forwarder = self.name, ?away, resumed, "online");
        self.told(State::Online, None);
    }

    /// Subscribes to commands for outputs, if there are any.
    fn ask(&mut self, connection: &mut Connection, now: Instant) {
        let filter = self.commands.filter();
        let filters = match self.lanes.node() {
            Some(node) => node.filters(filter.is_some()),
            None => filter.into_iter().collect(),
        };
        if !filters.is_empty() {
            connection.session.subscribe(&filters, now, &mut connection.out);
        }
    }

    /// What the gateway measures, and of what it no longer does that it is gone.
    fn describe(&mut self, connection: &mut Connection, before: &[ChannelSpec]) {
        let patterns = self.config.patterns();
        let ours = |spec: &&ChannelSpec| patterns.iter().any(|p| p.matches(&spec.channel));
        let channels = self.gateway.channels.iter().filter(ours);
        if let Some(node) = self.lanes.node() {
            for (topic, payload) in node.births(&self.gateway, channels) {
                connection.aside.push_back(Aside { topic, payload, retain: false });
            }
            return;
        }
        connection.retain(self.prefixed("info"), payload::info(&self.gateway, channels.clone()));
        if !self.config.homeassistant {
            return;
        }
        let prefix = outbox::prefix(&self.config, &self.gateway);
        let discovery = |spec| homeassistant::discovery(&self.gateway, &prefix, spec);
        let known: Vec<_> = channels.map(discovery).collect();
        for (topic, _) in before.iter().filter(ours).map(discovery) {
            if known.iter().all(|(kept, _)| *kept != topic) {
                // An empty retained message takes the entity away.
                connection.retain(topic, Vec::new());
            }
        }
        for (topic, config) in known {
            connection.retain(topic, config);
        }
    }

    /// Takes up the channels as they are now; gives those of before.
    fn follow(&mut self) -> Vec<ChannelSpec> {
        let channels = self.channels.borrow_and_update().clone();
        // Nobody has said anything yet, or never will.
        if channels.is_empty() {
            return Vec::new();
        }
        let before = std::mem::replace(&mut self.gateway.channels, channels);
        self.lanes.describe(&self.gateway);
        self.commands.describe(&self.config, &self.gateway);
        before
    }

    /// Tells the log when readings stop flowing, and the page why they don't.
    fn offline(&self, error: &Error, verdict: Verdict) {
        let state = self.link.borrow().state;
        let error = match verdict {
            Verdict::Broker => format!("{error}, whatever it is sent: is it allowed to publish?"),
            _ if self.short >= SHORT_MAX && self.config.version == Version::V4 => format!(
                "{error}, again and again: does another client have the id {}?",
                self.client_id()
            ),
            _ => error.to_string(),
        };
        if state == State::Offline {
            debug!(forwarder = self.name, %error, "still offline");
        } else {
            warn!(forwarder = self.name, %error, "offline: readings wait in the store");
        }
        self.told(State::Offline, Some(error));
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

    fn settings(&mut self) -> Result<Settings, Error> {
        let (topic, payload, retain) = match self.lanes.node() {
            Some(node) => {
                let (topic, payload) = node.will();
                (topic, payload, false)
            }
            None => (self.prefixed("status"), b"offline".to_vec(), true),
        };
        let clean = self.lanes.node().is_some();
        let config = &self.config;
        let hello = Hello {
            client_id: self.client_id(),
            username: config.username.clone().unwrap_or_default(),
            password: secret::password(config)?.unwrap_or_default(),
            will: Some(Will { topic, payload, retain }),
            keep_alive: u16::try_from(config.keep_alive.as_secs()).unwrap_or(u16::MAX),
            // A host of Sparkplug expects births, not what was before.
            clean,
        };
        Ok(Settings {
            version: config.version,
            hello,
            inflight: config.inflight,
            max_packet: usize::try_from(config.max_packet.as_u64()).unwrap_or(usize::MAX),
            ack_timeout: config.ack_timeout,
        })
    }

    fn client_id(&self) -> String {
        let given = self.config.client_id.clone();
        given.unwrap_or_else(|| format!("{}-{}", self.gateway.id, self.name))
    }

    fn prefixed(&self, rest: &str) -> String {
        format!("{}/{rest}", outbox::prefix(&self.config, &self.gateway))
    }
}

/// What an orderly stop tells.
fn goodbye(status: String, node: Option<&mut Node>) -> Aside {
    match node {
        Some(node) => {
            let (topic, payload) = node.death();
            Aside { topic, payload, retain: false }
        }
        None => Aside { topic: status, payload: b"offline".to_vec(), retain: true },
    }
}
