//! How commands and the rules of outputs reach the device.

use std::time::Duration;

use reading::{Channel, Datum, Reading, Timestamp, Value};
use tokio::sync::mpsc;
use tokio::time::{self, Instant};
use tracing::{debug, info, warn};

use super::{End, Runner, too_slow};
use crate::output::Cause;
use crate::{Batch, Command, Device, Taken};

/// How long writing may take, unless `timeout` says otherwise.
const WRITE_MAX: Duration = Duration::from_secs(5);

impl Runner {
    /// Carries a command out, if its output's rules allow it.
    pub(super) async fn obey(
        &mut self,
        device: &mut dyn Device,
        command: Command,
        readings: &mpsc::Sender<Vec<Reading>>,
    ) -> Result<(), End> {
        let Command { channel, value, reply } = command;
        if reply.is_closed() {
            return Ok(());
        }
        let now = Instant::now();
        let place = match self.outputs.allow(&channel, &value, now) {
            Ok(place) => place,
            Err(reason) => {
                // Here and below: who sent it may have left meanwhile.
                _ = reply.send(Err(reason));
                return Ok(());
            }
        };
        let before = self.last[place].clone().map(|datum| self.tracks[place].scaled(datum));
        self.outputs.commanded(place, now);
        match self.write(device, place, &value, readings).await {
            Ok(Ok(state)) => {
                let device = &self.config.name;
                let before = before.flatten().map(|datum| datum.to_string());
                info!(device, channel = channel.name(), before, now = %state, "set by command");
                _ = reply.send(told(&channel, &value, &state));
                Ok(())
            }
            Ok(Err(refusal)) => {
                _ = reply.send(Err(refusal));
                Ok(())
            }
            Err(end) => {
                if let End::Lost(failure) = &end {
                    _ = reply.send(Err(format!("{channel}: {failure}")));
                }
                Err(end)
            }
        }
    }

    /// Writes what is due by itself.
    pub(super) async fn output_due(
        &mut self,
        device: &mut dyn Device,
        readings: &mpsc::Sender<Vec<Reading>>,
    ) -> Result<(), End> {
        while let Some((place, value, cause)) = self.outputs.due(Instant::now()) {
            let channel = self.tracks[place].channel().clone();
            match cause {
                Cause::Pulse => debug!(%channel, "the pulse is over"),
                Cause::Failsafe => {
                    warn!(%channel, ?value, "no command for too long: the failsafe takes over");
                }
            }
            if let Err(refusal) = self.write(device, place, &value, readings).await? {
                warn!(%channel, ?value, "not taken: {refusal}");
            }
        }
        Ok(())
    }

    /// Writes each, in order; what the device refuses is only told.
    pub(super) async fn write_all(
        &mut self,
        device: &mut dyn Device,
        values: Vec<(usize, Datum)>,
        readings: &mpsc::Sender<Vec<Reading>>,
    ) -> Result<(), End> {
        for (place, value) in values {
            if let Err(refusal) = self.write(device, place, &value, readings).await? {
                let channel = self.tracks[place].channel();
                warn!(%channel, ?value, "not taken: {refusal}");
            }
        }
        Ok(())
    }

    /// Writes one channel and passes on what it then reads; gives that, or why
    /// the device refuses.
    async fn write(
        &mut self,
        device: &mut dyn Device,
        place: usize,
        value: &Datum,
        readings: &mpsc::Sender<Vec<Reading>>,
    ) -> Result<Result<Datum, String>, End> {
        let raw = self.tracks[place].unscaled(value);
        let patience = self.config.timeout.unwrap_or(WRITE_MAX);
        let written = time::timeout(patience, device.write(place, &raw)).await;
        let written = written.unwrap_or_else(|_| Err(too_slow("writing", patience)));
        let state = match written.map_err(End::Lost)? {
            Taken::State(state) => state,
            Taken::Refused(why) => return Ok(Err(why)),
        };
        self.last[place] = Some(state.clone());
        let (at, now) = (Timestamp::now(), Instant::now());
        let track = &mut self.tracks[place];
        let shown = track.scaled(state.clone()).unwrap_or_else(|| value.clone());
        let out = [track.reading(Value::Good(state), at, now), track.alarm(at, now)];
        self.outputs.written(place, shown.clone(), now);
        self.pass_on(out.into_iter().flatten().collect(), 0, readings).await?;
        Ok(Ok(shown))
    }

    /// The gateway stops: outputs are left as they are to be left, and what the
    /// device still holds is passed on.
    pub(super) async fn leave(
        &mut self,
        device: &mut dyn Device,
        batch: &mut Batch,
        readings: &mpsc::Sender<Vec<Reading>>,
    ) {
        let left = self.outputs.stopping();
        // The first failure ends it: the device is gone, or nobody listens.
        if self.write_all(device, left, readings).await.is_err() {
            return;
        }
        device.finish(batch);
        if !batch.samples.is_empty() {
            _ = self.send(batch, readings).await;
        }
    }
}

/// What who sent a command is told of what became of it. A number may have been
/// rounded to what the device can do; a switch that isn't where it was put is
/// no success.
fn told(channel: &Channel, value: &Datum, state: &Datum) -> Result<(), String> {
    match (value, state) {
        (Datum::Boolean(wanted), Datum::Boolean(is)) if wanted != is => {
            Err(format!("{channel} was set to {wanted}, but reads {is}"))
        }
        _ => Ok(()),
    }
}
