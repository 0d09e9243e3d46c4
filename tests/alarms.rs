//! Alarms: told to the broker and the feed, and followed by an output.

use std::cell::RefCell;

use crate::support::{Broker, Home, Port};

#[test]
fn an_alarm_is_told_and_an_output_follows() {
    let (broker, mut port) = (Broker::start(), Port::new());
    let dir = tempfile::tempdir().unwrap();
    let pipe = dir.path().join("lines");
    let config = broker.config("")
        + &port.config().replace(
            "n = { field",
            "n = { alarm = [{ above = 30, for = \"300ms\", clear = 28, message = \"too hot\", \
             output = \"panel/fan\" }], field",
        )
        + &format!(
            "[device.panel]\ndriver = \"gpio\"\nchip = \"sim\"\ncommands = {pipe:?}\n\
             [device.panel.channel]\nfan = {{ line = 4, direction = \"output\" }}\n"
        );
    assert!(config.contains("too hot"), "{config}");
    let told = broker.subscribe("tidemill/greenhouse/weather/n/alarm");
    let home = Home::new(&config);
    let gateway = home.start();
    gateway.device_is("panel", "ok");
    port.opened();
    let mut feed = gateway.feed();
    port.line("{\"n\":20}");
    assert_eq!(told.next().json()["value"], "");
    for _ in 0..2 {
        port.line("{\"n\":31}");
        // Nothing has to come for the time to pass.
        assert_eq!(told.next().json()["value"], "too hot");
        feed.reading("weather/n/alarm", |reading| reading["value"] == "too hot");
        feed.reading("panel/fan", |reading| reading["value"] == true);
        port.line("{\"n\":27}");
        assert_eq!(told.next().json()["value"], "");
        feed.reading("panel/fan", |reading| reading["value"] == false);
    }
    // It is a channel like any other.
    let history = gateway.get("/api/v1/readings?channel=weather/n/alarm").json();
    assert_eq!(history["readings"].as_array().unwrap().len(), 5, "{history}");
    let export =
        home.command(&["export", "--from", "1h", "--to", "0s", "--channel", "weather/n/alarm"]);
    let csv = String::from_utf8(export.stdout).unwrap();
    assert!(csv.contains("weather/n/alarm,too hot"), "{csv}");
}

#[test]
fn a_value_that_cannot_be_the_same_for_so_long_is_stuck() {
    let mut port = Port::new();
    let config = port.config().replace("n = { field", "n = { stuck = \"400ms\", field");
    let home = Home::new(&config);
    let gateway = home.start();
    port.opened();
    let mut feed = gateway.feed();
    let bad = RefCell::new(Vec::new());
    for _ in 0..12 {
        port.line("{\"n\":7}");
        std::thread::sleep(std::time::Duration::from_millis(60));
    }
    port.line("{\"n\":8}");
    feed.reading("weather/n", |reading| {
        if reading["quality"] == "bad" {
            bad.borrow_mut().push(reading["reason"].clone());
        }
        reading["value"] == 8.0
    });
    assert_eq!(bad.into_inner(), ["stuck"], "it is said once");
}
