use std::time::Duration;

use anyhow::{Context, anyhow};
use tokio::task::JoinSet;
use tokio::time;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// How long the parts have to finish what they hold: a forwarder drains its
/// window, the writer commits. systemd kills after 90 s by default.
const GRACE: Duration = Duration::from_secs(10);

/// The parts of the gateway, each a task.
///
/// Faults of devices, disks and brokers end no part: whoever owns them waits
/// and tries again. A part that ends all the same is a bug; then the gateway
/// stops in good order and systemd starts it again, which is simpler to trust
/// than half a gateway.
#[derive(Default)]
pub(crate) struct Supervisor {
    parts: JoinSet<(String, anyhow::Result<()>)>,
    stop: CancellationToken,
}

/// How a part may end: having done its work, or with an error.
pub(crate) trait Outcome {
    fn outcome(self) -> anyhow::Result<()>;
}

impl Outcome for () {
    fn outcome(self) -> anyhow::Result<()> {
        Ok(())
    }
}

impl<E: Into<anyhow::Error>> Outcome for Result<(), E> {
    fn outcome(self) -> anyhow::Result<()> {
        self.map_err(Into::into)
    }
}

impl Supervisor {
    /// Cancelled when the gateway is to stop.
    pub(crate) fn stop(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Starts a part. Only here are tasks of the gateway started: see
    /// `clippy.toml`.
    pub(crate) fn spawn(
        &mut self,
        name: impl Into<String>,
        part: impl Future<Output = impl Outcome> + Send + 'static,
    ) {
        let name = name.into();
        self.parts.spawn(async move { (name, part.await.outcome()) });
    }

    /// Waits for `shutdown` or the first part to end, then for the rest.
    ///
    /// # Errors
    /// Why a part ended that was not told to.
    pub(crate) async fn run(mut self, shutdown: impl Future<Output = ()>) -> anyhow::Result<()> {
        let result = tokio::select! {
            () = shutdown => {
                info!("stopping");
                Ok(())
            }
            Some(ended) = self.parts.join_next() => match ended {
                Ok((name, Ok(()))) => Err(anyhow!("{name} ended by itself; this is a bug")),
                Ok((name, Err(error))) => Err(error).context(name),
                Err(panic) => Err(panic).context("a part of the gateway panicked; this is a bug"),
            },
        };
        self.stop.cancel();
        let rest = async {
            while let Some(ended) = self.parts.join_next().await {
                if let Ok((name, Err(error))) = ended {
                    warn!(part = name, "{error:#}");
                }
            }
        };
        if time::timeout(GRACE, rest).await.is_err() {
            warn!(parts = self.parts.len(), "gave up waiting for parts that don't stop");
        }
        result
    }
}
