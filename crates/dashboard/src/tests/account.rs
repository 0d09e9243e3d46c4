//! Logging in, the password, tokens, and what they let do.

use reading::Datum;
use serde_json::json;
use tokio_tungstenite::tungstenite::Error;

use super::support::{Answer, Dashboard, open};
use crate::http::Limits;
use crate::{Config, View};

const PASSWORD: &str = "correct horse";

/// A dashboard where nobody may look without a login, with a password.
async fn closed() -> Dashboard {
    let config = Config { view: View::Nobody, ..Config::default() };
    let dashboard = Dashboard::with(config, Limits::default()).await;
    let set = json!({ "password": PASSWORD }).to_string();
    assert_eq!(dashboard.command("POST /api/v1/password", &set).await.status, 200);
    dashboard
}

async fn login(dashboard: &Dashboard, password: &str) -> Answer {
    let body = json!({ "password": password }).to_string();
    dashboard.send("POST /api/v1/login", &body, &[]).await
}

async fn token(dashboard: &Dashboard, name: &str, scope: &str) -> String {
    let body = json!({ "name": name, "scope": scope }).to_string();
    let made = dashboard.command("POST /api/v1/tokens", &body).await;
    assert_eq!(made.status, 201, "{made:?}");
    format!("Authorization: Bearer {}", made.json()["token"].as_str().unwrap())
}

#[tokio::test]
async fn the_password_is_set_by_a_link_once() {
    let dashboard = Dashboard::start().await;
    let session = dashboard.json("/api/v1/session").await;
    assert_eq!(
        session,
        json!({"loggedIn": false, "passwordSet": false, "look": true, "write": false})
    );
    let early = login(&dashboard, PASSWORD).await;
    assert_eq!(early.status, 409, "there is no default password");
    assert!(early.body.contains("tidemill passwd"), "{}", early.body);

    assert_eq!(dashboard.send("POST /api/v1/link", "{}", &[]).await.status, 403);
    let link = async || {
        let answer = dashboard.command("POST /api/v1/link", "{}").await.json();
        let link = answer["links"][0].as_str().unwrap().to_owned();
        assert!(link.starts_with(&format!("http://{}/#/setup?token=", dashboard.address)));
        link.split_once("token=").unwrap().1.to_owned()
    };
    let old = link().await;
    let new = link().await;
    let setup = async |token: &str, password: &str| {
        let body = json!({ "token": token, "password": password }).to_string();
        dashboard.send("POST /api/v1/setup", &body, &[]).await
    };
    assert_eq!(setup(&old, PASSWORD).await.status, 401, "a newer one has been made");
    assert_eq!(setup(&new, "short").await.status, 400, "which doesn't use the link up");
    let done = setup(&new, PASSWORD).await;
    assert_eq!(done.status, 200, "{done:?}");
    let session = dashboard.ask("GET /api/v1/session", &[&done.cookie()]).await.json();
    assert_eq!(
        session,
        json!({"loggedIn": true, "passwordSet": true, "look": true, "write": true})
    );
    assert_eq!(setup(&new, "another one").await.status, 401, "it is used up");
    assert_eq!(login(&dashboard, PASSWORD).await.status, 200);
}

#[tokio::test]
async fn a_session_begins_with_the_password_and_ends() {
    let dashboard = closed().await;
    let answer = login(&dashboard, "wrong horse").await;
    assert_eq!((answer.status, answer.cookie), (401, None));
    let answer = login(&dashboard, PASSWORD).await;
    assert_eq!(answer.status, 200);
    let set = answer.cookie.clone().unwrap();
    assert!(set.contains("; HttpOnly; SameSite=Strict") && !set.contains("Secure"), "{set}");
    let cookie = answer.cookie();
    assert_eq!(dashboard.ask("GET /api/v1/status", &[&cookie]).await.status, 200);
    assert_eq!(dashboard.ask("GET /metrics", &[&cookie]).await.status, 200);
    assert_eq!(dashboard.get("/api/v1/status").await.status, 401);
    let forged = format!("{cookie}x");
    assert_eq!(dashboard.ask("GET /api/v1/status", &[&forged]).await.status, 401);
    let out = dashboard.ask("POST /api/v1/logout", &[&cookie]).await;
    assert!(out.cookie.unwrap().contains("Max-Age=0"));
    assert_eq!(dashboard.ask("GET /api/v1/status", &[&cookie]).await.status, 401);
}

#[tokio::test]
async fn a_new_password_ends_other_sessions() {
    let dashboard = closed().await;
    let (own, other) = (login(&dashboard, PASSWORD).await, login(&dashboard, PASSWORD).await);
    let change = async |body: serde_json::Value| {
        let headers = [own.cookie()];
        let headers: Vec<_> = headers.iter().map(String::as_str).collect();
        dashboard.send("POST /api/v1/password", &body.to_string(), &headers).await.status
    };
    assert_eq!(change(json!({"password": "new password"})).await, 400, "the old one is missing");
    let wrong = json!({"current": "wrong horse", "password": "new password"});
    assert_eq!(change(wrong).await, 401);
    assert_eq!(change(json!({"current": PASSWORD, "password": "new password"})).await, 200);
    assert_eq!(dashboard.ask("GET /api/v1/status", &[&own.cookie()]).await.status, 200);
    assert_eq!(dashboard.ask("GET /api/v1/status", &[&other.cookie()]).await.status, 401);
    assert_eq!(login(&dashboard, PASSWORD).await.status, 401);
    assert_eq!(login(&dashboard, "new password").await.status, 200);
}

#[tokio::test]
async fn wrong_passwords_are_slowed_down() {
    let dashboard = closed().await;
    let mut refused = None;
    for _ in 0..5 {
        let answer = login(&dashboard, "wrong horse").await;
        if answer.status == 429 {
            refused = Some(answer);
            break;
        }
        assert_eq!(answer.status, 401);
    }
    let refused = refused.expect("told to wait");
    assert!(refused.head.contains("retry-after: "), "{}", refused.head);
    // Also the right one, else a guess would be known by its answer.
    assert_eq!(login(&dashboard, PASSWORD).await.status, 429);
}

#[tokio::test]
async fn a_token_lets_do_what_its_scope_says() {
    let dashboard = closed().await;
    let (read, write) =
        (token(&dashboard, "grafana", "read").await, token(&dashboard, "script", "write").await);
    let pump = "POST /api/v1/channels/panel/pump";
    for (header, look, write, administrate) in [
        (&read, 200, 403, 403),
        (&write, 200, 200, 403),
        (&read.replace("tid", "x"), 401, 401, 401),
    ] {
        assert_eq!(dashboard.ask("GET /api/v1/status", &[header]).await.status, look);
        let set = dashboard.send(pump, r#"{"value":true}"#, &[header]).await;
        assert_eq!(set.status, write, "{set:?}");
        assert_eq!(dashboard.ask("GET /api/v1/tokens", &[header]).await.status, administrate);
    }
    let again = dashboard.command("POST /api/v1/tokens", r#"{"name":"grafana"}"#).await;
    assert_eq!(again.status, 409);
    let cookie = login(&dashboard, PASSWORD).await.cookie();
    let list = dashboard.ask("GET /api/v1/tokens", &[&cookie]).await.json();
    assert_eq!(list["tokens"][1]["name"], "script");
    assert_eq!(list["tokens"][1]["scope"], "write");
    assert_eq!(list["tokens"][1].as_object().unwrap().len(), 3, "no secret, no hash: {list}");
    let revoke = "DELETE /api/v1/tokens/script";
    assert_eq!(dashboard.ask(revoke, &[&cookie]).await.status, 200);
    assert_eq!(dashboard.ask(revoke, &[&cookie]).await.status, 404);
    assert_eq!(dashboard.ask("GET /api/v1/status", &[&write]).await.status, 401);
}

#[tokio::test]
async fn an_output_is_written_by_those_who_may() {
    let dashboard = Dashboard::start().await;
    let script = token(&dashboard, "script", "write").await;
    let pump = "POST /api/v1/channels/panel/pump";
    let anonymous = dashboard.send(pump, r#"{"value":true}"#, &[]).await;
    assert_eq!(anonymous.status, 401, "looking is free here, writing is not");
    for (line, body, status, says) in [
        (pump, r#"{"value":true}"#, 200, "ok"),
        (pump, r#"{"value":1}"#, 422, "true or false"),
        (pump, r#"{"value":null}"#, 422, "true or false"),
        (pump, r#"{"valve":true}"#, 400, "value"),
        (pump, "", 400, "value"),
        ("POST /api/v1/channels/panel/door", r#"{"value":true}"#, 409, "measured"),
        ("POST /api/v1/channels/panel/nothing", r#"{"value":true}"#, 404, "no channel"),
        ("POST /api/v1/channels/panel/%ff", r#"{"value":true}"#, 400, "UTF-8"),
    ] {
        let answer = dashboard.send(line, body, &[&script]).await;
        assert_eq!(answer.status, status, "{line} {body}: {answer:?}");
        assert!(answer.body.contains(says), "{body}: {}", answer.body);
    }
    let written = dashboard.written.lock().unwrap().clone();
    assert_eq!(written, [("panel/pump".parse().unwrap(), Datum::from(true))]);
    // A form of a foreign page can't declare JSON.
    let form =
        dashboard.ask(pump, &[&script, "Content-Type: text/plain", "Content-Length: 0"]).await;
    assert_eq!(form.status, 415);
    // Through the control socket without anything: its permissions say enough.
    assert_eq!(dashboard.command(pump, r#"{"value":false}"#).await.status, 200);
}

#[tokio::test]
async fn the_feed_writes_outputs_too() {
    let dashboard = Dashboard::start().await;
    let script = token(&dashboard, "script", "write").await;
    let set = r#"{"type":"set","channel":"panel/pump","value":true,"id":"1"}"#;
    let mut anonymous = dashboard.feed().await;
    anonymous.say(set).await;
    let result = anonymous.frame("result").await;
    assert_eq!((&result["id"], &result["ok"]), (&json!("1"), &json!(false)));
    assert!(result["error"].as_str().unwrap().contains("login"), "{result}");

    let host = dashboard.address.to_string();
    let bearer = script.strip_prefix("Authorization: ").unwrap();
    let headers = [("authorization", bearer)];
    let mut client = open(dashboard.connect().await, &host, &headers).await.unwrap();
    client.say(set).await;
    assert_eq!(client.frame("result").await, json!({"type": "result", "id": "1", "ok": true}));
    client.say(r#"{"type":"set","channel":"panel/door","value":true,"id":"2"}"#).await;
    let result = client.frame("result").await;
    assert_eq!((&result["id"], &result["ok"]), (&json!("2"), &json!(false)));
    assert_eq!(dashboard.written.lock().unwrap().len(), 1);
    // Revoked, an open feed may no longer write.
    assert_eq!(dashboard.command("DELETE /api/v1/tokens/script", "").await.status, 200);
    client.say(set).await;
    assert_eq!(client.frame("result").await["ok"], false);
}

#[tokio::test]
async fn a_feed_ends_with_its_login() {
    let config = Config { view: View::Nobody, ..Config::default() };
    let dashboard = Dashboard::with(config, super::support::quick()).await;
    let read = token(&dashboard, "grafana", "read").await;
    let host = dashboard.address.to_string();
    match open(dashboard.connect().await, &host, &[]).await {
        Err(Error::Http(response)) => assert_eq!(response.status(), 401),
        other => panic!("{:?}", other.map(|_| "let in")),
    }
    let headers = [("authorization", read.strip_prefix("Authorization: ").unwrap())];
    let mut client = open(dashboard.connect().await, &host, &headers).await.unwrap();
    client.frame("hello").await;
    assert_eq!(dashboard.command("DELETE /api/v1/tokens/grafana", "").await.status, 200);
    assert_eq!(client.end().await, 1008);
}

#[tokio::test]
async fn no_secret_is_kept_or_shown() {
    let dashboard = closed().await;
    let token = token(&dashboard, "script", "write").await;
    let token = token.rsplit_once(' ').unwrap().1;
    let cookie = login(&dashboard, PASSWORD).await.cookie();
    let file = dashboard.control.with_file_name("access.json");
    let kept = std::fs::read_to_string(file).unwrap();
    assert!(kept.contains("$argon2id$"), "{kept}");
    let session = cookie.split_once('=').unwrap().1;
    for canary in [PASSWORD, token, session] {
        assert!(!kept.contains(canary), "{canary} is in the file");
        for path in ["/api/v1/status", "/api/v1/tokens", "/api/v1/session", "/metrics", "/"] {
            let answer = dashboard.ask(&format!("GET {path}"), &[&cookie]).await;
            assert_eq!(answer.status, 200, "{path}");
            assert!(!answer.body.contains(canary), "{path}");
        }
        // What was sent isn't repeated in what is said about it.
        for body in [format!(r#"{{"password":["{canary}"]}}"#), format!(r#"{{"{canary}":1}}"#)] {
            for line in ["POST /api/v1/login", "POST /api/v1/setup", "POST /api/v1/password"] {
                let answer = dashboard.send(line, &body, &[&cookie]).await;
                assert_eq!(answer.status, 400, "{answer:?}");
                assert!(!answer.body.contains(canary), "{}", answer.body);
            }
        }
    }
}
