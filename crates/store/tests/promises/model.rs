//! The store against a model that is a list, over random lives of a gateway.

use std::collections::HashSet;
use std::time::Duration;

use bytesize::ByteSize;
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use reading::{Body, Record, Seq};
use store::Config;

use crate::support::*;

#[derive(Clone, Debug)]
enum Step {
    /// Readings of one channel after another, with a gap in between.
    Append(u16),
    /// Of one forwarder: give so many, acknowledge a part of them.
    Forward {
        which: usize,
        max: usize,
        part: f64,
    },
    Restart,
    /// The file as it is goes on; what wasn't committed is gone.
    Kill,
    /// The same, and more than there may be room for.
    Flood(u16),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1..600u16).prop_map(Step::Append),
        4 => (0..2usize, 1..500usize, 0.0..1.2f64)
            .prop_map(|(which, max, part)| Step::Forward { which, max, part }),
        1 => Just(Step::Restart),
        1 => Just(Step::Kill),
    ]
}

/// Lives in which the store is full sooner or later.
fn step_of_the_full() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (6_000..12_000u16).prop_map(Step::Flood),
        // Some far behind, some that have nearly everything.
        3 => (0..2usize, 1..12_000usize, 0.0..1.2f64)
            .prop_map(|(which, max, part)| Step::Forward { which, max, part }),
        1 => Just(Step::Restart),
        1 => Just(Step::Kill),
    ]
}

#[derive(Default)]
struct Model {
    log: Vec<Record>,
    positions: [u64; 2],
    /// What a forwarder has been given, through which number.
    looked: [u64; 2],
    /// Of what is in its hands, what the broker refuses.
    refused: [HashSet<u64>; 2],
    acknowledged: [u64; 2],
    dropped: [u64; 2],
    /// Readings that are removed, which are the oldest, and those of them that
    /// somebody was still to get.
    removed: usize,
    owed: u64,
}

const PATTERNS: [&[&str]; 2] = [&["*"], &["panel/*"]];

fn wants(which: usize, record: &Record) -> bool {
    let channel = match &record.body {
        Body::Reading(reading) => Some(&reading.channel),
        Body::Gap(gap) => gap.channel.as_ref(),
    };
    which == 0 || channel.is_none_or(|channel| channel.device() == "panel")
}

impl Model {
    fn unsent(&self, which: usize) -> impl Iterator<Item = &Record> {
        let after = self.positions[which];
        self.log.iter().filter(move |r| r.seq.0 > after && wants(which, r))
    }

    fn readings(&self) -> impl Iterator<Item = &Record> {
        self.log.iter().filter(|record| record.reading().is_some())
    }

    /// The broker has, or refuses, everything through a number.
    fn pass(&mut self, which: usize, through: u64) {
        let passed: Vec<u64> = self
            .unsent(which)
            .filter(|record| record.reading().is_some() && record.seq.0 <= through)
            .map(|record| record.seq.0)
            .collect();
        for seq in passed {
            let refused = self.refused[which].remove(&seq);
            *(if refused { &mut self.dropped } else { &mut self.acknowledged })
                .get_mut(which)
                .unwrap() += 1;
        }
        self.positions[which] = self.positions[which].max(through);
    }

    /// The store has removed its oldest readings, `removed` in all. Gives the
    /// number of the last of them and of the first that is left.
    fn remove(&mut self, removed: usize) -> (u64, u64) {
        let readings: Vec<&Record> = self.readings().collect();
        let last = removed.checked_sub(1).map_or(0, |at| readings[at].seq.0);
        let left = readings.get(removed).map_or(u64::MAX, |record| record.seq.0);
        let mut dropped = [0; 2];
        let mut owed = 0;
        for record in &readings[self.removed.min(removed)..removed] {
            let owes =
                |which: &usize| wants(*which, record) && record.seq.0 > self.positions[*which];
            let to: Vec<usize> = [0, 1].into_iter().filter(owes).collect();
            owed += u64::from(!to.is_empty());
            to.into_iter().for_each(|which| dropped[which] += 1);
        }
        for (all, now) in self.dropped.iter_mut().zip(dropped) {
            *all += now;
        }
        (self.removed, self.owed) = (removed, self.owed + owed);
        (last, left)
    }

    /// What was in hand is given anew.
    fn start(&mut self) {
        self.looked = self.positions;
        self.refused = Default::default();
    }
}

async fn live(steps: Vec<Step>, max_size: ByteSize) -> Result<(), TestCaseError> {
    let folder = tempfile::tempdir().unwrap();
    let mut copies = Vec::new();
    let mut config = Config { flush: Duration::from_millis(20), max_size, ..config(folder.path()) };
    let subscriptions = [forwarder("all", PATTERNS[0]), forwarder("panel", PATTERNS[1])];
    let mut gateway = open(&config, &subscriptions).await;
    let mut model = Model::default();
    for step in steps {
        let flooded = matches!(step, Step::Flood(_));
        match step {
            Step::Append(count) | Step::Flood(count) => {
                let (epoch, first) = (gateway.appender.epoch(), gateway.appender.next());
                let bodies: Vec<_> = (0..count).map(body).collect();
                let numbered = bodies.iter().cloned().enumerate();
                model.log.extend(numbered.map(|(n, body)| Record {
                    epoch,
                    seq: Seq(first.0 + n as u64),
                    body,
                }));
                gateway.append(bodies).await.unwrap();
            }
            Step::Forward { which, max, part } => {
                gateway.settle().await;
                let after = Seq(model.positions[which]);
                let (records, through) = gateway.cursors[which].unsent(after, max).await.unwrap();
                let expected: Vec<_> = model.unsent(which).take(records.len()).collect();
                prop_assert_eq!(records.iter().collect::<Vec<_>>(), expected);
                let next = model.unsent(which).nth(records.len());
                prop_assert!(next.is_none_or(|record| record.seq > through));
                model.looked[which] = model.looked[which].max(through.0);
                // Which of them the broker refuses makes no difference to what
                // is pending.
                let refused = records.iter().step_by(3).cloned().collect::<Vec<_>>();
                gateway.cursors[which].skip(&refused, "refused by the broker");
                let readings = refused.iter().filter(|record| record.reading().is_some());
                model.refused[which].extend(readings.map(|record| record.seq.0));
                let to = after.0 + ((through.0 - after.0) as f64 * part) as u64;
                gateway.cursors[which].acknowledge(Seq(to));
                model.pass(which, to.min(model.looked[which]));
            }
            Step::Restart => {
                gateway.stop().await;
                gateway = open(&config, &subscriptions).await;
                model.start();
            }
            Step::Kill => {
                gateway.settle().await;
                // Positions are durable within `flush`.
                tokio::time::sleep(Duration::from_millis(200)).await;
                let (copy, path) = gateway.killed();
                gateway.stop().await;
                copies.push(copy);
                config.path = path;
                gateway = open(&config, &subscriptions).await;
                model.start();
            }
        }
        let status = quiet(&gateway, flooded).await;
        balanced(&status);
        check(&mut model, &gateway, &status)?;
    }
    gateway.stop().await;
    Ok(())
}

/// Once the store has removed what it wants to, which it looks at each second.
/// Nothing but a flood makes it too large.
async fn quiet(gateway: &Running, flooded: bool) -> store::Status {
    let mut status = gateway.settle().await;
    if !flooded {
        return status;
    }
    let mut wait = Duration::from_millis(1_200);
    loop {
        let before = status.readings;
        tokio::time::sleep(wait).await;
        status = gateway.store.status();
        // One removal follows the other.
        if wait < Duration::from_secs(1) && before == status.readings {
            return status;
        }
        wait = Duration::from_millis(150);
    }
}

fn check(
    model: &mut Model,
    gateway: &Running,
    status: &store::Status,
) -> Result<(), TestCaseError> {
    let readings = model.readings().count() as u64;
    prop_assert_eq!((status.stored, status.queued), (readings, 0));
    prop_assert_eq!(gateway.appender.next().0, model.log.last().map_or(1, |r| r.seq.0 + 1));
    let (last, left) = model.remove((readings - status.readings) as usize);
    let lost = status.losses.iter().find(|loss| loss.reason == "store full");
    prop_assert_eq!(lost.map_or(0, |loss| loss.count), model.owed);
    for (which, forwarder) in status.forwarders.iter().enumerate() {
        let position = gateway.cursors[which].position().0;
        if model.positions[which] >= last {
            prop_assert_eq!(position, model.positions[which]);
        } else {
            // It has been moved over what is gone, and not over what is left.
            prop_assert!((last..left).contains(&position), "{position} of {last}..{left}");
            model.positions[which] = position;
            model.looked[which] = model.looked[which].max(position);
            model.refused[which].retain(|seq| *seq > position);
        }
        let pending = model.unsent(which).filter(|r| r.reading().is_some()).count() as u64;
        let expected = (pending, model.acknowledged[which], model.dropped[which]);
        prop_assert_eq!((forwarder.pending, forwarder.acknowledged, forwarder.dropped), expected);
    }
    Ok(())
}

fn body(n: u16) -> Body {
    let seconds = f64::from(n);
    match n % 5 {
        0 => gap(seconds, 1, None),
        1 => gap(seconds, 1, Some("weather/temperature")),
        2 => number("panel/load", at(seconds), seconds),
        _ => number("weather/temperature", at(seconds), seconds),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn any_life_gives_what_the_model_gives(steps in prop::collection::vec(step(), 1..20)) {
        runtime().block_on(live(steps, ByteSize::gib(2)))?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn a_life_with_too_little_room_gives_what_the_model_gives(
        steps in prop::collection::vec(step_of_the_full(), 5..10)
    ) {
        runtime().block_on(live(steps, ByteSize::kib(512)))?;
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}
