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

#[cfg(test)]
mod tests {
    use crate::serial::preset::tests::{good, read};

    /// As a sensor sent it on 2020-09-27, from the captured data of PyPMS; the
    /// manual has a table of the bytes and no example.
    const FRAME: [u8; 32] = [
        0x42, 0x4d, 0x00, 0x1c, 0x00, 0x00, 0x00, 0x08, 0x00, 0x08, 0x00, 0x00, 0x00, 0x08, 0x00,
        0x08, 0x00, 0xd2, 0x00, 0x46, 0x00, 0x2d, 0x00, 0x1e, 0x00, 0x00, 0x00, 0x00, 0x97, 0x00,
        0x02, 0xc5,
    ];

    #[test]
    fn a_frame_as_one_sent_it() {
        let three = good(&[("pm1", 0.0), ("pm10", 8.0), ("pm25", 8.0)]);
        for preset in ["pms5003", "pms7003"] {
            assert_eq!(read(preset, "", &FRAME), three);
            // Half a frame before it, as when it was plugged in.
            assert_eq!(read(preset, "", &[&FRAME[20..], &FRAME].concat()), three);
            let mut damaged = FRAME;
            damaged[13] ^= 1;
            assert_eq!(read(preset, "", &damaged), []);
        }
    }

    /// Each place of the table, told by a frame in which all numbers differ.
    #[test]
    fn every_place_of_the_manual_is_the_one() {
        let mut frame = FRAME;
        for (place, byte) in frame.iter_mut().enumerate().take(30).skip(4) {
            *byte = place as u8;
        }
        let sum: u16 = frame[..30].iter().map(|byte| u16::from(*byte)).sum();
        frame[30..].copy_from_slice(&sum.to_be_bytes());
        let names = [
            "pm1_factory",
            "pm25_factory",
            "pm10_factory",
            "pm1",
            "pm25",
            "pm10",
            "particles_03",
            "particles_05",
            "particles_1",
            "particles_25",
            "particles_5",
            "particles_10",
        ];
        let settings: String = names.map(|name| format!("channel.{name} = {{}}\n")).concat();
        let number =
            |place: usize| f64::from(4 + 2 * place as u32) * 256.0 + 5.0 + 2.0 * place as f64;
        let expected: Vec<_> =
            names.iter().enumerate().map(|(place, name)| (*name, number(place))).collect();
        assert_eq!(read("pms7003", &settings, &frame), good(&expected));
    }
}
