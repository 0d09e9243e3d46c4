use std::collections::HashMap;
use std::time::Duration;

use anyhow::anyhow;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{self, Instant};
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
    /// What ends a part that may end alone.
    alone: HashMap<String, CancellationToken>,
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

    /// Starts a part that can be ended alone, and ends with `until`.
    pub(crate) fn spawn_alone<F: Future<Output: Outcome> + Send + 'static>(
        &mut self,
        name: impl Into<String>,
        until: &CancellationToken,
        part: impl FnOnce(CancellationToken) -> F,
    ) {
        let (name, stop) = (name.into(), until.child_token());
        self.alone.insert(name.clone(), stop.clone());
        self.spawn(name, part(stop));
    }

    /// Ends these parts and waits until they have.
    ///
    /// # Errors
    /// When one doesn't end, or another part does.
    pub(crate) async fn end(&mut self, names: &[String]) -> anyhow::Result<()> {
        let mut left: Vec<&str> = names.iter().map(String::as_str).collect();
        for name in names {
            if let Some(stop) = self.alone.remove(name) {
                stop.cancel();
            }
        }
        let until = Instant::now() + GRACE;
        while !left.is_empty() {
            let ended = time::timeout_at(until, self.parts.join_next()).await;
            let ended = ended.map_err(|_| anyhow!("{} won't stop", left.join(", ")))?;
            match ended {
                Some(Ok((name, outcome))) if left.contains(&name.as_str()) => {
                    left.retain(|one| *one != name);
                    if let Err(error) = outcome {
                        warn!(part = name, "{error:#}");
                    }
                }
                Some(other) => return Err(by_itself(other)),
                None => break,
            }
        }
        Ok(())
    }

    /// Waits until a part ends that wasn't told to, and says why it did.
    pub(crate) async fn ended(&mut self) -> anyhow::Error {
        match self.parts.join_next().await {
            Some(ended) => by_itself(ended),
            None => std::future::pending().await,
        }
    }

    /// Ends all parts and waits for them.
    pub(crate) async fn finish(mut self) {
        info!("stopping");
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
    }
}

type Ended = Result<(String, anyhow::Result<()>), JoinError>;

/// No part is to end by itself.
fn by_itself(ended: Ended) -> anyhow::Error {
    match ended {
        Ok((name, Ok(()))) => anyhow!("{name} ended by itself; this is a bug"),
        Ok((name, Err(error))) => error.context(name),
        Err(panic) => {
            anyhow::Error::new(panic).context("a part of the gateway panicked; this is a bug")
        }
    }
}
