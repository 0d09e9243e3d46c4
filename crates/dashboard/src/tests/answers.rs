//! The API.

use expect_test::expect;
use reading::{Body, Gap, Record, Seq, Timestamp};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::TlsConnector;

use super::support::{Dashboard, quick, talk};
use crate::{Config, Status, Tls};

#[tokio::test]
async fn status_is_what_the_gateway_says() {
    let dashboard = Dashboard::start().await;
    let answer = dashboard.get("/api/v1/status").await;
    assert!(answer.head.contains("content-type: application/json"), "{}", answer.head);
    assert!(answer.head.contains("cache-control: no-store"), "{}", answer.head);
    let status: Status = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(status.gateway, "greenhouse");
    assert_eq!(status.store.path, dashboard.store.status().path);
}

#[tokio::test]
async fn channels_have_their_last_reading() {
    let mut dashboard = Dashboard::start().await;
    dashboard.publish("panel/door", 1);
    let mut json = dashboard.json("/api/v1/channels").await;
    json["channels"][1]["last"]["time"] = "…".into();
    expect![[r#"{"channels":[{"channel":"weather/temperature","device":"weather","kind":"number","label":null,"last":null,"name":"temperature","output":false,"unit":"Cel"},{"channel":"panel/door","device":"panel","kind":"boolean","label":null,"last":{"quality":"good","seq":1,"time":"…","value":false},"name":"door","output":false,"unit":""},{"channel":"panel/pump","device":"panel","kind":"boolean","label":null,"last":null,"name":"pump","output":true,"unit":""}]}"#]].assert_eq(&json.to_string());
}

#[tokio::test]
async fn readings_come_out_of_the_store() {
    let mut dashboard = Dashboard::start().await;
    dashboard.keep("weather/temperature", 10).await;
    let json = dashboard.json("/api/v1/readings?channel=weather/temperature").await;
    assert_eq!(json["unit"], "Cel");
    assert_eq!(super::support::seqs(&json), (1..=10).collect::<Vec<_>>());
    assert_eq!(json["readings"][0]["epoch"], dashboard.store.epoch().to_string());
    assert_eq!(json["readings"][4]["value"], 5.0);
    assert_eq!(json["gaps"], serde_json::json!([]));

    let earlier = "/api/v1/readings?channel=weather/temperature&to=1min";
    assert_eq!(dashboard.json(earlier).await["readings"], serde_json::json!([]));

    let json = dashboard.json("/api/v1/readings?channel=weather/temperature&points=1").await;
    let bucket = &json["buckets"][0];
    assert_eq!([&bucket["min"], &bucket["mean"], &bucket["max"]], [1.0, 5.5, 10.0]);
    assert_eq!((&bucket["count"], &bucket["bad"]), (&10.into(), &0.into()));
    assert!(bucket["time"].as_str().unwrap().parse::<Timestamp>().is_ok());

    let csv = dashboard.get("/api/v1/readings.csv?channel=weather/temperature").await;
    assert!(csv.head.contains("content-type: text/csv"), "{}", csv.head);
    assert!(csv.head.contains("filename=\"weather-temperature.csv\""), "{}", csv.head);
    assert_eq!(csv.body.lines().count(), 11);
    assert!(csv.body.contains(",weather/temperature,5,Cel,good,,"), "{}", csv.body);
}

#[tokio::test]
async fn a_large_answer_has_the_newest_and_says_so() {
    let mut dashboard = Dashboard::start().await;
    dashboard.keep("weather/temperature", 50_010).await;
    let path = "/api/v1/readings?channel=weather/temperature";
    let json = dashboard.json(path).await;
    assert_eq!(json["truncated"], true);
    let seqs = super::support::seqs(&json);
    assert_eq!((seqs.len(), seqs[0], seqs[49_999]), (50_000, 11, 50_010));
    let csv = dashboard.get("/api/v1/readings.csv?channel=weather/temperature").await;
    assert!(csv.head.contains("x-truncated: true"), "{}", csv.head);
    assert_eq!(csv.body.lines().count(), 50_001);
}

#[tokio::test]
async fn wrong_questions_get_json_that_says_what_is_wrong() {
    let dashboard = Dashboard::start().await;
    let table = [
        ("GET /api", 404),
        ("GET /api/v1/nothing", 404),
        ("DELETE /api/v1/status", 405),
        ("POST /api/v1/readings", 405),
        ("GET /api/v1/readings", 400),
        ("GET /api/v1/readings?channel=%ff", 400),
        ("GET /api/v1/readings?channel=no/where", 404),
        ("GET /api/v1/readings.csv?channel=weather/temperature&from=x", 400),
        ("GET /api/v1/live", 426),
    ];
    for (line, status) in table {
        let answer = dashboard.ask(line, &[]).await;
        assert_eq!(answer.status, status, "{line}");
        let json: serde_json::Value = serde_json::from_str(&answer.body).expect(line);
        assert!(json["error"].as_str().is_some_and(|error| error.len() > 5), "{line}: {json}");
    }
    let answer = dashboard.ask("POST /api/v1/status", &[]).await;
    assert!(answer.head.contains("allow: get,head"), "{}", answer.head);
    assert_eq!(dashboard.get("/nothing").await.status, 404);
    assert_eq!(dashboard.get("/../../etc/passwd").await.status, 404);
    assert_eq!(dashboard.get("/%2e%2e/Cargo.toml").await.status, 404);
    assert_eq!(dashboard.ask("POST /", &[]).await.status, 405);
    assert_eq!(dashboard.ask("HEAD /", &[]).await.body, "");
}

#[tokio::test]
async fn the_page_is_there() {
    let dashboard = Dashboard::start().await;
    let answer = dashboard.get("/").await;
    assert_eq!(answer.status, 200);
    assert!(answer.head.contains("content-type: text/html"), "{}", answer.head);
    assert!(answer.head.contains("etag: "), "{}", answer.head);
    assert!(!answer.head.contains("no-store"), "{}", answer.head);
}

#[tokio::test]
async fn metrics_are_as_prometheus_reads_them() {
    let mut dashboard = Dashboard::start().await;
    dashboard.keep("weather/temperature", 3).await;
    dashboard.publish("panel/door", 1);
    let answer = dashboard.get("/metrics").await;
    assert!(answer.head.contains("content-type: text/plain; version=0.0.4"), "{}", answer.head);
    for line in [
        "# TYPE tidemill_readings_read_total counter",
        "tidemill_store_up 1",
        "tidemill_store_max_size_bytes 2147483648",
        "tidemill_feed_clients 0",
        r#"tidemill_channel_value{device="weather",channel="temperature",unit="Cel"} 3"#,
        r#"tidemill_channel_value{device="panel",channel="door",unit=""} 1"#,
    ] {
        assert!(answer.body.lines().any(|found| found == line), "{line}\n{}", answer.body);
    }
}

#[tokio::test]
async fn with_a_certificate_it_speaks_tls() {
    let folder = tempfile::TempDir::new().unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let tls = Tls { cert: folder.path().join("cert.pem"), key: folder.path().join("key.pem") };
    std::fs::write(&tls.cert, made.cert.pem()).unwrap();
    std::fs::write(&tls.key, made.signing_key.serialize_pem()).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(&tls.cert).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let client = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let dashboard = Dashboard::with(Config { tls: Some(tls), ..Config::default() }, quick()).await;
    let name = ServerName::try_from("localhost").unwrap();
    let stream = TlsConnector::from(Arc::new(client))
        .connect(name, dashboard.connect().await)
        .await
        .unwrap();
    let head = format!(
        "GET /healthz HTTP/1.1\r\nHost: localhost:{}\r\nConnection: close\r\n",
        dashboard.address.port()
    );
    assert_eq!(talk(stream, &head).await.status, 200);
}

#[tokio::test]
async fn a_certificate_that_is_not_there_is_named() {
    let tls = Tls { cert: "/nowhere/cert.pem".into(), key: "/nowhere/key.pem".into() };
    let error = crate::tls::acceptor(&tls).await.map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("/nowhere/cert.pem"), "{error}");
}

#[tokio::test]
async fn gaps_of_all_channels_come_out_of_the_store() {
    let mut dashboard = Dashboard::start().await;
    let now = Timestamp::now();
    for (channel, reason) in [(Some("panel/door"), "edges missed"), (None, "store damaged")] {
        let channel = channel.map(|channel| channel.parse().unwrap());
        let gap = Gap { from: now, to: now, count: 3, channel, reason: reason.into() };
        dashboard.appender.lose(gap);
    }
    let (epoch, first) = (dashboard.appender.epoch(), dashboard.appender.next());
    let gaps = dashboard.appender.losses().into_iter().enumerate();
    let number = |(n, gap)| Record { epoch, seq: Seq(first.0 + n as u64), body: Body::Gap(gap) };
    dashboard.appender.append(gaps.map(number).collect()).await.unwrap();
    let mut committed = dashboard.store.committed();
    committed.wait_for(|seq| seq.0 > first.0).await.unwrap();

    let all = dashboard.json("/api/v1/gaps").await;
    let gaps = all["gaps"].as_array().unwrap();
    let told: Vec<_> = gaps.iter().map(|gap| (&gap["channel"], &gap["reason"])).collect();
    let (door, none) = ("panel/door".into(), serde_json::Value::Null);
    assert_eq!(told, [(&door, &"edges missed".into()), (&none, &"store damaged".into())]);
    assert_eq!(gaps[0]["seq"], first.0);
    assert_eq!(gaps[0]["epoch"], epoch.to_string());
    // Those of several channels are everybody's.
    let one = dashboard.json("/api/v1/gaps?channel=weather/temperature&from=1h").await;
    assert_eq!(one["gaps"].as_array().unwrap().len(), 1);
    assert_eq!(dashboard.json("/api/v1/gaps?to=1h").await["gaps"], serde_json::json!([]));
    assert_eq!(dashboard.get("/api/v1/gaps?points=1").await.status, 400);
}
