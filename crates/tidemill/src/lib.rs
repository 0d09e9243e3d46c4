//! The gateway: devices in, brokers and browsers out.
//!
//! ```text
//! device ─▶ intake ─┬─▶ hub ───▶ dashboard ─▶ browsers
//!  (one a           └─▶ store ─▶ forward ───▶ brokers
//!  [device.X])
//! ```

mod alarms;
mod assembly;
pub mod clock;
pub mod config;
mod dating;
mod gateway;
mod intake;
mod interim;
mod lines;
mod listen;
mod outputs;
mod place;
pub mod redact;
#[cfg(all(test, debug_assertions))]
mod simulation;
mod status;
mod supervisor;
mod watchdog;

use std::path::PathBuf;
use std::pin::pin;

use anyhow::Context;
use dashboard::Hub;
use tokio::net::UnixListener;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::info;

use assembly::Assembly;
pub use config::{Config, Invalid};
use dating::Dating;
use gateway::Gateway;
use interim::{End, Kept, Opened};
use supervisor::Supervisor;
use watchdog::Pulse;

/// Runs the gateway until `shutdown` completes. Each configuration that comes
/// from `changes` is taken up while it runs: what is as before isn't disturbed.
///
/// `Some` is one that takes a new start, because `[gateway]` or `[store]` is
/// another.
///
/// # Errors
/// When the store can't be opened, but for a fault of the disk, another gateway
/// already runs on it, or a part ends by a bug.
pub async fn run(
    config: Config,
    mut changes: mpsc::Receiver<Config>,
    shutdown: impl Future<Output = ()>,
) -> anyhow::Result<Option<Config>> {
    place::ready(&config.store.path)?;
    let (at, changes, mut shutdown) = (control_socket(&config), &mut changes, pin!(shutdown));
    let control = listen::control(&at).await?;
    match interim::open(&config).await {
        Err(cause) if cause.is_of_the_disk() => {
            let until = shutdown.as_mut();
            match interim::run(&config, cause, control, changes, until).await? {
                End::Over(config) => Ok(config),
                End::Opened(opened, kept) => {
                    let control = listen::control(&at).await?;
                    gateway(config, control, *opened, Some(kept), changes, shutdown).await
                }
            }
        }
        opened => {
            let path = config.store.path.display();
            let opened = opened.with_context(|| format!("open the store {path}"))?;
            gateway(config, control, opened, None, changes, shutdown).await
        }
    }
}

/// The same with an open store. `kept` is what was read before it was.
async fn gateway(
    config: Config,
    control: Option<UnixListener>,
    (store, mut appender, writer, cursors): Opened,
    kept: Option<Kept>,
    changes: &mut mpsc::Receiver<Config>,
    shutdown: impl Future<Output = ()>,
) -> anyhow::Result<Option<Config>> {
    let hub = Hub::new(config.gateway.id.clone(), store.epoch(), config.channels());

    let mut parts = Supervisor::default();
    let stop = parts.stop();
    let (batches, intake) = mpsc::channel(intake::BATCHES_MAX);
    let (pulse, quiet) = (Pulse::default(), CancellationToken::new());
    parts.spawn("writer", writer.run());
    let dating = Dating::begin(&mut appender);
    if let Some(kept) = kept {
        kept.hand_over(&mut appender).await;
    }
    let intake = intake::run(intake, appender, hub.clone(), pulse.clone(), dating);
    let taken_in = quiet.clone().drop_guard();
    parts.spawn("intake", async {
        let _taken_in = taken_in;
        intake.await
    });

    let way = (batches.clone(), pulse.clone());
    let mut assembly = Assembly::new(parts, (&config, store), hub, way, quiet, control);
    assembly.become_as(config, Some(cursors)).await?;
    let observed = assembly.observed();
    let own = Gateway::new(observed.clone()).run(batches, stop.clone());
    assembly.parts.spawn("gateway", own);
    assembly.parts.spawn("watchdog", watchdog::run(observed, pulse, stop));

    info!(version = VERSION, "running");
    sd_notify::notify(&[sd_notify::NotifyState::Ready]).context("tell systemd")?;
    assembly.run(changes, shutdown).await
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
