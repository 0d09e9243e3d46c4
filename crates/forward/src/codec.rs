//! MQTT packets of both versions, as the session wants them: rumqttc's codec
//! behind one face.
//!
//! Packets are cut out of the stream here rather than by rumqttc: its readers
//! use one error both for "not all here yet" and for "ends too early", and a
//! truncated packet would be waited for until the link timed out.

use bytes::{BufMut, Bytes, BytesMut};
use rumqttc::mqttbytes as m4;
use rumqttc::mqttbytes::v4;
use rumqttc::v5::mqttbytes as m5;
use rumqttc::v5::mqttbytes::v5;

use crate::Version;
use crate::reason;

/// What a client may be sent that doesn't belong to it, at most: nothing larger
/// is asked for, and it is announced in CONNECT (MQTT 5).
pub(crate) const INCOMING_MAX: u32 = 64 * 1024;
/// Publishes a broker may send before it is answered (MQTT 5): commands to
/// outputs, one at a time.
const RECEIVE_MAX: u16 = 16;
/// How long a broker keeps subscriptions of a client that is away, seconds.
const SESSION_EXPIRY: u32 = 24 * 3600;
/// The longest remaining length that four bytes hold (MQTT 5, 1.5.5).
const LENGTH_MAX: usize = 268_435_455;

/// A packet from a broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Incoming {
    /// The answer to CONNECT.
    Connack(Connack),
    /// A publish is the broker's now, unless it is refused.
    Puback { id: u16, refused: Option<Refusal> },
    /// The answer to SUBSCRIBE.
    Suback { refused: bool },
    /// A publish to us.
    Publish { id: u16, qos: u8, delivery: Delivery },
    /// The second half of a publish of QoS 2.
    Pubrel { id: u16 },
    /// The link is alive.
    Pong,
    /// The broker ends the connection (MQTT 5).
    Disconnect { reason: String, code: u8 },
    /// What a client needs not understand.
    Other,
}

/// Why a publish isn't taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// In words.
    pub(crate) words: String,
    /// Whether trying again can help.
    pub(crate) lasting: Lasting,
}

/// Whether a refusal is the message's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lasting {
    /// The broker's state: it passes.
    No,
    /// The code doesn't say.
    Perhaps,
    /// This message will never be taken.
    Yes,
}

/// A message to us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Delivery {
    pub(crate) topic: String,
    pub(crate) payload: Bytes,
    /// It is from before the subscription.
    pub(crate) retained: bool,
}

/// What a broker allows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Connack {
    /// Why it doesn't let us in.
    pub(crate) refused: Option<String>,
    /// It remembers an earlier connection of this client.
    pub(crate) session_present: bool,
    /// Publishes it takes before it has answered.
    pub(crate) receive_max: Option<u16>,
    /// The largest packet it takes, bytes.
    pub(crate) max_packet: Option<u32>,
    /// Seconds of silence it tolerates, in place of ours.
    pub(crate) keep_alive: Option<u16>,
    /// It keeps retained messages.
    pub(crate) retain: bool,
    /// It takes QoS 1.
    pub(crate) qos1: bool,
}

/// What CONNECT says of us.
#[derive(Clone, Debug, Default)]
pub(crate) struct Hello {
    pub(crate) client_id: String,
    pub(crate) username: String,
    pub(crate) password: String,
    /// What the broker publishes when the link breaks, at QoS 1.
    pub(crate) will: Option<Will>,
    /// Seconds.
    pub(crate) keep_alive: u16,
    /// Forget what the broker remembers of this client.
    pub(crate) clean: bool,
}

/// A message for the time when we are gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Will {
    pub(crate) topic: String,
    pub(crate) payload: Vec<u8>,
    pub(crate) retain: bool,
}

/// A packet that makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not MQTT: {0}")]
pub(crate) struct Malformed(String);

impl Malformed {
    pub(crate) fn new(error: &impl ToString) -> Malformed {
        Malformed(error.to_string())
    }
}

/// One version of MQTT.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Codec(pub(crate) Version);

impl Codec {
    /// Takes the next whole packet from what has been received.
    pub(crate) fn decode(self, received: &mut BytesMut) -> Result<Option<Incoming>, Malformed> {
        let Some(length) = frame(received, INCOMING_MAX)? else { return Ok(None) };
        let mut packet = received.split_to(length);
        match self.0 {
            Version::V4 => decode_v4(&mut packet).map(Some),
            Version::V5 => decode_v5(&mut packet).map(Some),
        }
    }

    pub(crate) fn connect(self, hello: &Hello, out: &mut BytesMut) {
        let packet = match self.0 {
            Version::V4 => v4::Connect {
                protocol: m4::Protocol::V4,
                keep_alive: hello.keep_alive,
                client_id: hello.client_id.clone(),
                clean_session: hello.clean,
                last_will: hello.will.as_ref().map(|will| {
                    let Will { topic, payload, retain } = will;
                    v4::LastWill::new(topic, payload.clone(), m4::QoS::AtLeastOnce, *retain)
                }),
                login: hello.login().map(|(name, word)| v4::Login::new(name, word)),
            }
            .write(out)
            .map_err(drop),
            Version::V5 => {
                let mut properties = v5::ConnectProperties::new();
                properties.session_expiry_interval =
                    Some(if hello.clean { 0 } else { SESSION_EXPIRY });
                properties.receive_maximum = Some(RECEIVE_MAX);
                properties.max_packet_size = Some(INCOMING_MAX);
                let will = hello.will.as_ref().map(|will| {
                    let Will { topic, payload, retain } = will;
                    v5::LastWill::new(topic, payload.clone(), m5::QoS::AtLeastOnce, *retain, None)
                });
                let login = hello.login().map(|(name, word)| v5::Login::new(name, word));
                v5::Connect {
                    keep_alive: hello.keep_alive,
                    client_id: hello.client_id.clone(),
                    clean_start: hello.clean,
                    properties: Some(properties),
                }
                .write(&will, &login, out)
                .map_err(drop)
            }
        };
        debug_assert_eq!(packet.map(drop), Ok(()), "the configuration bounds every field");
    }

    /// Bytes that a publish of QoS 1 takes; `properties` are MQTT 5's, encoded.
    pub(crate) fn publish_size(self, topic: usize, properties: &[u8], payload: usize) -> usize {
        let body = self.publish_body(topic, properties, payload);
        1 + length_of_length(body) + body
    }

    /// Writes a publish of QoS 1 (MQTT 3.1.1 and 5, 3.3).
    ///
    /// By hand, because rumqttc's takes a topic and a payload of its own for
    /// each: two allocations a reading, the dearest part of the loop.
    pub(crate) fn publish(
        self,
        topic: &str,
        id: u16,
        retain: bool,
        properties: &[u8],
        payload: &[u8],
        out: &mut BytesMut,
    ) {
        let mut left = self.publish_body(topic.len(), properties, payload.len());
        debug_assert!(left <= LENGTH_MAX, "the size was checked against the largest packet");
        out.reserve(left + 5);
        out.put_u8(0x32 | u8::from(retain));
        loop {
            let byte = u8::try_from(left % 128).unwrap_or_default();
            left /= 128;
            out.put_u8(if left > 0 { byte | 0x80 } else { byte });
            if left == 0 {
                break;
            }
        }
        out.put_u16(u16::try_from(topic.len()).unwrap_or_default());
        out.put_slice(topic.as_bytes());
        out.put_u16(id);
        if self.0 == Version::V5 {
            debug_assert!(properties.len() < 128, "their length is one byte");
            out.put_u8(u8::try_from(properties.len()).unwrap_or_default());
            out.put_slice(properties);
        }
        out.put_slice(payload);
    }

    /// SUBSCRIBE to filters at QoS 1 (3.8).
    pub(crate) fn subscribe(self, id: u16, filters: &[String], out: &mut BytesMut) {
        let properties = usize::from(self.0 == Version::V5);
        let names: usize = filters.iter().map(|filter| 2 + filter.len() + 1).sum();
        let mut left = 2 + properties + names;
        out.put_u8(0x82);
        while left > 127 {
            out.put_u8(u8::try_from(left % 128).unwrap_or_default() | 0x80);
            left /= 128;
        }
        out.put_u8(u8::try_from(left).unwrap_or_default());
        out.put_u16(id);
        out.put_bytes(0, properties);
        for filter in filters {
            out.put_u16(u16::try_from(filter.len()).unwrap_or_default());
            out.put_slice(filter.as_bytes());
            out.put_u8(1);
        }
    }

    pub(crate) fn puback(self, id: u16, out: &mut BytesMut) {
        short(0x40, id, out);
    }

    pub(crate) fn pubrec(self, id: u16, out: &mut BytesMut) {
        short(0x50, id, out);
    }

    pub(crate) fn pubcomp(self, id: u16, out: &mut BytesMut) {
        short(0x70, id, out);
    }

    pub(crate) fn ping(self, out: &mut BytesMut) {
        out.put_slice(&[0xC0, 0]);
    }

    pub(crate) fn disconnect(self, out: &mut BytesMut) {
        out.put_slice(&[0xE0, 0]);
    }

    fn publish_body(self, topic: usize, properties: &[u8], payload: usize) -> usize {
        let properties = if self.0 == Version::V5 { 1 + properties.len() } else { 0 };
        2 + topic + 2 + properties + payload
    }
}

impl Hello {
    fn login(&self) -> Option<(&str, &str)> {
        let given = !self.username.is_empty() || !self.password.is_empty();
        given.then_some((self.username.as_str(), self.password.as_str()))
    }
}

/// The acknowledgements are four bytes in either version, as long as the reason
/// is success.
fn short(kind: u8, id: u16, out: &mut BytesMut) {
    out.put_slice(&[kind, 2]);
    out.put_u16(id);
}

fn length_of_length(body: usize) -> usize {
    match body {
        0..=127 => 1,
        128..=16_383 => 2,
        16_384..=2_097_151 => 3,
        _ => 4,
    }
}

/// The length of the packet that the bytes begin with, once all of it is there.
pub(crate) fn frame(bytes: &[u8], max: u32) -> Result<Option<usize>, Malformed> {
    let mut body = 0_usize;
    for (index, &byte) in bytes.iter().skip(1).take(4).enumerate() {
        body |= usize::from(byte & 0x7F) << (7 * index);
        if byte & 0x80 == 0 {
            if body > max as usize {
                return Err(Malformed(format!("a packet of {body} bytes where {max} are allowed")));
            }
            let length = 2 + index + body;
            return Ok((bytes.len() >= length).then_some(length));
        }
    }
    if bytes.len() >= 5 { Err(Malformed("a length of more than 4 bytes".into())) } else { Ok(None) }
}

fn decode_v4(packet: &mut BytesMut) -> Result<Incoming, Malformed> {
    if packet[0] == 0x20 && packet.len() == 4 && packet[3] > 5 {
        let refused = format!("it refuses the connection with code {}", packet[3]);
        return Ok(Incoming::Connack(Connack { refused: Some(refused), ..Connack::default() }));
    }
    let packet =
        v4::Packet::read(packet, INCOMING_MAX as usize).map_err(|error| Malformed::new(&error))?;
    Ok(match packet {
        v4::Packet::ConnAck(ack) => Incoming::Connack(Connack {
            refused: reason::connack_v4(ack.code).map(ToOwned::to_owned),
            session_present: ack.session_present,
            retain: true,
            qos1: true,
            ..Connack::default()
        }),
        v4::Packet::PubAck(ack) => Incoming::Puback { id: ack.pkid, refused: None },
        v4::Packet::SubAck(ack) => Incoming::Suback {
            refused: ack.return_codes.contains(&v4::SubscribeReasonCode::Failure),
        },
        v4::Packet::Publish(publish) => Incoming::Publish {
            id: publish.pkid,
            qos: publish.qos as u8,
            delivery: Delivery {
                topic: publish.topic,
                payload: publish.payload,
                retained: publish.retain,
            },
        },
        v4::Packet::PubRel(rel) => Incoming::Pubrel { id: rel.pkid },
        v4::Packet::PingResp => Incoming::Pong,
        _ => Incoming::Other,
    })
}

fn decode_v5(packet: &mut BytesMut) -> Result<Incoming, Malformed> {
    match packet[..] {
        // Without reason or without properties (3.14.2): rumqttc wants both.
        [0xE0, 0] => return Ok(disconnect(0)),
        [0xE0, 1, reason] => return Ok(disconnect(reason)),
        // A broker of 3.1.1 answers in its own version (3.1.2.2).
        [0x20, 2, _, code] => {
            let refused = match code {
                1 | 0x84 => "it doesn't speak MQTT 5: set `version = 4`".to_owned(),
                code => format!("it refuses the connection with code 0x{code:02x}"),
            };
            return Ok(Incoming::Connack(Connack { refused: Some(refused), ..Connack::default() }));
        }
        // Reasons that rumqttc doesn't know, too (3.14.2.1).
        [0xE0, ..] => return Ok(disconnect(*packet.get(2).unwrap_or(&0x80))),
        _ => (),
    }
    let packet =
        v5::Packet::read(packet, Some(INCOMING_MAX)).map_err(|error| Malformed::new(&error))?;
    Ok(match packet {
        v5::Packet::ConnAck(ack) => Incoming::Connack(connack_v5(ack)),
        v5::Packet::PubAck(ack) => {
            Incoming::Puback { id: ack.pkid, refused: reason::puback(ack.reason) }
        }
        v5::Packet::SubAck(ack) => {
            let taken = |code: &_| matches!(code, v5::SubscribeReasonCode::Success(_));
            Incoming::Suback { refused: !ack.return_codes.iter().all(taken) }
        }
        v5::Packet::Publish(publish) => Incoming::Publish {
            id: publish.pkid,
            qos: publish.qos as u8,
            delivery: Delivery {
                // What isn't UTF-8 is no topic of ours.
                topic: String::from_utf8(publish.topic.into()).unwrap_or_default(),
                payload: publish.payload,
                retained: publish.retain,
            },
        },
        v5::Packet::PubRel(rel) => Incoming::Pubrel { id: rel.pkid },
        v5::Packet::PingResp(_) => Incoming::Pong,
        _ => Incoming::Other,
    })
}

fn connack_v5(ack: v5::ConnAck) -> Connack {
    let detail = ack.properties.as_ref().and_then(|all| all.reason_string.clone());
    let refused = reason::connack_v5(ack.code).map(|words| match detail {
        Some(detail) => format!("{words} ({})", plain(&detail)),
        None => words,
    });
    let properties = ack.properties.as_ref();
    Connack {
        refused,
        session_present: ack.session_present,
        receive_max: properties.and_then(|all| all.receive_max),
        max_packet: properties.and_then(|all| all.max_packet_size),
        keep_alive: properties.and_then(|all| all.server_keep_alive),
        retain: properties.and_then(|all| all.retain_available) != Some(0),
        qos1: properties.and_then(|all| all.max_qos) != Some(0),
    }
}

fn disconnect(code: u8) -> Incoming {
    Incoming::Disconnect { reason: reason::disconnect(code), code }
}

/// A broker's text for the log and the page: short, one line, no control
/// characters.
fn plain(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(120).collect()
}

/// The payload of a packet's bytes, for tests and the like.
#[cfg(test)]
pub(crate) fn written(
    version: Version,
    bytes: &BytesMut,
) -> Option<(String, u16, bool, bytes::Bytes)> {
    let mut bytes = bytes.clone();
    match version {
        Version::V4 => match v4::Packet::read(&mut bytes, 1 << 24).ok()? {
            v4::Packet::Publish(p) => Some((p.topic, p.pkid, p.retain, p.payload)),
            _ => None,
        },
        Version::V5 => match v5::Packet::read(&mut bytes, None).ok()? {
            v5::Packet::Publish(p) => {
                let topic = String::from_utf8(p.topic.to_vec()).ok()?;
                Some((topic, p.pkid, p.retain, p.payload))
            }
            _ => None,
        },
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BOTH: [Version; 2] = [Version::V4, Version::V5];

    fn one(version: Version, bytes: &[u8]) -> Result<Option<Incoming>, Malformed> {
        Codec(version).decode(&mut BytesMut::from(bytes))
    }

    #[test]
    fn a_publish_by_hand_is_what_the_codec_reads() {
        for version in BOTH {
            for length in [0, 1, 100, 127, 128, 16_383, 16_384, 70_000] {
                let payload = vec![b'x'; length];
                let mut out = BytesMut::new();
                let properties = if length == 100 { &[0x01, 1][..] } else { &[] };
                Codec(version).publish("a/b", 7, length == 1, properties, &payload, &mut out);
                let size = Codec(version).publish_size(3, properties, length);
                assert_eq!(out.len(), size);
                let read = written(version, &out).unwrap();
                assert_eq!(read, ("a/b".to_owned(), 7, length == 1, payload.into()));
            }
        }
    }

    #[test]
    fn short_forms_of_mqtt_5_are_understood() {
        let closed = Incoming::Disconnect { reason: "it closed the connection".into(), code: 0 };
        assert_eq!(one(Version::V5, &[0xE0, 0]), Ok(Some(closed)));
        for bytes in [&[0xE0, 1, 0x8E][..], &[0xE0, 2, 0x8E, 0]] {
            let Ok(Some(Incoming::Disconnect { code, .. })) = one(Version::V5, bytes) else {
                panic!("{bytes:?}");
            };
            assert_eq!(code, 0x8E);
        }
        let Ok(Some(Incoming::Connack(ack))) = one(Version::V5, &[0x20, 2, 0, 1]) else { panic!() };
        assert_eq!(ack.refused.as_deref(), Some("it doesn't speak MQTT 5: set `version = 4`"));
        let refused = Some(Refusal { words: "quota exceeded".to_owned(), lasting: Lasting::No });
        assert_eq!(
            one(Version::V5, &[0x40, 3, 0, 9, 0x97]),
            Ok(Some(Incoming::Puback { id: 9, refused }))
        );
    }

    #[test]
    fn a_packet_that_ends_too_early_is_not_waited_for() {
        // A CONNACK whose properties are promised and missing.
        assert!(one(Version::V5, &[0x20, 3, 0, 0, 9]).is_err());
        assert!(one(Version::V4, &[0x40, 1, 0]).is_err());
        assert_eq!(one(Version::V4, &[0x40, 2, 0]), Ok(None));
        assert!(one(Version::V4, &[0x30, 0xFF, 0xFF, 0xFF, 0xFF, 1]).is_err());
        assert!(one(Version::V4, &[0x30, 0xFF, 0xFF, 0xFF, 0x7F]).is_err(), "larger than allowed");
    }

    proptest! {
        #[test]
        fn whatever_a_broker_sends_is_a_packet_an_error_or_awaited(
            bytes in proptest::collection::vec(any::<u8>(), 0..200), five in any::<bool>(),
        ) {
            let version = if five { Version::V5 } else { Version::V4 };
            let mut received = BytesMut::from(&bytes[..]);
            while !received.is_empty() {
                match Codec(version).decode(&mut received) {
                    Ok(Some(_)) => (),
                    Ok(None) | Err(_) => break,
                }
            }
        }
    }
}
