//! A folder on a disk that may lose its power: what has been asked of it, and
//! every way in which a part of that may be there afterwards.
//!
//! What was written before a successful `fsync` of its file is there. Of what
//! came later, any sectors may be, in any order. Names change in the order in
//! which they were changed, as file systems with a journal keep it, and last
//! once the folder is synchronised: not because a file in it was.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use super::recorder::{Call, is_lasting};
use crate::support::Dice;

/// What a disk writes whole or not at all, bytes.
const SECTOR: u64 = 512;

/// What a card may spoil when its power goes as it writes a part of it, bytes. A
/// page of the file itself takes this risk, as SQLite's do on Unix.
const SPOILED: u64 = 4_096;

/// The files of a folder.
pub(super) type State = BTreeMap<String, Vec<u8>>;

/// What a folder has now.
pub(super) fn files(folder: &Path) -> State {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    let named = entries.map(|entry| (entry.file_name().into_string().unwrap(), entry.path()));
    let lasting = named.filter(|(name, _)| is_lasting(name));
    lasting.map(|(name, path)| (name, std::fs::read(path).unwrap())).collect()
}

/// Makes a folder of these files.
pub(super) fn put(state: &State, folder: &Path) {
    std::fs::create_dir_all(folder).unwrap();
    for (name, bytes) in state {
        std::fs::write(folder.join(name), bytes).unwrap();
    }
}

#[derive(Clone, Default)]
pub(super) struct Disk {
    /// The names that last, and what has become of them since.
    names: BTreeMap<String, usize>,
    renamed: Vec<Name>,
    /// The names as a program sees them.
    seen: BTreeMap<String, usize>,
    files: Vec<File>,
    /// Open files of the recorded program.
    open: HashMap<usize, usize>,
    asked: u64,
}

#[derive(Clone)]
enum Name {
    Made(String, usize),
    Renamed(String, String),
    Gone(String),
}

#[derive(Clone, Default)]
struct File {
    lasting: Vec<u8>,
    /// What isn't synchronised, and when it was asked.
    since: Vec<(u64, Change)>,
}

#[derive(Clone)]
enum Change {
    /// Within one sector.
    Bytes(u64, Vec<u8>),
    Size(u64),
}

/// How much of what isn't synchronised is there after a cut.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fate {
    /// All: what a killed process leaves.
    All,
    None,
    /// Each sector with this chance in eight.
    Some(u64),
    /// What was asked first, as far as the middle of some call.
    First,
    /// What was asked last, without what was asked before.
    Last,
    /// All but the sectors of one moment.
    AllBut,
    /// The sectors of one moment alone.
    One,
    /// Half of it, and in the log what isn't there has spoiled all that is near.
    Spoiled,
}

impl Fate {
    pub(super) const ALL: [Fate; 10] = [
        Fate::All,
        Fate::None,
        Fate::Some(4),
        Fate::First,
        Fate::Last,
        Fate::AllBut,
        Fate::Some(7),
        Fate::Spoiled,
        Fate::One,
        Fate::Some(1),
    ];
}

impl Disk {
    /// The folder as it is, all of it lasting.
    pub(super) fn of(folder: &Path) -> Disk {
        let mut disk = Disk::default();
        for (name, lasting) in files(folder) {
            disk.names.insert(name, disk.files.len());
            disk.files.push(File { lasting, since: Vec::new() });
        }
        disk.seen = disk.names.clone();
        disk
    }

    /// Another program starts: its open files are its own.
    pub(super) fn restart(&mut self) {
        self.open.clear();
    }

    /// Does what was asked; says whether anything can be different now.
    pub(super) fn ask(&mut self, call: &Call) -> bool {
        self.asked += 1;
        match call {
            Call::Open { name, file, cut } => {
                let known = self.seen.get(name).copied();
                let place = known.unwrap_or(self.files.len());
                if known.is_none() {
                    self.files.push(File::default());
                    self.seen.insert(name.clone(), place);
                    self.renamed.push(Name::Made(name.clone(), place));
                }
                self.open.insert(*file, place);
                if *cut {
                    self.files[place].since.push((self.asked, Change::Size(0)));
                }
                known.is_none() || *cut
            }
            Call::Write { file, at, bytes } => {
                let file = &mut self.files[self.open[file]];
                let mut at = *at;
                let mut rest = &bytes[..];
                while !rest.is_empty() {
                    let fits = (SECTOR - at % SECTOR).min(rest.len() as u64);
                    let (sector, later) = rest.split_at(fits as usize);
                    file.since.push((self.asked, Change::Bytes(at, sector.to_vec())));
                    at += fits;
                    rest = later;
                }
                true
            }
            Call::Size { file, len } => {
                self.files[self.open[file]].since.push((self.asked, Change::Size(*len)));
                true
            }
            Call::Sync { file: Some(file) } => {
                let file = &mut self.files[self.open[file]];
                for (_, change) in file.since.drain(..) {
                    change.make(&mut file.lasting);
                }
                true
            }
            Call::Sync { file: None } => {
                self.names = self.seen.clone();
                self.renamed.clear();
                true
            }
            Call::Rename { from, to } => {
                self.renamed.push(Name::Renamed(from.clone(), to.clone()));
                self.renamed[self.renamed.len() - 1].change(&mut self.seen);
                true
            }
            Call::Unlink { name } => {
                self.renamed.push(Name::Gone(name.clone()));
                self.renamed[self.renamed.len() - 1].change(&mut self.seen);
                true
            }
            Call::Note(_) => false,
        }
    }

    /// One way in which the folder may be after a cut at this moment.
    pub(super) fn cut(&self, fate: Fate, dice: &mut Dice) -> State {
        let mut names = self.names.clone();
        let renamed = match fate {
            Fate::All | Fate::AllBut => self.renamed.len(),
            Fate::None => 0,
            _ => dice.below(self.renamed.len() as u64 + 1) as usize,
        };
        self.renamed[..renamed].iter().for_each(|name| name.change(&mut names));
        // Changes over all files, in the order in which they were asked.
        let mut moments: Vec<u64> =
            self.files.iter().flat_map(|file| &file.since).map(|(asked, _)| *asked).collect();
        moments.sort_unstable();
        moments.dedup();
        let some = dice.below(moments.len() as u64) as usize;
        let moment = moments.get(some).copied().unwrap_or(0);
        let files = names.into_iter().map(|(name, place)| {
            let file = &self.files[place];
            let mut bytes = file.lasting.clone();
            for (asked, change) in &file.since {
                let there = match fate {
                    Fate::All => true,
                    Fate::None => false,
                    Fate::Some(chance) => dice.below(8) < chance,
                    Fate::Spoiled => dice.below(2) == 0,
                    Fate::First => *asked < moment || (*asked == moment && dice.below(2) == 0),
                    Fate::Last => *asked > moment || (*asked == moment && dice.below(2) == 0),
                    Fate::AllBut => *asked != moment,
                    Fate::One => *asked == moment,
                };
                if there {
                    change.make(&mut bytes);
                } else if let Change::Bytes(at, _) = change
                    && matches!(fate, Fate::Spoiled)
                    && name.ends_with("-wal")
                {
                    let begin = at - at % SPOILED;
                    let near = begin as usize..((begin + SPOILED) as usize).min(bytes.len());
                    bytes.get_mut(near).into_iter().for_each(|near| near.fill(0xa5));
                } else if let Change::Bytes(at, lost) = change
                    && matches!(fate, Fate::Some(_))
                    && dice.below(4) == 0
                {
                    // The size is there, what was written isn't: zeros, or what
                    // the disk had there before.
                    let end = *at as usize + lost.len();
                    let was = if dice.below(2) == 0 { 0 } else { 0xa5 };
                    bytes.resize(bytes.len().max(end), was);
                }
            }
            (name, bytes)
        });
        files.collect()
    }
}

impl Name {
    fn change(&self, names: &mut BTreeMap<String, usize>) {
        match self {
            Name::Made(name, place) => drop(names.insert(name.clone(), *place)),
            Name::Renamed(from, to) => {
                if let Some(place) = names.remove(from) {
                    names.insert(to.clone(), place);
                }
            }
            Name::Gone(name) => drop(names.remove(name)),
        }
    }
}

impl Change {
    fn make(&self, bytes: &mut Vec<u8>) {
        match self {
            Change::Bytes(at, written) => {
                let (at, end) = (*at as usize, *at as usize + written.len());
                bytes.resize(bytes.len().max(end), 0);
                bytes[at..end].copy_from_slice(written);
            }
            Change::Size(len) => bytes.resize(*len as usize, 0),
        }
    }
}

#[test]
fn what_is_synchronised_is_there_and_of_the_rest_any_part() {
    let folder = tempfile::tempdir().unwrap();
    let mut disk = Disk::of(folder.path());
    let write = |at, byte: u8| Call::Write { file: 0, at, bytes: vec![byte; 1_000] };
    disk.ask(&Call::Open { name: "a".into(), file: 0, cut: false });
    disk.ask(&write(0, 1));
    disk.ask(&Call::Sync { file: Some(0) });
    assert!(disk.cut(Fate::None, &mut Dice(1)).is_empty(), "the name doesn't last yet");
    disk.ask(&Call::Sync { file: None });
    disk.ask(&write(1_000, 2));
    disk.ask(&write(512, 3));
    disk.ask(&Call::Rename { from: "a".into(), to: "b".into() });
    assert_eq!(disk.cut(Fate::None, &mut Dice(1))["a"], vec![1; 1_000]);
    let all = disk.cut(Fate::All, &mut Dice(1));
    let written = [vec![1; 512], vec![3; 1_000], vec![2; 488]].concat();
    assert_eq!(all, State::from([("b".into(), written)]));
    // Torn at a sector: of the last write its first half alone.
    let torn = [vec![1; 512], vec![3; 512], vec![2; 976]].concat();
    let mut dice = Dice(1);
    let mut found = (0..2_000).map(|n| disk.cut(Fate::ALL[n % Fate::ALL.len()], &mut dice));
    assert!(found.any(|state| state.values().any(|bytes| *bytes == torn)));
    let states: std::collections::HashSet<State> =
        (0..2_000).map(|n| disk.cut(Fate::ALL[n % Fate::ALL.len()], &mut dice)).collect();
    assert!(states.len() > 30, "{}", states.len());
}
