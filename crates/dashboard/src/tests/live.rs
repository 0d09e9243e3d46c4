//! The feed.

use std::time::Duration;

use tokio::time::{Instant, timeout};
use tokio_tungstenite::tungstenite::Message;

use super::support::{Dashboard, LONG, open};

#[tokio::test]
async fn a_client_is_greeted_and_fed() {
    let mut dashboard = Dashboard::start().await;
    dashboard.publish("weather/temperature", 3);
    let mut client = dashboard.feed().await;
    let Some(Ok(Message::Text(first))) = client.message().await else { panic!("no text") };
    let hello: serde_json::Value = serde_json::from_str(&first).unwrap();
    assert_eq!(hello["type"], "hello");
    assert_eq!(hello["gateway"], "greenhouse");
    assert_eq!(hello["epoch"], dashboard.store.epoch().to_string());
    assert_eq!(hello["channels"][0]["last"]["seq"], 3);
    assert_eq!(hello["channels"][1]["last"], serde_json::Value::Null);
    assert_eq!(client.frame("status").await["gateway"], "greenhouse");
    dashboard.publish("weather/temperature", 2);
    assert_eq!(client.seqs().await, [4, 5]);
}

#[tokio::test]
async fn other_channels_are_told_by_a_new_greeting() {
    let mut dashboard = Dashboard::start().await;
    let mut client = dashboard.feed().await;
    let channels = client.frame("hello").await["channels"].as_array().unwrap().len();
    assert!(channels > 1);
    let known = dashboard.hub.channels().into_iter().take(1);
    dashboard.hub.describe(known.map(|(spec, _)| (*spec).clone()).collect());
    assert_eq!(client.frame("hello").await["channels"].as_array().unwrap().len(), 1);
    dashboard.publish("weather/temperature", 1);
    assert_eq!(client.seqs().await, [1]);
}

#[tokio::test]
async fn readings_soon_after_each_other_share_a_frame() {
    let mut dashboard = Dashboard::start().await;
    let mut client = dashboard.feed().await;
    client.frame("status").await;
    let mut frames = 0;
    let mut got = Vec::new();
    for _ in 0..200 {
        dashboard.publish("weather/temperature", 1);
    }
    while got.len() < 200 {
        got.extend(client.seqs().await);
        frames += 1;
    }
    assert_eq!(got, (1..=200).collect::<Vec<_>>());
    assert!(frames <= 10, "{frames} frames");
}

#[tokio::test]
async fn a_subscription_filters() {
    let mut dashboard = Dashboard::start().await;
    let mut client = dashboard.feed().await;
    client.frame("hello").await;
    client.say(r#"{"type":"subscribe","channels":["panel/*"]}"#).await;
    // An answer to a wrong one says that the first has been read.
    client.say("?").await;
    client.frame("error").await;
    dashboard.publish("weather/temperature", 1);
    dashboard.publish("panel/door", 1);
    assert_eq!(client.seqs().await, [2]);
}

#[tokio::test]
async fn a_status_comes_at_most_once_a_second_and_to_all() {
    let dashboard = Dashboard::start().await;
    let mut clients = [dashboard.feed().await, dashboard.feed().await];
    let start = Instant::now();
    for client in &mut clients {
        client.frame("status").await;
    }
    let mut times = Vec::new();
    while start.elapsed() < Duration::from_millis(4500) {
        if timeout(Duration::from_secs(1), clients[0].frame("status")).await.is_ok() {
            times.push(start.elapsed());
        }
    }
    assert!((1..=5).contains(&times.len()), "{times:?}");
    let gaps = times.windows(2).map(|pair| pair[1] - pair[0]);
    assert!(gaps.clone().all(|gap| gap > Duration::from_millis(800)), "{times:?}");
    // A page notices within 3 s that a gateway is gone.
    assert!(gaps.clone().all(|gap| gap < Duration::from_secs(3)), "{times:?}");
}

#[tokio::test]
async fn a_stop_is_told_with_1001() {
    let mut dashboard = Dashboard::start().await;
    let mut client = dashboard.feed().await;
    client.frame("hello").await;
    let idle = dashboard.connect().await;
    dashboard.stop.cancel();
    assert_eq!(client.end().await, 1001);
    let start = Instant::now();
    timeout(LONG, dashboard.tasks.join_next()).await.unwrap().unwrap().unwrap();
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    assert_eq!(dashboard.hub.clients(), 0);
    drop(idle);
}

#[tokio::test]
async fn the_subprotocol_is_agreed() {
    let dashboard = Dashboard::start().await;
    let host = dashboard.address.to_string();
    let offer = [("sec-websocket-protocol", "mqtt, tidemill.v1")];
    // The client itself refuses an answer that it hasn't offered, or none.
    let mut client = open(dashboard.connect().await, &host, &offer).await.unwrap();
    client.frame("hello").await;
}

#[tokio::test]
async fn a_client_that_comes_back_is_told_what_it_missed() {
    let mut dashboard = Dashboard::start().await;
    dashboard.keep("weather/temperature", 10).await;
    dashboard.keep("panel/door", 10).await;
    let epoch = dashboard.store.epoch();
    let resume = |seq: u64| format!(r#"{{"type":"resume","epoch":"{epoch}","seq":{seq}}}"#);
    let mut client = dashboard.feed().await;
    client.say(&resume(5)).await;
    assert_eq!(client.seqs().await, (6..=20).collect::<Vec<_>>());
    assert_eq!(client.frame("resumed").await["seq"], 20);
    dashboard.publish("weather/temperature", 1);
    assert_eq!(client.seqs().await, [21], "and it goes on");
    // What it doesn't want isn't told; what it has had isn't either.
    let mut client = dashboard.feed().await;
    client.say(r#"{"type":"subscribe","channels":["panel/*"]}"#).await;
    client.say(&resume(15)).await;
    assert_eq!(client.seqs().await, (16..=20).collect::<Vec<_>>());
    client.say(&resume(21)).await;
    assert_eq!(client.frame("resumed").await["seq"], 20);
    // Of more than a screen shows, the newest, and how many aren't.
    dashboard.keep("weather/temperature", 20_000).await;
    let mut client = dashboard.feed().await;
    client.say(&resume(5)).await;
    assert_eq!(client.frame("skipped").await["count"], 10_016);
    let mut got = Vec::new();
    while got.last() != Some(&20_021) {
        got.extend(client.seqs().await);
    }
    assert_eq!(got, (10_022..=20_021).collect::<Vec<_>>());
    client.frame("resumed").await;
    // Another start, or a number that is still to come.
    for wrong in [
        r#"{"type":"resume","epoch":"0000000000000001","seq":5}"#.to_owned(),
        r#"{"type":"resume","epoch":"x","seq":5}"#.to_owned(),
        resume(30_000),
    ] {
        client.say(&wrong).await;
        client.frame("error").await;
    }
}
