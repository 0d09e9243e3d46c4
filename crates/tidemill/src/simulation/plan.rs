//! What the dice choose for a whole run: the gateway's configuration, its
//! devices, and which faults there are at all.

use std::path::Path;
use std::time::Duration;

use bytesize::ByteSize;
use forward::{Format, Order, Version};
use reading::ChannelSpec;

use super::devices::Habits;
use super::dice::Dice;

pub(super) struct Plan {
    pub(super) steps: u64,
    pub(super) devices: Vec<Habits>,
    pub(super) forwarders: Vec<forward::Config>,
    pub(super) flush: Duration,
    pub(super) max_size: ByteSize,
    /// Of a hundred steps, how many bring a burst of readings, and of how many.
    pub(super) bursts: (u64, u64, u64),
    /// Of a hundred steps, how many are faults of each kind.
    pub(super) network: u64,
    pub(super) disk: u64,
    pub(super) clock: u64,
    pub(super) crash: u64,
    pub(super) stall: u64,
}

impl Plan {
    pub(super) fn throw(dice: &mut Dice) -> Plan {
        let often = |dice: &mut Dice| *dice.pick(&[0, 3, 10, 25]);
        let devices = dice.between(1, 3);
        let small = dice.chance(5);
        let flood = dice.below(400) == 0;
        let bursts = match (flood, small) {
            // More than the store's queue holds while it can't write.
            (true, _) => (60, 20_000, 30_000),
            (_, true) => (20, 500, 2_500),
            _ => (5, 10, 600),
        };
        Plan {
            steps: dice.between(5, 30),
            devices: (0..devices).map(|n| Habits::throw(dice, n)).collect(),
            forwarders: (0..*dice.pick(&[1, 1, 2])).map(|n| forwarder(dice, n, !flood)).collect(),
            flush: Duration::from_millis(*dice.pick(&[50, 300, 1_000, 1_000, 5_000])),
            max_size: if small { ByteSize::kib(256) } else { ByteSize::mib(64) },
            bursts,
            network: often(dice) + 5,
            disk: if flood { 40 } else { often(dice) },
            clock: often(dice),
            crash: *dice.pick(&[0, 5, 20, 40]),
            stall: often(dice),
        }
    }

    pub(super) fn channels(&self) -> Vec<ChannelSpec> {
        self.devices.iter().flat_map(Habits::specs).collect()
    }

    pub(super) fn store(&self, folder: &Path) -> store::Config {
        store::Config {
            path: folder.join("tidemill.db"),
            flush: self.flush,
            max_size: self.max_size,
            keep_free: ByteSize::b(0),
            ..store::Config::default()
        }
    }

    pub(super) fn subscriptions(&self) -> Vec<store::Subscription> {
        let subscription = |(n, config): (usize, &forward::Config)| store::Subscription {
            forwarder: name(n),
            channels: config.patterns(),
        };
        self.forwarders.iter().enumerate().map(subscription).collect()
    }
}

/// A forwarder's name.
pub(super) fn name(number: usize) -> String {
    format!("f{number}")
}

/// `paced`: a flood would take hours at a small rate.
fn forwarder(dice: &mut Dice, number: u64, paced: bool) -> forward::Config {
    let live_first = dice.chance(30) && paced;
    forward::Config {
        url: Some("mqtt://broker.simulated".to_owned()),
        version: *dice.pick(&[Version::V4, Version::V5]),
        format: *dice.pick(&[Format::Json, Format::Senml]),
        order: if live_first { Order::LiveFirst } else { Order::OldestFirst },
        // With a limit the fresh lane begins soon enough to be seen.
        drain_rate: if live_first { 50 } else { *dice.pick(&[0, 0, 200 * u32::from(paced)]) },
        channels: vec![if number == 0 { "*" } else { "d0/*" }.to_owned()],
        inflight: u16::try_from(dice.magnitude(1, 200)).unwrap_or(1),
        keep_alive: Duration::from_secs(dice.between(2, 30)),
        connect_timeout: Duration::from_secs(dice.between(1, 15)),
        ack_timeout: Duration::from_secs(dice.between(1, 20)),
        ..forward::Config::default()
    }
}
