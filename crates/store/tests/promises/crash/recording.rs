//! What some starts of the gateway asked of the disk, and each cut of that.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::sync::Arc;

use reading::Record;

use super::disk::{self, Disk, Fate, State};
use super::expected::Expected;
use super::life::Told;
use super::recorder::{Call, record};
use crate::support::Dice;

/// What some starts asked of the disk.
pub(super) struct Recording {
    /// The folder before, and what its numbers had been given to.
    disk: Disk,
    before: Told,
    starts: Vec<Vec<Call>>,
}

impl Recording {
    /// The starts one after the other, on a folder that has these files.
    pub(super) fn of(starts: &[usize], files: &State, before: Told, home: &Path) -> Recording {
        // A kill may interrupt a call that has had its effect already: then what
        // is recorded isn't what happened, and it is recorded once more.
        let whole = (0..5).find_map(|attempt| {
            let folder = home.join(format!("recorded-{attempt}"));
            disk::put(files, &folder);
            let disk = Disk::of(&folder);
            let mut replayed = disk.clone();
            let mut calls = Vec::new();
            for start in starts {
                calls.push(record("crash::a_start_to_be_recorded", *start, &folder));
                replayed.restart();
                calls[calls.len() - 1].iter().for_each(|call| {
                    replayed.ask(call);
                });
            }
            let same = replayed.cut(Fate::All, &mut Dice(1)) == disk::files(&folder);
            same.then_some(Recording { disk, before: before.clone(), starts: calls })
        });
        whole.expect("the calls, replayed, give the very files that they were recorded of")
    }

    /// The folder after it.
    pub(super) fn end(&self) -> State {
        let mut disk = self.disk.clone();
        for start in &self.starts {
            disk.restart();
            start.iter().for_each(|call| {
                disk.ask(call);
            });
        }
        disk.cut(Fate::All, &mut Dice(1))
    }

    /// What the numbers are given to after it.
    pub(super) fn told(&self) -> Told {
        let mut told = self.before.clone();
        for call in self.starts.iter().flatten() {
            if let Call::Note(line) = call {
                told.note(line);
            }
        }
        told
    }

    pub(super) fn calls(&self) -> usize {
        self.starts.iter().map(Vec::len).sum()
    }

    pub(super) fn cuts(self) -> Cuts {
        let mut told = self.before.clone();
        let mut tellings = Vec::new();
        for call in self.starts.iter().flatten() {
            if let Call::Note(line) = call {
                if line.starts_with("start") {
                    tellings.push(Arc::new(told.given.clone()));
                }
                told.note(line);
            }
        }
        tellings.push(Arc::new(told.given));
        let given = Arc::clone(&tellings[0]);
        let epochs = Arc::new(told.epochs);
        let (durable, acknowledged) = (self.before.durable, self.before.acknowledged);
        let expected = Expected { given, epochs, durable, acknowledged };
        Cuts {
            disk: self.disk.clone(),
            tellings,
            round: 0,
            start: 0,
            call: 0,
            expected,
            told: self.before.clone(),
            dice: Dice(1),
            seen: HashSet::new(),
            new: 0,
            recording: self,
        }
    }
}

/// All cuts of a recording, over and over, each time with another fate of what
/// wasn't synchronised.
pub(super) struct Cuts {
    recording: Recording,
    tellings: Vec<Arc<Vec<Record>>>,
    round: usize,
    start: usize,
    call: usize,
    disk: Disk,
    expected: Expected,
    told: Told,
    dice: Dice,
    seen: HashSet<u64>,
    /// In this round.
    new: usize,
}

impl Cuts {
    fn told_so_far(&mut self) {
        let starts = self.told.epochs.len() - self.recording.before.epochs.len();
        self.expected.given = Arc::clone(&self.tellings[starts]);
        self.expected.durable = self.told.durable;
        self.expected.acknowledged = self.told.acknowledged;
    }
}

impl Iterator for Cuts {
    /// Which it is, for whoever has to find the cause; what is there; what must be.
    type Item = (String, State, Expected);

    /// The next state that hasn't been seen yet; none when a round has shown
    /// nothing new.
    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let Some(calls) = self.recording.starts.get(self.start) else {
                if self.new == 0 {
                    return None;
                }
                self.new = 0;
                self.round += 1;
                (self.start, self.call) = (0, 0);
                self.disk = self.recording.disk.clone();
                self.told = self.recording.before.clone();
                self.told_so_far();
                continue;
            };
            let Some(call) = calls.get(self.call) else {
                self.start += 1;
                self.call = 0;
                self.disk.restart();
                continue;
            };
            self.call += 1;
            if let Call::Note(line) = call {
                self.told.note(line);
                self.told_so_far();
                continue;
            }
            if !self.disk.ask(call) {
                continue;
            }
            let fate = Fate::ALL[(self.round + self.call) % Fate::ALL.len()];
            let state = self.disk.cut(fate, &mut self.dice);
            let mut hasher = DefaultHasher::new();
            state.hash(&mut hasher);
            if self.seen.insert(hasher.finish()) {
                self.new += 1;
                let what = format!("start {} call {} {fate:?}", self.start, self.call);
                return Some((what, state, self.expected.clone()));
            }
        }
    }
}
