//! Modbus against a server that is not ours: pymodbus, over a pair of
//! pseudo-terminals and over TCP.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::Home;

/// Newer ones may name things otherwise.
const PACKAGES: [&str; 2] = ["pymodbus==3.16.1", "pyserial==3.5"];

/// The server; ends with its standard input, so it can't outlive the test.
struct Server {
    _child: Child,
    port: String,
    tcp: u64,
}

impl Server {
    fn start() -> Server {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/modbus.py");
        let mut child = Command::new("python3")
            .arg(script)
            .env("PYTHONPATH", packages())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 is installed");
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let place: Value = serde_json::from_str(&line).expect("pymodbus has started");
        let port = place["port"].as_str().unwrap().to_owned();
        Server { tcp: place["tcp"].as_u64().unwrap(), port, _child: child }
    }
}

/// Where pymodbus is: installed once, below `target/`, by pip.
fn packages() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("pymodbus-3.16.1");
    if !folder.exists() {
        // Whole or not at all, whoever else installs it at the same time.
        let new = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap().keep();
        let mut pip = Command::new("python3");
        pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target"]);
        let installed = pip.arg(&new).args(PACKAGES).status();
        assert!(installed.is_ok_and(|status| status.success()), "apt-get install python3-pip");
        if std::fs::rename(&new, &folder).is_err() {
            std::fs::remove_dir_all(&new).unwrap();
        }
    }
    folder
}

/// A slave with every table, order and kind of value, and a hole.
const CHANNELS: &str = r#"
voltage = { register = "input:0", type = "f32", unit = "V" }
energy  = { register = "input:2", type = "u32", order = "cdab", scale = 0.01 }
minus   = { register = "holding:4", type = "i16" }
fault   = { register = "holding:5", bit = 3 }
sound   = { register = "holding:5", bit = 2 }
model   = { register = "input:6", type = "string", length = 3 }
number  = { register = "input:20" }
relay   = { register = "coil:1" }
off     = { register = "coil:2" }
contact = { register = "discrete:9" }
hole    = { register = "input:15" }
level   = { register = "holding:20", scale = 0.5, output = true }
pump    = { register = "coil:3", output = true }
alarm   = { register = "holding:5", bit = 7, output = true }
"#;

fn device(name: &str, place: &str, address: u8, poll: &str) -> String {
    format!(
        "[device.{name}]\ndriver = \"modbus\"\n{place}\naddress = {address}\npoll = {poll:?}\n\
         response_timeout = \"200ms\"\n[device.{name}.channel]{CHANNELS}\n"
    )
}

#[test]
fn every_table_and_type_is_read_from_a_foreign_server_and_a_dead_slave_slows_nobody() {
    let server = Server::start();
    let line = format!("port = {:?}", server.port);
    let net = format!("tcp = \"127.0.0.1:{}\"", server.tcp);
    let config = [
        device("one", &line, 1, "100ms"),
        device("two", &line, 2, "100ms"),
        device("dead", &line, 9, "100ms"),
        device("net", &net, 1, "100ms"),
        device("nobody", &net, 9, "100ms"),
    ];
    let home = Home::new(&config.concat());
    let gateway = home.start();
    let mut feed = gateway.feed();
    for (name, number) in [("one", 1.0), ("two", 2.0), ("net", 1.0)] {
        for (channel, value) in [
            ("voltage", Value::from(230.5 + number)),
            ("energy", Value::from(1234.56)),
            ("minus", Value::from(-5.0)),
            ("fault", Value::from(true)),
            ("sound", Value::from(false)),
            ("model", Value::from("SDM630")),
            ("number", Value::from(number)),
            ("relay", Value::from(true)),
            ("off", Value::from(false)),
            ("contact", Value::from(true)),
        ] {
            let channel = format!("{name}/{channel}");
            feed.reading(&channel, |reading| reading["value"] == value);
        }
        let hole = format!("{name}/hole");
        feed.reading(&hole, |reading| reading["reason"] == "absent");
        gateway.device_is(name, "ok");
    }
    let log = gateway.log();
    assert!(log.contains("exception 2, illegal data address"), "{log}");
    for dead in ["dead", "nobody"] {
        gateway.device_is(dead, "lost");
        let error = gateway.device(dead)["error"].to_string();
        assert!(error.contains("slave 9 on") && error.contains("didn't answer"), "{error}");
    }

    // What is written is read back, on the line and over TCP.
    for name in ["two", "net"] {
        for (channel, value, read) in [
            ("level", "12.5", Value::from(12.5)),
            ("pump", "true", Value::from(true)),
            ("alarm", "true", Value::from(true)),
        ] {
            let channel = format!("{name}/{channel}");
            let set = home.command(&["set", &channel, value]);
            assert!(set.status.success(), "{channel}: {}", String::from_utf8_lossy(&set.stderr));
            feed.reading(&channel, |reading| reading["value"] == read);
        }
        let fault = format!("{name}/fault");
        feed.reading(&fault, |reading| reading["value"] == true);
        let level = format!("{name}/level");
        let refused = home.command(&["set", &level, "-1"]);
        let refused = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(refused.contains("the register takes 0 to 65535"), "{refused}");
    }

    // Both live slaves go on, while the dead one is tried again and again.
    let readings = |name: &str| gateway.device(name)["readings"].as_u64().unwrap();
    let before = ["one", "two"].map(readings);
    let begun = Instant::now();
    std::thread::sleep(Duration::from_secs(2));
    let polls = before.iter().zip(["one", "two"]).map(|(before, name)| {
        (readings(name) - before) as f64 / 14.0 / begun.elapsed().as_secs_f64()
    });
    let polls: Vec<f64> = polls.collect();
    assert!(polls.iter().all(|polls| *polls > 2.0), "polls a second: {polls:?}");
    let ratio = polls[0] / polls[1];
    assert!((0.5..2.0).contains(&ratio), "shared fairly: {polls:?}");
}
