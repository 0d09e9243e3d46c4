//! What two configurations differ in, by part.

use store::Subscription;
use tracing::info;

use super::{Running, part};
use crate::config::Config;

/// Names of one kind of parts.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Names {
    /// No longer configured.
    pub(super) gone: Vec<String>,
    /// Configured otherwise.
    pub(super) changed: Vec<String>,
    /// Not there before.
    pub(super) new: Vec<String>,
}

/// What has to end, and what has to start.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) devices: Names,
    pub(super) forwarders: Names,
    pub(super) dashboard: bool,
    /// Whether there was a dashboard before.
    began: bool,
}

impl Change {
    /// From what runs to what is to run.
    pub(super) fn between(running: &Running, config: &Config) -> Change {
        let device = |device: &device::Config| {
            let before = running.devices.get(device.name());
            (device.name().to_owned(), before.map(|before| before == device.written()))
        };
        let forwarder = |(name, config): (&String, &forward::Config)| {
            (name.clone(), running.forwarders.get(name).map(|before| before == config))
        };
        Change {
            devices: Names::of(running.devices.keys(), config.devices.iter().map(device)),
            forwarders: Names::of(
                running.forwarders.keys(),
                config.forwarders.iter().map(forwarder),
            ),
            dashboard: running.dashboard.as_ref() != Some(&config.dashboard),
            began: running.dashboard.is_some(),
        }
    }

    /// Parts that let go of their cursor, or of an address.
    pub(super) fn before_the_store(&self) -> Vec<String> {
        let mut parts = self.forwarders.that_end("forwarder");
        if self.dashboard && self.began {
            parts.push("dashboard".to_owned());
        }
        parts
    }

    pub(super) fn devices_that_end(&self) -> Vec<String> {
        self.devices.that_end("device")
    }

    /// Who of the forwarders needs a cursor, in the order of the configuration.
    pub(super) fn subscriptions(&self, config: &Config) -> Vec<Subscription> {
        let mut all = config.subscriptions();
        all.retain(|subscription| self.forwarders.comes(&subscription.forwarder));
        all
    }

    /// Says what a change has restarted; a start says so otherwise.
    pub(super) fn tell(&self) {
        if !self.began {
            return;
        }
        match self.lines() {
            parts if parts.is_empty() => info!("the configuration is as it was"),
            parts => info!("configuration taken up: {}", parts.join(", ")),
        }
    }

    /// Each part, and what becomes of it.
    pub(super) fn lines(&self) -> Vec<String> {
        let Change { devices, forwarders, dashboard, .. } = self;
        let kinds = [("device", devices), ("forwarder", forwarders)];
        let parts = kinds.iter().flat_map(|(kind, names)| {
            let told = |what: &'static str, names: &[String]| {
                names.iter().map(|name| format!("{} {what}", part(kind, name))).collect::<Vec<_>>()
            };
            [
                told("added", &names.new),
                told("restarted", &names.changed),
                told("removed", &names.gone),
            ]
        });
        let mut parts: Vec<String> = parts.flatten().collect();
        if *dashboard {
            parts.push("dashboard restarted".to_owned());
        }
        parts
    }
}

impl Names {
    /// Of each one configured: whether it is as before, if it was there.
    fn of<'a>(
        before: impl Iterator<Item = &'a String>,
        now: impl Iterator<Item = (String, Option<bool>)>,
    ) -> Names {
        let mut names = Names::default();
        let mut known = Vec::new();
        for (name, same) in now {
            known.push(name.clone());
            match same {
                Some(true) => (),
                Some(false) => names.changed.push(name),
                None => names.new.push(name),
            }
        }
        names.gone = before.filter(|name| !known.contains(name)).cloned().collect();
        names.gone.sort();
        names
    }

    /// Whether one has to be started.
    pub(super) fn comes(&self, name: &str) -> bool {
        self.new.iter().chain(&self.changed).any(|known| known == name)
    }

    fn that_end(&self, kind: &str) -> Vec<String> {
        self.gone.iter().chain(&self.changed).map(|name| part(kind, name)).collect()
    }
}
