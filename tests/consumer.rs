//! A consumer at the far end: each reading once in a real PostgreSQL, whatever
//! is killed in between.

use std::fs::File;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::support::{Broker, Home, Port, eventually};

/// PostgreSQL doesn't run as root: as root, the tests start it as nobody.
const NOBODY: u32 = 65_534;

/// A cluster of its own, on a Unix socket in its folder.
struct Database {
    dir: TempDir,
    server: Child,
}

impl Database {
    fn start() -> Database {
        let dir = tempfile::Builder::new().prefix("tidemill-pg-").tempdir().unwrap();
        if rustix::process::getuid().is_root() {
            chown(dir.path(), Some(NOBODY), Some(NOBODY)).unwrap();
        }
        let data = dir.path().join("data");
        let made = postgresql("initdb", &dir)
            .args(["--auth=trust", "--username=tidemill", "--no-sync", "--pgdata"])
            .arg(&data)
            .output()
            .expect("postgresql is installed");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let server = postgresql("postgres", &dir)
            .arg("-D")
            .arg(&data)
            .args(["-c", "listen_addresses=", "-c", "fsync=off", "-k"])
            .arg(dir.path())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let database = Database { dir, server };
        eventually("PostgreSQL answers", || database.try_sql("SELECT 1").then_some(()));
        database
    }

    fn connection(&self) -> String {
        format!("host={} user=tidemill dbname=postgres", self.dir.path().display())
    }

    fn psql(&self) -> Command {
        let mut psql = Command::new("psql");
        psql.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d"]).arg(self.connection());
        psql
    }

    fn try_sql(&self, sql: &str) -> bool {
        self.psql().args(["-c", sql]).output().is_ok_and(|output| output.status.success())
    }

    #[track_caller]
    fn sql(&self, sql: &str) -> Vec<String> {
        let output = self.psql().args(["-c", sql]).output().expect("psql is installed");
        assert!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
    }

    #[track_caller]
    fn load(&self, file: &str) {
        let loaded = self.psql().arg("-f").arg(shipped(file)).output().unwrap();
        assert!(loaded.status.success(), "{}", String::from_utf8_lossy(&loaded.stderr));
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        drop(self.server.kill());
        drop(self.server.wait());
    }
}

fn postgresql(program: &str, dir: &TempDir) -> Command {
    // Debian keeps them out of PATH, by version.
    let debian = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let found = debian.map(|version| version.path().join("bin").join(program));
    let program = found.filter(|path| path.exists()).max().unwrap_or_else(|| program.into());
    let mut command = Command::new(program);
    command.current_dir(dir.path()).stdin(Stdio::null()).stdout(Stdio::null());
    if rustix::process::getuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command
}

fn shipped(file: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../config/consumers").join(file)
}

/// The shipped program, killed when dropped.
struct Consumer(Child);

impl Consumer {
    fn start(broker: &Broker, database: &Database, log: &std::path::Path) -> Consumer {
        // Debian's Python has Debian's libraries, whatever comes first in PATH.
        let child = Command::new("/usr/bin/python3")
            .arg(shipped("postgresql.py"))
            .arg("--broker")
            .arg(broker.plain_url().trim_start_matches("mqtt://"))
            .arg("--database")
            .arg(database.connection())
            .stdin(Stdio::null())
            .stdout(File::options().create(true).append(true).open(log).unwrap())
            .stderr(File::options().create(true).append(true).open(log).unwrap())
            .spawn()
            .expect("python3 is installed");
        let count = || std::fs::read_to_string(log).unwrap().matches("connected").count();
        let before = count();
        eventually("the consumer is connected", || (count() > before).then_some(()));
        Consumer(child)
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[test]
fn each_reading_of_a_pack_is_in_postgresql_once() {
    each_reading_is_there_once("senml");
}

#[test]
fn each_reading_of_json_is_in_postgresql_once() {
    each_reading_is_there_once("json");
}

/// Gateway, consumer and broker are killed and started again under load, and a
/// client sends old messages once more.
fn each_reading_is_there_once(format: &str) {
    let (database, mut broker, mut port) = (Database::start(), Broker::start(), Port::new());
    database.load("postgresql.sql");
    database.load("postgresql.sql");
    let log = database.dir.path().join("consumer.log");
    let mut consumer = Consumer::start(&broker, &database, &log);
    let compress = if format == "senml" { "compress = \"deflate\"\n" } else { "" };
    let more = format!("format = {format:?}\n{compress}");
    let home = Home::new(&(broker.config(&more) + &port.config()));
    for round in 0..2_u64 {
        let gateway = home.start();
        port.opened();
        port.count(round * 500..round * 500 + 250);
        if round == 1 {
            broker.stop();
            broker.start_again();
        }
        port.count(round * 500 + 250..(round + 1) * 500);
        // In the middle of what it does.
        consumer = {
            drop(consumer);
            Consumer::start(&broker, &database, &log)
        };
        drop(gateway);
    }
    let gateway = home.start();
    let stored = "SELECT count(*) FROM readings WHERE channel = 'n'";
    let settled = |question: &str| home.sqlite(question)[0].parse::<u64>().unwrap();
    eventually("all of it is in PostgreSQL", || {
        let there = database.sql("SELECT count(*) FROM readings WHERE channel = 'weather/n'");
        (there[0].parse::<u64>().unwrap() >= settled(stored)).then_some(())
    });
    assert!(settled(stored) > 600, "most of the 1,000 lines were read");

    // The same numbers, times and values as in the gateway's own store.
    let ours = home.sqlite(
        "SELECT seq || ' ' || value || ' ' || time FROM readings WHERE channel = 'n' ORDER BY seq",
    );
    let theirs = database.sql(
        "SELECT seq || ' ' || to_char(number, 'FM9999990.0') || ' ' || \
         to_char(time AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"') \
         FROM readings WHERE channel = 'weather/n' ORDER BY seq",
    );
    assert_eq!(theirs, ours, "{format}");
    drop(gateway);
    gaps(&database, &broker, &log);
    drop(consumer);
}

/// A gap is stored and reported once, however often it comes, and what nobody
/// has told of is found.
fn gaps(database: &Database, broker: &Broker, log: &std::path::Path) {
    let gap = r#"{"epoch":"00000000000000aa","seq":5,"from":"2026-11-24T08:20:03.123456Z","to":"2026-11-24T08:21:03.123456Z","count":60,"channel":null,"reason":"store full"}"#;
    let reading = |seq: u64| {
        format!(
            r#"{{"epoch":"00000000000000aa","seq":{seq},"time":"2026-11-24T08:20:03.123456Z","value":true,"unit":"","quality":"good"}}"#
        )
    };
    for _ in 0..2 {
        publish(broker, "tidemill/other/gaps", gap);
        for seq in [4, 6, 9] {
            publish(broker, "tidemill/other/panel/door", &reading(seq));
        }
    }
    let told = "SELECT gateway, seq, count, channel, reason FROM gaps WHERE gateway = 'other'";
    eventually("the gap is stored", || {
        (database.sql(told) == ["other|5|60||store full"]).then_some(())
    });
    let missing = "SELECT first_seq, last_seq, count FROM missing WHERE gateway = 'other'";
    eventually("the hole is found", || (database.sql(missing) == ["7|8|2"]).then_some(()));
    let log = std::fs::read_to_string(log).unwrap();
    let line = "gap: other: 60 readings of several channels from 2026-11-24T08:20:03.123456Z";
    assert_eq!(log.matches(line).count(), 1, "{log}");
}

fn publish(broker: &Broker, topic: &str, payload: &str) {
    let url = broker.plain_url();
    let port = url.rsplit(':').next().unwrap();
    let done = Command::new("mosquitto_pub")
        .args(["-h", "127.0.0.1", "-p", port, "-q", "1", "-t", topic, "-m", payload])
        .status()
        .expect("mosquitto-clients is installed");
    assert!(done.success());
}
