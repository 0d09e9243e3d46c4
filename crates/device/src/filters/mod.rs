//! What may be done to the values of a channel, with ESPHome's names: a chain
//! of small state machines that know no clock but the one they are given.
//!
//! A bad reading passes all of them at once, and makes those that hold values
//! back forget what they let through: a channel that is good again says so,
//! even when its value is the one before.

mod fit;
mod settings;
mod stage;

use reading::{Datum, Fault, Value};
use tokio::time::Instant;

pub(crate) use settings::{Filter, check};
use stage::Stage;

/// The filters of one channel, in order.
#[derive(Debug, Default)]
pub(crate) struct Chain {
    stages: Vec<Stage>,
}

/// What comes out of one stage and goes into the next.
#[derive(Clone, Debug, PartialEq)]
enum Signal {
    /// A datum.
    Datum(Datum),
    /// There was one, and an earlier stage has held it back. So the device is
    /// alive, and what was let through before still holds.
    Held,
    /// Nothing has come for longer than a `timeout` allows.
    Stale,
    /// Nothing has happened.
    Nothing,
}

impl Chain {
    /// The chain of checked filters.
    pub(crate) fn new(filters: &[Filter]) -> Chain {
        Chain { stages: filters.iter().map(Stage::new).collect() }
    }

    /// A datum has come; gives what is to be read of it, if anything.
    pub(crate) fn push(&mut self, datum: Datum, now: Instant) -> Option<Value> {
        if self.stages.is_empty() {
            return Some(Value::Good(datum));
        }
        let mut signal = Signal::Datum(datum);
        for stage in &mut self.stages {
            signal = stage.step(signal, now);
        }
        value(signal)
    }

    /// When [`Chain::due`] is to be asked.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.stages.iter().filter_map(Stage::next).min()
    }

    /// What the passing of time says, if anything. Of timers that run out at the
    /// same instant one is heard at each call: ask until [`Chain::next`] is later.
    pub(crate) fn due(&mut self, now: Instant) -> Option<Value> {
        let mut signal = Signal::Nothing;
        for stage in &mut self.stages {
            signal = match signal {
                Signal::Nothing => stage.due(now),
                // What an earlier stage says is news to this one.
                signal => stage.step(signal, now),
            };
        }
        value(signal)
    }

    /// A bad reading has been passed on.
    pub(crate) fn interrupted(&mut self) {
        self.stages.iter_mut().for_each(Stage::interrupted);
    }

    /// The device is lost: what comes next is another time.
    pub(crate) fn reset(&mut self) {
        self.stages.iter_mut().for_each(Stage::reset);
    }
}

fn value(signal: Signal) -> Option<Value> {
    match signal {
        Signal::Datum(datum) => Some(Value::Good(datum)),
        Signal::Stale => Some(Value::Bad(Fault::Stale)),
        Signal::Held | Signal::Nothing => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    /// `filters = […]` as in the file.
    pub(super) fn filters(text: &str) -> Vec<Filter> {
        #[derive(serde::Deserialize)]
        struct File {
            filters: Vec<Filter>,
        }
        toml::from_str::<File>(&format!("filters = [{text}]")).unwrap().filters
    }

    /// Feeds one value a second; gives what comes out, with `-` for nothing.
    fn fed(text: &str, values: &[f64]) -> Vec<String> {
        let mut chain = Chain::new(&filters(text));
        let begin = Instant::now();
        let at = |second: usize| begin + Duration::from_secs(second as u64);
        let shown = |value: Option<Value>| match value {
            Some(Value::Good(Datum::Number(number))) => number.to_string(),
            Some(value) => value.reason().unwrap_or("?").to_owned(),
            None => "-".to_owned(),
        };
        let feed = |(second, value): (usize, &f64)| {
            let due = chain.due(at(second));
            assert!(due.is_none(), "a timer ran out between two values");
            shown(chain.push(Datum::Number(*value), at(second)))
        };
        values.iter().enumerate().map(feed).collect()
    }

    #[test]
    fn values_are_changed_as_the_names_say() {
        assert_eq!(fed("{ median = 3 }", &[1.0, 9.0, 2.0, 3.0]), ["1", "5", "2", "3"]);
        let every = "{ median = { window_size = 3, send_every = 2 } }";
        assert_eq!(fed(every, &[1.0, 9.0, 2.0, 3.0]), ["1", "-", "2", "-"]);
        let mean = "{ sliding_window_moving_average = 2 }";
        assert_eq!(fed(mean, &[1.0, 3.0, 5.0]), ["1", "2", "4"]);
        let average = "{ exponential_moving_average = 0.5 }";
        assert_eq!(fed(average, &[8.0, 0.0, 0.0]), ["8", "4", "2"]);
        assert_eq!(fed("{ clamp = { min = 0, max = 2 } }", &[-1.0, 1.0, 3.0]), ["0", "1", "2"]);
        let ignoring = "{ clamp = { max = 2, ignore_out_of_range = true } }";
        assert_eq!(fed(ignoring, &[-1.0, 3.0]), ["-1", "-"]);
        assert_eq!(fed("{ calibrate_linear = [[0, 1], [10, 21]] }", &[5.0]), ["11"]);
        let square =
            "{ calibrate_polynomial = { degree = 2, datapoints = [[0, 0], [1, 1], [3, 9]] } }";
        assert_eq!(
            fed(&format!("{square}, {{ delta = 0 }}"), &[4.0])[0].parse::<f64>().unwrap().round(),
            16.0
        );
    }

    #[test]
    fn values_are_held_back_as_the_names_say() {
        assert_eq!(fed("{ filter_out = 85 }", &[85.0, 21.0, 85.001]), ["-", "21", "85.001"]);
        assert_eq!(fed("{ filter_out = [0, 85] }", &[85.0, 0.0, 1.0]), ["-", "-", "1"]);
        assert_eq!(fed("{ delta = 1 }", &[1.0, 1.5, 2.0, 2.5, 0.5]), ["1", "-", "2", "-", "0.5"]);
        assert_eq!(fed("{ delta = '10%' }", &[100.0, 105.0, 111.0]), ["100", "-", "111"]);
        assert_eq!(fed("{ throttle = '2s' }", &[1.0, 2.0, 3.0, 4.0]), ["1", "-", "3", "-"]);
        let beat = "{ delta = 1 }, { heartbeat = '3s' }";
        assert_eq!(fed(beat, &[1.0, 1.1, 1.2, 1.3, 1.4, 5.0]), ["1", "-", "-", "1", "-", "5"]);
    }

    #[test]
    fn debounce_waits_for_quiet_and_timeout_for_silence() {
        let begin = Instant::now();
        let at = |ms| begin + Duration::from_millis(ms);
        let mut chain = Chain::new(&filters("{ debounce = '50ms' }"));
        assert_eq!(chain.push(true.into(), at(0)), None);
        assert_eq!(chain.push(false.into(), at(40)), None);
        assert_eq!((chain.next(), chain.due(at(89))), (Some(at(90)), None));
        assert_eq!(chain.due(at(90)), Some(Value::Good(false.into())));
        assert_eq!(chain.next(), None);

        let mut chain = Chain::new(&filters("{ timeout = '1s' }, { delta = 1 }"));
        assert_eq!(chain.next(), None, "nothing has come yet");
        assert_eq!(chain.push(Datum::Number(1.0), at(0)), Some(Value::Good(Datum::Number(1.0))));
        assert_eq!(chain.due(at(1000)), Some(Value::Bad(Fault::Stale)));
        assert_eq!((chain.next(), chain.due(at(5000))), (None, None), "said once");
        let again = chain.push(Datum::Number(1.0), at(6000));
        assert_eq!(again, Some(Value::Good(Datum::Number(1.0))), "good again, so it is said");

        let mut chain = Chain::new(&filters("{ timeout = { timeout = '1s', value = -1 } }"));
        chain.push(Datum::Number(1.0), at(0));
        assert_eq!(chain.due(at(1000)), Some(Value::Good(Datum::Number(-1.0))));
    }

    #[test]
    fn after_a_bad_reading_an_unchanged_value_is_said_again() {
        for text in ["{ delta = 1 }", "{ throttle = '1h' }"] {
            let mut chain = Chain::new(&filters(text));
            let now = Instant::now();
            assert!(chain.push(Datum::Number(1.0), now).is_some());
            assert!(chain.push(Datum::Number(1.0), now).is_none());
            chain.interrupted();
            assert!(chain.push(Datum::Number(1.0), now).is_some(), "{text}");
        }
    }

    const ANY: &[&str] = &[
        "{ calibrate_linear = [[0, 1], [10, 21]] }",
        "{ calibrate_polynomial = { degree = 2, datapoints = [[0, 0], [1, 1], [3, 9]] } }",
        "{ median = 5 }",
        "{ clamp = { min = -50, max = 50 } }",
        "{ filter_out = 7 }",
        "{ delta = 2 }",
        "{ throttle = '3s' }",
        "{ heartbeat = '10s' }",
        "{ exponential_moving_average = { alpha = 0.3, send_every = 2 } }",
        "{ sliding_window_moving_average = { window_size = 4, send_every = 3 } }",
        "{ debounce = '2s' }",
        "{ timeout = '20s' }",
    ];

    proptest! {
        /// Whatever the chain and whatever comes: no panic, never a number that
        /// isn't finite or a datum of another type, timers always end, and with
        /// nothing new nothing but "stale" and what a debounce held is said.
        #[test]
        fn every_chain_keeps_its_promises(
            chosen in proptest::collection::vec(0..ANY.len(), 0..5),
            inputs in proptest::collection::vec((-1e6..1e6_f64, 0..8_u64), 1..60),
        ) {
            let text: Vec<&str> = chosen.iter().map(|place| ANY[*place]).collect();
            let mut chain = Chain::new(&filters(&text.join(", ")));
            let mut now = Instant::now();
            let sound = |value: &Option<Value>| match value {
                Some(Value::Good(Datum::Number(number))) => number.is_finite(),
                Some(value) => *value == Value::Bad(Fault::Stale),
                None => true,
            };
            for (number, pause) in inputs {
                now += Duration::from_secs(pause);
                while chain.next().is_some_and(|next| next <= now) {
                    prop_assert!(sound(&chain.due(now)));
                }
                prop_assert!(sound(&chain.push(Datum::Number(number), now)));
            }
            let mut said = 0;
            for _ in 0..100 {
                let Some(next) = chain.next() else { break };
                prop_assert!(next >= now, "a timer that has run out stays");
                now = next;
                said += u32::from(chain.due(now).is_some());
            }
            prop_assert_eq!(chain.next(), None, "silence must come to an end");
            prop_assert!(said as usize <= 2 * ANY.len());
        }

        /// A median is one of the window's values, or the mean of two, and a
        /// single spike never shows.
        #[test]
        fn a_median_hides_a_spike(level in -100.0..100.0_f64, spike in -1e9..1e9_f64) {
            let seen = fed("{ median = 5 }", &[level, level, level, spike, level]);
            prop_assert_eq!(&seen[3..], [level.to_string(), level.to_string()]);
        }
    }
}
