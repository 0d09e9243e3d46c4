use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::{Subscriber, eventually, free_port};

/// A real mosquitto with a configuration of its own: WebSocket for the gateway,
/// plain TCP beside it for the subscriber.
///
/// It keeps subscriptions and what is queued for them across an orderly stop, so
/// that a subscriber which is slower to come back than the gateway misses
/// nothing.
pub(crate) struct Broker {
    dir: TempDir,
    websocket: u16,
    tcp: u16,
    child: Option<Child>,
}

impl Broker {
    #[track_caller]
    pub(crate) fn start() -> Broker {
        Broker::start_with("")
    }

    /// With more lines of mosquitto.conf.
    #[track_caller]
    pub(crate) fn start_with(more: &str) -> Broker {
        let dir = tempfile::Builder::new().prefix("tidemill-broker-").tempdir().unwrap();
        let (websocket, tcp) = (free_port(), free_port());
        // `user`: started as root it would become a user who may not read `dir`.
        let config = format!(
            "user root\nallow_anonymous true\nmax_queued_messages 0\n\
             persistence true\npersistence_location {dir}/\nautosave_interval 0\n{more}\n\
             listener {tcp} 127.0.0.1\nlistener {websocket} 127.0.0.1\nprotocol websockets\n",
            dir = dir.path().display(),
        );
        std::fs::write(dir.path().join("mosquitto.conf"), config).unwrap();
        let mut broker = Broker { dir, websocket, tcp, child: None };
        broker.start_again();
        broker
    }

    /// For `url`: MQTT over WebSocket.
    pub(crate) fn url(&self) -> String {
        format!("ws://127.0.0.1:{}/mqtt", self.websocket)
    }

    /// For `url`: plain MQTT.
    pub(crate) fn plain_url(&self) -> String {
        format!("mqtt://127.0.0.1:{}", self.tcp)
    }

    /// A forwarder `cloud` to it, with more keys.
    pub(crate) fn config(&self, more: &str) -> String {
        format!("[forward.cloud]\nurl = {:?}\n{more}\n\n", self.url())
    }

    #[track_caller]
    pub(crate) fn subscribe(&self, filter: &str) -> Subscriber {
        Subscriber::start(format!("127.0.0.1:{}", self.tcp), filter)
    }

    /// As an administrator would: SIGTERM.
    #[track_caller]
    pub(crate) fn stop(&mut self) {
        let mut child = self.child.take().expect("it runs");
        kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
        eventually("mosquitto stops", || child.try_wait().unwrap());
    }

    #[track_caller]
    pub(crate) fn start_again(&mut self) {
        let log = std::fs::File::create(self.dir.path().join("log")).unwrap();
        let child = Command::new(program())
            .arg("-c")
            .arg(self.dir.path().join("mosquitto.conf"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .expect("mosquitto is installed");
        let child = self.child.insert(child);
        eventually("mosquitto listens", || {
            if let Some(status) = child.try_wait().unwrap() {
                let log = std::fs::read_to_string(self.dir.path().join("log")).unwrap();
                panic!("mosquitto ended at once, {status}: {log}");
            }
            let listens = |port| TcpStream::connect(("127.0.0.1", port)).is_ok();
            (listens(self.tcp) && listens(self.websocket)).then_some(())
        });
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            drop(child.kill());
            drop(child.wait());
        }
    }
}

/// Debian puts it where only root's PATH looks.
fn program() -> PathBuf {
    let sbin = PathBuf::from("/usr/sbin/mosquitto");
    if sbin.exists() { sbin } else { "mosquitto".into() }
}
