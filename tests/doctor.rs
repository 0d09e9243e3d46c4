//! The tools with which a person finds out what is wrong: doctor, scan, report,
//! drivers, and the errors of the others.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::support::{Broker, Home, Port, binary, free_port};

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn tidemill(arguments: &[&str]) -> Output {
    let mut command = Command::new(binary());
    command.args(arguments).env_remove("RUNTIME_DIRECTORY").env_remove("RUST_LOG");
    command.stdin(Stdio::null()).output().unwrap()
}

const SIM: &str = "[device.tide]\ndriver = \"sim\"\npoll = \"50ms\"\n\
    [device.tide.channel]\nlevel = { wave = \"ramp\" }\n";

/// What doctor finds, by probe: `fail forward cloud TCP`.
fn findings(output: &Output) -> Vec<(String, String)> {
    let object: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}{}", out(output), err(output)));
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let all = object["findings"].as_array().unwrap().iter();
    all.map(|finding| {
        let title = format!("{} {}", text(&finding["verdict"]), text(&finding["probe"]));
        (title, format!("{}; {}", text(&finding["found"]), text(&finding["mend"])))
    })
    .collect()
}

#[track_caller]
fn said(findings: &[(String, String)], title: &str) -> String {
    let found = findings.iter().find(|(other, _)| other == title);
    found.unwrap_or_else(|| panic!("no {title} in {findings:#?}")).1.clone()
}

#[test]
fn doctor_finds_a_healthy_gateway_well_step_by_step() {
    let broker = Broker::start();
    let mut port = Port::new();
    let home = Home::new(&format!(
        "[forward.cloud]\nurl = {:?}\n\n[device.weather]\ndriver = \"serial\"\nport = {:?}\n\
         [device.weather.channel]\nt = {{}}\n",
        broker.url(),
        port.path()
    ));
    let gateway = home.start();
    gateway.forwarder_is("cloud", "online");
    port.line("{\"t\":1}");
    gateway.device_is("weather", "ok");
    let output = home.command(&["doctor", "--json"]);
    let found = findings(&output);
    let failed: Vec<_> = found.iter().filter(|(title, _)| title.starts_with("fail")).collect();
    // The machine that tests may lack room or a set clock; what is ours is well.
    assert!(
        failed.iter().all(|(title, _)| title.ends_with("disk") || title.ends_with("clock")),
        "{failed:#?}"
    );
    for step in ["settings", "DNS", "TCP", "WebSocket", "MQTT CONNECT"] {
        said(&found, &format!("ok forward cloud {step}"));
    }
    assert!(said(&found, "ok forward cloud MQTT CONNECT").contains("greenhouse-cloud-doctor"));
    assert!(said(&found, "ok store").contains("may be written"));
    assert!(said(&found, "ok gateway").contains("greenhouse runs tidemill"));
    assert!(said(&found, "ok device weather").contains("is read by tidemill (process "));
    assert!(said(&found, "ok store lock").contains("held by tidemill"));
    assert!(said(&found, "ok dashboard").contains("is served by tidemill"));

    // One line each, and the running session is left alone.
    let text = out(&home.command(&["doctor"]));
    let lines: Vec<&str> = text.lines().take_while(|line| !line.is_empty()).collect();
    assert_eq!(lines.len(), found.len(), "{text}");
    assert!(lines.iter().all(|line| line.starts_with("ok  ")
        || line.starts_with("warn")
        || line.starts_with("fail")));
    assert!(!text.contains('\x1b'), "colour is for terminals");
    assert_eq!(gateway.forwarder("cloud")["state"], "online");
    gateway.stop();
}

#[test]
fn doctor_names_each_fault_and_its_mend_and_exits_1() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("tidemill.toml");
    let config = format!(
        "[store]\npath = {:?}\n[dashboard]\nlisten = \"{}\"\n\
         [forward.cloud]\nurl = \"ws://127.0.0.1:{}/mqtt\"\n\
         [forward.other]\nurl = \"wss://no-such-host.invalid/mqtt\"\n\
         [device.weather]\ndriver = \"serial\"\nport = \"/dev/ttyNONE\"\n[device.weather.channel]\nt = {{}}\n\
         [device.panel]\ndriver = \"gpio\"\nchip = \"gpiochip97\"\n[device.panel.channel]\ndoor = {{ line = 1 }}\n",
        dir.path(),
        taken.local_addr().unwrap(),
        free_port(),
    );
    fs::write(&file, config).unwrap();
    let output = tidemill(&["doctor", "--json", "--config", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1), "{}", err(&output));
    let found = findings(&output);
    for (title, words) in [
        ("fail store", "is a folder; set store.path to a file in it"),
        ("fail dashboard", "is held by "),
        ("fail forward cloud TCP", "refuses the connection: is the broker running"),
        ("fail forward other DNS", "no-such-host.invalid is not found"),
        ("fail device weather", "/dev/ttyNONE isn't there"),
        ("fail device panel", "there is no GPIO chip gpiochip97"),
        ("warn gateway", "no gateway answers"),
    ] {
        let what = said(&found, title);
        assert!(what.contains(words), "{title}: {what}");
    }
    assert!(
        !found.iter().any(|(title, _)| title.contains("cloud MQTT")),
        "no step follows a failure"
    );
    assert!(err(&output).contains("things fail"), "{}", err(&output));

    fs::write(&file, "[stor]\n").unwrap();
    let invalid = tidemill(&["doctor", "--config", file.to_str().unwrap()]);
    assert_eq!(invalid.status.code(), Some(78));
    assert!(out(&invalid).contains("is not valid; tidemill check"), "{}", out(&invalid));
    assert!(err(&invalid).contains("did you mean `store`?"), "{}", err(&invalid));
}

#[test]
fn no_secret_is_in_a_report() {
    const CANARY: &str = "kanarienvogel";
    let dir = tempfile::tempdir().unwrap();
    let word = dir.path().join("word");
    fs::write(&word, format!("{CANARY}-file\n")).unwrap();
    let url = format!("ws://127.0.0.1:{}/mqtt?signature={CANARY}-query", free_port());
    let home = Home::new(&format!(
        "[forward.cloud]\nurl = {url:?}\nusername = \"{CANARY}-user\"\npassword_file = {word:?}\n\
         headers = {{ Authorization = \"Bearer {CANARY}-header\" }}\n\
         [forward.second]\nurl = {url:?}\nusername = \"x\"\npassword_env = \"CANARY\"\n# {CANARY}-comment\n{SIM}"
    ));
    let gateway = home.start();
    let logs = dir.path().join("log");
    let spoken = ["user", "file", "header", "query", "env"].map(|what| format!("{CANARY}-{what}"));
    fs::write(&logs, format!("the broker says {}\nas ever: fine\n", spoken.join(" "))).unwrap();
    let mut command = home.prepare(&["report", "--logs", logs.to_str().unwrap()]);
    let output = command.env("CANARY", format!("{CANARY}-env")).output().unwrap();
    let report = out(&output);
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    assert!(!report.contains(CANARY), "{report}");
    for part in [
        "tidemill report, 20",
        "==== version ====\ntidemill 0.",
        "password_file = ",
        "==== check ====\nvalid",
        "==== doctor ====\nok ",
        "forward cloud TCP",
        "\"gateway\": \"greenhouse\"",
        "==== scan ====\nGPIO",
        "==== log ====\nthe broker says *** *** *** *** ***\nas ever: fine",
    ] {
        assert!(report.contains(part), "{part:?} in:\n{report}");
    }
    gateway.stop();

    // A file that can't be parsed gives its keys, and nothing else.
    fs::write(home.config(), format!("[forward.cloud\npassword = \"{CANARY}\"\n{CANARY}\n"))
        .unwrap();
    let broken = home.command(&["report"]);
    assert_eq!(broken.status.code(), Some(0), "{}", err(&broken));
    assert!(!out(&broken).contains(CANARY), "{}", out(&broken));
    assert!(out(&broken).contains("unclosed table"), "{}", out(&broken));
}

#[test]
fn what_scan_and_drivers_print_is_accepted_by_check() {
    let scan = tidemill(&["scan", "--json"]);
    assert_eq!(scan.status.code(), Some(0), "{}", err(&scan));
    let scan: Value = serde_json::from_slice(&scan.stdout).expect("JSON");
    let snippets = ["gpio", "serial", "i2c", "onewire", "iio", "hwmon", "pwm"];
    let snippets = snippets.into_iter().flat_map(|kind| {
        let things = scan[kind].as_array().unwrap_or_else(|| panic!("{kind} in {scan}"));
        things.iter().filter_map(|thing| thing["snippet"].as_str().map(str::to_owned))
    });
    let listed = tidemill(&["drivers", "--json"]);
    let listed: Value = serde_json::from_slice(&listed.stdout).expect("JSON");
    let names: Vec<&str> =
        listed["drivers"].as_array().unwrap().iter().filter_map(|d| d["name"].as_str()).collect();
    assert!(names.contains(&"serial") && names.contains(&"gpio"), "{names:?}");
    let samples = names.iter().map(|name| {
        let sample = tidemill(&["drivers", name]);
        assert_eq!(sample.status.code(), Some(0), "{name}: {}", err(&sample));
        out(&sample)
    });
    let dir = tempfile::tempdir().unwrap();
    for (number, text) in snippets.chain(samples).enumerate() {
        let file = dir.path().join(format!("{number}.toml"));
        fs::write(&file, &text).unwrap();
        let check = tidemill(&["check", "--json", "--config", file.to_str().unwrap()]);
        let answer: Value = serde_json::from_slice(&check.stdout).expect("JSON");
        assert_eq!(answer["valid"], true, "{answer} of\n{text}");
    }
    let broker = Broker::start();
    let greeting = tidemill(&["handshake", &broker.url(), "--mqtt", "--json"]);
    let greeting: Value = serde_json::from_slice(&greeting.stdout).expect("JSON");
    assert_eq!(greeting["ok"], true, "{greeting}");
    assert_eq!(greeting["checks"][0]["found"], "HTTP/1.1 101 Switching Protocols");

    let unknown = tidemill(&["drivers", "seriel"]);
    assert_eq!(unknown.status.code(), Some(1));
    assert!(err(&unknown).contains("did you mean \"serial\"?"), "{}", err(&unknown));
}

#[test]
fn check_tells_scripts_where_each_error_is() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.toml");
    fs::write(&file, "[store]\nflush = 1\nkep = \"1d\"\n").unwrap();
    let output = tidemill(&["check", "--json", "--config", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(78));
    let answer: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(answer["valid"], false);
    let errors = answer["errors"].as_array().unwrap();
    let places: Vec<_> = errors
        .iter()
        .map(|e| {
            (
                e["line"].as_u64().unwrap(),
                e["column"].as_u64().unwrap(),
                e["path"].as_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(places, [(2, 9, "store.flush"), (3, 1, "store.kep")]);
}

/// What `run` says of a configuration, and its exit status.
fn refused(folder: &Path, config: &str) -> (Option<i32>, String) {
    let file = folder.join("tidemill.toml");
    fs::write(&file, config).unwrap();
    let output = tidemill(&["run", "--config", file.to_str().unwrap()]);
    (output.status.code(), err(&output))
}

#[test]
fn what_keeps_the_gateway_from_starting_is_named_with_its_mend() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), "").unwrap();
    let store =
        |path: &str| format!("[store]\npath = {path:?}\n[dashboard]\nlisten = \"127.0.0.1:0\"\n");
    let folder = dir.path().to_str().unwrap();
    for (path, words) in [
        (folder.to_owned(), "is a folder: name a file in it"),
        (format!("{folder}/file/a.db"), "/file is a file, so"),
        (
            "/proc/nowhere/a.db".to_owned(),
            "/proc/nowhere can't be made; name a place on a disk or card",
        ),
    ] {
        let (code, said) = refused(dir.path(), &store(&path));
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains(words), "{words:?} in: {said}");
        assert!(!said.contains("os error"), "{said}");
    }
    let missing = tidemill(&["run", "--config", "/nowhere/tidemill.toml"]);
    assert!(
        err(&missing).contains(
            "the configuration /nowhere/tidemill.toml can't be read; name another with --config"
        ),
        "{}",
        err(&missing)
    );
    let a_folder = tidemill(&["check", "--config", folder]);
    assert!(err(&a_folder).contains("it is a folder: name a file"), "{}", err(&a_folder));
    let large = dir.path().join("large.toml");
    fs::File::create(&large).unwrap().set_len(5 << 20).unwrap();
    let large = tidemill(&["check", "--config", large.to_str().unwrap()]);
    assert!(err(&large).contains("too large for a configuration"), "{}", err(&large));

    let latin = dir.path().join("latin.toml");
    fs::write(&latin, b"[gateway]\nid = \"gew\xe4chshaus\"\n").unwrap();
    let latin = tidemill(&["check", "--config", latin.to_str().unwrap()]);
    assert_eq!(latin.status.code(), Some(78));
    assert!(
        err(&latin).contains("latin.toml:2:10: not UTF-8; save the file as UTF-8"),
        "{}",
        err(&latin)
    );
}

#[test]
fn a_second_gateway_on_the_same_store_is_refused_and_a_taken_port_is_not_the_end() {
    let home = Home::new(SIM);
    let gateway = home.start();
    let second = home.command(&["run"]);
    assert_eq!(second.status.code(), Some(1));
    assert!(err(&second).contains("another gateway already runs here"), "{}", err(&second));
    // Another socket, the same store.
    let elsewhere = tempfile::tempdir().unwrap();
    let mut third = home.prepare(&["run"]);
    let third = third.env("RUNTIME_DIRECTORY", elsewhere.path()).output().unwrap();
    assert_eq!(third.status.code(), Some(1));
    assert!(err(&third).contains("is in use by another gateway: stop that one"), "{}", err(&third));
    gateway.stop();

    let gone = tidemill(&["status", "--socket", "/nowhere/control.sock"]);
    assert_eq!(gone.status.code(), Some(1));
    assert!(
        err(&gone).contains("there is no /nowhere/control.sock (is it running?"),
        "{}",
        err(&gone)
    );
    // A socket that a killed gateway has left.
    let left = elsewhere.path().join("left.sock");
    drop(std::os::unix::net::UnixListener::bind(&left).unwrap());
    let left = tidemill(&["status", "--socket", left.to_str().unwrap()]);
    assert!(err(&left).contains("is left over from one that has ended"), "{}", err(&left));

    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let demo = tidemill(&["demo", "--listen", &address]);
    assert_eq!(demo.status.code(), Some(1));
    let words = format!("listen on {address}; choose another with --listen");
    assert!(err(&demo).contains(&words), "{}", err(&demo));
}
