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
    /// What the client had missed through this number has been told.
    Resumed { seq: u64 },
    /// An output was written, or why not.
    Result {
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<&'a str>,
        ok: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        error: Option<&'a str>,
    },
}

/// What a client may say.
#[derive(Debug, Deserialize, PartialEq)]
#[serde(tag = "type", rename_all = "lowercase", deny_unknown_fields)]
pub(crate) enum Request {
    /// From now on only these channels.
    Subscribe { channels: Vec<String> },
    /// Tell what came after this reading, which it had before it was gone.
    Resume { epoch: String, seq: u64 },
    /// Give an output a value.
    Set { channel: String, value: serde_json::Value, id: Option<String> },
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

/// A `status` frame: the fields of the status beside the type, without the
/// ledger of each channel, which would be most of it.
pub(crate) fn status(status: &crate::Status) -> String {
    let ledger = crate::Ledger { channels: Vec::new(), ..status.ledger };
    let body = json(&crate::Status { ledger, ..status.clone() });
    format!(r#"{{"type":"status",{}"#, &body[1..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DeviceState, DeviceStatus, ForwarderStatus, Ledger, LinkState, Status};
    use expect_test::{Expect, expect};

    #[test]
    fn frames_without_readings() {
        expect![[r#"{"type":"skipped","count":7}"#]].assert_eq(&json(&Frame::Skipped { count: 7 }));
        expect![[r#"{"type":"error","error":"what \"is\" that"}"#]]
            .assert_eq(&json(&Frame::Error { error: "what \"is\" that" }));
        let result = |id, ok, error| json(&Frame::Result { id, ok, error });
        expect![[r#"{"type":"result","id":"1","ok":true}"#]].assert_eq(&result(
            Some("1"),
            true,
            None,
        ));
        expect![[r#"{"type":"result","ok":false,"error":"no such output"}"#]].assert_eq(&result(
            None,
            false,
            Some("no such output"),
        ));
    }

    #[test]
    fn a_status_frame_is_the_status_with_its_type() {
        let time = "2026-11-24T08:20:03.123456Z".to_owned();
        let status = Status {
            gateway: "greenhouse".into(),
            version: "0.1.0".into(),
            epoch: "9f2c44e01a7b3d58".into(),
            time: time.clone(),
            started: time.clone(),
            uptime_s: 0,
            devices: vec![DeviceStatus {
                name: "weather".into(),
                label: None,
                driver: "serial".into(),
                state: DeviceState::Lost,
                since: time.clone(),
                error: Some("timeout".into()),
                readings: 10,
                bad: 1,
                channels: vec!["weather/temperature".into()],
            }],
            forwarders: vec![ForwarderStatus {
                name: "cloud".into(),
                url: "wss://broker.example.com:8884/mqtt".into(),
                state: LinkState::Online,
                since: time,
                error: None,
                in_flight: 1,
                stored: 10,
                acknowledged: 8,
                pending: 2,
                dropped: 0,
            }],
            ledger: Ledger { read: 11, stored: 10, dropped: 1, channels: Vec::new() },
            ..Status::default()
        };
        // The store's part is the store's own business.
        let mut frame: serde_json::Value = serde_json::from_str(&super::status(&status)).unwrap();
        let store = frame["store"].take();
        assert_eq!(store, serde_json::to_value(&status.store).unwrap());
        expect![[r#"
            {
              "clock": {
                "held": 0,
                "set": false,
                "synchronized": false
              },
              "devices": [
                {
                  "bad": 1,
                  "channels": [
                    "weather/temperature"
                  ],
                  "driver": "serial",
                  "error": "timeout",
                  "label": null,
                  "name": "weather",
                  "readings": 10,
                  "since": "2026-11-24T08:20:03.123456Z",
                  "state": "lost"
                }
              ],
              "epoch": "9f2c44e01a7b3d58",
              "forwarders": [
                {
                  "acknowledged": 8,
                  "dropped": 0,
                  "error": null,
                  "in_flight": 1,
                  "name": "cloud",
                  "pending": 2,
                  "since": "2026-11-24T08:20:03.123456Z",
                  "state": "online",
                  "stored": 10,
                  "url": "wss://broker.example.com:8884/mqtt"
                }
              ],
              "gateway": "greenhouse",
              "ledger": {
                "dropped": 1,
                "read": 11,
                "stored": 10
              },
              "started": "2026-11-24T08:20:03.123456Z",
              "store": null,
              "time": "2026-11-24T08:20:03.123456Z",
              "type": "status",
              "uptime_s": 0,
              "version": "0.1.0"
            }"#]]
        .assert_eq(&serde_json::to_string_pretty(&frame).unwrap());
        assert!(super::status(&status).starts_with(r#"{"type":"status","gateway":"greenhouse","#));
        let back: Status = serde_json::from_str(&json(&status)).unwrap();
        assert_eq!(back, status);
    }

    #[test]
    fn what_a_client_may_say() {
        let channels = vec!["weather/*".to_owned()];
        let subscribe = r#"{"type":"subscribe","channels":["weather/*"]}"#;
        assert_eq!(
            serde_json::from_str::<Request>(subscribe).unwrap(),
            Request::Subscribe { channels }
        );
        let set = r#"{"type":"set","channel":"panel/pump","value":true,"id":"1"}"#;
        let (channel, value, id) = ("panel/pump".to_owned(), true.into(), Some("1".to_owned()));
        assert_eq!(
            serde_json::from_str::<Request>(set).unwrap(),
            Request::Set { channel, value, id }
        );
        let check = |text: &str, expected: Expect| {
            expected.assert_eq(&serde_json::from_str::<Request>(text).unwrap_err().to_string());
        };
        check("", expect!["EOF while parsing a value at line 1 column 0"]);
        check("[]", expect!["missing field `type` at line 1 column 2"]);
        check(r#"{"type":"subscribe"}"#, expect!["missing field `channels`"]);
        check(
            r#"{"type":"subscribe","channels":"*"}"#,
            expect![[r#"invalid type: string "*", expected a sequence"#]],
        );
        check(
            r#"{"type":"subscribe","channels":[],"since":1}"#,
            expect!["unknown field `since`, expected `channels`"],
        );
        check(
            r#"{"type":"reboot"}"#,
            expect![
                "unknown variant `reboot`, expected one of `subscribe`, `resume`, `set` at line 1 column 16"
            ],
        );
    }
}
