//! The configuration changes while the gateway runs.

use std::io::Write;
use std::time::{Duration, Instant};

use crate::support::{Broker, Gateway, Home, Port, eventually, http};

/// One more device, with a channel `x`.
fn more(wave: &str) -> String {
    format!(
        "[device.more]\ndriver = \"sim\"\npoll = \"50ms\"\n\
         [device.more.channel]\nx = {{ wave = \"{wave}\" }}\n"
    )
}

/// As `systemctl reload` does.
fn reload(home: &Home, gateway: &Gateway, config: &str) {
    let text = std::fs::read_to_string(home.config()).unwrap();
    let head = text.split("[forward.").next().unwrap();
    std::fs::write(home.config(), head.to_owned() + config).unwrap();
    gateway.hang_up();
}

#[track_caller]
fn says(gateway: &Gateway, words: &str) {
    eventually(words, || gateway.log().contains(words).then_some(()));
}

#[test]
fn only_what_changed_restarts_and_the_rest_loses_nothing() {
    let (broker, mut port) = (Broker::start(), Port::new());
    let values = broker.subscribe("tidemill/greenhouse/weather/n");
    let all = broker.config("") + &port.config();
    let home = Home::new(&all);
    let gateway = home.start();
    gateway.forwarder_is("cloud", "online");
    port.opened();
    let before = gateway.status();
    let mut feed = gateway.feed();
    let connected = gateway.forwarder("cloud")["since"].clone();

    let feeder = std::thread::spawn(move || {
        port.count_at(1_000, 0..3_000);
        port
    });
    for config in [all.clone() + &more("sine"), all.clone() + &more("ramp"), all.clone()] {
        std::thread::sleep(Duration::from_millis(500));
        reload(&home, &gateway, &config);
    }
    says(&gateway, "configuration taken up: device more added");
    says(&gateway, "configuration taken up: device more restarted");
    says(&gateway, "configuration taken up: device more removed");
    let port = feeder.join().unwrap();

    // The same start, the same connection, and each value once and in order.
    let after = gateway.status();
    assert_eq!((&after["epoch"], &after["started"]), (&before["epoch"], &before["started"]));
    assert_eq!(gateway.forwarder("cloud")["since"], connected);
    let got: Vec<u64> =
        (0..3_000).map(|_| values.next().json()["value"].as_f64().unwrap() as u64).collect();
    assert_eq!(got, (0..3_000).collect::<Vec<_>>());
    // The page is told of the channel that came, and that it went.
    let channels = |hello: &serde_json::Value| {
        hello["channels"].as_array().unwrap().iter().any(|channel| channel["channel"] == "more/x")
    };
    for known in [false, true, true, false] {
        assert_eq!(channels(&feed.next_of("hello")), known);
    }
    let devices = gateway.status()["devices"].as_array().unwrap().len();
    assert_eq!(devices, before["devices"].as_array().unwrap().len());
    // What it measured is still there to be asked for.
    assert_eq!(gateway.get("/api/v1/readings?channel=more/x").status, 200);
    drop(port);
}

#[test]
fn a_forwarder_that_comes_begins_and_one_that_changes_goes_on_where_it_was() {
    let (broker, other) = (Broker::start(), Broker::start());
    let device = more("counter");
    let home = Home::new(&(broker.config("") + &device));
    let gateway = home.start();
    gateway.forwarder_is("cloud", "online");
    let late = other.subscribe("tidemill/greenhouse/more/x");
    let second = other.config("").replace("forward.cloud", "forward.farm");
    reload(&home, &gateway, &(broker.config("") + &second + &device));
    says(&gateway, "forwarder farm added");
    gateway.forwarder_is("farm", "online");
    let first = late.next().json();
    assert_eq!(first["epoch"], gateway.status()["epoch"]);

    // Cloud moves to the other broker: from where it was, without a hole.
    let moved = other.subscribe("moved/more/x");
    let config = other.config("topic_prefix = \"moved\"");
    reload(&home, &gateway, &(config + &device));
    says(&gateway, "forwarder cloud restarted, forwarder farm removed");
    let seqs: Vec<u64> =
        (0..20).map(|_| moved.next().json()["value"].as_f64().unwrap() as u64).collect();
    assert!(seqs.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{seqs:?}");
    let status = gateway.status();
    assert_eq!(status["forwarders"].as_array().unwrap().len(), 1, "{status}");
    let cloud = &status["forwarders"][0];
    let count = |key: &str| cloud[key].as_u64().unwrap();
    assert_eq!(count("stored"), count("acknowledged") + count("pending") + count("dropped"));
    assert_eq!(count("dropped"), 0);
}

#[test]
fn an_invalid_file_changes_nothing_and_says_why() {
    let broker = Broker::start();
    let all = broker.config("") + &more("sine");
    let home = Home::new(&all);
    let gateway = home.start();
    gateway.forwarder_is("cloud", "online");
    let before = gateway.status();
    reload(&home, &gateway, &(all.clone() + "[device.more2]\ndriver = \"simm\"\n"));
    says(&gateway, "the configuration is not valid, so nothing changes");
    says(&gateway, "did you mean \"sim\"?");
    let after = gateway.status();
    assert_eq!((&after["epoch"], &after["started"]), (&before["epoch"], &before["started"]));
    // And it can be mended.
    reload(&home, &gateway, &all);
    says(&gateway, "the configuration is as it was");
}

#[test]
fn what_a_device_has_counted_goes_on_when_it_restarts() {
    let (broker, dir) = (Broker::start(), tempfile::tempdir().unwrap());
    let pipe = dir.path().join("pulses");
    let panel = |debounce: &str| {
        format!(
            "[device.panel]\ndriver = \"gpio\"\nchip = \"sim\"\ncommands = {pipe:?}\n\
             [device.panel.channel]\n\
             pump = {{ line = 4, direction = \"output\" }}\n\
             water = {{ line = 5, direction = \"counter\", every = \"{debounce}\" }}\n"
        )
    };
    let home = Home::new(&(broker.config("") + &panel("20s")));
    let gateway = home.start();
    gateway.device_is("panel", "ok");
    let mut feed = gateway.feed();
    let mut pulses = std::fs::File::options().write(true).open(&pipe).unwrap();
    pulses.write_all("5=1\n5=0\n".repeat(7).as_bytes()).unwrap();
    // Long enough to be counted, not to be said.
    std::thread::sleep(Duration::from_millis(300));
    reload(&home, &gateway, &(broker.config("") + &panel("1s")));
    says(&gateway, "device panel restarted");
    feed.reading("panel/water", |reading| reading["value"] == 7.0);
    gateway.device_is("panel", "ok");
    let mut pulses = std::fs::File::options().write(true).open(&pipe).unwrap();
    pulses.write_all(b"5=1\n5=0\n").unwrap();
    feed.reading("panel/water", |reading| reading["value"] == 8.0);
    // The way of commands leads to the device as it is now.
    let set = home.command(&["set", "panel/pump", "true"]);
    assert!(set.status.success(), "{}", String::from_utf8_lossy(&set.stderr));
}

#[test]
fn another_store_takes_a_new_start() {
    let broker = Broker::start();
    let all = broker.config("") + &more("sine");
    let home = Home::new(&all);
    let gateway = home.start();
    let before = gateway.status();
    let text = std::fs::read_to_string(home.config()).unwrap();
    std::fs::write(home.config(), text.replace("[store]\n", "[store]\nkeep = \"20d\"\n")).unwrap();
    gateway.hang_up();
    says(&gateway, "the gateway starts anew");
    let began = Instant::now();
    let epoch = eventually("it runs again", || {
        // For a moment it doesn't answer.
        let answer = http::get(gateway.address(), "/api/v1/status").ok()?;
        let epoch = answer.json()["epoch"].clone();
        (epoch != before["epoch"]).then_some(epoch)
    });
    assert!(began.elapsed() < Duration::from_secs(5), "{epoch}");
    gateway.forwarder_is("cloud", "online");
}
