//! `format = …` of the configuration file, and what a channel says to it.

use reading::Kind;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    Binary, Csv, Encoding, Field, FieldType, Format, Json, KeyValue, Nmea, Pattern, Place, Readout,
    Registers, Sml, VeDirect,
};
use crate::kind::Declared;
use crate::serial::bytes::Endian;
use crate::serial::checksum::Checksum;
use crate::serial::frame::FRAME_MAX;
use crate::settings::Report;

/// What a frame is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum FormatKind {
    /// {"t":21.5,"h":40}
    #[default]
    Json,
    /// 21.5,40
    Csv,
    /// t=21.5,h=40
    KeyValue,
    /// Whatever `pattern` finds.
    Regex,
    /// Numbers at fixed places.
    Binary,
    /// $GPGGA,…: NMEA 0183.
    Nmea,
    /// 1-0:1.8.0(1.5*kWh): IEC 62056-21 and P1.
    Readout,
    /// SML of German meters.
    Sml,
    /// VE.Direct of Victron.
    VeDirect,
}

/// The keys of a device that say how its frames are to be understood.
#[derive(Clone, Copy)]
pub(crate) struct FormatSettings<'a> {
    pub format: FormatKind,
    pub separator: Option<char>,
    pub pattern: Option<&'a str>,
    pub encoding: Option<Encoding>,
    pub endian: Option<Endian>,
    pub checksum: Option<&'a Checksum>,
}

/// A channel's own keys. Each that says where its value is defaults to the
/// channel's own name.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct FieldSettings {
    /// Of json and keyvalue: the key; of json also a dotted path. Of nmea, readout,
    /// sml and vedirect: what the protocol calls it.
    field: Option<String>,
    /// Of csv: the column, by number from 1 or by its name in the header.
    column: Option<Place>,
    /// Of regex: the group, by number from 1 or by name.
    group: Option<Place>,
    /// Of binary: the first byte, from 0; negative from the end of the frame on.
    at: Option<i32>,
    /// The type of its values, which never changes: "number", "boolean" or "text".
    /// Of binary "u8", "i16", "f32" and the like.
    #[serde(rename = "type")]
    kind: Option<FieldType>,
    /// Of binary, "text" and "bcd": how many bytes.
    length: Option<usize>,
    /// Of binary: the order of its bytes; the device's `endian` by default.
    endian: Option<Endian>,
    /// Of binary: the bits that count, such as 0x0fff; the lowest of them is worth 1.
    mask: Option<u64>,
    /// Of binary: the one bit that counts, from 0, the lowest; true when it is set.
    bit: Option<u32>,
}

impl FieldSettings {
    /// The type of the channel's values.
    pub(crate) fn kind(&self) -> Kind {
        match (self.bit, self.kind) {
            (Some(_), _) => Kind::Boolean,
            (None, kind) => kind.map(FieldType::kind).unwrap_or_default(),
        }
    }
}

impl FormatKind {
    /// The key by which a channel says where its value is.
    fn key(self) -> &'static str {
        match self {
            FormatKind::Json | FormatKind::KeyValue => "field",
            FormatKind::Nmea | FormatKind::Readout => "field",
            FormatKind::Sml | FormatKind::VeDirect => "field",
            FormatKind::Csv => "column",
            FormatKind::Regex => "group",
            FormatKind::Binary => "at",
        }
    }
}

impl FormatSettings<'_> {
    /// The parser of the frames, when every channel says what it needs.
    pub(crate) fn format(
        self,
        channels: &[Declared<FieldSettings>],
        report: &mut Report<'_>,
    ) -> Option<Format> {
        let sound = self.is_sound(report);
        let mut all = true;
        for channel in channels {
            for (key, message) in self.wrong(&channel.own) {
                report.at(&["channel", &channel.name, key], message);
                all = false;
            }
        }
        if !sound || !all {
            return None;
        }
        let fields = || -> Vec<_> {
            let field =
                |c: &Declared<FieldSettings>| c.own.field.clone().unwrap_or_else(|| c.name.clone());
            channels.iter().map(|channel| (field(channel), channel.kind)).collect()
        };
        let places = |of: fn(&FieldSettings) -> &Option<Place>| -> Vec<_> {
            let place = |c: &Declared<FieldSettings>| {
                of(&c.own).clone().unwrap_or_else(|| Place::Name(c.name.clone()))
            };
            channels.iter().map(|channel| (place(channel), channel.kind)).collect()
        };
        Some(match self.format {
            FormatKind::Json => Format::Json(Json::new(&fields())),
            FormatKind::KeyValue => Format::KeyValue(KeyValue::new(&fields())),
            FormatKind::Csv => {
                let separator = self.separator.and_then(|c| u8::try_from(c).ok()).unwrap_or(b',');
                Format::Csv(Csv::new(separator, &places(|own| &own.column)))
            }
            FormatKind::Regex => match Pattern::new(self.pattern?, &places(|own| &own.group)) {
                Ok(pattern) => Format::Regex(pattern),
                Err((None, message)) => {
                    report.at(&["pattern"], message);
                    return None;
                }
                Err((Some(channel), message)) => {
                    report.at(&["channel", &channels[channel].name, "group"], message);
                    return None;
                }
            },
            FormatKind::Nmea | FormatKind::Readout | FormatKind::Sml | FormatKind::VeDirect => {
                let known = match self.format {
                    FormatKind::Nmea => Nmea::new(&fields()).map(Format::Nmea),
                    FormatKind::VeDirect => VeDirect::new(&fields()).map(Format::VeDirect),
                    FormatKind::Sml => Registers::new(&fields()).map(|all| Format::Sml(Sml(all))),
                    _ => Registers::new(&fields()).map(|all| Format::Readout(Readout(all))),
                };
                match known {
                    Ok(format) => format,
                    Err((channel, message)) => {
                        report.at(&["channel", &channels[channel].name, "field"], message);
                        return None;
                    }
                }
            }
            FormatKind::Binary => {
                let endian = self.endian.unwrap_or_default();
                let field = |channel: &Declared<FieldSettings>| channel.own.binary(endian);
                let fields = channels.iter().map(field).collect::<Option<_>>()?;
                Format::Binary(Binary::new(fields, self.checksum.cloned(), endian))
            }
        })
    }

    /// Whether each key of the device belongs to the format.
    fn is_sound(self, report: &mut Report<'_>) -> bool {
        let mut sound = true;
        let mut wrong = |key: &str, message: &str| {
            report.at(&[key], message);
            sound = false;
        };
        let binary = self.format == FormatKind::Binary;
        for (key, given, has, of) in [
            ("separator", self.separator.is_some(), self.format == FormatKind::Csv, "\"csv\""),
            ("pattern", self.pattern.is_some(), self.format == FormatKind::Regex, "\"regex\""),
            ("endian", self.endian.is_some(), binary, "\"binary\""),
            ("checksum", self.checksum.is_some(), binary, "\"binary\""),
        ] {
            if given && !has {
                wrong(key, &format!("only format = {of} has it"));
            }
        }
        if self.encoding.is_some() && binary {
            wrong("encoding", "it is of texts, and format = \"binary\" is none");
        }
        if self.separator.is_some_and(|separator| !separator.is_ascii() || separator == '"') {
            wrong("separator", "expected one ASCII character, such as \",\", \";\" or \"\\t\"");
        }
        if self.format == FormatKind::Regex && self.pattern.is_none() {
            wrong("pattern", "missing key `pattern`, such as 'T=(?<t>[-0-9.]+)'");
        }
        sound
    }

    /// What is wrong with a channel's keys.
    fn wrong(self, own: &FieldSettings) -> Vec<(&'static str, String)> {
        let mut wrong = Vec::new();
        let key = self.format.key();
        for (other, given) in [
            ("field", own.field.is_some()),
            ("column", own.column.is_some()),
            ("group", own.group.is_some()),
            ("at", own.at.is_some()),
        ] {
            if given && other != key {
                wrong.push((other, format!("with this format a channel says `{key}` instead")));
            }
        }
        if self.format == FormatKind::Binary {
            own.wrong_in_binary(&mut wrong);
            return wrong;
        }
        for (key, given) in [
            ("length", own.length.is_some()),
            ("endian", own.endian.is_some()),
            ("mask", own.mask.is_some()),
            ("bit", own.bit.is_some()),
        ] {
            if given {
                wrong.push((key, "only format = \"binary\" has it".to_owned()));
            }
        }
        if own.kind.is_some_and(|kind| !kind.is_of_texts()) {
            let message = "this format has \"number\", \"boolean\" and \"text\"";
            wrong.push(("type", message.to_owned()));
        }
        wrong
    }
}

impl FieldSettings {
    fn wrong_in_binary(&self, wrong: &mut Vec<(&'static str, String)>) {
        let mut wrong = |key, message: &str| wrong.push((key, message.to_owned()));
        if self.at.is_none() {
            wrong("at", "missing key `at`, the first byte of its value in the frame, from 0");
        }
        let Some(kind) = self.kind.or(self.bit.map(|_| FieldType::U8)) else {
            return wrong("type", "missing key `type`, such as \"u16\"");
        };
        let size = match (kind, kind.size(), self.length) {
            (FieldType::Number, ..) => {
                return wrong("type", "expected what the number is in the frame, such as \"u16\"");
            }
            (FieldType::Boolean, ..) => {
                return wrong("type", "say which `bit` counts, and leave `type` out for a byte");
            }
            (_, Some(_), Some(_)) => {
                return wrong("length", "only type = \"text\" and \"bcd\" have it");
            }
            (_, Some(size), None) => size,
            // More digits than a number can hold.
            (FieldType::Bcd, None, Some(1..=7)) => 1,
            (FieldType::Bcd, None, _) => {
                return wrong("length", "expected `length`, the number of bytes, 1 to 7");
            }
            (_, None, Some(length)) if (1..=FRAME_MAX).contains(&length) => length,
            (_, None, _) => {
                return wrong("length", "expected `length`, the number of bytes, from 1 on");
            }
        };
        let bits = if kind.has_bits() { 8 * size as u32 } else { 0 };
        for (key, given) in [("mask", self.mask.is_some()), ("bit", self.bit.is_some())] {
            if given && bits == 0 {
                wrong(key, "only whole numbers have it, such as \"u16\"");
            }
        }
        if self.bit.is_some() && self.mask.is_some() {
            wrong("mask", "`bit` says already which bit counts: leave one out");
        } else if self.bit.is_some_and(|bit| bits > 0 && bit >= bits) {
            wrong("bit", &format!("expected 0 to {}, 0 being the lowest", bits - 1));
        } else if self.mask == Some(0) {
            wrong("mask", "expected the bits that count, such as 0x0f");
        } else if self.mask.is_some_and(|mask| bits > 0 && bits < 64 && mask >> bits > 0) {
            wrong("mask", &format!("it has more bits than the {bits} of its type"));
        }
    }

    fn binary(&self, endian: Endian) -> Option<Field> {
        let kind = self.kind.unwrap_or(FieldType::U8);
        Some(Field {
            at: self.at?,
            kind,
            size: kind.size().or(self.length)?,
            endian: self.endian.unwrap_or(endian),
            mask: self.mask,
            bit: self.bit,
        })
    }
}
