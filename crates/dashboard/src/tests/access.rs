//! Who gets in, over the wire. The table of pairs is in `guard`.

use tokio::net::UnixStream;
use tokio_tungstenite::tungstenite::Error;

use super::support::{Dashboard, open, talk};
use crate::http::Limits;
use crate::{Config, View};

#[tokio::test]
async fn a_foreign_origin_gets_403_before_the_upgrade() {
    let dashboard = Dashboard::start().await;
    let host = dashboard.address.to_string();
    let with =
        async |origin: &str| open(dashboard.connect().await, &host, &[("origin", origin)]).await;
    match with("http://evil.example").await {
        Err(Error::Http(response)) => assert_eq!(response.status(), 403),
        other => panic!("{:?}", other.map(|_| "let in")),
    }
    assert_eq!(dashboard.hub.clients(), 0, "nothing was started for it");
    let mut own = with(&format!("http://{host}")).await.expect("the gateway's own page");
    own.frame("hello").await;
    // Every method and route, not the upgrade alone.
    for line in ["GET /", "GET /api/v1/status", "POST /api/v1/status", "OPTIONS /", "GET /metrics"]
    {
        let answer = dashboard.ask(line, &["Origin: http://evil.example"]).await;
        assert_eq!(answer.status, 403, "{line}");
    }
}

#[tokio::test]
async fn a_name_that_is_not_ours_gets_421() {
    let dashboard = Dashboard::start().await;
    let port = dashboard.address.port();
    for path in ["/", "/api/v1/live", "/healthz"] {
        let head =
            format!("GET {path} HTTP/1.1\r\nHost: evil.example:{port}\r\nConnection: close\r\n");
        let answer = talk(dashboard.connect().await, &head).await;
        assert_eq!(answer.status, 421, "{path}");
        assert!(answer.body.contains("dashboard.hosts"), "{}", answer.body);
    }
    let head = format!("GET / HTTP/1.1\r\nHost: localhost:{port}\r\nConnection: close\r\n");
    assert_eq!(talk(dashboard.connect().await, &head).await.status, 200);
}

#[tokio::test]
async fn nobody_may_look_but_supervisors_may_ask() {
    let config = Config { view: View::Nobody, ..Config::default() };
    let dashboard = Dashboard::with(config, Limits::default()).await;
    for path in ["/api/v1/status", "/api/v1/live", "/metrics", "/api/v1/nothing"] {
        let answer = dashboard.get(path).await;
        assert_eq!(answer.status, 401, "{path}");
        assert!(answer.head.contains("www-authenticate: bearer"), "{}", answer.head);
        assert!(answer.body.contains("dashboard.view"), "{}", answer.body);
    }
    assert_eq!(dashboard.get("/healthz").await.status, 200);
    assert_eq!(dashboard.get("/readyz").await.status, 200);
    // The page itself shows the way in.
    assert_eq!(dashboard.get("/").await.status, 200);
}

#[tokio::test]
async fn the_control_socket_is_trusted() {
    let config = Config { view: View::Nobody, ..Config::default() };
    let mut dashboard = Dashboard::with(config, Limits::default()).await;
    let connect = async || UnixStream::connect(&dashboard.control).await.unwrap();
    let head = "GET /api/v1/status HTTP/1.1\r\nHost: tidemill\r\nConnection: close\r\n";
    assert_eq!(talk(connect().await, head).await.status, 200);
    let mut feed = open(connect().await, "tidemill", &[]).await.unwrap();
    feed.frame("hello").await;
    dashboard.publish("panel/door", 1);
    assert_eq!(feed.seqs().await, [1]);
}

#[tokio::test]
async fn every_answer_carries_the_security_headers() {
    let dashboard = Dashboard::start().await;
    for path in ["/", "/nothing", "/api/v1/status", "/api/v1/nothing", "/metrics"] {
        let head = dashboard.get(path).await.head;
        let policy = head.lines().find(|line| line.starts_with("content-security-policy:"));
        let policy = policy.unwrap_or_else(|| panic!("{path}: {head}"));
        assert!(
            policy.contains("frame-ancestors 'none'") && !policy.contains("unsafe"),
            "{policy}"
        );
        assert!(head.contains("x-content-type-options: nosniff"), "{path}");
        assert!(head.contains("referrer-policy: same-origin"), "{path}");
    }
}
