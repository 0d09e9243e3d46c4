//! Alarms of one channel: raised when a value has been where it shouldn't for
//! long enough, cleared when it is back.
//!
//! What is raised is a reading of the channel's own alarm channel, the text of
//! `device/channel/alarm`: the messages of all that are raised, joined by `; `,
//! and empty when none is. A bad reading changes nothing: nobody knows better.

use std::time::Duration;

use reading::{Channel, ChannelSpec, Datum, Kind, Unit, Value};
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::time::Instant;

/// Alarms of one channel: more are no help to whoever has to act.
pub(crate) const ALARMS_MAX: usize = 8;

/// `{ above = 30, for = "5min", clear = 28, message = "…" }`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Alarm {
    /// Raised above this number,
    pub(crate) above: Option<f64>,
    /// or below this one,
    pub(crate) below: Option<f64>,
    /// or when the value is this: true, false, or a text.
    pub(crate) is: Option<Is>,
    /// Only once it has been so for this long.
    #[serde(default, rename = "for", with = "humantime_serde")]
    #[schemars(with = "String")]
    pub(crate) lasting: Duration,
    /// Cleared below this number (or above it, with `below`); by default where
    /// it is raised.
    pub(crate) clear: Option<f64>,
    /// What people are told; by default what has happened.
    pub(crate) message: Option<String>,
    /// An output, as device/channel, that is on while the alarm is raised.
    pub(crate) output: Option<String>,
}

/// What a value is compared with.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum Is {
    /// A truth.
    Boolean(bool),
    /// A text.
    Text(String),
}

/// An output is to be on or off on behalf of an alarm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Driven {
    /// The alarm: of several that drive one output, one raised is enough.
    pub alarm: (Channel, usize),
    /// The output.
    pub output: Channel,
    /// Whether the alarm is raised.
    pub on: bool,
}

/// The alarms of one channel while its device runs.
#[derive(Debug)]
pub(crate) struct Alarms {
    alarms: Vec<State>,
    /// What was told last; nothing before the first good reading.
    told: Option<String>,
}

#[derive(Debug)]
struct State {
    alarm: Alarm,
    /// Since when the value is where it shouldn't be.
    since: Option<Instant>,
    raised: bool,
    /// Whether the output knows.
    driven: bool,
}

/// The channel that the alarms of a channel are told on.
pub(crate) fn spec(of: &ChannelSpec) -> ChannelSpec {
    let name = of.label.as_deref().unwrap_or(of.channel.name());
    ChannelSpec {
        channel: of.channel.alarm(),
        kind: Kind::Text,
        unit: Unit::default(),
        label: Some(format!("{name}: alarm")),
        range: None,
        output: false,
    }
}

/// What is wrong with an alarm on a channel of this kind: the key, and the mend.
pub(crate) fn check(alarm: &Alarm, kind: Kind) -> Option<(&'static str, String)> {
    let conditions = [alarm.above.is_some(), alarm.below.is_some(), alarm.is.is_some()];
    if conditions.iter().filter(|given| **given).count() != 1 {
        return Some(("above", "give one of `above`, `below` and `is`".to_owned()));
    }
    for (key, given) in [("above", alarm.above), ("below", alarm.below), ("clear", alarm.clear)] {
        let Some(number) = given else { continue };
        if kind != Kind::Number {
            return Some((
                key,
                format!("only a number has it, and this is a {}: use `is`", kind.as_str()),
            ));
        }
        if !number.is_finite() {
            return Some((key, "expected a finite number".to_owned()));
        }
    }
    match (&alarm.is, kind) {
        (None, _) | (Some(Is::Boolean(_)), Kind::Boolean) | (Some(Is::Text(_)), Kind::Text) => (),
        (Some(_), Kind::Number) => {
            return Some((
                "is",
                "a number is hardly ever exactly so: use `above` or `below`".into(),
            ));
        }
        (Some(_), kind) => return Some(("is", format!("expected a {}", kind.as_str()))),
    }
    match (alarm.above, alarm.below, alarm.clear) {
        (_, _, Some(_)) if alarm.is.is_some() => {
            Some(("clear", "only with `above` or `below`".to_owned()))
        }
        (Some(above), _, Some(clear)) if clear > above => {
            Some(("clear", format!("expected {above} or less: it is raised above that")))
        }
        (_, Some(below), Some(clear)) if clear < below => {
            Some(("clear", format!("expected {below} or more: it is raised below that")))
        }
        _ if alarm.output.as_ref().is_some_and(|name| name.parse::<Channel>().is_err()) => {
            Some(("output", "expected an output as device/channel, such as \"panel/siren\"".into()))
        }
        _ => None,
    }
}

impl Alarms {
    pub(crate) fn new(alarms: &[Alarm]) -> Alarms {
        let state = |alarm: &Alarm| State {
            alarm: alarm.clone(),
            since: None,
            raised: false,
            driven: false,
        };
        Alarms { alarms: alarms.iter().map(state).collect(), told: None }
    }

    /// A value has been read.
    pub(crate) fn see(&mut self, value: &Value, now: Instant) {
        let Some(datum) = value.datum() else { return };
        for state in &mut self.alarms {
            state.see(datum, now);
        }
        if !self.alarms.is_empty() {
            self.told.get_or_insert_with(|| "\0".to_owned());
        }
    }

    /// Nothing is known any more; what is raised stays raised.
    pub(crate) fn interrupted(&mut self) {
        self.alarms.iter_mut().for_each(|state| state.since = None);
    }

    /// When one is to be raised, if nothing comes.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.alarms.iter().filter_map(State::due_at).min()
    }

    /// What is to be told, when it is another than before.
    pub(crate) fn news(&mut self, now: Instant) -> Option<String> {
        for state in &mut self.alarms {
            if state.due_at().is_some_and(|at| at <= now) {
                state.raised = true;
            }
        }
        let told = self.told.as_ref()?;
        let raised = self.alarms.iter().filter(|state| state.raised);
        let text = raised.map(|state| state.alarm.words()).collect::<Vec<_>>().join("; ");
        if *told == text {
            return None;
        }
        self.told = Some(text.clone());
        Some(text)
    }

    /// The outputs that have to follow.
    pub(crate) fn driven(&mut self, channel: &Channel) -> Vec<Driven> {
        let mut driven = Vec::new();
        for (place, state) in self.alarms.iter_mut().enumerate() {
            let Some(output) = state.alarm.output.as_ref().and_then(|name| name.parse().ok())
            else {
                continue;
            };
            if state.driven != state.raised {
                state.driven = state.raised;
                let alarm = (channel.clone(), place);
                driven.push(Driven { alarm, output, on: state.raised });
            }
        }
        driven
    }
}

impl State {
    fn see(&mut self, datum: &Datum, now: Instant) {
        if self.raised {
            self.raised = !self.alarm.is_cleared_by(datum);
            self.since = None;
        } else if self.alarm.is_raised_by(datum) {
            self.since.get_or_insert(now);
        } else {
            self.since = None;
        }
    }

    fn due_at(&self) -> Option<Instant> {
        self.since.filter(|_| !self.raised).map(|since| since + self.alarm.lasting)
    }
}

impl Alarm {
    fn is_raised_by(&self, datum: &Datum) -> bool {
        match datum {
            Datum::Number(number) => {
                self.above.is_some_and(|above| *number > above)
                    || self.below.is_some_and(|below| *number < below)
            }
            Datum::Boolean(truth) => self.is == Some(Is::Boolean(*truth)),
            Datum::Text(text) => matches!(&self.is, Some(Is::Text(is)) if **is == **text),
        }
    }

    fn is_cleared_by(&self, datum: &Datum) -> bool {
        match (datum, self.clear) {
            (Datum::Number(number), Some(clear)) if self.above.is_some() => *number < clear,
            (Datum::Number(number), Some(clear)) => *number > clear,
            _ => !self.is_raised_by(datum),
        }
    }

    fn words(&self) -> String {
        match (&self.message, self.above, self.below, &self.is) {
            (Some(message), ..) => message.clone(),
            (None, Some(above), ..) => format!("above {above}"),
            (None, _, Some(below), _) => format!("below {below}"),
            (None, _, _, Some(Is::Boolean(truth))) => format!("{truth}"),
            (None, _, _, Some(Is::Text(text))) => text.clone(),
            (None, None, None, None) => "alarm".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use reading::Fault;

    use super::*;

    fn alarms(text: &str) -> Vec<Alarm> {
        #[derive(Deserialize)]
        struct File {
            alarm: Vec<Alarm>,
        }
        toml::from_str::<File>(&format!("alarm = [{text}]")).unwrap().alarm
    }

    /// What is told of one value a second; `-` is a bad reading, `.` none.
    fn told(text: &str, values: &str) -> Vec<String> {
        let begin = Instant::now();
        let mut alarms = Alarms::new(&alarms(text));
        let mut told = Vec::new();
        for (second, value) in values.split(' ').enumerate() {
            let now = begin + Duration::from_secs(second as u64);
            match value {
                "." => (),
                "-" => alarms.see(&Value::Bad(Fault::Timeout), now),
                number => alarms.see(&Value::Good(Datum::Number(number.parse().unwrap())), now),
            }
            if let Some(news) = alarms.news(now) {
                told.push(format!("{second}: {news}"));
            }
        }
        told
    }

    #[test]
    fn it_is_raised_after_a_while_and_cleared_with_a_margin() {
        let hot = "{ above = 30, for = \"2s\", clear = 28, message = \"too hot\" }";
        assert_eq!(told(hot, "20 31 31 29 31 31 31 29 28 27 29"), ["0: ", "6: too hot", "9: "]);
        // Nothing has to come for the time to pass; a bad reading says nothing.
        assert_eq!(told(hot, "- 31 . . . - 27"), ["1: ", "3: too hot", "6: "]);
        assert_eq!(told("{ below = 3 }", "5 2 4"), ["0: ", "1: below 3", "2: "]);
    }

    #[test]
    fn several_are_told_together() {
        let both = "{ above = 30, message = \"hot\" }, { above = 40, message = \"fire\" }";
        assert_eq!(told(both, "31 41 35 20"), ["0: hot", "1: hot; fire", "2: hot", "3: "]);
    }

    #[test]
    fn outputs_follow() {
        let channel: Channel = "weather/temperature".parse().unwrap();
        let mut alarms = Alarms::new(&alarms("{ above = 30, output = \"panel/fan\" }"));
        let mut driven = |number: f64| {
            let now = Instant::now();
            alarms.see(&Value::Good(Datum::Number(number)), now);
            alarms.news(now);
            alarms.driven(&channel).iter().map(|driven| driven.on).collect::<Vec<_>>()
        };
        let told: Vec<_> = [20.0, 31.0, 32.0, 29.0].map(&mut driven).into();
        assert_eq!(told, [vec![], vec![true], vec![], vec![false]]);
    }

    #[test]
    fn what_makes_no_sense_is_told_with_its_key() {
        for (kind, text, key) in [
            (Kind::Number, "{}", "above"),
            (Kind::Number, "{ above = 1, below = 2 }", "above"),
            (Kind::Number, "{ is = true }", "is"),
            (Kind::Number, "{ above = 1, clear = 2 }", "clear"),
            (Kind::Number, "{ below = 2, clear = 1 }", "clear"),
            (Kind::Number, "{ above = inf }", "above"),
            (Kind::Boolean, "{ above = 1 }", "above"),
            (Kind::Boolean, "{ is = \"a\" }", "is"),
            (Kind::Boolean, "{ is = true, output = \"fan\" }", "output"),
            (Kind::Text, "{ is = \"a\", clear = 1 }", "clear"),
        ] {
            let alarm = &alarms(text)[0];
            assert_eq!(check(alarm, kind).map(|(key, _)| key), Some(key), "{text}");
        }
        for (kind, text) in [
            (Kind::Number, "{ above = 30, for = \"5min\", clear = 28, message = \"m\" }"),
            (Kind::Boolean, "{ is = false, output = \"panel/siren\" }"),
            (Kind::Text, "{ is = \"error\" }"),
        ] {
            assert_eq!(check(&alarms(text)[0], kind), None, "{text}");
        }
    }

    proptest! {
        /// Whatever comes, it is raised exactly while a plain look back says so.
        #[test]
        fn it_is_as_a_look_back_says(values in prop::collection::vec(0_i32..10, 1..60)) {
            let text = "{ above = 6, for = \"3s\", clear = 4, message = \"a\" }";
            let mut raised = false;
            let mut expected = vec!["0: ".to_owned()];
            for (second, value) in values.iter().enumerate() {
                let long = second >= 3 && values[second - 3..=second].iter().all(|v| *v > 6);
                let before = raised;
                raised = if raised { *value >= 4 } else { long };
                if raised != before {
                    expected.push(format!("{second}: {}", if raised { "a" } else { "" }));
                }
            }
            let fed: Vec<String> = values.iter().map(ToString::to_string).collect();
            prop_assert_eq!(told(text, &fed.join(" ")), expected);
        }
    }
}
