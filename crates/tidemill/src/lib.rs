//! The gateway: devices in, brokers and browsers out.
//!
//! ```text
//! device ─▶ intake ─┬─▶ hub ───▶ dashboard ─▶ browsers
//!  (one a           └─▶ store ─▶ forward ───▶ brokers
//!  [device.X])
//! ```

pub mod clock;
pub mod config;
mod gateway;
mod intake;
mod listen;
mod outputs;
mod place;
mod status;
mod supervisor;
mod watchdog;

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use dashboard::{Access, App, Hub};
use device::Runner;
use forward::Forwarder;
use store::Store;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::info;

pub use config::{Config, Invalid};
use gateway::Gateway;
use outputs::Outputs;
use status::Observed;
use supervisor::Supervisor;
use watchdog::Pulse;

/// Runs the gateway until `shutdown` completes.
///
/// # Errors
/// When the store can't be opened, another gateway already runs on it, or a
/// part ends by a bug.
pub async fn run(config: Config, shutdown: impl Future<Output = ()>) -> anyhow::Result<()> {
    place::ready(&config.store.path)?;
    let (id, channels) = (config.gateway.id.clone(), config.channels());
    let control = listen::control(&control_socket(&config)).await?;
    let (store, appender, writer, cursors) =
        Store::open(&config.store, &channels, &config.subscriptions())
            .await
            .with_context(|| format!("open the store {}", config.store.path.display()))?;
    let hub = Hub::new(id.clone(), store.epoch(), channels.clone());
    let latest = store.latest().await?;
    let last = outputs::last(&store, &channels, &latest).await?;
    hub.seed(latest);
    let mut observed = Observed::new(&config, store.clone());

    let mut parts = Supervisor::default();
    let stop = parts.stop();
    // Forwarders and browsers are to see what intake takes in last.
    let quiet = CancellationToken::new();

    let (batches, intake) = mpsc::channel(intake::BATCHES_MAX);
    let pulse = Pulse::default();
    let mut outputs = Outputs::default();
    for device in config.devices {
        let name = device.name().to_owned();
        let about = status::Device::of(&device);
        let (mut runner, health, commands) = Runner::new(device);
        runner.restore(|channel| last.get(channel).cloned());
        outputs.device(&name, commands);
        observed.device(about, health);
        parts.spawn(format!("device {name}"), runner.run(batches.clone(), stop.clone()));
    }
    let set = outputs.set();
    parts.spawn("writer", writer.run());
    let part = intake::run(intake, appender, hub.clone(), pulse.clone());
    let taken_in = quiet.clone().drop_guard();
    parts.spawn("intake", async {
        let _taken_in = taken_in;
        part.await
    });
    for (cursor, (name, config)) in cursors.into_iter().zip(config.forwarders) {
        let about = status::Forwarder::of(&name, &config);
        let gateway = forward::Gateway {
            id: id.clone(),
            version: VERSION,
            channels: channels.clone(),
            epoch: store.epoch(),
        };
        let (forwarder, link) = Forwarder::new(name.clone(), config, gateway, cursor);
        observed.forwarder(about, link);
        let forwarder = forwarder.with_outputs(set.clone());
        parts.spawn(format!("forwarder {name}"), forwarder.run(quiet.clone()));
    }
    let observed = Arc::new(observed);
    let own = Gateway::new(observed.clone());
    parts.spawn("gateway", own.run(batches, stop.clone()));
    parts.spawn("watchdog", watchdog::run(observed.clone(), pulse, stop.clone()));
    let listen = config.dashboard.listen;
    let app = App {
        config: config.dashboard,
        hub,
        store,
        status: Arc::new(move || observed.status()),
        access: Access::open(&config.store.path.with_file_name("access.json")),
        set,
    };
    parts.spawn("dashboard", async move {
        match quiet.run_until_cancelled(listen::http(listen)).await {
            Some(listener) => dashboard::serve(listener, Some(control), app, quiet).await,
            None => Ok(()),
        }
    });

    info!(version = VERSION, "running");
    sd_notify::notify(&[sd_notify::NotifyState::Ready]).context("tell systemd")?;
    parts.run(shutdown).await
}

/// The version of this binary.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Where the commands reach the running gateway: in `$RUNTIME_DIRECTORY` when
/// systemd gives one, else beside the store.
pub fn control_socket(config: &Config) -> PathBuf {
    // Of several, separated by colons, the first is ours.
    let runtime = std::env::var("RUNTIME_DIRECTORY").unwrap_or_default();
    let folder = runtime.split(':').next().filter(|folder| !folder.is_empty());
    match (folder, config.store.path.parent()) {
        (Some(folder), _) => PathBuf::from(folder).join("control.sock"),
        (None, Some(folder)) => folder.join("control.sock"),
        (None, None) => "control.sock".into(),
    }
}
