//! Filters as the file has them: `filters = [{ median = 5 }, { delta = 0.1 }]`.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use reading::{Datum, Kind};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::fit;

/// The longest window: more is the business of whoever draws the chart.
const WINDOW_MAX: usize = 10_000;
/// A higher degree follows the errors of the points.
const DEGREE_MAX: usize = 6;

/// One filter.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[expect(clippy::enum_variant_names, reason = "`filter_out` is ESPHome's word")]
pub(crate) enum Filter {
    /// Straight line through [measured, true] points, by least squares:
    /// `calibrate_linear = [[0, 0.4], [100, 99.1]]`.
    CalibrateLinear(Vec<[f64; 2]>),
    /// Polynomial through points, by least squares: `calibrate_polynomial =
    /// { degree = 2, datapoints = [[0, 0], [10, 12], [13, 16], [22, 30]] }`.
    CalibratePolynomial(Polynomial),
    /// The middle value of the last so many: `median = 5`, or `median =
    /// { window_size = 5, send_every = 5, send_first_at = 1 }`.
    Median(Window),
    /// Values outside become the nearest inside: `clamp = { min = 0, max = 10,
    /// ignore_out_of_range = false }`; with true they are left out.
    Clamp(Clamp),
    /// These values are left out: `filter_out = 85`, or a list of them.
    FilterOut(Values),
    /// A value is left out unless it differs by so much from the last, as a
    /// number or as a share of the last: `delta = 0.1`, `delta = "5%"`.
    Delta(Delta),
    /// A value is left out so long after the last: `throttle = "1s"`.
    Throttle(
        #[serde(with = "humantime_serde")]
        #[schemars(with = "String")]
        Duration,
    ),
    /// What an earlier filter holds back is let through so long after the last,
    /// as the last: `heartbeat = "60s"`. A silent device stays silent.
    Heartbeat(
        #[serde(with = "humantime_serde")]
        #[schemars(with = "String")]
        Duration,
    ),
    /// A share of the new value and the rest of the average before:
    /// `exponential_moving_average = 0.1`, or with { alpha, send_every, send_first_at }.
    ExponentialMovingAverage(Average),
    /// The mean of the last so many: `sliding_window_moving_average = 10`, or as
    /// `median` has it.
    SlidingWindowMovingAverage(Window),
    /// A value counts only when no other follows for so long: `debounce = "50ms"`.
    Debounce(
        #[serde(with = "humantime_serde")]
        #[schemars(with = "String")]
        Duration,
    ),
    /// No value for so long is a value of its own, or a bad reading, `stale`:
    /// `timeout = "5min"`, or `timeout = { timeout = "5min", value = 0 }`.
    Timeout(Timeout),
}

/// Of `calibrate_polynomial`.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Polynomial {
    /// 1 is a straight line.
    pub(super) degree: usize,
    /// [measured, true], more of them than the degree.
    pub(super) datapoints: Vec<[f64; 2]>,
}

/// Of `clamp`.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Clamp {
    /// The lowest value.
    pub(super) min: Option<f64>,
    /// The highest value.
    pub(super) max: Option<f64>,
    /// Leave values outside out instead.
    #[serde(default)]
    pub(super) ignore_out_of_range: bool,
}

/// Of `median` and `sliding_window_moving_average`: a number, or a table.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Window {
    pub(super) size: usize,
    pub(super) send: Turns,
}

/// Of `exponential_moving_average`: a number, or a table.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Average {
    pub(super) alpha: f64,
    pub(super) send: Turns,
}

/// Which of the results are given: every so manieth.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Turns {
    pub(super) every: usize,
    pub(super) first_at: usize,
}

/// Of `filter_out`: a value or a list of them.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Values(pub(super) Vec<Datum>);

/// Of `delta`: a number, or a share of the last value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Delta {
    /// In the channel's unit.
    Absolute(f64),
    /// 0.05 for "5%".
    Share(f64),
}

/// Of `timeout`: a duration, or a table.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Timeout {
    pub(super) after: Duration,
    pub(super) value: Option<f64>,
}

/// What is wrong with a filter of a channel of this kind, if anything.
pub(crate) fn check(filter: &Filter, kind: Kind) -> Option<String> {
    let numbers = |name: &str| {
        (kind != Kind::Number)
            .then(|| format!("`{name}` is for numbers, and this is a {}", kind.as_str()))
    };
    let positive = |duration: Duration| {
        duration.is_zero().then(|| "expected a duration such as 250ms, 1s, 15min, 30d".to_owned())
    };
    let points = |degree: usize, points: &[[f64; 2]]| {
        let finite = points.iter().flatten().all(|number| number.is_finite());
        (!finite || fit::polynomial(degree, points).is_none()).then(|| {
            format!("expected {} or more points [measured, true], each measured once", degree + 1)
        })
    };
    match filter {
        Filter::CalibrateLinear(line) => numbers("calibrate_linear").or_else(|| points(1, line)),
        Filter::CalibratePolynomial(Polynomial { degree, datapoints }) => {
            numbers("calibrate_polynomial").or_else(|| match degree {
                1..=DEGREE_MAX => points(*degree, datapoints),
                _ => Some(format!("expected a degree from 1 to {DEGREE_MAX}")),
            })
        }
        Filter::Median(window) => numbers("median").or_else(|| window.check()),
        Filter::SlidingWindowMovingAverage(window) => {
            numbers("sliding_window_moving_average").or_else(|| window.check())
        }
        Filter::Clamp(Clamp { min, max, .. }) => numbers("clamp").or_else(|| {
            let (low, high) = (min.unwrap_or(f64::MIN), max.unwrap_or(f64::MAX));
            let sound = low <= high && low.is_finite() && high.is_finite();
            (!sound || min.is_none() && max.is_none())
                .then(|| "expected `min`, `max` or both, and `min` below `max`".to_owned())
        }),
        Filter::FilterOut(Values(values)) => {
            let other = values.iter().any(|value| value.kind() != kind);
            other.then(|| format!("expected values that are each a {}", kind.as_str()))
        }
        Filter::Delta(Delta::Absolute(by) | Delta::Share(by)) => numbers("delta").or_else(|| {
            let sound = by.is_finite() && *by >= 0.0;
            (!sound)
                .then(|| "expected a number, not negative, or a share such as \"5%\"".to_owned())
        }),
        Filter::ExponentialMovingAverage(average) => {
            numbers("exponential_moving_average").or_else(|| {
                let sound = average.alpha > 0.0 && average.alpha <= 1.0;
                let share = (!sound).then(|| "expected an alpha above 0, up to 1".to_owned());
                share.or_else(|| average.send.check())
            })
        }
        Filter::Throttle(after) | Filter::Heartbeat(after) | Filter::Debounce(after) => {
            positive(*after)
        }
        Filter::Timeout(Timeout { after, value }) => positive(*after).or_else(|| {
            let number = value.map(|_| numbers("value")).unwrap_or_default();
            let finite = value.is_none_or(f64::is_finite);
            number.or_else(|| (!finite).then(|| "expected a finite value".to_owned()))
        }),
    }
}

impl Window {
    fn check(&self) -> Option<String> {
        let sound = (1..=WINDOW_MAX).contains(&self.size);
        let size = (!sound).then(|| format!("expected a window of 1 to {WINDOW_MAX} values"));
        size.or_else(|| self.send.check())
    }
}

impl Turns {
    const EACH: Turns = Turns { every: 1, first_at: 1 };

    /// From a table: ESPHome gives the first result at once, too.
    fn of(every: Option<usize>, first_at: Option<usize>) -> Turns {
        Turns { every: every.unwrap_or(1), first_at: first_at.unwrap_or(1) }
    }

    fn check(&self) -> Option<String> {
        let sound = self.every >= 1 && (1..=self.every).contains(&self.first_at);
        (!sound).then(|| {
            "expected `send_every` of 1 or more, and `send_first_at` from 1 to it".to_owned()
        })
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct WindowTable {
    window_size: usize,
    send_every: Option<usize>,
    send_first_at: Option<usize>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct AverageTable {
    alpha: f64,
    send_every: Option<usize>,
    send_first_at: Option<usize>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct TimeoutTable {
    #[serde(with = "humantime_serde")]
    #[schemars(with = "String")]
    timeout: Duration,
    value: Option<f64>,
}

/// A type that is one thing in short and a table in full, read without serde's
/// `untagged`, which would lose the place of an error.
macro_rules! short_or_table {
    ($type:ident, $table:ident, $expecting:literal, $schema:tt, $full:expr, $($visit:item)+) => {
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(input: D) -> Result<$type, D::Error> {
                struct Either;
                impl<'de> Visitor<'de> for Either {
                    type Value = $type;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str($expecting)
                    }

                    $($visit)+

                    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<$type, A::Error> {
                        let full: fn($table) -> $type = $full;
                        $table::deserialize(MapAccessDeserializer::new(map)).map(full)
                    }
                }
                input.deserialize_any(Either)
            }
        }

        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(generator: &mut SchemaGenerator) -> Schema {
                let table = $table::json_schema(generator);
                json_schema!({ "anyOf": [$schema, table] })
            }
        }
    };
}

short_or_table! {
    Window, WindowTable, "a number of values, or { window_size = …, send_every = … }",
    { "type": "integer", "minimum": 1 },
    |t| Window { size: t.window_size, send: Turns::of(t.send_every, t.send_first_at) },
    fn visit_i64<E: de::Error>(self, size: i64) -> Result<Window, E> {
        let size = usize::try_from(size).map_err(|_| {
            E::invalid_value(de::Unexpected::Signed(size), &self)
        })?;
        Ok(Window { size, send: Turns::EACH })
    }
}

short_or_table! {
    Average, AverageTable, "the share of the new value, or { alpha = …, send_every = … }",
    { "type": "number" },
    |t| Average { alpha: t.alpha, send: Turns::of(t.send_every, t.send_first_at) },
    fn visit_f64<E>(self, alpha: f64) -> Result<Average, E> {
        Ok(Average { alpha, send: Turns::EACH })
    }
    fn visit_i64<E>(self, alpha: i64) -> Result<Average, E> {
        Ok(Average { alpha: alpha as f64, send: Turns::EACH })
    }
}

short_or_table! {
    Timeout, TimeoutTable, "a duration such as 250ms, 1s, 15min, 30d, or { timeout = …, value = … }",
    { "type": "string" },
    |t| Timeout { after: t.timeout, value: t.value },
    fn visit_str<E: de::Error>(self, text: &str) -> Result<Timeout, E> {
        let after = humantime::parse_duration(text);
        let after = after.map_err(|_| E::invalid_value(de::Unexpected::Str(text), &self))?;
        Ok(Timeout { after, value: None })
    }
}

impl<'de> Deserialize<'de> for Delta {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Delta, D::Error> {
        struct Either;
        impl Visitor<'_> for Either {
            type Value = Delta;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number, or a share such as \"5%\"")
            }

            fn visit_f64<E>(self, by: f64) -> Result<Delta, E> {
                Ok(Delta::Absolute(by))
            }

            fn visit_i64<E>(self, by: i64) -> Result<Delta, E> {
                Ok(Delta::Absolute(by as f64))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Delta, E> {
                let share = text.strip_suffix('%').and_then(|share| share.trim().parse().ok());
                let share: f64 =
                    share.ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))?;
                Ok(Delta::Share(share / 100.0))
            }
        }
        input.deserialize_any(Either)
    }
}

impl JsonSchema for Delta {
    fn schema_name() -> Cow<'static, str> {
        "Delta".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["number", "string"], "pattern": "%$" })
    }
}

impl<'de> Deserialize<'de> for Values {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Values, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Values;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value, or a list of values")
            }

            fn visit_f64<E>(self, number: f64) -> Result<Values, E> {
                Ok(Values(vec![Datum::Number(number)]))
            }

            fn visit_i64<E>(self, number: i64) -> Result<Values, E> {
                Ok(Values(vec![Datum::Number(number as f64)]))
            }

            fn visit_bool<E>(self, truth: bool) -> Result<Values, E> {
                Ok(Values(vec![truth.into()]))
            }

            fn visit_str<E>(self, text: &str) -> Result<Values, E> {
                Ok(Values(vec![text.into()]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Values, A::Error> {
                let mut all = Vec::new();
                while let Some(Values(more)) = list.next_element()? {
                    all.extend(more);
                }
                Ok(Values(all))
            }
        }
        input.deserialize_any(Either)
    }
}

impl JsonSchema for Values {
    fn schema_name() -> Cow<'static, str> {
        "Values".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["number", "boolean", "string", "array"] })
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::filters;
    use super::*;

    #[test]
    fn what_serde_cannot_see_is_checked() {
        let wrong = |text: &str, kind| check(&filters(text)[0], kind);
        for (text, word) in [
            ("{ median = 0 }", "window"),
            (
                "{ median = { window_size = 3, send_every = 2, send_first_at = 3 } }",
                "send_first_at",
            ),
            ("{ calibrate_linear = [[0, 1]] }", "2 or more points"),
            ("{ calibrate_linear = [[1, 1], [1, 2]] }", "measured once"),
            ("{ calibrate_polynomial = { degree = 9, datapoints = [] } }", "degree"),
            ("{ clamp = {} }", "min"),
            ("{ clamp = { min = 2, max = 1 } }", "below"),
            ("{ delta = -1 }", "not negative"),
            ("{ exponential_moving_average = 2 }", "alpha"),
            ("{ throttle = '0s' }", "duration"),
            ("{ filter_out = 'x' }", "number"),
        ] {
            let message = wrong(text, Kind::Number).unwrap();
            assert!(message.contains(word), "{text}: {message}");
        }
        assert_eq!(wrong("{ median = 3 }", Kind::Number), None);
        assert_eq!(wrong("{ debounce = '1s' }", Kind::Boolean), None);
        assert_eq!(wrong("{ filter_out = ['', 'n/a'] }", Kind::Text), None);
        let message = wrong("{ delta = 1 }", Kind::Boolean).unwrap();
        assert_eq!(message, "`delta` is for numbers, and this is a boolean");
    }
}
