//! The parts that come and go with the configuration: devices, forwarders and
//! the dashboard. Starting is a change like any other: from nothing.

mod change;
mod keys;
mod trial;

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use dashboard::{Access, App, Configuration, Hub};
use device::{Driven, Runner};
use forward::Forwarder;
use reading::{Channel, ChannelSpec, Datum, Reading};
use store::{Cursor, Store};
use tokio::net::UnixListener;
use tokio::sync::{mpsc, watch};
use tokio::time;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::alarms;
use crate::config::Config;
use crate::lines::Lines;
use crate::outputs::{self, Outputs};
use crate::status::{self, Observed};
use crate::supervisor::Supervisor;
use crate::watchdog::Pulse;
use crate::{VERSION, control_socket, listen};
use change::Change;
use trial::Trial;

/// How long the store may take to count what waits for a forwarder that comes:
/// a second for some millions of readings.
const STORE_MAX: Duration = Duration::from_secs(60);

/// How often the intake is asked whether it has taken in what devices left: as
/// long as one of its turns.
const TURN: Duration = Duration::from_millis(25);

/// The gateway as it is configured now.
pub(crate) struct Assembly {
    pub(crate) parts: Supervisor,
    store: Store,
    hub: Hub,
    observed: Arc<Observed>,
    outputs: Arc<Outputs>,
    lines: Arc<Lines>,
    access: Access,
    /// The alarms' way to the outputs, once there is one.
    driven: Option<mpsc::Sender<Driven>>,
    /// The devices' way to the intake.
    batches: mpsc::Sender<Vec<Reading>>,
    /// The turns of the intake.
    pulse: Pulse,
    /// What forwarders tell their brokers of.
    channels: watch::Sender<Vec<ChannelSpec>>,
    /// Cancelled when the intake is done: forwarders and browsers are to see what
    /// it takes in last.
    quiet: CancellationToken,
    control: PathBuf,
    /// Where commands connect, until the first dashboard takes it.
    listener: Option<UnixListener>,
    running: Running,
    trial: Trial,
}

/// What is configured of the parts that run.
#[derive(Default)]
struct Running {
    text: String,
    gateway: crate::config::Gateway,
    store: store::Config,
    dashboard: Option<dashboard::Config>,
    devices: HashMap<String, toml::Table>,
    forwarders: BTreeMap<String, forward::Config>,
}

impl Assembly {
    /// Nothing of the configuration runs yet.
    pub(crate) fn new(
        parts: Supervisor,
        (config, store): (&Config, Store),
        hub: Hub,
        (batches, pulse): (mpsc::Sender<Vec<Reading>>, Pulse),
        quiet: CancellationToken,
        listener: Option<UnixListener>,
    ) -> Assembly {
        let running = Running {
            gateway: config.gateway.clone(),
            store: config.store.clone(),
            ..Running::default()
        };
        Assembly {
            parts,
            observed: Arc::new(Observed::new(config, store.clone())),
            store,
            hub,
            outputs: Arc::default(),
            lines: Arc::default(),
            access: Access::open(&config.store.path.with_file_name("access.json")),
            driven: None,
            batches,
            pulse,
            channels: watch::Sender::new(Vec::new()),
            quiet,
            control: control_socket(config),
            listener,
            running,
            trial: Trial::default(),
        }
    }

    /// What is watched of all parts.
    pub(crate) fn observed(&self) -> Arc<Observed> {
        self.observed.clone()
    }

    /// Runs until `shutdown`, taking up each configuration that comes. `Some` is
    /// one that takes a new start.
    ///
    /// # Errors
    /// Why a part ended that was not told to.
    pub(crate) async fn run(
        mut self,
        changes: &mut mpsc::Receiver<Config>,
        shutdown: impl Future<Output = ()>,
    ) -> anyhow::Result<Option<Config>> {
        let mut shutdown = pin!(shutdown);
        let outcome = loop {
            tokio::select! {
                () = &mut shutdown => break Ok(None),
                error = self.parts.ended() => break Err(error),
                next = self.trial.next() => {
                    if let Err(error) = self.proceed(next).await {
                        break Err(error);
                    }
                }
                Some(config) = changes.recv() => {
                    if !self.running.may_become(&config) {
                        info!("the gateway starts anew: [gateway] or [store] has changed");
                        break Ok(Some(config));
                    }
                    self.trial.over();
                    if let Err(error) = self.become_as(config, None).await {
                        break Err(error);
                    }
                    sd_notify::notify(&[sd_notify::NotifyState::Ready])?;
                }
            }
        };
        // With our end of the devices' way the intake ends too.
        let Assembly { parts, batches, driven, .. } = self;
        drop((batches, driven));
        parts.finish().await;
        outcome
    }

    /// Ends what the configuration no longer has, or has otherwise, and starts
    /// what it has instead. `cursors` are those of all forwarders, when the store
    /// has just been opened.
    ///
    /// # Errors
    /// When the store takes too long, or a part can't be ended.
    pub(crate) async fn become_as(
        &mut self,
        config: Config,
        cursors: Option<Vec<Cursor>>,
    ) -> anyhow::Result<()> {
        let change = Change::between(&self.running, &config);
        let channels = config.channels();
        self.parts.end(&change.before_the_store()).await?;
        let cursors = match cursors {
            Some(cursors) => cursors,
            None => {
                let (gone, come) = (&change.forwarders.gone, change.subscriptions(&config));
                let counted = self.store.change(&channels, gone, &come);
                let counted = time::timeout(STORE_MAX, counted).await;
                counted.context("the store doesn't take up the new configuration")??
            }
        };
        let ends = change.devices_that_end();
        self.parts.end(&ends).await?;
        if !ends.is_empty() {
            self.take_in().await;
        }
        self.hub.describe(channels.clone());
        self.hub.seed(self.store.latest().await?);
        let last = outputs::last(&self.store, &channels, &self.hub.newest()).await?;
        self.channels.send_replace(channels);
        self.observed.arrange(&config);
        self.outputs.retain(|device| config.devices.iter().any(|known| known.name() == device));
        self.lines.retain(|device| config.devices.iter().any(|known| known.name() == device));

        let Config { devices, forwarders, dashboard, text, .. } = config;
        self.running.text = text;
        self.running.devices.retain(|name, _| !change.devices.gone.contains(name));
        self.running.forwarders.retain(|name, _| !change.forwarders.gone.contains(name));
        for device in devices.into_iter().filter(|device| change.devices.comes(device.name())) {
            self.device(device, &last);
        }
        let come = forwarders.into_iter().filter(|(name, _)| change.forwarders.comes(name));
        for (cursor, (name, config)) in cursors.into_iter().zip(come) {
            self.forwarder(name, config, cursor);
        }
        if change.dashboard {
            self.dashboard(dashboard).await?;
        }
        change.tell();
        Ok(())
    }

    /// Waits until what devices have read that ended is taken in: a counter goes on
    /// from there.
    async fn take_in(&self) {
        // The turn that goes on now may have begun before they ended, the next
        // one hasn't; the third says that the second is done.
        let until = self.pulse.beats() + 3;
        while self.pulse.beats() < until {
            // An empty batch makes the intake take a turn.
            if self.batches.send(Vec::new()).await.is_err() {
                return;
            }
            time::sleep(TURN).await;
        }
    }

    fn device(&mut self, config: device::Config, last: &HashMap<Channel, Datum>) {
        let name = config.name().to_owned();
        self.running.devices.insert(name.clone(), config.written().clone());
        let about = status::Device::of(&config);
        self.lines.device(&config);
        let drives = !config.driven().is_empty();
        let (mut runner, health, commands) = Runner::new(config);
        if drives {
            runner.driving(self.alarms());
        }
        runner.restore(|channel| last.get(channel).cloned());
        let store = self.store.clone();
        runner.tells_losses(Arc::new(move |gap| store.lose(gap)));
        self.outputs.device(&name, commands);
        self.observed.device(about, health);
        let (batches, stop) = (self.batches.clone(), self.parts.stop());
        self.parts.spawn_alone(part("device", &name), &stop, |stop| runner.run(batches, stop));
    }

    /// The way of alarms to outputs; most gateways have none.
    fn alarms(&mut self) -> mpsc::Sender<Driven> {
        if let Some(driven) = &self.driven {
            return driven.clone();
        }
        let (sender, driven) = mpsc::channel(alarms::DRIVEN_MAX);
        self.parts.spawn("alarms", alarms::run(driven, self.outputs.set()));
        self.driven = Some(sender.clone());
        sender
    }

    fn forwarder(&mut self, name: String, config: forward::Config, cursor: Cursor) {
        self.running.forwarders.insert(name.clone(), config.clone());
        let about = status::Forwarder::of(&name, &config);
        let gateway = forward::Gateway {
            id: self.running.gateway.id.clone(),
            version: VERSION,
            channels: self.channels.borrow().clone(),
            epoch: self.store.epoch(),
        };
        let (forwarder, link) = Forwarder::new(name.clone(), config, gateway, cursor);
        self.observed.forwarder(about, link);
        let forwarder =
            forwarder.with_outputs(self.outputs.set()).following(self.channels.subscribe());
        let quiet = &self.quiet;
        self.parts.spawn_alone(part("forwarder", &name), quiet, |stop| forwarder.run(stop));
    }

    async fn dashboard(&mut self, config: dashboard::Config) -> anyhow::Result<()> {
        self.running.dashboard = Some(config.clone());
        let control = match self.listener.take() {
            Some(control) => Some(control),
            None => listen::control(&self.control).await?,
        };
        let (listen, observed) = (config.listen, self.observed.clone());
        let known = observed.clone();
        let app = App {
            config,
            hub: self.hub.clone(),
            store: self.store.clone(),
            status: Arc::new(move || observed.status()),
            access: self.access.clone(),
            set: self.outputs.set(),
            line: self.lines.follow(self.quiet.clone()),
            configuration: Configuration {
                shown: Arc::new(move || known.configuration()),
                ask: Arc::new(self.trial.ask()),
            },
        };
        self.parts.spawn_alone("dashboard", &self.quiet, |quiet| async move {
            match quiet.run_until_cancelled(listen::http(listen)).await {
                Some(listener) => dashboard::serve(listener, control, app, quiet).await,
                None => Ok(()),
            }
        });
        Ok(())
    }
}

impl Running {
    /// Whether a change needs no new start.
    fn may_become(&self, config: &Config) -> bool {
        self.gateway == config.gateway && self.store == config.store
    }
}

/// The name of a part, as the log has it.
fn part(kind: &str, name: &str) -> String {
    format!("{kind} {name}")
}
