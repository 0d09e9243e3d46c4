//! Killed at any instant; stopped in good order.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use reading::Timestamp;
use serde_json::Value;

use crate::support::{Broker, Home, Port};

/// What a killed gateway may lose: see docs/guarantees.md.
const LOST_MAX: Duration = Duration::from_millis(100);

#[test]
fn a_killed_gateway_loses_nothing_older_than_100_ms() {
    let mut port = Port::new();
    let home = Home::new(&port.config());
    let mut values = 0..u64::MAX;
    for round in 0..5 {
        let gateway = home.start();
        port.plug_again();
        port.opened();
        let mut feed = gateway.feed();
        let epoch = feed.next_of("hello")["epoch"].as_str().unwrap().to_owned();
        // What the feed has seen is what the gateway had read.
        let listener = std::thread::spawn(move || feed.until_closed());
        let first = values.start;
        // Not in step with the commits, whatever their pace is.
        let lines = 700 + round * 137;
        port.count_at(1_000, first..first + lines);
        let killed = Timestamp::now();
        gateway.kill();
        values.start += lines;

        let rows = home.sqlite(&format!(
            "select cast(value as integer) from readings where channel = 'n' \
             and value >= {first} order by seq"
        ));
        let stored: HashSet<u64> = rows.iter().map(|row| row.parse().unwrap()).collect();
        assert_eq!(stored.len(), rows.len(), "none twice");
        let mut seen = 0;
        for reading in readings(&listener.join().unwrap()) {
            let at: Timestamp = reading["time"].as_str().unwrap().parse().unwrap();
            let Some(value) = reading["value"].as_f64() else { continue };
            if reading["channel"] == "weather/n" && killed.since(at) > LOST_MAX {
                let age = killed.since(at);
                assert!(stored.contains(&(value as u64)), "{value} of {age:?} before is lost");
                seen += 1;
            }
        }
        assert!(seen > lines / 2, "only {seen} of {lines} were seen by the feed in {epoch}");
    }
}

#[test]
fn across_kills_every_name_is_unique_and_everything_stored_is_forwarded() {
    let (broker, mut port) = (Broker::start(), Port::new());
    let subscriber = broker.subscribe("tidemill/greenhouse/weather/+");
    let home = Home::new(&(broker.config("") + &port.config()));
    let mut epochs = HashSet::new();
    for round in 0..3 {
        let gateway = home.start();
        port.plug_again();
        port.opened();
        epochs.insert(gateway.status()["epoch"].to_string());
        port.count_at(1_000, round * 1_000..round * 1_000 + 800);
        gateway.kill();
    }
    assert_eq!(epochs.len(), 3, "a new epoch at each start: {epochs:?}");

    let gateway = home.start();
    let stored: u64 = home
        .sqlite("select count(*) from readings where channel = 'n' and quality = 'good'")
        .concat()
        .parse()
        .unwrap();
    assert!(stored >= 2_000, "{stored}");
    let mut names: HashMap<(String, u64), f64> = HashMap::new();
    while (names.len() as u64) < stored {
        let reading = subscriber.next_on("tidemill/greenhouse/weather/n").json();
        let Some(value) = reading["value"].as_f64() else { continue };
        let name =
            (reading["epoch"].as_str().unwrap().to_owned(), reading["seq"].as_u64().unwrap());
        // Twice is allowed, the same thing under two names or two under one not.
        let before = names.insert(name.clone(), value);
        assert!(before.is_none_or(|before| before == value), "{name:?}: {before:?} and {value}");
    }
    let values: HashSet<u64> = names.values().map(|value| *value as u64).collect();
    assert_eq!(values.len(), names.len(), "each reading has one name");
    gateway.stop();
}

#[test]
fn an_orderly_stop_sends_nothing_twice_and_loses_nothing() {
    let (broker, mut port) = (Broker::start(), Port::new());
    let subscriber = broker.subscribe("tidemill/greenhouse/weather/+");
    let home = Home::new(&(broker.config("") + &port.config()));
    for round in 0..2 {
        let gateway = home.start();
        port.plug_again();
        port.opened();
        gateway.forwarder_is("cloud", "online");
        port.count_at(2_000, round * 1_000..(round + 1) * 1_000);
        // Lines that are still in the pseudo-terminal were never read.
        std::thread::sleep(Duration::from_millis(500));
        gateway.stop();
    }
    let gateway = home.start();
    gateway.forwarder_is("cloud", "online");
    let messages = subscriber.rest(Duration::from_secs(2));
    let values: Vec<u64> = messages
        .iter()
        .map(|message| message.json())
        .filter_map(|reading| reading["value"].as_f64())
        .map(|value| value as u64)
        .collect();
    assert_eq!(values, (0..2_000).collect::<Vec<_>>(), "once, in order, across the restart");
    gateway.stop();
}

#[test]
fn a_stop_is_soon_even_when_the_broker_is_away_and_the_sensor_busy() {
    let (mut broker, mut port) = (Broker::start(), Port::new());
    let home = Home::new(&(broker.config("") + &port.config()));
    broker.stop();
    let gateway = home.start();
    port.opened();
    port.count(0..5_000);
    let began = std::time::Instant::now();
    gateway.stop();
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    let rows = home.sqlite("select count(*) from readings where channel = 'n'").concat();
    assert!(rows.parse::<u64>().unwrap() >= 4_000, "what was read is stored: {rows}");
}

fn readings(frames: &[Value]) -> impl Iterator<Item = &Value> {
    frames.iter().filter_map(|frame| frame["readings"].as_array()).flatten()
}
