//! `frame = …` of the configuration file.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::{self, Deserializer, Unexpected, Visitor};

use super::delimited::Escape;
use super::{Cobs, Delimited, FRAME_MAX, Fixed, Framer, Idle, Length, Line, MARK_MAX, Slip};
use crate::serial::bytes::{Bytes, Endian};
use crate::settings::Report;

/// The longest frame with a length field, unless `max` says otherwise. Noise that
/// looks like the beginning of a long one holds up what follows it.
const LENGTH_MAX: usize = 256;
/// Timers are no finer.
const GAP_MIN: Duration = Duration::from_millis(1);

/// How the bytes are cut into frames.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum FrameSettings {
    /// "line": a text, ended by CR, LF or both.
    #[default]
    Line,
    /// Between two marks: { delimited = { start = "\u0002", end = "\u0003" } }.
    Delimited(Marks),
    /// Of one length: { fixed = { length = 32, start = [0x42, 0x4d] } }.
    Fixed(Size),
    /// With a length within: { length = { at = 2, size = 2, add = 4 } }.
    Length(Says),
    /// With silence between: { idle = "20ms" }, or so many characters' time: { idle = 3.5 }.
    Idle(Gap),
    /// "slip": RFC 1055.
    Slip,
    /// "cobs": ended by a zero byte.
    Cobs,
    /// "readout": of a meter, from `/` to `!` (IEC 62056-21, P1).
    Readout,
    /// "sml": a file of SML.
    Sml,
    /// "vedirect": a block of VE.Direct.
    VeDirect,
}

/// Two marks and an escape.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Marks {
    /// By which a frame begins; without it, where the last has ended.
    #[serde(default)]
    start: Bytes,
    /// By which it ends; may be the same.
    end: Bytes,
    /// The byte that stands before one that only looks like a mark.
    escape: Option<u8>,
    /// What an escaped byte is XORed with: 0x20 in HDLC.
    #[serde(default)]
    xor: u8,
}

/// A length that is always the same.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Size {
    /// In bytes, with start and end.
    length: usize,
    /// By which every frame begins.
    #[serde(default)]
    start: Bytes,
    /// By which every frame ends.
    #[serde(default)]
    end: Bytes,
}

/// A length that the frame says.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Says {
    /// Where the length stands, from 0, the first byte of `start`.
    at: usize,
    /// In how many bytes: 1 to 4.
    #[serde(default = "one")]
    size: usize,
    /// In which order.
    #[serde(default)]
    endian: Endian,
    /// How many bytes the frame has more than its length says.
    #[serde(default)]
    add: i64,
    /// By which every frame begins.
    #[serde(default)]
    start: Bytes,
    /// The longest frame, in bytes.
    #[serde(default = "length_max")]
    max: usize,
}

fn one() -> usize {
    1
}

fn length_max() -> usize {
    LENGTH_MAX
}

/// How long the silence between two frames is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Gap {
    /// Until the next frame.
    Time(Duration),
    /// As long as so many characters take.
    Characters(f64),
}

impl FrameSettings {
    /// The framer. `character` is how long one character takes.
    pub(crate) fn framer(self, character: Duration, report: &mut Report<'_>) -> Option<Framer> {
        let mut sound = true;
        let mut wrong = |keys: &[&str], message: String| {
            report.at(&[&["frame"], keys].concat(), message);
            sound = false;
        };
        let mut mark = |of: &str, key: &str, mark: &Bytes, needed: bool| {
            if mark.0.len() > MARK_MAX {
                wrong(&[of, key], format!("expected at most {MARK_MAX} bytes"));
            } else if needed && mark.0.is_empty() {
                wrong(
                    &[of, key],
                    "expected a byte or more by which a frame ends, such as \"\\u0003\"".into(),
                );
            }
        };
        let framer = match self {
            FrameSettings::Line => Framer::Line(Line::default()),
            FrameSettings::Slip => Framer::Slip(Slip::default()),
            FrameSettings::Cobs => Framer::Cobs(Cobs::default()),
            FrameSettings::Readout => Framer::Readout,
            FrameSettings::Sml => Framer::Sml,
            FrameSettings::VeDirect => Framer::VeDirect,
            FrameSettings::Idle(gap) => {
                let gap = match gap {
                    Gap::Time(gap) => gap,
                    Gap::Characters(characters) => character.mul_f64(characters),
                };
                Framer::Idle(Idle::new(gap.max(GAP_MIN)))
            }
            FrameSettings::Delimited(Marks { start, end, escape, xor }) => {
                mark("delimited", "start", &start, false);
                mark("delimited", "end", &end, true);
                if let Some(escape) = escape
                    && (start.0.contains(&escape) || end.0.contains(&escape))
                {
                    wrong(
                        &["delimited", "escape"],
                        "it is part of a mark: choose the byte that stands before one".into(),
                    );
                }
                if escape.is_none() && xor != 0 {
                    wrong(
                        &["delimited", "xor"],
                        "it needs `escape`, the byte that stands before".into(),
                    );
                }
                let escape = escape.map(|byte| Escape { byte, xor });
                Framer::Delimited(Delimited::new(start.0, end.0, escape))
            }
            FrameSettings::Fixed(Size { length, start, end }) => {
                mark("fixed", "start", &start, false);
                mark("fixed", "end", &end, false);
                if !(1..=FRAME_MAX).contains(&length) {
                    wrong(&["fixed", "length"], format!("expected 1 to {FRAME_MAX} bytes"));
                } else if start.0.len() + end.0.len() > length {
                    wrong(
                        &["fixed", "length"],
                        "it counts start and end, and they alone are longer".into(),
                    );
                }
                Framer::Fixed(Fixed::new(length, start.0, end.0))
            }
            FrameSettings::Length(Says { at, size, endian, add, start, max }) => {
                mark("length", "start", &start, false);
                if !(1..=4).contains(&size) {
                    wrong(&["length", "size"], "expected 1 to 4 bytes".into());
                }
                if !(1..=FRAME_MAX).contains(&max) {
                    wrong(&["length", "max"], format!("expected 1 to {FRAME_MAX} bytes"));
                } else if at.saturating_add(size) > max {
                    wrong(
                        &["length", "at"],
                        format!(
                            "expected a place within the frame, which has at most {max} bytes (`max`)"
                        ),
                    );
                }
                if add.unsigned_abs() > FRAME_MAX as u64 {
                    wrong(&["length", "add"], format!("expected -{FRAME_MAX} to {FRAME_MAX}"));
                }
                Framer::Length(Length { start: start.0, at, size, endian, add, max })
            }
        };
        sound.then_some(framer)
    }
}

impl<'de> Deserialize<'de> for Gap {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Gap, D::Error> {
        struct Either;
        impl Visitor<'_> for Either {
            type Value = Gap;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a silence such as \"20ms\", or a number of characters such as 3.5")
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Gap, E> {
                self.visit_f64(number as f64)
            }

            fn visit_f64<E: de::Error>(self, number: f64) -> Result<Gap, E> {
                // At 300 baud a thousand characters are half a minute.
                if (0.1..=1000.0).contains(&number) {
                    return Ok(Gap::Characters(number));
                }
                Err(E::invalid_value(Unexpected::Float(number), &"0.1 to 1000 characters"))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Gap, E> {
                match humantime::parse_duration(text) {
                    Ok(gap) if (GAP_MIN..=Duration::from_secs(60)).contains(&gap) => {
                        Ok(Gap::Time(gap))
                    }
                    Ok(_) => Err(E::invalid_value(Unexpected::Str(text), &"1ms to 1min")),
                    Err(_) => Err(E::invalid_value(Unexpected::Str(text), &self)),
                }
            }
        }
        input.deserialize_any(Either)
    }
}

impl JsonSchema for Gap {
    fn schema_name() -> Cow<'static, str> {
        "Gap".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["string", "number"], "exclusiveMinimum": 0 })
    }
}
