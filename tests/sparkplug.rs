//! Sparkplug B through a real broker.

use crate::support::{Broker, Home};

#[test]
fn a_node_is_born_and_its_death_is_told_when_it_is_killed() {
    let broker = Broker::start();
    let seen = broker.subscribe("spBv1.0/#");
    let config = broker.config("format = \"sparkplug-b\"\ngroup = \"plant\"")
        + "[device.weather]\ndriver = \"sim\"\npoll = \"50ms\"\n\
           [device.weather.channel]\ntide = { wave = \"ramp\" }\n";
    let home = Home::new(&config);
    for _ in 0..2 {
        let gateway = home.start();
        assert!(!seen.next_on("spBv1.0/plant/NBIRTH/greenhouse").retained);
        seen.next_on("spBv1.0/plant/DBIRTH/greenhouse/weather");
        seen.next_on("spBv1.0/plant/DDATA/greenhouse/weather");
        gateway.kill();
        seen.next_on("spBv1.0/plant/NDEATH/greenhouse");
    }
    // In Sparkplug's topics alone: nothing else is said.
    assert!(broker.subscribe("tidemill/#").rest(std::time::Duration::from_millis(300)).is_empty());
}
