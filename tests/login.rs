//! The password, tokens and the commands about them, on the real binary.

use std::io::Write as _;
use std::process::{Output, Stdio};

use serde_json::json;

use crate::support::{Gateway, Home, eventually, http};

const PASSWORD: &str = "correct horse battery";

fn home() -> Home {
    Home::new(
        "[device.tide]\ndriver = \"sim\"\npoll = \"50ms\"\n\
         [device.tide.channel]\nlevel = { wave = \"ramp\" }\n",
    )
}

fn out(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn post(gateway: &Gateway, path: &str, body: &serde_json::Value) -> http::Response {
    let host = gateway.address();
    let headers = [("Host", host), ("Content-Type", "application/json")];
    http::request(host, "POST", path, &headers, body.to_string().as_bytes()).unwrap()
}

fn login(gateway: &Gateway, password: &str) -> u16 {
    post(gateway, "/api/v1/login", &json!({ "password": password })).status
}

#[test]
fn the_first_start_shows_a_link_that_sets_the_password_once() {
    let home = home();
    let gateway = home.start();
    let link = eventually("the link is in the log", || {
        let log = gateway.log();
        let at = log.find("/#/setup?token=")? + "/#/setup?token=".len();
        Some(log[at..].split_whitespace().next()?.to_owned())
    });
    let setup = json!({ "token": link, "password": PASSWORD });
    assert_eq!(post(&gateway, "/api/v1/setup", &setup).status, 200);
    assert_eq!(post(&gateway, "/api/v1/setup", &setup).status, 401);
    assert_eq!(login(&gateway, PASSWORD), 200);
    assert!(!gateway.log().contains(PASSWORD));
    gateway.stop();
    // It is kept, and the next start shows no link.
    let gateway = home.start();
    assert_eq!(login(&gateway, PASSWORD), 200);
    assert!(!gateway.log().contains("setup?token="), "{}", gateway.log());
}

#[test]
fn passwd_sets_the_password_from_a_pipe_and_shows_a_link() {
    let home = home();
    let gateway = home.start();
    let mut passwd = home.prepare(&["passwd"]);
    let mut passwd = passwd.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    passwd.stdin.take().unwrap().write_all(format!("{PASSWORD}\n").as_bytes()).unwrap();
    out(&passwd.wait_with_output().unwrap());
    assert_eq!(login(&gateway, PASSWORD), 200);
    assert_eq!(login(&gateway, "something else"), 401);
    let link = out(&home.command(&["passwd", "--link"]));
    assert!(link.starts_with(&format!("http://{}/#/setup?token=", gateway.address())), "{link}");
}

#[test]
fn a_token_is_made_listed_and_revoked() {
    let home = home();
    let gateway = home.start();
    let token = out(&home.command(&["token", "create", "script", "--write"])).trim().to_owned();
    let bearer = format!("Bearer {token}");
    let status = || {
        let headers = [("Host", gateway.address()), ("Authorization", bearer.as_str())];
        http::request(gateway.address(), "GET", "/api/v1/status", &headers, b"").unwrap().status
    };
    assert_eq!(status(), 200);
    let list = out(&home.command(&["token", "list"]));
    assert!(list.contains("script") && list.contains("write") && !list.contains(&token), "{list}");
    out(&home.command(&["token", "revoke", "script"]));
    assert_eq!(status(), 401);
    let again = home.command(&["token", "revoke", "script"]);
    assert_eq!(again.status.code(), Some(1));
    assert!(!gateway.log().contains(&token));
}

#[test]
fn export_gives_what_is_stored_as_csv_and_as_lines() {
    let home = home();
    let gateway = home.start();
    let stored = || gateway.status()["store"]["readings"].as_u64();
    eventually("some are stored", || (stored()? > 20).then_some(()));
    let csv = out(&home.command(&["export", "--from", "1h", "--channel", "tide/level"]));
    let rows: Vec<&str> = csv.lines().collect();
    assert_eq!(rows[0], "time,channel,value,unit,quality,reason,epoch,seq");
    assert!(rows.len() > 10, "{csv}");
    let lines = out(&home.command(&["export", "--from", "1h", "--format", "jsonl"]));
    let first: serde_json::Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
    assert_eq!(first["channel"], "tide/level");
    assert!(first["seq"].is_u64() && first["epoch"].is_string());
    let unknown = home.command(&["set", "tide/nothing", "1"]);
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("no channel tide/nothing"));
    let measured = home.command(&["set", "tide/level", "1"]);
    assert!(String::from_utf8_lossy(&measured.stderr).contains("only an output"));
}
