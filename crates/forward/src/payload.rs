//! What subscribers parse, in one place: add fields, never change one.
//!
//! Written straight into bytes, a reading at a time: this is the inner loop of
//! a drain.

use std::io::Write;
use std::time::Duration;

use reading::{ChannelSpec, Datum, Epoch, Gap, Reading, Seq, Timestamp};
use serde::Serialize;

use crate::Gateway;

/// A reading sent later than this after its time is marked historical.
pub(crate) const LIVE: Duration = Duration::from_secs(10);

/// One reading as JSON, for `{prefix}/{device}/{channel}`:
/// `{"epoch":"9f2c44e01a7b3d58","seq":1,"time":"2026-11-24T08:20:03.123456Z",
/// "value":21.5,"unit":"Cel","quality":"good"}`.
///
/// One that isn't good has its `reason`, a bad one a `value` of null; one sent
/// later than [`LIVE`] after its time, as told by `now`, has
/// `"historical":true`.
pub(crate) fn json(
    epoch: Epoch,
    seq: Seq,
    reading: &Reading,
    unit: &str,
    now: Timestamp,
    out: &mut Vec<u8>,
) {
    put(out, format_args!(r#"{{"epoch":"{epoch}","seq":{seq},"time":"{}","value":"#, reading.at));
    match reading.value.datum() {
        Some(datum) => put_datum(datum, out),
        None => out.extend_from_slice(b"null"),
    }
    out.extend_from_slice(b",\"unit\":");
    put_text(unit, out);
    put(out, format_args!(r#","quality":"{}""#, reading.value.quality().as_str()));
    if let Some(reason) = reading.value.reason() {
        put(out, format_args!(r#","reason":"{reason}""#));
    }
    if now.since(reading.at) > LIVE {
        out.extend_from_slice(br#","historical":true"#);
    }
    out.push(b'}');
}

/// What the first record of a pack says of all of them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct First<'a> {
    pub(crate) gateway: &'a str,
    pub(crate) epoch: Epoch,
    /// The pack wasn't sent within [`LIVE`] of this reading's time.
    pub(crate) historical: bool,
}

/// One record of an RFC 8428 pack, without what goes around it.
///
/// `n` is relative to the pack's base name, `t` is in decimal seconds with the
/// microseconds kept, `u` stands with numbers that have a unit. `seq` is ours,
/// as are `epoch` and, when the pack wasn't sent within [`LIVE`] of its first
/// reading's time, `historical` in the first record; a reader that doesn't know
/// them passes over them (section 4.4). So are `quality` and `reason`, which only a reading
/// that isn't good has; a bad one has no value field, whatever it was before.
///
/// Times before 1978 would be read as relative (section 4.5.3): a clock so
/// wrong makes the reading uncertain anyway.
pub(crate) fn senml(
    first: Option<&First<'_>>,
    seq: Seq,
    reading: &Reading,
    unit: &str,
    out: &mut Vec<u8>,
) {
    out.push(b'{');
    if let Some(First { gateway, epoch, historical }) = first {
        put(out, format_args!(r#""bn":"{gateway}/","epoch":"{epoch}","#));
        if *historical {
            out.extend_from_slice(br#""historical":true,"#);
        }
    }
    let micros = reading.at.as_micros();
    let sign = if micros < 0 { "-" } else { "" };
    let (seconds, fraction) =
        (micros.unsigned_abs() / 1_000_000, micros.unsigned_abs() % 1_000_000);
    put(out, format_args!(r#""n":"{}","t":{sign}{seconds}.{fraction:06}"#, reading.channel));
    if let Some(datum) = reading.value.datum() {
        out.extend_from_slice(match datum {
            Datum::Number(_) => b",\"v\":".as_slice(),
            Datum::Boolean(_) => b",\"vb\":",
            Datum::Text(_) => b",\"vs\":",
        });
        put_datum(datum, out);
        if !unit.is_empty() && matches!(datum, Datum::Number(_)) {
            out.extend_from_slice(b",\"u\":");
            put_text(unit, out);
        }
    }
    put(out, format_args!(r#","seq":{seq}"#));
    if let Some(reason) = reading.value.reason() {
        let quality = reading.value.quality().as_str();
        put(out, format_args!(r#","quality":"{quality}","reason":"{reason}""#));
    }
    out.push(b'}');
}

/// A gap, for `{prefix}/gaps`.
pub(crate) fn gap(epoch: Epoch, seq: Seq, gap: &Gap, out: &mut Vec<u8>) {
    put(
        out,
        format_args!(
            r#"{{"epoch":"{epoch}","seq":{seq},"from":"{}","to":"{}","count":{},"channel":"#,
            gap.from, gap.to, gap.count
        ),
    );
    match &gap.channel {
        Some(channel) => put(out, format_args!(r#""{channel}""#)),
        None => out.extend_from_slice(b"null"),
    }
    out.extend_from_slice(b",\"reason\":");
    put_text(&gap.reason, out);
    out.push(b'}');
}

/// `{prefix}/info`: what a subscriber needs to make sense of the rest.
#[derive(Serialize)]
struct Info<'a> {
    gateway: &'a str,
    version: &'a str,
    epoch: String,
    devices: Vec<Device<'a>>,
}

#[derive(Serialize)]
struct Device<'a> {
    device: &'a str,
    channels: Vec<Described<'a>>,
}

#[derive(Serialize)]
struct Described<'a> {
    channel: &'a str,
    kind: &'static str,
    unit: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    label: Option<&'a str>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    output: bool,
}

/// The retained description of the gateway, of the channels that go to this
/// broker.
pub(crate) fn info<'a>(
    gateway: &'a Gateway,
    channels: impl Iterator<Item = &'a ChannelSpec>,
) -> Vec<u8> {
    let mut devices: Vec<Device<'a>> = Vec::new();
    for spec in channels {
        let described = Described {
            channel: spec.channel.as_str(),
            kind: spec.kind.as_str(),
            unit: spec.unit.as_str(),
            label: spec.label.as_deref(),
            output: spec.output,
        };
        let device = spec.channel.device();
        match devices.iter_mut().find(|known| known.device == device) {
            Some(known) => known.channels.push(described),
            None => devices.push(Device { device, channels: vec![described] }),
        }
    }
    let epoch = gateway.epoch.to_string();
    let info = Info { gateway: &gateway.id, version: gateway.version, epoch, devices };
    serde_json::to_vec(&info).expect("no map keys that JSON would refuse")
}

fn put_datum(datum: &Datum, out: &mut Vec<u8>) {
    match datum {
        // The shortest text that reads back as the same number. A whole one
        // keeps its `.0`, so that a reader that guesses types from the first
        // message doesn't cut the decimals off all that follow.
        Datum::Number(number) => {
            serde_json::to_writer(&mut *out, number).expect("a vector takes everything");
        }
        Datum::Boolean(truth) => put(out, format_args!("{truth}")),
        Datum::Text(text) => put_text(text, out),
    }
}

fn put_text(text: &str, out: &mut Vec<u8>) {
    serde_json::to_writer(&mut *out, text).expect("a vector takes everything");
}

fn put(out: &mut Vec<u8>, arguments: std::fmt::Arguments<'_>) {
    out.write_fmt(arguments).expect("a vector takes everything");
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use reading::{Doubt, Fault, Kind, Unit, Value};
    use serde_json::Value as Json;

    use super::*;

    const EPOCH: Epoch = Epoch(0x9f2c_44e0_1a7b_3d58);
    const AT: Timestamp = Timestamp::from_micros(1_795_508_403_123_456);

    fn reading(channel: &str, value: Value) -> Reading {
        Reading { channel: channel.parse().unwrap(), at: AT, value }
    }

    fn values() -> Vec<(Reading, &'static str)> {
        vec![
            (reading("weather/temperature", Value::Good(Datum::Number(21.5))), "Cel"),
            (reading("weather/count", Value::Good(Datum::Number(3.0))), ""),
            (reading("panel/door", Value::Good(true.into())), ""),
            (reading("gps/\u{61}", Value::Good("a \"b\"\n\u{1}é".into())), ""),
            (reading("meter/e", Value::Uncertain(Datum::Number(-1e-9), Doubt::Device)), "kWh"),
            (reading("weather/humidity", Value::Bad(Fault::Timeout)), "%RH"),
        ]
    }

    fn check(lines: &[Vec<u8>], expected: &Expect) {
        for line in lines {
            serde_json::from_slice::<Json>(line).unwrap();
        }
        let text: Vec<_> = lines.iter().map(|line| String::from_utf8_lossy(line)).collect();
        expected.assert_eq(&text.join("\n"));
    }

    #[test]
    fn a_reading_as_json() {
        let encode = |now: Timestamp| {
            let one = |(n, (reading, unit)): (usize, (Reading, &str))| {
                let mut out = Vec::new();
                json(EPOCH, Seq(n as u64 + 1), &reading, unit, now, &mut out);
                out
            };
            values().into_iter().enumerate().map(one).collect::<Vec<_>>()
        };
        check(
            &encode(AT),
            &expect![[r#"
            {"epoch":"9f2c44e01a7b3d58","seq":1,"time":"2026-11-24T08:20:03.123456Z","value":21.5,"unit":"Cel","quality":"good"}
            {"epoch":"9f2c44e01a7b3d58","seq":2,"time":"2026-11-24T08:20:03.123456Z","value":3.0,"unit":"","quality":"good"}
            {"epoch":"9f2c44e01a7b3d58","seq":3,"time":"2026-11-24T08:20:03.123456Z","value":true,"unit":"","quality":"good"}
            {"epoch":"9f2c44e01a7b3d58","seq":4,"time":"2026-11-24T08:20:03.123456Z","value":"a \"b\"\n\u0001é","unit":"","quality":"good"}
            {"epoch":"9f2c44e01a7b3d58","seq":5,"time":"2026-11-24T08:20:03.123456Z","value":-1e-9,"unit":"kWh","quality":"uncertain","reason":"device in doubt"}
            {"epoch":"9f2c44e01a7b3d58","seq":6,"time":"2026-11-24T08:20:03.123456Z","value":null,"unit":"%RH","quality":"bad","reason":"timeout"}"#]],
        );
        check(
            &encode(AT + LIVE)[..1],
            &expect![[
                r#"{"epoch":"9f2c44e01a7b3d58","seq":1,"time":"2026-11-24T08:20:03.123456Z","value":21.5,"unit":"Cel","quality":"good"}"#
            ]],
        );
        check(
            &encode(AT + LIVE + Duration::from_micros(1))[..1],
            &expect![[
                r#"{"epoch":"9f2c44e01a7b3d58","seq":1,"time":"2026-11-24T08:20:03.123456Z","value":21.5,"unit":"Cel","quality":"good","historical":true}"#
            ]],
        );
    }

    #[test]
    fn records_of_a_senml_pack() {
        let one = |(n, (reading, unit)): (usize, (Reading, &str))| {
            let mut out = Vec::new();
            let historical = n == 1;
            let first = First { gateway: "greenhouse", epoch: EPOCH, historical };
            senml((n < 2).then_some(&first), Seq(n as u64 + 1), &reading, unit, &mut out);
            out
        };
        let lines: Vec<_> = values().into_iter().enumerate().map(one).collect();
        check(
            &lines,
            &expect![[r#"
            {"bn":"greenhouse/","epoch":"9f2c44e01a7b3d58","n":"weather/temperature","t":1795508403.123456,"v":21.5,"u":"Cel","seq":1}
            {"bn":"greenhouse/","epoch":"9f2c44e01a7b3d58","historical":true,"n":"weather/count","t":1795508403.123456,"v":3.0,"seq":2}
            {"n":"panel/door","t":1795508403.123456,"vb":true,"seq":3}
            {"n":"gps/a","t":1795508403.123456,"vs":"a \"b\"\n\u0001é","seq":4}
            {"n":"meter/e","t":1795508403.123456,"v":-1e-9,"u":"kWh","seq":5,"quality":"uncertain","reason":"device in doubt"}
            {"n":"weather/humidity","t":1795508403.123456,"seq":6,"quality":"bad","reason":"timeout"}"#]],
        );
    }

    #[test]
    fn microseconds_survive_senml() {
        for micros in [0, 1, -1, -1_000_001, 1_795_508_403_000_001, 253_402_207_199_999_999] {
            let at = Timestamp::from_micros(micros);
            let reading = Reading { at, ..reading("a/b", Value::Good(true.into())) };
            let mut out = Vec::new();
            senml(None, Seq(1), &reading, "", &mut out);
            let text = String::from_utf8(out).unwrap();
            let (_, rest) = text.split_once("\"t\":").unwrap();
            let (number, _) = rest.split_once(',').unwrap();
            let digits: String = number.chars().filter(|&c| c != '.').collect();
            assert_eq!(digits.parse(), Ok(micros), "{text}");
        }
    }

    #[test]
    fn a_gap() {
        let lines: Vec<_> = [Some("weather/temperature".parse().unwrap()), None]
            .into_iter()
            .map(|channel| {
                let to = AT + Duration::from_secs(60);
                let lost = Gap { from: AT, to, count: 60, channel, reason: "store full".into() };
                let mut out = Vec::new();
                gap(EPOCH, Seq(7), &lost, &mut out);
                out
            })
            .collect();
        check(
            &lines,
            &expect![[r#"
            {"epoch":"9f2c44e01a7b3d58","seq":7,"from":"2026-11-24T08:20:03.123456Z","to":"2026-11-24T08:21:03.123456Z","count":60,"channel":"weather/temperature","reason":"store full"}
            {"epoch":"9f2c44e01a7b3d58","seq":7,"from":"2026-11-24T08:20:03.123456Z","to":"2026-11-24T08:21:03.123456Z","count":60,"channel":null,"reason":"store full"}"#]],
        );
    }

    #[test]
    fn the_gateway_described() {
        let spec = |channel: &str, kind, unit, label: Option<&str>, output| ChannelSpec {
            channel: channel.parse().unwrap(),
            kind,
            unit: Unit::of(unit),
            label: label.map(ToOwned::to_owned),
            range: None,
            output,
        };
        let gateway = Gateway {
            id: "greenhouse".into(),
            version: "0.1.0",
            channels: vec![
                spec("weather/temperature", Kind::Number, "Cel", Some("Outside"), false),
                spec("panel/pump", Kind::Boolean, "", None, true),
                spec("weather/note", Kind::Text, "", None, false),
            ],
            epoch: EPOCH,
        };
        check(
            &[info(&gateway, gateway.channels.iter())],
            &expect![[
                r#"{"gateway":"greenhouse","version":"0.1.0","epoch":"9f2c44e01a7b3d58","devices":[{"device":"weather","channels":[{"channel":"weather/temperature","kind":"number","unit":"Cel","label":"Outside"},{"channel":"weather/note","kind":"text","unit":""}]},{"device":"panel","channels":[{"channel":"panel/pump","kind":"boolean","unit":"","output":true}]}]}"#
            ]],
        );
    }
}
