//! `tidemill config`: what the gateway runs with, and how a file differs.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Subcommand;
use hyper::Method;
use serde::Deserialize;
use serde_json::json;
use tidemill::Config;

use super::control::Gateway;

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Print the configuration that runs, without comments and secrets
    Show {
        #[command(flatten)]
        gateway: Gateway,
    },
    /// Show what a reload would change: keys, and the parts that would restart
    Diff {
        /// The file to compare [default: the gateway's own, as it is now]
        #[arg(value_name = "FILE")]
        file: Option<PathBuf>,
        #[command(flatten)]
        gateway: Gateway,
    },
}

#[derive(Deserialize)]
struct Shown {
    text: String,
}

/// What the gateway says of a configuration.
#[derive(Deserialize)]
pub(super) struct Changes {
    pub(super) changes: Vec<String>,
}

/// Shows or compares.
pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let runtime = super::runtime()?;
    match args.action {
        Action::Show { gateway } => {
            let answer = runtime.block_on(gateway.get("/api/v1/config"))?;
            let Shown { text } = serde_json::from_str(&answer).context(super::STRANGE)?;
            super::print(&text)
        }
        Action::Diff { file, gateway } => {
            let file = file.unwrap_or_else(|| gateway.file().to_owned());
            let text = text(&file)?;
            let changes = runtime.block_on(send(&gateway, &json!({ "text": text })))?;
            match changes.is_empty() {
                true => super::print("no difference\n"),
                false => super::print(&(changes.join("\n") + "\n")),
            }
        }
    }
}

/// A valid configuration as it is written.
pub(super) fn text(file: &Path) -> anyhow::Result<String> {
    Ok(Config::load(file)?.text)
}

/// Has the gateway look at a configuration, or try it.
pub(super) async fn send(
    gateway: &Gateway,
    body: &serde_json::Value,
) -> anyhow::Result<Vec<String>> {
    let answer = gateway.send(Method::POST, "/api/v1/config", body).await?;
    let Changes { changes } = serde_json::from_str(&answer).context(super::STRANGE)?;
    Ok(changes)
}
