//! A broker tried step by step, each step made to fail.

use std::net::Ipv4Addr;
use std::time::Duration;

use forward::probe::{Outcome, Step, probe};
use forward::{Config, Endpoint};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::support::Server;

async fn steps(url: &str, more: &str) -> Vec<Step> {
    let text = format!("url = {url:?}\nconnect_timeout = \"2s\"\n{more}");
    let config: Config = toml::from_str(&text).expect("settings");
    let endpoint = Endpoint::parse(url).expect("a URL");
    probe(&config, &endpoint, "greenhouse-doctor").await
}

/// The names of the steps, and what the last one says.
fn told(steps: &[Step]) -> (Vec<&'static str>, String) {
    let last = match &steps.last().expect("a step").outcome {
        Outcome::Ok(said) => format!("ok: {said}"),
        Outcome::Warn(said) => format!("warn: {said}"),
        Outcome::Fail(said) => format!("fail: {said}"),
    };
    (steps.iter().map(|step| step.name).collect(), last)
}

fn unused() -> u16 {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    listener.local_addr().expect("its address").port()
}

#[tokio::test]
async fn a_broker_that_is_well_passes_every_step() {
    let server = Server::start().await;
    for version in ["version = 5", "version = 4"] {
        let steps = steps(&server.url, version).await;
        let (names, last) = told(&steps);
        assert_eq!(names, ["settings", "DNS", "TCP", "WebSocket", "MQTT CONNECT"], "{last}");
        assert_eq!(last, "ok: accepted as \"greenhouse-doctor\"");
        assert!(steps.iter().all(|step| matches!(step.outcome, Outcome::Ok(_))), "{steps:#?}");
    }
    let (names, last) = told(&steps(&server.tcp, "").await);
    assert_eq!(names, ["settings", "DNS", "TCP", "MQTT CONNECT"], "{last}");
    server.stop().await;
}

#[tokio::test]
async fn the_step_that_fails_is_the_last_and_has_the_mend() {
    let closed = format!("ws://127.0.0.1:{}/mqtt", unused());
    let wss = closed.replace("ws:", "wss:");
    for (url, more, names, said) in [
        (closed.as_str(), "username = 'a'\npassword_file = '/nowhere/word'", 1, "/nowhere/word"),
        (&closed, "username = 'a'\npassword_env = 'NO_SUCH_WORD'", 1, "NO_SUCH_WORD"),
        (&wss, "ca = '/nowhere/ca.pem'", 1, "/nowhere/ca.pem"),
        ("ws://no-such-host.invalid/mqtt", "", 2, "no-such-host.invalid is not found"),
        (&closed, "", 3, "refuses the connection: is the broker running"),
    ] {
        let steps = steps(url, more).await;
        let (found, last) = told(&steps);
        assert_eq!(found.len(), names, "{found:?} {last}");
        assert!(last.starts_with("fail: ") && last.contains(said), "{last}");
    }
}

/// Answers each connection in the same way.
async fn answering(answer: &'static [u8]) -> (String, JoinSet<()>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    let port = listener.local_addr().expect("its address").port();
    let mut task = JoinSet::new();
    task.spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 1024];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(answer).await;
            if answer.is_empty() {
                tokio::time::sleep(Duration::from_secs(60)).await;
            }
        }
    });
    (format!("127.0.0.1:{port}"), task)
}

#[tokio::test]
async fn a_handshake_and_a_connect_that_are_refused_say_why() {
    let (web, _web) = answering(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n").await;
    let (names, last) = told(&steps(&format!("ws://{web}/mqtt"), "").await);
    assert_eq!(names.last(), Some(&"WebSocket"));
    assert!(last.contains("404") && last.contains("check the path of the URL"), "{last}");
    assert!(last.contains("tidemill handshake ws://"), "{last}");

    // CONNACK of MQTT 3.1.1 with return code 5.
    let (refusing, _refusing) = answering(&[0x20, 2, 0, 5]).await;
    let (names, last) = told(&steps(&format!("mqtt://{refusing}"), "version = 4").await);
    assert_eq!(names.last(), Some(&"MQTT CONNECT"));
    assert!(last.contains("not authorized: check `username` and the password"), "{last}");

    let (silent, _silent) = answering(b"").await;
    let (_, last) = told(&steps(&format!("mqtt://{silent}"), "").await);
    assert_eq!(last, "fail: no answer within 2s");

    // A port that speaks something else than TLS.
    let (plain, _plain) = answering(b"220 mail.example ESMTP\r\n").await;
    let (names, last) = told(&steps(&format!("mqtts://{plain}"), "").await);
    assert_eq!(names.last(), Some(&"TLS"));
    assert!(last.contains("doesn't speak TLS on this port"), "{last}");
}
