//! A configuration is compared, tried, kept, and taken back.

use std::process::Output;
use std::time::{Duration, Instant};

use crate::support::{Broker, Home, eventually, free_port};

const MORE: &str = "[device.more]\ndriver = \"sim\"\n[device.more.channel]\nx = {}\n";

/// The configuration with one text in the place of another, in a file beside it.
fn other(home: &Home, from: &str, to: &str) -> String {
    let text = std::fs::read_to_string(home.config()).unwrap();
    assert!(text.contains(from), "{from} in {text}");
    let file = home.config().with_file_name("new.toml");
    std::fs::write(&file, text.replace(from, to)).unwrap();
    file.to_str().unwrap().to_owned()
}

fn said(output: &Output) -> String {
    let both = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    String::from_utf8(both).unwrap()
}

#[test]
fn a_configuration_that_reaches_the_broker_is_kept() {
    let broker = Broker::start();
    let home = Home::new(&(broker.config("headers = { X-Key = \"kanarienvogel\" }") + MORE));
    let gateway = home.start();
    gateway.forwarder_is("cloud", "online");
    let file = other(&home, "x = {}", "x = { wave = \"ramp\" }\ny = {}");

    let diff = home.command(&["config", "diff", &file]);
    assert_eq!(
        said(&diff),
        "+ device.more.channel.x.wave = \"ramp\"\n+ device.more.channel.y = {}\n\
         device more restarted\n"
    );
    let before = std::fs::read_to_string(home.config()).unwrap();
    let applied = home.command(&["apply", &file, "--confirm", "20s"]);
    let said_of_it = said(&applied);
    assert!(applied.status.success() && said_of_it.contains("\nkept; "), "{said_of_it}");
    assert_eq!(gateway.device("more")["channels"].as_array().unwrap().len(), 2);
    // The file has it, so a restart keeps it too, and what was before is there.
    let new = std::fs::read_to_string(&file).unwrap();
    assert_eq!(std::fs::read_to_string(home.config()).unwrap(), new);
    let saved = home.config().with_file_name("tidemill.toml.before");
    assert_eq!(std::fs::read_to_string(saved).unwrap(), before);
    assert_eq!(said(&home.command(&["config", "diff"])), "no difference\n");

    let shown = said(&home.command(&["config", "show"]));
    assert!(shown.contains("[device.more]") || shown.contains("[device.more.channel"), "{shown}");
    assert!(!shown.contains("kanarienvogel"), "{shown}");
}

#[test]
fn one_that_does_not_is_taken_back() {
    let broker = Broker::start();
    let home = Home::new(&(broker.config("") + MORE));
    let gateway = home.start();
    gateway.forwarder_is("cloud", "online");
    let nowhere = format!("ws://127.0.0.1:{}/mqtt", free_port());
    let file = other(&home, &broker.url(), &nowhere);
    let before = std::fs::read_to_string(home.config()).unwrap();

    let began = Instant::now();
    let applied = home.command(&["apply", &file, "--confirm", "3s"]);
    let said_of_it = said(&applied);
    assert_eq!(applied.status.code(), Some(1), "{said_of_it}");
    assert!(said_of_it.contains("cloud doesn't reach its broker"), "{said_of_it}");
    assert!(began.elapsed() >= Duration::from_secs(2));
    assert_eq!(std::fs::read_to_string(home.config()).unwrap(), before);
    eventually("it goes back", || gateway.log().contains("back to the one before").then_some(()));
    eventually("the link is back", || {
        let cloud = gateway.forwarder("cloud");
        (cloud["url"] == broker.url() && cloud["state"] == "online").then_some(())
    });
    // Too late to be kept.
    assert_eq!(said(&home.command(&["config", "diff"])), "no difference\n");
}

#[test]
fn what_cannot_be_tried_is_refused() {
    let broker = Broker::start();
    let home = Home::new(&(broker.config("") + MORE));
    let gateway = home.start();
    let file = other(&home, "\"greenhouse\"", "\"barn\"");
    let diff = said(&home.command(&["config", "diff", &file]));
    assert_eq!(diff, "~ gateway.id = \"greenhouse\" -> \"barn\"\nthe gateway starts anew\n");
    let refused = said(&home.command(&["apply", &file]));
    assert!(refused.contains("[gateway] and [store] can't be tried"), "{refused}");
    let file = other(&home, "driver = \"sim\"", "driver = \"simm\"");
    let invalid = home.command(&["apply", &file]);
    assert_eq!(invalid.status.code(), Some(78));
    assert!(said(&invalid).contains("did you mean \"sim\"?"), "{}", said(&invalid));
    assert_eq!(gateway.status()["gateway"], "greenhouse");
}

#[test]
fn the_dashboard_too_can_be_tried() {
    let broker = Broker::start();
    let home = Home::new(&(broker.config("") + MORE));
    let gateway = home.start();
    gateway.forwarder_is("cloud", "online");
    let file = other(&home, "[dashboard]\n", "[dashboard]\nhosts = [\"greenhouse.example\"]\n");
    let applied = home.command(&["apply", &file, "--confirm", "30s"]);
    let said_of_it = said(&applied);
    assert!(applied.status.success(), "{said_of_it}");
    assert!(said_of_it.contains("dashboard restarted\nkept; "), "{said_of_it}");
    let before = home.config().with_file_name("tidemill.toml.before");
    let saved = std::fs::read_to_string(&before).unwrap();
    // Once more changes nothing, also not what was before.
    assert!(home.command(&["apply", &file, "--confirm", "30s"]).status.success());
    assert_eq!(std::fs::read_to_string(&before).unwrap(), saved);
    assert_eq!(gateway.status()["gateway"], "greenhouse");
}
