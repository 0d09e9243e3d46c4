//! The JSON of readings and channels, in the feed's frames and the API's answers.

use reading::{ChannelSpec, Datum, Epoch, Gap, Reading, Record, Seq, Timestamp};
use serde::{Deserialize, Serialize, Serializer};

/// A reading in a `readings` frame.
#[derive(Serialize)]
pub(crate) struct Entry<'a> {
    seq: u64,
    channel: &'a str,
    #[serde(serialize_with = "display")]
    time: Timestamp,
    value: Option<Scalar<'a>>,
    quality: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
}

/// A reading where the channel is known: a point of history, or the last one.
#[derive(Serialize)]
pub(crate) struct Point<'a> {
    seq: u64,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "display_some")]
    epoch: Option<Epoch>,
    #[serde(serialize_with = "display")]
    time: Timestamp,
    value: Option<Scalar<'a>>,
    quality: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
}

/// What is missing.
#[derive(Serialize)]
pub(crate) struct Missing<'a> {
    #[serde(serialize_with = "display")]
    epoch: Epoch,
    seq: u64,
    #[serde(serialize_with = "display")]
    from: Timestamp,
    #[serde(serialize_with = "display")]
    to: Timestamp,
    count: u64,
    channel: Option<&'a str>,
    reason: &'a str,
}

/// A channel, with what is known of it.
#[derive(Serialize)]
pub(crate) struct Described<'a> {
    channel: &'a str,
    device: &'a str,
    name: &'a str,
    kind: &'static str,
    unit: &'a str,
    label: Option<&'a str>,
    output: bool,
    last: Option<Point<'a>>,
}

/// What the gateway says, beside readings and status.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub(crate) enum Frame<'a> {
    /// First.
    Hello {
        gateway: &'a str,
        #[serde(serialize_with = "display")]
        epoch: Epoch,
        channels: Vec<Described<'a>>,
    },
    /// The client was too slow for this many readings.
    Skipped { count: u64 },
    /// What the client said is not understood.
    Error { error: &'a str },
}

/// What a client may say.
#[derive(Debug, Deserialize, PartialEq)]
#[serde(tag = "type", rename_all = "lowercase", deny_unknown_fields)]
pub(crate) enum Request {
    /// From now on only these channels.
    Subscribe { channels: Vec<String> },
}

#[derive(Clone, Copy)]
struct Scalar<'a>(&'a Datum);

impl Serialize for Scalar<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Datum::Number(number) => to.serialize_f64(*number),
            Datum::Boolean(truth) => to.serialize_bool(*truth),
            Datum::Text(text) => to.serialize_str(text),
        }
    }
}

fn display<S: Serializer>(value: &impl std::fmt::Display, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(value)
}

fn display_some<S: Serializer>(value: &Option<Epoch>, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(value.as_ref().expect("a missing one is skipped"))
}

impl<'a> Entry<'a> {
    pub(crate) fn new(seq: Seq, reading: &'a Reading) -> Entry<'a> {
        Entry {
            seq: seq.0,
            channel: reading.channel.as_str(),
            time: reading.at,
            value: reading.value.datum().map(Scalar),
            quality: reading.value.quality().as_str(),
            reason: reading.value.reason(),
        }
    }
}

impl<'a> Point<'a> {
    /// Without the epoch: one of a channel's own.
    pub(crate) fn last(record: &'a Record) -> Option<Point<'a>> {
        let reading = record.reading()?;
        Some(Point {
            seq: record.seq.0,
            epoch: None,
            time: reading.at,
            value: reading.value.datum().map(Scalar),
            quality: reading.value.quality().as_str(),
            reason: reading.value.reason(),
        })
    }

    /// With the epoch, since history spans several starts.
    pub(crate) fn of_history(record: &'a Record) -> Option<Point<'a>> {
        Some(Point { epoch: Some(record.epoch), ..Point::last(record)? })
    }
}

impl<'a> Missing<'a> {
    pub(crate) fn new(epoch: Epoch, seq: Seq, gap: &'a Gap) -> Missing<'a> {
        Missing {
            epoch,
            seq: seq.0,
            from: gap.from,
            to: gap.to,
            count: gap.count,
            channel: gap.channel.as_ref().map(reading::Channel::as_str),
            reason: &gap.reason,
        }
    }
}

impl<'a> Described<'a> {
    pub(crate) fn new(spec: &'a ChannelSpec, last: Option<&'a Record>) -> Described<'a> {
        Described {
            channel: spec.channel.as_str(),
            device: spec.channel.device(),
            name: spec.channel.name(),
            kind: spec.kind.as_str(),
            unit: spec.unit.as_str(),
            label: spec.label.as_deref(),
            output: spec.output,
            last: last.and_then(Point::last),
        }
    }
}

/// The text of one of our own types, none of which serde_json can refuse: their
/// keys are strings and no `Serialize` of ours fails.
pub(crate) fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("our own types have nothing to refuse")
}

/// A `status` frame: the fields of the status beside the type.
pub(crate) fn status(status: &crate::Status) -> String {
    let body = json(status);
    format!(r#"{{"type":"status",{}"#, &body[1..])
}
