//! A board whose clock isn't set yet, and clocks that jump, around the real
//! binary.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use reading::Timestamp;
use serde_json::Value;
use tempfile::TempDir;

use crate::support::{Broker, Browser, Gateway, Home, Port, Subscriber, binary, eventually};

const TOPIC: &str = "tidemill/greenhouse/weather/n";
const HOUR: i64 = 3_600;
const YEARS: i64 = 56 * 365 * 24 * HOUR;

/// What the gateway takes for the state of the system clock.
struct Clock {
    dir: TempDir,
}

impl Clock {
    /// Not set, and wrong by so many seconds.
    fn unset(wrong: i64) -> Clock {
        let clock = Clock { dir: tempfile::tempdir().unwrap() };
        clock.shows("unset", wrong);
        clock
    }

    fn shows(&self, word: &str, wrong: i64) {
        // At once, so that the gateway never reads half of it.
        let new = self.dir.path().join("new");
        std::fs::write(&new, format!("{word} {wrong}\n")).unwrap();
        std::fs::rename(new, self.path()).unwrap();
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("clock")
    }

    /// A gateway with this clock, which readings wait for so many seconds.
    fn start(&self, home: &Home, wait: u32) -> Gateway {
        let mut command = Command::new(binary());
        command.arg("run").arg("--config").arg(home.config());
        command.env("TIDEMILL_CLOCK", self.path()).env("TIDEMILL_CLOCK_WAIT", wait.to_string());
        home.start_as(command)
    }
}

/// Seconds from one time to another.
fn seconds(from: Timestamp, to: Timestamp) -> f64 {
    (to.as_micros() - from.as_micros()) as f64 / 1e6
}

fn time(reading: &Value) -> Timestamp {
    reading["time"].as_str().unwrap().parse().unwrap()
}

fn held(gateway: &Gateway) -> u64 {
    gateway.status()["clock"]["held"].as_u64().expect("how many wait")
}

#[track_caller]
fn balanced(gateway: &Gateway) {
    let status = gateway.status();
    let of = |ledger: &Value, key: &str| ledger[key].as_u64().unwrap();
    let ledger = &status["ledger"];
    assert_eq!(of(ledger, "read"), of(ledger, "stored") + of(ledger, "dropped"), "{ledger}");
    let cloud = gateway.forwarder("cloud");
    let settled = of(&cloud, "acknowledged") + of(&cloud, "pending") + of(&cloud, "dropped");
    assert_eq!(of(&cloud, "stored"), settled, "{cloud}");
}

/// What the broker has of `n` until this value, each with its time.
#[track_caller]
fn until(subscriber: &Subscriber, last: u64) -> Vec<Value> {
    let mut all: Vec<Value> = Vec::new();
    while all.last().is_none_or(|reading| reading["value"] != last as f64) {
        all.push(subscriber.next_on(TOPIC).json());
    }
    all
}

/// Once each, in order.
#[track_caller]
fn in_order(readings: &[Value], values: std::ops::Range<u64>) {
    let numbers: Vec<_> = readings.iter().map(|r| r["value"].as_f64().unwrap() as u64).collect();
    assert_eq!(numbers, values.collect::<Vec<_>>());
    let seqs: Vec<_> = readings.iter().map(|r| r["seq"].as_u64().unwrap()).collect();
    assert!(seqs.is_sorted_by(|a, b| a < b), "{seqs:?}");
}

#[test]
fn readings_wait_for_the_clock_across_a_kill_and_arrive_with_the_right_times() {
    for (wrong, order) in [(-YEARS, "oldest-first"), (HOUR, "live-first")] {
        let (broker, mut port) = (Broker::start(), Port::new());
        let subscriber = broker.subscribe("tidemill/greenhouse/weather/+");
        let home = Home::new(&(broker.config(&format!("order = {order:?}")) + &port.config()));
        let clock = Clock::unset(wrong);
        let gateway = clock.start(&home, 600);
        gateway.forwarder_is("cloud", "online");
        port.opened();
        let began = Timestamp::now();
        port.count_at(200, 0..100);
        let count = |expected: &str| {
            let sql = "select count(*) from readings where channel = 'n'";
            eventually("they are stored", || (home.sqlite(sql) == [expected]).then_some(()));
        };
        count("100");
        eventually("they wait", || (held(&gateway) >= 100).then_some(()));
        assert_eq!(gateway.status()["clock"]["set"], false);
        let shown = gateway.status()["time"].as_str().unwrap().parse().unwrap();
        assert!((seconds(Timestamp::now(), shown) - wrong as f64).abs() < 60.0, "{shown}");
        balanced(&gateway);
        // The view doesn't wait.
        let channels = gateway.get("/api/v1/channels").json();
        let n = channels["channels"].as_array().unwrap().iter();
        let n = n.clone().find(|channel| channel["channel"] == "weather/n").unwrap();
        assert_eq!(n["last"]["value"], 99.0);

        // Killed, and started again in the same start of the machine.
        gateway.kill();
        port.plug_again();
        let gateway = clock.start(&home, 600);
        gateway.forwarder_is("cloud", "online");
        assert!(held(&gateway) >= 100, "they go on waiting");
        port.opened();
        port.count_at(200, 100..200);
        count("200");
        eventually("more wait", || (held(&gateway) >= 200).then_some(()));
        balanced(&gateway);
        let early = subscriber.rest(Duration::from_millis(300));
        assert!(early.iter().all(|message| message.topic != TOPIC), "the broker has none");
        let ended = Timestamp::now();

        clock.shows("set", 0);
        eventually("the clock is set", || (gateway.status()["clock"]["set"] == true).then_some(()));
        eventually("none wait any more", || (held(&gateway) == 0).then_some(()));
        port.count_at(200, 200..250);
        let readings = until(&subscriber, 249);
        in_order(&readings, 0..250);
        for (n, reading) in readings.iter().enumerate() {
            assert_eq!(reading["quality"], "good", "{reading}");
            let (early, late) = if n < 200 { (began, ended) } else { (ended, Timestamp::now()) };
            // A second for what the machines does meanwhile.
            assert!(seconds(early, time(reading)) > -1.0, "{reading} came after {early}");
            assert!(seconds(time(reading), late) > -1.0, "{reading} came before {late}");
        }
        assert!(readings.is_sorted_by_key(time), "in order of time too");
        balanced(&gateway);
        // History has them where they belong, raw and reduced.
        let path = "/api/v1/readings?channel=weather/n&from=10min";
        let history = gateway.get(path).json();
        let times = |list: &Value| {
            list.as_array().unwrap().iter().map(|r| r["time"].clone()).collect::<Vec<_>>()
        };
        let told: Vec<_> = readings.iter().map(|reading| reading["time"].clone()).collect();
        assert_eq!(times(&history["readings"]), told);
        let reduced = gateway.get(&format!("{path}&points=3")).json();
        let counts = reduced["buckets"].as_array().unwrap().iter();
        assert_eq!(counts.map(|bucket| bucket["count"].as_u64().unwrap()).sum::<u64>(), 250);
        if wrong < 0 {
            // Since when it runs is told by the clock as it is now.
            let started = gateway.status()["started"].as_str().unwrap().parse().unwrap();
            assert!(seconds(started, Timestamp::now()).abs() < 60.0, "{started}");
        }
        gateway.stop();
    }
}

#[test]
fn a_clock_that_nobody_sets_keeps_readings_for_a_while_and_no_longer() {
    let (broker, mut port) = (Broker::start(), Port::new());
    let subscriber = broker.subscribe("tidemill/greenhouse/weather/+");
    let home = Home::new(&(broker.config("") + &port.config()));
    let clock = Clock::unset(-HOUR);
    let gateway = clock.start(&home, 3);
    port.opened();
    port.count(0..50);
    eventually("they wait", || (held(&gateway) >= 50).then_some(()));
    let readings = until(&subscriber, 49);
    // Later ones don't wait at all.
    port.count(50..60);
    let later = until(&subscriber, 59);
    let all: Vec<_> = readings.into_iter().chain(later).collect();
    in_order(&all, 0..60);
    for reading in &all {
        assert_eq!(
            (&reading["quality"], &reading["reason"]),
            (&"uncertain".into(), &"clock not set".into())
        );
        let off = seconds(time(reading), Timestamp::now()) - HOUR as f64;
        assert!((-1.0..60.0).contains(&off), "as the clock showed: {reading}");
    }
    let where_n = "from readings where channel = 'n' and quality = 'uncertain'";
    assert_eq!(home.sqlite(&format!("select count(*) {where_n}")), ["60"]);
    assert!(gateway.log().contains("still not set"), "{}", gateway.log());
    // Set after all: what has gone stays as it was, what comes is good.
    clock.shows("set", 0);
    eventually("the clock is set", || (gateway.status()["clock"]["set"] == true).then_some(()));
    std::thread::sleep(Duration::from_millis(600));
    port.count(60..61);
    let last = until(&subscriber, 60).remove(0);
    assert_eq!(last["quality"], "good", "{last}");
    assert!(seconds(time(&last), Timestamp::now()) < 30.0, "{last}");
    assert_eq!(home.sqlite(&format!("select count(*) {where_n}")), ["60"]);
    balanced(&gateway);
    gateway.stop();
}

#[test]
fn a_clock_that_jumps_loses_nothing_and_purges_nothing() {
    let (broker, mut port) = (Broker::start(), Port::new());
    let subscriber = broker.subscribe("tidemill/greenhouse/weather/+");
    // Readings of a day ago would go, if a clock were believed at once.
    let home = Home::with("keep = \"1d\"", &(broker.config("") + &port.config()));
    let clock = Clock::unset(0);
    clock.shows("set", 0);
    let gateway = clock.start(&home, 600);
    gateway.forwarder_is("cloud", "online");
    port.opened();
    // Ahead and back, each way, and a leap second: one that comes twice.
    let jumps = [0, YEARS, 0, -HOUR, 0, HOUR, 0, -1];
    for (n, wrong) in (0u64..).zip(jumps) {
        clock.shows("set", wrong);
        // The clock is looked at with each status.
        gateway.status();
        port.count(n * 20..n * 20 + 20);
        let where_n = "from readings where channel = 'n'";
        let count = ((n + 1) * 20).to_string();
        eventually("they are stored", || {
            (home.sqlite(&format!("select count(*) {where_n}")) == [count.as_str()]).then_some(())
        });
    }
    let readings = until(&subscriber, 159);
    in_order(&readings, 0..160);
    let history = |from: i64, to: i64| {
        let at = |seconds: i64| {
            Timestamp::from_micros(Timestamp::now().as_micros() + seconds * 1_000_000)
        };
        let (from, to) = (at(from), at(to));
        let path = format!("/api/v1/readings?channel=weather/n&from={from}&to={to}");
        gateway.get(&path).json()["readings"].as_array().unwrap().len()
    };
    assert_eq!(history(-2 * HOUR, 2 * HOUR), 140);
    assert_eq!(history(YEARS - HOUR, YEARS + HOUR), 20);
    balanced(&gateway);
    let status = gateway.status();
    assert_eq!((&status["clock"]["held"], &status["ledger"]["dropped"]), (&0.into(), &0.into()));
    gateway.stop();
    // After a new start the last reading is the last, whatever the clock has shown.
    port.plug_again();
    let gateway = clock.start(&home, 600);
    let channels = gateway.get("/api/v1/channels").json();
    let mut n = channels["channels"].as_array().unwrap().iter();
    let n = n.find(|channel| channel["channel"] == "weather/n").unwrap();
    assert_eq!(n["last"]["value"], 159.0);
    assert_eq!(home.sqlite("select count(*) from readings where channel = 'n'"), ["160"]);
    gateway.stop();
}

#[test]
fn the_page_says_how_many_wait_and_shows_them_where_they_belong_then() {
    let mut port = Port::new();
    let home = Home::new(&port.config());
    let clock = Clock::unset(-YEARS);
    let gateway = clock.start(&home, 600);
    port.opened();
    port.count(0..20);
    eventually("they wait", || (held(&gateway) >= 20).then_some(()));
    let browser = Browser::open(&format!("http://{}/#/", gateway.address()), 1280, 900);
    browser.shows("clock is not set");
    browser.shows("wait for it");
    browser.screenshot("page-clock");
    clock.shows("set", 0);
    eventually("the page says so no more", || {
        (!browser.text().contains("clock is not set")).then_some(())
    });
    port.line("{\"n\":37.5}");
    browser.shows("37.5");
    browser.screenshot("page-clock-set");
    assert_eq!(browser.complaints(), Vec::<String>::new());
}
