//! What the handles and the writer share: one mutex, so that every look at the
//! ledger is consistent. It is never held across an `await`.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use reading::{Channel, Epoch, Pattern, Record, Seq};
use sqlx::SqlitePool;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::Error;
use crate::change::Change;
use crate::losses::Losses;
use crate::ring::Ring;
use crate::status::{ChannelLedger, ForwarderLedger, Loss, Status};
use crate::steps::Steps;
use crate::undated::Held;
use crate::wear::Wear;

/// When the file was replaced, if it was.
pub(crate) type Renewed = Arc<Mutex<Option<std::time::Instant>>>;

/// Behind every handle of one open store.
pub(crate) struct Shared {
    pub(crate) path: PathBuf,
    pub(crate) max_size: u64,
    pub(crate) flush: Duration,
    pub(crate) epoch: Epoch,
    /// The first number of each start that has records in the file, ascending.
    pub(crate) epochs: Vec<(Seq, Epoch)>,
    /// Grows only; ids are those of the table `channel`.
    pub(crate) channels: RwLock<HashMap<i64, Channel>>,
    pub(crate) committed: watch::Receiver<Seq>,
    /// What of it forwarders may have: all, but for what is held back.
    pub(crate) ready: watch::Receiver<Seq>,
    /// Which start of the machine this is, where Linux tells.
    pub(crate) boot_id: Option<String>,
    /// Cursors' own connection, so that a long chart can't hold up a forwarder.
    pub(crate) backlog: SqlitePool,
    /// When the file was replaced: older connections of these two are of the
    /// file put aside.
    pub(crate) renewed: Renewed,
    /// History's connection.
    pub(crate) history: SqlitePool,
    state: Mutex<State>,
    /// Something for the writer to do.
    pub(crate) work: Notify,
    /// Room in the queue, or a reason to stop waiting for it.
    pub(crate) room: Notify,
    pub(crate) steps: Steps,
}

pub(crate) struct State {
    pub(crate) queue: VecDeque<Queued>,
    /// Records in `queue` and in the writer's hands.
    pub(crate) queued: usize,
    /// Of these, readings.
    pub(crate) queued_readings: u64,
    /// Readings handed to [`crate::Appender`], whatever became of them.
    pub(crate) taken: u64,
    pub(crate) ledger: Ledger,
    pub(crate) forwarders: Vec<Forwarder>,
    /// When a position moved that the file doesn't have yet.
    pub(crate) moved_at: Option<Instant>,
    pub(crate) ring: Ring,
    /// The last record of each channel that has had one in this run.
    pub(crate) latest: HashMap<Channel, Record>,
    /// The ledger by channel.
    pub(crate) by_channel: HashMap<Channel, OfChannel>,
    /// What never was stored, what retention removed that was owed, what
    /// brokers refuse for good, and what damage took.
    pub(crate) losses: Losses,
    /// Readings that wait for the clock.
    pub(crate) held: Held,
    /// Somebody has read what no version writes: the writer is to mend it.
    pub(crate) damaged: bool,
    pub(crate) oldest: Option<i64>,
    /// The time of the newest reading that the file had when it was opened.
    pub(crate) newest: Option<reading::Timestamp>,
    pub(crate) size: u64,
    pub(crate) bytes_written: u64,
    pub(crate) wear: Option<Wear>,
    pub(crate) error: Option<String>,
    /// The file that should be used, and why it isn't.
    pub(crate) stands_in_for: Option<(PathBuf, String)>,
    /// A power cut loses nothing through this number.
    pub(crate) durable: u64,
    /// The queue was full for as long as the appender waits: until the next
    /// commit it doesn't wait again.
    pub(crate) stuck: bool,
    /// Commits so far: progress, for whoever waits for room.
    pub(crate) commits: u64,
    pub(crate) appender_gone: bool,
    pub(crate) cursors: usize,
    /// The channels of the configuration.
    pub(crate) configured: Vec<Channel>,
    /// Of channels and forwarders, for the writer to make.
    pub(crate) change: Option<Change>,
}

pub(crate) struct Queued {
    pub(crate) at: Instant,
    pub(crate) records: Vec<Record>,
}

/// The row of the table `ledger`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Ledger {
    pub(crate) counted: u64,
    pub(crate) stored: u64,
    pub(crate) dropped: u64,
    pub(crate) removed: u64,
    pub(crate) purged: u64,
    pub(crate) rolled: u64,
}

/// A channel's part of the ledger.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct OfChannel {
    pub(crate) stored: u64,
    pub(crate) dropped: u64,
    /// The file doesn't have it like this.
    pub(crate) changed: bool,
}

impl State {
    /// A forwarder by its name; none that has left the configuration.
    pub(crate) fn forwarder(&mut self, name: &str) -> Option<&mut Forwarder> {
        self.forwarders.iter_mut().find(|forwarder| forwarder.name == name)
    }

    /// The ledger of one channel, to be changed.
    pub(crate) fn of_channel(&mut self, channel: &Channel) -> &mut OfChannel {
        if !self.by_channel.contains_key(channel) {
            self.by_channel.insert(channel.clone(), OfChannel::default());
        }
        let of = self.by_channel.entry(channel.clone()).or_default();
        of.changed = true;
        of
    }

    fn channel_ledgers(&self) -> Vec<ChannelLedger> {
        let ledger = |(channel, of): (&Channel, &OfChannel)| ChannelLedger {
            channel: channel.clone(),
            stored: of.stored,
            dropped: of.dropped,
        };
        let mut ledgers: Vec<_> = self.by_channel.iter().map(ledger).collect();
        ledgers.sort_by(|a, b| a.channel.cmp(&b.channel));
        ledgers
    }
}

/// A row of the table `forwarder`, and what its cursor has in hand.
pub(crate) struct Forwarder {
    pub(crate) name: String,
    pub(crate) patterns: Vec<Pattern>,
    pub(crate) position: Seq,
    /// [`crate::Cursor::unsent`] has given everything through this number.
    pub(crate) looked: Seq,
    pub(crate) stored: u64,
    pub(crate) acknowledged: u64,
    pub(crate) dropped: u64,
    /// Readings given and not acknowledged, as runs of successive numbers: what
    /// an acknowledgement counts. As long as the forwarder's window, at most.
    pub(crate) given: VecDeque<(u64, u64)>,
    /// Of these, refused for good: passing one counts it as dropped.
    pub(crate) skipped: BTreeSet<u64>,
}

impl Shared {
    pub(crate) fn new(
        parts: Parts,
        [committed, ready]: [watch::Receiver<Seq>; 2],
        [backlog, history]: [SqlitePool; 2],
        renewed: Renewed,
    ) -> Shared {
        let last = *committed.borrow();
        let state = State {
            queue: VecDeque::new(),
            queued: 0,
            queued_readings: 0,
            taken: parts.ledger.stored + parts.ledger.dropped,
            ledger: parts.ledger,
            cursors: parts.forwarders.len(),
            forwarders: parts.forwarders,
            moved_at: None,
            ring: Ring::new(last),
            latest: HashMap::new(),
            by_channel: parts.by_channel,
            losses: parts.losses,
            held: parts.held,
            damaged: false,
            oldest: parts.oldest,
            newest: parts.newest.map(reading::Timestamp::from_micros),
            size: 0,
            bytes_written: 0,
            wear: None,
            error: None,
            stands_in_for: None,
            durable: last.0,
            stuck: false,
            commits: 0,
            appender_gone: false,
            configured: parts.configured,
            change: None,
        };
        Shared {
            path: parts.path,
            max_size: parts.max_size,
            flush: parts.flush,
            epoch: parts.epoch,
            epochs: parts.epochs,
            channels: RwLock::new(parts.channels),
            committed,
            ready,
            boot_id: parts.boot_id,
            backlog,
            renewed,
            history,
            state: Mutex::new(state),
            work: Notify::new(),
            room: Notify::new(),
            steps: Steps::default(),
        }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        // A panic while it was held can't leave the figures half changed in a
        // way that is worse than no store at all.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The start in which a number was given.
    pub(crate) fn epoch_of(&self, seq: Seq) -> Epoch {
        let after = self.epochs.partition_point(|(first, _)| *first <= seq);
        after.checked_sub(1).map_or(self.epoch, |at| self.epochs[at].1)
    }

    /// Has the writer mend the file when what was read of it shows damage.
    pub(crate) fn looked<T>(&self, outcome: Result<T, Error>) -> Result<T, Error> {
        if let Err(Error::Sqlite(error)) = &outcome
            && crate::damage::is_damage(error)
        {
            self.state().damaged = true;
            self.work.notify_one();
        }
        outcome
    }

    pub(crate) fn channel(&self, id: i64) -> Option<Channel> {
        self.channels.read().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }

    pub(crate) fn channel_id(&self, channel: &Channel) -> Option<i64> {
        let channels = self.channels.read().unwrap_or_else(PoisonError::into_inner);
        channels.iter().find(|(_, known)| *known == channel).map(|(id, _)| *id)
    }

    pub(crate) fn status(&self) -> Status {
        let state = self.state();
        let ledger = &state.ledger;
        let (path, absent) = state.stands_in_for.clone().unzip();
        Status {
            path: path.unwrap_or_else(|| self.path.clone()),
            size: state.size,
            max_size: self.max_size,
            readings: ledger.stored.saturating_sub(ledger.removed),
            oldest: state.oldest.map(|at| reading::Timestamp::from_micros(at).to_string()),
            committed: self.committed.borrow().0,
            durable: state.durable,
            held: state.held.readings(),
            queued: state.queued_readings,
            // Counted where readings come in, so that it would show if one
            // were neither stored nor dropped.
            read: state.taken - state.queued_readings,
            stored: ledger.stored,
            dropped: ledger.dropped,
            bytes_written: state.bytes_written,
            wear: state.wear.clone(),
            losses: state
                .losses
                .causes()
                .map(|(reason, count)| Loss { reason: reason.to_owned(), count })
                .collect(),
            error: state.error.clone().or(absent),
            forwarders: state.forwarders.iter().map(Forwarder::ledger).collect(),
            channels: state.channel_ledgers(),
        }
    }
}

/// What opening found, or made.
pub(crate) struct Parts {
    pub(crate) path: PathBuf,
    pub(crate) max_size: u64,
    pub(crate) flush: Duration,
    pub(crate) epoch: Epoch,
    pub(crate) epochs: Vec<(Seq, Epoch)>,
    pub(crate) configured: Vec<Channel>,
    pub(crate) channels: HashMap<i64, Channel>,
    pub(crate) ledger: Ledger,
    pub(crate) forwarders: Vec<Forwarder>,
    pub(crate) oldest: Option<i64>,
    pub(crate) newest: Option<i64>,
    pub(crate) losses: Losses,
    pub(crate) held: Held,
    pub(crate) boot_id: Option<String>,
    pub(crate) by_channel: HashMap<Channel, OfChannel>,
}

impl Forwarder {
    pub(crate) fn matches(&self, channel: &Channel) -> bool {
        self.patterns.iter().any(|pattern| pattern.matches(channel))
    }

    /// Readings given and neither acknowledged nor passed.
    pub(crate) fn in_hand(&self) -> u64 {
        self.given.iter().map(|(first, last)| last - first + 1).sum()
    }

    pub(crate) fn pending(&self) -> u64 {
        self.stored.saturating_sub(self.acknowledged + self.dropped)
    }

    /// What the file has of it.
    pub(crate) fn row(&self) -> Forwarder {
        Forwarder {
            name: self.name.clone(),
            patterns: self.patterns.clone(),
            given: VecDeque::new(),
            skipped: BTreeSet::new(),
            ..*self
        }
    }

    /// Its patterns as the file has them.
    pub(crate) fn channels(&self) -> String {
        let patterns: Vec<_> = self.patterns.iter().map(Pattern::as_str).collect();
        patterns.join(" ")
    }

    fn ledger(&self) -> ForwarderLedger {
        ForwarderLedger {
            name: self.name.clone(),
            stored: self.stored,
            acknowledged: self.acknowledged,
            pending: self.pending(),
            dropped: self.dropped,
        }
    }

    /// Notes what has been given: the numbers of readings in a look at the log
    /// from `after` through `through`.
    pub(crate) fn give(&mut self, seqs: impl Iterator<Item = Seq>, after: Seq, through: Seq) {
        // A look that leaves something out would let an acknowledgement pass
        // over it: it is not noted, and `acknowledge` stops before it.
        if after > self.looked {
            return;
        }
        let known = self.looked.0.max(self.position.0);
        for seq in seqs.map(|seq| seq.0).filter(|seq| *seq > known) {
            match self.given.back_mut() {
                Some((_, last)) if *last + 1 == seq => *last = seq,
                _ => self.given.push_back((seq, seq)),
            }
        }
        self.looked = self.looked.max(through);
    }

    /// Notes that a reading will never be taken; `false` when it isn't in hand.
    pub(crate) fn skip(&mut self, seq: u64) -> bool {
        let given = self.given.iter().any(|(first, last)| (*first..=*last).contains(&seq));
        given && self.skipped.insert(seq)
    }

    /// Moves the position, at most to what has been given; says how many
    /// readings that passed, those skipped apart, or `None` when it doesn't
    /// move.
    pub(crate) fn pass(&mut self, through: Seq) -> Option<Passed> {
        let through = through.min(self.looked);
        if through <= self.position {
            return None;
        }
        self.position = through;
        let mut passed = Passed::default();
        while let Some((first, last)) = self.given.front_mut() {
            if *first > through.0 {
                break;
            }
            let until = (*last).min(through.0);
            passed.taken += until - *first + 1;
            *first = until + 1;
            if *first > *last {
                self.given.pop_front();
            }
        }
        // In hand are only numbers after the position, so all of these were.
        let later = self.skipped.split_off(&(through.0 + 1));
        passed.skipped = std::mem::replace(&mut self.skipped, later).len() as u64;
        passed.taken -= passed.skipped;
        Some(passed)
    }
}

/// Readings that a position passes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Passed {
    /// The broker has them.
    pub(crate) taken: u64,
    /// It will never take them.
    pub(crate) skipped: u64,
}
