//! Serial line → gateway → mosquitto → somebody who wants to know.

use std::time::Duration;

use serde_json::Value;

use crate::support::{Broker, Gateway, Home, Message, Port, Subscriber};

/// Enough to go round every queue and window several times.
const LINES: u64 = 3_000;

const TOPIC: &str = "tidemill/greenhouse/weather/n";

struct Rig {
    port: Port,
    subscriber: Subscriber,
    gateway: Gateway,
    // What the others stand on; dropped last.
    _broker: Broker,
    _home: Home,
}

/// A gateway that is online and has its sensor open.
fn rig(forward: impl Fn(&Broker) -> String) -> Rig {
    let (broker, port) = (Broker::start(), Port::new());
    let subscriber = broker.subscribe("tidemill/greenhouse/#");
    let home = Home::new(&(forward(&broker) + &port.config()));
    let gateway = home.start();
    port.opened();
    Rig { port, subscriber, gateway, _broker: broker, _home: home }
}

/// Feeds lines and gives the readings of `n` at the subscriber, whatever the
/// format; checks that nothing comes twice.
fn delivered(rig: &mut Rig, read: fn(&Message) -> Vec<Value>) -> Vec<Value> {
    rig.port.count(0..LINES);
    let mut readings = Vec::new();
    while readings.len() < LINES as usize {
        readings.extend(read(&rig.subscriber.next()));
    }
    let late = rig.subscriber.rest(Duration::from_millis(500));
    readings.extend(late.iter().flat_map(read));
    readings
}

/// Of one message in the format `json`.
fn json(message: &Message) -> Vec<Value> {
    if message.topic == TOPIC { vec![message.json()] } else { Vec::new() }
}

/// Of one message in the format `senml`: RFC 8428, base fields resolved.
fn senml(message: &Message) -> Vec<Value> {
    if message.topic != "tidemill/greenhouse/senml" {
        return Vec::new();
    }
    let pack = message.json();
    let mut base = ("".to_owned(), 0.0, Value::Null);
    let mut readings = Vec::new();
    for record in pack.as_array().expect("a pack is an array") {
        if let Some(name) = record["bn"].as_str() {
            base.0 = name.to_owned();
        }
        base.1 = record["bt"].as_f64().unwrap_or(base.1);
        if !record["bu"].is_null() {
            base.2 = record["bu"].clone();
        }
        let name = format!("{}{}", base.0, record["n"].as_str().unwrap_or_default());
        if name != "greenhouse/weather/n" {
            continue;
        }
        let mut resolved = record.clone();
        resolved["value"] = record["v"].clone();
        resolved["time"] = (base.1 + record["t"].as_f64().unwrap_or(0.0)).into();
        if record["u"].is_null() {
            resolved["u"] = base.2.clone();
        }
        readings.push(resolved);
    }
    assert_eq!(pack[0]["epoch"].as_str().map(str::len), Some(16), "{}", pack[0]);
    readings
}

#[track_caller]
fn once_in_order(readings: &[Value]) {
    let values: Vec<f64> = readings.iter().map(|r| r["value"].as_f64().unwrap()).collect();
    let sent: Vec<f64> = (0..LINES).map(|n| n as f64).collect();
    assert_eq!(values.len(), sent.len(), "nothing lost, nothing twice");
    assert_eq!(values, sent, "in order");
    let seqs: Vec<u64> = readings.iter().map(|r| r["seq"].as_u64().unwrap()).collect();
    assert!(seqs.windows(2).all(|pair| pair[0] < pair[1]), "seq ascends");
}

#[track_caller]
fn json_arrives(forward: impl Fn(&Broker) -> String) {
    let mut rig = rig(forward);
    let readings = delivered(&mut rig, json);
    once_in_order(&readings);
    let first = readings[0].as_object().unwrap();
    let keys: Vec<&str> = first.keys().map(String::as_str).collect();
    assert_eq!(keys, ["epoch", "quality", "seq", "time", "unit", "value"], "the payload's keys");
    assert_eq!(first["unit"], "Cel");
    assert_eq!(first["quality"], "good");
    assert_eq!(first["epoch"], rig.gateway.status()["epoch"]);
    let time = first["time"].as_str().unwrap();
    assert!(time.len() == 27 && time.ends_with('Z'), "{time}");
    let ledger = rig.gateway.forwarder("cloud");
    assert_eq!(ledger["dropped"], 0, "{ledger}");
}

#[track_caller]
fn senml_arrives(forward: impl Fn(&Broker) -> String) {
    let mut rig = rig(forward);
    let readings = delivered(&mut rig, senml);
    once_in_order(&readings);
    assert_eq!(readings[0]["u"], "Cel");
    let now = reading::Timestamp::now().as_micros() as f64 / 1e6;
    let time = readings[0]["time"].as_f64().unwrap();
    assert!((now - time).abs() < 60.0, "{time} is seconds since 1970, as now is: {now}");
}

#[test]
fn every_line_arrives_once_in_order_as_json_over_mqtt_5() {
    json_arrives(|broker| broker.config("version = 5\nformat = \"json\""));
}

#[test]
fn every_line_arrives_once_in_order_as_json_over_mqtt_3_1_1() {
    json_arrives(|broker| broker.config("version = 4\nformat = \"json\""));
}

#[test]
fn every_line_arrives_once_in_order_as_senml_over_mqtt_5() {
    senml_arrives(|broker| broker.config("version = 5\nformat = \"senml\""));
}

#[test]
fn every_line_arrives_once_in_order_as_senml_over_mqtt_3_1_1() {
    senml_arrives(|broker| broker.config("version = 4\nformat = \"senml\""));
}

#[test]
fn every_line_arrives_once_in_order_over_plain_tcp() {
    json_arrives(|broker| format!("[forward.cloud]\nurl = {:?}\n\n", broker.plain_url()));
}

#[test]
fn every_line_arrives_under_the_older_name_of_the_subprotocol() {
    json_arrives(|broker| broker.config("subprotocol = \"mqttv3.1\"\nversion = 4"));
}

#[test]
fn the_broker_keeps_who_is_there_and_what_it_measures() {
    let (broker, port) = (Broker::start(), Port::new());
    let home = Home::new(&(broker.config("") + &port.config()));
    let gateway = home.start();
    gateway.forwarder_is("cloud", "online");

    // Subscribes afterwards, so that only what is retained can come.
    let late = broker.subscribe("tidemill/greenhouse/#");
    let status = late.next_on("tidemill/greenhouse/status");
    assert_eq!((status.payload.as_ref(), status.retained), (&b"online"[..], true));
    drop(late);

    let info = broker.subscribe("tidemill/greenhouse/info").next();
    assert!(info.retained);
    let info = info.json();
    assert_eq!(info["epoch"], gateway.status()["epoch"]);
    assert_eq!(info["version"], env!("CARGO_PKG_VERSION"));
    let text = info.to_string();
    assert!(text.contains("weather") && text.contains("Cel"), "{text}");
}

#[test]
fn an_orderly_stop_says_offline_and_so_does_the_will_of_a_killed_one() {
    let (broker, port) = (Broker::start(), Port::new());
    let home = Home::new(&(broker.config("") + &port.config()));
    let subscriber = broker.subscribe("tidemill/greenhouse/status");

    for end in [Gateway::stop, Gateway::kill] {
        let gateway = home.start();
        while subscriber.next().payload != "online" {}
        end(gateway);
        while subscriber.next().payload != "offline" {}
        let kept = broker.subscribe("tidemill/greenhouse/status");
        let kept = kept.next();
        assert_eq!((kept.payload.as_ref(), kept.retained), (&b"offline"[..], true));
    }
}

#[test]
fn only_the_named_channels_go_to_a_broker() {
    let broker = Broker::start();
    let subscriber = broker.subscribe("tidemill/greenhouse/+/+");
    let config = broker.config("channels = [\"weather/t*\"]")
        + "[device.weather]\ndriver = \"sim\"\npoll = \"20ms\"\n\
           [device.weather.channel]\ntide = { wave = \"ramp\" }\nhumidity = { wave = \"sine\" }\n";
    let home = Home::new(&config);
    let gateway = home.start();
    for _ in 0..20 {
        assert_eq!(subscriber.next().topic, "tidemill/greenhouse/weather/tide");
    }
    let ledger = gateway.forwarder("cloud");
    let number = |key: &str| ledger[key].as_u64().unwrap();
    assert_eq!(number("stored"), number("acknowledged") + number("pending") + number("dropped"));
}
