//! From the bytes of a port to samples: lines, and the formats of a line.
//!
//! Nothing here can fail: what isn't understood is counted and left out, and
//! the next line is a fresh start. A line is parsed where it lies in the
//! buffer, and no byte is looked at twice for its end.

mod csv;
mod frames;
mod json;
mod keyvalue;
mod reader;
mod regex;

use std::borrow::Cow;
use std::fmt;

use reading::{Datum, Fault, Kind, Value};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserialize, Deserializer, Unexpected, Visitor};

use crate::Batch;

pub(crate) use csv::Csv;
pub(crate) use frames::{Frame, Frames};
pub(crate) use json::Json;
pub(crate) use keyvalue::KeyValue;
pub(crate) use reader::Lines;
pub(crate) use regex::Pattern;

/// How much of a line that wasn't understood is shown.
const SHOWN_MAX: usize = 120;
/// The highest number of a cell or group: no line has more cells.
const PLACE_MAX: usize = 1000;

/// Which cell of a line or which group of an expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// By its number, from 1.
    Number(usize),
    /// By its name, in the header or as `(?<name>…)`.
    Name(String),
}

/// How the lines are to be understood.
#[derive(Clone)]
pub(crate) enum Format {
    Json(Json),
    Csv(Csv),
    KeyValue(KeyValue),
    Regex(Pattern),
}

/// A line that isn't of the format.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NotUnderstood;

/// A value as a line has it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Scalar<'a> {
    Number(f64),
    Boolean(bool),
    Text(&'a str),
}

impl Format {
    /// Adds the values of one line, or counts it as noise. Of a line that isn't
    /// understood to its end nothing is kept: half of it may be wrong.
    pub(crate) fn parse(&mut self, line: &[u8], batch: &mut Batch) {
        if self.values(line, batch).is_err() {
            batch.noise(|| shown(line));
        }
    }

    /// The same for a line whose beginning may be missing, which is no noise.
    pub(crate) fn parse_cut(&mut self, line: &[u8], batch: &mut Batch) {
        // Only JSON shows that its beginning is there: "21.5,40" and "1.5,40"
        // are both fine lines, and the second would be a silent lie.
        if matches!(self, Format::Json(_)) {
            _ = self.values(line, batch);
        }
    }

    fn values(&mut self, line: &[u8], batch: &mut Batch) -> Result<(), NotUnderstood> {
        let before = batch.samples.len();
        let understood = match self {
            Format::Json(format) => format.parse(line, batch),
            Format::Csv(format) => text(line).and_then(|line| format.parse(line, batch)),
            Format::KeyValue(format) => text(line).and_then(|line| format.parse(line, batch)),
            Format::Regex(format) => text(line).and_then(|line| format.parse(line, batch)),
        };
        if understood.is_err() {
            batch.samples.truncate(before);
        }
        understood
    }
}

/// What a person sees of a line in the log.
pub(crate) fn shown(line: &[u8]) -> String {
    let end = line.len().min(SHOWN_MAX);
    let more = if end < line.len() { "…" } else { "" };
    format!("{}{more}", line[..end].escape_ascii())
}

fn text(line: &[u8]) -> Result<&str, NotUnderstood> {
    std::str::from_utf8(line).map_err(|_| NotUnderstood)
}

/// What a line says of a channel, in the channel's type; bad when it can't be.
pub(crate) fn value(kind: Kind, scalar: Scalar<'_>) -> Value {
    let datum = match (kind, scalar) {
        (Kind::Number, Scalar::Number(number)) => Datum::number(number),
        (Kind::Number, Scalar::Text(text)) => text.trim().parse().ok().and_then(Datum::number),
        (Kind::Boolean, Scalar::Boolean(truth)) => Some(Datum::Boolean(truth)),
        (Kind::Boolean, Scalar::Number(number)) if number == 0.0 || number == 1.0 => {
            Some(Datum::Boolean(number == 1.0))
        }
        (Kind::Boolean, Scalar::Text(text)) => truth(text.trim()).map(Datum::Boolean),
        (Kind::Text, Scalar::Text(text)) => Some(Datum::from(text)),
        (Kind::Text, Scalar::Number(number)) => Some(Datum::from(number.to_string().as_str())),
        (Kind::Text, Scalar::Boolean(truth)) => {
            Some(Datum::from(if truth { "true" } else { "false" }))
        }
        (Kind::Number, Scalar::Boolean(_)) | (Kind::Boolean, Scalar::Number(_)) => None,
    };
    datum.map_or(Value::Bad(Fault::Corrupt), Value::Good)
}

fn truth(text: &str) -> Option<bool> {
    let is = |words: [&str; 4]| words.iter().any(|word| text.eq_ignore_ascii_case(word));
    if is(["true", "on", "yes", "1"]) {
        Some(true)
    } else if is(["false", "off", "no", "0"]) {
        Some(false)
    } else {
        None
    }
}

impl<'de> Deserialize<'de> for Place {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Place, D::Error> {
        struct Either;
        impl Visitor<'_> for Either {
            type Value = Place;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number from 1, or a name in quotes")
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Place, E> {
                match usize::try_from(number) {
                    Ok(number @ 1..=PLACE_MAX) => Ok(Place::Number(number)),
                    _ => Err(E::invalid_value(Unexpected::Signed(number), &self)),
                }
            }

            fn visit_str<E>(self, name: &str) -> Result<Place, E> {
                Ok(Place::Name(name.to_owned()))
            }
        }
        input.deserialize_any(Either)
    }
}

impl JsonSchema for Place {
    fn schema_name() -> Cow<'static, str> {
        "Place".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["integer", "string"], "minimum": 1, "maximum": PLACE_MAX })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_value_becomes_the_type_of_its_channel_or_is_bad() {
        let bad = Value::Bad(Fault::Corrupt);
        let good = |datum: &Value| datum.datum().cloned();
        assert_eq!(value(Kind::Number, Scalar::Text(" 21.5 ")).number(), Some(21.5));
        assert_eq!(value(Kind::Number, Scalar::Text("NaN")), bad);
        assert_eq!(value(Kind::Number, Scalar::Boolean(true)), bad);
        for (text, truth) in [("on", true), ("OFF", false), ("1", true), ("no", false)] {
            let found = value(Kind::Boolean, Scalar::Text(text));
            assert_eq!(good(&found), Some(Datum::Boolean(truth)), "{text}");
        }
        assert_eq!(value(Kind::Boolean, Scalar::Number(2.0)), bad);
        assert_eq!(good(&value(Kind::Text, Scalar::Number(2.0))), Some(Datum::from("2")));
    }

    proptest! {
        /// Whatever a noisy line brings: no panic, and no value of another type.
        #[test]
        fn no_bytes_can_stop_a_format(line in proptest::collection::vec(any::<u8>(), 0..200)) {
            let wants = [("t".to_owned(), Kind::Number), ("on".to_owned(), Kind::Boolean)];
            let columns = [(Place::Number(1), Kind::Number), (Place::Number(3), Kind::Text)];
            let groups = [(Place::Number(1), Kind::Number)];
            for mut format in [
                Format::Json(Json::new(&wants)),
                Format::KeyValue(KeyValue::new(&wants)),
                Format::Csv(Csv::new(b',', &columns)),
                Format::Regex(Pattern::new("([0-9.]+)", &groups).unwrap()),
            ] {
                let mut batch = Batch::default();
                format.parse(&line, &mut batch);
                prop_assert!(batch.noise <= 1 && (batch.noise == 0 || batch.samples.is_empty()));
            }
        }
    }
}
