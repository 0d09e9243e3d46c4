//! What a frame is: from its bytes to samples.
//!
//! A new format is a file here with a `new` and a
//! `parse(&mut self, frame, batch) -> Result<(), NotUnderstood>`, and an arm in
//! [`Format`]. It gives what it has found to its [`Fields`], as many of them as
//! it likes. Nothing here can fail: a frame that isn't understood is noise.

mod binary;
mod csv;
mod decimal;
mod json;
mod keyvalue;
mod nmea;
mod obis;
mod readout;
mod regex;
mod settings;
mod sml;
mod vedirect;

use std::borrow::Cow;
use std::fmt;

use reading::{Datum, Fault, Kind, Value};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserialize, Deserializer, Unexpected, Visitor};

use crate::Batch;
use crate::settings::meant;

pub(crate) use binary::{Binary, Field, FieldType};
pub(crate) use csv::Csv;
pub(crate) use json::Json;
pub(crate) use keyvalue::KeyValue;
pub(crate) use nmea::Nmea;
pub(crate) use obis::Registers;
pub(crate) use readout::Readout;
pub(crate) use regex::Pattern;
pub(crate) use settings::{FieldSettings, FormatKind, FormatSettings};
pub(crate) use sml::Sml;
pub(crate) use vedirect::VeDirect;

/// How much of a frame that wasn't understood is shown.
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

/// How the frames are to be understood.
#[derive(Clone)]
pub(crate) enum Format {
    Json(Json),
    Csv(Csv),
    KeyValue(KeyValue),
    Regex(Pattern),
    Binary(Binary),
    Nmea(Nmea),
    Readout(Readout),
    Sml(Sml),
    VeDirect(VeDirect),
}

/// How the texts of a device are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, JsonSchema)]
pub(crate) enum Encoding {
    /// As everything is today, ASCII included.
    #[default]
    #[serde(rename = "utf-8")]
    Utf8,
    /// ISO 8859-1, of older devices: one byte a letter.
    #[serde(rename = "latin-1")]
    Latin1,
}

impl Encoding {
    /// The frame in UTF-8, in `text` if it has to be written anew.
    pub(crate) fn utf8<'a>(self, frame: &'a [u8], text: &'a mut String) -> &'a [u8] {
        if self == Encoding::Utf8 || frame.is_ascii() {
            return frame;
        }
        text.clear();
        // The first 256 characters of Unicode are those of ISO 8859-1.
        text.extend(frame.iter().map(|&byte| char::from(byte)));
        text.as_bytes()
    }
}

/// A frame that isn't of the format, or whose checksum is wrong.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NotUnderstood;

/// A value as a line has it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Scalar<'a> {
    Number(f64),
    Boolean(bool),
    Text(&'a str),
}

/// The channels that want a field, by the field's name.
#[derive(Clone, Debug)]
pub(crate) struct Fields(Vec<(Box<str>, Kind)>);

impl Fields {
    /// A field for each channel, in order.
    pub(crate) fn new(fields: &[(String, Kind)]) -> Fields {
        Fields(fields.iter().map(|(name, kind)| (name.as_str().into(), *kind)).collect())
    }

    /// Gives a value to every channel that wants this field, in its type.
    pub(crate) fn give(&self, field: &str, scalar: Scalar<'_>, batch: &mut Batch) {
        for (channel, (wanted, kind)) in self.0.iter().enumerate() {
            if **wanted == *field {
                batch.push(channel, value(*kind, scalar));
            }
        }
    }

    /// The same when the device says that it has no value, and why.
    #[expect(dead_code, reason = "for the formats to come")]
    pub(crate) fn bad(&self, field: &str, fault: Fault, batch: &mut Batch) {
        for (channel, (wanted, _)) in self.0.iter().enumerate() {
            if **wanted == *field {
                batch.push(channel, Value::Bad(fault));
            }
        }
    }
}

impl Format {
    /// Adds the values of one frame. Of a frame that isn't understood to its end
    /// nothing is kept: half of it may be wrong.
    ///
    /// # Errors
    /// When it isn't of this format.
    pub(crate) fn parse(&mut self, frame: &[u8], batch: &mut Batch) -> Result<(), NotUnderstood> {
        let before = batch.samples.len();
        let understood = match self {
            Format::Json(format) => format.parse(frame, batch),
            Format::Csv(format) => text(frame).and_then(|line| format.parse(line, batch)),
            Format::KeyValue(format) => text(frame).and_then(|line| format.parse(line, batch)),
            Format::Regex(format) => text(frame).and_then(|line| format.parse(line, batch)),
            Format::Binary(format) => format.parse(frame, batch),
            Format::Nmea(format) => format.parse(frame, batch),
            Format::Readout(format) => format.parse(frame, batch),
            Format::Sml(format) => format.parse(frame, batch),
            Format::VeDirect(format) => format.parse(frame, batch),
        };
        if understood.is_err() {
            batch.samples.truncate(before);
        }
        understood
    }

    /// Whether a frame shows by itself that its beginning is there. "21.5,40" and
    /// "1.5,40" are both fine lines, and the second would be a silent lie.
    pub(crate) fn shows_its_beginning(&self) -> bool {
        match self {
            Format::Json(_) => true,
            // Each has a check sum, or a mark at its beginning.
            Format::Nmea(_) | Format::Readout(_) | Format::Sml(_) | Format::VeDirect(_) => true,
            Format::Binary(format) => format.has_checksum(),
            Format::Csv(_) | Format::KeyValue(_) | Format::Regex(_) => false,
        }
    }
}

/// That a published protocol has no such field, which one was meant, or which there
/// are.
fn unknown(name: &str, known: impl Iterator<Item = &'static str>, or: &str) -> String {
    let names: Vec<_> = known.collect();
    match meant(name, &names) {
        Some(meant) => format!("unknown field \"{name}\"; did you mean \"{meant}\"?"),
        None => {
            let names: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
            format!("unknown field \"{name}\"; there are {}, and {or}", names.join(", "))
        }
    }
}

/// What a person sees of a frame in the log.
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

    /// Fields as channels: numbers, but for the texts among them.
    pub(super) fn fields<'a>(
        names: impl Iterator<Item = &'a str>,
        texts: &[&str],
    ) -> Vec<(String, Kind)> {
        let kind = |name| if texts.contains(&name) { Kind::Text } else { Kind::Number };
        names.map(|name| (name.to_owned(), kind(name))).collect()
    }

    /// What a frame says, a field a line, in the order of the fields.
    pub(super) fn listed(
        fields: &[(String, Kind)],
        parse: impl FnOnce(&mut Batch) -> Result<(), NotUnderstood>,
    ) -> String {
        let mut batch = Batch::default();
        parse(&mut batch).expect("a sound frame");
        let mut samples = batch.samples;
        samples.sort_by_key(|sample| sample.channel);
        let line = |sample: crate::Sample| {
            let value = match sample.value {
                Value::Good(Datum::Number(number)) => number.to_string(),
                Value::Good(Datum::Text(text)) => format!("{text:?}"),
                value => format!("{value:?}"),
            };
            format!("{} = {value}\n", fields[sample.channel].0)
        };
        samples.into_iter().map(line).collect()
    }

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
                let understood = format.parse(&line, &mut batch).is_ok();
                prop_assert!(understood || batch.samples.is_empty());
            }
        }
    }
}
