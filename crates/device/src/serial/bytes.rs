//! Bytes as the configuration file has them.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserialize, Deserializer, SeqAccess, Unexpected, Visitor};

/// The order in which the bytes of a number come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Endian {
    /// The highest first.
    #[default]
    Big,
    /// The lowest first.
    Little,
}

impl Endian {
    /// The number in up to eight bytes.
    pub(crate) fn unsigned(self, bytes: &[u8]) -> u64 {
        let add = |number: u64, byte: &u8| number << 8 | u64::from(*byte);
        match self {
            Endian::Big => bytes.iter().fold(0, add),
            Endian::Little => bytes.iter().rev().fold(0, add),
        }
    }
}

/// Bytes: a text, in which `\r`, `\n`, `\t`, `\0`, `\\` and `\xHH` stand for one
/// byte, or a list of numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bytes(pub Vec<u8>);

const EXPECTED: &str =
    "a text such as \"READ\\r\\n\" or '\\xff\\x86', or a list of bytes such as [0xff, 0x86]";

/// # Errors
/// The escape that isn't one.
fn unescaped(text: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        bytes.extend_from_slice(&rest.as_bytes()[..at]);
        let escape = &rest[at + 1..];
        let (byte, length) = match escape.chars().next() {
            Some('r') => (Some(b'\r'), 1),
            Some('n') => (Some(b'\n'), 1),
            Some('t') => (Some(b'\t'), 1),
            Some('0') => (Some(0), 1),
            Some('\\') => (Some(b'\\'), 1),
            Some('x') => {
                let digits = escape.get(1..3).filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()));
                (digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()), 3)
            }
            _ => (None, 0),
        };
        bytes.push(byte.ok_or_else(|| {
            let shown: String = rest[at..].chars().take(4).collect();
            format!("{shown:?} is no escape: there are \\r, \\n, \\t, \\0, \\\\ and \\xHH")
        })?);
        rest = &escape[length..];
    }
    bytes.extend_from_slice(rest.as_bytes());
    Ok(bytes)
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Bytes, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Bytes;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(EXPECTED)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Bytes, E> {
                unescaped(text).map(Bytes).map_err(E::custom)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Bytes, A::Error> {
                let mut bytes = Vec::new();
                while let Some(number) = list.next_element::<i64>()? {
                    let wrong = || {
                        de::Error::invalid_value(Unexpected::Signed(number), &"a byte, 0 to 255")
                    };
                    bytes.push(u8::try_from(number).map_err(|_| wrong())?);
                }
                Ok(Bytes(bytes))
            }
        }
        input.deserialize_any(Either)
    }
}

impl JsonSchema for Bytes {
    fn schema_name() -> Cow<'static, str> {
        "Bytes".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": ["string", "array"],
            "items": { "type": "integer", "minimum": 0, "maximum": 255 },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_have_escapes_and_say_which_is_none() {
        assert_eq!(unescaped(r"READ\r\n\t\0\\\xfF"), Ok(b"READ\r\n\t\0\\\xff".to_vec()));
        assert_eq!(unescaped("é"), Ok("é".as_bytes().to_vec()));
        for wrong in [r"\", r"a\q", r"\x", r"\xf", r"\xg0", r"\x+1", "\\x\u{e9}"] {
            assert!(unescaped(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn numbers_come_either_way_round() {
        assert_eq!(Endian::Big.unsigned(&[1, 2, 3]), 0x01_0203);
        assert_eq!(Endian::Little.unsigned(&[1, 2, 3]), 0x03_0201);
    }
}
