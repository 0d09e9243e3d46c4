//! One file a command. What they share is how they find the running gateway
//! and the runtime they wait on.

pub(crate) mod check;
pub(crate) mod demo;
pub(crate) mod export;
pub(crate) mod generate;
pub(crate) mod handshake;
pub(crate) mod passwd;
pub(crate) mod run;
pub(crate) mod schema;
pub(crate) mod set;
pub(crate) mod status;
pub(crate) mod token;
pub(crate) mod watch;

mod control;

use std::io::Write;

/// A runtime for a command that waits on one connection.
fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

/// Prints, and ends quietly when whoever reads has left (`| head`).
fn print(text: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(0),
        result => Ok(result?),
    }
}
