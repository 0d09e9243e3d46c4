//! Days without a broker: a store full of readings that wait, then the real
//! binary on it, first alone and then with a broker. `cargo xtask backlog` runs
//! it.

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use reading::{Epoch, Timestamp};

use crate::load::percentile;
use crate::support::{Broker, Gateway, Home, Message, PATIENCE, Port, Subscriber};
use crate::{megabytes, milliseconds, thousands, usage};

/// What holds with ten million readings waiting.
const START_MAX: Duration = Duration::from_secs(1);
const RSS_MAX: u64 = 40_000_000;
const DRAIN_MIN: f64 = 50_000.0;
const FRESH_MAX: Duration = Duration::from_secs(2);

/// Readings a second of the paced lane.
const DRAIN_RATE: u64 = 5_000;

/// How long it is watched while nothing drains, or while fresh readings come.
const WATCHED: Duration = Duration::from_secs(15);

/// How often the sensor has something fresh to say.
const FRESH_EVERY: Duration = Duration::from_millis(50);

/// Everything with so many readings; fails when a figure is missed.
pub(crate) fn run(count: u64) -> ExitCode {
    let mut verdict = Verdict { missed: false };
    let master = Home::new("");
    println!("filling a store: {} readings …", thousands(count as f64));
    let began = Instant::now();
    let epoch = master.fill(count);
    let size = std::fs::metadata(master.db()).unwrap().len();
    let took = began.elapsed();
    println!("  {} in {:.0} s", megabytes(size), took.as_secs_f64());
    oldest_first(&mut verdict, &master, epoch, count);
    live_first(&mut verdict, &master, epoch, 0);
    live_first(&mut verdict, &master, epoch, DRAIN_RATE);
    with_less_room(&mut verdict, &master, size);
    with_other_channels(&mut verdict, &master);
    if verdict.missed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

struct Verdict {
    missed: bool,
}

impl Verdict {
    fn good(&mut self, so: bool, what: &str) {
        println!("{} {what}", if so { "ok  " } else { "MISS" });
        self.missed |= !so;
    }
}

/// A gateway on a copy of the store, and how long it took to start.
struct Rig {
    broker: Broker,
    subscriber: Subscriber,
    port: Port,
    home: Home,
}

impl Rig {
    fn new(master: &Home, store: &str, forward: &str) -> Rig {
        let broker = Broker::start_with("max_inflight_messages 0");
        let subscriber = broker.subscribe("tidemill/greenhouse/#");
        let port = Port::new();
        let keys = format!("format = \"senml\"\n{forward}");
        let home = Home::with(store, &(broker.config(&keys) + &port.config()));
        copy(&master.db(), &home.db());
        Rig { broker, subscriber, port, home }
    }

    /// Without the file in the page cache, as after the power was away.
    fn start(&self, verdict: &mut Verdict, what: &str) -> Gateway {
        forget_files();
        let began = Instant::now();
        let gateway = self.home.start();
        let started = began.elapsed();
        let what = format!("{what}: it answers {} after its start", milliseconds(started));
        verdict.good(started < START_MAX, &what);
        gateway
    }
}

fn oldest_first(verdict: &mut Verdict, master: &Home, epoch: Epoch, count: u64) {
    let mut rig = Rig::new(master, "", "channels = [\"weather/*\"]");
    rig.broker.stop();
    let gateway = rig.start(verdict, "no broker");
    rig.port.opened();
    let pid = gateway.pid().to_string();
    let began = Instant::now();
    let mut n = 0;
    while began.elapsed() < WATCHED {
        rig.port.line(&format!("{{\"n\":{n}}}"));
        n += 1;
        std::thread::sleep(FRESH_EVERY);
    }
    let forwarder = gateway.forwarder("cloud");
    let pending = forwarder["pending"].as_u64().unwrap();
    verdict.good(pending >= count, &format!("{} are waiting", thousands(pending as f64)));
    let peak = usage::peak_rss(&pid);
    verdict.good(peak < RSS_MAX, &format!("peak RSS without a broker: {}", megabytes(peak)));

    rig.broker.start_again();
    let cpu = usage::cpu(&pid);
    let mut names = Names::new(epoch, count);
    let mut first = None;
    while names.missing > 0 {
        let Some(message) = rig.subscriber.poll(PATIENCE) else { break };
        if names.take(&message) > 0 {
            first.get_or_insert_with(Instant::now);
        }
    }
    let took = first.map_or(Duration::MAX, |first| first.elapsed());
    let rate = count as f64 / took.as_secs_f64();
    let cpu = (usage::cpu(&pid) - cpu) / count as f64 * 1e5;
    let what = format!(
        "{} readings/s drained, {cpu:.2} CPU s per 100k; {} missing, {} twice, {} not marked",
        thousands(rate),
        names.missing,
        names.twice,
        names.unmarked
    );
    verdict.good(rate >= DRAIN_MIN && (names.missing, names.unmarked) == (0, 0), &what);
    let peak = usage::peak_rss(&pid);
    verdict.good(peak < RSS_MAX, &format!("peak RSS, drain included: {}", megabytes(peak)));
    gateway.settle(|| gateway.forwarder("cloud")["pending"].as_u64().unwrap());
    balanced(verdict, &gateway);
    gateway.stop();
}

/// Fresh readings while the backlog drains, `drain_rate` of it a second.
fn live_first(verdict: &mut Verdict, master: &Home, epoch: Epoch, drain_rate: u64) {
    let keys =
        format!("channels = [\"weather/*\"]\norder = \"live-first\"\ndrain_rate = {drain_rate}");
    let Rig { broker: _broker, subscriber, mut port, home } = Rig::new(master, "", &keys);
    let gateway = home.start();
    gateway.forwarder_is("cloud", "online");
    port.opened();
    let pid = gateway.pid().to_string();
    let sensor = std::thread::spawn(move || {
        let (began, mut sent) = (Instant::now(), 0_u64);
        while began.elapsed() < WATCHED {
            port.line(&format!("{{\"n\":{}}}", Timestamp::now().as_micros()));
            sent += 1;
            std::thread::sleep(FRESH_EVERY);
        }
        // The plug stays in until all has been read.
        (sent, port)
    });
    let mut names = Names::new(epoch, 0);
    let (began, mut latencies, mut marked) = (Instant::now(), Vec::new(), 0);
    let mut drained = (0, Duration::ZERO);
    while began.elapsed() < WATCHED + FRESH_MAX {
        let Some(message) = subscriber.poll(Duration::from_millis(100)) else { continue };
        let backlog = names.take(&message);
        if backlog > 0 && began.elapsed() < WATCHED {
            drained = (drained.0 + backlog, began.elapsed());
        }
        for sent in fresh(&message) {
            latencies.push(message.at.since(sent));
            marked += u32::from(is_marked(&message));
        }
    }
    let (sent, _port) = sensor.join().unwrap();
    latencies.sort_unstable();
    let came = latencies.len() as u64;
    let left = gateway.forwarder("cloud")["pending"].as_u64().unwrap();
    let rate = drained.0 as f64 / drained.1.as_secs_f64();
    let lane = format!("live-first, drain_rate = {drain_rate}");
    let what = format!(
        "{lane}: {came} of {sent} fresh readings came, {marked} of them marked historical, \
         the slowest after {}, half within {}",
        milliseconds(percentile(&latencies, 1.0)),
        milliseconds(percentile(&latencies, 0.5)),
    );
    verdict.good(came == sent && marked == 0 && percentile(&latencies, 1.0) < FRESH_MAX, &what);
    let what = format!(
        "{lane}: {} readings/s of the backlog meanwhile, {} not marked historical, {} left",
        thousands(rate),
        names.unmarked,
        thousands(left as f64),
    );
    let paced = drain_rate == 0 || (rate / drain_rate as f64 - 1.0).abs() < 0.05;
    verdict.good(paced && drained.0 > 0 && names.unmarked == 0, &what);
    let peak = usage::peak_rss(&pid);
    verdict.good(peak < RSS_MAX, &format!("{lane}: peak RSS {}", megabytes(peak)));
    balanced(verdict, &gateway);
    gateway.stop();
}

/// A limit that the store is past already: the oldest go, and the start doesn't
/// wait for that.
fn with_less_room(verdict: &mut Verdict, master: &Home, size: u64) {
    let store = format!("max_size = \"{}B\"", size / 2);
    let mut rig = Rig::new(master, &store, "channels = [\"weather/*\"]");
    rig.broker.stop();
    let gateway = rig.start(verdict, "half the room");
    let pid = gateway.pid().to_string();
    let dropped = || gateway.forwarder("cloud")["dropped"].as_u64().unwrap();
    gateway.settle(dropped);
    let what = format!("half the room: {} are given up", thousands(dropped() as f64));
    verdict.good(dropped() > 0, &what);
    let peak = usage::peak_rss(&pid);
    verdict.good(peak < RSS_MAX, &format!("half the room: peak RSS {}", megabytes(peak)));
    balanced(verdict, &gateway);
    gateway.stop();
}

/// What waits has to be counted anew.
fn with_other_channels(verdict: &mut Verdict, master: &Home) {
    let mut rig = Rig::new(master, "", "channels = [\"weather/c*\"]");
    rig.broker.stop();
    let gateway = rig.start(verdict, "other channels than before");
    balanced(verdict, &gateway);
    gateway.stop();
}

fn balanced(verdict: &mut Verdict, gateway: &Gateway) {
    let status = gateway.status();
    let of = |entry: &serde_json::Value, name: &str| entry[name].as_u64().unwrap();
    let ledger = &status["ledger"];
    let forwarder = &status["forwarders"][0];
    let known = ["acknowledged", "pending", "dropped"].map(|name| of(forwarder, name));
    let so = of(ledger, "read") == of(ledger, "stored") + of(ledger, "dropped")
        && of(forwarder, "stored") == known.iter().sum::<u64>();
    verdict.good(so, &format!("the ledger balances: {ledger}, {known:?}"));
}

/// Which readings of the backlog have come: a bit each.
struct Names {
    epoch: String,
    seen: Vec<u64>,
    missing: u64,
    twice: u64,
    /// Not marked as historical.
    unmarked: u64,
}

impl Names {
    fn new(epoch: Epoch, count: u64) -> Names {
        let epoch = format!("\"epoch\":\"{epoch}\"");
        Names { epoch, seen: Vec::new(), missing: count, twice: 0, unmarked: 0 }
    }

    /// Counts the readings of the backlog in a message. Found by their key, not
    /// parsed: the subscriber shares two cores with what is measured.
    fn take(&mut self, message: &Message) -> u64 {
        let text = std::str::from_utf8(&message.payload).unwrap();
        if !message.topic.ends_with("/senml") || !text.contains(&self.epoch) {
            return 0;
        }
        let mut count = 0;
        for rest in text.split("\"seq\":").skip(1) {
            let end = rest.find([',', '}']).unwrap();
            let seq: usize = rest[..end].parse().unwrap();
            let (word, bit) = (seq / 64, 1_u64 << (seq % 64));
            if self.seen.len() <= word {
                self.seen.resize(word + 1, 0);
            }
            match self.seen[word] & bit {
                0 => self.missing = self.missing.saturating_sub(1),
                _ => self.twice += 1,
            }
            self.seen[word] |= bit;
            count += 1;
        }
        self.unmarked += if is_marked(message) { 0 } else { count };
        count
    }
}

/// A mark stands in a pack's first record, for all of it.
fn is_marked(message: &Message) -> bool {
    let begin = &message.payload[..message.payload.len().min(128)];
    begin.windows(12).any(|part| part == b"\"historical\"")
}

/// When the fresh readings of a message were sent: their values.
fn fresh(message: &Message) -> Vec<Timestamp> {
    let text = std::str::from_utf8(&message.payload).unwrap();
    let mut found = Vec::new();
    for rest in text.split("\"n\":\"weather/n\"").skip(1) {
        let end = rest.find('}').unwrap();
        // A bad reading has none.
        let Some((_, value)) = rest[..end].split_once("\"v\":") else { continue };
        let number: f64 = value[..value.find([',']).unwrap()].parse().unwrap();
        found.push(Timestamp::from_micros(number as i64));
    }
    found
}

fn copy(from: &Path, to: &Path) {
    std::fs::copy(from, to).unwrap();
}

/// Root may empty the page cache; without it the start is a warm one.
fn forget_files() {
    rustix::fs::sync();
    drop(std::fs::write("/proc/sys/vm/drop_caches", "1"));
}
