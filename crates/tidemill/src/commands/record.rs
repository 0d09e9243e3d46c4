//! `tidemill record`: what goes over a device's line, into a file.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use device::{Runner, Tape};
use http_body_util::Full;
use hyper::Request;
use tidemill::Config;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time;
use tokio_util::sync::CancellationToken;

use super::control::{Gateway, Unreachable};

/// Readings that wait to be thrown away.
const READINGS_MAX: usize = 16;

#[derive(clap::Args)]
#[command(after_help = "\
While the gateway runs, it holds the port and is asked for what goes over it.
Otherwise the port is opened for the recording. Replay it with tidemill replay.")]
pub(crate) struct Args {
    /// The device, such as weather
    device: String,
    /// The file to write; it must not be there yet, and - is the standard output
    file: PathBuf,
    /// Stop after this long, such as 10min; otherwise at Ctrl-C
    #[arg(long = "for", value_name = "TIME", value_parser = humantime::parse_duration)]
    span: Option<Duration>,
    #[command(flatten)]
    gateway: Gateway,
}

/// Records until the time is over or somebody interrupts.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let mut out = Out::new(&args.file)?;
    super::runtime()?.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let over = async {
            match args.span {
                Some(span) => time::sleep(span).await,
                None => std::future::pending().await,
            }
        };
        let recorded = tokio::select! {
            result = record(args, &mut out) => result,
            _ = interrupt.recv() => Ok(()),
            _ = terminate.recv() => Ok(()),
            () = over => Ok(()),
        };
        out.finish(recorded.is_err())?;
        recorded
    })
}

/// Records for ever, or until the recording can't go on.
async fn record(args: &Args, out: &mut Out) -> anyhow::Result<()> {
    let path = format!("/api/v1/devices/{}/line", args.device);
    let request = Request::get(path).body(Full::default())?;
    let through = args.gateway.follow(request, |lines| out.write(lines)).await;
    match through {
        Ok(()) => bail!("the recording ended: the gateway stopped, or the device was changed"),
        Err(error) if error.downcast_ref().is_some_and(|error: &Unreachable| error.absent) => {
            alone(args, out).await
        }
        Err(error) => Err(error),
    }
}

/// Without a gateway: opens the device as the gateway would.
async fn alone(args: &Args, out: &mut Out) -> anyhow::Result<()> {
    let file = args.gateway.file();
    let devices = Config::load(file)?.devices;
    let device = devices.into_iter().find(|device| device.name() == args.device);
    let device =
        device.with_context(|| format!("{} has no device.{}", file.display(), args.device))?;
    let mut tape = Tape::of(&device).map_err(|error| anyhow!(error))?;
    let (runner, _health, _commands) = Runner::new(device);
    let (sender, mut readings) = mpsc::channel(READINGS_MAX);
    let run = runner.run(sender, CancellationToken::new());
    let nobody = async { while readings.recv().await.is_some() {} };
    let write = async {
        while let Some(lines) = tape.next().await {
            out.write(lines.as_bytes())?;
        }
        bail!("the recording ended: it couldn't be written as fast as the device speaks")
    };
    tokio::select! {
        ((), ()) = async { tokio::join!(run, nobody) } => Ok(()),
        result = write => result,
    }
}

/// Where the recording goes.
struct Out {
    to: Box<dyn Write>,
    name: Option<String>,
    lines: usize,
}

impl Out {
    fn new(file: &Path) -> anyhow::Result<Out> {
        if file == Path::new("-") {
            return Ok(Out { to: Box::new(std::io::stdout()), name: None, lines: 0 });
        }
        let name = file.display().to_string();
        let opened = File::create_new(file).with_context(|| format!("write {name}"))?;
        Ok(Out { to: Box::new(opened), name: Some(name), lines: 0 })
    }

    fn write(&mut self, lines: &[u8]) -> anyhow::Result<()> {
        self.to.write_all(lines).and_then(|()| self.to.flush()).context("write the recording")?;
        self.lines += lines.iter().filter(|byte| **byte == b'\n').count();
        Ok(())
    }

    /// Tells what there is now. Of a recording that never began nothing is left.
    fn finish(self, failed: bool) -> anyhow::Result<()> {
        let Some(name) = &self.name else { return Ok(()) };
        match self.lines {
            0 => std::fs::remove_file(name).with_context(|| format!("remove {name}"))?,
            1 if failed => {}
            1 => eprintln!("nothing went over the line; {name} has only its head"),
            lines => eprintln!("{} lines in {name}", lines - 1),
        }
        Ok(())
    }
}
