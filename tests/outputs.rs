//! Writing outputs, from outside to the device and back.

use std::io::{Read as _, Write as _};

use bytes::BytesMut;
use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v4::{Connect, Publish};

use crate::support::{Broker, Feed, Home, PATIENCE, eventually};

/// A pump and a shutter that are not there.
const PANEL: &str = "[device.panel]\ndriver = \"gpio\"\nchip = \"sim\"\n\
    [device.panel.channel]\n\
    pump = { line = 22, direction = \"output\", failsafe = { after = \"3s\", value = false } }\n\
    up   = { line = 23, direction = \"output\", interlock = \"shutter\", pulse = \"1s\" }\n\
    down = { line = 24, direction = \"output\", interlock = \"shutter\" }\n\
    door = { line = 17 }\n";

#[track_caller]
fn is(feed: &mut Feed, channel: &str, on: bool) {
    feed.reading(channel, |reading| reading["value"] == on && reading["quality"] == "good");
}

fn set(home: &Home, channel: &str, value: &str) -> Result<(), String> {
    let output = home.command(&["set", channel, value]);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    output.status.success().then_some(()).ok_or(error)
}

#[test]
fn an_output_is_set_read_back_and_goes_to_its_safe_value() {
    let home = Home::new(PANEL);
    let gateway = home.start();
    gateway.device_is("panel", "ok");
    let mut feed = gateway.feed();
    set(&home, "panel/pump", "true").unwrap();
    is(&mut feed, "panel/pump", true);
    // Nobody speaks to it any more.
    is(&mut feed, "panel/pump", false);
    assert!(gateway.log().contains("failsafe"), "{}", gateway.log());

    let refused = set(&home, "panel/door", "true").unwrap_err();
    assert!(refused.contains("measured, not switched"), "{refused}");
    let refused = set(&home, "panel/pump", "7").unwrap_err();
    assert!(refused.contains("neither true nor false"), "{refused}");
}

#[test]
fn two_of_an_interlock_are_never_on_together_and_a_pulse_ends() {
    let home = Home::new(PANEL);
    let gateway = home.start();
    gateway.device_is("panel", "ok");
    let mut feed = gateway.feed();
    set(&home, "panel/up", "on").unwrap();
    let refused = set(&home, "panel/down", "on").unwrap_err();
    assert!(refused.contains("panel/down can't be on while panel/up is"), "{refused}");
    is(&mut feed, "panel/up", true);
    is(&mut feed, "panel/up", false);
    set(&home, "panel/down", "on").unwrap();
    is(&mut feed, "panel/down", true);

    // At the stop the outputs are left off, which is the last thing stored.
    gateway.stop();
    let last = home.sqlite(
        "SELECT channel || value FROM readings WHERE channel LIKE '%panel/down%' OR
         (device = 'panel' AND channel = 'down') ORDER BY seq DESC LIMIT 1",
    );
    assert!(last[0].ends_with("false") || last[0].ends_with('0'), "{last:?}");
}

#[test]
fn a_command_from_the_broker_is_carried_out_and_answered() {
    let broker = Broker::start();
    let home = Home::new(&format!("{}{PANEL}", broker.config("")));
    let gateway = home.start();
    gateway.device_is("panel", "ok");
    gateway.forwarder_is("cloud", "online");
    let pump = "tidemill/greenhouse/panel/pump";
    let results = broker.subscribe(&format!("{pump}/result"));
    let mut feed = gateway.feed();
    publish(&broker, &format!("{pump}/set"), r#"{"value":true,"id":"7"}"#);
    is(&mut feed, "panel/pump", true);
    let result = results.next().json();
    assert_eq!((&result["id"], &result["ok"]), (&"7".into(), &true.into()), "{result}");
}

/// One message, as any client would send it.
#[track_caller]
fn publish(broker: &Broker, topic: &str, payload: &str) {
    let address = broker.plain_url().trim_start_matches("mqtt://").to_owned();
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    let mut out = BytesMut::new();
    Connect::new("somebody").write(&mut out).unwrap();
    let mut publish = Publish::new(topic, QoS::AtLeastOnce, payload);
    publish.pkid = 1;
    publish.write(&mut out).unwrap();
    stream.write_all(&out).unwrap();
    // CONNACK has 4 bytes, PUBACK as well.
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.read_exact(&mut [0; 8]).unwrap();
}

/// A meter that makes three pulses, a kill, two more, and a setting.
#[test]
fn a_counter_outlives_a_kill_and_a_loss_and_is_set_by_command() {
    let dir = tempfile::tempdir().unwrap();
    let pipe = dir.path().join("pulses");
    let home = Home::new(&format!(
        "[device.meter]\ndriver = \"gpio\"\nchip = \"sim\"\ncommands = {pipe:?}\n\
         [device.meter.channel]\n\
         water = {{ line = 5, direction = \"counter\", every = \"1s\", scale = 0.001, unit = \"m3\" }}\n"
    ));
    let pulses = |count: usize| {
        let mut pipe = std::fs::File::options().write(true).open(&pipe).unwrap();
        pipe.write_all("5=1\n5=0\n".repeat(count).as_bytes()).unwrap();
    };
    let total = |feed: &mut Feed, total: f64| {
        feed.reading("meter/water", |r| {
            r["value"].as_f64().is_some_and(|value| (value - total).abs() < 1e-9)
        });
    };
    let gateway = home.start();
    gateway.device_is("meter", "ok");
    let mut feed = gateway.feed();
    pulses(3);
    total(&mut feed, 0.003);
    // What has been read for 100 ms is in the file.
    std::thread::sleep(std::time::Duration::from_millis(300));
    gateway.kill();

    let gateway = home.start();
    gateway.device_is("meter", "ok");
    let mut feed = gateway.feed();
    pulses(2);
    total(&mut feed, 0.005);
    set(&home, "meter/water", "12.5").unwrap();
    total(&mut feed, 12.5);
    let log = gateway.log();
    let audit = log.lines().find(|line| line.contains("set by command")).unwrap_or_default();
    assert!(audit.contains("0.005") && audit.contains("12.5"), "{log}");
    pulses(1);
    // Long enough to be counted, not to be said.
    std::thread::sleep(std::time::Duration::from_millis(300));
    gateway.stop();

    // The pulse just before the stop is in the file as well; nothing was lost.
    let gateway = home.start();
    gateway.device_is("meter", "ok");
    eventually("the total is where it was", || {
        let channels = gateway.get("/api/v1/channels").json();
        let channels = channels["channels"].as_array().unwrap().clone();
        let water = channels.into_iter().find(|channel| channel["channel"] == "meter/water")?;
        let value = water["last"]["value"].as_f64()?;
        ((value - 12.501).abs() < 1e-9).then_some(())
    });
}
