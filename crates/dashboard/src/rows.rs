//! History as JSON and as CSV (RFC 4180), row by row.

use std::borrow::Cow;
use std::fmt::Write as _;

use reading::{Channel, Datum, Epoch, Gap, Record, Seq, Timestamp, Unit};
use serde::Serialize;
use store::Bucket;

use crate::frame::{self, Missing, Point};

/// Rows that are written at once: some 32 KiB.
const CHUNK_ROWS: usize = 256;

/// How rows are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Table {
    Json,
    Csv,
}

/// What all rows have in common.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    pub(crate) channel: Channel,
    pub(crate) unit: Unit,
    /// Whether older rows of the span are left out.
    pub(crate) truncated: bool,
}

/// Readings as they are, or reduced.
#[derive(Clone, Debug)]
pub(crate) enum Rows {
    Records(Vec<Record>),
    Buckets(Vec<Bucket>),
}

/// A bucket, as JSON has it.
#[derive(Serialize)]
struct Reduced {
    time: String,
    min: Option<f64>,
    mean: Option<f64>,
    max: Option<f64>,
    count: u64,
    bad: u64,
}

impl Rows {
    pub(crate) fn len(&self) -> usize {
        match self {
            Rows::Records(records) => records.len(),
            Rows::Buckets(buckets) => buckets.len(),
        }
    }
}

impl Table {
    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Table::Json => "application/json",
            Table::Csv => "text/csv; charset=utf-8; header=present",
        }
    }

    /// A value of `Content-Disposition` that makes a browser save a file.
    pub(crate) fn file_name(self, channel: &Channel) -> Option<String> {
        let (device, name) = (channel.device(), channel.name());
        (self == Table::Csv).then(|| format!("attachment; filename=\"{device}-{name}.csv\""))
    }

    /// The text, piece by piece.
    pub(crate) fn chunks(
        self,
        head: Head,
        rows: Rows,
        gaps: Vec<(Epoch, Seq, Gap)>,
    ) -> impl Iterator<Item = String> + Send + 'static {
        let (first, last) = match self {
            Table::Json => (json_head(&head, &rows), json_tail(&gaps)),
            Table::Csv => (csv_head(&rows).to_owned(), String::new()),
        };
        let count = rows.len().div_ceil(CHUNK_ROWS);
        let middle = (0..count).map(move |chunk| {
            let from = chunk * CHUNK_ROWS;
            self.rows(&head, &rows, from..(from + CHUNK_ROWS).min(rows.len()))
        });
        std::iter::once(first).chain(middle).chain(std::iter::once(last))
    }

    fn rows(self, head: &Head, rows: &Rows, range: std::ops::Range<usize>) -> String {
        let mut text = String::new();
        for at in range {
            if self == Table::Json && at > 0 {
                text.push(',');
            }
            text += &match (rows, self) {
                (Rows::Records(records), Table::Json) => {
                    frame::json(&Point::of_history(&records[at]))
                }
                (Rows::Buckets(buckets), Table::Json) => frame::json(&reduced(&buckets[at])),
                (Rows::Records(records), Table::Csv) => csv_record(head, &records[at]),
                (Rows::Buckets(buckets), Table::Csv) => csv_bucket(head, &buckets[at]),
            };
        }
        text
    }
}

fn json_head(head: &Head, rows: &Rows) -> String {
    let (channel, unit) = (head.channel.as_str(), frame::json(&head.unit.as_str()));
    let truncated = if head.truncated { r#""truncated":true,"# } else { "" };
    let rows = match rows {
        Rows::Records(_) => "readings",
        Rows::Buckets(_) => "buckets",
    };
    // A channel's name has no character that JSON escapes.
    format!(r#"{{"channel":"{channel}","unit":{unit},{truncated}"{rows}":["#)
}

fn json_tail(gaps: &[(Epoch, Seq, Gap)]) -> String {
    let gaps: Vec<_> =
        gaps.iter().map(|(epoch, seq, gap)| Missing::new(*epoch, *seq, gap)).collect();
    format!(r#"],"gaps":{}}}"#, frame::json(&gaps))
}

fn reduced(bucket: &Bucket) -> Reduced {
    let Bucket { from, min, mean, max, count, bad } = *bucket;
    Reduced { time: from.to_string(), min, mean, max, count, bad }
}

fn csv_head(rows: &Rows) -> &'static str {
    match rows {
        Rows::Records(_) => "time,channel,value,unit,quality,reason,epoch,seq\r\n",
        Rows::Buckets(_) => "time,channel,unit,min,mean,max,count,bad\r\n",
    }
}

fn csv_record(head: &Head, record: &Record) -> String {
    let Some(reading) = record.reading() else { return String::new() };
    let value = match reading.value.datum() {
        Some(Datum::Number(number)) => number.to_string().into(),
        Some(Datum::Boolean(truth)) => truth.to_string().into(),
        Some(Datum::Text(text)) => quoted(text),
        None => Cow::Borrowed(""),
    };
    format!(
        "{},{},{value},{},{},{},{},{}\r\n",
        reading.at,
        head.channel,
        quoted(head.unit.as_str()),
        reading.value.quality().as_str(),
        reading.value.reason().unwrap_or_default(),
        record.epoch,
        record.seq,
    )
}

fn csv_bucket(head: &Head, bucket: &Bucket) -> String {
    let mut text = String::new();
    let number = |number: Option<f64>| number.map_or(String::new(), |number| number.to_string());
    let [min, mean, max] = [bucket.min, bucket.mean, bucket.max].map(number);
    let (channel, unit) = (&head.channel, quoted(head.unit.as_str()));
    let (count, bad) = (bucket.count, bucket.bad);
    let time: Timestamp = bucket.from;
    // Writing to a string can't fail.
    let _ = write!(text, "{time},{channel},{unit},{min},{mean},{max},{count},{bad}\r\n");
    text
}

/// A field as RFC 4180 has it.
fn quoted(text: &str) -> Cow<'_, str> {
    match text.contains([',', '"', '\r', '\n']) {
        true => Cow::Owned(format!("\"{}\"", text.replace('"', "\"\""))),
        false => Cow::Borrowed(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};
    use reading::{Body, Doubt, Fault, Reading, Value};

    fn head(unit: &str) -> Head {
        let channel = "weather/temperature".parse().unwrap();
        Head { channel, unit: Unit::from(unit.to_owned()), truncated: false }
    }

    fn record(seq: u64, value: Value) -> Record {
        let channel = "weather/temperature".parse().unwrap();
        let at = Timestamp::from_micros(1_795_508_403_123_456);
        let body = Body::Reading(Reading { channel, at, value });
        Record { epoch: Epoch(0x9f2c), seq: Seq(seq), body }
    }

    fn records() -> Rows {
        Rows::Records(vec![
            record(1, Value::Good(Datum::Number(21.5))),
            record(2, Value::Uncertain(Datum::Number(21.0), Doubt::ClockUnset)),
            record(3, Value::Bad(Fault::Timeout)),
            record(4, Value::Good(Datum::from("a \"b\", c"))),
            record(5, Value::Good(Datum::from(true))),
        ])
    }

    fn buckets() -> Rows {
        let from = Timestamp::from_micros(1_795_508_400_000_000);
        let (min, mean, max) = (Some(20.5), Some(21.0), Some(22.25));
        Rows::Buckets(vec![
            Bucket { from, min, mean, max, count: 60, bad: 1 },
            Bucket { from, min: None, mean: None, max: None, count: 0, bad: 3 },
        ])
    }

    fn gaps() -> Vec<(Epoch, Seq, Gap)> {
        let at = Timestamp::from_micros(1_795_508_403_000_000);
        let gap = Gap { from: at, to: at, count: 7, channel: None, reason: "store full".into() };
        vec![(Epoch(0x9f2c), Seq(6), gap)]
    }

    fn check(table: Table, head: Head, rows: Rows, expected: Expect) {
        let text: String = table.chunks(head, rows, gaps()).collect();
        if table == Table::Json {
            serde_json::from_str::<serde_json::Value>(&text).expect("it is JSON");
        }
        expected.assert_eq(&text.replace("\r\n", "␍␊\n"));
    }

    #[test]
    fn readings_as_json() {
        check(
            Table::Json,
            head("Cel"),
            records(),
            expect![[
                r#"{"channel":"weather/temperature","unit":"Cel","readings":[{"seq":1,"epoch":"0000000000009f2c","time":"2026-11-24T08:20:03.123456Z","value":21.5,"quality":"good"},{"seq":2,"epoch":"0000000000009f2c","time":"2026-11-24T08:20:03.123456Z","value":21.0,"quality":"uncertain","reason":"clock not set"},{"seq":3,"epoch":"0000000000009f2c","time":"2026-11-24T08:20:03.123456Z","value":null,"quality":"bad","reason":"timeout"},{"seq":4,"epoch":"0000000000009f2c","time":"2026-11-24T08:20:03.123456Z","value":"a \"b\", c","quality":"good"},{"seq":5,"epoch":"0000000000009f2c","time":"2026-11-24T08:20:03.123456Z","value":true,"quality":"good"}],"gaps":[{"epoch":"0000000000009f2c","seq":6,"from":"2026-11-24T08:20:03.000000Z","to":"2026-11-24T08:20:03.000000Z","count":7,"channel":null,"reason":"store full"}]}"#
            ]],
        );
        check(
            Table::Json,
            Head { truncated: true, ..head("") },
            Rows::Records(vec![]),
            expect![[
                r#"{"channel":"weather/temperature","unit":"","truncated":true,"readings":[],"gaps":[{"epoch":"0000000000009f2c","seq":6,"from":"2026-11-24T08:20:03.000000Z","to":"2026-11-24T08:20:03.000000Z","count":7,"channel":null,"reason":"store full"}]}"#
            ]],
        );
    }

    #[test]
    fn readings_as_csv() {
        check(
            Table::Csv,
            head("Cel"),
            records(),
            expect![[r#"
            time,channel,value,unit,quality,reason,epoch,seq␍␊
            2026-11-24T08:20:03.123456Z,weather/temperature,21.5,Cel,good,,0000000000009f2c,1␍␊
            2026-11-24T08:20:03.123456Z,weather/temperature,21,Cel,uncertain,clock not set,0000000000009f2c,2␍␊
            2026-11-24T08:20:03.123456Z,weather/temperature,,Cel,bad,timeout,0000000000009f2c,3␍␊
            2026-11-24T08:20:03.123456Z,weather/temperature,"a ""b"", c",Cel,good,,0000000000009f2c,4␍␊
            2026-11-24T08:20:03.123456Z,weather/temperature,true,Cel,good,,0000000000009f2c,5␍␊
        "#]],
        );
    }

    #[test]
    fn buckets_as_json() {
        check(
            Table::Json,
            head("Cel"),
            buckets(),
            expect![[
                r#"{"channel":"weather/temperature","unit":"Cel","buckets":[{"time":"2026-11-24T08:20:00.000000Z","min":20.5,"mean":21.0,"max":22.25,"count":60,"bad":1},{"time":"2026-11-24T08:20:00.000000Z","min":null,"mean":null,"max":null,"count":0,"bad":3}],"gaps":[{"epoch":"0000000000009f2c","seq":6,"from":"2026-11-24T08:20:03.000000Z","to":"2026-11-24T08:20:03.000000Z","count":7,"channel":null,"reason":"store full"}]}"#
            ]],
        );
    }

    #[test]
    fn buckets_as_csv() {
        check(
            Table::Csv,
            head("a,b"),
            buckets(),
            expect![[r#"
            time,channel,unit,min,mean,max,count,bad␍␊
            2026-11-24T08:20:00.000000Z,weather/temperature,"a,b",20.5,21,22.25,60,1␍␊
            2026-11-24T08:20:00.000000Z,weather/temperature,"a,b",,,,0,3␍␊
        "#]],
        );
    }

    #[test]
    fn many_rows_are_as_many_in_pieces() {
        let many = |n: u64| {
            Rows::Records((0..n).map(|n| record(n, Value::Good(Datum::from(true)))).collect())
        };
        for count in [0, 1, 255, 256, 257, 1000] {
            let text: String = Table::Json.chunks(head("Cel"), many(count), vec![]).collect();
            let json: serde_json::Value = serde_json::from_str(&text).unwrap();
            let seqs: Vec<_> =
                json["readings"].as_array().unwrap().iter().map(|r| r["seq"].as_u64()).collect();
            assert_eq!(seqs, (0..count).map(Some).collect::<Vec<_>>());
        }
    }
}
