//! Separated values: `21.5,40,1013`. A cell may be in double quotes, as RFC
//! 4180 has them, and is trimmed.

use std::borrow::Cow;

use reading::Kind;

use super::{NotUnderstood, Place, Scalar, value};
use crate::Batch;

/// Takes the wanted cells out of a line.
#[derive(Clone)]
pub(crate) struct Csv {
    separator: u8,
    columns: Vec<(Place, Kind)>,
    /// The channels of each cell, by the place of the cell from 0; `None` as
    /// long as a header is waited for.
    cells: Option<Vec<Vec<usize>>>,
}

impl Csv {
    /// A column for each channel, in order.
    pub(crate) fn new(separator: u8, columns: &[(Place, Kind)]) -> Csv {
        let mut csv = Csv { separator, columns: columns.to_vec(), cells: None };
        csv.cells = csv.placed(|_| None);
        csv
    }

    pub(super) fn parse(&mut self, line: &str, batch: &mut Batch) -> Result<(), NotUnderstood> {
        // A device that starts again sends its header again.
        let named = self.columns.iter().any(|(column, _)| matches!(column, Place::Name(_)));
        if named && let Some(cells) = self.header(line) {
            self.cells = Some(cells);
            return Ok(());
        }
        let places = self.cells.as_ref().ok_or(NotUnderstood)?;
        let mut cells = Cells { rest: Some(line), separator: self.separator };
        for channels in places {
            // A line with fewer cells has lost some, and which is unknown.
            let cell = cells.next().ok_or(NotUnderstood)?;
            for &channel in channels {
                // An empty cell says nothing.
                if !cell.is_empty() {
                    let kind = self.columns[channel].1;
                    batch.push(channel, value(kind, Scalar::Text(&cell)));
                }
            }
        }
        Ok(())
    }

    /// The places of the cells when the line is a header with every name.
    fn header(&self, line: &str) -> Option<Vec<Vec<usize>>> {
        let names: Vec<_> = Cells { rest: Some(line), separator: self.separator }.collect();
        self.placed(|name| names.iter().position(|cell| cell == name))
    }

    fn placed(&self, find: impl Fn(&str) -> Option<usize>) -> Option<Vec<Vec<usize>>> {
        let mut cells: Vec<Vec<usize>> = Vec::new();
        for (channel, (column, _)) in self.columns.iter().enumerate() {
            let place = match column {
                Place::Number(number) => number.checked_sub(1)?,
                Place::Name(name) => find(name)?,
            };
            if cells.len() <= place {
                cells.resize(place + 1, Vec::new());
            }
            cells[place].push(channel);
        }
        Some(cells)
    }
}

/// The cells of a line.
struct Cells<'a> {
    rest: Option<&'a str>,
    separator: u8,
}

impl<'a> Iterator for Cells<'a> {
    type Item = Cow<'a, str>;

    fn next(&mut self) -> Option<Cow<'a, str>> {
        let rest = self.rest.take()?;
        let separator = char::from(self.separator);
        let quoted = rest.trim_start_matches(' ').strip_prefix('"');
        let Some(quoted) = quoted else {
            return Some(match rest.split_once(separator) {
                Some((cell, rest)) => {
                    self.rest = Some(rest);
                    cell.trim().into()
                }
                None => rest.trim().into(),
            });
        };
        // Two quotes are one quote of the text; a single one ends it.
        let bytes = quoted.as_bytes();
        let mut end = 0;
        while end < bytes.len() {
            match (bytes[end], bytes.get(end + 1)) {
                (b'"', Some(b'"')) => end += 2,
                (b'"', _) => break,
                _ => end += 1,
            }
        }
        let cell = &quoted[..end.min(quoted.len())];
        let after = quoted.get(end + 1..).unwrap_or_default();
        self.rest = after.split_once(separator).map(|(_, rest)| rest);
        Some(if cell.contains('"') { cell.replace("\"\"", "\"").into() } else { cell.into() })
    }
}

#[cfg(test)]
mod tests {
    use reading::{Datum, Fault, Value};

    use super::*;

    fn parse(csv: &mut Csv, line: &str) -> Result<Vec<(usize, Value)>, NotUnderstood> {
        let mut batch = Batch::default();
        csv.parse(line, &mut batch)?;
        Ok(batch.samples.into_iter().map(|sample| (sample.channel, sample.value)).collect())
    }

    fn number(number: f64) -> Value {
        Value::Good(Datum::Number(number))
    }

    #[test]
    fn columns_by_number() {
        let columns = [(Place::Number(3), Kind::Number), (Place::Number(1), Kind::Text)];
        let mut csv = Csv::new(b';', &columns);
        let text = Value::Good(Datum::from("a;\"b\""));
        assert_eq!(
            parse(&mut csv, r#" "a;""b""" ;x; 21.5 ;"#),
            Ok(vec![(1, text), (0, number(21.5))])
        );
        assert_eq!(parse(&mut csv, "a;b"), Err(NotUnderstood));
        assert_eq!(parse(&mut csv, ";;"), Ok(vec![]));
        let bad = Value::Bad(Fault::Corrupt);
        assert_eq!(parse(&mut csv, ";;warm"), Ok(vec![(0, bad)]));
    }

    #[test]
    fn columns_by_name_wait_for_the_header_and_follow_a_new_one() {
        let columns =
            [(Place::Name("temp".into()), Kind::Number), (Place::Name("hum".into()), Kind::Number)];
        let mut csv = Csv::new(b',', &columns);
        assert_eq!(parse(&mut csv, "21.5,40"), Err(NotUnderstood));
        assert_eq!(parse(&mut csv, "temp, hum"), Ok(vec![]));
        assert_eq!(parse(&mut csv, "21.5,40"), Ok(vec![(0, number(21.5)), (1, number(40.0))]));
        assert_eq!(parse(&mut csv, "hum,x,temp"), Ok(vec![]));
        assert_eq!(parse(&mut csv, "40,0,21.5"), Ok(vec![(1, number(40.0)), (0, number(21.5))]));
    }
}
