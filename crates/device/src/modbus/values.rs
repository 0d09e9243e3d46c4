//! From registers to values.

use reading::{Datum, Fault, Kind};
use schemars::JsonSchema;
use serde::Deserialize;

/// What registers hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum RegisterType {
    /// One register.
    U16,
    /// One register.
    I16,
    /// Two registers.
    U32,
    /// Two registers.
    I32,
    /// Four registers.
    U64,
    /// Four registers.
    I64,
    /// Two registers, IEEE 754.
    F32,
    /// Four registers, IEEE 754.
    F64,
    /// A bit, or a register that isn't 0.
    Bool,
    /// Two characters in each of `length` registers.
    String,
}

/// In which order the bytes of a value come, the highest being a.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Order {
    /// The highest first, as the specification has it.
    #[default]
    Abcd,
    /// The lowest register first.
    Cdab,
    /// The bytes of each register swapped.
    Badc,
    /// Both: the lowest byte first.
    Dcba,
}

/// How the registers of a channel are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Format {
    pub kind: RegisterType,
    pub order: Order,
    /// The one bit of a register that counts, 0 being the lowest.
    pub bit: Option<u8>,
}

impl RegisterType {
    /// How many registers; of a string one has to say.
    pub(crate) fn registers(self) -> Option<u16> {
        Some(match self {
            RegisterType::U16 | RegisterType::I16 | RegisterType::Bool => 1,
            RegisterType::U32 | RegisterType::I32 | RegisterType::F32 => 2,
            RegisterType::U64 | RegisterType::I64 | RegisterType::F64 => 4,
            RegisterType::String => return None,
        })
    }

    pub(crate) fn kind(self) -> Kind {
        match self {
            RegisterType::Bool => Kind::Boolean,
            RegisterType::String => Kind::Text,
            _ => Kind::Number,
        }
    }
}

impl Order {
    /// Brings the bytes of registers into the order of the specification.
    fn arranged(self, bytes: &[u8], words_too: bool) -> Vec<u8> {
        let mut words: Vec<[u8; 2]> = bytes.as_chunks().0.to_vec();
        if words_too && matches!(self, Order::Cdab | Order::Dcba) {
            words.reverse();
        }
        if matches!(self, Order::Badc | Order::Dcba) {
            words.iter_mut().for_each(|word| word.reverse());
        }
        words.concat()
    }
}

impl Format {
    /// The value in the bytes of its registers.
    ///
    /// # Errors
    /// When it is no number, or the bytes are too few.
    pub(crate) fn value(self, bytes: &[u8]) -> Result<Datum, Fault> {
        let text = self.kind == RegisterType::String;
        let bytes = self.order.arranged(bytes, !text);
        if text {
            return Ok(Datum::from(string(&bytes).as_str()));
        }
        // What fits into no f64 is rounded: 2^53 of anything is a lot.
        let number = match self.kind {
            RegisterType::U16 | RegisterType::Bool => f64::from(u16::from_be_bytes(first(&bytes)?)),
            RegisterType::I16 => f64::from(i16::from_be_bytes(first(&bytes)?)),
            RegisterType::U32 => f64::from(u32::from_be_bytes(first(&bytes)?)),
            RegisterType::I32 => f64::from(i32::from_be_bytes(first(&bytes)?)),
            RegisterType::U64 => u64::from_be_bytes(first(&bytes)?) as f64,
            RegisterType::I64 => i64::from_be_bytes(first(&bytes)?) as f64,
            RegisterType::F32 => f64::from(f32::from_be_bytes(first(&bytes)?)),
            RegisterType::F64 => f64::from_be_bytes(first(&bytes)?),
            RegisterType::String => return Err(Fault::Bug),
        };
        if let Some(bit) = self.bit {
            let word = u16::from_be_bytes(first(&bytes)?);
            return Ok(Datum::Boolean(word >> bit & 1 == 1));
        }
        if self.kind == RegisterType::Bool {
            return Ok(Datum::Boolean(number != 0.0));
        }
        Datum::number(number).ok_or(Fault::Corrupt)
    }
}

impl Format {
    /// The bytes of the registers that hold `datum`.
    ///
    /// # Errors
    /// What they can hold instead, as a sentence for people.
    pub(crate) fn bytes(self, datum: &Datum) -> Result<Vec<u8>, String> {
        let number = match datum {
            Datum::Number(number) => *number,
            Datum::Boolean(on) => f64::from(u8::from(*on)),
            Datum::Text(_) => return Err("texts can't be written".to_owned()),
        };
        let whole = number.round();
        let within = |low: f64, high: f64| {
            let fits = (low..=high).contains(&whole);
            fits.then_some(()).ok_or_else(|| format!("the register takes {low} to {high}"))
        };
        let bytes = match self.kind {
            RegisterType::U16 | RegisterType::Bool => {
                within(0.0, f64::from(u16::MAX))?;
                (whole as u16).to_be_bytes().to_vec()
            }
            RegisterType::I16 => {
                within(f64::from(i16::MIN), f64::from(i16::MAX))?;
                (whole as i16).to_be_bytes().to_vec()
            }
            RegisterType::U32 => {
                within(0.0, f64::from(u32::MAX))?;
                (whole as u32).to_be_bytes().to_vec()
            }
            RegisterType::I32 => {
                within(f64::from(i32::MIN), f64::from(i32::MAX))?;
                (whole as i32).to_be_bytes().to_vec()
            }
            // To these the nearest is written, as no f64 is exact there.
            RegisterType::U64 => (whole as u64).to_be_bytes().to_vec(),
            RegisterType::I64 => (whole as i64).to_be_bytes().to_vec(),
            RegisterType::F32 => (number as f32).to_be_bytes().to_vec(),
            RegisterType::F64 => number.to_be_bytes().to_vec(),
            RegisterType::String => return Err("texts can't be written".to_owned()),
        };
        // Each order undoes itself.
        Ok(self.order.arranged(&bytes, true))
    }
}

fn first<const N: usize>(bytes: &[u8]) -> Result<[u8; N], Fault> {
    bytes.first_chunk().copied().ok_or(Fault::Corrupt)
}

/// Up to the first zero; in UTF-8, or else Latin-1.
fn string(bytes: &[u8]) -> String {
    let bytes = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.iter().map(|byte| char::from(*byte)).collect(),
    };
    text.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(kind: RegisterType, order: Order, bytes: &[u8]) -> f64 {
        match (Format { kind, order, bit: None }).value(bytes) {
            Ok(Datum::Number(number)) => number,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_order_gives_the_same_number() {
        use {Order::*, RegisterType::*};
        // 123456.0 is 47 f1 20 00.
        for (order, bytes) in [
            (Abcd, [0x47, 0xf1, 0x20, 0x00]),
            (Cdab, [0x20, 0x00, 0x47, 0xf1]),
            (Badc, [0xf1, 0x47, 0x00, 0x20]),
            (Dcba, [0x00, 0x20, 0xf1, 0x47]),
        ] {
            assert_eq!(number(F32, order, &bytes), 123_456.0, "{order:?}");
        }
        assert_eq!(number(I64, Cdab, &[0xff, 0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]), -2.0);
        assert_eq!(number(F64, Dcba, &[0, 0, 0, 0, 0, 0, 0xf8, 0xbf]), -1.5);
        assert_eq!(number(I16, Abcd, &[0xff, 0xfe]), -2.0);
        assert_eq!(number(U16, Badc, &[0xfe, 0xff]), 65534.0);
        assert_eq!(number(U32, Abcd, &[0xff, 0xff, 0xff, 0xff]), 4_294_967_295.0);
    }

    #[test]
    fn what_is_written_is_what_is_read() {
        use {Order::*, RegisterType::*};
        for kind in [U16, I16, U32, I32, U64, I64, F32, F64] {
            for order in [Abcd, Cdab, Badc, Dcba] {
                let format = Format { kind, order, bit: None };
                let datum = Datum::Number(1234.0);
                assert_eq!(format.value(&format.bytes(&datum).unwrap()), Ok(datum), "{format:?}");
            }
        }
        let word = Format { kind: I16, order: Abcd, bit: None };
        assert_eq!(word.bytes(&Datum::Number(-1.4)), Ok(vec![0xff, 0xff]));
        let refused = word.bytes(&Datum::Number(32768.0)).unwrap_err();
        assert_eq!(refused, "the register takes -32768 to 32767");
    }

    #[test]
    fn bits_texts_and_what_is_no_number() {
        let of = |kind, order, bit| Format { kind, order, bit };
        let word = of(RegisterType::U16, Order::Abcd, Some(3));
        assert_eq!(word.value(&[0, 0b1000]), Ok(true.into()));
        assert_eq!(word.value(&[0xff, 0b1111_0111]), Ok(false.into()));
        let high = of(RegisterType::U16, Order::Abcd, Some(15));
        assert_eq!(high.value(&[0x80, 0]), Ok(true.into()));
        let text = of(RegisterType::String, Order::Abcd, None);
        assert_eq!(text.value(b"SDM630 \0\0\0"), Ok("SDM630".into()));
        assert_eq!(text.value(b"\xb5C"), Ok("\u{b5}C".into()));
        let swapped = of(RegisterType::String, Order::Dcba, None);
        assert_eq!(swapped.value(b"DS6M03"), Ok("SDM630".into()), "its registers stay in order");
        let float = of(RegisterType::F32, Order::Abcd, None);
        assert_eq!(float.value(&[0x7f, 0xc0, 0, 0]), Err(Fault::Corrupt), "NaN");
        assert_eq!(float.value(&[0, 0]), Err(Fault::Corrupt));
    }
}
