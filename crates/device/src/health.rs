use reading::Timestamp;

/// How a device is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// Whether it is there.
    pub state: State,
    /// Since when it has been so.
    pub since: Timestamp,
    /// Why it is lost; `None` when it isn't.
    pub error: Option<String>,
    /// Readings sent on, bad ones with them.
    pub readings: u64,
    /// Bad readings among them.
    pub bad: u64,
    /// Frames that were not understood; many make one bad reading.
    pub noise: u64,
    /// Changes that are known to be missing from the readings.
    pub missed: u64,
}

/// Whether a device is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It is being opened for the first time.
    Opening,
    /// It is open and answers.
    Ok,
    /// It can't be opened or doesn't answer; it is tried again.
    Lost,
}

impl State {
    /// The word used in the status.
    pub const fn as_str(self) -> &'static str {
        match self {
            State::Opening => "opening",
            State::Ok => "ok",
            State::Lost => "lost",
        }
    }
}

impl Health {
    pub(crate) fn opening() -> Health {
        let since = Timestamp::now();
        Health {
            state: State::Opening,
            since,
            error: None,
            readings: 0,
            bad: 0,
            noise: 0,
            missed: 0,
        }
    }
}
