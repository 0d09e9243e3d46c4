mod losses;
mod writing;

use std::any::Any;
use std::collections::hash_map::DefaultHasher;
use std::convert::Infallible;
use std::hash::{Hash, Hasher};
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::OnceLock;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::OptionFuture;
use reading::{Channel, Datum, Fault, Reading, Timestamp, Value};
use tokio::sync::{mpsc, watch};
use tokio::time::{self, Instant, Interval, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::alarm::Driven;
use crate::backoff::Backoff;
use crate::channel::Track;
use crate::output::Outputs;
use crate::{Batch, Command, Config, Device, Failure, Health, State};

pub use losses::LoseFn;

/// How long opening may take, unless `timeout` is longer.
const OPEN_MAX: Duration = Duration::from_secs(10);
/// A device that has been open this long is there, even if it has said nothing.
const SETTLED: Duration = Duration::from_secs(1);
/// A device that is plugged in again should be open within two seconds; what it
/// costs to look for the name of a port is not worth a thought.
const LOOKED_EVERY: Duration = Duration::from_secs(1);
/// Noise is told to the log this often, with the count since the last time.
const NOISE_LOGGED_EVERY: Duration = Duration::from_secs(60);

/// Commands that wait for their device. Who sends more is not waiting for
/// answers, and is told so.
pub const COMMANDS_MAX: usize = 16;

/// Keeps one device open and turns its samples into readings; writes its
/// outputs as commands and their rules say.
pub struct Runner {
    config: Config,
    tracks: Vec<Track>,
    outputs: Outputs,
    commands: mpsc::Receiver<Command>,
    /// The last good values, before scale and offset, by channel.
    last: Vec<Option<Datum>>,
    health: watch::Sender<Health>,
    backoff: Backoff,
    /// Where it is told which outputs follow an alarm.
    driving: Option<mpsc::Sender<Driven>>,
    noise: Noise,
    missed: Noise,
    lose: Option<LoseFn>,
    /// How far it has fallen behind its pace, less than a poll.
    behind: Duration,
}

/// Noise, or what is missing, since it was last told to the log.
#[derive(Default)]
struct Noise {
    count: u64,
    logged: Option<Instant>,
}

/// What a session waits for.
enum Event {
    /// The device has spoken, or is lost; when it was asked, if it was.
    Answer(Result<(), Failure>, Option<Instant>),
    /// Somebody wants an output written.
    Command(Command),
    /// An output's time has come.
    Outputs,
}

/// Why a session with an open device ended.
enum End {
    /// The gateway stops, or nobody listens any more.
    Stopped,
    /// The device is lost.
    Lost(Failure),
}

/// Nobody listens any more.
struct Closed;

impl From<Closed> for End {
    fn from(_: Closed) -> End {
        End::Stopped
    }
}

impl Runner {
    /// Makes the runner of one device, the view of its health, and the way for
    /// commands to its outputs.
    pub fn new(config: Config) -> (Runner, watch::Receiver<Health>, mpsc::Sender<Command>) {
        let mut seed = DefaultHasher::new();
        (&config.name, Timestamp::now().as_micros()).hash(&mut seed);
        let tracks = config.channels.iter().cloned().map(Track::new).collect();
        let mut outputs = Outputs::new();
        for (place, channel) in config.channels.iter().enumerate() {
            if let Some(rules) = &channel.output {
                outputs.add(place, &channel.spec, rules.clone());
            }
        }
        let (health, seen) = watch::channel(Health::opening());
        let (commander, commands) = mpsc::channel(COMMANDS_MAX);
        let backoff = Backoff::new(seed.finish());
        let last = vec![None; config.channels.len()];
        let runner = Runner {
            config,
            tracks,
            outputs,
            commands,
            last,
            health,
            backoff,
            driving: None,
            noise: Noise::default(),
            missed: Noise::default(),
            lose: None,
            behind: Duration::ZERO,
        };
        (runner, seen, commander)
    }

    /// Takes up what the channels were before the gateway was started: the
    /// total of a counter goes on from there.
    pub fn restore(&mut self, last: impl Fn(&Channel) -> Option<Datum>) {
        for (track, known) in self.tracks.iter().zip(&mut self.last) {
            *known = last(track.channel()).map(|datum| track.unscaled(&datum));
        }
    }

    /// Tells which outputs are to follow an alarm. Without it, none do.
    pub fn driving(&mut self, outputs: mpsc::Sender<Driven>) {
        self.driving = Some(outputs);
    }

    /// Reads until `stop`, or until nobody listens. A fault is a reading, never
    /// an end. Sends one vector for each call of the device's `read`, in order.
    pub async fn run(mut self, readings: mpsc::Sender<Vec<Reading>>, stop: CancellationToken) {
        loop {
            let mut opened = None;
            // A driver that panics must not take the other devices with it. What
            // it held is dropped with the session, so nothing broken is seen.
            let session = AssertUnwindSafe(self.session(&readings, &stop, &mut opened));
            let failure = match session.catch_unwind().await {
                Ok(End::Stopped) => return,
                Ok(End::Lost(failure)) => failure,
                Err(panic) => Failure::new(Fault::Bug, format!("driver bug: {}", said(&*panic))),
            };
            if let Some(opened) = opened {
                self.backoff.lasted(Instant::now() - opened);
            }
            let wait = self.backoff.wait();
            if self.lost(&failure, wait, &readings).await.is_err() {
                return;
            }
            let again = Instant::now() + wait;
            let driver = self.config.driver.clone();
            let mut there = driver.is_there();
            loop {
                let look = Instant::now() + LOOKED_EVERY;
                tokio::select! {
                    biased;
                    () = stop.cancelled() => return,
                    () = time::sleep_until(again) => break,
                    () = time::sleep_until(look), if there.is_some() => {
                        let was = std::mem::replace(&mut there, driver.is_there());
                        if was == Some(false) && there == Some(true) {
                            self.backoff.plugged_in();
                            break;
                        }
                    }
                    // Not kept for later: who switches a pump now doesn't want
                    // it switched in an hour.
                    Some(command) = self.commands.recv() => {
                        let device = &self.config.name;
                        // Who sent it may have left meanwhile.
                        _ = command.reply.send(Err(format!("{device} is lost: {failure}")));
                    }
                }
            }
        }
    }

    /// One opening of the device, until it is lost or we stop.
    async fn session(
        &mut self,
        readings: &mpsc::Sender<Vec<Reading>>,
        stop: &CancellationToken,
        opened: &mut Option<Instant>,
    ) -> End {
        let driver = self.config.driver.clone();
        let patience = OPEN_MAX.max(self.config.timeout.unwrap_or_default());
        let mut device = tokio::select! {
            biased;
            () = stop.cancelled() => return End::Stopped,
            device = time::timeout(patience, driver.open()) => match device {
                Ok(Ok(device)) => device,
                Ok(Err(failure)) => return End::Lost(failure),
                Err(_) => return End::Lost(too_slow("opening it", patience)),
            },
        };
        let now = Instant::now();
        *opened = Some(now);
        self.tracks.iter_mut().for_each(|track| track.opened(now));
        for (place, last) in self.last.iter().enumerate() {
            if let Some(last) = last {
                device.restore(place, last);
            }
        }
        let first = self.outputs.opened(now);
        if let Err(end) = self.write_all(&mut *device, first, readings).await {
            return end;
        }
        let mut batch = Batch::default();
        match self.converse(&mut *device, &mut batch, readings, stop).await {
            Err(End::Stopped) => {
                self.leave(&mut *device, &mut batch, readings).await;
                End::Stopped
            }
            Err(end) => {
                // What it still holds is true, however it was lost.
                device.finish(&mut batch);
                if !batch.samples.is_empty() && self.send(&mut batch, readings).await.is_err() {
                    return End::Stopped;
                }
                end
            }
            Ok(never) => match never {},
        }
    }

    /// Reads and writes an open device, until it is lost or we stop.
    async fn converse(
        &mut self,
        device: &mut dyn Device,
        batch: &mut Batch,
        readings: &mpsc::Sender<Vec<Reading>>,
        stop: &CancellationToken,
    ) -> Result<Infallible, End> {
        let mut settles = Some(Instant::now() + SETTLED);
        let mut ticks = self.config.poll.map(|poll| {
            let mut ticks = time::interval(poll);
            // After a slow answer the next is asked for one pace later: a burst
            // of late questions would only make it slower.
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            ticks
        });
        loop {
            let asked = self.event(device, &mut ticks, batch, &mut settles, readings, stop);
            match asked.await? {
                Event::Command(command) => self.obey(device, command, readings).await?,
                Event::Outputs => self.output_due(device, readings).await?,
                Event::Answer(answer, asked) => {
                    let answered = Instant::now();
                    let heard = !batch.samples.is_empty() || batch.noise > 0 || batch.missed > 0;
                    if heard {
                        self.send(batch, readings).await?;
                    }
                    if let Err(failure) = answer {
                        return Err(End::Lost(failure));
                    }
                    if let Some(asked) = asked {
                        self.late(asked, answered);
                    }
                    self.back(&mut settles);
                    // A device that always has more to say must not hide a
                    // channel that has nothing, nor a command.
                    if self.next(settles).is_some_and(|due| due <= Instant::now()) {
                        self.due(&mut settles, readings).await?;
                    }
                    self.output_due(device, readings).await?;
                    if let Ok(command) = self.commands.try_recv() {
                        self.obey(device, command, readings).await?;
                    }
                }
            }
        }
    }

    /// Waits for the next thing to do.
    async fn event(
        &mut self,
        device: &mut dyn Device,
        ticks: &mut Option<Interval>,
        batch: &mut Batch,
        settles: &mut Option<Instant>,
        readings: &mpsc::Sender<Vec<Reading>>,
        stop: &CancellationToken,
    ) -> Result<Event, End> {
        let patience = self.config.timeout;
        // A device that was asked is let finish its answer, or the answer would
        // be taken for that to another question.
        let asked = OnceLock::new();
        let mut read = pin!(async {
            if let Some(ticks) = ticks {
                ticks.tick().await;
                _ = asked.set(Instant::now());
            }
            let read = device.read(batch);
            match patience {
                Some(patience) => time::timeout(patience, read)
                    .await
                    .unwrap_or_else(|_| Err(too_slow("an answer", patience))),
                None => read.await,
            }
        });
        loop {
            let free = asked.get().is_none();
            let outputs = self.outputs.next().filter(|_| free);
            let due = self.next(*settles).into_iter().chain(outputs).min();
            tokio::select! {
                biased;
                () = stop.cancelled() => return Err(End::Stopped),
                answer = &mut read => return Ok(Event::Answer(answer, asked.get().copied())),
                Some(command) = self.commands.recv(), if free => {
                    return Ok(Event::Command(command));
                }
                Some(()) = OptionFuture::from(due.map(time::sleep_until)) => {
                    if outputs.is_some_and(|at| at <= Instant::now()) {
                        return Ok(Event::Outputs);
                    }
                    self.due(settles, readings).await?;
                }
            }
        }
    }

    async fn send(
        &mut self,
        batch: &mut Batch,
        readings: &mpsc::Sender<Vec<Reading>>,
    ) -> Result<(), Closed> {
        let (at, now) = (Timestamp::now(), Instant::now());
        let mut out = Vec::with_capacity(batch.samples.len());
        let mut noise = batch.noise;
        if noise > 0 {
            // A frame that isn't understood might have been any channel's. It
            // goes first: what was understood beside it is the newer news.
            let bad = |track: &mut Track| track.reading(Value::Bad(Fault::Corrupt), at, now);
            out.extend(self.tracks.iter_mut().filter_map(bad));
        }
        for sample in batch.samples.drain(..) {
            let Some(track) = self.tracks.get_mut(sample.channel) else {
                debug_assert!(false, "a driver gave a channel that it doesn't have");
                continue;
            };
            noise += u64::from(sample.value == Value::Bad(Fault::Corrupt));
            if let Some(datum) = sample.value.datum() {
                self.last[sample.channel] = Some(datum.clone());
            }
            let at = sample.at.unwrap_or(at);
            out.extend(track.reading(sample.value, at, now));
            out.extend(track.alarm(at, now));
        }
        let heard = batch.heard.take();
        batch.noise = 0;
        self.missed(std::mem::take(&mut batch.missed), now);
        self.lost_edges(batch.lost.drain(..));
        self.noise(noise, heard, now);
        self.pass_on(out, noise, readings).await
    }

    /// Counts noise and tells the log of it, but rarely.
    fn noise(&mut self, count: u64, heard: Option<String>, now: Instant) {
        self.noise.count += count;
        let silent = self.noise.logged.is_some_and(|at| now < at + NOISE_LOGGED_EVERY);
        if self.noise.count > 0 && !silent {
            let (device, frames) = (&self.config.name, self.noise.count);
            let heard = heard.unwrap_or_default();
            warn!(device, frames, heard, "noise: frames not understood");
            self.noise = Noise { count: 0, logged: Some(now) };
        }
    }

    /// Counts changes that are missing, and tells the log of it, but rarely.
    fn missed(&mut self, count: u64, now: Instant) {
        self.missed.count += count;
        let silent = self.missed.logged.is_some_and(|at| now < at + NOISE_LOGGED_EVERY);
        if self.missed.count > 0 && !silent {
            let (device, changes) = (&self.config.name, self.missed.count);
            warn!(device, changes, "more changes than can be told: their number is known");
            self.missed = Noise { count: 0, logged: Some(now) };
        }
        if count > 0 {
            self.health.send_if_modified(|health| {
                health.missed += count;
                false
            });
        }
    }

    async fn pass_on(
        &mut self,
        out: Vec<Reading>,
        noise: u64,
        readings: &mpsc::Sender<Vec<Reading>>,
    ) -> Result<(), Closed> {
        let count = out.len() as u64;
        let bad = out.iter().filter(|reading| matches!(reading.value, Value::Bad(_))).count();
        if count > 0 {
            readings.send(out).await.map_err(|_| Closed)?;
            self.drive().await;
        }
        // Counts alone wake nobody: a watcher asks for them when it wants them.
        self.health.send_if_modified(|health| {
            health.readings += count;
            health.bad += bad as u64;
            health.noise += noise;
            false
        });
        Ok(())
    }

    /// Tells of outputs that are to follow an alarm.
    async fn drive(&mut self) {
        let Some(driving) = &self.driving else { return };
        for track in &mut self.tracks {
            for driven in track.driven() {
                // Whoever listened has stopped, and so do we soon.
                _ = driving.send(driven).await;
            }
        }
    }

    /// The device answered or has settled: it is there.
    fn back(&mut self, settles: &mut Option<Instant>) {
        if settles.take().is_none() {
            return;
        }
        let (device, now) = (&self.config.name, Timestamp::now());
        self.health.send_modify(|health| {
            match health.state {
                State::Lost => {
                    let after = humantime::format_duration(whole_seconds(now.since(health.since)));
                    info!(device, "device is back after {after}");
                }
                _ => info!(device, driver = self.config.kind.name, "device is open"),
            }
            health.state = State::Ok;
            health.since = now;
            health.error = None;
        });
    }

    /// One line in the log and one bad reading a channel, however often it is
    /// then tried in vain.
    async fn lost(
        &mut self,
        failure: &Failure,
        wait: Duration,
        readings: &mpsc::Sender<Vec<Reading>>,
    ) -> Result<(), Closed> {
        let device = &self.config.name;
        let already = self.health.borrow().state == State::Lost;
        self.health.send_modify(|health| {
            if !already {
                health.state = State::Lost;
                health.since = Timestamp::now();
            }
            health.error = Some(failure.detail.clone());
        });
        if already {
            debug!(device, error = %failure, ?wait, "device is still lost");
            return Ok(());
        }
        warn!(device, reason = %failure.fault, error = %failure, "device is lost; trying again until it is back");
        let at = Timestamp::now();
        self.tracks.iter_mut().for_each(Track::lost);
        let out = self.tracks.iter().map(|track| track.bad(failure.fault, at)).collect();
        self.pass_on(out, 0, readings).await
    }

    fn next(&self, settles: Option<Instant>) -> Option<Instant> {
        self.tracks.iter().filter_map(Track::next).chain(settles).min()
    }

    async fn due(
        &mut self,
        settles: &mut Option<Instant>,
        readings: &mpsc::Sender<Vec<Reading>>,
    ) -> Result<(), Closed> {
        let (at, now) = (Timestamp::now(), Instant::now());
        if settles.is_some_and(|settles| settles <= now) {
            self.back(settles);
        }
        let due = |track: &mut Track| [track.due(at, now), track.alarm(at, now)];
        let out = self.tracks.iter_mut().flat_map(due).flatten().collect();
        self.pass_on(out, 0, readings).await
    }
}

fn too_slow(what: &str, patience: Duration) -> Failure {
    let patience = humantime::format_duration(patience);
    Failure::new(Fault::Timeout, format!("{what} took longer than {patience}"))
}

fn whole_seconds(duration: Duration) -> Duration {
    Duration::from_secs(duration.as_secs())
}

/// The message of a panic.
fn said(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

#[cfg(test)]
mod tests;
