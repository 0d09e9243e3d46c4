use super::Preset;

/// NMEA 0183, version 4.11: what a receiver sends that nobody has set up.
pub(super) const NMEA_GPS: Preset = Preset {
    name: "nmea-gps",
    summary: "a GPS receiver, or a ship's instruments, with NMEA 0183",
    wiring: "A module has 3.3 V levels, most take 5 V supply; its TX goes to our RX. A ship's \
             instruments have RS-422 or RS-232: with an adapter, never to a Pi's pins.",
    settings: concat!(
        r#"
# Most modules; "GPS mice" with SiRF chips and ships' instruments have 4800.
baud = 9600
"#,
        include_str!("nmea.toml")
    ),
};

/// u-blox, "u-blox 8 / M8 Receiver description, including protocol
/// specification", R26, section 31: NMEA with the talker GN once it hears more
/// than GPS.
pub(super) const UBLOX: Preset = Preset {
    name: "ublox",
    summary: "u-blox NEO, MAX, ZED: a GNSS receiver in its factory settings",
    wiring: "3.3 V levels, TXD to our RX; or its USB port. ModemManager takes it for a modem: \
             remove that, or use a port of the Pi's own.",
    settings: concat!(
        r#"
# NEO-6 to NEO-M8; from M9 on it is 38400, over USB it doesn't matter.
baud = 9600
"#,
        include_str!("nmea.toml")
    ),
};

#[cfg(test)]
mod tests {
    use crate::serial::preset::tests::{good, read};

    /// "u-blox 8 / M8 Receiver description", sections 31.2.4 and 31.2.14.
    #[test]
    fn a_second_of_a_receiver() {
        let second =
            b"$GNRMC,083559.00,A,4717.11437,N,00833.91522,E,0.004,77.52,091202,,,A,V*33\r\n\
            $GPGGA,092725.00,4717.11399,N,00833.91590,E,1,08,1.01,499.6,M,48.0,M,,*5B\r\n";
        for preset in ["nmea-gps", "ublox"] {
            let expected = [
                ("course", 77.52),
                ("latitude", 47.285_239_5),
                ("longitude", 8.565_253_666_666_667),
                ("speed", 0.002_057_777_777_777_778),
                ("altitude", 499.6),
                ("fix", 1.0),
                ("latitude", 47.285_233_166_666_664),
                ("longitude", 8.565_265),
                ("satellites", 8.0),
            ];
            assert_eq!(read(preset, "", second), good(&expected), "{preset}");
        }
    }

    /// NMEA Revealed (gpsd), "MWV" and "DBT".
    #[test]
    fn a_ships_instruments() {
        let channels = "baud = 4800\nchannel.wind_speed = {}\nchannel.deep = { field = 'DBT.3' }";
        let sentences = b"$WIMWV,214.8,R,0.1,K,A*28\r\n$SDDBT,7.7,f,2.3,M,1.3,F*05\r\n";
        let expected = [("wind_speed", 0.1 * (1000.0 / 3600.0)), ("deep", 2.3)];
        assert_eq!(read("nmea-gps", channels, sentences), good(&expected));
    }
}
