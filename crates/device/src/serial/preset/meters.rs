use super::Preset;

/// Netbeheer Nederland, "P1 Companion Standard", version 5.0.2 (2016), sections 5
/// and 6, and version 4: every second, or every ten.
pub(super) const DSMR: Preset = Preset {
    name: "dsmr",
    summary: "smart meters with a P1 port, DSMR 4 and 5: NL, BE, LU, SE, LT, HU",
    wiring: "P1, RJ12: 2 request to 5 V (1), 3 ground, 5 data, which is inverted and open collector: \
             a P1-to-USB cable, or 10 kΩ to 3.3 V and an inverter before a Pi's RX.",
    settings: concat!(
        r#"
baud = 115200
"#,
        include_str!("dsmr.toml"),
        include_str!("registers.toml")
    ),
};

/// The same, version 2.2 (2008) and 3.0: every ten seconds, without a CRC.
pub(super) const DSMR2: Preset = Preset {
    name: "dsmr2",
    summary: "smart meters with a P1 port, DSMR 2.2 and 3",
    wiring: "P1, RJ12: 2 request to 5 V (1), 3 ground, 5 data, which is inverted and open collector: \
             a P1-to-USB cable, or 10 kΩ to 3.3 V and an inverter before a Pi's RX.",
    settings: concat!(
        r#"
baud = 9600
data_bits = 7
parity = "even"
"#,
        include_str!("dsmr.toml"),
        include_str!("registers.toml")
    ),
};

/// IEC 62056-21:2002, mode C: it is asked, and its answer left at 300 baud, which
/// it goes on with when nobody chooses another rate (section 6.4.3).
pub(super) const D0: Preset = Preset {
    name: "d0",
    summary: "meters with an infrared eye that are asked, IEC 62056-21 mode C",
    wiring: "An infrared head that also sends, with a magnet on the meter's eye. One that hears itself \
             is no trouble. Battery-powered meters must not be asked often: poll = \"1h\".",
    settings: concat!(
        r#"
baud = 300
data_bits = 7
parity = "even"
request = "/?!\r\n"
poll = "2min"
# A thousand characters take half a minute.
response_timeout = "80s"
timeout = "100s"
"#,
        include_str!("d0.toml"),
        include_str!("registers.toml")
    ),
};

/// IEC 62056-21:2002, mode D: it speaks on its own.
pub(super) const D0_PUSH: Preset = Preset {
    name: "d0-push",
    summary: "meters with an infrared eye that speak text on their own, IEC 62056-21 mode D",
    wiring: "An infrared head with a magnet on the meter's eye, by USB or with 3.3 V levels; its cable \
             points down, mostly. Many meters tell power only once unlocked with a PIN.",
    settings: concat!(
        r#"
# EasyMeter Q3D; mode D itself has 2400.
baud = 9600
data_bits = 7
parity = "even"
"#,
        include_str!("d0.toml"),
        include_str!("registers.toml")
    ),
};

/// BSI TR-03109-1, annex IV b, "SML", version 1.04, and FNN, "Lastenheft EDL":
/// every one to four seconds.
pub(super) const SML: Preset = Preset {
    name: "sml",
    summary: "German meters with an infrared eye that speak SML on their own: eHZ, EDL, mME",
    wiring: "An infrared head with a magnet on the meter's eye, by USB or with 3.3 V levels; its cable \
             points down, mostly. Many meters tell power only once unlocked with a PIN.",
    settings: concat!(
        r#"
baud = 9600
frame = "sml"
format = "sml"
[channel]
energy_import = { unit = "kW.h" }     # 1.8.0
energy_export = { unit = "kW.h" }     # 2.8.0
power = { unit = "W" }                # 16.7.0, negative for export; else 1.7.0; else 15.7.0, no sign
[more]
energy_import_t1 = { unit = "kW.h" }  # 1.8.1
energy_import_t2 = { unit = "kW.h" }  # 1.8.2
energy_export_t1 = { unit = "kW.h" }  # 2.8.1
energy_export_t2 = { unit = "kW.h" }  # 2.8.2
power_import = { unit = "W" }         # 1.7.0
power_export = { unit = "W" }         # 2.7.0
status = {}                           # the status word, in bits
"#,
        include_str!("registers.toml")
    ),
};

#[cfg(test)]
mod tests {
    use crate::serial::preset::tests::{good, read};

    #[test]
    fn a_p1_meter_with_a_gas_meter_behind_it() {
        let telegram = include_bytes!("../../../telegrams/dsmr-5.txt");
        let expected = [
            ("energy_import_t1", 4.426),
            ("energy_import_t2", 2.399),
            ("energy_export_t1", 2.444),
            ("energy_export_t2", 0.0),
            ("tariff", 2.0),
            ("power_import", 244.0),
            ("power_export", 0.0),
            ("gas", 0.107),
        ];
        assert_eq!(read("dsmr", "", telegram), good(&expected));
        let phases = "channel.voltage_l1 = {}\nchannel.house = { field = 'power_import_l3' }";
        let expected = [("voltage_l1", 230.0), ("house", 142.0)];
        assert_eq!(read("dsmr", phases, telegram), good(&expected));
    }

    #[test]
    fn an_old_p1_meter() {
        let telegram = include_bytes!("../../../telegrams/dsmr-2.2.txt");
        let expected = [("power_import", 1010.0), ("gas", 1.001)];
        let channels = "channel.power_import = {}\nchannel.gas = {}";
        assert_eq!(read("dsmr2", channels, telegram), good(&expected));
    }

    #[test]
    fn a_d0_meter_that_speaks_on_its_own() {
        let readout = include_bytes!("../../../telegrams/d0-q3d.txt");
        let expected = [
            ("energy_import", 52_185.782_530_9),
            ("energy_export", 19_949.322_149_3),
            ("power", 2124.86),
        ];
        assert_eq!(read("d0-push", "", readout), good(&expected));
    }

    #[test]
    fn a_d0_meter_that_is_asked() {
        let readout = include_bytes!("../../../telegrams/d0-q3d.txt");
        // Its own question comes back first: the eye sees the wall.
        let echoed = [b"/?!\r\n", &readout[..]].concat();
        let channels = "channel.total = { field = '1.8.0', unit = 'kW.h' }";
        let expected = [("total", 52_185.782_530_9)];
        assert_eq!(read("d0", channels, &echoed), good(&expected));
    }

    #[test]
    fn an_sml_meter() {
        let hex = include_str!("../../../telegrams/sml-holley-dtz541.hex");
        let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
        let byte = |two: &[u8]| u8::from_str_radix(std::str::from_utf8(two).unwrap(), 16).unwrap();
        let file: Vec<u8> = digits.chunks(2).map(byte).collect();
        let expected = [("energy_export", 314.926), ("power", 460.0)];
        assert_eq!(read("sml", "", &file), good(&expected));
    }
}
