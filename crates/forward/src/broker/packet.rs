//! MQTT packets of both versions as a broker wants them.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use rumqttc::mqttbytes as m4;
use rumqttc::mqttbytes::v4;
use rumqttc::v5::mqttbytes as m5;
use rumqttc::v5::mqttbytes::v5;

use super::PACKET_MAX;
use super::behaviour::Behaviour;
use super::hub::{Message, Subscription};
use crate::Version;
use crate::codec::{Malformed, frame};

/// A packet from a client.
#[derive(Debug)]
pub(crate) enum Packet {
    Connect(Connect),
    Publish { message: Message, id: u16 },
    Puback(u16),
    Pubrel(u16),
    Subscribe { id: u16, filters: Vec<(Subscription, Replay)> },
    Unsubscribe { id: u16, filters: Vec<String> },
    Ping,
    Disconnect { with_will: bool },
    Other,
}

/// When retained messages follow a SUBSCRIBE (MQTT 5, 3.8.3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Replay {
    Always,
    WhenNew,
    Never,
}

/// What a client says of itself.
#[derive(Debug)]
pub(crate) struct Connect {
    pub(crate) version: Version,
    pub(crate) client: String,
    pub(crate) keep_alive: u16,
    pub(crate) will: Option<Message>,
    /// Publishes it takes before it has answered.
    pub(crate) receive_max: u16,
    /// The largest packet it takes.
    pub(crate) max_packet: usize,
}

/// The protocol level of a CONNECT, whose place is the same in every version
/// (3.1.2.2). `None` when it is none, or not yet all there.
pub(crate) fn level(received: &BytesMut) -> Result<Option<u8>, Malformed> {
    let Some(length) = frame(received, PACKET_MAX)? else { return Ok(None) };
    let header = 1 + received.iter().skip(1).take_while(|&&byte| byte & 0x80 != 0).count() + 1;
    let packet = &received[..length];
    let name =
        packet.get(header..header + 2).map_or(0, |n| usize::from(n[0]) << 8 | usize::from(n[1]));
    let is_connect = packet[0] == 0x10;
    Ok(packet.get(header + 2 + name).copied().filter(|_| is_connect).or(Some(0)))
}

/// Takes the next whole packet from what has been received.
pub(crate) fn decode(
    version: Version,
    received: &mut BytesMut,
) -> Result<Option<Packet>, Malformed> {
    let Some(length) = frame(received, PACKET_MAX)? else { return Ok(None) };
    let mut packet = received.split_to(length);
    let max = PACKET_MAX;
    match version {
        Version::V4 => v4::Packet::read(&mut packet, max as usize)
            .map_err(|error| Malformed::new(&error))
            .map(|packet| Some(from_v4(packet))),
        // Without reason or without properties (3.14.2): rumqttc wants both.
        Version::V5 if packet[0] == 0xE0 && packet.len() <= 3 => {
            Ok(Some(Packet::Disconnect { with_will: packet.get(2) == Some(&4) }))
        }
        Version::V5 => v5::Packet::read(&mut packet, Some(max))
            .map_err(|error| Malformed::new(&error))
            .map(|packet| Some(from_v5(packet))),
    }
}

fn from_v4(packet: v4::Packet) -> Packet {
    match packet {
        v4::Packet::Connect(connect) => Packet::Connect(Connect {
            version: Version::V4,
            client: connect.client_id,
            keep_alive: connect.keep_alive,
            will: connect.last_will.map(|will| Message {
                topic: will.topic.into(),
                payload: will.message,
                retain: will.retain,
                qos: (will.qos as u8).min(1),
            }),
            receive_max: u16::MAX,
            max_packet: usize::MAX,
        }),
        v4::Packet::Publish(publish) => Packet::Publish {
            message: Message {
                topic: publish.topic.into(),
                payload: publish.payload,
                retain: publish.retain,
                qos: publish.qos as u8,
            },
            id: publish.pkid,
        },
        v4::Packet::PubAck(ack) => Packet::Puback(ack.pkid),
        v4::Packet::PubRel(rel) => Packet::Pubrel(rel.pkid),
        v4::Packet::Subscribe(subscribe) => Packet::Subscribe {
            id: subscribe.pkid,
            filters: subscribe
                .filters
                .into_iter()
                .map(|filter| {
                    let qos = (filter.qos as u8).min(1);
                    let plain = Subscription {
                        filter: filter.path,
                        qos,
                        no_local: false,
                        as_published: false,
                    };
                    (plain, Replay::Always)
                })
                .collect(),
        },
        v4::Packet::Unsubscribe(all) => Packet::Unsubscribe { id: all.pkid, filters: all.topics },
        v4::Packet::PingReq => Packet::Ping,
        v4::Packet::Disconnect => Packet::Disconnect { with_will: false },
        _ => Packet::Other,
    }
}

fn from_v5(packet: v5::Packet) -> Packet {
    match packet {
        v5::Packet::Connect(connect, will, _) => {
            let properties = connect.properties.as_ref();
            let max_packet = properties.and_then(|all| all.max_packet_size);
            Packet::Connect(Connect {
                version: Version::V5,
                client: connect.client_id,
                keep_alive: connect.keep_alive,
                will: will.map(|will| Message {
                    topic: text(&will.topic),
                    payload: will.message,
                    retain: will.retain,
                    qos: (will.qos as u8).min(1),
                }),
                receive_max: properties.and_then(|all| all.receive_maximum).unwrap_or(u16::MAX),
                max_packet: max_packet.map_or(usize::MAX, |max| max as usize),
            })
        }
        v5::Packet::Publish(publish) => Packet::Publish {
            message: Message {
                topic: text(&publish.topic),
                payload: publish.payload,
                retain: publish.retain,
                qos: publish.qos as u8,
            },
            id: publish.pkid,
        },
        v5::Packet::PubAck(ack) => Packet::Puback(ack.pkid),
        v5::Packet::PubRel(rel) => Packet::Pubrel(rel.pkid),
        v5::Packet::Subscribe(subscribe) => Packet::Subscribe {
            id: subscribe.pkid,
            filters: subscribe.filters.into_iter().map(filter_v5).collect(),
        },
        v5::Packet::Unsubscribe(all) => Packet::Unsubscribe { id: all.pkid, filters: all.filters },
        v5::Packet::PingReq(_) => Packet::Ping,
        v5::Packet::Disconnect(end) => Packet::Disconnect {
            with_will: end.reason_code != v5::DisconnectReasonCode::NormalDisconnection,
        },
        _ => Packet::Other,
    }
}

fn filter_v5(filter: v5::Filter) -> (Subscription, Replay) {
    let replay = match filter.retain_forward_rule {
        v5::RetainForwardRule::OnEverySubscribe => Replay::Always,
        v5::RetainForwardRule::OnNewSubscribe => Replay::WhenNew,
        v5::RetainForwardRule::Never => Replay::Never,
    };
    let subscription = Subscription {
        filter: filter.path,
        qos: (filter.qos as u8).min(1),
        no_local: filter.nolocal,
        as_published: filter.preserve_retain,
    };
    (subscription, replay)
}

/// An empty topic, which is refused later, stands for what isn't UTF-8.
fn text(topic: &Bytes) -> Arc<str> {
    std::str::from_utf8(topic).unwrap_or_default().into()
}

/// CONNACK; with `assigned`, the client gave itself no id.
pub(crate) fn connack(
    version: Version,
    code: u8,
    assigned: Option<&str>,
    bent: &Behaviour,
    out: &mut BytesMut,
) {
    match version {
        // Codes of MQTT 5 become "server unavailable" for a client of 3.1.1.
        Version::V4 => {
            let present = u8::from(code == 0 && bent.claim_session);
            out.put_slice(&[0x20, 2, present, if code < 0x80 { code } else { 3 }]);
        }
        Version::V5 if code != 0 => {
            // And the other way round.
            let code = [0, 0x84, 0x85, 0x88, 0x86, 0x87].get(usize::from(code)).unwrap_or(&code);
            out.put_slice(&[0x20, 3, 0, *code, 0]);
        }
        Version::V5 => {
            let properties = v5::ConnAckProperties {
                receive_max: bent.receive_maximum,
                max_packet_size: Some(bent.maximum_packet_size.unwrap_or(PACKET_MAX)),
                server_keep_alive: bent.keep_alive,
                assigned_client_identifier: assigned.map(ToOwned::to_owned),
                subscription_identifiers_available: Some(0),
                shared_subscription_available: Some(0),
                ..empty()
            };
            let ack = v5::ConnAck {
                session_present: bent.claim_session,
                code: v5::ConnectReturnCode::Success,
                properties: Some(properties),
            };
            let written = ack.write(out);
            debug_assert!(written.is_ok(), "its fields are short");
        }
    }
}

fn empty() -> v5::ConnAckProperties {
    v5::ConnAckProperties {
        session_expiry_interval: None,
        receive_max: None,
        max_qos: None,
        retain_available: None,
        max_packet_size: None,
        assigned_client_identifier: None,
        topic_alias_max: None,
        reason_string: None,
        user_properties: Vec::new(),
        wildcard_subscription_available: None,
        subscription_identifiers_available: None,
        shared_subscription_available: None,
        server_keep_alive: None,
        response_information: None,
        server_reference: None,
        authentication_method: None,
        authentication_data: None,
    }
}

/// PUBLISH to a client; id 0 for QoS 0.
pub(crate) fn publish(version: Version, message: &Message, id: u16, out: &mut BytesMut) -> bool {
    let (topic, payload, retain) = (&message.topic, message.payload.clone(), message.retain);
    match version {
        Version::V4 => {
            let qos = if id == 0 { m4::QoS::AtMostOnce } else { m4::QoS::AtLeastOnce };
            let mut publish = v4::Publish::from_bytes(&**topic, qos, payload);
            (publish.pkid, publish.retain) = (id, retain);
            publish.write(out).is_ok()
        }
        Version::V5 => {
            let qos = if id == 0 { m5::QoS::AtMostOnce } else { m5::QoS::AtLeastOnce };
            let mut publish = v5::Publish::new(&**topic, qos, payload, None);
            (publish.pkid, publish.retain) = (id, retain);
            publish.write(out).is_ok()
        }
    }
}

/// PUBACK, PUBREC or PUBCOMP, by its first byte, with a reason if it has one.
pub(crate) fn answer(kind: u8, id: u16, reason: Option<u8>, out: &mut BytesMut) {
    match reason {
        None => out.put_slice(&[kind, 2]),
        Some(_) => out.put_slice(&[kind, 3]),
    }
    out.put_u16(id);
    out.extend(reason);
}

/// SUBACK or UNSUBACK, by its first byte, with a code a filter. The filters of
/// one packet are limited, so the length is a byte or two.
pub(crate) fn answers(version: Version, kind: u8, id: u16, codes: &[u8], out: &mut BytesMut) {
    let properties = usize::from(version == Version::V5);
    let length = 2 + properties + codes.len();
    let low = u8::try_from(length % 128).unwrap_or_default();
    out.put_u8(kind);
    match u8::try_from(length / 128).unwrap_or(0x7F) {
        0 => out.put_u8(low),
        high => out.put_slice(&[low | 0x80, high]),
    }
    out.put_u16(id);
    out.put_bytes(0, properties);
    out.put_slice(codes);
}

pub(crate) fn pong(out: &mut BytesMut) {
    out.put_slice(&[0xD0, 0]);
}

/// DISCONNECT, which only MQTT 5 has from a server.
pub(crate) fn disconnect(version: Version, reason: u8, out: &mut BytesMut) {
    if version == Version::V5 {
        out.put_slice(&[0xE0, 1, reason]);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_level_is_found_wherever_the_length_ends() {
        let short = [0x10, 7, 0, 4, b'M', b'Q', b'T', b'T', 5];
        assert_eq!(level(&BytesMut::from(&short[..])), Ok(Some(5)));
        assert_eq!(level(&BytesMut::from(&short[..6])), Ok(None));
        let mut long = vec![0x10, 0x80 | 100, 1, 0, 6];
        long.extend(b"MQIsdp\x03");
        long.resize(3 + 228, 0);
        assert_eq!(level(&BytesMut::from(&long[..])), Ok(Some(3)));
        assert_eq!(level(&BytesMut::from(&[0xC0, 0][..])), Ok(Some(0)), "no CONNECT");
    }

    #[test]
    fn a_suback_of_many_filters_has_a_length_of_two_bytes() {
        let mut out = BytesMut::new();
        answers(Version::V5, 0x90, 7, &[1; 130], &mut out);
        assert_eq!(out[..6], [0x90, 0x80 | 5, 1, 0, 7, 0]);
        assert_eq!(out.len(), 3 + 133);
    }

    proptest! {
        #[test]
        fn whatever_a_client_sends_is_a_packet_an_error_or_awaited(
            kind in 0_u8..16, flags in 0_u8..16, five in any::<bool>(),
            body in proptest::collection::vec(any::<u8>(), 0..120),
        ) {
            let version = if five { Version::V5 } else { Version::V4 };
            let mut bytes = vec![kind << 4 | flags, u8::try_from(body.len()).unwrap()];
            bytes.extend(body);
            let mut received = BytesMut::from(&bytes[..]);
            let _ = level(&received);
            let _ = decode(version, &mut received);
            prop_assert!(received.is_empty(), "a whole packet is taken out");
        }
    }
}
