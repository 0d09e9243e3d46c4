//! Checks of the dashboard by programs that others have written: the cases of
//! the Autobahn test suite, and requests made of the OpenAPI description.
//!
//! Both are Python programs, which a virtual environment under `target/` holds.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::setup::{self, Need};
use crate::step;

/// Where the echo listens: the cases' own default.
const ECHO: &str = "127.0.0.1:9001";

/// Versions that the results in docs/ are of.
const KOSOKU: &str = "kosoku==0.1.0";
const SCHEMATHESIS: &str = "schemathesis==4.32.5";

/// What Debian's Python needs.
const PYTHON: &[Need] = &[setup::of("python3", "python3-venv", "runs the checks of others")];

/// Requests of each route.
const EXAMPLES: &str = "200";

/// `cargo xtask conformance`: all cases of the Autobahn test suite against the
/// feed's own code.
///
/// # Errors
/// When a case fails or isn't implemented.
pub(crate) fn conformance(arguments: &[String]) -> Result<()> {
    let kosoku = python("kosoku", KOSOKU)?;
    let echo = ["--package", "dashboard", "--example", "echo", "--features", "echo"];
    let mut build = step::cargo(&["build", "--release", "--locked"]);
    build.args(echo);
    step::run("build the echo", build)?;
    let server = Command::new(step::target().join("release/examples/echo")).arg(ECHO).spawn();
    let _server = Killed(server.context("start the echo")?);
    until("the echo listens", || TcpStream::connect(ECHO).ok())?;
    let report = step::target().join("conformance");
    let mut cases = Command::new(kosoku);
    cases.args(["--parallelism", "2", "--outdir"]).arg(&report).args(arguments).arg(ECHO);
    step::run("cases", cases)?;
    println!("the report is in {}", report.display());
    Ok(())
}

/// `cargo xtask attack`: requests of every kind, made of the description of the
/// API, against the demonstration; and none of its secrets in what it says.
///
/// # Errors
/// When an answer isn't as described, or a secret is shown.
pub(crate) fn attack(arguments: &[String]) -> Result<()> {
    const ADDRESS: &str = "127.0.0.1:18080";
    setup::need(setup::TO_BUILD)?;
    let schemathesis = python("schemathesis", SCHEMATHESIS)?;
    step::run("build", step::cargo(&["build", "--release", "--locked", "--package", "tidemill"]))?;
    let binary = step::target().join("release/tidemill");
    let data = step::target().join("attack");
    drop(std::fs::remove_dir_all(&data));
    let mut demo = Command::new(&binary);
    demo.args(["demo", "--listen", ADDRESS, "--data"]).arg(&data);
    let mut demo = Killed(demo.stderr(Stdio::piped()).spawn().context("start the demonstration")?);
    let log = demo.0.stderr.take().context("read its log")?;
    until("the gateway answers", || get(ADDRESS, "/healthz").ok())?;
    let token = Command::new(&binary)
        .args(["token", "create", "attack", "--write", "--socket"])
        .arg(data.join("control.sock"))
        .output()?;
    let token = String::from_utf8_lossy(&token.stdout).trim().to_owned();
    if token.is_empty() {
        bail!("no token could be made");
    }
    for header in [None, Some(format!("Authorization: Bearer {token}"))] {
        let mut run = Command::new(&schemathesis);
        run.args(["run", "--max-examples", EXAMPLES, "--workers", "2", "--checks", "all"]);
        // What refuses everybody without a login is right to, whatever is sent;
        // and a wrong token is refused everywhere, also where none is needed.
        run.args(["--exclude-checks", "positive_data_acceptance,ignored_auth"]);
        if let Some(header) = &header {
            run.args(["--header", header]);
        }
        run.args(arguments).arg(format!("http://{ADDRESS}/api/openapi.json"));
        step::run("requests", run)?;
    }
    for path in ["/api/v1/status", "/api/v1/channels", "/api/v1/session", "/metrics", "/"] {
        if get(ADDRESS, path)?.contains(&token) {
            bail!("{path} shows a token");
        }
    }
    drop(demo);
    let said = BufReader::new(log).lines().map_while(Result::ok);
    if let Some(line) = said.into_iter().find(|line| line.contains(&token)) {
        bail!("the log shows a token: {line}");
    }
    Ok(())
}

/// A program of the virtual environment, installed if it isn't there.
fn python(program: &str, package: &str) -> Result<PathBuf> {
    setup::need(PYTHON)?;
    let folder = step::target().join("python");
    let pip = folder.join("bin/pip");
    if !pip.exists() {
        let mut make = Command::new("python3");
        make.args(["-m", "venv"]).arg(&folder);
        step::run("make a virtual environment", make)?;
    }
    let mut install = Command::new(pip);
    install.args(["install", "--quiet", "--disable-pip-version-check", package]);
    step::run("install", install)?;
    Ok(folder.join("bin").join(program))
}

fn until<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> Result<T> {
    let end = Instant::now() + Duration::from_secs(20);
    while Instant::now() < end {
        if let Some(found) = found() {
            return Ok(found);
        }
        std::thread::park_timeout(Duration::from_millis(50));
    }
    bail!("waited in vain: {what}")
}

fn get(address: &str, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect(address)?;
    let head = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// A program that ends with us.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // Gone already, if it fails.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}
