//! A Debian with systemd that obeys commands.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::root;

/// How long anything that is waited for may take, unless said otherwise.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// The machine under test, driven by a script in `xtask/scripts`.
pub(crate) struct Guest {
    script: PathBuf,
    /// The word before a command to run in it.
    verb: &'static str,
    environment: Vec<(&'static str, String)>,
    dashboard: SocketAddr,
}

impl Guest {
    pub(crate) fn new(script: &str, verb: &'static str, dashboard: SocketAddr) -> Guest {
        let script = root().join("xtask/scripts").join(script);
        Guest { script, verb, environment: Vec::new(), dashboard }
    }

    /// With a variable for its script.
    pub(crate) fn with(mut self, name: &'static str, value: impl Into<String>) -> Guest {
        self.environment.push((name, value.into()));
        self
    }

    fn prepared(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.script);
        command.args(arguments).envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Something that its script does, such as `start`.
    pub(crate) fn act(&self, arguments: &[&str]) -> Result<String> {
        let output = self.prepared(arguments).stdin(Stdio::null()).output()?;
        let told = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        if !output.status.success() {
            let error = String::from_utf8_lossy(&output.stderr);
            bail!("{} {}: {told}\n{}", self.script.display(), arguments.join(" "), error.trim());
        }
        Ok(told)
    }

    /// Runs shell commands in it, whatever becomes of them.
    pub(crate) fn try_sh(&self, commands: &str) -> Result<Output> {
        // By stdin: no quoting on the way.
        let mut child = self
            .prepared(&[self.verb, "sh", "-e"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let mut stdin = child.stdin.take().context("stdin")?;
        stdin.write_all(commands.as_bytes())?;
        drop(stdin);
        Ok(child.wait_with_output()?)
    }

    /// Runs shell commands in it; the answer is what they print.
    pub(crate) fn sh(&self, commands: &str) -> Result<String> {
        let output = self.try_sh(commands)?;
        let told = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        if !output.status.success() {
            let error = String::from_utf8_lossy(&output.stderr);
            bail!("`{}` failed ({}): {told} {}", commands.trim(), output.status, error.trim());
        }
        Ok(told)
    }

    /// Copies a file to a folder of it.
    pub(crate) fn put(&self, file: &Path, folder: &str) -> Result<()> {
        self.act(&["put", &file.to_string_lossy(), folder]).map(drop)
    }

    /// Writes a file in it.
    pub(crate) fn write(&self, path: &str, text: &str) -> Result<()> {
        self.sh(&format!("cat >{path} <<'END-OF-FILE'\n{text}\nEND-OF-FILE\n")).map(drop)
    }

    /// Asks its dashboard from here, as a browser would.
    pub(crate) fn get(&self, path: &str) -> Result<String> {
        let mut stream = TcpStream::connect_timeout(&self.dashboard, Duration::from_secs(3))?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
            self.dashboard
        )?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let Some((head, body)) = answer.split_once("\r\n\r\n") else { bail!("no answer") };
        if !head.starts_with("HTTP/1.1 200") {
            bail!("GET {path}: {}", head.lines().next().unwrap_or_default());
        }
        Ok(body.to_owned())
    }

    /// Waits until a look finds something; says how long it took.
    pub(crate) fn until<T>(
        &self,
        what: &str,
        patience: Duration,
        look: impl Fn() -> Result<Option<T>>,
    ) -> Result<(T, Duration)> {
        let began = Instant::now();
        loop {
            let last = match look() {
                Ok(Some(found)) => return Ok((found, began.elapsed())),
                Ok(None) => None,
                Err(error) => Some(error),
            };
            if began.elapsed() > patience {
                let why = last.map(|error| format!(": {error:#}")).unwrap_or_default();
                bail!("{what}: not within {patience:?}{why}");
            }
            #[expect(clippy::disallowed_methods, reason = "a chore may wait")]
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// A property of the service, as `systemctl show` has it.
    pub(crate) fn property(&self, name: &str) -> Result<String> {
        self.sh(&format!("systemctl show -p {name} --value tidemill"))
    }

    /// Waits until the service is ready under another process than `before`.
    pub(crate) fn again(&self, before: &str, patience: Duration) -> Result<Duration> {
        let ready = || {
            let told = self.sh("systemctl show -p MainPID -p ActiveState --value tidemill")?;
            let mut words = told.split_whitespace();
            let (pid, state) = (words.next().unwrap_or("0"), words.next().unwrap_or_default());
            Ok((pid != "0" && pid != before && state == "active").then_some(()))
        };
        Ok(self.until("the service is ready again", patience, ready)?.1)
    }

    pub(crate) fn pid(&self) -> Result<String> {
        self.property("MainPID")
    }
}
