//! `/metrics`: the status in Prometheus's text format, version 0.0.4, with names
//! as its conventions have them (base units, `_total` for what only grows).

use std::fmt::{Display, Write as _};

use reading::{Datum, Timestamp};

use crate::{ChannelLedger, DeviceState, ForwarderStatus, Hub, LinkState, Status};

const GAUGE: &str = "gauge";
const COUNTER: &str = "counter";

/// Text under construction.
#[derive(Default)]
struct Page(String);

impl Page {
    /// A metric of one value.
    fn one(&mut self, kind: &str, name: &str, help: &str, value: impl Display) {
        self.head(kind, name, help);
        self.line(name, &[], value);
    }

    fn head(&mut self, kind: &str, name: &str, help: &str) {
        // Writing to a string can't fail.
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    fn line(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        self.0 += name;
        for (at, (label, text)) in labels.iter().enumerate() {
            let open = if at == 0 { '{' } else { ',' };
            let _ = write!(self.0, "{open}{label}=\"{}\"", escaped(text));
        }
        let close = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.0, "{close} {value}");
    }
}

fn escaped(label: &str) -> String {
    label.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n")
}

/// The whole page.
pub(crate) fn text(status: &Status, hub: &Hub) -> String {
    let mut page = Page::default();
    gateway(&mut page, status);
    devices(&mut page, status);
    store(&mut page, status);
    forwarders(&mut page, &status.forwarders);
    feed(&mut page, hub);
    channels(&mut page, hub);
    page.0
}

fn gateway(page: &mut Page, status: &Status) {
    page.head(GAUGE, "tidemill_info", "The gateway; always 1.");
    let labels = [
        ("gateway", status.gateway.as_str()),
        ("version", status.version.as_str()),
        ("epoch", status.epoch.as_str()),
    ];
    page.line("tidemill_info", &labels, 1);
    if let Ok(started) = status.started.parse::<Timestamp>() {
        let help = "When the gateway started, seconds since 1970.";
        let seconds = started.as_micros() as f64 / 1e6;
        page.one(GAUGE, "tidemill_start_time_seconds", help, seconds);
    }
    let help = "Whether the system clock follows a time source.";
    let synchronized = u8::from(status.clock.synchronized);
    page.one(GAUGE, "tidemill_clock_synchronized", help, synchronized);
    let help = "Readings that wait for the clock to be set before they are forwarded.";
    page.one(GAUGE, "tidemill_clock_held_readings", help, status.clock.held);
    let ledger = &status.ledger;
    let help = "Readings taken from devices, since the store was made.";
    page.one(COUNTER, "tidemill_readings_read_total", help, ledger.read);
    let help = "Readings committed to the store.";
    page.one(COUNTER, "tidemill_readings_stored_total", help, ledger.stored);
    let help = "Readings lost before they were stored.";
    page.one(COUNTER, "tidemill_readings_dropped_total", help, ledger.dropped);
    type Figure = fn(&ChannelLedger) -> u64;
    let figures: [(&str, &str, Figure); 3] = [
        ("read", "Readings taken of the channel, since the store was made.", |of| of.read),
        ("stored", "Of these, committed to the store.", |of| of.stored),
        ("dropped", "Of these, lost before they were stored.", |of| of.dropped),
    ];
    for (what, help, figure) in figures {
        let name = format!("tidemill_channel_readings_{what}_total");
        page.head(COUNTER, &name, help);
        for of in &ledger.channels {
            let (device, channel) = of.channel.split_once('/').unwrap_or_default();
            page.line(&name, &[("device", device), ("channel", channel)], figure(of));
        }
    }
}

fn devices(page: &mut Page, status: &Status) {
    page.head(GAUGE, "tidemill_device_up", "Whether the device answers.");
    for device in &status.devices {
        let labels = [("device", device.name.as_str()), ("driver", device.driver.as_str())];
        let up = u8::from(device.state == DeviceState::Ok);
        page.line("tidemill_device_up", &labels, up);
    }
    let name = "tidemill_device_readings_total";
    page.head(COUNTER, name, "Readings taken from the device since the start.");
    for device in &status.devices {
        page.line(name, &[("device", &device.name)], device.readings);
    }
    let name = "tidemill_device_bad_readings_total";
    page.head(COUNTER, name, "Of these, bad ones.");
    for device in &status.devices {
        page.line(name, &[("device", &device.name)], device.bad);
    }
}

fn store(page: &mut Page, status: &Status) {
    let store = &status.store;
    let up = u8::from(store.error.is_none());
    page.one(GAUGE, "tidemill_store_up", "Whether readings can be stored.", up);
    let help = "Bytes of the store's file and its log.";
    page.one(GAUGE, "tidemill_store_size_bytes", help, store.size);
    let help = "The most that the store may take.";
    page.one(GAUGE, "tidemill_store_max_size_bytes", help, store.max_size);
    page.one(GAUGE, "tidemill_store_readings", "Raw readings in the store.", store.readings);
    let help = "Readings accepted and not yet committed.";
    page.one(GAUGE, "tidemill_store_queued_readings", help, store.queued);
    if !store.losses.is_empty() {
        let name = "tidemill_readings_lost_total";
        page.head(COUNTER, name, "Readings lost before or after they were stored, by cause.");
        for loss in &store.losses {
            page.line(name, &[("reason", &loss.reason)], loss.count);
        }
    }
    let help = "Bytes written to the store's file since the start.";
    page.one(COUNTER, "tidemill_store_written_bytes_total", help, store.bytes_written);
    if let Some(wear) = &store.wear {
        let help = "Bytes written for each reading stored, within the last day.";
        page.one(GAUGE, "tidemill_store_written_bytes_per_reading", help, wear.bytes_per_reading);
        let help = "Bytes written a day, at the rate of the last day.";
        page.one(GAUGE, "tidemill_store_written_bytes_per_day", help, wear.bytes_per_day);
        let help = "Bytes that the card may be written in all: store.card_endurance, else 200 times \
            the size of the file system, which is a guess.";
        page.one(GAUGE, "tidemill_card_endurance_bytes", help, wear.endurance);
        let help =
            "Years until a new card has been written that much, at the rate of the last day.";
        page.one(GAUGE, "tidemill_card_life_years", help, wear.life_years);
    }
}

fn forwarders(page: &mut Page, forwarders: &[ForwarderStatus]) {
    type Figure = fn(&ForwarderStatus) -> u64;
    let figures: [(&str, &str, &str, Figure); 6] = [
        (GAUGE, "tidemill_forwarder_online", "Whether the broker is there.", |f| {
            u64::from(f.state == LinkState::Online)
        }),
        (
            GAUGE,
            "tidemill_forwarder_in_flight_readings",
            "Readings sent and not yet acknowledged.",
            |f| f.in_flight,
        ),
        (
            GAUGE,
            "tidemill_forwarder_pending_readings",
            "Readings stored and not yet acknowledged.",
            |f| f.pending,
        ),
        (
            COUNTER,
            "tidemill_forwarder_stored_readings_total",
            "Readings stored that the forwarder is to send.",
            |f| f.stored,
        ),
        (
            COUNTER,
            "tidemill_forwarder_acknowledged_readings_total",
            "Readings that the broker has acknowledged.",
            |f| f.acknowledged,
        ),
        (
            COUNTER,
            "tidemill_forwarder_dropped_readings_total",
            "Readings removed from the store before they were acknowledged.",
            |f| f.dropped,
        ),
    ];
    for (kind, name, help, figure) in figures {
        page.head(kind, name, help);
        for forwarder in forwarders {
            page.line(name, &[("forwarder", &forwarder.name)], figure(forwarder));
        }
    }
}

fn feed(page: &mut Page, hub: &Hub) {
    page.one(GAUGE, "tidemill_feed_clients", "Clients of the live feed.", hub.clients());
    let help = "Readings that clients of the live feed lost by being slow.";
    page.one(COUNTER, "tidemill_feed_skipped_readings_total", help, hub.skipped());
}

/// Numbers and truths alone, and none for a bad reading: what is missing is
/// absent, not zero.
fn channels(page: &mut Page, hub: &Hub) {
    let name = "tidemill_channel_value";
    page.head(GAUGE, name, "The newest value of the channel; absent while it is bad.");
    for (spec, last) in hub.channels() {
        let reading = last.as_ref().and_then(|record| record.reading());
        let number = match reading.and_then(|reading| reading.value.datum()) {
            Some(Datum::Number(number)) => *number,
            Some(Datum::Boolean(truth)) => f64::from(u8::from(*truth)),
            Some(Datum::Text(_)) | None => continue,
        };
        let labels = [
            ("device", spec.channel.device()),
            ("channel", spec.channel.name()),
            ("unit", spec.unit.as_str()),
        ];
        page.line(name, &labels, number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Clock, DeviceStatus, Ledger};
    use expect_test::expect;
    use reading::{Body, ChannelSpec, Epoch, Fault, Kind, Reading, Record, Seq, Unit, Value};

    fn hub() -> Hub {
        let spec = |channel: &str, kind, unit| ChannelSpec {
            channel: channel.parse().unwrap(),
            kind,
            unit: Unit::of(unit),
            label: None,
            range: None,
            output: false,
        };
        let epoch = Epoch(1);
        let specs = vec![
            spec("weather/temperature", Kind::Number, "Cel"),
            spec("weather/humidity", Kind::Number, "%RH"),
            spec("panel/door", Kind::Boolean, ""),
            spec("panel/text", Kind::Text, ""),
        ];
        let values = [
            Value::Good(Datum::Number(21.5)),
            Value::Bad(Fault::Timeout),
            Value::Good(Datum::from(true)),
            Value::Good(Datum::from("hello")),
        ];
        let at = Timestamp::UNIX_EPOCH;
        let records: Vec<_> = specs
            .iter()
            .zip(values)
            .map(|(spec, value)| {
                let reading = Reading { channel: spec.channel.clone(), at, value };
                Record { epoch, seq: Seq(1), body: Body::Reading(reading) }
            })
            .collect();
        let hub = Hub::new("greenhouse", epoch, specs);
        hub.publish(&records);
        hub
    }

    /// Every figure that config/grafana/ draws is on the page.
    fn drawn() -> std::collections::BTreeSet<&'static str> {
        let dashboard = include_str!("../../../config/grafana/tidemill.json");
        let is_name = |c: char| c.is_ascii_lowercase() || c == '_';
        let names = dashboard.match_indices("tidemill_").map(|(at, _)| {
            let rest = &dashboard[at..];
            &rest[..rest.find(|c| !is_name(c)).unwrap_or(rest.len())]
        });
        names.collect()
    }

    #[test]
    fn what_grafana_draws_is_there() {
        let page = text(&Status::default(), &hub());
        let drawn = drawn();
        assert!(drawn.len() > 15, "{drawn:?}");
        for name in drawn.into_iter().filter(|name| *name != "tidemill_start_time_seconds") {
            assert!(page.contains(&format!("# TYPE {name} ")), "{name}");
        }
        let started = "2026-11-24T08:20:03.500000Z".into();
        let page = text(&Status { started, ..Status::default() }, &hub());
        assert!(page.contains("# TYPE tidemill_start_time_seconds "));
    }

    #[test]
    fn the_whole_page() {
        let since = "2026-11-24T08:20:03.500000Z".to_owned();
        let status = Status {
            gateway: "green\"house".into(),
            version: "0.1.0".into(),
            epoch: "9f2c44e01a7b3d58".into(),
            started: since.clone(),
            clock: Clock { synchronized: true, set: true, held: 0 },
            devices: vec![DeviceStatus {
                name: "weather".into(),
                label: None,
                driver: "serial".into(),
                state: DeviceState::Ok,
                since: since.clone(),
                error: None,
                readings: 100,
                bad: 2,
                channels: vec!["weather/temperature".into()],
            }],
            forwarders: vec![ForwarderStatus {
                name: "cloud".into(),
                url: "wss://broker.example.com/mqtt".into(),
                state: LinkState::Offline,
                since,
                error: Some("refused".into()),
                in_flight: 0,
                stored: 100,
                acknowledged: 90,
                pending: 8,
                dropped: 2,
            }],
            ledger: Ledger {
                read: 101,
                stored: 100,
                dropped: 1,
                channels: vec![ChannelLedger {
                    channel: "weather/temperature".into(),
                    read: 101,
                    stored: 100,
                    dropped: 1,
                }],
            },
            store: store::Status {
                wear: Some(store::Wear {
                    bytes_per_reading: 980,
                    bytes_per_day: 846_720_000,
                    endurance: 200 << 35,
                    endurance_assumed: true,
                    life_years: 22.22,
                }),
                ..store::Status::default()
            },
            ..Status::default()
        };
        expect![[r##"
            # HELP tidemill_info The gateway; always 1.
            # TYPE tidemill_info gauge
            tidemill_info{gateway="green\"house",version="0.1.0",epoch="9f2c44e01a7b3d58"} 1
            # HELP tidemill_start_time_seconds When the gateway started, seconds since 1970.
            # TYPE tidemill_start_time_seconds gauge
            tidemill_start_time_seconds 1795508403.5
            # HELP tidemill_clock_synchronized Whether the system clock follows a time source.
            # TYPE tidemill_clock_synchronized gauge
            tidemill_clock_synchronized 1
            # HELP tidemill_clock_held_readings Readings that wait for the clock to be set before they are forwarded.
            # TYPE tidemill_clock_held_readings gauge
            tidemill_clock_held_readings 0
            # HELP tidemill_readings_read_total Readings taken from devices, since the store was made.
            # TYPE tidemill_readings_read_total counter
            tidemill_readings_read_total 101
            # HELP tidemill_readings_stored_total Readings committed to the store.
            # TYPE tidemill_readings_stored_total counter
            tidemill_readings_stored_total 100
            # HELP tidemill_readings_dropped_total Readings lost before they were stored.
            # TYPE tidemill_readings_dropped_total counter
            tidemill_readings_dropped_total 1
            # HELP tidemill_channel_readings_read_total Readings taken of the channel, since the store was made.
            # TYPE tidemill_channel_readings_read_total counter
            tidemill_channel_readings_read_total{device="weather",channel="temperature"} 101
            # HELP tidemill_channel_readings_stored_total Of these, committed to the store.
            # TYPE tidemill_channel_readings_stored_total counter
            tidemill_channel_readings_stored_total{device="weather",channel="temperature"} 100
            # HELP tidemill_channel_readings_dropped_total Of these, lost before they were stored.
            # TYPE tidemill_channel_readings_dropped_total counter
            tidemill_channel_readings_dropped_total{device="weather",channel="temperature"} 1
            # HELP tidemill_device_up Whether the device answers.
            # TYPE tidemill_device_up gauge
            tidemill_device_up{device="weather",driver="serial"} 1
            # HELP tidemill_device_readings_total Readings taken from the device since the start.
            # TYPE tidemill_device_readings_total counter
            tidemill_device_readings_total{device="weather"} 100
            # HELP tidemill_device_bad_readings_total Of these, bad ones.
            # TYPE tidemill_device_bad_readings_total counter
            tidemill_device_bad_readings_total{device="weather"} 2
            # HELP tidemill_store_up Whether readings can be stored.
            # TYPE tidemill_store_up gauge
            tidemill_store_up 1
            # HELP tidemill_store_size_bytes Bytes of the store's file and its log.
            # TYPE tidemill_store_size_bytes gauge
            tidemill_store_size_bytes 0
            # HELP tidemill_store_max_size_bytes The most that the store may take.
            # TYPE tidemill_store_max_size_bytes gauge
            tidemill_store_max_size_bytes 0
            # HELP tidemill_store_readings Raw readings in the store.
            # TYPE tidemill_store_readings gauge
            tidemill_store_readings 0
            # HELP tidemill_store_queued_readings Readings accepted and not yet committed.
            # TYPE tidemill_store_queued_readings gauge
            tidemill_store_queued_readings 0
            # HELP tidemill_store_written_bytes_total Bytes written to the store's file since the start.
            # TYPE tidemill_store_written_bytes_total counter
            tidemill_store_written_bytes_total 0
            # HELP tidemill_store_written_bytes_per_reading Bytes written for each reading stored, within the last day.
            # TYPE tidemill_store_written_bytes_per_reading gauge
            tidemill_store_written_bytes_per_reading 980
            # HELP tidemill_store_written_bytes_per_day Bytes written a day, at the rate of the last day.
            # TYPE tidemill_store_written_bytes_per_day gauge
            tidemill_store_written_bytes_per_day 846720000
            # HELP tidemill_card_endurance_bytes Bytes that the card may be written in all: store.card_endurance, else 200 times the size of the file system, which is a guess.
            # TYPE tidemill_card_endurance_bytes gauge
            tidemill_card_endurance_bytes 6871947673600
            # HELP tidemill_card_life_years Years until a new card has been written that much, at the rate of the last day.
            # TYPE tidemill_card_life_years gauge
            tidemill_card_life_years 22.22
            # HELP tidemill_forwarder_online Whether the broker is there.
            # TYPE tidemill_forwarder_online gauge
            tidemill_forwarder_online{forwarder="cloud"} 0
            # HELP tidemill_forwarder_in_flight_readings Readings sent and not yet acknowledged.
            # TYPE tidemill_forwarder_in_flight_readings gauge
            tidemill_forwarder_in_flight_readings{forwarder="cloud"} 0
            # HELP tidemill_forwarder_pending_readings Readings stored and not yet acknowledged.
            # TYPE tidemill_forwarder_pending_readings gauge
            tidemill_forwarder_pending_readings{forwarder="cloud"} 8
            # HELP tidemill_forwarder_stored_readings_total Readings stored that the forwarder is to send.
            # TYPE tidemill_forwarder_stored_readings_total counter
            tidemill_forwarder_stored_readings_total{forwarder="cloud"} 100
            # HELP tidemill_forwarder_acknowledged_readings_total Readings that the broker has acknowledged.
            # TYPE tidemill_forwarder_acknowledged_readings_total counter
            tidemill_forwarder_acknowledged_readings_total{forwarder="cloud"} 90
            # HELP tidemill_forwarder_dropped_readings_total Readings removed from the store before they were acknowledged.
            # TYPE tidemill_forwarder_dropped_readings_total counter
            tidemill_forwarder_dropped_readings_total{forwarder="cloud"} 2
            # HELP tidemill_feed_clients Clients of the live feed.
            # TYPE tidemill_feed_clients gauge
            tidemill_feed_clients 0
            # HELP tidemill_feed_skipped_readings_total Readings that clients of the live feed lost by being slow.
            # TYPE tidemill_feed_skipped_readings_total counter
            tidemill_feed_skipped_readings_total 0
            # HELP tidemill_channel_value The newest value of the channel; absent while it is bad.
            # TYPE tidemill_channel_value gauge
            tidemill_channel_value{device="weather",channel="temperature",unit="Cel"} 21.5
            tidemill_channel_value{device="panel",channel="door",unit=""} 1
        "##]].assert_eq(&text(&status, &hub()));
    }
}
