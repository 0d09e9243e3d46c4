use std::any::Any;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::OptionFuture;
use reading::{Fault, Reading, Timestamp, Value};
use tokio::sync::{mpsc, watch};
use tokio::time::{self, Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::backoff::Backoff;
use crate::channel::Track;
use crate::{Batch, Config, Failure, Health, State};

/// How long opening may take, unless `timeout` is longer.
const OPEN_MAX: Duration = Duration::from_secs(10);
/// A device that has been open this long is there, even if it has said nothing.
const SETTLED: Duration = Duration::from_secs(1);
/// Noise is told to the log this often, with the count since the last time.
const NOISE_LOGGED_EVERY: Duration = Duration::from_secs(60);

/// Keeps one device open and turns its samples into readings.
pub struct Runner {
    config: Config,
    tracks: Vec<Track>,
    health: watch::Sender<Health>,
    backoff: Backoff,
    noise: Noise,
}

/// Noise since it was last told to the log.
#[derive(Default)]
struct Noise {
    count: u64,
    logged: Option<Instant>,
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

impl Runner {
    /// Makes the runner of one device, and the view of its health.
    pub fn new(config: Config) -> (Runner, watch::Receiver<Health>) {
        let mut seed = DefaultHasher::new();
        (&config.name, Timestamp::now().as_micros()).hash(&mut seed);
        let tracks = config.channels.iter().cloned().map(Track::new).collect();
        let (health, seen) = watch::channel(Health::opening());
        let backoff = Backoff::new(seed.finish());
        (Runner { config, tracks, health, backoff, noise: Noise::default() }, seen)
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
            tokio::select! {
                () = stop.cancelled() => return,
                () = time::sleep(wait) => {}
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
        let mut settles = Some(now + SETTLED);
        let mut ticks = self.config.poll.map(|poll| {
            let mut ticks = time::interval(poll);
            // After a slow answer the next is asked for one pace later: a burst
            // of late questions would only make it slower.
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            ticks
        });
        let patience = self.config.timeout;
        let mut batch = Batch::default();
        loop {
            let answer = {
                let mut read = pin!(async {
                    if let Some(ticks) = &mut ticks {
                        ticks.tick().await;
                    }
                    let read = device.read(&mut batch);
                    match patience {
                        Some(patience) => time::timeout(patience, read)
                            .await
                            .unwrap_or_else(|_| Err(too_slow("an answer", patience))),
                        None => read.await,
                    }
                });
                loop {
                    let due = self.next(settles);
                    tokio::select! {
                        biased;
                        () = stop.cancelled() => return End::Stopped,
                        answer = &mut read => break answer,
                        Some(()) = OptionFuture::from(due.map(time::sleep_until)) => {
                            if self.due(&mut settles, readings).await.is_err() {
                                return End::Stopped;
                            }
                        }
                    }
                }
            };
            let heard = !batch.samples.is_empty() || batch.noise > 0;
            if heard && self.send(&mut batch, readings).await.is_err() {
                return End::Stopped;
            }
            if let Err(failure) = answer {
                return End::Lost(failure);
            }
            self.back(&mut settles);
            // A device that always has more to say must not hide a channel that
            // has nothing.
            if self.next(settles).is_some_and(|due| due <= Instant::now())
                && self.due(&mut settles, readings).await.is_err()
            {
                return End::Stopped;
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
            out.extend(track.reading(sample.value, sample.at.unwrap_or(at), now));
        }
        let heard = batch.heard.take();
        batch.noise = 0;
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
        let out = self.tracks.iter_mut().filter_map(|track| track.due(at, now)).collect();
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
