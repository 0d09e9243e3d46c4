//! What is lost is in the ledger, by channel and cause, and told to everybody.

use serde_json::Value;

use crate::support::{Broker, Gateway, Home, eventually};

/// The look at the ledger balances, in total and by channel; gives the channel's part.
#[track_caller]
fn of_channel(gateway: &Gateway, channel: &str) -> Value {
    let ledger = gateway.status()["ledger"].clone();
    let of = |entry: &Value, name: &str| entry[name].as_u64().unwrap();
    let channels = ledger["channels"].as_array().unwrap();
    for part in channels.iter().chain([&ledger]) {
        assert_eq!(of(part, "read"), of(part, "stored") + of(part, "dropped"), "{part}");
    }
    for name in ["read", "stored", "dropped"] {
        let sum: u64 = channels.iter().map(|part| of(part, name)).sum();
        assert_eq!(sum, of(&ledger, name), "{name} of all channels: {ledger}");
    }
    let found = channels.iter().find(|part| part["channel"] == channel);
    found.unwrap_or_else(|| panic!("no {channel} in {ledger}")).clone()
}

/// A wire that picks up noise: a thousand changes a second, of which a hundred
/// are told.
#[test]
fn changes_that_are_not_told_are_counted_and_are_gaps_for_everybody() {
    let broker = Broker::start();
    let json = broker.subscribe("tidemill/greenhouse/gaps");
    let senml = broker.subscribe("packed/greenhouse/gaps");
    let home = Home::new(&format!(
        "{}[forward.packed]\nurl = {:?}\nformat = \"senml\"\ntopic_prefix = \"packed/{{gateway}}\"\n\
         [device.panel]\ndriver = \"gpio\"\nchip = \"sim\"\n\
         [device.panel.channel]\ndoor = {{ line = 17, toggle = \"1ms\" }}\n",
        broker.config(""),
        broker.url(),
    ));
    let gateway = home.start();
    let dropped = eventually("levels are lost", || {
        of_channel(&gateway, "panel/door")["dropped"].as_u64().filter(|dropped| *dropped > 1_500)
    });
    for subscriber in [&json, &senml] {
        let gap = subscriber.next().json();
        assert_eq!(
            (&gap["channel"], &gap["reason"]),
            (&"panel/door".into(), &"edges missed".into())
        );
        assert!(gap["count"].as_u64().unwrap() > 100, "{gap}");
    }
    // Whoever asks is told: the page's log, a chart, a script.
    let gaps = gateway.get("/api/v1/gaps?from=10min").json();
    assert_eq!(gaps["gaps"][0]["reason"], "edges missed", "{gaps}");
    let history = gateway.get("/api/v1/readings?channel=panel/door&from=10min&points=10").json();
    assert_eq!(history["gaps"][0], gaps["gaps"][0]);
    assert_eq!(gateway.get("/api/v1/gaps?to=10min").json()["gaps"], Value::Array(vec![]));
    let page = String::from_utf8(gateway.get("/metrics").body).unwrap();
    let name = "tidemill_channel_readings_dropped_total{device=\"panel\",channel=\"door\"} ";
    let figure: u64 = page.lines().find_map(|line| line.strip_prefix(name)?.parse().ok()).unwrap();
    assert!(figure >= dropped, "{figure}");
    assert!(page.contains("tidemill_readings_lost_total{reason=\"edges missed\"} "), "{page}");
    let text = String::from_utf8(home.command(&["status"]).stdout).unwrap();
    assert!(text.contains(" lost: edges missed\n"), "{text}");
    assert!(text.lines().any(|line| line.trim().starts_with("panel/door ")), "{text}");
    gateway.stop();

    // Each loss is told by one record, also of those that came at the stop.
    let told = home.sqlite("select sum(count) from gaps where reason = 'edges missed'");
    let counted = home.sqlite("select count from loss where reason = 'edges missed'");
    let untold = home.sqlite("select coalesce(sum(count), 0) from untold");
    let number = |rows: &[String]| rows[0].parse::<u64>().unwrap();
    assert_eq!(number(&told) + number(&untold), number(&counted));
    let gateway = home.start();
    assert!(of_channel(&gateway, "panel/door")["dropped"].as_u64() >= Some(dropped));
    gateway.stop();
}
