//! The way of a command to its device.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, PoisonError, RwLock};

use device::{COMMANDS_MAX, Command};
use reading::{Channel, ChannelSpec, Datum, Record, Timestamp};
use store::{Query, Store};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};

/// What became of a command; an error is a sentence for people.
type Outcome = Pin<Box<dyn Future<Output = Result<(), String>> + Send>>;

/// Writes an output and waits until its device has taken the value.
pub(crate) type SetFn = Arc<dyn Fn(Channel, Datum) -> Outcome + Send + Sync>;

/// The ways to the devices, by name.
#[derive(Default)]
pub(crate) struct Outputs {
    /// A std lock: it is never held across an await.
    devices: RwLock<HashMap<String, mpsc::Sender<Command>>>,
}

/// Readings of one channel that are looked through for a good one. A device that
/// is lost makes one bad reading, so the good one is near the end.
const LOOKED_THROUGH_MAX: usize = 1000;

/// What writable channels last read that was good: the total of a counter goes
/// on from there.
///
/// # Errors
/// When the store can't be read.
pub(crate) async fn last(
    store: &Store,
    specs: &[ChannelSpec],
    latest: &[Record],
) -> Result<HashMap<Channel, Datum>, store::Error> {
    let good = |record: &Record| {
        let reading = record.reading()?;
        Some((reading.channel.clone(), reading.value.datum()?.clone()))
    };
    let mut last: HashMap<Channel, Datum> = latest.iter().filter_map(good).collect();
    for spec in specs.iter().filter(|spec| spec.output) {
        if last.contains_key(&spec.channel) {
            continue;
        }
        let (from, to) = (Timestamp::MIN, Timestamp::MAX);
        let query = Query { channel: spec.channel.clone(), from, to };
        let records = store.history(&query, LOOKED_THROUGH_MAX).await?;
        last.extend(records.iter().rev().find_map(good));
    }
    Ok(last)
}

impl Outputs {
    /// Commands to the outputs of `name` go this way.
    pub(crate) fn device(&self, name: &str, commands: mpsc::Sender<Command>) {
        let mut devices = self.devices.write().unwrap_or_else(PoisonError::into_inner);
        devices.insert(name.to_owned(), commands);
    }

    /// Forgets devices that are no more.
    pub(crate) fn retain(&self, known: impl Fn(&str) -> bool) {
        let mut devices = self.devices.write().unwrap_or_else(PoisonError::into_inner);
        devices.retain(|name, _| known(name));
    }

    /// The function that writes an output and waits until its device has taken
    /// the value. It never waits behind a queue that is full.
    pub(crate) fn set(self: &Arc<Self>) -> SetFn {
        let outputs = self.clone();
        Arc::new(move |channel, value| {
            let sent = outputs.send(channel, value);
            Box::pin(async move {
                let (device, outcome) = sent?;
                // Nobody answers when the driver ended by a bug in the middle.
                outcome
                    .await
                    .unwrap_or_else(|_| Err(format!("{device} was lost before it took the value")))
            })
        })
    }

    fn send(
        &self,
        channel: Channel,
        value: Datum,
    ) -> Result<(String, oneshot::Receiver<Result<(), String>>), String> {
        let device = channel.device().to_owned();
        let devices = self.devices.read().unwrap_or_else(PoisonError::into_inner);
        let commands = devices.get(&device).ok_or_else(|| format!("{channel} can't be written"))?;
        let (reply, outcome) = oneshot::channel();
        match commands.try_send(Command { channel, value, reply }) {
            Ok(()) => Ok((device, outcome)),
            Err(TrySendError::Full(_)) => {
                Err(format!("{device} has {COMMANDS_MAX} commands waiting: send them more slowly"))
            }
            Err(TrySendError::Closed(_)) => Err(format!("{device} has stopped")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_command_reaches_its_device_and_no_queue_is_waited_for() {
        let (sender, mut commands) = mpsc::channel(1);
        let outputs = Arc::new(Outputs::default());
        outputs.device("panel", sender);
        let set = outputs.set();
        let pump: Channel = "panel/pump".parse().unwrap();
        let first = set(pump.clone(), true.into());
        let full = set(pump.clone(), false.into()).await.unwrap_err();
        assert!(full.contains("commands waiting"), "{full}");
        let command = commands.recv().await.unwrap();
        assert_eq!((command.channel, command.value), (pump.clone(), true.into()));
        command.reply.send(Err("it is stuck".into())).unwrap();
        assert_eq!(first.await, Err("it is stuck".into()));

        let lost = set(pump.clone(), true.into());
        drop(commands.recv().await);
        assert!(lost.await.unwrap_err().contains("was lost"));
        drop(commands);
        assert_eq!(set(pump, true.into()).await, Err("panel has stopped".into()));
        let other = set("gateway/uptime".parse().unwrap(), true.into()).await;
        assert_eq!(other, Err("gateway/uptime can't be written".into()));
    }
}
