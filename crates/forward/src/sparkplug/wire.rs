//! The protobuf of a Sparkplug B payload (specification 3.0.0, section 6.4, and
//! its `sparkplug_b.proto`), as far as it is spoken here.
//!
//! By hand: a generated type wants a name and a list of its own for each
//! reading, and a drain writes hundreds of thousands a second.

use reading::Datum;

/// `DataType` of the specification, section 6.4.16.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DataType {
    Int32 = 3,
    UInt64 = 8,
    Double = 10,
    Boolean = 11,
    String = 12,
}

/// Fields of `Payload`.
const TIMESTAMP: u32 = 1;
const METRICS: u32 = 2;
const SEQ: u32 = 3;

/// Fields of `Metric`.
const NAME: u32 = 1;
const METRIC_TIMESTAMP: u32 = 3;
const DATA_TYPE: u32 = 4;
const IS_HISTORICAL: u32 = 5;
const IS_NULL: u32 = 7;
const PROPERTIES: u32 = 9;
const INT: u32 = 10;
const LONG: u32 = 11;
const FLOAT: u32 = 12;
const DOUBLE: u32 = 13;
const BOOLEAN: u32 = 14;
const STRING: u32 = 15;

/// Fields of `PropertySet` and `PropertyValue`.
const KEYS: u32 = 1;
const VALUES: u32 = 2;
const PROPERTY_TYPE: u32 = 1;
const PROPERTY_INT: u32 = 3;
const PROPERTY_LONG: u32 = 4;
const PROPERTY_STRING: u32 = 8;

/// Wire types (protobuf's encoding guide).
const VARINT: u32 = 0;
const FIXED64: u32 = 1;
const LENGTH: u32 = 2;
const FIXED32: u32 = 5;

/// What a metric says.
#[derive(Clone, Copy, Debug)]
pub(super) enum Value<'a> {
    Null(DataType),
    Datum(&'a Datum),
    Long(u64),
    Text(&'a str),
}

/// A property of a metric.
#[derive(Clone, Copy, Debug)]
pub(super) enum Property<'a> {
    Int(u32),
    Long(u64),
    Text(&'a str),
}

/// One metric.
#[derive(Clone, Copy, Debug)]
pub(super) struct Metric<'a> {
    pub(super) name: &'a str,
    /// Milliseconds.
    pub(super) timestamp: u64,
    pub(super) historical: bool,
    pub(super) value: Value<'a>,
    pub(super) properties: &'a [(&'a str, Property<'a>)],
}

/// Begins a payload sent now, in milliseconds.
pub(super) fn begin(now: u64, out: &mut Vec<u8>) {
    out.clear();
    put_varint_field(TIMESTAMP, now, out);
}

/// Ends it, with its number where it has one.
pub(super) fn end(seq: Option<u8>, out: &mut Vec<u8>) {
    if let Some(seq) = seq {
        put_varint_field(SEQ, seq.into(), out);
    }
}

/// Adds a metric; `scratch` is room to work in.
pub(super) fn add(metric: &Metric<'_>, scratch: &mut [Vec<u8>; 2], out: &mut Vec<u8>) {
    let [body, inner] = scratch;
    body.clear();
    put_bytes_field(NAME, metric.name.as_bytes(), body);
    put_varint_field(METRIC_TIMESTAMP, metric.timestamp, body);
    put_varint_field(DATA_TYPE, metric.value.data_type() as u64, body);
    if metric.historical {
        put_varint_field(IS_HISTORICAL, 1, body);
    }
    if let Value::Null(_) = metric.value {
        put_varint_field(IS_NULL, 1, body);
    }
    if !metric.properties.is_empty() {
        inner.clear();
        properties(metric.properties, inner);
        put_bytes_field(PROPERTIES, inner, body);
    }
    match metric.value {
        Value::Null(_) => (),
        Value::Long(number) => put_varint_field(LONG, number, body),
        Value::Text(text) => put_bytes_field(STRING, text.as_bytes(), body),
        Value::Datum(Datum::Number(number)) => {
            put_key(DOUBLE, FIXED64, body);
            body.extend_from_slice(&number.to_le_bytes());
        }
        Value::Datum(Datum::Boolean(truth)) => put_varint_field(BOOLEAN, (*truth).into(), body),
        Value::Datum(Datum::Text(text)) => put_bytes_field(STRING, text.as_bytes(), body),
    }
    put_bytes_field(METRICS, body, out);
}

fn properties(all: &[(&str, Property<'_>)], out: &mut Vec<u8>) {
    for (key, _) in all {
        put_bytes_field(KEYS, key.as_bytes(), out);
    }
    for (_, property) in all {
        // A type and a value: a text may be long, and its length comes first.
        let value = match property {
            Property::Int(number) => 2 + 1 + varint_len((*number).into()),
            Property::Long(number) => 2 + 1 + varint_len(*number),
            Property::Text(text) => 2 + 1 + varint_len(text.len() as u64) + text.len(),
        };
        put_key(VALUES, LENGTH, out);
        put_varint(value as u64, out);
        match property {
            Property::Int(number) => {
                put_varint_field(PROPERTY_TYPE, DataType::Int32 as u64, out);
                put_varint_field(PROPERTY_INT, (*number).into(), out);
            }
            Property::Long(number) => {
                put_varint_field(PROPERTY_TYPE, DataType::UInt64 as u64, out);
                put_varint_field(PROPERTY_LONG, *number, out);
            }
            Property::Text(text) => {
                put_varint_field(PROPERTY_TYPE, DataType::String as u64, out);
                put_bytes_field(PROPERTY_STRING, text.as_bytes(), out);
            }
        }
    }
}

impl Value<'_> {
    fn data_type(&self) -> DataType {
        match self {
            Value::Null(kind) => *kind,
            Value::Long(_) => DataType::UInt64,
            Value::Datum(Datum::Number(_)) => DataType::Double,
            Value::Datum(Datum::Boolean(_)) => DataType::Boolean,
            Value::Datum(Datum::Text(_)) | Value::Text(_) => DataType::String,
        }
    }
}

fn put_key(field: u32, kind: u32, out: &mut Vec<u8>) {
    put_varint((field << 3 | kind).into(), out);
}

fn put_varint_field(field: u32, value: u64, out: &mut Vec<u8>) {
    put_key(field, VARINT, out);
    put_varint(value, out);
}

fn put_bytes_field(field: u32, bytes: &[u8], out: &mut Vec<u8>) {
    put_key(field, LENGTH, out);
    put_varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

fn put_varint(mut value: u64, out: &mut Vec<u8>) {
    while value > 0x7F {
        out.push((value & 0x7F) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn varint_len(value: u64) -> usize {
    (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
}

/// What somebody wishes of a metric.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Wish {
    pub(super) name: String,
    /// None when it is null, or of a type that no channel has.
    pub(super) value: Option<Datum>,
}

/// The wishes of a command's payload; `None` when it isn't one.
pub(super) fn wishes(payload: &[u8]) -> Option<Vec<Wish>> {
    let mut found = Vec::new();
    for field in Fields(payload) {
        if let (METRICS, Raw::Bytes(metric)) = field? {
            found.push(wish(metric)?);
        }
    }
    Some(found)
}

fn wish(metric: &[u8]) -> Option<Wish> {
    let (mut name, mut kind, mut value) = (String::new(), 0, None);
    let mut whole = None;
    for field in Fields(metric) {
        match field? {
            (NAME, Raw::Bytes(bytes)) => name = std::str::from_utf8(bytes).ok()?.to_owned(),
            (DATA_TYPE, Raw::Varint(number)) => kind = number,
            (INT | LONG, Raw::Varint(number)) => whole = Some(number),
            (FLOAT, Raw::Fixed32(bits)) => value = Datum::number(f32::from_bits(bits).into()),
            (DOUBLE, Raw::Fixed64(bits)) => value = Datum::number(f64::from_bits(bits)),
            (BOOLEAN, Raw::Varint(truth)) => value = Some(Datum::Boolean(truth != 0)),
            (STRING, Raw::Bytes(bytes)) => value = Some(std::str::from_utf8(bytes).ok()?.into()),
            _ => (),
        }
    }
    // Signed numbers are written as unsigned ones of their width.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_possible_wrap,
        clippy::cast_precision_loss,
        reason = "that is what the specification does"
    )]
    if let Some(number) = whole {
        value = Datum::number(match kind {
            1 => f64::from(number as i8),
            2 => f64::from(number as i16),
            3 => f64::from(number as i32),
            4 => number as i64 as f64,
            _ => number as f64,
        });
    }
    Some(Wish { name, value })
}

/// A field as it is on the wire.
enum Raw<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    Fixed32(u32),
}

/// The fields of a message; one that ends too early or is of no known type is
/// `None`, and the last.
struct Fields<'a>(&'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = Option<(u32, Raw<'a>)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_none() {
            self.0 = &[];
        }
        Some(field)
    }
}

impl<'a> Fields<'a> {
    fn field(&mut self) -> Option<(u32, Raw<'a>)> {
        let key = u32::try_from(self.varint()?).ok()?;
        let raw = match key & 7 {
            VARINT => Raw::Varint(self.varint()?),
            FIXED64 => Raw::Fixed64(u64::from_le_bytes(self.take(8)?.try_into().ok()?)),
            LENGTH => {
                let length = usize::try_from(self.varint()?).ok()?;
                Raw::Bytes(self.take(length)?)
            }
            FIXED32 => Raw::Fixed32(u32::from_le_bytes(self.take(4)?.try_into().ok()?)),
            _ => return None,
        };
        Some((key >> 3, raw))
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            value |= u64::from(byte & 0x7F) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_bytes_do_harm(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = wishes(&bytes);
        }

        #[test]
        fn what_is_written_is_read(
            name in "[a-z]{1,70}", number in any::<f64>(), text in ".{0,300}", long in any::<u64>(),
        ) {
            let number = Datum::number(number).unwrap_or(Datum::Boolean(true));
            let datum = Datum::from(text.as_str());
            let mut payload = Vec::new();
            begin(long, &mut payload);
            for value in [Value::Datum(&number), Value::Datum(&datum), Value::Long(long)] {
                let metric = Metric {
                    name: &name,
                    timestamp: long,
                    historical: true,
                    value,
                    properties: &[("seq", Property::Long(long)), ("a", Property::Text(&text))],
                };
                add(&metric, &mut Default::default(), &mut payload);
            }
            end(Some(7), &mut payload);
            let read = wishes(&payload).unwrap();
            let values: Vec<_> = read.iter().filter_map(|wish| wish.value.clone()).collect();
            prop_assert_eq!(values, vec![number, datum, Datum::Number(long as f64)]);
            prop_assert!(read.iter().all(|wish| wish.name == name));
            // Cut anywhere within the last metric it is nothing, not half of it.
            prop_assert_eq!(wishes(&payload[..payload.len() - 4]), None);
        }
    }
}
