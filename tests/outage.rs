//! The broker goes away and comes back; the sensor is unplugged and back.

use std::collections::HashSet;
use std::time::Duration;

use serde_json::Value;

use crate::support::{Broker, Home, Port, Subscriber, eventually};

const TOPIC: &str = "tidemill/greenhouse/weather/n";

/// Readings of `n` until the last is there, without those that came twice.
///
/// A broker that ends may have passed on what it hadn't acknowledged yet, so
/// what was in flight may come again, and is known by its epoch and number.
#[track_caller]
fn values_until(subscriber: &Subscriber, last: u64) -> Vec<u64> {
    let mut seen = HashSet::new();
    let mut values = Vec::new();
    while values.last() != Some(&last) {
        let reading: Value = subscriber.next_on(TOPIC).json();
        let name = (reading["epoch"].to_string(), reading["seq"].as_u64().unwrap());
        if seen.insert(name) {
            values.push(reading["value"].as_f64().unwrap() as u64);
        }
    }
    values
}

#[test]
fn nothing_is_lost_while_the_broker_is_away_and_order_is_kept() {
    let (mut broker, mut port) = (Broker::start(), Port::new());
    let subscriber = broker.subscribe("tidemill/greenhouse/weather/+");
    let home = Home::new(&(broker.config("") + &port.config()));
    let gateway = home.start();
    gateway.forwarder_is("cloud", "online");
    port.opened();

    // Stopped while readings flow, not between them.
    port.count_at(2_000, 0..1_000);
    let feeder = std::thread::spawn(move || {
        port.count_at(2_000, 1_000..3_000);
        port
    });
    broker.stop();
    let mut port = feeder.join().unwrap();
    gateway.forwarder_is("cloud", "offline");
    port.count(3_000..4_000);
    let pending = eventually("the backlog is told", || {
        let pending = gateway.forwarder("cloud")["pending"].as_u64()?;
        (pending >= 1_000).then_some(pending)
    });
    // With a few of the gateway's own.
    assert!(pending <= 4_200, "{pending}");
    let said = gateway.forwarder("cloud");
    assert!(said["error"].is_string(), "why it is offline: {said}");

    broker.start_again();
    let values = values_until(&subscriber, 3_999);
    assert_eq!(values, (0..4_000).collect::<Vec<_>>(), "nothing lost, order kept");
    eventually("the backlog is drained", || {
        let ledger = gateway.forwarder("cloud");
        assert_eq!(ledger["dropped"], 0, "{ledger}");
        (ledger["pending"] == 0 && ledger["stored"] == ledger["acknowledged"]).then_some(())
    });
    gateway.forwarder_is("cloud", "online");
}

#[test]
fn a_gateway_that_starts_without_its_broker_forwards_when_it_comes() {
    let (mut broker, mut port) = (Broker::start(), Port::new());
    let subscriber = broker.subscribe("tidemill/greenhouse/weather/+");
    broker.stop();
    let home = Home::new(&(broker.config("") + &port.config()));
    let gateway = home.start();
    port.opened();
    port.count(0..500);
    gateway.forwarder_is("cloud", "offline");
    broker.start_again();
    assert_eq!(values_until(&subscriber, 499), (0..500).collect::<Vec<_>>());
}

#[test]
fn a_broker_away_is_no_hindrance_to_another() {
    let (mut away, near) = (Broker::start(), Broker::start());
    let mut port = Port::new();
    let subscriber = near.subscribe("tidemill/greenhouse/weather/+");
    let second = format!("[forward.near]\nurl = {:?}\n\n", near.url());
    let home = Home::new(&(away.config("") + &second + &port.config()));
    away.stop();
    let gateway = home.start();
    port.opened();
    port.count(0..1_000);
    assert_eq!(values_until(&subscriber, 999), (0..1_000).collect::<Vec<_>>());
    gateway.forwarder_is("cloud", "offline");
    assert!(gateway.forwarder("cloud")["pending"].as_u64().unwrap() >= 1_000);
}

#[test]
fn readings_sent_late_say_so() {
    let (mut broker, mut port) = (Broker::start(), Port::new());
    let subscriber = broker.subscribe("tidemill/greenhouse/weather/+");
    broker.stop();
    let home = Home::new(&(broker.config("") + &port.config()));
    let gateway = home.start();
    port.opened();
    port.count(0..10);
    // Ten seconds is the limit (docs/protocol.md) between a fresh reading and history.
    std::thread::sleep(Duration::from_secs(11));
    broker.start_again();
    for _ in 0..10 {
        let reading = subscriber.next_on(TOPIC).json();
        assert_eq!(reading["historical"], true, "{reading}");
    }
    port.count(10..11);
    let fresh = subscriber.next_on(TOPIC).json();
    assert!(fresh["historical"].is_null(), "{fresh}");
    gateway.stop();
}

#[test]
fn an_unplugged_sensor_is_one_bad_reading_and_comes_back_by_itself() {
    let mut port = Port::new();
    let home = Home::new(&port.config());
    let gateway = home.start();
    port.opened();
    let mut feed = gateway.feed();
    port.line("{\"n\":1}");
    feed.reading("weather/n", |reading| reading["value"].as_f64() == Some(1.0));

    port.unplug();
    let bad = feed.reading("weather/n", |_| true);
    assert_eq!((&bad["quality"], &bad["value"]), (&"bad".into(), &Value::Null), "{bad}");
    assert!(!bad["reason"].as_str().unwrap_or_default().is_empty(), "{bad}");
    gateway.device_is("weather", "lost");
    // Long enough for several tries to open it again.
    std::thread::sleep(Duration::from_secs(2));

    port.plug();
    port.opened();
    port.line("{\"n\":2}");
    let next = feed.reading("weather/n", |_| true);
    assert_eq!(next["value"].as_f64(), Some(2.0), "one bad reading, not one each try: {next}");
    gateway.device_is("weather", "ok");
    let said = gateway.log().lines().filter(|line| line.contains("weather")).count();
    assert!((1..=6).contains(&said), "said when lost and when back:\n{}", gateway.log());
}
