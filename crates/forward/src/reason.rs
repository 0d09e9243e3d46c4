//! Codes of MQTT in words a person understands, with the mend where one is
//! known.

use rumqttc::mqttbytes::v4;
use rumqttc::v5::mqttbytes::v5;

use crate::codec::{Lasting, Refusal};

/// Another client of the same id has come (MQTT 5).
pub(crate) const TAKEN_OVER: u8 = 0x8E;

/// DISCONNECT for a reason that has nothing to do with what was published:
/// busy, shutting down, keep-alive, taken over, rate, quota, administrator,
/// another server, connection rate, connection time.
pub(crate) const OF_THE_BROKER: [u8; 11] =
    [0x89, 0x8B, 0x8D, TAKEN_OVER, 0x96, 0x97, 0x98, 0x9C, 0x9D, 0x9F, 0xA0];

/// MQTT 3.1.1, 3.2.2.3.
pub(crate) fn connack_v4(code: v4::ConnectReturnCode) -> Option<&'static str> {
    use v4::ConnectReturnCode as Code;
    match code {
        Code::Success => None,
        Code::RefusedProtocolVersion => Some("it doesn't speak MQTT 3.1.1: set `version = 5`"),
        Code::BadClientId => Some("it refuses the client id: set another `client_id`"),
        Code::ServiceUnavailable => Some("it isn't available now"),
        Code::BadUserNamePassword => Some("it refuses the user name or the password"),
        Code::NotAuthorized => Some("not authorized: check `username` and the password"),
    }
}

/// MQTT 5, 3.2.2.2.
pub(crate) fn connack_v5(code: v5::ConnectReturnCode) -> Option<String> {
    use v5::ConnectReturnCode as Code;
    let words = match code {
        Code::Success => return None,
        Code::RefusedProtocolVersion | Code::UnsupportedProtocolVersion => {
            "it doesn't speak MQTT 5: set `version = 4`"
        }
        Code::BadClientId | Code::ClientIdentifierNotValid => {
            "it refuses the client id: set another `client_id`"
        }
        Code::ServiceUnavailable | Code::ServerUnavailable => "it isn't available now",
        Code::BadUserNamePassword => "it refuses the user name or the password",
        Code::NotAuthorized => "not authorized: check `username` and the password",
        Code::Banned => "this client is banned",
        Code::ServerBusy => "it is busy",
        Code::TopicNameInvalid => "it refuses the topic of the will: check `topic_prefix`",
        Code::RetainNotSupported => "it doesn't take a retained will",
        Code::QoSNotSupported => "it doesn't take a will of QoS 1",
        Code::UseAnotherServer | Code::ServerMoved => "it wants another server to be used",
        Code::ConnectionRateExceeded => "too many connections in a short time",
        Code::QuotaExceeded => "a quota is used up",
        other => return Some(format!("it refuses the connection: {other:?}")),
    };
    Some(words.to_owned())
}

/// MQTT 5, 3.4.2.1. `NoMatchingSubscribers` is a success.
pub(crate) fn puback(reason: v5::PubAckReason) -> Option<Refusal> {
    use v5::PubAckReason as Reason;
    let (words, lasting) = match reason {
        Reason::Success | Reason::NoMatchingSubscribers => return None,
        Reason::UnspecifiedError => ("unspecified error", Lasting::Perhaps),
        Reason::ImplementationSpecificError => ("implementation specific error", Lasting::Perhaps),
        Reason::NotAuthorized => ("not authorized to publish there", Lasting::Yes),
        Reason::TopicNameInvalid => ("topic name invalid: check `topic_prefix`", Lasting::Yes),
        Reason::PacketIdentifierInUse => ("packet identifier in use", Lasting::No),
        Reason::QuotaExceeded => ("quota exceeded", Lasting::No),
        Reason::PayloadFormatInvalid => ("payload format invalid", Lasting::Yes),
    };
    Some(Refusal { words: words.to_owned(), lasting })
}

/// MQTT 5, 3.14.2.1.
pub(crate) fn disconnect(reason: u8) -> String {
    match reason {
        0x00 => "it closed the connection".to_owned(),
        0x81 => "it calls a packet malformed".to_owned(),
        0x82 => "it calls a packet a protocol error".to_owned(),
        0x87 => "not authorized".to_owned(),
        0x89 => "it is busy".to_owned(),
        0x8B => "it is shutting down".to_owned(),
        0x8D => "it heard nothing within the keep-alive".to_owned(),
        0x8E => "another client has taken the client id over: give each gateway its own".to_owned(),
        0x93 => "more was sent unacknowledged than it allows".to_owned(),
        0x95 => "a packet was too large for it: lower `max_packet`".to_owned(),
        0x96 => "too many messages in a short time".to_owned(),
        0x97 => "a quota is used up".to_owned(),
        0x98 => "an administrator ended the connection".to_owned(),
        0x9A => "it takes no retained messages".to_owned(),
        0xA0 => "the longest connection time is over".to_owned(),
        code => format!("it ended the connection with reason 0x{code:02x}"),
    }
}
