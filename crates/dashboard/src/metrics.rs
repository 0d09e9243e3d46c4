//! `/metrics`: the status in Prometheus's text format, version 0.0.4, with names
//! as its conventions have them (base units, `_total` for what only grows).

use std::fmt::{Display, Write as _};

use reading::{Datum, Timestamp};

use crate::{DeviceState, ForwarderStatus, Hub, LinkState, Status};

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
    let ledger = status.ledger;
    let help = "Readings taken from devices, since the store was made.";
    page.one(COUNTER, "tidemill_readings_read_total", help, ledger.read);
    let help = "Readings committed to the store.";
    page.one(COUNTER, "tidemill_readings_stored_total", help, ledger.stored);
    let help = "Readings lost before they were stored.";
    page.one(COUNTER, "tidemill_readings_dropped_total", help, ledger.dropped);
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
    let help = "Bytes written to the store's file since the start.";
    page.one(COUNTER, "tidemill_store_written_bytes_total", help, store.bytes_written);
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
