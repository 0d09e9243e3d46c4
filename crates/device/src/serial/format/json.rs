//! One JSON value a line: `{"t":21.5,"wind":{"speed":3}}`.

use std::fmt;

use reading::{Fault, Kind, Value};
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::{NotUnderstood, Scalar, value};
use crate::Batch;

/// Takes the wanted fields out of a line without building the rest of it.
#[derive(Clone)]
pub(crate) struct Json {
    root: Node,
}

/// One place in the line that is wanted, or has wanted places inside.
#[derive(Clone, Default)]
struct Node {
    /// The channels that want this very value.
    channels: Vec<(usize, Kind)>,
    /// By key, or by index for a list. A handful: a search beats a hash.
    inside: Vec<(Box<str>, Node)>,
}

impl Json {
    /// A field for each channel, in order: a key, or a dotted path such as
    /// `wind.speed` or `values.0`; `.` is the whole line.
    pub(crate) fn new(fields: &[(String, Kind)]) -> Json {
        let mut root = Node::default();
        for (channel, (field, kind)) in fields.iter().enumerate() {
            let mut node = &mut root;
            for key in field.split('.').filter(|key| !key.is_empty()) {
                let place = match node.inside.iter().position(|(known, _)| **known == *key) {
                    Some(place) => place,
                    None => {
                        node.inside.push((key.into(), Node::default()));
                        node.inside.len() - 1
                    }
                };
                node = &mut node.inside[place].1;
            }
            node.channels.push((channel, *kind));
        }
        Json { root }
    }

    pub(super) fn parse(&self, line: &[u8], batch: &mut Batch) -> Result<(), NotUnderstood> {
        let mut input = serde_json::Deserializer::from_slice(line);
        let found = Wanted { node: &self.root, batch }.deserialize(&mut input);
        found.and_then(|()| input.end()).map_err(|_| NotUnderstood)
    }
}

/// Reads one value for a node.
struct Wanted<'a> {
    node: &'a Node,
    batch: &'a mut Batch,
}

impl Wanted<'_> {
    fn scalar(self, scalar: Scalar<'_>) {
        for &(channel, kind) in &self.node.channels {
            self.batch.push(channel, value(kind, scalar));
        }
    }

    /// A table or list where a value was wanted.
    fn not_scalar(&mut self) {
        for &(channel, _) in &self.node.channels {
            self.batch.push(channel, Value::Bad(Fault::Corrupt));
        }
    }
}

impl<'de> DeserializeSeed<'de> for Wanted<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, input: D) -> Result<(), D::Error> {
        input.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Wanted<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_f64<E>(self, number: f64) -> Result<(), E> {
        self.scalar(Scalar::Number(number));
        Ok(())
    }

    fn visit_i64<E>(self, number: i64) -> Result<(), E> {
        self.scalar(Scalar::Number(number as f64));
        Ok(())
    }

    fn visit_u64<E>(self, number: u64) -> Result<(), E> {
        self.scalar(Scalar::Number(number as f64));
        Ok(())
    }

    fn visit_bool<E>(self, truth: bool) -> Result<(), E> {
        self.scalar(Scalar::Boolean(truth));
        Ok(())
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        self.scalar(Scalar::Text(text));
        Ok(())
    }

    /// `null`: the device says that it has no value.
    fn visit_unit<E>(self) -> Result<(), E> {
        for &(channel, _) in &self.node.channels {
            self.batch.push(channel, Value::Bad(Fault::Absent));
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        self.not_scalar();
        while let Some(found) = map.next_key_seed(Key(self.node))? {
            match found {
                Some(node) => map.next_value_seed(Wanted { node, batch: self.batch })?,
                None => _ = map.next_value::<IgnoredAny>()?,
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<(), A::Error> {
        self.not_scalar();
        for index in 0_usize.. {
            let inside = self.node.inside.iter();
            let mut found = inside.filter(|(key, _)| key.parse() == Ok(index));
            let more = match found.next() {
                Some((_, node)) => {
                    list.next_element_seed(Wanted { node, batch: self.batch })?.is_some()
                }
                None => list.next_element::<IgnoredAny>()?.is_some(),
            };
            if !more {
                break;
            }
        }
        Ok(())
    }
}

/// Finds what is inside a node by a key, without making a `String` of the key.
struct Key<'a>(&'a Node);

impl<'de, 'a> DeserializeSeed<'de> for Key<'a> {
    type Value = Option<&'a Node>;

    fn deserialize<D: Deserializer<'de>>(self, input: D) -> Result<Self::Value, D::Error> {
        input.deserialize_str(self)
    }
}

impl<'a> Visitor<'_> for Key<'a> {
    type Value = Option<&'a Node>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
        Ok(self.0.inside.iter().find(|(known, _)| **known == *key).map(|(_, node)| node))
    }
}

#[cfg(test)]
mod tests {
    use reading::Datum;

    use super::*;

    fn parsed(fields: &[(&str, Kind)], line: &str) -> Result<Vec<(usize, Value)>, NotUnderstood> {
        let fields: Vec<_> = fields.iter().map(|(f, kind)| ((*f).to_owned(), *kind)).collect();
        let mut batch = Batch::default();
        Json::new(&fields).parse(line.as_bytes(), &mut batch)?;
        Ok(batch.samples.into_iter().map(|sample| (sample.channel, sample.value)).collect())
    }

    fn number(number: f64) -> Value {
        Value::Good(Datum::Number(number))
    }

    #[test]
    fn fields_are_found_wherever_they_are() {
        let fields = [
            ("t", Kind::Number),
            ("wind.speed", Kind::Number),
            ("on", Kind::Boolean),
            ("mode", Kind::Text),
            ("list.1", Kind::Number),
        ];
        let line = r#"{"x":[{"t":9}],"mode":"a\"b","t":-2,"wind":{"dir":"N","speed":3e1},"on":true,"list":[7,8]}"#;
        let found = parsed(&fields, line).unwrap();
        assert_eq!(
            found,
            [
                (3, Value::Good(Datum::from("a\"b"))),
                (0, number(-2.0)),
                (1, number(30.0)),
                (2, Value::Good(true.into())),
                (4, number(8.0)),
            ]
        );
        assert_eq!(parsed(&[(".", Kind::Number)], "21.5").unwrap(), [(0, number(21.5))]);
        assert_eq!(parsed(&fields, "{}").unwrap(), []);
    }

    #[test]
    fn a_value_of_the_wrong_type_is_bad_and_null_is_absent() {
        let bad = Value::Bad(Fault::Corrupt);
        let t = [("t", Kind::Number)];
        assert_eq!(parsed(&t, r#"{"t":"warm"}"#).unwrap(), [(0, bad.clone())]);
        assert_eq!(parsed(&t, r#"{"t":{"v":1}}"#).unwrap(), [(0, bad)]);
        assert_eq!(parsed(&t, r#"{"t":null}"#).unwrap(), [(0, Value::Bad(Fault::Absent))]);
    }

    #[test]
    fn what_is_not_json_to_its_end_is_not_understood() {
        for line in [r#"{"t":21.5"#, r#"{"t":21.5} x"#, r#""t":21.5}"#, "hello", "{t:1}", ""] {
            assert_eq!(parsed(&[("t", Kind::Number)], line), Err(NotUnderstood), "{line}");
        }
        let deep = "[".repeat(100_000);
        assert_eq!(parsed(&[("t", Kind::Number)], &deep), Err(NotUnderstood));
    }
}
