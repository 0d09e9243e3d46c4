//! `tidemill passwd`.

use std::io::{IsTerminal, Write, stderr, stdin};

use anyhow::{Context, bail};
use hyper::Method;
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
use serde::Deserialize;
use serde_json::json;

use super::control::Gateway;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Show a link that sets the password in a browser, once, within an hour
    #[arg(long)]
    link: bool,
    #[command(flatten)]
    gateway: Gateway,
}

#[derive(Deserialize)]
struct Link {
    links: Vec<String>,
}

/// Sets the dashboard's password: asks for it twice at a terminal, else reads it
/// from the first line of the standard input.
pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let runtime = super::runtime()?;
    if args.link {
        let nothing = json!({});
        let answer = args.gateway.send(Method::POST, "/api/v1/link", &nothing);
        let Link { links } = serde_json::from_str(&runtime.block_on(answer)?)
            .context("understand the gateway's answer; is it of the same version?")?;
        return super::print(&format!("{}\n", links.join("\n")));
    }
    let password = if stdin().is_terminal() { twice()? } else { line()? };
    let body = json!({ "password": password });
    runtime.block_on(args.gateway.send(Method::POST, "/api/v1/password", &body))?;
    eprintln!("tidemill: the password is set; whoever was logged in no longer is");
    Ok(())
}

fn twice() -> anyhow::Result<String> {
    let (first, second) = (hidden("New password: ")?, hidden("Again: ")?);
    if first != second {
        bail!("the two are not the same: nothing is changed");
    }
    Ok(first)
}

/// Asks at the terminal without showing what is typed.
fn hidden(prompt: &str) -> anyhow::Result<String> {
    eprint!("{prompt}");
    stderr().flush()?;
    let shown = tcgetattr(stdin()).context("ask the terminal")?;
    let mut quiet = shown.clone();
    quiet.local_modes.remove(LocalModes::ECHO);
    tcsetattr(stdin(), OptionalActions::Flush, &quiet).context("keep the password hidden")?;
    let typed = line();
    tcsetattr(stdin(), OptionalActions::Now, &shown).context("show again what is typed")?;
    eprintln!();
    typed
}

fn line() -> anyhow::Result<String> {
    let mut line = String::new();
    if stdin().read_line(&mut line)? == 0 {
        bail!("no password was given on the standard input");
    }
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}
