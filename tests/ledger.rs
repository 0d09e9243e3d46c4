//! The ledger balances whenever it is asked, whatever happens to the readings.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::Value;

use crate::support::{Broker, Gateway, Home, Port, eventually};

/// One look at the status and one at the metrics; each must balance by itself.
#[track_caller]
fn balances(gateway: &Gateway) -> Value {
    let status = gateway.status();
    let of = |entry: &Value, name: &str| entry[name].as_u64().unwrap();
    let ledger = &status["ledger"];
    assert_eq!(of(ledger, "read"), of(ledger, "stored") + of(ledger, "dropped"), "{ledger}");
    for f in status["forwarders"].as_array().unwrap() {
        let known = of(f, "acknowledged") + of(f, "pending") + of(f, "dropped");
        assert_eq!(of(f, "stored"), known, "{f}");
    }
    let page = String::from_utf8(gateway.get("/metrics").body).unwrap();
    let figure = |name: &str| -> u64 {
        let line = page.lines().find(|line| line.starts_with(name)).unwrap();
        line.rsplit(' ').next().unwrap().parse().unwrap()
    };
    let total = |name: &str| figure(&format!("tidemill_readings_{name}_total "));
    assert_eq!(total("read"), total("stored") + total("dropped"), "{page}");
    status
}

#[test]
fn it_balances_under_load_without_a_broker_across_kills_in_a_tiny_store() {
    let (mut broker, mut port) = (Broker::start(), Port::new());
    let gaps = broker.subscribe("tidemill/greenhouse/gaps");
    let home = Home::with("max_size = \"1MiB\"", &(broker.config("") + &port.config()));
    broker.stop();
    let mut value = 0;
    for _ in 0..2 {
        let gateway = home.start();
        port.plug_again();
        port.opened();
        for _ in 0..12 {
            port.count(value..value + 1_500);
            value += 1_500;
            balances(&gateway);
        }
        gateway.kill();
    }
    let gateway = home.start();
    port.plug_again();
    port.opened();
    eventually("what doesn't fit goes", || {
        port.count(value..value + 1_500);
        value += 1_500;
        (balances(&gateway)["forwarders"][0]["dropped"].as_u64()? > 10_000).then_some(())
    });
    broker.start_again();
    let dropped = eventually("everything that is left is forwarded", || {
        let status = balances(&gateway);
        let cloud = &status["forwarders"][0];
        (cloud["pending"].as_u64()? < 50 && cloud["state"] == "online")
            .then(|| cloud["dropped"].as_u64())?
    });
    assert!(dropped > 10_000, "{dropped}: the store was too small for all of it");
    let losses = balances(&gateway)["store"]["losses"].clone();
    assert_eq!(losses[0]["reason"], "store full");
    assert_eq!(losses[0]["count"], dropped, "counted by its cause");
    // And the broker is told of each, once: what came twice bears its name.
    let told: HashMap<String, u64> = gaps
        .rest(Duration::from_secs(3))
        .iter()
        .map(|message| message.json())
        .map(|gap| (format!("{} {}", gap["epoch"], gap["seq"]), gap["count"].as_u64().unwrap()))
        .collect();
    assert_eq!(told.values().sum::<u64>(), dropped, "{told:?}");
    gateway.stop();
}
