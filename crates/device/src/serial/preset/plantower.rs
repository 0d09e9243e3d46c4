use super::Preset;

/// Plantower, "PMS5003 series data manual", version 2.5 (2016), appendix I: 32
/// bytes every 0.2 to 2.3 s, the concentrations first as of the factory's dust,
/// then as of the atmosphere's.
pub(super) const PMS5003: Preset = Preset {
    name: "pms5003",
    summary: "Plantower PMS5003, PMSA003: particulate matter",
    wiring: "3.3 V levels and 5 V supply; SET and RESET stay open. Its Tx goes to our Rx.",
    settings: SETTINGS,
};

/// Plantower, "PMS7003 series data manual" (2016), appendix I: the same, with a
/// version and an error code where the PMS5003 has nothing.
pub(super) const PMS7003: Preset = Preset {
    name: "pms7003",
    summary: "Plantower PMS7003, PMS1003: particulate matter",
    wiring: "3.3 V levels and 5 V supply; SET and RESET stay open. Its Tx goes to our Rx.",
    settings: SETTINGS,
};

const SETTINGS: &str = r#"
baud = 9600
frame = { fixed = { length = 32, start = [0x42, 0x4d, 0x00, 0x1c] } }
format = "binary"
checksum = { kind = "sum16" }
[channel]
pm1  = { at = 10, type = "u16", unit = "ug/m3" }
pm25 = { at = 12, type = "u16", unit = "ug/m3" }
pm10 = { at = 14, type = "u16", unit = "ug/m3" }
[more]
pm1_factory  = { at = 4, type = "u16", unit = "ug/m3" }
pm25_factory = { at = 6, type = "u16", unit = "ug/m3" }
pm10_factory = { at = 8, type = "u16", unit = "ug/m3" }
particles_03  = { at = 16, type = "u16", unit = "/dL" }
particles_05  = { at = 18, type = "u16", unit = "/dL" }
particles_1   = { at = 20, type = "u16", unit = "/dL" }
particles_25  = { at = 22, type = "u16", unit = "/dL" }
particles_5   = { at = 24, type = "u16", unit = "/dL" }
particles_10  = { at = 26, type = "u16", unit = "/dL" }
"#;
