//! Commands for outputs, from a client to the device's answer.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use forward::broker::Message;
use forward::{SetFn, State};
use reading::{ChannelSpec, Datum, Kind, Unit};
use tokio::sync::watch;
use tokio::time;

use crate::support::{Inbox, Rig, Server};

/// What a device was told to do.
type Done = Arc<Mutex<Vec<(String, Datum)>>>;

/// A device that takes truths and breaks on 13.
fn device(done: &Done) -> SetFn {
    let done = Arc::clone(done);
    Arc::new(move |channel, datum| {
        let done = Arc::clone(&done);
        Box::pin(async move {
            time::sleep(Duration::from_millis(20)).await;
            if datum == Datum::Number(13.0) {
                return Err("the valve is stuck".to_owned());
            }
            done.lock().expect("no panic").push((channel.to_string(), datum));
            Ok(())
        })
    })
}

fn command(server: &Server, channel: &str, payload: &str, retain: bool) {
    server.handle.publish(Message {
        topic: format!("tidemill/greenhouse/{channel}/set").into(),
        payload: payload.to_owned().into(),
        retain,
        qos: 1,
    });
}

async fn result(inbox: &mut Inbox) -> String {
    let (topic, payload) = loop {
        let (topic, payload) = inbox.next().await;
        if topic.ends_with("/result") {
            break (topic, payload);
        }
    };
    let channel = topic.strip_prefix("tidemill/greenhouse/").expect("the prefix");
    format!("{} {payload}", channel.strip_suffix("/result").expect("a result"))
}

#[tokio::test]
async fn a_command_is_carried_out_once_and_answered() {
    for version in [4, 5] {
        let server = Server::start().await;
        let (mut inbox, done) = (server.listen(), Done::default());
        let set = device(&done);
        let text = format!("version = {version}");
        let mut rig = Rig::with(&server.url, &text, |f| f.with_outputs(set)).await;
        rig.is(State::Online).await;
        // The subscription is made before `info` is published.
        inbox.next_on("/info").await;
        for (channel, payload, answer) in [
            ("panel/pump", "true", r#"panel/pump {"ok":true}"#),
            ("panel/level", "42.5", r#"panel/level {"ok":true}"#),
            (
                "panel/level",
                r#"{"value":7,"id":"a","expires":"2999-01-01T00:00:00Z"}"#,
                r#"panel/level {"id":"a","ok":true}"#,
            ),
            // Delivered again: answered again, and not carried out again.
            ("panel/level", r#"{"value":7,"id":"a"}"#, r#"panel/level {"id":"a","ok":true}"#),
            (
                "panel/level",
                r#"{"value":13,"id":9}"#,
                r#"panel/level {"error":"the valve is stuck","id":9,"ok":false}"#,
            ),
            (
                "panel/pump",
                "7",
                r#"panel/pump {"error":"it takes true or false, not 7","ok":false}"#,
            ),
            (
                "panel/door",
                "true",
                r#"panel/door {"error":"panel/door: no such output","ok":false}"#,
            ),
        ] {
            command(&server, channel, payload, false);
            assert_eq!(result(&mut inbox).await, answer);
        }
        command(
            &server,
            "panel/pump",
            r#"{"value":false,"expires":"2001-01-01T00:00:00Z"}"#,
            false,
        );
        assert!(result(&mut inbox).await.contains("it expired at 2001-01-01"));
        let done: Vec<Datum> =
            done.lock().expect("no panic").iter().map(|(_, datum)| datum.clone()).collect();
        assert_eq!(done, [true.into(), Datum::Number(42.5), Datum::Number(7.0)]);
        rig.stop().await;
    }
}

#[tokio::test]
async fn a_retained_command_is_too_old_to_carry_out() {
    let server = Server::start().await;
    command(&server, "panel/pump", "true", true);
    let (mut inbox, done) = (server.listen(), Done::default());
    let set = device(&done);
    let mut rig = Rig::with(&server.url, "", |f| f.with_outputs(set)).await;
    rig.is(State::Online).await;
    assert!(result(&mut inbox).await.contains("it is retained"));
    assert!(done.lock().expect("no panic").is_empty());
    rig.stop().await;
}

/// A broker's channels are the broker's: it commands no others.
#[tokio::test]
async fn an_output_that_is_not_forwarded_is_not_commanded() {
    let server = Server::start().await;
    let (mut inbox, done) = (server.listen(), Done::default());
    let set = device(&done);
    let text = "channels = [\"panel/level\"]";
    let mut rig = Rig::with(&server.url, text, |f| f.with_outputs(set)).await;
    rig.is(State::Online).await;
    inbox.next_on("/info").await;
    command(&server, "panel/pump", "true", false);
    assert!(result(&mut inbox).await.contains("panel/pump: no such output"));
    rig.stop().await;
}

#[tokio::test]
async fn more_commands_than_can_be_carried_out_are_refused() {
    let server = Server::start().await;
    let mut inbox = server.listen();
    let never: SetFn = Arc::new(|_, _| Box::pin(std::future::pending()));
    let mut rig = Rig::with(&server.url, "", |f| f.with_outputs(never)).await;
    rig.is(State::Online).await;
    inbox.next_on("/info").await;
    for _ in 0..17 {
        command(&server, "panel/pump", "true", false);
    }
    assert!(result(&mut inbox).await.contains("16 commands are being carried out already"));
    // Readings are not held up by them.
    rig.read(10).await;
    rig.is_acknowledged(10).await;
    rig.stop().await;
}

/// A change of the configuration reaches a connection that stays.
#[tokio::test]
async fn channels_that_change_are_described_anew_and_commanded() {
    let server = Server::start().await;
    let (mut inbox, done) = (server.listen(), Done::default());
    let mut entities = server.listen_to("homeassistant/#");
    let set = device(&done);
    let (sender, channels) = watch::channel(Vec::new());
    let text = "homeassistant = true\nchannels = [\"panel/*\"]";
    let mut rig = Rig::with(&server.url, text, |f| f.with_outputs(set).following(channels)).await;
    rig.is(State::Online).await;
    assert!(inbox.next_on("/info").await.contains("panel/level"));
    let pump = "homeassistant/switch/greenhouse/panel--pump/config";
    assert_ne!(entities.next_on(pump).await, "");

    let valve = ChannelSpec {
        channel: "panel/valve".parse().unwrap(),
        kind: Kind::Boolean,
        unit: Unit::default(),
        label: None,
        range: None,
        output: true,
    };
    sender.send_replace(vec![valve]);
    let info = inbox.next_on("/info").await;
    assert!(info.contains("panel/valve") && !info.contains("panel/pump"), "{info}");
    assert_eq!(entities.next_on(pump).await, "", "an entity that is gone is taken away");
    for (channel, answer) in [
        ("panel/valve", r#"panel/valve {"ok":true}"#),
        ("panel/pump", r#"panel/pump {"error":"panel/pump: no such output","ok":false}"#),
    ] {
        command(&server, channel, "true", false);
        assert_eq!(result(&mut inbox).await, answer);
    }
    rig.is(State::Online).await;
    rig.stop().await;
}
