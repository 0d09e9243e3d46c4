//! The way of a recording from a device to who asked for it.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use dashboard::LineFn;
use device::Tape;
use futures_util::{StreamExt, stream};
use tokio_util::sync::CancellationToken;

/// The devices as they run, by name.
#[derive(Default)]
pub(crate) struct Lines {
    /// A std lock: it is never held across an await.
    devices: RwLock<HashMap<String, device::Config>>,
}

impl Lines {
    /// This is what runs under its name now: a recording of what did before ends.
    pub(crate) fn device(&self, config: &device::Config) {
        let mut devices = self.devices.write().unwrap_or_else(PoisonError::into_inner);
        devices.insert(config.name().to_owned(), config.clone());
    }

    /// Forgets devices that are no more.
    pub(crate) fn retain(&self, known: impl Fn(&str) -> bool) {
        let mut devices = self.devices.write().unwrap_or_else(PoisonError::into_inner);
        devices.retain(|name, _| known(name));
    }

    /// The function that records a device until `stop`.
    pub(crate) fn follow(self: &Arc<Self>, stop: CancellationToken) -> LineFn {
        let lines = self.clone();
        Arc::new(move |name| {
            let tape = {
                let devices = lines.devices.read().unwrap_or_else(PoisonError::into_inner);
                let config =
                    devices.get(name).ok_or_else(|| format!("there is no device {name:?}"))?;
                Tape::of(config)?
            };
            let lines = stream::unfold(tape, async |mut tape| Some((tape.next().await?, tape)));
            Ok(lines.take_until(stop.clone().cancelled_owned()).boxed())
        })
    }
}
