//! What went over a line, written down by the real gateway, and put through its
//! drivers again. `recordings/` has what people's devices have said: a new one
//! there, with what should come of it, is a test.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use expect_test::expect_file;
use rustix::process::{Pid, Signal, kill_process};

use crate::support::{Home, Port, binary, eventually};

fn replay(file: &Path, more: &[&str]) -> Output {
    Command::new(binary()).arg("replay").arg(file).args(more).output().unwrap()
}

/// `UPDATE_EXPECT=1` writes what comes of them anew.
#[test]
fn every_recording_says_what_it_said() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/recordings");
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|end| end == "rec"));
    files.sort();
    assert!(!files.is_empty());
    for file in files {
        let output = replay(&file, &[]);
        assert!(output.status.success(), "{}: {output:?}", file.display());
        let noise = String::from_utf8(output.stderr).unwrap();
        let said = String::from_utf8(output.stdout).unwrap() + "\n" + &noise;
        expect_file![file.with_extension("txt")].assert_eq(&said);
    }
}

#[test]
fn a_running_gateway_records_and_the_replay_says_the_same() {
    let mut port = Port::new();
    let home = Home::new(&port.config());
    let gateway = home.start();
    port.opened();
    let file = home.config().with_file_name("weather.rec");
    let mut record = home.prepare(&["record", "weather", file.to_str().unwrap()]).spawn().unwrap();
    let written = || std::fs::read_to_string(&file).unwrap_or_default();
    eventually("the recording begins", || written().lines().next().map(|_| ()));
    let second = home.command(&["record", "weather", "-"]);
    let why = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(!second.status.success() && why.contains("being recorded already"), "{why}");

    let mut feed = gateway.feed();
    port.write(b"{\"n\":1}\nnoise\n{\"n\":2}\n");
    let last = feed.reading("weather/n", |reading| reading["value"] == 2.0);
    eventually("it is written down", || written().contains("7b226e223a327d0a").then_some(()));
    kill_process(Pid::from_child(&record), Signal::INT).unwrap();
    assert!(record.wait().unwrap().success());

    let output = replay(&file, &["--json"]);
    let said = String::from_utf8(output.stdout).unwrap();
    let said: Vec<serde_json::Value> =
        said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let values: Vec<_> = said.iter().map(|reading| reading["value"].as_f64()).collect();
    assert_eq!(values, [Some(1.0), Some(2.0)], "{}", written());
    assert_eq!(said[1]["channel"], "weather/n");
    // When it was heard: the gateway's own time is a moment later.
    let (then, now) = (said[1]["time"].as_str().unwrap(), last["time"].as_str().unwrap());
    assert_eq!(then[..16], now[..16], "{then} {now}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("not understood: noise"));
    gateway.device_is("weather", "ok");
}

#[test]
fn without_a_gateway_the_port_is_opened_for_it() {
    let mut port = Port::new();
    let home = Home::new(&port.config());
    let file = home.config().with_file_name("weather.rec");
    let mut record = home.prepare(&["record", "weather", file.to_str().unwrap()]).spawn().unwrap();
    port.opened();
    port.write(b"{\"n\":1}\n");
    let written = || std::fs::read_to_string(&file).unwrap_or_default();
    eventually("it is written down", || written().contains("< 7b226e223a317d0a").then_some(()));
    kill_process(Pid::from_child(&record), Signal::TERM).unwrap();
    assert!(record.wait().unwrap().success());

    let again = home.command(&["record", "weather", file.to_str().unwrap()]);
    let why = String::from_utf8_lossy(&again.stderr).into_owned();
    assert!(!again.status.success() && why.contains("exists"), "{why}");
    let never = file.with_file_name("never.rec");
    let other = home.command(&["record", "wether", never.to_str().unwrap()]);
    let why = String::from_utf8_lossy(&other.stderr).into_owned();
    assert!(!other.status.success() && why.contains("has no device.wether"), "{why}");
    assert!(!never.exists(), "a file that nobody can use is left");
}
