//! `kill -9` again and again, under load and at any instant: several gateways at
//! once, each on one store for all its lives. `cargo xtask kills 1000` does more.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher as _, Hasher as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use reading::Timestamp;
use serde_json::Value;

use crate::support::{Broker, Gateway, Home, Metronome, PATIENCE, Port};

/// In CI; `TIDEMILL_KILLS` says otherwise.
const KILLS: usize = 200;

/// At once: enough to keep two cores busy while others start and end.
const GATEWAYS: usize = 4;

/// What a killed gateway may lose: see docs/guarantees.md.
const LOST_MAX: Duration = Duration::from_millis(100);

/// Lines that a sensor sends together, and how often.
const LINES: u64 = 5;
const EVERY: Duration = Duration::from_millis(5);

/// A reading's name for ever: the start that gave the number, and the number.
type Name = (String, u64);

#[test]
fn killed_again_and_again_it_loses_nothing_older_than_100_ms() {
    let kills = std::env::var("TIDEMILL_KILLS").map_or(KILLS, |n| n.parse().expect("a number"));
    let lives = |n: usize| kills / GATEWAYS + usize::from(n < kills % GATEWAYS);
    let metronome = Metronome::start();
    std::thread::scope(|scope| {
        for n in 0..GATEWAYS {
            let metronome = &metronome;
            scope.spawn(move || live(lives(n), metronome));
        }
    });
}

/// One gateway, its store, its sensor and its broker, through so many kills.
fn live(kills: usize, metronome: &Metronome) {
    let (broker, port) = (Broker::start(), Port::new());
    let subscriber = broker.subscribe("tidemill/greenhouse/senml");
    let forward = broker.config("format = \"senml\"\nchannels = [\"weather/*\"]");
    let home = Home::new(&(forward + &port.config()));
    let sensor = Sensor::start(port);
    let mut names = Names::default();
    for kill in 0..kills {
        // Each fourth comes while it still starts.
        if kill % 4 == 3 {
            let mut command = home.prepare(&["run"]);
            let mut child = command.stderr(std::process::Stdio::null()).spawn().unwrap();
            std::thread::sleep(at_most(Duration::from_millis(200)));
            child.kill().unwrap();
            child.wait().unwrap();
        } else {
            under_load(&home, &mut names, metronome);
        }
        names.stored(&home);
    }
    let _port = sensor.stop();

    // Everything that was stored comes, whatever was in flight when.
    let gateway = home.start();
    balances(&gateway);
    let mut missing = names.stored.clone();
    let deadline = Instant::now() + PATIENCE;
    while !missing.is_empty() {
        assert!(Instant::now() < deadline, "{} of the stored are not forwarded", missing.len());
        let pack = subscriber.next().json();
        let epoch = pack[0]["epoch"].as_str().unwrap().to_owned();
        for record in pack.as_array().unwrap() {
            let Some(value) = record["v"].as_f64() else { continue };
            let name = (epoch.clone(), record["seq"].as_u64().unwrap());
            missing.remove(&name);
            names.met(name, value as u64);
        }
    }
    gateway.stop();
    let kept = home.sqlite(
        "select stored - (select count(*) from log where seq <= counted), dropped from ledger",
    );
    assert_eq!(kept, ["0|0"], "the ledger knows what the file has");
}

/// Starts it, waits for readings, and kills it at some instant after.
fn under_load(home: &Home, names: &mut Names, metronome: &Metronome) {
    let gateway = home.start();
    balances(&gateway);
    let mut feed = gateway.feed();
    let epoch = feed.next_of("hello")["epoch"].as_str().unwrap().to_owned();
    let first = feed.reading("weather/n", |reading| !reading["value"].is_null());
    // What the feed has seen is what the gateway had read.
    let listener = std::thread::spawn(move || feed.until_closed());
    std::thread::sleep(at_most(Duration::from_millis(250)));
    let killed = Timestamp::now();
    // What the machine had no time for is not the gateway's doing.
    let late = metronome.late(2 * LOST_MAX);
    gateway.kill();

    let mut seen = vec![first];
    for frame in listener.join().unwrap() {
        seen.extend(frame["readings"].as_array().into_iter().flatten().cloned());
    }
    let mut old = Vec::new();
    for reading in seen.iter().filter(|reading| reading["channel"] == "weather/n") {
        let Some(value) = reading["value"].as_f64() else { continue };
        let at: Timestamp = reading["time"].as_str().unwrap().parse().unwrap();
        let name = (epoch.clone(), reading["seq"].as_u64().unwrap());
        if killed.since(at) > LOST_MAX + late {
            old.push((name.clone(), killed.since(at)));
        }
        names.met(name, value as u64);
    }
    names.stored(home);
    for (name, age) in old {
        assert!(names.stored.contains_key(&name), "{name:?} of {age:?} before the kill is lost");
    }
}

#[track_caller]
fn balances(gateway: &Gateway) {
    let status = gateway.status();
    let of = |entry: &Value, name: &str| entry[name].as_u64().unwrap();
    let (ledger, cloud) = (&status["ledger"], &status["forwarders"][0]);
    assert_eq!(of(ledger, "read"), of(ledger, "stored") + of(ledger, "dropped"), "{ledger}");
    let known = of(cloud, "acknowledged") + of(cloud, "pending") + of(cloud, "dropped");
    assert_eq!(of(cloud, "stored"), known, "{cloud}");
}

/// What is known of the readings: a name stands for one value for ever, and a
/// value has one name.
#[derive(Default)]
struct Names {
    values: HashMap<Name, u64>,
    names: HashMap<u64, Name>,
    stored: HashMap<Name, u64>,
    /// The store has been looked at through here.
    through: u64,
}

impl Names {
    #[track_caller]
    fn met(&mut self, name: Name, value: u64) {
        let before = self.values.insert(name.clone(), value);
        assert!(before.is_none_or(|before| before == value), "{name:?}: {before:?} and {value}");
        let before = self.names.insert(value, name.clone());
        assert!(before.is_none_or(|before| before == name), "{value} has another name: {name:?}");
    }

    /// What the file has more of than when it was last looked at.
    #[track_caller]
    fn stored(&mut self, home: &Home) {
        let rows = home.sqlite(&format!(
            "select (select epoch from epoch where first_seq <= log.seq order by id desc limit 1), \
             log.seq, cast(value as integer) from log join channel on channel.id = log.channel \
             where log.seq > {} and name = 'n' and value is not null",
            self.through
        ));
        for row in rows {
            let [epoch, seq, value] = row.split('|').collect::<Vec<_>>()[..] else {
                panic!("{row}");
            };
            let (seq, value) = (seq.parse().unwrap(), value.parse().unwrap());
            let name = (epoch.to_owned(), seq);
            self.through = self.through.max(seq);
            self.met(name.clone(), value);
            self.stored.insert(name, value);
        }
    }
}

/// Counts into the port whoever listens, a thousand lines a second.
struct Sensor {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Port>,
}

impl Sensor {
    fn start(mut port: Port) -> Sensor {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let (mut n, mut text) = (0, String::new());
            while !stopped.load(Ordering::Relaxed) {
                if text.is_empty() {
                    text = (n..n + LINES).map(|n| format!("{{\"n\":{n}}}\n")).collect();
                    n += LINES;
                }
                // While nobody listens the line fills up.
                text.drain(..port.offer(text.as_bytes()));
                std::thread::sleep(EVERY);
            }
            port
        });
        Sensor { stop, thread }
    }

    fn stop(self) -> Port {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

fn at_most(time: Duration) -> Duration {
    time.mul_f64((RandomState::new().build_hasher().finish() % 1_000) as f64 / 1_000.0)
}
