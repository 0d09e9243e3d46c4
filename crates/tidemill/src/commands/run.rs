//! `tidemill run`: the service.

use std::convert::Infallible;
use std::path::Path;
use std::thread::available_parallelism;

use sd_notify::NotifyState;
use tidemill::{Config, Invalid};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tracing::{error, info};

/// Worker threads, at most. The work is little and each thread costs memory.
const WORKERS_MAX: usize = 4;

/// Runs the gateway until SIGINT or SIGTERM; SIGHUP reads the file again.
pub(crate) fn run(path: &Path) -> anyhow::Result<()> {
    let mut config = Some(Config::load(path)?);
    runtime()?.block_on(async {
        let mut hangup = signal(SignalKind::hangup())?;
        while let Some(running) = config.take() {
            let (sender, changes) = mpsc::channel(1);
            let gateway = tidemill::run(running, changes, shutdown()?);
            tokio::select! {
                ended = gateway => config = ended?,
                never = reload(&mut hangup, path, sender) => match never {},
            }
        }
        Ok(())
    })
}

/// Reads the file again whenever somebody asks for it. An invalid one changes
/// nothing.
async fn reload(hangup: &mut Signal, path: &Path, changes: mpsc::Sender<Config>) -> Infallible {
    loop {
        // It ends when no signal can come any more, and then none does.
        if hangup.recv().await.is_none() {
            std::future::pending::<()>().await;
        }
        // systemd calls the service reloading until READY=1, which the gateway
        // sends again once it runs with the new configuration.
        if let Ok(now) = NotifyState::monotonic_usec_now() {
            let _ = sd_notify::notify(&[NotifyState::Reloading, now]);
        }
        match Config::load(path) {
            Ok(config) => {
                info!(file = %path.display(), "configuration read again");
                // A gateway that doesn't take it is about to end.
                let _ = changes.send(config).await;
            }
            Err(error) => {
                let invalid = error.downcast_ref::<Invalid>().map(ToString::to_string);
                let why = invalid.unwrap_or_else(|| format!("{error:#}"));
                error!("the configuration is not valid, so nothing changes: {}", why.trim_end());
                let _ = sd_notify::notify(&[NotifyState::Ready]);
            }
        }
    }
}

/// The runtime of a whole gateway.
pub(crate) fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    let workers = available_parallelism().map_or(1, |cores| cores.get().min(WORKERS_MAX));
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers)
        .thread_name("tidemill")
        .enable_all()
        .build()
}

/// Completes when somebody asks us to stop.
pub(crate) fn shutdown() -> std::io::Result<impl Future<Output = ()>> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => (),
            _ = terminate.recv() => (),
        }
    })
}
