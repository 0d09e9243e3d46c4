//! What is read of the log, in which order, and how fast.
//!
//! One lane follows the log from the cursor on. With `order = "live-first"` and
//! a backlog, a second one begins where the log ends: what is read from now on
//! goes there at once, and the first lane follows behind. What the fresh lane
//! has brought over is kept in mind as ranges, and the first lane passes over
//! it, so the cursor moves only over what is acknowledged without a hole. The
//! ranges outlive a connection. After a restart of the gateway they are gone:
//! what the fresh lane sent since the backlog began is sent once more, under the
//! same numbers.

use bytes::BytesMut;
use reading::Seq;
use tokio::time::Instant;

use crate::config::Order;
use crate::outbox::{FETCH_MAX, Outbox, TOO_LARGE, Terms};
use crate::pace::Pace;
use crate::ranges::Ranges;
use crate::session::Session;
use crate::sparkplug::Node;
use crate::window::{Lane, Progress};
use crate::{Config, Gateway};

/// Fewer records behind are no backlog: they are sent in less than a second.
const BACKLOG_MIN: u64 = 5_000;
/// Ranges brought over ahead of the cursor: one a connection and one more a
/// refusal. With more, no fresh lane begins.
const RANGES_MAX: usize = 1_000;
/// Looks at the log in a row; then the connection is looked after.
const LOOKS_MAX: usize = 8;

/// Both lanes of one forwarder.
pub(crate) struct Lanes {
    log: Outbox,
    fresh: Outbox,
    node: Option<Node>,
    /// While there is a fresh lane.
    open: Option<Open>,
    /// Brought over by fresh lanes, ahead of the cursor.
    taken: Ranges,
    pace: Pace,
    live_first: bool,
    backlog_min: u64,
    /// Whether the log may hold something after what a lane has looked at.
    more: bool,
    more_fresh: bool,
    /// There is more to do at once than one turn does.
    unfinished: bool,
}

struct Open {
    /// The fresh lane is what follows this number.
    begin: Seq,
    /// The first lane has come here: what is in flight is waited for, then one
    /// lane is enough.
    closing: bool,
}

impl Lanes {
    pub(crate) fn new(config: &Config, gateway: &Gateway) -> Lanes {
        // With a limit, what a second can't take is a backlog.
        let limits = [config.drain_rate, config.rate_limit].into_iter().filter(|rate| *rate > 0);
        let backlog_min = limits.map(u64::from).min().unwrap_or(BACKLOG_MIN).min(BACKLOG_MIN);
        let node = Node::of(config, gateway);
        Lanes {
            log: Outbox::new(config, gateway, node.clone(), Lane::Log),
            fresh: Outbox::new(config, gateway, node.clone(), Lane::Fresh),
            node,
            open: None,
            taken: Ranges::default(),
            pace: Pace::new(config.rate_limit, config.drain_rate, Instant::now()),
            live_first: config.order == Order::LiveFirst,
            backlog_min,
            more: true,
            more_fresh: true,
            unfinished: false,
        }
    }

    /// The edge node of Sparkplug B, if the format is that.
    pub(crate) fn node(&mut self) -> Option<&mut Node> {
        self.node.as_mut()
    }

    /// The gateway's channels are others.
    pub(crate) fn describe(&mut self, gateway: &Gateway) {
        self.log.describe(gateway);
        self.fresh.describe(gateway);
    }

    /// A new connection begins where the cursor stands.
    pub(crate) fn restart(&mut self, position: Seq) {
        self.log.restart(position);
        self.open = None;
        self.more = true;
    }

    /// The lane of the log is sent, or passed over, through here.
    pub(crate) fn sent(&self) -> Seq {
        self.log.sent()
    }

    /// What the broker has taken.
    pub(crate) fn settle(&mut self, progress: &Progress, position: Seq) {
        for span in &progress.fresh {
            self.taken.insert(*span);
        }
        self.taken.forget(position);
    }

    /// The log has grown.
    pub(crate) fn wake(&mut self) {
        self.more = true;
        self.more_fresh = true;
    }

    /// After which number something new is waited for, if it is.
    pub(crate) fn waits(&self) -> Option<Seq> {
        let (outbox, more) = match &self.open {
            Some(open) if open.closing => return None,
            Some(_) => (&self.fresh, self.more_fresh),
            None => (&self.log, self.more),
        };
        (!more && outbox.wants()).then(|| outbox.looked())
    }

    /// When to go on: at once, when the pace allows it, or when something
    /// happens.
    pub(crate) fn next(&mut self, now: Instant) -> Option<Instant> {
        let ready = self.pace.ready();
        if self.unfinished { Some(now) } else { ready }
    }

    /// Reads on in the log and publishes, as far as window, frame and pace
    /// allow; returns how many readings it sent.
    pub(crate) async fn send(
        &mut self,
        cursor: &store::Cursor,
        session: &mut Session,
        manner: Manner,
        now: Instant,
        out: &mut BytesMut,
    ) -> Result<u64, store::Error> {
        let mut sent = 0;
        self.unfinished = false;
        for _ in 0..LOOKS_MAX {
            self.change(cursor, session, manner);
            let shared = self.open.is_some();
            let Manner { careful, .. } = manner;
            if self.open.as_ref().is_some_and(|open| !open.closing) {
                let mut terms = Terms { pace: &mut self.pace, shared: false, careful };
                sent += self.fresh.fill(&mut terms, session, now, out);
                // The lane of the log drops it when it comes there.
                drop(self.fresh.rejected());
                self.pass_fresh(session);
            }
            let mut terms = Terms { pace: &mut self.pace, shared, careful };
            sent += self.log.fill(&mut terms, session, now, out);
            cursor.skip(&self.log.rejected(), TOO_LARGE);
            self.pass(cursor, session);
            if !self.read(cursor).await? {
                return Ok(sent);
            }
        }
        self.unfinished = true;
        Ok(sent)
    }

    /// Opens a fresh lane when there is a backlog, and closes it behind one.
    fn change(&mut self, cursor: &store::Cursor, session: &Session, manner: Manner) {
        match &mut self.open {
            None => {
                let end = cursor.committed();
                let behind = end.0.saturating_sub(self.log.looked().0);
                let wanted = self.live_first && manner.calm && behind >= self.backlog_min;
                if wanted && self.taken.len() < RANGES_MAX {
                    self.open = Some(Open { begin: end, closing: false });
                    self.fresh.restart(end);
                    self.more_fresh = true;
                }
            }
            Some(open) => {
                open.closing |= self.log.looked() >= open.begin && self.log.is_empty();
                if open.closing && !session.has(Lane::Fresh) {
                    self.open = None;
                    self.more = true;
                }
            }
        }
    }

    /// One look at the log; `false` when there is nothing to look at.
    async fn read(&mut self, cursor: &store::Cursor) -> Result<bool, store::Error> {
        let fresh = self.open.as_ref().is_some_and(|open| !open.closing);
        if fresh && self.more_fresh && self.fresh.wants() {
            let before = self.fresh.looked();
            let (records, looked) = cursor.unsent(before, FETCH_MAX).await?;
            self.more_fresh = looked > before;
            self.fresh.put(records, looked);
            if self.more_fresh {
                return Ok(true);
            }
        }
        let before = self.log.looked();
        // Past the beginning of the fresh lane only as far as that is settled.
        let limit = self.open.as_ref().map_or(Seq(u64::MAX), |o| self.taken.end_from(o.begin));
        if !self.more || !self.log.wants() || before >= limit {
            return Ok(false);
        }
        let (mut records, looked) = cursor.unsent(before, FETCH_MAX).await?;
        let looked = looked.min(limit);
        self.more = looked > before;
        records.retain(|record| record.seq <= limit && !self.taken.contains(record.seq));
        self.log.put(records, looked);
        Ok(self.more)
    }

    /// Nothing of what was looked at is to be sent: the cursor moves all the
    /// same.
    fn pass(&mut self, cursor: &store::Cursor, session: &mut Session) {
        if let Some(span) = self.log.passed()
            && !session.extend(Lane::Log, span)
        {
            cursor.acknowledge(span.through);
        }
    }

    fn pass_fresh(&mut self, session: &mut Session) {
        if let Some(span) = self.fresh.passed()
            && !session.extend(Lane::Fresh, span)
        {
            self.taken.insert(span);
        }
    }
}

/// How the broker is to be handled now.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Manner {
    /// A record a message, one after another.
    pub(crate) careful: bool,
    /// No message is suspected of breaking the connection.
    pub(crate) calm: bool,
}
