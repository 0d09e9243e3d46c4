//! The gateway's status, made once for all clients of the feed.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::ws::Prepared;
use crate::{Status, StatusFn, frame};

/// How often the status is looked at, and told when it has changed.
const EVERY: Duration = Duration::from_secs(1);

/// A status is told after this even when nothing has changed: a page can't see
/// WebSocket pings, and is to notice within 3 s that the gateway is gone.
const HEARTBEAT: Duration = Duration::from_secs(2);

/// How much earlier than [`EVERY`] a tick may come.
const LEEWAY: Duration = Duration::from_millis(50);

/// Tells every client of the feed how the gateway is.
pub(crate) struct Pulse {
    make: StatusFn,
    last: Mutex<Option<Told>>,
    next: watch::Sender<Arc<Prepared>>,
}

struct Told {
    at: Instant,
    status: Status,
}

impl Pulse {
    pub(crate) fn new(make: StatusFn) -> Pulse {
        let none = Arc::new(Prepared::from(String::new()));
        Pulse { make, last: Mutex::default(), next: watch::Sender::new(none) }
    }

    /// The status now.
    pub(crate) fn status(&self) -> Status {
        (self.make)()
    }

    /// A `status` frame for a client that comes, and those that follow.
    pub(crate) fn subscribe(&self) -> (Arc<Prepared>, watch::Receiver<Arc<Prepared>>) {
        self.beat(Instant::now());
        let mut next = self.next.subscribe();
        let now = next.borrow_and_update().clone();
        (now, next)
    }

    /// Looks at the status as long as there are clients. Never ends.
    pub(crate) async fn run(&self) {
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let now = ticks.tick().await;
            if self.next.receiver_count() > 0 {
                self.beat(now);
            }
        }
    }

    /// Tells the status unless it has just been told, or is as it was.
    fn beat(&self, now: Instant) {
        let mut last = self.last.lock().expect("no holder panics");
        let age =
            last.as_ref().map_or(Duration::MAX, |told| now.saturating_duration_since(told.at));
        // A little leeway, since a tick may come early after a late one.
        if age < EVERY - LEEWAY {
            return;
        }
        let status = (self.make)();
        let same = last.as_ref().is_some_and(|told| is_same(&told.status, &status));
        if same && age < HEARTBEAT {
            return;
        }
        self.next.send_replace(Arc::new(frame::status(&status).into()));
        *last = Some(Told { at: now, status });
    }
}

/// Whether nothing has changed but the time.
fn is_same(old: &Status, new: &Status) -> bool {
    let timeless = Status { time: new.time.clone(), uptime_s: new.uptime_s, ..old.clone() };
    timeless == *new
}
