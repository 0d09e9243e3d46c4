//! What is recorded: a gateway that stores, forwards and removes, and tells as
//! it goes what it has promised.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::Duration;

use bytesize::ByteSize;
use reading::{Body, Datum, Epoch, Fault, Gap, Reading, Record, Seq, Timestamp, Value};
use store::Config;

use super::recorder::notes;
use crate::support::*;

/// One start of the gateway.
#[derive(Clone, Copy)]
struct Start {
    /// Batches of readings, one in about 10 ms.
    rounds: u64,
    /// In so many of these a broker acknowledges.
    online: u64,
    /// Long texts, so that the file gets full.
    texts: bool,
    end: End,
}

#[derive(Clone, Copy, PartialEq)]
enum End {
    Killed,
    Stopped,
    /// Half way its file is damaged, which it finds and mends; then stopped.
    Mended,
}

const STARTS: [Start; 6] = [
    Start { rounds: 130, online: 130, texts: false, end: End::Killed },
    Start { rounds: 130, online: 0, texts: true, end: End::Stopped },
    Start { rounds: 130, online: 130, texts: true, end: End::Killed },
    Start { rounds: 50, online: 20, texts: true, end: End::Killed },
    Start { rounds: 30, online: 0, texts: false, end: End::Mended },
    Start { rounds: 4, online: 0, texts: false, end: End::Stopped },
];

/// Of the starts: a life; what the others begin with; one that meets damage as
/// it runs; a short one.
pub(super) const LIFE: [usize; 3] = [0, 1, 2];
pub(super) const BEFORE: usize = 3;
pub(super) const MENDED: usize = 4;
pub(super) const SHORT: usize = 5;

/// Pages of a file that have the beginnings of its tables.
pub(super) const INTACT: usize = 40;

/// Small, so that all there is to a store happens within seconds.
pub(super) fn config(folder: &Path) -> Config {
    Config {
        flush: Duration::from_millis(150),
        keep: Duration::from_millis(400),
        max_size: ByteSize::kib(256),
        keep_free: ByteSize::b(0),
        ..crate::support::config(folder)
    }
}

/// The body that belongs to a random number: one of each kind.
fn body(n: u64, at: Timestamp) -> Body {
    let good = |datum| Value::Good(datum);
    let (name, value) = match n % 16 {
        0 => {
            let reason = "line down".into();
            return Body::Gap(Gap { from: at, to: at, count: n % 7, channel: None, reason });
        }
        1 => ("weather/temperature", Value::Bad(Fault::Timeout)),
        2 | 3 => ("panel/door", good(Datum::Boolean(n % 32 < 16))),
        4 => ("panel/mode", good(Datum::Text("a".repeat((n / 16 % 600) as usize).into()))),
        _ => ("weather/temperature", good(Datum::Number(n as f64 / 64.0))),
    };
    Body::Reading(Reading { channel: channel(name), at, value })
}

/// The program's notes, a line each.
struct Notes(File);

impl Notes {
    fn say(&mut self, line: &str) {
        // One call each: it is the order among the calls that counts.
        self.0.write_all(format!("{line}\n").as_bytes()).unwrap();
    }
}

/// Lives one start; ends the process when that is how it ends.
pub(super) async fn live(folder: &Path, which: usize) {
    let start = STARTS[which];
    let mut notes = Notes(File::options().append(true).create(true).open(notes(folder)).unwrap());
    let mut gateway = open(&config(folder), &[forwarder("cloud", &["*"])]).await;
    let epoch = gateway.appender.epoch();
    notes.say(&format!("start {epoch} {}", gateway.appender.next()));
    let mut dice = Dice(epoch.0);
    let mut after = gateway.cursors[0].position();
    let mut durable = 0;
    for round in 0..start.rounds {
        if start.end == End::Mended && round == start.rounds / 2 {
            damage(folder, &gateway).await;
        }
        let mut lines = String::new();
        let mut bodies = Vec::new();
        let mut seq = gateway.appender.next().0;
        for gap in gateway.appender.losses() {
            let (from, to) = (gap.from.as_micros(), gap.to.as_micros());
            let channel = gap.channel.as_ref().map_or("-".to_owned(), ToString::to_string);
            lines += &format!("told {seq} {from} {to} {} {channel} {}\n", gap.count, gap.reason);
            bodies.push(Body::Gap(gap));
            seq += 1;
        }
        let burst = if round % 40 == 20 { 60 } else { 1 + dice.below(4) };
        for _ in 0..burst {
            let n = dice.below(1 << 20);
            let n = if start.texts && n.is_multiple_of(2) { n / 16 * 16 + 4 } else { n };
            let now = Timestamp::now();
            lines += &format!("given {seq} {n} {}\n", now.as_micros());
            bodies.push(body(n, now));
            seq += 1;
        }
        notes.say(lines.trim_end());
        gateway.append(bodies).await.unwrap();
        if round < start.online {
            let (_, through) = gateway.cursors[0].unsent(after, 50).await.unwrap();
            notes.say(&format!("acknowledged {through}"));
            gateway.cursors[0].acknowledge(through);
            after = through;
        }
        let status = gateway.store.status();
        balanced(&status);
        if durable != status.durable {
            durable = status.durable;
            notes.say(&format!("durable {durable}"));
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    if start.end == End::Killed {
        gateway.settle().await;
        std::process::exit(0);
    }
    let last = gateway.appender.next().0 - 1;
    gateway.stop().await;
    notes.say(&format!("durable {last}"));
}

/// All but [`INTACT`] pages of the file are gone; the gateway finds it when a
/// forwarder asks for what is there, and goes on with another file.
async fn damage(folder: &Path, gateway: &Running) {
    let path = config(folder).path;
    let file = File::options().write(true).open(&path).unwrap();
    let len = file.metadata().unwrap().len();
    let begin = INTACT as u64 * 512;
    file.write_all_at(&vec![0xa5; (len - begin) as usize], begin).unwrap();
    let mended = || {
        let names: Vec<_> =
            std::fs::read_dir(folder).unwrap().map(|f| f.unwrap().file_name()).collect();
        let any = |part: &str| names.iter().any(|name| name.to_str().unwrap().contains(part));
        any(".damaged-") && !any(".salvage")
    };
    while !mended() {
        drop(gateway.cursors[0].unsent(Seq(0), 10_000).await);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// What the notes say so far.
#[derive(Clone, Default)]
pub(super) struct Told {
    pub(super) epochs: Vec<Epoch>,
    /// By their numbers, from 1: what a number was given to last.
    pub(super) given: Vec<Record>,
    pub(super) durable: u64,
    pub(super) acknowledged: u64,
}

impl Told {
    /// One line more; says whether another start begins.
    pub(super) fn note(&mut self, line: &str) -> bool {
        let mut words = line.split(' ');
        let what = words.next().unwrap();
        let starts = what == "start";
        if starts {
            self.epochs.push(words.next().unwrap().parse().unwrap());
        }
        let mut number = || words.next().unwrap().parse::<u64>().unwrap();
        let seq = number();
        match what {
            // What wasn't committed before a kill is numbered again.
            "start" => self.given.truncate(seq as usize - 1),
            "given" => {
                let (n, at) = (number(), number());
                self.give(seq, body(n, Timestamp::from_micros(at.cast_signed())));
            }
            "told" => {
                let from = Timestamp::from_micros(number().cast_signed());
                let to = Timestamp::from_micros(number().cast_signed());
                let count = number();
                let channel = words.next().and_then(|name| name.parse().ok());
                let reason = words.collect::<Vec<_>>().join(" ").into();
                self.give(seq, Body::Gap(Gap { from, to, count, channel, reason }));
            }
            "durable" => self.durable = self.durable.max(seq),
            "acknowledged" => self.acknowledged = self.acknowledged.max(seq),
            _ => panic!("{line}"),
        }
        starts
    }

    fn give(&mut self, seq: u64, body: Body) {
        assert_eq!(self.given.len() as u64 + 1, seq);
        let epoch = *self.epochs.last().unwrap();
        self.given.push(Record { epoch, seq: Seq(seq), body });
    }
}
