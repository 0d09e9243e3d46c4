//! Serial line → the feed of browsers and scripts.

use crate::support::{Feed, Home, Port};

#[test]
fn a_client_is_greeted_and_then_hears_every_line() {
    let mut port = Port::new();
    let home = Home::new(&port.config());
    let gateway = home.start();
    let mut feed = gateway.feed();
    let hello = feed.next();
    assert_eq!(hello["type"], "hello", "{hello}");
    assert_eq!(hello["gateway"], "greenhouse");
    assert_eq!(hello["epoch"], gateway.status()["epoch"]);
    let channels = hello["channels"].as_array().unwrap();
    let n = channels.iter().find(|channel| channel["channel"] == "weather/n").expect("weather/n");
    assert_eq!((&n["unit"], &n["device"]), (&"Cel".into(), &"weather".into()));

    port.opened();
    port.count(0..200);
    let mut seqs = Vec::new();
    for expected in 0..200 {
        let reading = feed.reading("weather/n", |r| r["value"].as_f64() == Some(expected as f64));
        assert_eq!(reading["quality"], "good");
        assert!(reading["time"].as_str().unwrap().ends_with('Z'));
        seqs.push(reading["seq"].as_u64().unwrap());
    }
    assert!(seqs.is_sorted());
}

#[test]
fn a_client_hears_only_what_it_subscribes_to() {
    let home = Home::new(
        "[device.a]\ndriver = \"sim\"\npoll = \"20ms\"\n[device.a.channel]\nx = { wave = \"ramp\" }\n\
         [device.b]\ndriver = \"sim\"\npoll = \"20ms\"\n[device.b.channel]\ny = { wave = \"ramp\" }\n",
    );
    let gateway = home.start();
    let mut feed = gateway.feed();
    feed.send(r#"{"type":"subscribe","channels":["b/*"]}"#);
    feed.reading("b/y", |_| true);
    // What was on its way when the subscription came may still be heard.
    for _ in 0..5 {
        feed.next_of("readings");
    }
    for _ in 0..20 {
        let frame = feed.next_of("readings");
        for reading in frame["readings"].as_array().unwrap() {
            assert_eq!(reading["channel"], "b/y");
        }
    }
}

#[test]
fn nonsense_is_answered_and_the_feed_goes_on() {
    let home = Home::new(&sim());
    let gateway = home.start();
    let mut feed = gateway.feed();
    for nonsense in ["", "{", "[]", "{\"type\":\"dance\"}", "{\"type\":\"subscribe\"}", "\u{0}"] {
        feed.send(nonsense);
        let error = feed.next_of("error");
        assert!(error["error"].is_string(), "{nonsense:?}: {error}");
    }
    feed.reading("tide/level", |_| true);
}

#[test]
fn the_subprotocol_is_taken_when_it_is_offered() {
    let home = Home::new(&sim());
    let gateway = home.start();
    let offer = [("Sec-WebSocket-Protocol", "other, tidemill.v1")];
    let feed = Feed::try_open(gateway.address(), &offer).expect("upgraded");
    assert_eq!(feed.response.headers()["Sec-WebSocket-Protocol"], "tidemill.v1");
    assert!(!gateway.feed().response.headers().contains_key("Sec-WebSocket-Protocol"));
}

#[test]
fn an_orderly_stop_ends_the_feed() {
    let home = Home::new(&sim());
    let gateway = home.start();
    let mut feed = gateway.feed();
    feed.reading("tide/level", |_| true);
    let listener = std::thread::spawn(move || feed.until_closed().len());
    gateway.stop();
    listener.join().expect("the feed is closed");
}

fn sim() -> String {
    "[device.tide]\ndriver = \"sim\"\npoll = \"50ms\"\n\
     [device.tide.channel]\nlevel = { wave = \"ramp\" }\n"
        .to_owned()
}
