//! `tidemill export`.

use std::fmt::Write as _;

use anyhow::{Context, bail};
use clap::ValueEnum;
use http_body_util::Full;
use hyper::Request;
use reading::{Channel, Timestamp};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::control::Gateway;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The first time: RFC 3339, or a duration before now such as 7d
    #[arg(long, value_name = "T", value_parser = time)]
    from: Timestamp,
    /// The end, exclusive [default: now]
    #[arg(long, value_name = "T", value_parser = time)]
    to: Option<Timestamp>,
    /// Only this channel; may be given more than once [default: all that are configured]
    #[arg(long, value_name = "CHANNEL")]
    channel: Vec<Channel>,
    /// How rows are written
    #[arg(long, value_enum, default_value_t = Format::Csv)]
    format: Format,
    #[command(flatten)]
    gateway: Gateway,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// RFC 4180, with a header
    Csv,
    /// One JSON object a line
    Jsonl,
}

#[derive(Deserialize)]
struct Channels {
    channels: Vec<Described>,
}

#[derive(Deserialize)]
struct Described {
    channel: String,
}

#[derive(Deserialize)]
struct Readings<'a> {
    channel: String,
    unit: String,
    #[serde(borrow)]
    readings: Vec<&'a RawValue>,
}

/// Prints the readings of each channel in the order of time.
pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let to = args.to.unwrap_or_else(Timestamp::now);
    if args.from >= to {
        bail!("--from ({}) is not before --to ({to})", args.from);
    }
    super::runtime()?.block_on(async {
        let mut channels = args.channel.clone();
        if channels.is_empty() {
            let known = args.gateway.get("/api/v1/channels").await?;
            let Channels { channels: known } = serde_json::from_str(&known)
                .context("understand the gateway's answer; is it of the same version?")?;
            let names = known.iter().map(|known| known.channel.parse());
            channels = names.collect::<Result<_, _>>()?;
        }
        let mut headed = false;
        for channel in &channels {
            // The gateway gives so many rows at once: of more, the two halves of
            // the span are asked for, the earlier one first.
            let mut spans = vec![(args.from, to)];
            while let Some((from, to)) = spans.pop() {
                let (rows, whole) = ask(&args, channel, from, to).await?;
                let width = to.as_micros() - from.as_micros();
                if !whole && width > 1 {
                    let middle = Timestamp::from_micros(from.as_micros() + width / 2);
                    spans.extend([(middle, to), (from, middle)]);
                    continue;
                }
                print(&rows, args.format, &mut headed)?;
            }
        }
        Ok(())
    })
}

/// The rows of a span, and whether these are all.
async fn ask(
    args: &Args,
    channel: &Channel,
    from: Timestamp,
    to: Timestamp,
) -> anyhow::Result<(String, bool)> {
    let table = match args.format {
        Format::Csv => "readings.csv",
        Format::Jsonl => "readings",
    };
    let path = format!("/api/v1/{table}?channel={channel}&from={from}&to={to}");
    let answer = args.gateway.ask(Request::get(path).body(Full::default())?).await?;
    let whole = !answer.headers.contains_key("x-truncated");
    Ok((answer.body, whole))
}

fn print(rows: &str, format: Format, headed: &mut bool) -> anyhow::Result<()> {
    match format {
        Format::Csv => {
            let (head, rest) = rows.split_once('\n').unwrap_or((rows, ""));
            if !std::mem::replace(headed, true) {
                super::print(&format!("{head}\n"))?;
            }
            super::print(rest)
        }
        Format::Jsonl => super::print(&lines(rows)?),
    }
}

/// Each reading as an object of its own, with what all have in common.
fn lines(answer: &str) -> anyhow::Result<String> {
    let Readings { channel, unit, readings } = serde_json::from_str(answer)?;
    let (channel, unit) = (serde_json::to_string(&channel)?, serde_json::to_string(&unit)?);
    let mut text = String::new();
    for reading in readings {
        let fields = reading.get().trim_start_matches('{');
        writeln!(text, r#"{{"channel":{channel},"unit":{unit},{fields}"#)?;
    }
    Ok(text)
}

fn time(text: &str) -> Result<Timestamp, String> {
    let before = || humantime::parse_duration(text).ok().map(|before| Timestamp::now() - before);
    text.parse().ok().or_else(before).ok_or_else(|| {
        "neither a time (2026-11-24T08:00:00Z) nor a duration before now (15min)".to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_an_object_with_its_channel() {
        let answer = r#"{"channel":"a/b","unit":"Cel","readings":[{"seq":1,"value":2.5},{"seq":2,"value":null}],"gaps":[]}"#;
        expect_test::expect![[r#"
            {"channel":"a/b","unit":"Cel","seq":1,"value":2.5}
            {"channel":"a/b","unit":"Cel","seq":2,"value":null}
        "#]]
        .assert_eq(&lines(answer).unwrap());
    }

    #[test]
    fn a_time_is_a_time_or_a_duration() {
        assert!(time("2026-11-24T08:00:00Z").is_ok() && time("15min").is_ok());
        assert!(time("yesterday").is_err());
    }
}
