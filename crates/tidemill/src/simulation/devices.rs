//! Devices that give readings whose values are numbers of their own, and keep
//! account of what the gateway has accepted.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use reading::{Channel, ChannelSpec, Datum, Kind, Reading, Timestamp, Unit, Value};
use tokio::sync::mpsc;
use tokio::time::{self, Instant};

use super::dice::Dice;

/// Readings that the gateway has accepted.
#[derive(Default)]
pub(super) struct Given(Mutex<Account>);

#[derive(Default)]
pub(super) struct Account {
    /// By their values.
    pub(super) readings: Vec<Accepted>,
    /// The devices rest.
    pub(super) rest: bool,
    /// Readings more in the next batch.
    pub(super) burst: u64,
}

/// A reading that intake's queue has taken.
#[derive(Clone, Debug)]
pub(super) struct Accepted {
    pub(super) at: Timestamp,
    pub(super) channel: String,
    /// In which life of the gateway, and when in true time.
    pub(super) life: usize,
    pub(super) when: Instant,
}

impl Given {
    pub(super) fn account(&self) -> MutexGuard<'_, Account> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A device's habits.
#[derive(Clone, Debug)]
pub(super) struct Habits {
    pub(super) channels: Vec<Channel>,
    /// From one batch to the next, milliseconds.
    pub(super) pause: (u64, u64),
    /// Readings of each channel in a batch.
    pub(super) batch: (u64, u64),
}

impl Habits {
    pub(super) fn throw(dice: &mut Dice, number: u64) -> Habits {
        let channels = (0..dice.between(1, 2)).map(|n| format!("d{number}/c{n}").parse());
        Habits {
            channels: channels.filter_map(Result::ok).collect(),
            pause: *dice.pick(&[(20, 400), (300, 3_000), (1, 1_500), (90, 110), (400, 600)]),
            batch: *dice.pick(&[(1, 1), (1, 1), (1, 2), (1, 6)]),
        }
    }

    pub(super) fn specs(&self) -> Vec<ChannelSpec> {
        let spec = |channel: &Channel| ChannelSpec {
            channel: channel.clone(),
            kind: Kind::Number,
            unit: Unit::of(""),
            label: None,
            range: None,
            output: false,
        };
        self.channels.iter().map(spec).collect()
    }
}

/// Gives readings until the gateway takes no more.
pub(super) async fn run(
    habits: Habits,
    mut dice: Dice,
    life: usize,
    given: Arc<Given>,
    intake: mpsc::Sender<Vec<Reading>>,
) {
    loop {
        time::sleep(Duration::from_millis(dice.between(habits.pause.0, habits.pause.1))).await;
        if given.account().rest {
            continue;
        }
        let Ok(permit) = intake.reserve().await else { return };
        let mut account = given.account();
        let count =
            dice.between(habits.batch.0, habits.batch.1) + std::mem::take(&mut account.burst);
        let mut batch = Vec::new();
        for channel in &habits.channels {
            for _ in 0..count {
                let at = Timestamp::now();
                let value = Value::Good(Datum::Number(account.readings.len() as f64));
                batch.push(Reading { channel: channel.clone(), at, value });
                let channel = channel.to_string();
                account.readings.push(Accepted { at, channel, life, when: Instant::now() });
            }
        }
        permit.send(batch);
    }
}
