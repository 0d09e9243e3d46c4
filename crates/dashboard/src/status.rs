//! The gateway's health, as `GET /api/v1/status`, the feed and the command
//! `tidemill status` show it.

use serde::{Deserialize, Serialize};

/// How the whole gateway is.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq)]
pub struct Status {
    /// Its id.
    pub gateway: String,
    /// The program's version.
    pub version: String,
    /// The name of this start: 16 hexadecimal digits.
    pub epoch: String,
    /// Now, RFC 3339.
    pub time: String,
    /// When it started, RFC 3339.
    pub started: String,
    /// Seconds since then.
    pub uptime_s: u64,
    /// Whether its times can be trusted.
    pub clock: Clock,
    /// In the order of the configuration.
    pub devices: Vec<DeviceStatus>,
    /// Readings on disk.
    pub store: store::Status,
    /// In the order of the configuration.
    pub forwarders: Vec<ForwarderStatus>,
    /// `read = stored + dropped`.
    pub ledger: Ledger,
}

/// The system clock.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
pub struct Clock {
    /// Whether the kernel says that it follows a time source.
    pub synchronized: bool,
    /// Whether times can be trusted: it does, or nobody is going to set it.
    pub set: bool,
    /// Readings that wait for it: they are stored and shown, and forwarded with
    /// corrected times when it is set, or after ten minutes as they are.
    #[serde(default)]
    pub held: u64,
}

/// How one device is.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct DeviceStatus {
    /// Its name.
    pub name: String,
    /// What people call it.
    #[serde(default)]
    pub label: Option<String>,
    /// The driver that speaks to it.
    pub driver: String,
    /// Whether it answers.
    pub state: DeviceState,
    /// Since when it is in this state, RFC 3339.
    pub since: String,
    /// The last error, while it is lost.
    pub error: Option<String>,
    /// Readings taken from it since the start.
    pub readings: u64,
    /// Of these, bad ones.
    pub bad: u64,
    /// The full names of its channels.
    pub channels: Vec<String>,
}

/// Whether a device answers.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum DeviceState {
    /// Not yet: it is being opened for the first time.
    Opening,
    /// It does.
    Ok,
    /// It doesn't any more.
    Lost,
}

/// How one forwarder is.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq)]
pub struct ForwarderStatus {
    /// Its name.
    pub name: String,
    /// The broker, without a password.
    pub url: String,
    /// Whether the broker is there.
    pub state: LinkState,
    /// Since when it is in this state, RFC 3339.
    pub since: String,
    /// The last error, while it isn't.
    pub error: Option<String>,
    /// Readings sent and not yet acknowledged.
    pub in_flight: u64,
    /// Readings stored that it is to forward.
    pub stored: u64,
    /// Of these, acknowledged by the broker.
    pub acknowledged: u64,
    /// Of these, waiting.
    pub pending: u64,
    /// Of these, removed before they were acknowledged.
    pub dropped: u64,
}

/// Whether a broker is there.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum LinkState {
    /// It is being asked.
    Connecting,
    /// It is.
    Online,
    /// It isn't; it will be asked again.
    Offline,
}

/// Every reading is accounted for: `read = stored + dropped`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
pub struct Ledger {
    /// Readings taken from devices.
    pub read: u64,
    /// Of these, committed to the store.
    pub stored: u64,
    /// Of these, lost; each loss is a gap.
    pub dropped: u64,
    /// The same by channel. What was lost of several channels together is above
    /// alone. The feed's frames don't have it: it may be long.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub channels: Vec<ChannelLedger>,
}

/// One channel's part: `read = stored + dropped`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
pub struct ChannelLedger {
    /// Its full name.
    pub channel: String,
    /// Readings taken.
    pub read: u64,
    /// Of these, committed to the store.
    pub stored: u64,
    /// Of these, lost.
    pub dropped: u64,
}

impl Ledger {
    /// As the store has it.
    pub fn of(store: &store::Status) -> Ledger {
        let part = |of: &store::ChannelLedger| ChannelLedger {
            channel: of.channel.to_string(),
            read: of.stored + of.dropped,
            stored: of.stored,
            dropped: of.dropped,
        };
        let channels = store.channels.iter().map(part).collect();
        Ledger { read: store.read, stored: store.stored, dropped: store.dropped, channels }
    }
}

impl DeviceState {
    /// The word used in JSON and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            DeviceState::Opening => "opening",
            DeviceState::Ok => "ok",
            DeviceState::Lost => "lost",
        }
    }
}

impl LinkState {
    /// The word used in JSON and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            LinkState::Connecting => "connecting",
            LinkState::Online => "online",
            LinkState::Offline => "offline",
        }
    }
}
