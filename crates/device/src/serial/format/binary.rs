//! Numbers at fixed places of a frame, as most sensors' data sheets list them.

use reading::{Datum, Fault, Kind, Value};
use schemars::JsonSchema;
use serde::Deserialize;

use super::NotUnderstood;
use crate::Batch;
use crate::serial::bytes::Endian;
use crate::serial::checksum::{Checksum, place};

/// The type of a field. Of a binary format "u8" and the like; of the formats that
/// are texts "number", "boolean" and "text".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum FieldType {
    /// Numbers.
    Number,
    /// Truths.
    Boolean,
    /// Texts; of a binary format ASCII of so many bytes, `length`.
    Text,
    /// One byte.
    U8,
    /// One byte, two's complement.
    I8,
    /// Two bytes.
    U16,
    /// Two bytes, two's complement.
    I16,
    /// Three bytes.
    U24,
    /// Three bytes, two's complement.
    I24,
    /// Four bytes.
    U32,
    /// Four bytes, two's complement.
    I32,
    /// Eight bytes.
    U64,
    /// Eight bytes, two's complement.
    I64,
    /// Four bytes, IEEE 754.
    F32,
    /// Eight bytes, IEEE 754.
    F64,
    /// Two decimal digits a byte, of so many bytes, `length`.
    Bcd,
}

impl FieldType {
    /// How many bytes it has; `None` when `length` says it.
    pub(crate) fn size(self) -> Option<usize> {
        match self {
            FieldType::U8 | FieldType::I8 | FieldType::Boolean => Some(1),
            FieldType::U16 | FieldType::I16 => Some(2),
            FieldType::U24 | FieldType::I24 => Some(3),
            FieldType::U32 | FieldType::I32 | FieldType::F32 => Some(4),
            FieldType::U64 | FieldType::I64 | FieldType::F64 | FieldType::Number => Some(8),
            FieldType::Text | FieldType::Bcd => None,
        }
    }

    /// Whether it is a whole number, whose bits can be picked.
    pub(crate) fn has_bits(self) -> bool {
        self.is_signed()
            || matches!(self, FieldType::U8 | FieldType::U16 | FieldType::U24)
            || matches!(self, FieldType::U32 | FieldType::U64)
    }

    fn is_signed(self) -> bool {
        matches!(self, FieldType::I8 | FieldType::I16 | FieldType::I24)
            || matches!(self, FieldType::I32 | FieldType::I64)
    }

    /// What it is to a channel.
    pub(crate) fn kind(self) -> Kind {
        match self {
            FieldType::Boolean => Kind::Boolean,
            FieldType::Text => Kind::Text,
            _ => Kind::Number,
        }
    }

    /// Whether it is one of the formats that are texts.
    pub(crate) fn is_of_texts(self) -> bool {
        matches!(self, FieldType::Number | FieldType::Boolean | FieldType::Text)
    }
}

/// Where a channel's value stands, and what it is.
#[derive(Clone, Debug)]
pub(crate) struct Field {
    /// Its first byte, from 0; negative from the end on.
    pub at: i32,
    pub kind: FieldType,
    /// In bytes.
    pub size: usize,
    pub endian: Endian,
    /// The bits that count; the lowest of them is worth 1.
    pub mask: Option<u64>,
    /// The one bit that counts, as a boolean.
    pub bit: Option<u32>,
}

/// The fields of a frame, and its checksum.
#[derive(Clone, Debug)]
pub(crate) struct Binary {
    fields: Vec<Field>,
    checksum: Option<Checksum>,
    endian: Endian,
}

impl Binary {
    /// A field for each channel, in order; `endian` is that of the checksum.
    pub(crate) fn new(fields: Vec<Field>, checksum: Option<Checksum>, endian: Endian) -> Binary {
        Binary { fields, checksum, endian }
    }

    pub(super) fn has_checksum(&self) -> bool {
        self.checksum.is_some()
    }

    pub(super) fn parse(&self, frame: &[u8], batch: &mut Batch) -> Result<(), NotUnderstood> {
        if self.checksum.as_ref().is_some_and(|sum| !sum.is_right(frame, self.endian)) {
            return Err(NotUnderstood);
        }
        for (channel, field) in self.fields.iter().enumerate() {
            // A frame that is too short is another, or has lost something.
            let at = place(frame, field.at).ok_or(NotUnderstood)?;
            let bytes = frame.get(at..at + field.size).ok_or(NotUnderstood)?;
            batch.push(channel, field.value(bytes));
        }
        Ok(())
    }
}

impl Field {
    fn value(&self, bytes: &[u8]) -> Value {
        let datum = match self.kind {
            FieldType::Text => text(bytes),
            FieldType::Bcd => bcd(bytes, self.endian),
            FieldType::F32 => {
                let bits = self.endian.unsigned(bytes) as u32;
                Datum::number(f32::from_bits(bits).into())
            }
            FieldType::F64 => Datum::number(f64::from_bits(self.endian.unsigned(bytes))),
            _ => Some(self.whole(self.endian.unsigned(bytes))),
        };
        datum.map_or(Value::Bad(Fault::Corrupt), Value::Good)
    }

    /// A whole number, or a bit of one.
    fn whole(&self, raw: u64) -> Datum {
        if let Some(bit) = self.bit {
            return Datum::Boolean(raw >> bit & 1 == 1);
        }
        let width = 8 * self.size as u32;
        let mask = self.mask.unwrap_or(u64::MAX >> (64 - width));
        let raw = (raw & mask) >> mask.trailing_zeros().min(63);
        // The highest bit that counts is the sign.
        let bits = (64 - mask.leading_zeros()).saturating_sub(mask.trailing_zeros());
        let unused = 64 - bits.clamp(1, 64);
        Datum::Number(if self.kind.is_signed() {
            ((raw << unused).cast_signed() >> unused) as f64
        } else {
            raw as f64
        })
    }
}

/// ASCII, without the spaces and NULs that fill it up.
fn text(bytes: &[u8]) -> Option<Datum> {
    let text = std::str::from_utf8(bytes).ok().filter(|text| text.is_ascii())?;
    Some(Datum::from(text.trim_matches(['\0', ' '])))
}

/// Two digits a byte; `None` when one of them is none.
fn bcd(bytes: &[u8], endian: Endian) -> Option<Datum> {
    let add = |number: f64, byte: &u8| {
        let (high, low) = (byte >> 4, byte & 0xf);
        (high < 10 && low < 10).then(|| number * 100.0 + f64::from(high * 10 + low))
    };
    let number = match endian {
        Endian::Big => bytes.iter().try_fold(0.0, add),
        Endian::Little => bytes.iter().rev().try_fold(0.0, add),
    };
    number.and_then(Datum::number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serial::checksum::Sum;

    fn field(at: i32, kind: FieldType, endian: Endian) -> Field {
        Field { at, kind, size: kind.size().unwrap_or(2), endian, mask: None, bit: None }
    }

    fn parsed(field: Field, frame: &[u8]) -> Result<Value, NotUnderstood> {
        let mut batch = Batch::default();
        Binary::new(vec![field], None, Endian::Big).parse(frame, &mut batch)?;
        Ok(batch.samples.remove(0).value)
    }

    fn number(field: Field, frame: &[u8]) -> f64 {
        parsed(field, frame).unwrap().number().unwrap()
    }

    #[test]
    fn every_type_either_way_round() {
        use FieldType::{F32, F64, I8, I16, I24, I32, I64, U8, U16, U24, U32, U64};
        let frame = [0xff, 0xfe, 0xfd, 0xfc, 0xfb, 0xfa, 0xf9, 0xf8];
        for (kind, big, little) in [
            (U8, 255.0, 255.0),
            (I8, -1.0, -1.0),
            (U16, 65_534.0, 65_279.0),
            (I16, -2.0, -257.0),
            (U24, 16_776_957.0, 16_645_887.0),
            (I24, -259.0, -131_329.0),
            (U32, 4_294_901_244.0, 4_244_504_319.0),
            (I32, -66_052.0, -50_462_977.0),
            (U64, 0xfffe_fdfc_fbfa_f9f8_u64 as f64, 0xf8f9_fafb_fcfd_feff_u64 as f64),
            (
                I64,
                0xfffe_fdfc_fbfa_f9f8_u64.cast_signed() as f64,
                0xf8f9_fafb_fcfd_feff_u64.cast_signed() as f64,
            ),
        ] {
            assert_eq!(number(field(0, kind, Endian::Big), &frame), big, "{kind:?}");
            assert_eq!(number(field(0, kind, Endian::Little), &frame), little, "{kind:?}");
        }
        assert_eq!(number(field(0, F32, Endian::Big), &[0x41, 0xac, 0, 0]), 21.5);
        assert_eq!(number(field(0, F32, Endian::Little), &[0, 0, 0xac, 0x41]), 21.5);
        let double = 21.53_f64.to_be_bytes();
        assert_eq!(number(field(0, F64, Endian::Big), &double), 21.53);
        let bad = Ok(Value::Bad(Fault::Corrupt));
        assert_eq!(parsed(field(0, F32, Endian::Big), &[0x7f, 0xc0, 0, 0]), bad);
    }

    #[test]
    fn bits_are_picked_by_a_mask_or_by_number() {
        let with = |kind, mask, bit| Field { mask, bit, ..field(0, kind, Endian::Big) };
        assert_eq!(number(with(FieldType::U16, Some(0x0ff0), None), &[0x1a, 0xb2]), 171.0);
        // Twelve bits, two's complement.
        assert_eq!(number(with(FieldType::I16, Some(0x0fff), None), &[0x7f, 0xfe]), -2.0);
        assert_eq!(number(with(FieldType::I16, Some(0x0fff), None), &[0xf7, 0xff]), 2047.0);
        let bit = |bit| parsed(with(FieldType::U16, None, Some(bit)), &[0x80, 0x01]);
        assert_eq!(bit(15), Ok(Value::Good(true.into())));
        assert_eq!(bit(1), Ok(Value::Good(false.into())));
    }

    #[test]
    fn digits_and_texts() {
        assert_eq!(number(field(0, FieldType::Bcd, Endian::Big), &[0x12, 0x34]), 1234.0);
        assert_eq!(number(field(0, FieldType::Bcd, Endian::Little), &[0x34, 0x12]), 1234.0);
        let bad = Ok(Value::Bad(Fault::Corrupt));
        assert_eq!(parsed(field(0, FieldType::Bcd, Endian::Big), &[0x1a, 0x34]), bad);
        let text = Field { size: 4, ..field(1, FieldType::Text, Endian::Big) };
        assert_eq!(parsed(text.clone(), b"xAB \0"), Ok(Value::Good(Datum::from("AB"))));
        assert_eq!(parsed(text, b"x\xffB \0"), Ok(Value::Bad(Fault::Corrupt)));
    }

    #[test]
    fn a_frame_that_is_too_short_or_damaged_is_not_understood() {
        let last = field(-2, FieldType::U16, Endian::Big);
        assert_eq!(number(last.clone(), &[9, 9, 1, 2]), 258.0);
        assert_eq!(parsed(last, &[1]), Err(NotUnderstood));
        assert_eq!(parsed(field(1, FieldType::U16, Endian::Big), &[1, 2]), Err(NotUnderstood));
        let checksum = Checksum { kind: Sum::Add8, at: None, from: 0, to: None, endian: None };
        let fields = vec![field(0, FieldType::U8, Endian::Big)];
        let binary = Binary::new(fields, Some(checksum), Endian::Big);
        let mut batch = Batch::default();
        assert_eq!(binary.parse(&[1, 2, 3], &mut batch), Ok(()));
        assert_eq!(binary.parse(&[1, 2, 4], &mut batch), Err(NotUnderstood));
        assert_eq!(batch.samples.len(), 1);
    }
}
