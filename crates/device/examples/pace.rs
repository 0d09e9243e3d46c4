//! How fast a serial device may be: lines are written to a pty as fast as it
//! takes them, and read by the `serial` driver and its runner.
//!
//! `cargo run --release -p device --example pace [SECONDS]` prints, for each
//! format, lines and readings a second and the reader's processor time. The pty
//! is the limit of the lines a second; 1/CPU is that of the driver.

use std::error::Error;
use std::io::Write;
use std::time::{Duration, Instant};

use device::{Config, Runner};
use reading::Reading;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::time::{ClockId, clock_gettime};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// A format, its settings, and a line of it; each line makes two readings.
const FORMATS: &[(&str, &str, &str)] = &[
    ("json", "channel.t = {}\nchannel.h = {}", "{\"t\":21.53,\"h\":40.25,\"n\":\"x\"}\r\n"),
    ("csv", "channel.t.column = 1\nchannel.h.column = 2", "21.53,40.25,1013\r\n"),
    ("keyvalue", "channel.t = {}\nchannel.h = {}", "t=21.53,h=40.25\r\n"),
    (
        "regex",
        "pattern = 't=(?<t>[0-9.]+),h=(?<h>[0-9.]+)'\nchannel.t = {}\nchannel.h = {}",
        "t=21.53,h=40.25\r\n",
    ),
];

fn main() -> Result<(), Box<dyn Error>> {
    let seconds = std::env::args().nth(1).map_or(Ok(2.0), |seconds| seconds.parse())?;
    for (format, settings, line) in FORMATS {
        measure(format, settings, line, Duration::from_secs_f64(seconds))?;
    }
    Ok(())
}

fn measure(format: &str, settings: &str, line: &str, time: Duration) -> Result<(), Box<dyn Error>> {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY)?;
    grantpt(&master)?;
    unlockpt(&master)?;
    let port = ptsname(&master, Vec::new())?.into_string()?;
    let mut master = std::fs::File::from(master);

    let file = format!("driver = 'serial'\nport = '{port}'\nformat = '{format}'\n{settings}");
    let mut errors = Vec::new();
    let config = Config::parse("x", toml::de::DeTable::parse(&file)?, &mut errors);
    let (runner, health, _commands) = Runner::new(config.ok_or_else(|| format!("{errors:?}"))?);

    // One thread, so that its processor time is the reader's alone.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let stop = CancellationToken::new();
    let block = line.repeat(16 * 1024 / line.len());
    // It ends with the process: a write to a pty that nobody reads waits for ever.
    std::thread::spawn(move || while master.write_all(block.as_bytes()).is_ok() {});
    let (sender, mut receiver) = mpsc::channel::<Vec<Reading>>(4);
    let begin = (Instant::now(), cpu());
    let readings = runtime.block_on(async {
        let collect = async {
            let mut readings = 0_usize;
            while let Some(batch) = receiver.recv().await {
                readings += batch.len();
            }
            readings
        };
        let end = async {
            tokio::time::sleep(time).await;
            stop.cancel();
        };
        tokio::join!(runner.run(sender, stop.clone()), end, collect).2
    });
    let (wall, cpu) = (begin.0.elapsed().as_secs_f64(), cpu() - begin.1);
    let readings = readings as f64;
    println!(
        "{format:9} {:9.0} lines/s {:9.0} readings/s, {:.3} CPU s per 100,000 readings ({:9.0} readings per CPU s), noise {}",
        readings / 2.0 / wall,
        readings / wall,
        cpu / readings * 1e5,
        readings / cpu,
        health.borrow().noise,
    );
    Ok(())
}

/// Processor seconds of this thread.
fn cpu() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
