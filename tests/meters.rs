//! Meters and chargers that speak protocols of their own, at a port of the real
//! gateway.

use serde_json::json;

use crate::support::{Broker, Home, Port};

/// "P1 Companion Standard", version 5.0.2.
const DSMR: &[u8] = include_bytes!("../crates/device/telegrams/dsmr-5.txt");

#[test]
fn a_p1_meter_needs_no_more_than_its_port() {
    let (broker, mut port) = (Broker::start(), Port::new());
    let subscriber = broker.subscribe("tidemill/greenhouse/meter/#");
    let meter =
        format!("[device.meter]\ndriver = 'serial'\nport = {:?}\npreset = 'dsmr'\n", port.path());
    let home = Home::new(&(broker.config("") + &meter));
    let gateway = home.start();
    port.opened();
    let mut feed = gateway.feed();
    // From the middle on, and then whole: nobody waits for a meter.
    port.write(&DSMR[400..]);
    port.write(DSMR);

    let power = feed.reading("meter/power_import", |reading| reading["quality"] == "good");
    assert_eq!(power["value"], 244.0);
    let gas = feed.reading("meter/gas", |reading| reading["quality"] == "good");
    assert_eq!(gas["value"], 0.107);
    let topic = "tidemill/greenhouse/meter/energy_import_t1";
    let mut energy = subscriber.next_on(topic).json();
    while energy["quality"] != "good" {
        energy = subscriber.next_on(topic).json();
    }
    assert_eq!((&energy["value"], &energy["unit"]), (&json!(4.426), &json!("kW.h")));
    let log = gateway.log();
    assert!(log.contains("noise: frames not understood") && !log.contains("panicked"), "{log}");
}
