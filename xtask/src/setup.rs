//! What a bare Debian with Rust lacks, installed by apt.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

use crate::{root, step};

/// A program, and the Debian package that brings it.
pub(crate) struct Need {
    program: &'static str,
    package: &'static str,
    why: &'static str,
}

pub(crate) const fn of(program: &'static str, package: &'static str, why: &'static str) -> Need {
    Need { program, package, why }
}

/// For the binary: SQLite and ring are C, the page is TypeScript.
pub(crate) const TO_BUILD: &[Need] = &[
    of("cc", "build-essential", "a C compiler, for SQLite and ring"),
    of("node", "nodejs", "Node.js, which builds the page"),
    of("npm", "npm", "the page's libraries"),
];

/// Libraries, each by a file of it: the shipped consumer is a script.
const PAHO: &str = "/usr/lib/python3/dist-packages/paho/mqtt/client.py";
const PSYCOPG: &str = "/usr/lib/python3/dist-packages/psycopg/__init__.py";

/// For the end-to-end tests.
pub(crate) const TO_TEST: &[Need] = &[
    of("mosquitto", "mosquitto", "a real broker"),
    of("chromium", "chromium", "a real browser"),
    of("chromedriver", "chromium-driver", "drives the browser"),
    of("sqlite3", "sqlite3", "reads the store as a person would"),
    of("pip3", "python3-pip", "brings pymodbus, a Modbus server"),
    of("mkfs.ext4", "e2fsprogs", "a card that turns read-only"),
    of("strace", "strace", "records what the store asks of the disk"),
    of("mosquitto_pub", "mosquitto-clients", "a client like any other"),
    of("pg_ctlcluster", "postgresql", "a real database, for the consumer"),
    of(PAHO, "python3-paho-mqtt", "the consumer's MQTT"),
    of(PSYCOPG, "python3-psycopg", "the consumer's PostgreSQL"),
];

/// For the benchmark.
pub(crate) const TO_BENCH: &[Need] = &[of("mosquitto", "mosquitto", "a real broker")];

/// All of it.
pub(crate) const EVERYTHING: &[Need] = &[
    of("cc", "build-essential", "a C compiler, for SQLite and ring"),
    of("node", "nodejs", "Node.js, which builds the page"),
    of("npm", "npm", "the page's libraries"),
    of("mosquitto", "mosquitto", "a real broker"),
    of("chromium", "chromium", "a real browser"),
    of("chromedriver", "chromium-driver", "drives the browser"),
    of("sqlite3", "sqlite3", "reads the store as a person would"),
    of("pip3", "python3-pip", "brings pymodbus, a Modbus server"),
    of("mkfs.ext4", "e2fsprogs", "a card that turns read-only"),
    of("strace", "strace", "records what the store asks of the disk"),
    of("mosquitto_pub", "mosquitto-clients", "a client like any other"),
    of("pg_ctlcluster", "postgresql", "a real database, for the consumer"),
    of(PAHO, "python3-paho-mqtt", "the consumer's MQTT"),
    of(PSYCOPG, "python3-psycopg", "the consumer's PostgreSQL"),
];

/// Installs what is missing of `needs`; does nothing, and asks nobody, when
/// nothing is.
///
/// # Errors
/// When apt can't or may not install it; the message says what to do by hand.
pub(crate) fn need(needs: &[Need]) -> Result<()> {
    let missing: Vec<&Need> = needs.iter().filter(|need| !is_there(need.program)).collect();
    if !missing.is_empty() {
        install(&missing)?;
    }
    if let Some(need) = missing.iter().find(|need| !is_there(need.program)) {
        bail!(
            "{} is installed, yet there is no {} in PATH or /usr/sbin",
            need.package,
            need.program
        );
    }
    if needs.iter().any(|need| need.program == "node") {
        node_is_new_enough()?;
    }
    Ok(())
}

fn install(missing: &[&Need]) -> Result<()> {
    for need in missing {
        println!("xtask: {} is missing: {} (package {})", need.program, need.why, need.package);
    }
    let packages: Vec<&str> = missing.iter().map(|need| need.package).collect();
    install_packages(&packages)
}

/// Installs packages that bring no program.
///
/// # Errors
/// As [`need`].
pub(crate) fn install_packages(packages: &[&str]) -> Result<()> {
    let by_hand = format!("apt-get install {}", packages.join(" "));
    if !is_there("apt-get") {
        bail!("this is not a Debian: install by hand what `{by_hand}` would, then try again");
    }
    let root_prefix = match (is_root(), is_there("sudo")) {
        (true, _) => None,
        (false, true) => Some("sudo"),
        (false, false) => bail!("installing needs root: run `{by_hand}` as root, then try again"),
    };
    step::run("package lists", apt(root_prefix, &["update", "-qq"]))?;
    let mut arguments = vec!["install", "-y", "-qq", "--no-install-recommends"];
    arguments.extend_from_slice(packages);
    step::run("packages", apt(root_prefix, &arguments))
}

fn apt(prefix: Option<&str>, arguments: &[&str]) -> Command {
    // Through env, since sudo doesn't pass variables on. No package may ask a
    // question, nor start a service: the tests start their own broker.
    let mut command = Command::new(prefix.unwrap_or("env"));
    if prefix.is_some() {
        command.arg("env");
    }
    command.args(["DEBIAN_FRONTEND=noninteractive", "RUNLEVEL=1", "apt-get"]);
    command.args(arguments);
    command
}

/// In PATH, or where Debian puts what only root usually runs.
fn is_there(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .any(|folder| folder.join(program).is_file())
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    // The owner of our own process's folder is who we are.
    std::fs::metadata("/proc/self").is_ok_and(|metadata| metadata.uid() == 0)
}

/// The page says in its package.json which Node it needs.
fn node_is_new_enough() -> Result<()> {
    let package = root().join("crates/dashboard/web/package.json");
    let Some(wanted) = wanted_node(&package) else { return Ok(()) };
    let output = Command::new("node").arg("--version").output()?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    match version(&text) {
        Some(found) if found >= wanted => Ok(()),
        _ => bail!(
            "the page needs Node {}.{} or newer, and this is {text}: \
             install a newer one (`apt-get install nodejs` on Debian 12 or later)",
            wanted.0,
            wanted.1
        ),
    }
}

/// The lowest version that `"engines": {"node": ">=18.17"}` or
/// `"^18.17 || >=20"` lets through.
fn wanted_node(package: &Path) -> Option<(u32, u32)> {
    let text = std::fs::read_to_string(package).ok()?;
    let package: serde_json::Value = serde_json::from_str(&text).ok()?;
    package["engines"]["node"].as_str()?.split("||").filter_map(version).min()
}

/// The first two numbers of a version, whatever stands before it.
fn version(text: &str) -> Option<(u32, u32)> {
    let digits = text.trim_start_matches(|c: char| !c.is_ascii_digit());
    let mut parts = digits.split(|c: char| !c.is_ascii_digit());
    let major = parts.next()?.parse().ok()?;
    let minor = parts.next().and_then(|part| part.parse().ok()).unwrap_or(0);
    Some((major, minor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_node_and_npm_write_them() {
        assert_eq!(version("v20.20.2"), Some((20, 20)));
        assert_eq!(version(">=18"), Some((18, 0)));
        assert_eq!(version(" ^18.17.1 "), Some((18, 17)));
        assert_eq!(version("none"), None);
    }

    #[test]
    fn everything_is_what_the_parts_need() {
        let parts = TO_BUILD.iter().chain(TO_TEST).chain(TO_BENCH);
        for need in parts {
            assert!(EVERYTHING.iter().any(|all| all.package == need.package), "{}", need.package);
        }
    }
}
