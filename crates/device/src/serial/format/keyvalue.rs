//! Keys and values: `t=21.5,h=40`, `t:21.5 h:40`, `t = 21.5; mode = "on"`.

use reading::Kind;

use super::{Fields, NotUnderstood, Scalar};
use crate::Batch;

/// Takes the wanted keys out of a line.
#[derive(Clone)]
pub(crate) struct KeyValue {
    keys: Fields,
}

impl KeyValue {
    /// A key for each channel, in order.
    pub(crate) fn new(keys: &[(String, Kind)]) -> KeyValue {
        KeyValue { keys: Fields::new(keys) }
    }

    pub(super) fn parse(&self, line: &str, batch: &mut Batch) -> Result<(), NotUnderstood> {
        let mut pairs = 0;
        let mut rest = line.trim_start_matches(between);
        while !rest.is_empty() {
            let end = rest.find(|c| assigns(c) || between(c)).unwrap_or(rest.len());
            let (key, after) = rest.split_at(end);
            let after = after.trim_start_matches(' ');
            let Some(after) = after.strip_prefix(assigns) else {
                // A word on its own, such as a title or a unit.
                rest = after.trim_start_matches(between);
                continue;
            };
            let after = after.trim_start_matches(' ');
            let (text, after) = match after.strip_prefix('"') {
                // A quote that never ends: the line has lost its end.
                Some(quoted) => quoted.split_once('"').ok_or(NotUnderstood)?,
                None => after.split_at(after.find(between).unwrap_or(after.len())),
            };
            self.keys.give(key, Scalar::Text(text), batch);
            pairs += 1;
            rest = after.trim_start_matches(between);
        }
        if pairs == 0 { Err(NotUnderstood) } else { Ok(()) }
    }
}

/// Whether it stands between a key and its value.
fn assigns(c: char) -> bool {
    matches!(c, '=' | ':')
}

/// Whether it stands between two pairs.
fn between(c: char) -> bool {
    matches!(c, ',' | ';' | '&' | '|') || c.is_ascii_whitespace()
}

#[cfg(test)]
mod tests {
    use reading::{Datum, Fault, Value};

    use super::*;

    fn parsed(line: &str) -> Result<Vec<(usize, Value)>, NotUnderstood> {
        let keys = [("t", Kind::Number), ("h", Kind::Number), ("mode", Kind::Text)];
        let keys = keys.map(|(key, kind)| (key.to_owned(), kind));
        let mut batch = Batch::default();
        KeyValue::new(&keys).parse(line, &mut batch)?;
        Ok(batch.samples.into_iter().map(|sample| (sample.channel, sample.value)).collect())
    }

    #[test]
    fn pairs_in_every_usual_dress() {
        let good = |number| Value::Good(Datum::Number(number));
        let both = vec![(0, good(21.5)), (1, good(40.0))];
        for line in [
            "t=21.5,h=40",
            "t:21.5 h:40",
            "t = 21.5; h = 40",
            "  BME t=21.5 C\th=40 %",
            "x=1&t=21.5&h=40",
        ] {
            assert_eq!(parsed(line), Ok(both.clone()), "{line}");
        }
        let mode = Value::Good(Datum::from("warm, dry"));
        assert_eq!(parsed(r#"mode="warm, dry" t=1"#), Ok(vec![(2, mode), (0, good(1.0))]));
    }

    #[test]
    fn a_number_with_more_behind_it_is_bad_and_a_line_of_no_pairs_is_not_understood() {
        let bad = Value::Bad(Fault::Corrupt);
        assert_eq!(parsed("t=2x1.5"), Ok(vec![(0, bad.clone())]));
        assert_eq!(parsed("t="), Ok(vec![(0, bad)]));
        for line in ["21.5", "hello there", "mode=\"wa"] {
            assert_eq!(parsed(line), Err(NotUnderstood), "{line}");
        }
    }
}
