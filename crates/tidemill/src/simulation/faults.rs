//! What is done to a gateway, step by step.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::broker::{Answer, Mood};
use super::dice::Dice;
use super::disk::{Cut, Fault};
use super::plan::Plan;
use super::world::{START, World, Wrong};

/// How soon after a fault's end all is as it was.
const RECOVERY: Duration = Duration::from_secs(5);

/// What keeps the gateway from keeping its promises in time.
#[derive(Default)]
pub(super) struct Trouble {
    pub(super) fault: bool,
    pub(super) slow: bool,
    /// Since when, and until when it may tell.
    since: Option<Instant>,
    until: Option<Instant>,
}

impl Trouble {
    pub(super) fn extend(&mut self, until: Instant) {
        let now = Instant::now();
        let lasts = self.fault || self.slow;
        if !lasts && self.until.is_none_or(|until| until < now) {
            self.since = Some(now);
        }
        self.until = Some(self.until.map_or(until, |known| known.max(until)));
    }

    /// Before when a reading must have been stored, but for what a healthy
    /// gateway may take.
    pub(super) fn calm(&self, now: Instant) -> Instant {
        match (self.since, self.until) {
            (Some(since), _) if self.fault || self.slow => since,
            (Some(since), Some(until)) if until >= now => since,
            _ => now,
        }
    }
}

impl World {
    pub(super) async fn act(&mut self) -> Result<(), Wrong> {
        let Plan { network, disk, clock, crash, stall, .. } = self.plan;
        let mut thrown = self.dice.below(100 + network + disk + clock + crash + stall);
        let mut is = |share: u64| {
            let yes = thrown < share;
            thrown = thrown.wrapping_sub(share);
            yes
        };
        if is(network) {
            self.bend();
        } else if is(disk) {
            let fault = *self.dice.pick(&[Fault::Io, Fault::Full, Fault::Sync]);
            let fault = (!self.trouble.fault).then_some(fault);
            self.fault(fault);
        } else if is(clock) {
            self.jump();
        } else if is(crash) {
            return self.end().await;
        } else if is(stall) {
            self.hold_up();
        } else {
            let (share, least, most) = self.plan.bursts;
            if self.dice.chance(share) {
                let burst = self.dice.magnitude(least, most);
                self.note(format!("a burst of {burst}"));
                self.given.account().burst = burst;
            }
        }
        Ok(())
    }

    fn bend(&mut self) {
        let which = self.dice.below(self.brokers.len() as u64) as usize;
        let broker = Arc::clone(&self.brokers[which]);
        if self.dice.chance(30) {
            self.note(format!("broker {which}: cut"));
            broker.cut();
            return;
        }
        let mood = match self.dice.below(3) {
            0 => Mood::default(),
            _ => mood(&mut self.dice),
        };
        self.note(format!("broker {which}: {mood:?}"));
        broker.bend(mood);
    }

    pub(super) fn fault(&mut self, fault: Option<Fault>) {
        self.note(format!("disk: {fault:?}"));
        self.disk.fail(fault);
        self.trouble.extend(Instant::now() + RECOVERY + self.plan.flush);
        self.trouble.fault = fault.is_some();
    }

    fn jump(&mut self) {
        const HOUR: i64 = 3_600_000_000;
        let jump = *self.dice.pick(&[1_000_000, -1_000_000, HOUR, -HOUR, 56 * 8_766 * HOUR]);
        // The second time such a jump is taken back.
        let jump = if self.ahead > START + 8_766 * HOUR { START - self.ahead } else { jump };
        self.ahead += jump;
        self.note(format!("the clock jumps by {} s", jump / 1_000_000));
        self.set_clock();
    }

    fn hold_up(&mut self) {
        if self.dice.chance(40) {
            let slow = self.scheduler.slow.is_none();
            self.trouble.extend(Instant::now() + RECOVERY + self.plan.flush);
            self.trouble.slow = slow;
            self.scheduler.slow = slow.then_some(Duration::from_millis(300));
            self.note(format!("slow card: {slow}"));
            return;
        }
        let span = Duration::from_millis(self.dice.magnitude(1, 4_000));
        if let Some(who) = self.scheduler.stall(span) {
            self.note(format!("{who} stalls for {span:?}"));
            if who == "writer" || who == "intake" {
                self.trouble.extend(Instant::now() + span + RECOVERY + self.plan.flush);
            }
        }
    }

    async fn end(&mut self) -> Result<(), Wrong> {
        let cut = *self.dice.pick(&[Cut::Kill, Cut::Power]);
        match self.dice.below(10) {
            0..4 => self.crash(cut).await,
            4..8 => {
                let calls = self.dice.magnitude(1, 300);
                let dice = self.dice.fork();
                self.note(format!("{cut:?} after {calls} calls"));
                self.disk.cut_after(calls, cut, dice);
                Ok(())
            }
            _ => self.restart().await,
        }
    }

    pub(super) fn heal(&mut self) {
        self.note("heal");
        self.disk.spare();
        self.disk.fail(None);
        self.scheduler.unstall();
        self.trouble = Trouble::default();
        self.given.account().rest = true;
        self.brokers.iter().for_each(|broker| broker.bend(Mood::default()));
    }
}

fn mood(dice: &mut Dice) -> Mood {
    let mut mood = Mood::default();
    for _ in 0..dice.between(1, 3) {
        match dice.below(13) {
            0 => mood.dial = Answer::Refuses,
            1 => mood.dial = Answer::Hangs,
            2 => mood.refuse = true,
            3 => mood.silent = true,
            4 | 5 => mood.latency = dice.magnitude(1, 3_000),
            6 => mood.lose = dice.magnitude(1, 100),
            7 => mood.breaks = dice.magnitude(1, 50),
            8 => mood.double = true,
            9 => mood.shuffle = true,
            10 => mood.poison = Some(dice.magnitude(20, 500)),
            11 => mood.refuses = Some(dice.magnitude(3, 500)),
            _ => mood.quota = dice.magnitude(1, 20),
        }
    }
    mood
}
