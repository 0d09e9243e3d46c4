//! What the README's figures come from: serial line → store → mosquitto over
//! WebSocket → subscriber, with the real binary, each figure beside the limit
//! that this machine sets. `cargo xtask bench` runs it.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::cast_precision_loss,
    reason = "a benchmark may panic, sleep and start threads: it is not the gateway"
)]

mod backlog;
mod limits;
mod load;
mod usage;

#[expect(dead_code, unused_imports, reason = "the tests use the rest")]
#[path = "../../../tests/support/mod.rs"]
mod support;

use std::process::ExitCode;
use std::time::Duration;

use limits::Limits;
use load::{Format, Load, Outcome};

const USAGE: &str = "\
usage: cargo xtask bench [--lines N] [--rate N] [--seconds N]
       cargo xtask backlog [--readings N]

  --lines N     lines of the run at full speed [default: 1000000]
  --rate N      lines a second of the paced run [default: 1000]
  --seconds N   how long the paced run takes [default: 60]
  --readings N  how many readings wait for the broker [default: 10000000]";

struct Options {
    lines: u64,
    rate: u64,
    seconds: u64,
    /// Of the backlog, when that is what is asked for.
    readings: Option<u64>,
}

/// Readings that wait, unless it is said otherwise: eleven days of ten channels.
const BACKLOG: u64 = 10_000_000;

fn main() -> ExitCode {
    let options = match options(std::env::args().skip(1)) {
        Ok(Some(options)) => options,
        Ok(None) => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Err(wrong) => {
            eprintln!("{wrong}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    if let Some(readings) = options.readings {
        return backlog::run(readings);
    }
    println!("limits of this machine …");
    let limits = Limits::measure(options.rate);
    println!("full speed, senml: {} lines …", options.lines);
    let full = load::run(&Load { lines: options.lines, rate: None, format: Format::Senml });
    let lines = options.rate * options.seconds;
    println!("{} lines a second, json: {lines} lines …", options.rate);
    let paced = load::run(&Load { lines, rate: Some(options.rate), format: Format::Json });
    println!("\n{}", table(&options, &limits, &full, &paced));
    verdict(&full, &paced)
}

/// `None` for help.
fn options(mut arguments: impl Iterator<Item = String>) -> Result<Option<Options>, String> {
    let mut options = Options { lines: 1_000_000, rate: 1_000, seconds: 60, readings: None };
    while let Some(argument) = arguments.next() {
        let place = match argument.as_str() {
            "--help" | "-h" => return Ok(None),
            "backlog" => {
                options.readings = Some(BACKLOG);
                continue;
            }
            "--readings" => options.readings.insert(BACKLOG),
            "--lines" => &mut options.lines,
            "--rate" => &mut options.rate,
            "--seconds" => &mut options.seconds,
            unknown => return Err(format!("no option {unknown:?}")),
        };
        let value = arguments.next().unwrap_or_default();
        *place = value.parse().map_err(|_| format!("{argument} wants a number, not {value:?}"))?;
        if *place == 0 {
            return Err(format!("{argument} wants 1 or more"));
        }
    }
    Ok(Some(options))
}

/// Markdown, as it stands in the README.
fn table(options: &Options, limits: &Limits, full: &Outcome, paced: &Outcome) -> String {
    let rows = [
        [
            String::new(),
            format!("full speed, `senml` ({} lines)", thousands(full.readings as f64)),
            format!("{}/s, `json` ({} s)", thousands(options.rate as f64), options.seconds),
            "the limit: the same work bare, on this machine".to_owned(),
        ],
        ["---", "--:", "--:", "---"].map(str::to_owned),
        [
            "readings/s, pty to subscriber".to_owned(),
            thousands(full.per_second()),
            thousands(paced.per_second()),
            format!(
                "pty read: {}; rows inserted: {}; publishes: {}; readings published, 100 a pack: {}",
                thousands(limits.pty.per_second),
                thousands(limits.inserts_1000.per_second),
                thousands(limits.publishes.per_second),
                thousands(limits.packs.per_second),
            ),
        ],
        [
            "CPU s per 100k readings".to_owned(),
            format!("{:.2}", full.cpu_per_100k()),
            format!("{:.2}", paced.cpu_per_100k()),
            format!(
                "pty read {:.2} + inserts {:.2} + publishes {:.2} (packs {:.2})",
                limits.pty.cpu_per_100k,
                limits.inserts_1000.cpu_per_100k,
                limits.publishes.cpu_per_100k,
                limits.packs.cpu_per_100k,
            ),
        ],
        [
            "peak RSS".to_owned(),
            megabytes(full.peak_rss),
            megabytes(paced.peak_rss),
            format!("before the first reading: {}", megabytes(paced.idle_rss)),
        ],
        [
            "p50, pty to subscriber".to_owned(),
            milliseconds(full.latency(0.50)),
            milliseconds(paced.latency(0.50)),
            format!("bare publish to subscriber: {}", milliseconds(limits.latency(0.50))),
        ],
        [
            "p99, pty to subscriber".to_owned(),
            milliseconds(full.latency(0.99)),
            milliseconds(paced.latency(0.99)),
            format!("bare publish to subscriber: {}", milliseconds(limits.latency(0.99))),
        ],
        [
            "bytes to disk per reading".to_owned(),
            format!("{:.0}", full.bytes_per_reading()),
            format!("{:.0}", paced.bytes_per_reading()),
            format!(
                "inserts, 1,000 a commit: {:.0}; 100 a commit: {:.0}",
                limits.inserts_1000.bytes, limits.inserts_100.bytes
            ),
        ],
    ];
    rows.iter().map(|row| format!("| {} |\n", row.join(" | "))).collect()
}

/// Says what the promises of the README say, and fails when anything was lost,
/// came twice or out of order; a slow machine is no failure.
fn verdict(full: &Outcome, paced: &Outcome) -> ExitCode {
    let good = |so: bool| if so { "ok  " } else { "MISS" };
    println!("{} every line once, in order: full speed: {}", good(full.is_whole()), full.account());
    println!("{} every line once, in order: paced: {}", good(paced.is_whole()), paced.account());
    println!("{} 30,000 readings/s or more at full speed", good(full.per_second() >= 30_000.0));
    println!("{} under 3 CPU s per 100k paced readings", good(paced.cpu_per_100k() < 3.0));
    println!("{} under 25 MB peak RSS, paced", good(paced.peak_rss < 25_000_000));
    if full.is_whole() && paced.is_whole() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn thousands(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

fn milliseconds(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1e3)
}
