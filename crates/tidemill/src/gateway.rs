//! The gateway as a device of its own: how it fares is read, stored, forwarded
//! and shown like any other quantity.

use std::sync::Arc;
use std::time::Duration;

use dashboard::{ForwarderStatus, LinkState, Status};
use reading::{Channel, ChannelSpec, Datum, InvalidName, Kind, Reading, Timestamp, Unit, Value};
use tokio::sync::mpsc;
use tokio::time::{self, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::status::Observed;

/// The name that no configured device may bear.
pub(crate) const DEVICE: &str = "gateway";

/// How often it reads itself: seldom enough not to wear a card.
const POLL: Duration = Duration::from_secs(10);

/// One quantity: its name, unit, label, and how it is read.
type Quantity = (&'static str, Kind, &'static str, &'static str, fn(&Status) -> Option<Datum>);

#[expect(clippy::cast_precision_loss, reason = "counts stay below 2^53")]
const QUANTITIES: &[Quantity] = &[
    ("uptime", Kind::Number, "s", "Uptime", |status| Datum::number(status.uptime_s as f64)),
    ("lost", Kind::Number, "1", "Readings lost", |status| {
        Datum::number(status.ledger.dropped as f64)
    }),
    ("store_size", Kind::Number, "By", "Store size", |status| {
        Datum::number(status.store.size as f64)
    }),
    ("bytes_written", Kind::Number, "By", "Bytes written", |status| {
        Datum::number(status.store.bytes_written as f64)
    }),
    // Years, in UCUM.
    ("card_life", Kind::Number, "a", "Card lasts", |status| {
        status.store.wear.as_ref().and_then(|wear| Datum::number(wear.life_years))
    }),
    ("clock_set", Kind::Boolean, "", "Clock set", |status| Some(Datum::Boolean(status.clock.set))),
];

/// Two quantities for each forwarder.
#[expect(clippy::cast_precision_loss, reason = "counts stay below 2^53")]
fn of_forwarder(forwarder: &ForwarderStatus) -> [(String, Datum); 2] {
    [
        (format!("backlog_{}", forwarder.name), Datum::Number(forwarder.pending as f64)),
        (format!("link_{}", forwarder.name), Datum::Boolean(forwarder.state == LinkState::Online)),
    ]
}

/// What it reads of itself, given the names of its forwarders.
///
/// # Errors
/// When a forwarder's name is too long to be part of a channel's.
pub(crate) fn channels<'a>(
    forwarders: impl Iterator<Item = &'a str>,
) -> Result<Vec<ChannelSpec>, InvalidName> {
    let spec = |name: &str, kind, unit: &'static str, label: String| {
        Ok(ChannelSpec {
            channel: Channel::new(DEVICE, name)?,
            kind,
            unit: Unit::of(unit),
            label: Some(label),
            range: None,
            output: false,
        })
    };
    let own = QUANTITIES
        .iter()
        .map(|&(name, kind, unit, label, _)| spec(name, kind, unit, label.to_owned()));
    let theirs = forwarders.flat_map(|name| {
        [
            spec(&format!("backlog_{name}"), Kind::Number, "1", format!("Backlog of {name}")),
            spec(&format!("link_{name}"), Kind::Boolean, "", format!("Link to {name}")),
        ]
    });
    own.chain(theirs).collect()
}

/// Reads the gateway itself.
pub(crate) struct Gateway {
    observed: Arc<Observed>,
}

impl Gateway {
    pub(crate) fn new(observed: Arc<Observed>) -> Gateway {
        Gateway { observed }
    }

    /// Reads until told to stop.
    pub(crate) async fn run(
        self,
        batches: mpsc::Sender<Vec<Reading>>,
        stop: CancellationToken,
    ) -> anyhow::Result<()> {
        let mut ticks = time::interval(POLL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            let readings = self.read()?;
            self.observed.own(readings.len());
            if batches.send(readings).await.is_err() {
                break;
            }
        }
        Ok(())
    }

    fn read(&self) -> Result<Vec<Reading>, InvalidName> {
        let status = self.observed.status();
        let at = Timestamp::now();
        let own = QUANTITIES
            .iter()
            .filter_map(|(name, .., read)| Some(((*name).to_owned(), read(&status)?)));
        let theirs = status.forwarders.iter().flat_map(of_forwarder);
        own.chain(theirs)
            .map(|(name, datum)| {
                let channel = Channel::new(DEVICE, &name)?;
                Ok(Reading { channel, at, value: Value::Good(datum) })
            })
            .collect()
    }
}
