//! `tidemill apply`: tries a configuration, and keeps it only when the links to
//! the brokers are back.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use hyper::Method;
use serde::Deserialize;
use serde_json::json;

use super::config;
use super::control::Gateway;

/// How often it is looked whether the links are back.
const LOOK: Duration = Duration::from_millis(500);

/// A link has to hold for this long: a broker that refuses late, or that another
/// client is thrown out of, shows by then.
const HOLDS: Duration = Duration::from_secs(3);

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The new configuration; it replaces the gateway's file when it is kept
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Go back after this time unless every broker is reached
    #[arg(long, value_name = "TIME", default_value = "5min", value_parser = humantime::parse_duration)]
    confirm: Duration,
    #[command(flatten)]
    gateway: Gateway,
}

#[derive(Deserialize)]
struct Status {
    forwarders: Vec<Forwarder>,
}

#[derive(Deserialize)]
struct Forwarder {
    name: String,
    state: String,
    error: Option<String>,
}

/// Has the gateway run the file, and waits for the brokers. The gateway goes back
/// by itself if this command doesn't come to its end, as when it cuts the very
/// line that it was given over.
pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let Args { file, confirm, gateway } = args;
    let text = config::text(&file)?;
    let target = gateway.file().to_owned();
    if confirm < Duration::from_secs(1) {
        bail!("--confirm is too short: use 1s to 1d");
    }
    super::runtime()?.block_on(async {
        let wish = json!({ "text": text, "confirm_s": confirm.as_secs() });
        let changes = config::send(&gateway, &wish).await?;
        if changes.is_empty() {
            super::print("no difference\n")?;
        } else {
            super::print(&(changes.join("\n") + "\n"))?;
        }
        // Some time is left for keeping it.
        let deadline = Instant::now() + confirm.saturating_sub(LOOK);
        if let Err(away) = links(&gateway, deadline).await {
            bail!(
                "not kept, so the gateway goes back to the configuration before: {away}; \
                 {} is as it was",
                target.display()
            );
        }
        replace(&target, &text)?;
        let kept = gateway.send(Method::POST, "/api/v1/config/keep", &json!({})).await;
        kept.with_context(|| format!("keep it; {} has it: reload", target.display()))?;
        super::print(&format!("kept; what was before is in {}\n", before(&target).display()))
    })
}

/// Waits until every forwarder has been online for a while.
async fn links(gateway: &Gateway, deadline: Instant) -> Result<(), String> {
    let mut since = Instant::now();
    loop {
        let away = match gateway.get("/api/v1/status").await {
            Ok(answer) => match serde_json::from_str::<Status>(&answer) {
                Ok(status) => away(&status),
                Err(_) => Some(super::STRANGE.to_owned()),
            },
            // The socket is another for a moment when the dashboard restarts.
            Err(error) => Some(format!("{error:#}")),
        };
        match away {
            None if since.elapsed() >= HOLDS => return Ok(()),
            None => (),
            Some(away) if Instant::now() >= deadline => return Err(away),
            Some(_) => since = Instant::now(),
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Who isn't online, and why.
fn away(status: &Status) -> Option<String> {
    let away = status.forwarders.iter().find(|forwarder| forwarder.state != "online")?;
    let why = away.error.as_deref().unwrap_or(&away.state);
    Some(format!("{} doesn't reach its broker: {why}", away.name))
}

fn before(target: &Path) -> PathBuf {
    let mut name = target.as_os_str().to_owned();
    name.push(".before");
    name.into()
}

/// Puts the text in the place of the file, whole or not at all, with the same
/// owner and mode.
fn replace(target: &Path, text: &str) -> anyhow::Result<()> {
    // The one before that is worth more than the same twice.
    if fs::read_to_string(target).is_ok_and(|old| old == text) {
        return Ok(());
    }
    let fails = || format!("replace {} (use sudo?)", target.display());
    let folder = target.parent().filter(|folder| !folder.as_os_str().is_empty());
    let mut file =
        tempfile::NamedTempFile::new_in(folder.unwrap_or(Path::new("."))).with_context(fails)?;
    file.write_all(text.as_bytes()).with_context(fails)?;
    if let Ok(old) = fs::metadata(target) {
        file.as_file().set_permissions(old.permissions()).with_context(fails)?;
        chown(file.path(), Some(old.uid()), Some(old.gid())).with_context(fails)?;
        fs::copy(target, before(target)).with_context(fails)?;
    } else {
        // Readable as the package's is: there are no secrets in it.
        file.as_file().set_permissions(fs::Permissions::from_mode(0o644)).with_context(fails)?;
    }
    file.as_file().sync_all().with_context(fails)?;
    file.persist(target).map_err(|error| error.error).with_context(fails)?;
    Ok(())
}
