//! Outputs that follow alarms: a siren, a fan.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use device::Driven;
use reading::{Channel, Datum};
use tokio::sync::mpsc;
use tokio::time::{self, Instant};
use tracing::{info, warn};

use crate::outputs::SetFn;

/// Alarms that wait to be seen to; a device waits a little when there are more.
pub(crate) const DRIVEN_MAX: usize = 64;

/// How soon an output is tried again whose device didn't take the value.
const AGAIN: Duration = Duration::from_secs(5);

/// One output, and what is wanted of it.
#[derive(Default)]
struct Output {
    /// The alarms that want it on.
    raised: BTreeSet<(Channel, usize)>,
    /// What its device has taken.
    taken: Option<bool>,
    again: Option<Instant>,
}

/// Switches outputs as alarms say, until no device runs any more. What a device
/// doesn't take is tried again: an alarm that is raised must not depend on the
/// moment.
pub(crate) async fn run(mut driven: mpsc::Receiver<Driven>, set: SetFn) {
    let mut outputs: BTreeMap<Channel, Output> = BTreeMap::new();
    loop {
        let next = outputs.values().filter_map(|output| output.again).min();
        let again = async {
            match next {
                Some(at) => time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            news = driven.recv() => match news {
                Some(Driven { alarm, output, on }) => {
                    let output = outputs.entry(output).or_default();
                    if on { output.raised.insert(alarm); } else { output.raised.remove(&alarm); }
                    output.again = Some(Instant::now());
                }
                None => return,
            },
            () = again => (),
        }
        for (channel, output) in &mut outputs {
            let due = output.again.is_some_and(|at| at <= Instant::now());
            let on = !output.raised.is_empty();
            if !due || output.taken == Some(on) {
                output.again = output.again.filter(|_| !due);
                continue;
            }
            match set(channel.clone(), Datum::Boolean(on)).await {
                Ok(()) => {
                    info!(%channel, on, "switched by an alarm");
                    (output.taken, output.again) = (Some(on), None);
                }
                Err(why) => {
                    warn!(%channel, on, why, "an alarm can't switch it yet; trying again");
                    output.again = Some(Instant::now() + AGAIN);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_raised_alarm_is_enough_and_what_is_not_taken_is_tried_again() {
        let tries = Arc::new(Mutex::new(Vec::new()));
        let set: SetFn = {
            let tries = tries.clone();
            Arc::new(move |channel, datum| {
                let mut tries = tries.lock().unwrap();
                tries.push(format!("{channel} {datum:?}"));
                let outcome = if tries.len() == 1 { Err("lost".to_owned()) } else { Ok(()) };
                Box::pin(async { outcome })
            })
        };
        let (sender, driven) = mpsc::channel(DRIVEN_MAX);
        let say = async {
            for (place, on) in [(0, true), (1, true), (0, false), (1, false)] {
                let alarm = ("a/b".parse().unwrap(), place);
                let output = "panel/siren".parse().unwrap();
                sender.send(Driven { alarm, output, on }).await.unwrap();
                time::sleep(Duration::from_secs(10)).await;
            }
            drop(sender);
        };
        tokio::join!(run(driven, set), say);
        let (on, off) = ("panel/siren Boolean(true)", "panel/siren Boolean(false)");
        assert_eq!(*tries.lock().unwrap(), [on, on, off]);
    }
}
