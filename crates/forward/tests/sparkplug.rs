//! Sparkplug B, read by the types of another implementation.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use forward::broker::Message;
use forward::{SetFn, State};
use reading::{Datum, Timestamp};
use srad_types::payload::{Message as _, Metric, Payload, metric, property_value};

use crate::support::{Inbox, Rig, Server};

/// The next message: its kind and what follows the group, and what it says.
async fn next(inbox: &mut Inbox) -> (String, Payload) {
    let (topic, payload) = inbox.next_bytes().await;
    let name = topic.strip_prefix("spBv1.0/plant/").unwrap_or_else(|| panic!("{topic}"));
    (name.to_owned(), Payload::decode(payload.as_slice()).expect("Sparkplug B"))
}

fn name(metric: &Metric) -> &str {
    metric.name.as_deref().expect("a name")
}

/// What a metric is called by another reader: type, value, properties.
fn described(metric: &Metric) -> String {
    let mut text = format!("{} {:?}", name(metric), metric.datatype.expect("a type"));
    if metric.is_null == Some(true) {
        text += " null";
    }
    if let Some(value) = &metric.value {
        text += &format!(" {value:?}");
    }
    let properties = metric.properties.clone().unwrap_or_default();
    for (key, value) in properties.keys.iter().zip(properties.values) {
        // The epoch is another each time.
        match value.value.expect("a value") {
            property_value::Value::StringValue(text) if key == "epoch" => {
                assert_eq!(text.len(), 16);
            }
            value => text += &format!(" {key}={value:?}"),
        }
    }
    text
}

const SPARKPLUG: &str = "format = \"sparkplug-b\"\ngroup = \"plant\"";

#[tokio::test]
async fn a_node_is_born_and_its_readings_follow_in_order() {
    for version in [4, 5] {
        let server = Server::start().await;
        let mut inbox = server.listen_to("spBv1.0/#");
        let text = format!("{SPARKPLUG}\nversion = {version}");
        let mut rig = Rig::start(&server.url, &text).await;
        let at = Timestamp::from_micros(1_795_508_403_123_000);
        rig.read_at(at, "weather/temperature", (0..600).map(|n| Datum::Number(n.into()))).await;
        rig.read_at(at, "panel/door", [Datum::Boolean(true)].into_iter()).await;
        let last = rig.read_at(at, "weather/note", [Datum::from("wet")].into_iter()).await;

        let (topic, birth) = next(&mut inbox).await;
        assert_eq!((topic.as_str(), birth.seq), ("NBIRTH/greenhouse", Some(0)));
        let said: Vec<String> = birth.metrics.iter().map(described).collect();
        assert_eq!(said[0], "bdSeq 8 LongValue(0)");
        assert_eq!(said[1], "Node Control/Rebirth 11 BooleanValue(false)");
        assert_eq!(said[2], "Gap 12 null");
        let (topic, weather) = next(&mut inbox).await;
        assert_eq!(topic, "DBIRTH/greenhouse/weather");
        let said: Vec<String> = weather.metrics.iter().map(described).collect();
        assert_eq!(said, ["temperature 10 null engUnit=StringValue(\"Cel\")", "note 12 null"]);
        let (topic, panel) = next(&mut inbox).await;
        assert_eq!((topic.as_str(), panel.seq), ("DBIRTH/greenhouse/panel", Some(2)));

        let mut numbers = vec![2];
        let mut readings = Vec::new();
        while readings.len() < usize::try_from(last).expect("few") {
            let (topic, data) = next(&mut inbox).await;
            let device = topic.strip_prefix("DDATA/greenhouse/").expect("data").to_owned();
            numbers.push(data.seq.expect("a number"));
            for metric in &data.metrics {
                assert_eq!(metric.timestamp, Some(1_795_508_403_123));
                assert_eq!(metric.is_historical, Some(true));
                readings.push(format!("{device}/{}", described(metric)));
            }
        }
        assert!(numbers.windows(2).all(|pair| (pair[0] + 1) % 256 == pair[1]), "{numbers:?}");
        let quality = "Quality=IntValue(192)";
        for (n, reading) in readings[..600].iter().enumerate() {
            let seq = n + 1;
            assert_eq!(
                *reading,
                format!("weather/temperature 10 DoubleValue({n}.0) {quality} seq=LongValue({seq})")
            );
        }
        assert_eq!(
            readings[600..],
            [
                format!("panel/door 11 BooleanValue(true) {quality} seq=LongValue(601)"),
                format!("weather/note 12 StringValue(\"wet\") {quality} seq=LongValue(602)"),
            ]
        );
        rig.is_acknowledged(last).await;
        rig.stop().await;
        let (topic, death) = next(&mut inbox).await;
        assert_eq!((topic.as_str(), death.seq), ("NDEATH/greenhouse", None));
        assert_eq!(described(&death.metrics[0]), "bdSeq 8 LongValue(0)");
    }
}

fn command(server: &Server, topic: &str, name: &str, value: metric::Value) {
    let metric = Metric { name: Some(name.to_owned()), value: Some(value), ..Metric::new() };
    let payload = Payload { metrics: vec![metric], ..Payload::default() };
    server.handle.publish(Message {
        topic: format!("spBv1.0/plant/{topic}").into(),
        payload: payload.encode_to_vec().into(),
        retain: false,
        qos: 1,
    });
}

#[tokio::test]
async fn a_host_asks_for_a_rebirth_and_sets_outputs() {
    let server = Server::start().await;
    let mut inbox = server.listen_to("spBv1.0/+/NBIRTH/#");
    let done = Arc::new(Mutex::new(Vec::new()));
    let set: SetFn = {
        let done = done.clone();
        Arc::new(move |channel, datum| {
            done.lock().expect("no panic").push(format!("{channel} {datum:?}"));
            Box::pin(async { Ok(()) })
        })
    };
    let mut rig = Rig::with(&server.url, SPARKPLUG, |f| f.with_outputs(set)).await;
    rig.is(State::Online).await;
    next(&mut inbox).await;
    server.handle.publish(Message {
        topic: "spBv1.0/plant/NCMD/greenhouse".into(),
        payload: b"no protobuf"[..].into(),
        retain: false,
        qos: 1,
    });
    command(&server, "NCMD/greenhouse", "Node Control/Rebirth", metric::Value::BooleanValue(true));
    let (_, birth) = next(&mut inbox).await;
    assert_eq!(birth.seq, Some(0));

    let dcmd = "DCMD/greenhouse/panel";
    command(&server, dcmd, "door", metric::Value::BooleanValue(true));
    command(&server, dcmd, "pump", metric::Value::DoubleValue(1.0));
    command(&server, dcmd, "pump", metric::Value::BooleanValue(true));
    command(&server, dcmd, "level", metric::Value::IntValue(42));
    let all = async {
        while done.lock().expect("no panic").len() < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), all).await.expect("both are set");
    let done = done.lock().expect("no panic").clone();
    assert_eq!(done, ["panel/pump Boolean(true)", "panel/level Number(42.0)"]);
    rig.stop().await;
}
