//! Who gets in, and who doesn't.

use crate::support::{Feed, Gateway, Home, http};

fn gateway(home: &Home) -> Gateway {
    home.start()
}

fn home() -> Home {
    Home::new("[device.tide]\ndriver = \"sim\"\n")
}

#[test]
fn a_page_of_another_site_is_refused_before_the_upgrade() {
    let home = home();
    let gateway = gateway(&home);
    let open = |origin: &str| Feed::try_open(gateway.address(), &[("Origin", origin)]).err();
    for foreign in [
        "http://evil.example",
        "https://evil.example:8443",
        "null",
        "http://127.0.0.1.evil.example",
    ] {
        assert_eq!(open(foreign), Some(403), "{foreign}");
    }
    assert_eq!(open(&format!("http://{}", gateway.address())), None, "its own page");
}

#[test]
fn a_name_that_is_not_ours_is_refused() {
    let home = home();
    let gateway = gateway(&home);
    let port = gateway.address().rsplit_once(':').unwrap().1.to_owned();
    let status = |host: &str, path: &str| {
        http::request(gateway.address(), "GET", path, &[("Host", host)], b"").unwrap().status
    };
    for path in ["/", "/api/v1/status", "/api/v1/channels"] {
        assert_eq!(status("rebound.evil.example", path), 421, "{path}");
        assert_eq!(status(&format!("localhost:{port}"), path), 200, "{path}");
        assert_eq!(status(gateway.address(), path), 200, "{path}");
    }
    let feed = Feed::try_open(gateway.address(), &[("Host", "rebound.evil.example")]);
    assert_eq!(feed.err(), Some(421));
}

#[test]
fn the_page_its_assets_and_the_supervisors_answers_are_there() {
    let home = home();
    let gateway = gateway(&home);
    let page = gateway.get("/");
    assert_eq!(page.status, 200);
    assert!(page.headers["content-type"].starts_with("text/html"), "{:?}", page.headers);
    let html = page.text();
    assert!(html.contains("<script"), "{html}");
    for outside in ["src=\"http", "href=\"http", "src=\"//", "href=\"//"] {
        assert!(!html.contains(outside), "works with no internet: {html}");
    }
    let script = html.split("src=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
    let script = gateway.get(&format!("/{}", script.trim_start_matches(['.', '/'])));
    assert_eq!(script.status, 200);
    assert!(script.headers["content-type"].contains("javascript"), "{:?}", script.headers);

    assert_eq!(gateway.get("/healthz").status, 200);
    let metrics = gateway.get("/metrics");
    assert_eq!(metrics.status, 200);
    assert!(metrics.text().contains("# TYPE tidemill_"), "{}", metrics.text());
}

#[test]
fn half_a_request_is_not_waited_for() {
    use std::io::{Read as _, Write as _};

    let home = home();
    let gateway = gateway(&home);
    let mut stalled = std::net::TcpStream::connect(gateway.address()).unwrap();
    stalled.set_read_timeout(Some(crate::support::PATIENCE)).unwrap();
    stalled.write_all(b"GET / HTTP/1.1\r\nHost: loc").unwrap();
    let mut answer = Vec::new();
    // Closed with or without an answer: both end the reading.
    drop(stalled.read_to_end(&mut answer));
    assert!(!answer.starts_with(b"HTTP/1.1 200"));
    assert_eq!(gateway.get("/healthz").status, 200);
}
