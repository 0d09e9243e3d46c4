//! From the store to a broker: MQTT 3.1.1 and 5, over WebSocket or TCP, with
//! or without TLS.
//!
//! The store's log past a [`store::Cursor`] is the only queue. A connection
//! starts at the cursor, keeps in memory what it has in flight and nothing
//! else, and forgets even that when it breaks: those readings are still in the
//! log, and the next connection sends them again. So every reading arrives at
//! least once and in order, and only the broker's PUBACK moves the cursor.
//!
//! | module | duty |
//! | --- | --- |
//! | `config`, `check`, `endpoint` | `[forward.X]` and what must hold of it |
//! | `secret`, `tls`, `floor`, `connect` | from a URL to a stream that carries MQTT |
//! | `transport` | bytes out and in over that stream, bounded both ways |
//! | `codec`, `reason` | MQTT packets of both versions; only they and `broker` know rumqttc |
//! | `session`, `window`, `lost` | QoS 1 without I/O: what may be sent, what is acknowledged, what is late |
//! | `payload`, `compress`, `homeassistant` | what subscribers parse |
//! | `outbox` | from the cursor's records to messages that fit the broker's limits |
//! | `lanes`, `ranges`, `pace` | what of the log goes first, and how fast |
//! | `quarantine` | which message breaks the connection |
//! | `commands` | what is published to us: commands for outputs |
//! | `forwarder`, `connection`, `backoff`, `link` | the loop that holds these together |
//! | [`broker`] | a small broker for the demo and the tests |
//! | [`handshake`] | a WebSocket opening handshake, taken apart |
//! | [`probe`], `certificate` | a broker tried step by step, and whose certificate it shows |
//!
//! This crate is the only one that knows MQTT.

mod backoff;
mod certificate;
mod check;
mod codec;
mod commands;
mod compress;
mod config;
mod connect;
mod connection;
mod endpoint;
mod floor;
mod forwarder;
mod homeassistant;
mod lanes;
mod link;
mod lost;
mod outbox;
mod pace;
mod payload;
mod quarantine;
mod ranges;
mod reason;
mod secret;
mod session;
mod sparkplug;
mod tls;
mod transport;
mod window;

pub mod broker;
pub mod handshake;
pub mod probe;

use reading::{ChannelSpec, Epoch};

pub use certificate::Certificate;
pub use commands::SetFn;
pub use config::{Compress, Config, Format, Invalid, Order, Subprotocol, Version};
pub use connect::{Bytestream, Dial, Stream};
pub use endpoint::{Endpoint, InvalidUrl};
pub use forwarder::Forwarder;
pub use link::{Link, State};

/// What a broker is told of the gateway.
#[derive(Clone, Debug, PartialEq)]
pub struct Gateway {
    /// `gateway.id`.
    pub id: String,
    /// The program's version.
    pub version: &'static str,
    /// Every channel there is, to begin with: [`Forwarder::following`].
    pub channels: Vec<ChannelSpec>,
    /// The name of this start.
    pub epoch: Epoch,
}
