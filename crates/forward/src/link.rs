use std::fmt;

use reading::Timestamp;

/// How the connection to a broker stands, for `status`, the page and the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Whether readings flow.
    pub state: State,
    /// Since when.
    pub since: Timestamp,
    /// Why they don't, in words a person understands.
    pub error: Option<String>,
    /// Readings sent and not yet acknowledged.
    pub in_flight: u64,
    /// Readings sent since the gateway started, those sent again included.
    pub sent: u64,
    /// Readings acknowledged since the gateway started.
    pub acknowledged: u64,
    /// Turns of its loop, connections tried included: as long as this grows it
    /// isn't stalled, whatever the broker does.
    pub turns: u64,
}

/// Whether readings flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The first connection is being made.
    Connecting,
    /// They flow.
    Online,
    /// They wait in the store.
    Offline,
}

impl Link {
    /// Before the first connection.
    pub(crate) fn new() -> Link {
        Link {
            state: State::Connecting,
            since: Timestamp::now(),
            error: None,
            in_flight: 0,
            sent: 0,
            acknowledged: 0,
            turns: 0,
        }
    }
}

impl State {
    /// The word used in `status`.
    pub const fn as_str(self) -> &'static str {
        match self {
            State::Connecting => "connecting",
            State::Online => "online",
            State::Offline => "offline",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
