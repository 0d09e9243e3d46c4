//! What is watched of every part, and the status it amounts to.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dashboard::{Clock, DeviceState, DeviceStatus, ForwarderStatus, Ledger, LinkState, Status};
use device::Health;
use forward::Link;
use reading::clock::as_set;
use reading::{ChannelSpec, Timestamp};
use store::Store;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::config::Config;
use crate::redact::Secrets;
use crate::watchdog::Progress;
use crate::{VERSION, clock, gateway};

/// Every part that can say how it is.
pub(crate) struct Observed {
    id: String,
    store: Store,
    started: Timestamp,
    since: Instant,
    parts: Mutex<Parts>,
    /// How often the gateway has read itself, all channels counted.
    own_readings: AtomicU64,
}

/// What comes and goes with the configuration, in its order.
#[derive(Default)]
struct Parts {
    devices: Vec<(Device, watch::Receiver<Health>)>,
    forwarders: Vec<(Forwarder, watch::Receiver<Link>)>,
    own_channels: Vec<String>,
    /// The order of the devices.
    order: Vec<String>,
    /// The configuration as it was written.
    text: String,
}

/// What doesn't change of a device.
pub(crate) struct Device {
    name: String,
    label: Option<String>,
    driver: &'static str,
    channels: Vec<String>,
}

/// What doesn't change of a forwarder.
pub(crate) struct Forwarder {
    name: String,
    url: String,
    /// No turn of its loop takes longer than its deadlines together.
    patience: Duration,
}

fn names(specs: &[ChannelSpec]) -> Vec<String> {
    specs.iter().map(|spec| spec.channel.to_string()).collect()
}

impl Observed {
    /// Nothing is watched yet but the store.
    pub(crate) fn new(config: &Config, store: Store) -> Observed {
        Observed {
            id: config.gateway.id.clone(),
            store,
            started: Timestamp::now(),
            since: Instant::now(),
            parts: Mutex::default(),
            own_readings: AtomicU64::new(0),
        }
    }

    /// The parts are those of this configuration: what isn't in it is watched no
    /// longer, and what comes has its place.
    pub(crate) fn arrange(&self, config: &Config) {
        let mut parts = self.parts();
        parts.order = config.devices.iter().map(|device| device.name().to_owned()).collect();
        parts.own_channels = names(&config.own_channels());
        parts.text.clone_from(&config.text);
        let Parts { devices, forwarders, order, .. } = &mut *parts;
        devices.retain(|(device, _)| order.contains(&device.name));
        forwarders.retain(|(forwarder, _)| config.forwarders.contains_key(&forwarder.name));
    }

    /// The configuration that runs, without comments and secrets.
    pub(crate) fn configuration(&self) -> String {
        let text = self.parts().text.clone();
        Secrets::of_text(&text).masked(&text)
    }

    fn parts(&self) -> MutexGuard<'_, Parts> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Watches a device, instead of the one of its name.
    pub(crate) fn device(&self, device: Device, health: watch::Receiver<Health>) {
        let mut parts = self.parts();
        let Parts { devices, order, .. } = &mut *parts;
        devices.retain(|(known, _)| known.name != device.name);
        devices.push((device, health));
        devices.sort_by_key(|(known, _)| order.iter().position(|name| *name == known.name));
    }

    /// The gateway has read itself.
    pub(crate) fn own(&self, readings: usize) {
        self.own_readings.fetch_add(readings as u64, Ordering::Relaxed);
    }

    /// Watches a forwarder, instead of the one of its name.
    pub(crate) fn forwarder(&self, forwarder: Forwarder, link: watch::Receiver<Link>) {
        let mut parts = self.parts();
        parts.forwarders.retain(|(known, _)| known.name != forwarder.name);
        parts.forwarders.push((forwarder, link));
        parts.forwarders.sort_by(|(a, _), (b, _)| a.name.cmp(&b.name));
    }

    /// How far the parts that have work have got, for the watchdog.
    pub(crate) fn progress(&self) -> Vec<Progress> {
        let store = self.store.status();
        let writer = Progress {
            part: "writer".to_owned(),
            // A fault of the disk is known and told, and no restart mends it.
            busy: store.queued > 0 && store.error.is_none(),
            mark: store.read,
            patience: Duration::ZERO,
        };
        let parts = self.parts();
        let forwarders = parts.forwarders.iter().map(|(forwarder, link)| {
            let ledger = store.forwarders.iter().find(|ledger| ledger.name == forwarder.name);
            Progress {
                part: format!("forwarder {}", forwarder.name),
                busy: ledger.is_some_and(|ledger| ledger.pending > 0),
                mark: link.borrow().turns,
                patience: forwarder.patience,
            }
        });
        forwarders.chain([writer]).collect()
    }

    /// How everything is now; from memory.
    pub(crate) fn status(&self) -> Status {
        let store = self.store.status();
        let parts = self.parts();
        let forwarders = parts.forwarders.iter().map(|(forwarder, link)| {
            let ledger = store.forwarders.iter().find(|ledger| ledger.name == forwarder.name);
            forwarder.status(&link.borrow(), &ledger.cloned().unwrap_or_default())
        });
        let devices = parts.devices.iter().map(|(device, health)| device.status(&health.borrow()));
        let own = DeviceStatus {
            name: gateway::DEVICE.to_owned(),
            label: Some("Gateway".to_owned()),
            driver: gateway::DEVICE.to_owned(),
            state: DeviceState::Ok,
            since: as_set(self.started).to_string(),
            error: None,
            readings: self.own_readings.load(Ordering::Relaxed),
            bad: 0,
            channels: parts.own_channels.clone(),
        };
        Status {
            gateway: self.id.clone(),
            version: VERSION.to_owned(),
            epoch: self.store.epoch().to_string(),
            time: Timestamp::now().to_string(),
            started: as_set(self.started).to_string(),
            uptime_s: self.since.elapsed().as_secs(),
            clock: Clock { held: store.held, ..clock::state() },
            devices: devices.chain([own]).collect(),
            forwarders: forwarders.collect(),
            ledger: Ledger::of(&store),
            store,
        }
    }
}

impl Device {
    pub(crate) fn of(config: &device::Config) -> Device {
        Device {
            name: config.name().to_owned(),
            label: config.label().map(str::to_owned),
            driver: config.driver(),
            channels: names(&config.channels()),
        }
    }

    fn status(&self, health: &Health) -> DeviceStatus {
        DeviceStatus {
            name: self.name.clone(),
            label: self.label.clone(),
            driver: self.driver.to_owned(),
            state: match health.state {
                device::State::Opening => DeviceState::Opening,
                device::State::Ok => DeviceState::Ok,
                device::State::Lost => DeviceState::Lost,
            },
            since: as_set(health.since).to_string(),
            error: health.error.clone(),
            readings: health.readings,
            bad: health.bad,
            channels: self.channels.clone(),
        }
    }
}

impl Forwarder {
    pub(crate) fn of(name: &str, config: &forward::Config) -> Forwarder {
        Forwarder { name: name.to_owned(), url: config.shown_url(), patience: config.patience() }
    }

    fn status(&self, link: &Link, ledger: &store::ForwarderLedger) -> ForwarderStatus {
        ForwarderStatus {
            name: self.name.clone(),
            url: self.url.clone(),
            state: match link.state {
                forward::State::Connecting => LinkState::Connecting,
                forward::State::Online => LinkState::Online,
                forward::State::Offline => LinkState::Offline,
            },
            since: as_set(link.since).to_string(),
            error: link.error.clone(),
            in_flight: link.in_flight,
            stored: ledger.stored,
            acknowledged: ledger.acknowledged,
            pending: ledger.pending,
            dropped: ledger.dropped,
        }
    }
}
