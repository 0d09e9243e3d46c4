//! The broker as a subscriber sees it, through a client of a few lines.

use bytes::{Bytes, BytesMut};
use forward::broker::Message;
use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v4::{
    Connect, Packet, PubAck, Publish, Subscribe, SubscribeFilter, Unsubscribe,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::support::{PATIENCE, Server};

/// MQTT 3.1.1 over TCP.
struct Client {
    stream: TcpStream,
    received: BytesMut,
}

impl Client {
    async fn connect(server: &Server, connect: Connect) -> Client {
        let address = server.tcp.trim_start_matches("mqtt://");
        let stream = TcpStream::connect(address).await.expect("the broker");
        let mut client = Client { stream, received: BytesMut::new() };
        client.send(Packet::Connect(connect)).await;
        assert!(matches!(client.next().await, Some(Packet::ConnAck(_))));
        client
    }

    async fn send(&mut self, packet: Packet) {
        let mut out = BytesMut::new();
        packet.write(&mut out, 1 << 20).expect("a packet");
        self.stream.write_all(&out).await.expect("the broker reads");
    }

    /// `None` when the broker has closed.
    async fn next(&mut self) -> Option<Packet> {
        loop {
            if let Ok(packet) = Packet::read(&mut self.received, 1 << 20) {
                return Some(packet);
            }
            let read = timeout(PATIENCE, self.stream.read_buf(&mut self.received)).await;
            if read.expect("in time").ok()? == 0 {
                return None;
            }
        }
    }

    async fn subscribe(&mut self, filter: &str, qos: QoS) {
        let filters = vec![SubscribeFilter::new(filter.to_owned(), qos)];
        self.send(Packet::Subscribe(Subscribe { pkid: 9, filters })).await;
        let Some(Packet::SubAck(ack)) = self.next().await else { panic!("no SUBACK") };
        assert_eq!(ack.pkid, 9);
    }

    async fn publish_of(&mut self) -> Publish {
        match self.next().await {
            Some(Packet::Publish(publish)) => {
                if publish.qos == QoS::AtLeastOnce {
                    self.send(Packet::PubAck(PubAck::new(publish.pkid))).await;
                }
                publish
            }
            other => panic!("{other:?} is no PUBLISH"),
        }
    }
}

fn message(topic: &str, payload: &'static str, retain: bool) -> Message {
    Message { topic: topic.into(), payload: Bytes::from_static(payload.as_bytes()), retain, qos: 1 }
}

#[tokio::test]
async fn subscriptions_with_wildcards_get_what_matches() {
    let server = Server::start().await;
    let mut client = Client::connect(&server, Connect::new("sub")).await;
    client.subscribe("site/+/temperature", QoS::AtLeastOnce).await;
    client.subscribe("other/#", QoS::AtMostOnce).await;
    for (topic, payload) in [
        ("site/a/humidity", "1"),
        ("site/a/temperature", "2"),
        ("site/a/b/temperature", "3"),
        ("other", "4"),
        ("other/x/y", "5"),
    ] {
        server.handle.publish(message(topic, payload, false));
    }
    let mut got = Vec::new();
    for _ in 0..3 {
        let publish = client.publish_of().await;
        got.push((String::from_utf8_lossy(&publish.payload).into_owned(), publish.qos));
    }
    let expected = [("2", QoS::AtLeastOnce), ("4", QoS::AtMostOnce), ("5", QoS::AtMostOnce)];
    assert_eq!(got, expected.map(|(payload, qos)| (payload.to_owned(), qos)));
    client.send(Packet::Unsubscribe(Unsubscribe { pkid: 3, topics: vec!["other/#".into()] })).await;
    assert!(matches!(client.next().await, Some(Packet::UnsubAck(ack)) if ack.pkid == 3));
    server.handle.publish(message("other", "6", false));
    server.handle.publish(message("site/b/temperature", "7", false));
    assert_eq!(client.publish_of().await.payload, "7");
}

#[tokio::test]
async fn retained_messages_are_found_replaced_and_removed() {
    let server = Server::start().await;
    for (topic, payload) in [("a/1", "old"), ("a/1", "new"), ("a/2", "gone"), ("a/2", "")] {
        server.handle.publish(message(topic, payload, true));
    }
    let mut client = Client::connect(&server, Connect::new("late")).await;
    client.subscribe("a/#", QoS::AtLeastOnce).await;
    let found = client.publish_of().await;
    assert_eq!(
        (found.topic.as_str(), &found.payload[..], found.retain),
        ("a/1", &b"new"[..], true)
    );
    server.handle.publish(message("a/1", "live", true));
    let live = client.publish_of().await;
    assert_eq!((&live.payload[..], live.retain), (&b"live"[..], false), "3.3.1.3");
}

#[tokio::test]
async fn the_second_client_of_an_id_replaces_the_first() {
    let server = Server::start().await;
    let mut first = Client::connect(&server, Connect::new("same")).await;
    let _second = Client::connect(&server, Connect::new("same")).await;
    assert_eq!(first.next().await, None);
    assert_eq!(server.handle.clients(), ["same"]);
}

#[tokio::test]
async fn a_client_that_sends_nonsense_is_closed_and_no_other_notices() {
    let server = Server::start().await;
    let mut good = Client::connect(&server, Connect::new("good")).await;
    good.subscribe("#", QoS::AtLeastOnce).await;
    for nonsense in [&[0xFF; 64][..], &[0x10, 0xFF, 0xFF, 0xFF, 0x7F], b"GET / HTTP/1.1\r\n\r\n"] {
        let address = server.tcp.trim_start_matches("mqtt://");
        let mut stream = TcpStream::connect(address).await.expect("the broker");
        stream.write_all(nonsense).await.expect("it reads");
        let mut rest = Vec::new();
        let closed = timeout(PATIENCE, stream.read_to_end(&mut rest)).await;
        assert!(closed.is_ok(), "closed before long");
    }
    let mut bad = Client::connect(&server, Connect::new("bad")).await;
    bad.stream.write_all(&[0x82, 2, 0, 1]).await.expect("it reads");
    assert_eq!(bad.next().await, None, "a SUBSCRIBE of nothing");
    server.handle.publish(message("a", "still here", false));
    assert_eq!(good.publish_of().await.payload, "still here");
}

#[tokio::test]
async fn quality_of_service_2_is_taken_once() {
    let server = Server::start().await;
    let mut inbox = server.handle.subscribe("q", 10);
    let mut client = Client::connect(&server, Connect::new("two")).await;
    let mut publish = Publish::new("q", QoS::ExactlyOnce, "x");
    publish.pkid = 5;
    for _ in 0..2 {
        client.send(Packet::Publish(publish.clone())).await;
        assert!(matches!(client.next().await, Some(Packet::PubRec(rec)) if rec.pkid == 5));
    }
    client.send(Packet::PubRel(rumqttc::mqttbytes::v4::PubRel::new(5))).await;
    assert!(matches!(client.next().await, Some(Packet::PubComp(comp)) if comp.pkid == 5));
    assert_eq!(inbox.recv().await.map(|message| message.payload), Some(Bytes::from_static(b"x")));
    assert!(inbox.try_recv().is_err(), "the second was the first again");
}
