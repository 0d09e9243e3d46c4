use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use super::{Feed, eventually, free_port, http};

/// The binary under test: cargo tells the tests where it is, and `cargo xtask
/// bench` the benchmark.
pub(crate) fn binary() -> PathBuf {
    let told = std::env::var_os("TIDEMILL_BIN");
    let built = || option_env!("CARGO_BIN_EXE_tidemill").map(Into::into);
    told.or_else(built).expect("TIDEMILL_BIN names the binary").into()
}

/// What outlives a process: the configuration and the store.
pub(crate) struct Home {
    dir: TempDir,
    /// The folder of the store.
    store: PathBuf,
    address: String,
}

/// A running `tidemill run`, killed when dropped.
pub(crate) struct Gateway {
    child: Child,
    address: String,
    log: Arc<Mutex<String>>,
}

impl Home {
    /// A gateway called `greenhouse` with a store and a dashboard of its own,
    /// and whatever else `config` says: `[device.X]`, `[forward.X]`.
    pub(crate) fn new(config: &str) -> Home {
        Home::with("", config)
    }

    /// The same, with more keys for `[store]`.
    pub(crate) fn with(store: &str, config: &str) -> Home {
        let dir = tempfile::Builder::new().prefix("tidemill-").tempdir().unwrap();
        let address = format!("127.0.0.1:{}", free_port());
        let db = dir.path().join("tidemill.db");
        let head = format!(
            "[gateway]\nid = \"greenhouse\"\n\n[store]\npath = {db:?}\n{store}\n\n\
             [dashboard]\nlisten = {address:?}\n\n"
        );
        std::fs::write(dir.path().join("tidemill.toml"), head + config).unwrap();
        let store = dir.path().to_owned();
        Home { dir, store, address }
    }

    /// With its store in another folder.
    pub(crate) fn on(mut self, folder: &Path) -> Home {
        let before = self.db();
        let text = std::fs::read_to_string(self.config()).unwrap();
        self.store = folder.to_owned();
        let text = text.replace(&format!("{before:?}"), &format!("{:?}", self.db()));
        std::fs::write(self.config(), text).unwrap();
        self
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.dir.path().join("tidemill.toml")
    }

    pub(crate) fn db(&self) -> PathBuf {
        self.store.join("tidemill.db")
    }

    /// Starts the service and waits until it answers.
    #[track_caller]
    pub(crate) fn start(&self) -> Gateway {
        let mut command = Command::new(binary());
        command.arg("run").arg("--config").arg(self.config());
        Gateway::spawn(command, self.address.clone())
    }

    /// The same by a command that runs it.
    #[track_caller]
    pub(crate) fn start_as(&self, command: Command) -> Gateway {
        Gateway::spawn(command, self.address.clone())
    }

    /// Another command of the binary, on the same configuration.
    pub(crate) fn command(&self, arguments: &[&str]) -> Output {
        self.prepare(arguments).output().unwrap()
    }

    /// The same, not started yet.
    pub(crate) fn prepare(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command.args(arguments).arg("--config").arg(self.config());
        quiet(&mut command);
        command
    }

    /// Asks the store as a person would: with the `sqlite3` command.
    #[track_caller]
    pub(crate) fn sqlite(&self, sql: &str) -> Vec<String> {
        self.try_sqlite(sql).unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// The same where the store may not be there yet.
    ///
    /// # Errors
    /// What `sqlite3` says.
    pub(crate) fn try_sqlite(&self, sql: &str) -> Result<Vec<String>, String> {
        // Read-only, so that the test can't change what it looks at; patient,
        // since the gateway is writing.
        let output = Command::new("sqlite3")
            .args(["-readonly", "-batch", "-cmd", ".timeout 5000"])
            .arg(self.db())
            .arg(sql)
            .output()
            .expect("sqlite3 is installed");
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
        Ok(String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect())
    }
}

/// No colours, no time stamps of the test machine's locale, no systemd.
fn quiet(command: &mut Command) {
    command.env("NO_COLOR", "1").stdin(Stdio::null());
    for variable in ["RUST_LOG", "RUNTIME_DIRECTORY", "JOURNAL_STREAM", "NOTIFY_SOCKET"] {
        command.env_remove(variable);
    }
}

impl Gateway {
    /// Runs any command that serves the dashboard on `address`, such as `demo`.
    #[track_caller]
    pub(crate) fn spawn(mut command: Command, address: String) -> Gateway {
        quiet(&mut command);
        let mut child =
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
        let log = Arc::new(Mutex::new(String::new()));
        follow(child.stdout.take().unwrap(), &log);
        follow(child.stderr.take().unwrap(), &log);
        let mut gateway = Gateway { child, address, log };
        eventually("the gateway answers", || {
            if let Some(status) = gateway.child.try_wait().unwrap() {
                panic!("the gateway ended at once, {status}:\n{}", gateway.log());
            }
            let answer = http::get(&gateway.address, "/healthz").ok()?;
            (answer.status == 200).then_some(())
        });
        gateway
    }

    /// Where its dashboard listens.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// For the benchmark, which asks the kernel what the process has used.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has said so far, on both streams.
    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    #[track_caller]
    pub(crate) fn get(&self, path: &str) -> http::Response {
        http::get(&self.address, path).unwrap_or_else(|error| panic!("GET {path}: {error}"))
    }

    /// The same of a gateway that may not answer now.
    pub(crate) fn answers(&self, path: &str) -> Option<http::Response> {
        http::get(&self.address, path).ok()
    }

    #[track_caller]
    pub(crate) fn status(&self) -> Value {
        self.get("/api/v1/status").json()
    }

    /// One device of the status.
    #[track_caller]
    pub(crate) fn device(&self, name: &str) -> Value {
        named(&self.status()["devices"], name)
    }

    /// One forwarder of the status.
    #[track_caller]
    pub(crate) fn forwarder(&self, name: &str) -> Value {
        named(&self.status()["forwarders"], name)
    }

    /// Waits for a device to be in a state.
    #[track_caller]
    pub(crate) fn device_is(&self, name: &str, state: &str) {
        eventually(&format!("the device {name} is {state}"), || {
            (self.device(name)["state"] == state).then_some(())
        });
    }

    /// Waits for a forwarder to be in a state.
    #[track_caller]
    pub(crate) fn forwarder_is(&self, name: &str, state: &str) {
        eventually(&format!("the forwarder {name} is {state}"), || {
            (self.forwarder(name)["state"] == state).then_some(())
        });
    }

    #[track_caller]
    pub(crate) fn feed(&self) -> Feed {
        Feed::open(&self.address)
    }

    /// Waits until a figure has not changed for two seconds.
    pub(crate) fn settle(&self, figure: impl Fn() -> u64) {
        let mut last = figure();
        eventually("the gateway comes to rest", || {
            std::thread::sleep(std::time::Duration::from_secs(2));
            let before = std::mem::replace(&mut last, figure());
            (last == before).then_some(())
        });
    }

    /// As `systemctl reload` does: it is to read its configuration again.
    pub(crate) fn hang_up(&self) {
        kill_process(Pid::from_child(&self.child), Signal::HUP).unwrap();
    }

    /// As the kernel's out-of-memory killer does: no chance to tidy up.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// As systemd does; it must end well, and soon.
    #[track_caller]
    pub(crate) fn stop(self) {
        let (status, log) = self.end();
        assert!(status.success(), "{status}:\n{log}");
    }

    /// SIGTERM; how it ended and what it said.
    #[track_caller]
    pub(crate) fn end(mut self) -> (ExitStatus, String) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        let status =
            eventually("the gateway ends after SIGTERM", || self.child.try_wait().unwrap());
        (status, self.log())
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // Gone already, when the test stopped it.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[track_caller]
fn named(list: &Value, name: &str) -> Value {
    let list = list.as_array().expect("a list");
    let found = list.iter().find(|entry| entry["name"] == name);
    found.unwrap_or_else(|| panic!("no {name} in {list:?}")).clone()
}

fn follow(stream: impl std::io::Read + Send + 'static, log: &Arc<Mutex<String>>) {
    let log = Arc::clone(log);
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            // The test runner shows it when the test fails.
            eprintln!("| {line}");
            let mut log = log.lock().unwrap();
            log.push_str(&line);
            log.push('\n');
        }
    });
}

/// The configuration of a serial device `weather` with one channel `n`, the
/// field of the same name of a JSON line.
pub(crate) fn serial(port: &Path) -> String {
    format!(
        "[device.weather]\ndriver = \"serial\"\nport = {port:?}\nbaud = 115200\nformat = \"json\"\n\
         [device.weather.channel]\nn = {{ field = \"n\", unit = \"Cel\" }}\n\n"
    )
}
