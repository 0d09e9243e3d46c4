//! The page, the feed and the API that browsers and scripts on the LAN see.
//!
//! The [`Hub`] is written by intake and read by any number of clients. Writing
//! never waits: a client that falls behind loses readings, is told how many, and
//! is sent the newest of every channel.
//!
//! This crate is the only one that knows HTTP. It doesn't know what a device or
//! a forwarder is: their health comes as a [`Status`] that the gateway makes.

mod access;
mod account;
mod api;
mod assets;
mod body;
mod config;
mod configuration;
#[cfg(feature = "echo")]
pub mod echo;
mod feed;
mod frame;
mod guard;
mod gzip;
mod history;
mod http;
mod hub;
mod line;
mod links;
mod metrics;
mod outputs;
mod pulse;
mod routes;
mod rows;
mod status;
mod stream;
mod tls;
mod upgrade;
mod ws;

#[cfg(test)]
mod tests;

use std::pin::Pin;
use std::sync::Arc;

use reading::{Channel, Datum};
use store::Store;

pub use access::{Access, Scope};
pub use config::{Config, ConfigError, Tls, View};
pub use configuration::{Answer, Ask, Configuration};
pub use http::serve;
pub use hub::Hub;
pub use line::{LineFn, Lines};
pub use status::{
    ChannelLedger, Clock, DeviceState, DeviceStatus, ForwarderStatus, Ledger, LinkState, Status,
};

/// Makes a [`Status`] of this moment. It is called at most once a second, plus
/// once a request of the API, and must be cheap: from memory.
pub type StatusFn = Arc<dyn Fn() -> Status + Send + Sync>;

/// Writes an output through its device. The channel is known to be an output of
/// the datum's kind. An error is a sentence for people.
pub type SetFn = Arc<
    dyn Fn(Channel, Datum) -> Pin<Box<dyn Future<Output = Result<(), String>> + Send>>
        + Send
        + Sync,
>;

/// What [`serve`] shows.
#[derive(Clone)]
pub struct App {
    /// `[dashboard]`.
    pub config: Config,
    /// Readings as they come.
    pub hub: Hub,
    /// Readings as they were.
    pub store: Store,
    /// How everything is.
    pub status: StatusFn,
    /// Who is let in beyond looking.
    pub access: Access,
    /// How outputs are written.
    pub set: SetFn,
    /// How lines are recorded.
    pub line: LineFn,
    /// What is configured.
    pub configuration: Configuration,
}
