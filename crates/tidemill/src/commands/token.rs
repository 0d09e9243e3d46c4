//! `tidemill token`.

use anyhow::Context;
use clap::Subcommand;
use hyper::Method;
use serde::Deserialize;
use serde_json::json;

use super::control::Gateway;

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Make a token and print it; it is never shown again
    Create {
        /// What it is for: a-z, 0-9, '-' and '_'
        name: String,
        /// It may also write outputs
        #[arg(long)]
        write: bool,
        #[command(flatten)]
        gateway: Gateway,
    },
    /// Show the tokens there are
    List {
        #[command(flatten)]
        gateway: Gateway,
    },
    /// Make a token void at once
    Revoke {
        /// Its name
        name: String,
        #[command(flatten)]
        gateway: Gateway,
    },
}

#[derive(Deserialize)]
struct Created {
    token: String,
}

#[derive(Deserialize)]
struct Tokens {
    tokens: Vec<Token>,
}

#[derive(Deserialize)]
struct Token {
    name: String,
    scope: String,
    created: String,
}

/// Makes, shows and revokes bearer tokens.
pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let runtime = super::runtime()?;
    let strange = "understand the gateway's answer; is it of the same version?";
    match args.action {
        Action::Create { name, write, gateway } => {
            let scope = if write { "write" } else { "read" };
            let body = json!({ "name": name, "scope": scope });
            let answer = gateway.send(Method::POST, "/api/v1/tokens", &body);
            let answer = runtime.block_on(answer)?;
            let Created { token } = serde_json::from_str(&answer).context(strange)?;
            super::print(&format!("{token}\n"))
        }
        Action::List { gateway } => {
            let answer = runtime.block_on(gateway.get("/api/v1/tokens"))?;
            let Tokens { tokens } = serde_json::from_str(&answer).context(strange)?;
            let line = |Token { name, scope, created }: &Token| {
                format!("{name:<24}  {scope:<5}  since {created}\n")
            };
            super::print(&tokens.iter().map(line).collect::<String>())
        }
        Action::Revoke { name, gateway } => {
            // A name that isn't one would be another path.
            if !reading::is_name(&name) {
                return Err(reading::InvalidName(name).into());
            }
            let path = format!("/api/v1/tokens/{name}");
            runtime.block_on(gateway.send(Method::DELETE, &path, &json!({})))?;
            Ok(())
        }
    }
}
