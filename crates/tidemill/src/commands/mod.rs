//! One file a command. What they share is how they find the running gateway
//! and the runtime they wait on.

pub(crate) mod apply;
pub(crate) mod check;
pub(crate) mod config;
pub(crate) mod demo;
pub(crate) mod doctor;
pub(crate) mod drivers;
pub(crate) mod export;
pub(crate) mod generate;
pub(crate) mod handshake;
pub(crate) mod passwd;
pub(crate) mod record;
pub(crate) mod replay;
pub(crate) mod report;
pub(crate) mod run;
pub(crate) mod scan;
pub(crate) mod schema;
pub(crate) mod set;
pub(crate) mod status;
pub(crate) mod token;
pub(crate) mod watch;

mod control;

use std::io::{IsTerminal, Write};

/// An answer of the gateway that can't be read.
const STRANGE: &str = "understand the gateway's answer; is it of the same version?";

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
    let text = without_number(&error.to_string());
    let mut letters = text.chars();
    letters.next().map_or(String::new(), |first| first.to_lowercase().chain(letters).collect())
}

/// An error with its causes, each told once: some repeat theirs in their own
/// words. Without the operating system's numbers, which mend nothing.
pub(crate) fn told(error: &anyhow::Error) -> String {
    let mut out = String::new();
    for cause in error.chain() {
        let text = cause.to_string();
        let text = without_number(&text);
        if out.contains(&text) {
            continue;
        }
        if !out.is_empty() {
            out += ": ";
        }
        out += &text;
    }
    out
}

/// `No such file or directory (os error 2)`, without what is in brackets.
fn without_number(text: &str) -> String {
    let mut parts = text.split(" (os error ");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        out += part.split_once(')').map_or("", |(_, rest)| rest);
    }
    out
}

/// Prints, and ends quietly when whoever reads has left (`| head`).
fn print(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
        result => Ok(result?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_tells_each_cause_once_and_no_number() {
        let cause = std::io::Error::from_raw_os_error(2);
        let error = anyhow::Error::new(cause).context("the store a.db can't be opened");
        assert_eq!(told(&error), "the store a.db can't be opened: No such file or directory");
        let cause = std::io::Error::from_raw_os_error(13);
        let outer = format!("open a.db: {cause}; use sudo");
        let error = anyhow::Error::new(cause).context(outer);
        assert_eq!(told(&error), "open a.db: Permission denied; use sudo");
        assert_eq!(words(&std::io::Error::from_raw_os_error(2)), "no such file or directory");
    }
}
