use super::Preset;

/// Victron Energy, "VE.Direct Protocol", version 3.33: a block a second.
pub(super) const VEDIRECT: Preset = Preset {
    name: "vedirect",
    summary: "Victron MPPT solar chargers and Phoenix inverters, by VE.Direct",
    wiring: "VE.Direct to USB cable, or pins: 1 ground, 3 the device's TX. Chargers have 3.3 or 5 V \
             there (see its manual): 5 V needs a level shifter before a Pi's pin. Leave RX open.",
    settings: concat!(
        r#"
baud = 19200
frame = "vedirect"
format = "vedirect"
[channel]
battery_voltage = { field = "V", unit = "V" }
battery_current = { field = "I", unit = "A" }      # into the battery
panel_voltage   = { field = "VPV", unit = "V" }
panel_power     = { field = "PPV", unit = "W" }
state           = { type = "text" }                # CS in words: bulk, absorption, float …
error           = { type = "text" }                # ERR in words
yield_today     = { field = "H20", unit = "kW.h" }
yield_total     = { field = "H19", unit = "kW.h" }
[more]
power       = { field = "P", unit = "W" }          # of a battery monitor
soc         = { field = "SOC", unit = "%" }
consumed    = { field = "CE", unit = "A.h" }
time_to_go  = { field = "TTG", unit = "min" }
"#,
        include_str!("vedirect.toml")
    ),
};

/// The same of a battery monitor.
pub(super) const VEDIRECT_BMV: Preset = Preset {
    name: "vedirect-bmv",
    summary: "Victron BMV battery monitors and SmartShunt, by VE.Direct",
    wiring: "VE.Direct to USB cable, or pins: 1 ground, 3 the device's TX. Chargers have 3.3 or 5 V \
             there (see its manual): 5 V needs a level shifter before a Pi's pin. Leave RX open.",
    settings: concat!(
        r#"
baud = 19200
frame = "vedirect"
format = "vedirect"
[channel]
battery_voltage = { field = "V", unit = "V" }
battery_current = { field = "I", unit = "A" }      # into the battery
power       = { field = "P", unit = "W" }          # into the battery
soc         = { field = "SOC", unit = "%" }
consumed    = { field = "CE", unit = "A.h" }       # since it was full, negative
time_to_go  = { field = "TTG", unit = "min" }      # -1 is for ever
alarm       = { field = "Alarm", type = "boolean" }
[more]
"#,
        include_str!("vedirect.toml")
    ),
};

#[cfg(test)]
mod tests {
    use reading::{Datum, Value};

    use crate::serial::preset::tests::{good, read};

    /// A BlueSolar's values from the description of `ve.direct` (bencevans).
    #[test]
    fn a_charger() {
        let block = b"\r\nPID\t0xA04C\r\nFW\t150\r\nSER#\tHQ1512ABCDE\r\nV\t12790\r\nI\t800\
            \r\nVPV\t38870\r\nPPV\t13\r\nCS\t3\r\nMPPT\t2\r\nOR\t0x00000000\r\nERR\t0\r\nLOAD\tON\
            \r\nIL\t200\r\nH19\t417\r\nH20\t25\r\nH21\t183\r\nH22\t38\r\nH23\t168\r\nHSDS\t8\
            \r\nChecksum\t\xe0";
        let mut expected = good(&[
            ("battery_voltage", 12.79),
            ("battery_current", 0.8),
            ("panel_voltage", 38.87),
            ("panel_power", 13.0),
            ("yield_total", 4.17),
            ("yield_today", 0.25),
        ]);
        let text = |name: &str, text| (name.to_owned(), Value::Good(Datum::from(text)));
        expected.insert(4, text("state", "bulk"));
        expected.insert(5, text("error", "none"));
        assert_eq!(read("vedirect", "", block), expected);
    }

    /// A recording published with `vedirect` (karioja), in which a name of the
    /// user's has the unit of the label.
    #[test]
    fn a_monitor_behind_half_a_block() {
        let blocks = b"R\t0\r\nBMV\t700\r\nFW\t0308\r\nChecksum\tQ\
            \r\nPID\t0x203\r\nV\t12065\r\nI\t-7625\r\nP\t-92\r\nCE\t-65473\r\nSOC\t839\r\nTTG\t942\
            \r\nAlarm\tOFF\r\nRelay\tOFF\r\nAR\t0\r\nBMV\t700\r\nFW\t0308\r\nChecksum\tq";
        let expected = [("full", 83.9)];
        let channels = "channel.full = { field = 'SOC' }";
        assert_eq!(read("vedirect-bmv", channels, blocks), good(&expected));
    }
}
