use std::time::Duration;

use crate::codec::Malformed;

/// Why a session is over.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Lost {
    #[error("the broker sent what is {0}")]
    Malformed(#[from] Malformed),
    /// No broker, before it ever was one.
    #[error("what answers there isn't MQTT: if it is a WebSocket, use ws:// or wss://")]
    NotMqtt,
    /// CONNACK.
    #[error("the broker lets nobody in: {0}")]
    Refused(String),
    /// PUBACK with an error code. Nothing is given up yet: the reading stays
    /// owed. When `suspicious`, the fault may be the message's own.
    #[error("the broker refuses a reading: {words}")]
    PublishRefused { words: String, suspicious: bool },
    /// DISCONNECT.
    #[error("the broker ended the connection: {reason}")]
    Disconnected { reason: String, code: u8 },
    /// A message without its PUBACK.
    #[error("the broker acknowledged nothing for {0:?}")]
    Unacknowledged(Duration),
    /// A ping or CONNECT without answer.
    #[error("the broker answered nothing for {0:?}")]
    Silent(Duration),
    /// At least once needs QoS 1.
    #[error("the broker takes no QoS 1, without which nothing is acknowledged")]
    NoQos1,
    /// Maximum Packet Size.
    #[error("the broker takes packets of {0} bytes at most, and 1024 are needed")]
    TooSmall(u32),
    /// Something else before CONNACK, or CONNACK twice.
    #[error("the broker doesn't follow MQTT: {0}")]
    Protocol(&'static str),
}
