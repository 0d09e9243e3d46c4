//! Where readings get their numbers: from the devices, to the hub, to the
//! store.

use std::time::Duration;

use dashboard::Hub;
use reading::{Body, Reading, Record};
use store::Appender;
use tokio::sync::mpsc;
use tokio::time::{self, Instant};
use tracing::debug;

use crate::dating::Dating;
use crate::watchdog::Pulse;

/// Batches of readings on their way to the intake. A full queue makes devices
/// wait, each for its turn.
pub(crate) const BATCHES_MAX: usize = 256;

/// Readings taken in one turn: about a millisecond of work for hub and store.
const TURN_MAX: usize = 4096;

/// How long the first reading of a turn waits for company. A wake-up costs more
/// than a reading does; more than this, and a killed gateway would lose what is
/// older than it may.
const GATHER: Duration = Duration::from_millis(10);

/// How often losses are told, those of a cause and a channel together: whatever
/// goes on and on costs a record a second.
const LOSSES_EVERY: Duration = Duration::from_secs(1);

/// Takes in readings until the last device has let go of its end.
///
/// This is the one place that gives numbers, so the order of the numbers is the
/// order in the store. The hub comes first: what the disk can't take is seen
/// all the same.
pub(crate) async fn run(
    mut batches: mpsc::Receiver<Vec<Reading>>,
    mut appender: Appender,
    hub: Hub,
    pulse: Pulse,
    mut dating: Dating,
) -> anyhow::Result<()> {
    let mut turn = Vec::new();
    let mut told = Instant::now();
    loop {
        let open = gather(&mut batches, &mut turn).await;
        pulse.beat();
        dating.turn(&mut turn, &mut appender, &hub);
        let epoch = appender.epoch();
        let mut seq = appender.next();
        let mut gaps = Vec::new();
        if !open || told.elapsed() >= LOSSES_EVERY {
            (gaps, told) = (appender.losses(), Instant::now());
        }
        let gaps = gaps.into_iter().map(Body::Gap);
        let readings = turn.drain(..).flatten().map(Body::Reading);
        let records: Vec<Record> = gaps
            .chain(readings)
            .map(|body| {
                let record = Record { epoch, seq, body };
                seq = seq.next();
                record
            })
            .collect();
        if !records.is_empty() {
            hub.publish(&records);
            if let Err(dropped) = appender.append(records).await {
                // The store has said so, once: this comes many times a second.
                debug!(count = dropped.count, reason = dropped.reason, "readings not stored");
            }
        }
        if !open {
            return Ok(());
        }
    }
}

/// Fills `turn` with what has come and what comes within [`GATHER`]; `false`
/// when nothing can come any more.
async fn gather(batches: &mut mpsc::Receiver<Vec<Reading>>, turn: &mut Vec<Vec<Reading>>) -> bool {
    let first = match time::timeout(LOSSES_EVERY, batches.recv()).await {
        Ok(Some(batch)) => batch,
        Ok(None) => return false,
        Err(_) => return true,
    };
    let mut count = first.len();
    turn.push(first);
    let until = Instant::now() + GATHER;
    while count < TURN_MAX {
        match time::timeout_at(until, batches.recv()).await {
            Ok(Some(batch)) => {
                count += batch.len();
                turn.push(batch);
            }
            Ok(None) => return false,
            Err(_) => break,
        }
    }
    true
}
