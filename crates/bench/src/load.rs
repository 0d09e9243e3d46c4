//! One run of the whole gateway.

use std::time::{Duration, Instant};

use reading::Timestamp;

use crate::support::{Broker, Home, Message, PATIENCE, Port};
use crate::usage;

/// What to do to it.
pub(crate) struct Load {
    pub(crate) lines: u64,
    /// Lines a second; as fast as the gateway reads without it.
    pub(crate) rate: Option<u64>,
    pub(crate) format: Format,
}

#[derive(Clone, Copy)]
pub(crate) enum Format {
    Json,
    Senml,
}

/// What came of it.
pub(crate) struct Outcome {
    pub(crate) readings: u64,
    /// From the first line sent to the last at the subscriber.
    pub(crate) took: Duration,
    pub(crate) cpu: f64,
    pub(crate) idle_rss: u64,
    pub(crate) peak_rss: u64,
    pub(crate) written: u64,
    /// Sorted.
    latencies: Vec<Duration>,
    lost: usize,
    twice: usize,
    disordered: usize,
}

impl Outcome {
    pub(crate) fn per_second(&self) -> f64 {
        self.readings as f64 / self.took.as_secs_f64()
    }

    pub(crate) fn cpu_per_100k(&self) -> f64 {
        self.cpu / self.readings as f64 * 1e5
    }

    pub(crate) fn bytes_per_reading(&self) -> f64 {
        self.written as f64 / self.readings as f64
    }

    pub(crate) fn latency(&self, part: f64) -> Duration {
        percentile(&self.latencies, part)
    }

    pub(crate) fn is_whole(&self) -> bool {
        (self.lost, self.twice, self.disordered) == (0, 0, 0)
    }

    pub(crate) fn account(&self) -> String {
        format!(
            "{} sent, {} lost, {} twice, {} out of order",
            self.readings, self.lost, self.twice, self.disordered
        )
    }
}

/// Of sorted times; zero when there is none.
pub(crate) fn percentile(sorted: &[Duration], part: f64) -> Duration {
    let place = (sorted.len() as f64 * part) as usize;
    sorted.get(place.min(sorted.len().saturating_sub(1))).copied().unwrap_or_default()
}

/// Feeds a gateway, listens at the other end, and compares.
pub(crate) fn run(load: &Load) -> Outcome {
    // Unlimited, as for any broker that is to take more than a trickle.
    let broker = Broker::start_with("max_inflight_messages 0");
    let mut port = Port::new();
    let subscriber = broker.subscribe("tidemill/greenhouse/#");
    let format = match load.format {
        Format::Json => "json",
        Format::Senml => "senml",
    };
    let keys = format!("format = {format:?}\nchannels = [\"weather/*\"]");
    let home = Home::new(&(broker.config(&keys) + &port.config()));
    let gateway = home.start();
    gateway.forwarder_is("cloud", "online");
    port.opened();

    let pid = gateway.pid().to_string();
    let (idle_rss, cpu, written) = (usage::peak_rss(&pid), usage::cpu(&pid), usage::written(&pid));
    let began = Instant::now();
    let (lines, rate) = (load.lines, load.rate);
    let feeder = std::thread::spawn(move || {
        let sent = feed(&mut port, lines, rate);
        // Open until all has arrived: pulling the plug would lose what is still
        // in the line.
        (sent, port)
    });
    let mut received = Vec::new();
    while (received.len() as u64) < load.lines {
        let Some(message) = subscriber.poll(PATIENCE) else { break };
        read(load.format, &message, &mut received);
    }
    let took = began.elapsed();
    let cpu = usage::cpu(&pid) - cpu;
    // What is still to come would be twice.
    for message in subscriber.rest(Duration::from_secs(1)) {
        read(load.format, &message, &mut received);
    }
    let (sent, port) = feeder.join().unwrap();
    let peak_rss = usage::peak_rss(&pid);
    // With the last commit's pages.
    gateway.settle(|| usage::written(&pid));
    let written = usage::written(&pid) - written;
    gateway.stop();
    drop(port);
    let (lost, twice, disordered) = compare(&sent, &received);
    let mut latencies: Vec<Duration> = received
        .iter()
        .map(|(sent, at)| at.since(Timestamp::from_micros(i64::try_from(*sent).unwrap())))
        .collect();
    latencies.sort_unstable();
    let readings = load.lines;
    Outcome { readings, took, cpu, idle_rss, peak_rss, written, latencies, lost, twice, disordered }
}

/// Lines whose one number is the time of sending in microseconds: its own name,
/// since no two are the same. Gives what was sent.
fn feed(port: &mut Port, lines: u64, rate: Option<u64>) -> Vec<u64> {
    let began = Instant::now();
    let mut sent: Vec<u64> = Vec::with_capacity(usize::try_from(lines).unwrap());
    // Full speed in pieces of a pipe's size, paced each line by itself.
    let piece = if rate.is_some() { 1 } else { 32 };
    while (sent.len() as u64) < lines {
        if let Some(rate) = rate {
            let due = Duration::from_secs_f64(sent.len() as f64 / rate as f64);
            std::thread::sleep(due.saturating_sub(began.elapsed()));
        }
        let now = u64::try_from(Timestamp::now().as_micros()).unwrap();
        let first = sent.last().map_or(now, |&last| now.max(last + 1));
        let count = piece.min(lines - sent.len() as u64);
        let text: String =
            (first..first + count).map(|time| format!("{{\"n\":{time}}}\n")).collect();
        port.write(text.as_bytes());
        sent.extend(first..first + count);
    }
    sent
}

/// The numbers of a message, with its arrival. Found by their key, not parsed:
/// the subscriber shares two cores with what is measured.
fn read(format: Format, message: &Message, into: &mut Vec<(u64, Timestamp)>) {
    let (topic, key) = match format {
        Format::Json => ("/weather/n", "\"value\":"),
        Format::Senml => ("/senml", "\"v\":"),
    };
    if !message.topic.ends_with(topic) {
        return;
    }
    let text = std::str::from_utf8(&message.payload).unwrap();
    for rest in text.split(key).skip(1) {
        let end = rest.find([',', '}']).unwrap();
        // A bad reading has none.
        if let Ok(number) = rest[..end].parse::<f64>() {
            into.push((number as u64, message.at));
        }
    }
}

/// How many were lost, came twice, came after a later one.
fn compare(sent: &[u64], received: &[(u64, Timestamp)]) -> (usize, usize, usize) {
    let disordered = received.windows(2).filter(|pair| pair[0].0 > pair[1].0).count();
    let mut names: Vec<u64> = received.iter().map(|(name, _)| *name).collect();
    names.sort_unstable();
    let all = names.len();
    names.dedup();
    let lost = sent.iter().filter(|name| names.binary_search(name).is_err()).count();
    (lost, all - names.len(), disordered)
}
