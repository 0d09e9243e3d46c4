//! Running other programs, and saying so.

use std::ffi::OsStr;
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};

use crate::root;

/// The same cargo that runs us, at the root of the workspace.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(arguments).current_dir(root());
    // What `cargo run` sets for us would otherwise look to the inner cargo like
    // a changed environment, and crates would be built again.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&name);
        }
    }
    command
}

/// A program at the root of the workspace, or in a folder of it.
pub(crate) fn program(name: &str, arguments: &[&str], folder: &str) -> Command {
    let mut command = Command::new(name);
    command.args(arguments).current_dir(root().join(folder));
    command
}

/// Where cargo builds.
pub(crate) fn target() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(folder) => root().join(folder),
        None => root().join("target"),
    }
}

/// Says what it does, does it, says how long it took.
///
/// # Errors
/// When the program can't be started or fails.
pub(crate) fn run(title: &str, mut command: Command) -> Result<()> {
    say(title, &shown(&command));
    let began = Instant::now();
    let status =
        command.status().with_context(|| format!("{title}: {} can't be run", shown(&command)))?;
    if !status.success() {
        bail!("{title} failed ({status}): {}", shown(&command));
    }
    done(title, began);
    Ok(())
}

/// The same for a check that is ours.
///
/// # Errors
/// What the check says.
pub(crate) fn check(title: &str, what: &str, check: impl FnOnce() -> Result<()>) -> Result<()> {
    say(title, what);
    let began = Instant::now();
    check().with_context(|| format!("{title} failed"))?;
    done(title, began);
    Ok(())
}

/// Ends this program by becoming another, so that signals and the exit status
/// are the other's own.
///
/// # Errors
/// When the program can't be started.
pub(crate) fn become_it(mut command: Command) -> Result<()> {
    say("run", &shown(&command));
    let error = command.exec();
    Err(error).with_context(|| format!("{} can't be run", shown(&command)))
}

/// Whether a program is there and answers to these arguments.
pub(crate) fn answers(mut command: Command) -> bool {
    command.output().is_ok_and(|output| output.status.success())
}

fn say(title: &str, what: &str) {
    println!("\n==> {title}: {what}");
    flush();
}

fn done(title: &str, began: Instant) {
    println!("==> {title}: ok, {:.1} s", began.elapsed().as_secs_f64());
    flush();
}

fn flush() {
    // A closed pipe shows itself when the next program writes.
    drop(std::io::stdout().flush());
}

fn shown(command: &Command) -> String {
    let name = PathBuf::from(command.get_program());
    let name = name.file_name().unwrap_or_else(|| OsStr::new("?")).to_string_lossy().into_owned();
    command.get_args().fold(name, |text, argument| text + " " + &argument.to_string_lossy())
}
