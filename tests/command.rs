//! The commands, as a person or a script runs them.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::support::{Broker, Feed, Gateway, Home, binary, eventually, free_port};

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn tidemill(arguments: &[&str]) -> Output {
    Command::new(binary()).args(arguments).env("NO_COLOR", "1").output().unwrap()
}

fn sim() -> Home {
    Home::new(
        "[device.tide]\ndriver = \"sim\"\npoll = \"50ms\"\n\
               [device.tide.channel]\nlevel = { wave = \"ramp\" }\n",
    )
}

#[test]
fn check_shows_all_five_mistakes_with_their_places_and_exits_78() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("wrong.toml");
    let config = "\
[store]
flash = \"1s\"

[dashboard]
listen = 8080

[forward.cloud]
url = \"ws://127.0.0.1:1/mqtt\"
version = 6

[device.weather]
driver = \"seriel\"
port = \"/dev/ttyUSB0\"

[device.panel]
driver = \"sim\"
poll = \"soon\"
";
    std::fs::write(&file, config).unwrap();
    let output = tidemill(&["check", "--config", file.to_str().unwrap()]);
    let said = err(&output);
    assert_eq!(output.status.code(), Some(78), "{said}");
    let place = |line: u32| format!("{}:{line}:", file.display());
    for (line, key) in [
        (2, "store.flash"),
        (5, "dashboard.listen"),
        (9, "forward.cloud.version"),
        (12, "device.weather.driver"),
        (17, "device.panel.poll"),
    ] {
        let found = said.lines().find(|said| said.contains(&place(line)));
        let found = found.unwrap_or_else(|| panic!("nothing about line {line} in:\n{said}"));
        let column = found.split(&place(line)).nth(1).unwrap();
        assert!(column.starts_with(|c: char| c.is_ascii_digit()), "a column: {found}");
        assert!(found.contains(key), "the key's path {key}: {found}");
    }
    assert!(said.contains("flush"), "did you mean `flush`:\n{said}");
    assert!(said.contains("serial"), "did you mean `serial`:\n{said}");
    let run = tidemill(&["run", "--config", file.to_str().unwrap()]);
    assert_eq!(run.status.code(), Some(78), "run refuses it too: {}", err(&run));
}

#[test]
fn check_passes_what_run_accepts() {
    let output = sim().command(&["check"]);
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
}

#[test]
fn wrong_usage_exits_2_and_help_0() {
    assert_eq!(tidemill(&["frobnicate"]).status.code(), Some(2));
    assert_eq!(tidemill(&["check", "--no-such"]).status.code(), Some(2));
    let help = tidemill(&["--help"]);
    assert_eq!(help.status.code(), Some(0));
    for command in ["demo", "run", "check", "watch", "status", "handshake", "schema"] {
        assert!(out(&help).contains(command), "{command} in:\n{}", out(&help));
        assert_eq!(tidemill(&[command, "--help"]).status.code(), Some(0), "{command} --help");
    }
}

#[test]
fn handshake_shows_the_opening_handshake_with_a_real_broker() {
    let broker = Broker::start();
    let arguments = ["handshake", &broker.url(), "--subprotocol", "mqttv3.1", "--mqtt"];
    let output = tidemill(&arguments);
    let text = out(&output);
    assert_eq!(output.status.code(), Some(0), "{text}{}", err(&output));
    for shown in [
        "GET /mqtt HTTP/1.1",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Protocol: mqttv3.1",
        "101 Switching Protocols",
        "258EAFA5-E914-47DA-95CA-C5AB0DC85B11",
    ] {
        assert!(text.contains(shown), "{shown} in:\n{text}");
    }
}

#[test]
fn handshake_fails_with_a_reason_where_nobody_is() {
    let url = format!("ws://127.0.0.1:{}/mqtt", free_port());
    let output = tidemill(&["handshake", &url]);
    assert_eq!(output.status.code(), Some(1));
    assert!(err(&output).contains("refuse"), "{}", err(&output));
}

#[test]
fn status_and_watch_tell_of_the_running_gateway() {
    let home = sim();
    let gateway = home.start();
    let status = home.command(&["status", "--json"]);
    assert_eq!(status.status.code(), Some(0), "{}", err(&status));
    let status: Value = serde_json::from_slice(&status.stdout).expect("one JSON object");
    assert_eq!(status["gateway"], "greenhouse");
    let devices = status["devices"].as_array().unwrap();
    assert!(devices.iter().any(|device| device["name"] == "tide"), "{status}");
    assert_eq!(status["store"]["path"], home.db().to_str().unwrap());
    let text = home.command(&["status"]);
    assert!(out(&text).contains("greenhouse") && out(&text).contains("tide"), "{}", out(&text));

    let mut watch = home.prepare(&["watch", "--json"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    let reading = lines.find_map(|line| {
        let object: Value = serde_json::from_str(&line.unwrap()).expect("one object a line");
        object.to_string().contains("tide/level").then_some(object)
    });
    watch.kill().unwrap();
    watch.wait().unwrap();
    assert!(reading.is_some(), "a reading of the feed");
    gateway.stop();

    let gone = home.command(&["status"]);
    assert_eq!(gone.status.code(), Some(1));
    assert!(err(&gone).contains("is it running"), "{}", err(&gone));
}

#[test]
fn the_schema_is_json_and_knows_every_driver() {
    let output = tidemill(&["schema"]);
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    let schema: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert!(schema["$schema"].is_string());
    let text = schema.to_string();
    for word in ["serial", "gpio", "system", "sim", "flush", "topic_prefix"] {
        assert!(text.contains(word), "{word}");
    }
}

#[test]
fn demo_needs_nothing_and_shows_the_whole_chain() {
    let address = format!("127.0.0.1:{}", free_port());
    let mut command = Command::new(binary());
    command.args(["demo", "--listen", &address]);
    let gateway = Gateway::spawn(command, address.clone());
    let log = eventually("it prints where it is", || {
        let log = gateway.log();
        (log.contains(&format!("http://{address}/")) && log.contains("ws://")).then_some(log)
    });
    assert!(gateway.get("/").text().contains("<script"), "the page answers");
    let mut feed = Feed::open(&address);
    let frame = feed.next_of("readings");
    assert!(frame["readings"][0]["channel"].is_string(), "{frame}");
    // It forwards to its own broker for real.
    let status = gateway.status();
    let name = status["forwarders"][0]["name"].as_str().expect("a forwarder").to_owned();
    gateway.forwarder_is(&name, "online");
    eventually("the broker acknowledges", || {
        (gateway.forwarder(&name)["acknowledged"].as_u64()? > 0).then_some(())
    });

    // And anybody may listen there.
    let broker =
        log.split_whitespace().find(|word| word.starts_with("ws://") && !word.contains(&address));
    let broker = broker.unwrap_or_else(|| panic!("the broker's URL in:\n{log}"));
    let greeting = tidemill(&["handshake", broker, "--mqtt"]);
    assert_eq!(greeting.status.code(), Some(0), "{}{}", out(&greeting), err(&greeting));
    let listener = crate::support::Subscriber::over_websocket(broker, "tidemill/#");
    assert!(listener.next().topic.starts_with("tidemill/"));
    gateway.stop();
}
