//! One run: a gateway's lives, one after another, and what is done to them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use dashboard::Hub;
use forward::Forwarder;
use reading::{Epoch, Timestamp};
use store::{Status, Store};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::broker::Broker;
use super::devices::{self, Given};
use super::dice::Dice;
use super::disk::{Cut, Disk, File, Image};
use super::faults::Trouble;
use super::plan::{self, Plan};
use super::scheduler::{Scheduler, standing};
use crate::dating::Dating;
use crate::intake;
use crate::watchdog::Pulse;

/// 2026-11-24T08:20:00Z.
pub(super) const START: i64 = 1_795_508_400_000_000;

/// What a kill may lose, less what a commit may take, which here takes no time.
const KILL: Duration = Duration::from_millis(90);

/// What an orderly stop may take: so long the supervisor waits.
const GRACE: Duration = Duration::from_secs(10);

/// How long healed parts may take to bring over all that waits: the longest
/// wait before a connection, and one more for each message that breaks it.
const DRAIN: Duration = Duration::from_secs(1_200);

pub(super) struct World {
    pub(super) dice: Dice,
    pub(super) plan: Plan,
    folder: PathBuf,
    pub(super) scheduler: Scheduler,
    pub(super) brokers: Vec<Arc<Broker>>,
    pub(super) given: Arc<Given>,
    pub(super) disk: Arc<Disk>,
    pub(super) life: Option<Life>,
    pub(super) lives: Vec<Past>,
    pub(super) began: Instant,
    /// What the clock is ahead of true time, microseconds.
    pub(super) ahead: i64,
    pub(super) trouble: Trouble,
    pub(super) trace: Vec<String>,
}

pub(super) struct Life {
    store: Store,
    quiet: CancellationToken,
    stop: CancellationToken,
    /// At the last look.
    seen: Status,
}

/// How a life ended: readings accepted in it after this may be lost.
#[derive(Debug)]
pub(super) struct Past {
    pub(super) safe: Option<Instant>,
    /// Before when all was stored in time.
    calm: Instant,
}

/// Why a run fails.
pub(super) type Wrong = String;

impl World {
    pub(super) async fn run(seed: u64, folder: &Path) -> (Vec<String>, Result<(), Wrong>) {
        let mut dice = Dice::new(seed);
        let plan = Plan::throw(&mut dice);
        let lanes = |config: &forward::Config| match config.order {
            forward::Order::OldestFirst => 1,
            forward::Order::LiveFirst => 2,
        };
        let brokers = plan.forwarders.iter().map(|config| Broker::new(lanes(config), dice.fork()));
        let brokers: Vec<_> = brokers.collect();
        let disk = match Disk::mount(&folder.join("0"), Image::new()) {
            Ok(disk) => disk,
            Err(error) => return (Vec::new(), Err(error.to_string())),
        };
        let mut world = World {
            scheduler: Scheduler::new(dice.fork()),
            dice,
            brokers,
            plan,
            folder: folder.to_owned(),
            given: Arc::default(),
            disk,
            life: None,
            lives: Vec::new(),
            began: Instant::now(),
            ahead: START,
            trouble: Trouble::default(),
            trace: Vec::new(),
        };
        let outcome = world.lives().await;
        world.scheduler.kill();
        for life in 0..=world.lives.len() {
            Disk::unmount(&folder.join(life.to_string()));
        }
        Timestamp::pretend(None);
        (world.trace, outcome)
    }

    async fn lives(&mut self) -> Result<(), Wrong> {
        self.describe();
        self.boot(None).await?;
        for _ in 0..self.plan.steps {
            self.step().await?;
        }
        self.heal();
        self.drain().await?;
        self.account()?;
        self.restart().await?;
        self.look()
    }

    pub(super) fn note(&mut self, what: impl AsRef<str>) {
        let at = self.began.elapsed().as_secs_f64();
        self.trace.push(format!("{at:>10.3} {}", what.as_ref()));
    }

    fn describe(&mut self) {
        let mut text = String::new();
        for config in &self.plan.forwarders {
            let _ = write!(
                text,
                "{:?} {:?} {:?} inflight {} drain {} ack {:?}; ",
                config.version,
                config.format,
                config.order,
                config.inflight,
                config.drain_rate,
                config.ack_timeout
            );
        }
        let Plan { flush, max_size, devices, .. } = &self.plan;
        let text = format!("{text}flush {flush:?} max_size {max_size} {} devices", devices.len());
        self.note(text);
    }

    pub(super) fn set_clock(&self) {
        let elapsed = i64::try_from(self.began.elapsed().as_micros()).unwrap_or(i64::MAX);
        Timestamp::pretend(Some(Timestamp::from_micros(self.ahead.saturating_add(elapsed))));
    }

    fn folder(&self) -> PathBuf {
        self.folder.join(self.lives.len().to_string())
    }

    /// Starts the gateway on what the disk has.
    async fn boot(&mut self, mut before: Option<(Cut, Status)>) -> Result<(), Wrong> {
        let first = self.lives.len();
        loop {
            self.set_clock();
            let config = self.plan.store(&self.folder());
            let (channels, subscriptions) = (self.plan.channels(), self.plan.subscriptions());
            let opened = standing(Store::open(&config, &channels, &subscriptions)).await;
            let (store, appender, writer, cursors) = match opened {
                Ok(parts) => parts,
                Err(error) => {
                    // The folder has another name each time.
                    let folder = self.folder.display().to_string();
                    let error = error.to_string().replace(&folder, "");
                    if self.disk.is_cut() {
                        self.note(format!("cut while it starts: {error}"));
                        if self.next_life(Cut::Kill) == Cut::Power {
                            self.not_yet_durable(first);
                            before = before.map(|(_, before)| (Cut::Power, before));
                        }
                        continue;
                    }
                    self.note(format!("can't start: {error}"));
                    let healed = self.dice.chance(50);
                    if healed {
                        self.fault(None);
                    } else if self.trouble.fault {
                        self.run_for(Duration::from_secs(1)).await;
                    } else {
                        return Err(format!("it doesn't start: {error}"));
                    }
                    continue;
                }
            };
            let number = self.lives.len();
            let epoch = store.epoch().to_string();
            for broker in &self.brokers {
                broker.state().consumer.start(epoch.clone(), number);
            }
            self.whole()?;
            let seen = store.status();
            self.note(format!("life {number}: {}", figures(&seen)));
            if let Some((cut, before)) = before {
                continues(cut, &before, &seen)?;
            }
            self.scheduler.watch(&store);
            let hub = Hub::new("sim", store.epoch(), channels.clone());
            let (batches, queue) = mpsc::channel(intake::BATCHES_MAX);
            let (quiet, stop) = (CancellationToken::new(), CancellationToken::new());
            for (n, habits) in self.plan.devices.iter().enumerate() {
                let run = devices::run(
                    habits.clone(),
                    self.dice.fork(),
                    number,
                    Arc::clone(&self.given),
                    batches.clone(),
                );
                let stop = stop.clone();
                self.scheduler.spawn(&format!("device {n}"), async move {
                    stop.run_until_cancelled(run).await;
                });
            }
            drop(batches);
            let intake = intake::run(queue, appender, hub, Pulse::default(), Dating::set());
            let taken_in = quiet.clone().drop_guard();
            self.scheduler.spawn("intake", async move {
                let _taken_in = taken_in;
                drop(intake.await);
            });
            self.scheduler.spawn("writer", async { drop(writer.run().await) });
            for (n, (cursor, broker)) in cursors.into_iter().zip(&self.brokers).enumerate() {
                let gateway = forward::Gateway {
                    id: "sim".to_owned(),
                    version: "0",
                    channels: channels.clone(),
                    // What spreads its waits is to repeat.
                    epoch: Epoch(number as u64),
                };
                let config = self.plan.forwarders[n].clone();
                let (forwarder, _) = Forwarder::new(plan::name(n), config, gateway, cursor);
                let run = forwarder.with_dial(broker.dial()).run(quiet.clone());
                self.scheduler.spawn(&format!("forwarder {n}"), run);
                self.scheduler.spawn(&format!("broker {n}"), Arc::clone(broker).run());
            }
            self.life = Some(Life { store, quiet, stop, seen });
            return Ok(());
        }
    }

    /// What the last life before a start had stored when it was killed wasn't
    /// durable before that start has succeeded: power was cut meanwhile.
    fn not_yet_durable(&mut self, first: usize) {
        let flush = self.plan.flush;
        if let Some(past) = first.checked_sub(1).and_then(|last| self.lives.get_mut(last)) {
            past.safe = past.safe.min(past.calm.checked_sub(flush));
        }
    }

    /// Nothing but damage may make the store put its file aside.
    fn whole(&self) -> Result<(), Wrong> {
        let files = std::fs::read_dir(self.folder()).map_err(|e| e.to_string())?;
        for file in files.flatten() {
            let name = file.file_name();
            if name.to_string_lossy().contains("damaged") {
                return Err(format!("{} without damage", name.display()));
            }
        }
        Ok(())
    }

    /// An end without notice: what may be lost of what came last.
    fn next_life(&mut self, cut: Cut) -> Cut {
        let mut dice = self.dice.fork();
        let (cut, image) = self.disk.end(cut, &mut dice);
        let allowed = if cut == Cut::Kill { KILL } else { self.plan.flush };
        let calm = self.trouble.calm(Instant::now());
        self.begin_on(&format!("{cut:?}"), Past { safe: calm.checked_sub(allowed), calm }, image);
        cut
    }

    /// The disk as the end of a life leaves it, in a folder of its own.
    fn begin_on(&mut self, end: &str, past: Past, image: Image) {
        self.scheduler.kill();
        self.life = None;
        self.lives.push(past);
        let size: usize = image.values().map(File::len).sum();
        self.note(format!("{end}: {size} bytes are left"));
        // The next life begins with a sound disk.
        self.trouble = Trouble::default();
        match Disk::mount(&self.folder(), image) {
            Ok(disk) => self.disk = disk,
            Err(error) => self.note(format!("the simulation's own disk: {error}")),
        }
        if self.plan.crash > 0 && self.dice.chance(20) {
            let (calls, dice) = (self.dice.magnitude(1, 40), self.dice.fork());
            let cut = *self.dice.pick(&[Cut::Kill, Cut::Power]);
            self.disk.cut_after(calls, cut, dice);
        }
    }

    pub(super) async fn crash(&mut self, cut: Cut) -> Result<(), Wrong> {
        let before = self.life.as_ref().map(|life| life.store.status());
        let cut = self.next_life(cut);
        self.boot(before.map(|before| (cut, before))).await
    }

    /// An orderly stop and a new start: the devices let go, intake ends, the
    /// forwarders, then the writer. Nothing is lost, even if power is cut then.
    pub(super) async fn restart(&mut self) -> Result<(), Wrong> {
        let Some(life) = self.life.take() else { return Ok(()) };
        let before = life.store.status();
        self.note("stop");
        life.stop.cancel();
        drop(life);
        self.scheduler.unstall();
        let ours = |name: &&str| !name.starts_with("broker");
        let disk = Arc::clone(&self.disk);
        let ended =
            move |scheduler: &Scheduler| disk.is_cut() || !scheduler.living().iter().any(ours);
        self.set_clock();
        self.scheduler.run(Instant::now() + GRACE, ended).await;
        let left: Vec<&str> = self.scheduler.living().into_iter().filter(ours).collect();
        if !left.is_empty() && !self.trouble.fault && !self.disk.is_cut() {
            return Err(format!("an orderly stop takes more than {GRACE:?}: {left:?}"));
        }
        if left.is_empty() && !self.trouble.fault && !self.disk.is_cut() {
            let mut dice = self.dice.fork();
            let (_, image) = self.disk.end(Cut::Power, &mut dice);
            let now = Instant::now();
            self.begin_on("stopped", Past { safe: Some(now), calm: now }, image);
            return self.boot(Some((Cut::Kill, before))).await;
        }
        let cut = self.next_life(Cut::Kill);
        self.boot(Some((cut, before))).await
    }

    async fn run_for(&mut self, span: Duration) {
        let until = Instant::now() + span;
        let disk = Arc::clone(&self.disk);
        while Instant::now() < until && !disk.is_cut() {
            // The clock goes on in steps of this size.
            let next = until.min(Instant::now() + Duration::from_millis(250));
            self.set_clock();
            self.scheduler.run(next, |_| disk.is_cut()).await;
        }
        self.set_clock();
    }

    async fn step(&mut self) -> Result<(), Wrong> {
        self.act().await?;
        let span = Duration::from_millis(self.dice.magnitude(1, 4_000));
        self.run_for(span).await;
        if self.disk.is_cut() {
            self.note("cut at a call");
            self.crash(Cut::Kill).await?;
        }
        self.look()
    }

    pub(super) fn status(&self) -> Status {
        self.life.as_ref().map_or_else(Status::default, |life| life.store.status())
    }

    async fn drain(&mut self) -> Result<(), Wrong> {
        let until = Instant::now() + DRAIN;
        let mut rounds = 0;
        while Instant::now() < until {
            self.run_for(Duration::from_secs(2)).await;
            self.look()?;
            let status = self.status();
            let drained = status.queued == 0
                && status.error.is_none()
                && status.forwarders.iter().all(|forwarder| forwarder.pending == 0);
            // Once more for the gaps that are told of last.
            rounds = if drained { rounds + 1 } else { 0 };
            if rounds == 4 {
                return Ok(());
            }
        }
        Err(format!("after {DRAIN:?} of health it still waits: {}", figures(&self.status())))
    }

    /// What must hold at any time.
    fn look(&mut self) -> Result<(), Wrong> {
        let status = self.status();
        let mut line = figures(&status);
        for broker in &self.brokers {
            let state = broker.state();
            let (had, gaps) = (state.consumer.readings.len(), state.consumer.gaps.len());
            let (again, connections) = (state.consumer.again, state.connections);
            let _ = write!(line, " | has {had}+{gaps}, {again} again, {connections} links");
        }
        let (calls, polls) = (self.disk.calls(), self.scheduler.polls);
        let _ = write!(line, " | {calls} calls, {polls} polls");
        self.note(line);
        super::checks::at_any_time(self, &status)?;
        let Some(life) = &mut self.life else { return Ok(()) };
        let seen = std::mem::replace(&mut life.seen, status);
        super::checks::since(&seen, &life.seen)?;
        let living = self.scheduler.living();
        for part in ["intake", "writer", "forwarder 0"] {
            if !living.contains(&part) && !life.quiet.is_cancelled() {
                return Err(format!("{part} has ended"));
            }
        }
        Ok(())
    }

    fn account(&mut self) -> Result<(), Wrong> {
        let status = self.status();
        let mut causes: BTreeMap<String, u64> = BTreeMap::new();
        for broker in &self.brokers {
            for gap in broker.state().consumer.gaps.values() {
                *causes.entry(gap.reason.clone()).or_default() += gap.count;
            }
        }
        for (cause, count) in causes {
            self.note(format!("told: {count} {cause}"));
        }
        super::checks::at_the_end(self, &status)
    }
}

fn continues(cut: Cut, before: &Status, after: &Status) -> Result<(), Wrong> {
    super::checks::over_an_end(cut == Cut::Power, before, after)
}

fn figures(status: &Status) -> String {
    let Status { read, stored, dropped, queued, committed, durable, .. } = status;
    let mut line = format!(
        "read {read} stored {stored} dropped {dropped} queued {queued} committed {committed} \
         durable {durable}"
    );
    for of in &status.forwarders {
        let _ = write!(line, " | ack {} pend {} drop {}", of.acknowledged, of.pending, of.dropped);
    }
    line
}
