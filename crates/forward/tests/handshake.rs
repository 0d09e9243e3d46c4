use std::net::Ipv4Addr;

use forward::handshake::{Error, Options, perform};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

use crate::support::Server;

#[tokio::test]
async fn the_embedded_broker_passes_every_check() {
    let server = Server::start().await;
    for subprotocol in ["mqtt", "mqttv3.1"] {
        let options = Options {
            origin: Some("https://example.com".into()),
            subprotocol: Some(subprotocol.into()),
            mqtt: true,
            ..Options::default()
        };
        let report = perform(&server.url, &options).await.expect("an answer");
        assert!(report.ok(), "{report}");
        let text = report.to_string();
        assert!(text.contains("> Origin: https://example.com"), "{text}");
        assert!(text.contains(&format!("ok    Sec-WebSocket-Protocol    {subprotocol}")), "{text}");
        assert!(text.contains("ok    MQTT CONNACK              accepted"), "{text}");
    }
}

#[tokio::test]
async fn what_is_wrong_is_shown_and_not_an_error() {
    let server = Server::start().await;
    let options = Options { subprotocol: Some("stomp".into()), ..Options::default() };
    let report = perform(&server.url, &options).await.expect("an answer");
    let text = report.to_string();
    assert!(!report.ok() && text.contains("found HTTP/1.1 400"), "{text}");
    server.handle.bend(|bent| bent.refuse = Some(5));
    let options = Options { mqtt: true, ..Options::default() };
    let text = perform(&server.url, &options).await.expect("an answer").to_string();
    assert!(text.contains("fail  MQTT CONNACK") && text.contains("not authorized"), "{text}");
}

#[tokio::test]
async fn no_answer_is_an_error_that_says_why() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let answer = async {
        let (mut stream, _) = listener.accept().await.expect("a client");
        stream.write_all(b"HTTP/1.1 200 OK\r\n").await.expect("it listens");
    };
    let url = format!("ws://{address}/");
    let options = Options::default();
    let (result, ()) = tokio::join!(perform(&url, &options), answer);
    assert!(matches!(result, Err(Error::Closed(17) | Error::Io(_))), "{result:?}");
    drop(listener);
    let error = perform(&url, &options).await.expect_err("nobody listens").to_string();
    assert!(error.contains("refuses the connection"), "{error}");
    for url in ["mqtt://127.0.0.1", "http://a/", "ws://"] {
        perform(url, &options).await.expect_err(url);
    }
}
