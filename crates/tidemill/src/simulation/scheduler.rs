//! The parts of the gateway as futures that one thread polls, in an order that
//! the dice choose.
//!
//! Time is tokio's, paused: it goes on to the next timer when no part has
//! anything to do. SQLite works in a thread of its own, in true time, so while
//! the store is at its file nobody else is polled and time stands still: whatever
//! it does there takes none. The store pauses within its transactions
//! (its module `steps`), and there others may get their turn.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::Duration;

use store::Store;
use tokio::time::{self, Instant};

use super::dice::Dice;

/// How long SQLite is waited for before tokio is looked after: its pool of
/// connections has tasks of its own.
const LOOK: Duration = Duration::from_micros(50);

pub(super) type Part = Pin<Box<dyn Future<Output = ()>>>;

pub(super) struct Scheduler {
    parts: Vec<Task>,
    dice: Dice,
    store: Option<Store>,
    /// Who is at the store's file.
    at_file: Option<usize>,
    root: Arc<Mutex<Option<Waker>>>,
    /// The most that a part waits within a transaction, as on a slow card.
    pub(super) slow: Option<Duration>,
    /// Polls so far: which of two runs of a seed is the other's.
    pub(super) polls: u64,
}

struct Task {
    name: String,
    part: Option<Part>,
    wakes: Arc<Wakes>,
    /// It isn't polled before.
    stalled: Option<Instant>,
}

struct Wakes {
    ready: AtomicBool,
    /// Woken by a thread of SQLite's. It may come late, when what it tells has
    /// been seen already, so it counts only while the store is at its file.
    answered: AtomicBool,
    root: Arc<Mutex<Option<Waker>>>,
    /// Which waits for SQLite.
    thread: Thread,
}

impl Wakes {
    /// Whether it was woken in any way.
    fn take(&self) -> bool {
        let ready = self.ready.swap(false, Ordering::AcqRel);
        self.answered.swap(false, Ordering::AcqRel) || ready
    }
}

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        let own = std::thread::current().id() == self.thread.id();
        let which = if own { &self.ready } else { &self.answered };
        which.store(true, Ordering::Release);
        let root = self.root.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(root) = root {
            root.wake();
        }
        self.thread.unpark();
    }
}

/// What came of a turn.
enum Turn {
    Polled,
    /// SQLite's thread is at work.
    Waits,
    /// Nothing to do before that time, if there is one.
    Idle(Option<Instant>),
}

impl Scheduler {
    pub(super) fn new(dice: Dice) -> Scheduler {
        Scheduler {
            parts: Vec::new(),
            dice,
            store: None,
            at_file: None,
            root: Arc::default(),
            slow: None,
            polls: 0,
        }
    }

    /// The store that the parts share from now on.
    pub(super) fn watch(&mut self, store: &Store) {
        store.simulate();
        self.store = Some(store.clone());
    }

    pub(super) fn spawn(&mut self, name: &str, part: impl Future<Output = ()> + 'static) {
        let wakes = Wakes {
            ready: AtomicBool::new(true),
            answered: AtomicBool::new(false),
            root: Arc::clone(&self.root),
            thread: std::thread::current(),
        };
        self.parts.push(Task {
            name: name.to_owned(),
            part: Some(Box::pin(part)),
            wakes: Arc::new(wakes),
            stalled: None,
        });
    }

    /// Ends everything where it is, as a kill does.
    pub(super) fn kill(&mut self) {
        self.parts.clear();
        self.store = None;
        self.at_file = None;
        self.slow = None;
    }

    /// Nobody polls one of the parts for a while; tells which.
    pub(super) fn stall(&mut self, span: Duration) -> Option<String> {
        let living: Vec<usize> =
            (0..self.parts.len()).filter(|i| self.parts[*i].part.is_some()).collect();
        if living.is_empty() {
            return None;
        }
        let task = &mut self.parts[*self.dice.pick(&living)];
        task.stalled = Some(Instant::now() + span);
        Some(task.name.clone())
    }

    pub(super) fn unstall(&mut self) {
        self.slow = None;
        self.parts.iter_mut().for_each(|task| task.stalled = None);
    }

    /// The parts that haven't ended.
    pub(super) fn living(&self) -> Vec<&str> {
        let living = self.parts.iter().filter(|task| task.part.is_some());
        living.map(|task| task.name.as_str()).collect()
    }

    /// Runs all of them until then, or until `done`.
    pub(super) async fn run(&mut self, until: Instant, mut done: impl FnMut(&Scheduler) -> bool) {
        let mut sleep = Box::pin(time::sleep_until(until));
        std::future::poll_fn(|context| {
            *self.root.lock().unwrap_or_else(PoisonError::into_inner) =
                Some(context.waker().clone());
            match self.turn() {
                Turn::Waits => std::thread::park_timeout(LOOK),
                Turn::Polled if done(self) && self.at_file.is_none() => return Poll::Ready(()),
                Turn::Polled => (),
                Turn::Idle(wake) => {
                    let wake = wake.filter(|wake| *wake < until).unwrap_or(until);
                    if sleep.deadline() != wake {
                        sleep.as_mut().reset(wake);
                    }
                    match sleep.as_mut().poll(context) {
                        Poll::Ready(()) if wake == until => return Poll::Ready(()),
                        Poll::Ready(()) => (),
                        Poll::Pending => return Poll::Pending,
                    }
                }
            }
            context.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }

    fn is_at_file(&self) -> bool {
        self.store.as_ref().is_some_and(|store| store.is_at_file())
    }

    fn turn(&mut self) -> Turn {
        if let Some(who) = self.at_file {
            if self.parts[who].wakes.take() {
                self.poll(who);
                return Turn::Polled;
            }
            if self.is_at_file() {
                return Turn::Waits;
            }
            self.left_file(who);
        }
        let now = Instant::now();
        let mut ready = Vec::new();
        let mut next: Option<Instant> = None;
        for (i, task) in self.parts.iter().enumerate() {
            if task.part.is_none() || !task.wakes.ready.load(Ordering::Acquire) {
                continue;
            }
            match task.stalled.filter(|until| *until > now) {
                Some(until) => next = Some(next.map_or(until, |next| next.min(until))),
                None => ready.push(i),
            }
        }
        if ready.is_empty() {
            return Turn::Idle(next);
        }
        let who = *self.dice.pick(&ready);
        self.parts[who].wakes.ready.store(false, Ordering::Release);
        if let Some(slow) = self.slow.filter(|_| self.parts[who].name == "writer")
            && self.dice.chance(20)
        {
            // What it does now is done, and then it waits.
            let wait = self.dice.between(1, slow.as_millis().try_into().unwrap_or(1));
            self.parts[who].stalled = Some(now + Duration::from_millis(wait));
        }
        self.poll(who);
        Turn::Polled
    }

    fn poll(&mut self, who: usize) {
        let task = &mut self.parts[who];
        let Some(part) = &mut task.part else { return };
        let waker = Waker::from(Arc::clone(&task.wakes));
        let times = |store: &Store| store.times_at_file();
        let before = self.store.as_ref().map(times);
        if part.as_mut().poll(&mut Context::from_waker(&waker)).is_ready() {
            task.part = None;
        }
        let was_at_file = self.at_file.is_some();
        self.polls += u64::from(!was_at_file);
        if self.is_at_file() {
            self.at_file = Some(who);
        } else if was_at_file || self.store.as_ref().map(times) != before {
            self.left_file(who);
        }
    }

    /// Answers of SQLite's thread may have woken it once too often, or not. It
    /// is looked at once more in any case, so that this makes no difference.
    fn left_file(&mut self, who: usize) {
        self.at_file = None;
        self.parts[who].wakes.ready.store(true, Ordering::Release);
    }
}

/// Waits for SQLite alone, while time stands still.
pub(super) async fn standing<T>(work: impl Future<Output = T>) -> T {
    let mut work = Box::pin(work);
    std::future::poll_fn(|context| {
        let outcome = work.as_mut().poll(context);
        if outcome.is_pending() {
            std::thread::park_timeout(LOOK);
            context.waker().wake_by_ref();
        }
        outcome
    })
    .await
}
