//! Every check and every test, in the order in which a mistake is cheapest.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::Result;

use crate::{licence, root, setup, step};

const WEB: &str = "crates/dashboard/web";

/// `cargo xtask test`: stops at the first that fails; the test runner's summary
/// comes last.
///
/// # Errors
/// What failed.
pub(crate) fn all(arguments: &[String]) -> Result<()> {
    let began = Instant::now();
    setup::need(setup::TO_BUILD)?;
    setup::need(setup::TO_TEST)?;

    step::run("format", step::cargo(&["fmt", "--all", "--check"]))?;
    licences()?;
    page()?;
    step::run(
        "lints",
        step::cargo(&[
            "clippy",
            "--workspace",
            "--all-targets",
            "--locked",
            "--",
            "-D",
            "warnings",
        ]),
    )?;
    let mut docs = step::cargo(&["doc", "--workspace", "--no-deps", "--locked"]);
    docs.env("RUSTDOCFLAGS", "-D warnings");
    step::run("documentation", docs)?;

    tests(arguments)?;
    println!("\n==> all checks passed, {:.0} s", began.elapsed().as_secs_f64());
    Ok(())
}

/// cargo-deny when it is there. Two cores build it in three minutes, so without
/// it the same deny.toml is read by our own check, in a blink.
fn licences() -> Result<()> {
    let version = step::cargo(&["deny", "--version"]);
    if step::answers(version) {
        let deny = step::cargo(&["deny", "check", "licenses", "bans", "sources"]);
        return step::run("licences and bans", deny);
    }
    step::check("licences and bans", "deny.toml against cargo metadata", licence::check)
}

/// The page's own checks and tests.
fn page() -> Result<()> {
    if !root().join(WEB).join("package.json").exists() {
        anyhow::bail!("{WEB}/package.json is missing");
    }
    if !is_installed(&root().join(WEB)) {
        step::run("page's libraries", npm(&["ci", "--no-audit", "--no-fund"]))?;
    }
    step::run("page", npm(&["run", "--silent", "check"]))?;
    step::run("page's tests", npm(&["test", "--silent"]))
}

fn npm(arguments: &[&str]) -> Command {
    step::program("npm", arguments, WEB)
}

/// Whether node_modules is what the lock file says: npm leaves a copy of the
/// lock behind, newer than the one it was made from.
fn is_installed(web: &Path) -> bool {
    let changed = |file: &str| std::fs::metadata(web.join(file)).and_then(|m| m.modified());
    match (changed("node_modules/.package-lock.json"), changed("package-lock.json")) {
        (Ok(installed), Ok(lock)) => installed >= lock,
        _ => false,
    }
}

/// nextest when it is there: a process for each test, a limit on its time, and
/// a report that says which one hung. It runs no examples in the documentation,
/// so those go first.
fn tests(arguments: &[String]) -> Result<()> {
    if !step::answers(step::cargo(&["nextest", "--version"])) {
        let mut test = step::cargo(&["test", "--workspace", "--locked"]);
        test.args(arguments);
        return step::run("tests", test);
    }
    if arguments.is_empty() {
        let mut examples = step::cargo(&["test", "--doc", "--workspace", "--locked", "--quiet"]);
        examples.env("RUSTDOCFLAGS", "-D warnings");
        step::run("examples in the documentation", examples)?;
    }
    let mut test = step::cargo(&["nextest", "run", "--workspace", "--locked"]);
    test.args(["--no-fail-fast"]).args(arguments);
    step::run("tests", test)
}
