//! `tidemill report`: all that somebody who helps wants to know, without a
//! secret.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::Context;
use device::scan::{Holders, Scan};
use reading::Timestamp;
use tidemill::redact::Secrets;
use tidemill::{Config, VERSION};

use super::control::Gateway;
use super::doctor;

/// Of a log only the end is taken, bytes: an issue holds 64 KiB.
const LOG_MAX: usize = 32 * 1024;

/// Arguments.
#[derive(clap::Args)]
#[command(after_help = "\
Passwords, user names, header values and the queries of URLs are replaced by
***, wherever they stand. Read it before you send it all the same.

Example: journalctl -u tidemill -n 300 | sudo tidemill report --logs - > report.txt")]
pub(crate) struct Args {
    #[command(flatten)]
    place: crate::Place,
    /// Add the last lines of this file; - for the standard input
    #[arg(long, value_name = "FILE")]
    logs: Option<PathBuf>,
    /// Look at the machine whose files are here
    #[arg(long, value_name = "DIR", default_value = "/", hide = true)]
    root: PathBuf,
}

/// Prints the bundle as one text.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let logs = args.logs.as_deref().map(read_logs).transpose()?;
    let path = args.place.path();
    let text = fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let loaded = Config::load(path);
    let mut secrets = Secrets::of_text(text.as_deref().unwrap_or_default());
    let config = loaded.as_ref().ok();
    if let Some(config) = config {
        secrets.add_of(config);
    }

    let mut out = format!("tidemill report, {}\n", Timestamp::now());
    let mut section = |title: &str, text: &str| {
        out += &format!("\n==== {title} ====\n{}\n", text.trim_end());
    };
    section("version", &about(&args.root));
    match &text {
        Ok(text) => section(&path.display().to_string(), &secrets.masked(text)),
        Err(error) => section(&path.display().to_string(), &super::words(error)),
    }
    match &loaded {
        Ok(_) => section("check", "valid"),
        Err(error) => section("check", &format!("{error:#}")),
    }
    let findings = doctor::examine(config, path, &args.root)?;
    section("doctor", &doctor::text(&findings, false));
    section("status", &status(path));
    section("scan", &super::scan::text(&Scan::of(&args.root, &Holders::of(&args.root)), true));
    if let Some(logs) = logs {
        section("log", &logs);
    }
    // Once more over all of it: a log or an error may repeat what was masked.
    super::print(&secrets.scrubbed(&out))
}

/// The version, and the machine as far as it explains anything.
fn about(root: &Path) -> String {
    let line = |file: &str| {
        let text = fs::read(root.join(file)).unwrap_or_default();
        String::from_utf8_lossy(&text).trim_matches(['\0', '\n']).to_owned()
    };
    let release = line("etc/os-release");
    let name = release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    let load = line("proc/loadavg");
    let memory = line("proc/meminfo");
    let memory: Vec<&str> = memory
        .lines()
        .filter(|line| line.starts_with("MemTotal") || line.starts_with("MemAvailable"))
        .collect();
    format!(
        "tidemill {VERSION} for {}\nboard   {}\nsystem  {}\nkernel  {}\nload    {load}\nmemory  {}",
        std::env::consts::ARCH,
        line("proc/device-tree/model"),
        name.unwrap_or_default().trim_matches('"'),
        line("proc/sys/kernel/osrelease"),
        memory.join(", "),
    )
}

/// The running gateway's own word.
fn status(path: &Path) -> String {
    let asked = super::runtime()
        .map_err(anyhow::Error::from)
        .and_then(|runtime| runtime.block_on(Gateway::of(path).get("/api/v1/status")));
    match asked.map(|body| serde_json::from_str::<serde_json::Value>(&body)) {
        Ok(Ok(status)) => format!("{status:#}"),
        Ok(Err(error)) => format!("not understood: {error}"),
        Err(error) => format!("{error:#}"),
    }
}

fn read_logs(path: &Path) -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    let read = if path == Path::new("-") {
        std::io::stdin().read_to_end(&mut bytes)
    } else {
        fs::File::open(path).and_then(|mut file| file.read_to_end(&mut bytes))
    };
    read.with_context(|| format!("read the log {}", path.display()))?;
    let text = String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(LOG_MAX)..]).into_owned();
    // The first line may be cut.
    Ok(match text.split_once('\n') {
        Some((_, rest)) if bytes.len() > LOG_MAX => rest.to_owned(),
        _ => text,
    })
}
