//! A store, a forwarder and a broker in one process.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use forward::broker::{Broker, Handle, Message};
use forward::{Config, Forwarder, Gateway, Link, State};
use reading::{
    Body, Channel, ChannelSpec, Datum, Gap, Kind, Reading, Record, Seq, Timestamp, Unit, Value,
};
use serde_json::Value as Json;
use store::{Appender, Cursor, Store, Subscription};
use tempfile::TempDir;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time;
use tokio_util::sync::CancellationToken;

/// Longer than anything here takes; a hang ends as a failure.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// The broker, on a port of its own.
pub(crate) struct Server {
    pub(crate) url: String,
    pub(crate) tcp: String,
    pub(crate) address: SocketAddr,
    pub(crate) handle: Handle,
    stop: CancellationToken,
    task: JoinSet<()>,
}

impl Server {
    pub(crate) async fn start() -> Server {
        Server::on(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await
    }

    pub(crate) async fn on(address: SocketAddr) -> Server {
        let mut broker = Broker::bind(address).await.expect("a free port");
        let tcp = broker.bind_tcp((Ipv4Addr::LOCALHOST, 0).into()).await.expect("a free port");
        let (url, address, handle) = (broker.url(), broker.address(), broker.handle());
        let (stop, mut task) = (CancellationToken::new(), JoinSet::new());
        task.spawn(broker.run(stop.clone()));
        Server { url, tcp, address, handle, stop, task }
    }

    pub(crate) async fn stop(mut self) {
        self.stop.cancel();
        while self.task.join_next().await.is_some() {}
    }

    /// Everything under the gateway's prefix.
    pub(crate) fn listen(&self) -> Inbox {
        self.listen_to("tidemill/#")
    }

    pub(crate) fn listen_to(&self, filter: &str) -> Inbox {
        Inbox { queue: self.handle.subscribe(filter, 200_000) }
    }
}

/// What a subscriber got.
pub(crate) struct Inbox {
    queue: mpsc::Receiver<Message>,
}

impl Inbox {
    pub(crate) async fn next(&mut self) -> (String, String) {
        let (topic, payload) = self.next_bytes().await;
        (topic, String::from_utf8(payload).expect("text"))
    }

    pub(crate) async fn next_bytes(&mut self) -> (String, Vec<u8>) {
        let message = time::timeout(PATIENCE, self.queue.recv()).await.expect("a message in time");
        let message = message.expect("the subscription holds");
        (message.topic.to_string(), message.payload.to_vec())
    }

    /// The next message to a topic that ends so.
    pub(crate) async fn next_on(&mut self, end: &str) -> String {
        loop {
            let (topic, payload) = self.next().await;
            if topic.ends_with(end) {
                return payload;
            }
        }
    }

    /// Sequence numbers in order of arrival, until the last has come.
    pub(crate) async fn seqs_until(&mut self, last: u64) -> Vec<u64> {
        let mut seqs = Vec::new();
        while seqs.last() != Some(&last) {
            let (topic, payload) = self.next().await;
            if topic.ends_with("/status") || topic.ends_with("/info") {
                continue;
            }
            match serde_json::from_str(&payload).expect("JSON") {
                Json::Array(records) => seqs.extend(records.iter().map(seq)),
                record => seqs.push(seq(&record)),
            }
        }
        seqs
    }
}

pub(crate) fn seq(record: &Json) -> u64 {
    record["seq"].as_u64().expect("a number")
}

/// Takes out what came before: what is left must ascend by one.
pub(crate) fn first_occurrences(seqs: &[u64]) -> Vec<u64> {
    let mut seen = std::collections::HashSet::new();
    seqs.iter().copied().filter(|seq| seen.insert(*seq)).collect()
}

/// A store and one forwarder.
pub(crate) struct Rig {
    pub(crate) store: Store,
    pub(crate) link: watch::Receiver<Link>,
    appender: Appender,
    forwarding: JoinSet<()>,
    writing: JoinSet<()>,
    stop: CancellationToken,
    _folder: TempDir,
}

impl Rig {
    /// `text` is the `[forward.cloud]` section, with `URL` for the broker's.
    pub(crate) async fn start(url: &str, text: &str) -> Rig {
        Rig::with(url, text, |forwarder| forwarder).await
    }

    /// The same with a forwarder that is changed before it runs.
    pub(crate) async fn with(
        url: &str,
        text: &str,
        change: impl FnOnce(Forwarder) -> Forwarder,
    ) -> Rig {
        let text = format!("url = \"{url}\"\n{text}");
        let config: Config = toml::from_str(&text).expect("a configuration");
        assert_eq!(config.check(), Ok(()));
        let folder = tempfile::tempdir().expect("a folder");
        let (store, appender, writer, cursor) = open(&folder, &config).await;
        let gateway = Gateway {
            id: "greenhouse".into(),
            version: "0.1.0",
            channels: channels(),
            epoch: store.epoch(),
        };
        let stop = CancellationToken::new();
        let (forwarder, link) = Forwarder::new("cloud".into(), config, gateway, cursor);
        let (mut forwarding, mut writing) = (JoinSet::new(), JoinSet::new());
        writing.spawn(async move { writer.run().await.expect("a writer that never fails") });
        forwarding.spawn(change(forwarder).run(stop.clone()));
        Rig { store, link, appender, forwarding, writing, stop, _folder: folder }
    }

    /// Stores readings of the counter in `weather/temperature`; returns the
    /// last number.
    pub(crate) async fn read(&mut self, count: u64) -> u64 {
        self.read_values("weather/temperature", (0..count).map(|n| Datum::Number(n as f64))).await
    }

    pub(crate) async fn read_values(
        &mut self,
        channel: &str,
        values: impl Iterator<Item = Datum>,
    ) -> u64 {
        self.read_at(Timestamp::now(), channel, values).await
    }

    pub(crate) async fn read_at(
        &mut self,
        at: Timestamp,
        channel: &str,
        values: impl Iterator<Item = Datum>,
    ) -> u64 {
        let (first, epoch) = (self.appender.next().0, self.appender.epoch());
        let channel: Channel = channel.parse().expect("a channel");
        let record = |(n, datum): (usize, Datum)| Record {
            epoch,
            seq: Seq(first + n as u64),
            body: Body::Reading(Reading {
                channel: channel.clone(),
                at: at + Duration::from_micros(n as u64),
                value: Value::Good(datum),
            }),
        };
        let records: Vec<Record> = values.enumerate().map(record).collect();
        for batch in records.chunks(500) {
            self.appender.append(batch.to_vec()).await.expect("room");
        }
        self.appender.next().0 - 1
    }

    /// Numbers and stores what was lost, as the intake does; returns it.
    pub(crate) async fn tell_losses(&mut self) -> Vec<Gap> {
        let wait = async {
            loop {
                let losses = self.appender.losses();
                if !losses.is_empty() {
                    return losses;
                }
                time::sleep(Duration::from_millis(5)).await;
            }
        };
        let losses = time::timeout(PATIENCE, wait).await.expect("losses in time");
        let (first, epoch) = (self.appender.next().0, self.appender.epoch());
        let record = |(n, gap): (usize, &Gap)| Record {
            epoch,
            seq: Seq(first + n as u64),
            body: Body::Gap(gap.clone()),
        };
        let records = losses.iter().enumerate().map(record).collect();
        self.appender.append(records).await.expect("room");
        losses
    }

    /// Waits until nothing is pending, with so many given up.
    pub(crate) async fn is_settled(&self, acknowledged: u64, dropped: u64) {
        let all = async {
            loop {
                let ledger = self.ledger();
                assert_eq!(
                    ledger.stored,
                    ledger.acknowledged + ledger.pending + ledger.dropped,
                    "the ledger balances"
                );
                if (ledger.acknowledged, ledger.dropped) == (acknowledged, dropped) {
                    return assert_eq!(ledger.pending, 0, "{ledger:?}");
                }
                time::sleep(Duration::from_millis(5)).await;
            }
        };
        if time::timeout(PATIENCE, all).await.is_err() {
            panic!("not settled: {:?} {:?}", self.ledger(), *self.link.borrow());
        }
    }

    pub(crate) async fn is(&mut self, state: State) -> Link {
        let wanted = self.link.wait_for(|link| link.state == state);
        let found = time::timeout(PATIENCE, wanted).await;
        let found = found.ok().map(|link| link.expect("it runs").clone());
        found.unwrap_or_else(|| panic!("not {state}: {:?}", *self.link.borrow()))
    }

    /// Waits for an error that holds the words.
    pub(crate) async fn fails_with(&mut self, words: &str) -> Link {
        let holds = |link: &Link| link.error.as_ref().is_some_and(|error| error.contains(words));
        let found = time::timeout(PATIENCE, self.link.wait_for(holds)).await;
        let found = found.ok().map(|link| link.expect("it runs").clone());
        found.unwrap_or_else(|| panic!("{words:?} isn't told: {:?}", *self.link.borrow()))
    }

    /// Waits until nothing is pending.
    pub(crate) async fn is_acknowledged(&self, stored: u64) {
        self.is_settled(stored, 0).await;
    }

    pub(crate) fn ledger(&self) -> store::ForwarderLedger {
        self.store.status().forwarders.into_iter().next().expect("one forwarder")
    }

    /// An orderly stop of all of it.
    pub(crate) async fn stop(mut self) {
        self.stop.cancel();
        while let Some(result) = self.forwarding.join_next().await {
            result.expect("no panic");
        }
        drop(self.appender);
        time::timeout(PATIENCE, async {
            while let Some(result) = self.writing.join_next().await {
                result.expect("no panic");
            }
        })
        .await
        .expect("the writer ends");
    }
}

async fn open(folder: &TempDir, config: &Config) -> (Store, Appender, store::Writer, Cursor) {
    let path = folder.path().join("tidemill.db");
    let settings = store::Config { path, ..store::Config::default() };
    let subscription = Subscription { forwarder: "cloud".into(), channels: config.patterns() };
    let (store, appender, writer, cursors) =
        Store::open(&settings, &channels(), &[subscription]).await.expect("a store");
    let cursor = cursors.into_iter().next().expect("a cursor");
    (store, appender, writer, cursor)
}

fn channels() -> Vec<ChannelSpec> {
    let spec = |channel: &str, kind, unit| ChannelSpec {
        channel: channel.parse().expect("a channel"),
        kind,
        unit: Unit::of(unit),
        label: None,
        range: None,
        output: false,
    };
    vec![
        spec("weather/temperature", Kind::Number, "Cel"),
        spec("weather/note", Kind::Text, ""),
        spec("panel/door", Kind::Boolean, ""),
        ChannelSpec { output: true, ..spec("panel/pump", Kind::Boolean, "") },
        ChannelSpec { output: true, ..spec("panel/level", Kind::Number, "%") },
    ]
}
