use std::time::Duration;

use reading::{
    Body, Channel, ChannelSpec, Datum, Epoch, Kind, Reading, Record, Seq, Timestamp, Unit, Value,
};
use store::{Config, Store, Subscription};

use super::Home;

/// Channels of a backlog: `weather/c0` and so on, in turn.
const CHANNELS: u64 = 10;

/// How far apart its readings are: each channel is read once a second.
const EVERY: Duration = Duration::from_millis(100);

/// How long ago the last of them was: none is fresh.
const QUIET: Duration = Duration::from_secs(60);

/// Readings handed over at once, as intake does when it is busy.
const TURN: u64 = 4_096;

impl Home {
    /// Fills the store as the gateway would have done in the days before, while
    /// the broker of its forwarder `cloud` was away, through the same code;
    /// `cloud` is to have `channels = ["weather/*"]`. Gives the name of that
    /// start; the numbers are 1 to `count`.
    pub(crate) fn fill(&self, count: u64) -> Epoch {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(fill(&Config { path: self.db(), ..Config::default() }, count))
    }
}

async fn fill(config: &Config, count: u64) -> Epoch {
    let specs: Vec<ChannelSpec> = (0..CHANNELS).map(spec).collect();
    let names: Vec<Channel> = specs.iter().map(|spec| spec.channel.clone()).collect();
    let channels = vec!["weather/*".parse().unwrap()];
    let cloud = Subscription { forwarder: "cloud".into(), channels };
    let (_, mut appender, writer, cursors) = Store::open(config, &specs, &[cloud]).await.unwrap();
    let epoch = appender.epoch();
    let began = (Timestamp::now() - QUIET).as_micros() - micros(count);
    let append = async move {
        for first in (0..count).step_by(usize::try_from(TURN).unwrap()) {
            let record = |n: u64| {
                let channel = names[usize::try_from(n % CHANNELS).unwrap()].clone();
                let at = Timestamp::from_micros(began + micros(n));
                let value = Value::Good(Datum::Number(20.0 + (n % 977) as f64 / 100.0));
                let body = Body::Reading(Reading { channel, at, value });
                Record { epoch, seq: Seq(n + 1), body }
            };
            appender.append((first..count.min(first + TURN)).map(record).collect()).await.unwrap();
        }
        // With its last handles gone the writer ends.
        drop((appender, cursors));
    };
    let (written, ()) = tokio::join!(writer.run(), append);
    written.unwrap();
    epoch
}

fn spec(n: u64) -> ChannelSpec {
    ChannelSpec {
        channel: format!("weather/c{n}").parse().unwrap(),
        kind: Kind::Number,
        unit: Unit::of("Cel"),
        label: None,
        range: None,
        output: false,
    }
}

fn micros(readings: u64) -> i64 {
    i64::try_from(readings * EVERY.as_micros() as u64).unwrap()
}
