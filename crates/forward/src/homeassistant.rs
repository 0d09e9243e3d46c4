//! Discovery: retained configurations under `homeassistant/`, from which Home
//! Assistant makes its entities by itself.
//! <https://www.home-assistant.io/integrations/mqtt/#mqtt-discovery>
//!
//! An entity is available while the gateway is online and its last reading isn't
//! bad. There is no `expire_after`: a channel with a `delta` or `debounce` filter
//! may rightly say nothing for hours, and one that should speak has `stale`,
//! which makes it bad.

use reading::{ChannelSpec, Kind};
use serde_json::{Value as Json, json};

use crate::Gateway;

/// What Home Assistant calls a unit, and the class of device that has it.
const CLASSES: [(&str, &str, &str); 21] = [
    ("Cel", "°C", "temperature"),
    ("K", "K", "temperature"),
    ("%RH", "%", "humidity"),
    ("V", "V", "voltage"),
    ("A", "A", "current"),
    ("W", "W", "power"),
    ("kW", "kW", "power"),
    ("VA", "VA", "apparent_power"),
    ("var", "var", "reactive_power"),
    ("Wh", "Wh", "energy"),
    ("kWh", "kWh", "energy"),
    ("Hz", "Hz", "frequency"),
    ("Pa", "Pa", "pressure"),
    ("hPa", "hPa", "pressure"),
    ("bar", "bar", "pressure"),
    ("lx", "lx", "illuminance"),
    ("dB", "dB", "sound_pressure"),
    ("%EL", "%", "battery"),
    ("s", "s", "duration"),
    ("By", "B", "data_size"),
    ("m/s", "m/s", "speed"),
];

/// Topic and payload that describe one channel.
pub(crate) fn discovery(gateway: &Gateway, prefix: &str, spec: &ChannelSpec) -> (String, Vec<u8>) {
    let (device, name) = (spec.channel.device(), spec.channel.name());
    let state = format!("{prefix}/{}", spec.channel);
    let mut config = json!({
        "name": spec.label.as_deref().unwrap_or(name),
        "unique_id": format!("tidemill/{}/{}", gateway.id, spec.channel),
        "state_topic": state,
        "value_template": "{{ value_json.value }}",
        "availability": [
            { "topic": format!("{prefix}/status") },
            {
                "topic": state,
                "value_template":
                    "{{ 'offline' if value_json.quality == 'bad' else 'online' }}",
            },
        ],
        "availability_mode": "all",
        "device": {
            "identifiers": [format!("tidemill/{}/{device}", gateway.id)],
            "name": format!("{} {device}", gateway.id),
            "manufacturer": "Tidemill",
            "sw_version": gateway.version,
        },
        "origin": { "name": "Tidemill", "sw_version": gateway.version },
    });
    let mut set = |key: &str, value: Json| {
        config.as_object_mut().map(|all| all.insert(key.to_owned(), value));
    };
    if spec.output {
        set("command_topic", json!(format!("{state}/set")));
    }
    let component = match (spec.kind, spec.output) {
        (Kind::Boolean, output) => {
            // Jinja writes True; ours are as JSON has them.
            set("value_template", json!("{{ value_json.value | lower }}"));
            set("payload_on", json!("true"));
            set("payload_off", json!("false"));
            if output {
                set("state_on", json!("true"));
                set("state_off", json!("false"));
            }
            if output { "switch" } else { "binary_sensor" }
        }
        (Kind::Number, output) => {
            let unit = spec.unit.as_str();
            let known = CLASSES.iter().find(|(ours, ..)| *ours == unit);
            if let Some((_, theirs, class)) = known {
                set("unit_of_measurement", json!(theirs));
                set("device_class", json!(class));
            } else if !unit.is_empty() {
                set("unit_of_measurement", json!(unit));
            }
            if output {
                // Its own default is 1 to 100.
                let range = spec.range.as_ref().map_or((-1e9, 1e9), |r| (*r.start(), *r.end()));
                set("min", json!(range.0));
                set("max", json!(range.1));
                set("step", json!(0.001));
                set("mode", json!("box"));
                "number"
            } else {
                let energy = known.is_some_and(|(.., class)| *class == "energy");
                let class = if energy { "total_increasing" } else { "measurement" };
                set("state_class", json!(class));
                "sensor"
            }
        }
        (Kind::Text, true) => "text",
        (Kind::Text, false) => "sensor",
    };
    // One level, also of an alarm, whose name has two.
    let object = format!("{device}--{name}").replace('/', "--");
    let topic = format!("homeassistant/{component}/{}/{object}/config", gateway.id);
    (topic, config.to_string().into_bytes())
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use reading::{Epoch, Unit};

    use super::*;

    #[test]
    fn entities_of_every_kind() {
        let spec = |channel: &str, kind, unit, output| ChannelSpec {
            channel: channel.parse().unwrap(),
            kind,
            unit: Unit::of(unit),
            label: None,
            range: None,
            output,
        };
        let label = Some("Outside".to_owned());
        let range = Some(0.0..=100.0);
        let specs = [
            ChannelSpec { label, ..spec("weather/temperature", Kind::Number, "Cel", false) },
            spec("meter/energy", Kind::Number, "kWh", false),
            spec("panel/door", Kind::Boolean, "", false),
            spec("panel/pump", Kind::Boolean, "", true),
            ChannelSpec { range, ..spec("panel/level", Kind::Number, "%", true) },
            spec("gps/fix", Kind::Text, "", false),
            spec("panel/mode", Kind::Text, "", true),
        ];
        let gateway = Gateway {
            id: "greenhouse".into(),
            version: "0.1.0",
            channels: specs.to_vec(),
            epoch: Epoch(1),
        };
        let lines: Vec<String> = specs
            .iter()
            .map(|spec| {
                let (topic, payload) = discovery(&gateway, "tidemill/greenhouse", spec);
                let mut config: Json = serde_json::from_slice(&payload).unwrap();
                if spec.channel.as_str() != "weather/temperature" {
                    // The same for all.
                    for key in ["availability", "availability_mode", "device", "origin"] {
                        config.as_object_mut().unwrap().remove(key).unwrap();
                    }
                }
                format!("{topic}\n{config:#}")
            })
            .collect();
        expect![[r#"
            homeassistant/sensor/greenhouse/weather--temperature/config
            {
              "availability": [
                {
                  "topic": "tidemill/greenhouse/status"
                },
                {
                  "topic": "tidemill/greenhouse/weather/temperature",
                  "value_template": "{{ 'offline' if value_json.quality == 'bad' else 'online' }}"
                }
              ],
              "availability_mode": "all",
              "device": {
                "identifiers": [
                  "tidemill/greenhouse/weather"
                ],
                "manufacturer": "Tidemill",
                "name": "greenhouse weather",
                "sw_version": "0.1.0"
              },
              "device_class": "temperature",
              "name": "Outside",
              "origin": {
                "name": "Tidemill",
                "sw_version": "0.1.0"
              },
              "state_class": "measurement",
              "state_topic": "tidemill/greenhouse/weather/temperature",
              "unique_id": "tidemill/greenhouse/weather/temperature",
              "unit_of_measurement": "°C",
              "value_template": "{{ value_json.value }}"
            }
            homeassistant/sensor/greenhouse/meter--energy/config
            {
              "device_class": "energy",
              "name": "energy",
              "state_class": "total_increasing",
              "state_topic": "tidemill/greenhouse/meter/energy",
              "unique_id": "tidemill/greenhouse/meter/energy",
              "unit_of_measurement": "kWh",
              "value_template": "{{ value_json.value }}"
            }
            homeassistant/binary_sensor/greenhouse/panel--door/config
            {
              "name": "door",
              "payload_off": "false",
              "payload_on": "true",
              "state_topic": "tidemill/greenhouse/panel/door",
              "unique_id": "tidemill/greenhouse/panel/door",
              "value_template": "{{ value_json.value | lower }}"
            }
            homeassistant/switch/greenhouse/panel--pump/config
            {
              "command_topic": "tidemill/greenhouse/panel/pump/set",
              "name": "pump",
              "payload_off": "false",
              "payload_on": "true",
              "state_off": "false",
              "state_on": "true",
              "state_topic": "tidemill/greenhouse/panel/pump",
              "unique_id": "tidemill/greenhouse/panel/pump",
              "value_template": "{{ value_json.value | lower }}"
            }
            homeassistant/number/greenhouse/panel--level/config
            {
              "command_topic": "tidemill/greenhouse/panel/level/set",
              "max": 100.0,
              "min": 0.0,
              "mode": "box",
              "name": "level",
              "state_topic": "tidemill/greenhouse/panel/level",
              "step": 0.001,
              "unique_id": "tidemill/greenhouse/panel/level",
              "unit_of_measurement": "%",
              "value_template": "{{ value_json.value }}"
            }
            homeassistant/sensor/greenhouse/gps--fix/config
            {
              "name": "fix",
              "state_topic": "tidemill/greenhouse/gps/fix",
              "unique_id": "tidemill/greenhouse/gps/fix",
              "value_template": "{{ value_json.value }}"
            }
            homeassistant/text/greenhouse/panel--mode/config
            {
              "command_topic": "tidemill/greenhouse/panel/mode/set",
              "name": "mode",
              "state_topic": "tidemill/greenhouse/panel/mode",
              "unique_id": "tidemill/greenhouse/panel/mode",
              "value_template": "{{ value_json.value }}"
            }"#]]
        .assert_eq(&lines.join("\n"));
    }
}
