//! One file a command. What they share is how they find the running gateway
//! and the runtime they wait on.

pub(crate) mod check;
pub(crate) mod demo;
pub(crate) mod doctor;
pub(crate) mod drivers;
pub(crate) mod export;
pub(crate) mod generate;
pub(crate) mod handshake;
pub(crate) mod passwd;
pub(crate) mod report;
pub(crate) mod run;
pub(crate) mod scan;
pub(crate) mod schema;
pub(crate) mod set;
pub(crate) mod status;
pub(crate) mod token;
pub(crate) mod watch;

mod control;
mod redact;

use std::io::{IsTerminal, Write};

/// A runtime for a command that waits on one connection.
fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

/// Whether what is printed may be coloured: to a terminal, unless its user says
/// no (no-color.org).
fn coloured() -> bool {
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    std::io::stdout().is_terminal() && !plain
}

/// What the operating system said, for people: no number, a small letter first.
fn words(error: &std::io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut letters = text.chars();
    letters.next().map_or(String::new(), |first| first.to_lowercase().chain(letters).collect())
}

/// Prints, and ends quietly when whoever reads has left (`| head`).
fn print(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
        result => Ok(result?),
    }
}
