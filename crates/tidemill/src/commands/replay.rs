//! `tidemill replay`: a recording through its device's driver.

use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::{Context, anyhow, bail};
use device::{Replay, Replayed};
use reading::{Datum, Reading};
use tidemill::Config;

/// The longest recording that is read: days of a talkative line.
const RECORDING_MAX: u64 = 1 << 30;

#[derive(clap::Args)]
#[command(after_help = "\
Prints the readings as tidemill watch does, with the times they had. Frames that
were not understood go to stderr; with --config another format can be tried.")]
pub(crate) struct Args {
    /// What tidemill record wrote
    file: PathBuf,
    /// One JSON object a line, a reading each
    #[arg(long)]
    json: bool,
    /// Take the device's settings from this configuration, not from the recording
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Replays a recording, at once.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let file = args.file.display();
    let size = std::fs::metadata(&args.file).with_context(|| format!("read {file}"))?.len();
    if size > RECORDING_MAX {
        bail!("{file} is too long: the longest recording is 1 GiB; cut it with head -n");
    }
    let recording = std::fs::read_to_string(&args.file).with_context(|| format!("read {file}"))?;
    let wrong = |what: String| anyhow!("{file}: {what}");
    let other = match &args.config {
        None => None,
        Some(config) => {
            let name = Replay::device(&recording).map_err(wrong)?;
            let devices = Config::load(config)?.devices;
            let device = devices.into_iter().find(|device| device.name() == name);
            Some(device.with_context(|| format!("{} has no device.{name}", config.display()))?)
        }
    };
    for replayed in Replay::of(&recording, other).map_err(wrong)? {
        match replayed.map_err(wrong)? {
            Replayed::Readings(readings) => {
                let line = if args.json { as_json } else { as_text };
                super::print(&readings.iter().map(line).collect::<String>())?;
            }
            Replayed::Noise { at, frames, heard } => {
                let more =
                    if frames > 1 { format!(" and {} more", frames - 1) } else { String::new() };
                eprintln!("{at}  not understood: {heard}{more}");
            }
        }
    }
    Ok(())
}

fn as_text(reading: &Reading) -> String {
    let Reading { channel, at, value } = reading;
    let mut line = format!("{at}  {:<32} ", channel.to_string());
    // A string takes all.
    _ = match value.datum() {
        None => write!(line, "-"),
        Some(Datum::Number(number)) => write!(line, "{number}"),
        Some(Datum::Boolean(truth)) => write!(line, "{truth}"),
        Some(Datum::Text(text)) => write!(line, "{text}"),
    };
    if let Some(reason) = value.reason() {
        _ = write!(line, "  ({}: {reason})", value.quality().as_str());
    }
    line + "\n"
}

fn as_json(reading: &Reading) -> String {
    let Reading { channel, at, value } = reading;
    let datum = match value.datum() {
        None => serde_json::Value::Null,
        Some(Datum::Number(number)) => (*number).into(),
        Some(Datum::Boolean(truth)) => (*truth).into(),
        Some(Datum::Text(text)) => (**text).into(),
    };
    let mut object = serde_json::json!({
        "channel": channel.to_string(),
        "time": at.to_string(),
        "value": datum,
        "quality": value.quality().as_str(),
    });
    if let Some(reason) = value.reason() {
        object["reason"] = reason.into();
    }
    format!("{object}\n")
}
