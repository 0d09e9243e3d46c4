//! One device never disturbs another.

use crate::support::{Home, Port};

/// A device that works beside one that doesn't.
fn beside(misfortune: &str) -> Home {
    Home::new(&format!(
        "[device.good]\ndriver = \"sim\"\npoll = \"50ms\"\n\
         [device.good.channel]\nx = {{ wave = \"counter\" }}\n\
         [device.wrong]\ndriver = \"sim\"\npoll = \"50ms\"\ntimeout = \"1s\"\n\
         fault = {misfortune:?}\nfault_every = \"1s\"\n\
         [device.wrong.channel]\ny = {{ wave = \"counter\" }}\n"
    ))
}

#[track_caller]
fn the_good_one_goes_on_beside(misfortune: &str) {
    let home = beside(misfortune);
    let gateway = home.start();
    let mut feed = gateway.feed();
    let bad = feed.reading("wrong/y", |reading| reading["quality"] == "bad");
    assert!(bad["value"].is_null(), "a bad reading has no value: {bad}");
    assert!(bad["reason"].is_string(), "{bad}");
    // 50 ms apart as before: none is late by seconds because of the other.
    let mut last: Option<reading::Timestamp> = None;
    for _ in 0..40 {
        let reading = feed.reading("good/x", |_| true);
        let at: reading::Timestamp = reading["time"].as_str().unwrap().parse().unwrap();
        if let Some(last) = last {
            assert!(at.since(last).as_millis() < 1_000, "{last} to {at}");
        }
        last = Some(at);
    }
    gateway.device_is("good", "ok");
    // It comes back by itself.
    feed.reading("wrong/y", |reading| reading["quality"] == "good");
}

#[test]
fn a_device_that_hangs_delays_no_other() {
    the_good_one_goes_on_beside("hang");
}

#[test]
fn a_driver_that_panics_ends_no_other() {
    the_good_one_goes_on_beside("panic");
}

#[test]
fn a_device_that_is_lost_ends_no_other() {
    the_good_one_goes_on_beside("lost");
}

#[test]
fn a_port_that_is_not_there_is_a_bad_reading_until_it_is() {
    let mut port = Port::new();
    let config = port.config();
    port.unplug();
    let home = Home::new(&config);
    let gateway = home.start();
    let mut feed = gateway.feed();
    gateway.device_is("weather", "lost");
    assert!(gateway.device("weather")["error"].is_string());
    port.plug();
    port.opened();
    port.line("{\"n\":7}");
    feed.reading("weather/n", |reading| reading["value"].as_f64() == Some(7.0));
    gateway.device_is("weather", "ok");
}
