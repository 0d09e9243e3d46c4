//! The store against a model that is a list, over random lives of a gateway.

use std::time::Duration;

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

struct Model {
    log: Vec<Record>,
    positions: [u64; 2],
    /// What a forwarder has been given, through which number.
    looked: [u64; 2],
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
}

async fn live(steps: Vec<Step>) -> Result<(), TestCaseError> {
    let folder = tempfile::tempdir().unwrap();
    let mut copies = Vec::new();
    let mut config = Config { flush: Duration::from_millis(20), ..config(folder.path()) };
    let subscriptions = [forwarder("all", PATTERNS[0]), forwarder("panel", PATTERNS[1])];
    let mut gateway = open(&config, &subscriptions).await;
    let mut model = Model { log: Vec::new(), positions: [0; 2], looked: [0; 2] };
    for step in steps {
        match step {
            Step::Append(count) => {
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
                let to = after.0 + ((through.0 - after.0) as f64 * part) as u64;
                gateway.cursors[which].acknowledge(Seq(to));
                let moved = to.min(model.looked[which]);
                model.positions[which] = model.positions[which].max(moved);
            }
            Step::Restart => {
                gateway.stop().await;
                gateway = open(&config, &subscriptions).await;
                model.looked = model.positions;
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
                model.looked = model.positions;
            }
        }
        let status = gateway.settle().await;
        balanced(&status);
        check(&model, &gateway, &status)?;
    }
    gateway.stop().await;
    Ok(())
}

fn check(model: &Model, gateway: &Running, status: &store::Status) -> Result<(), TestCaseError> {
    let readings = model.log.iter().filter(|r| r.reading().is_some()).count() as u64;
    prop_assert_eq!((status.stored, status.readings, status.queued), (readings, readings, 0));
    prop_assert_eq!(gateway.appender.next().0, model.log.last().map_or(1, |r| r.seq.0 + 1));
    for (which, forwarder) in status.forwarders.iter().enumerate() {
        prop_assert_eq!(gateway.cursors[which].position().0, model.positions[which]);
        let pending = model.unsent(which).filter(|r| r.reading().is_some()).count() as u64;
        prop_assert_eq!(forwarder.pending, pending);
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
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime.block_on(live(steps))?;
    }
}
