//! VE.Direct, the text protocol of Victron's chargers, monitors and inverters:
//! "VE.Direct Protocol", version 3.33.
//!
//! Once a second comes a block of `\r\nLABEL\tVALUE`, the last of which is
//! `Checksum` with one byte that makes the sum of the block 0 (modulo 256).
//! Frames of the HEX protocol, `:…\n`, may stand between them and don't count.

use reading::Kind;

use super::decimal::Decimal;
use super::{NotUnderstood, Scalar, unknown, value};
use crate::Batch;

/// Takes the wanted fields out of blocks.
#[derive(Clone)]
pub(crate) struct VeDirect {
    /// By channel.
    wanted: Vec<(Field, Kind)>,
}

#[derive(Clone)]
enum Field {
    /// The number behind a label, times 10^so much, or its text.
    Label(String, i32),
    /// The number behind a label, in words.
    Words(&'static str, Words),
}

/// "VE.Direct Protocol", version 3.33, "Field descriptions": there volts, amperes
/// and ampere-hours are in thousandths, shares in per mille, energies in hundredths
/// of a kWh. What isn't here is as it is.
const SCALED: &[(i32, &[&str])] = &[
    (
        -3,
        &[
            "V", "V2", "V3", "VS", "VM", "VPV", "I", "I2", "I3", "IL", "CE", "H1", "H2", "H3",
            "H6", "H7", "H8", "H15", "H16",
        ],
    ),
    (-2, &["H17", "H18", "H19", "H20", "H22", "AC_OUT_V", "DC_IN_V"]),
    (-1, &["DM", "SOC", "AC_OUT_I", "DC_IN_I"]),
];

/// Numbers, and what they mean.
type Words = &'static [(i64, &'static str)];

/// The numbers of `CS`.
const STATES: Words = &[
    (0, "off"),
    (1, "low power"),
    (2, "fault"),
    (3, "bulk"),
    (4, "absorption"),
    (5, "float"),
    (6, "storage"),
    (7, "equalize"),
    (9, "inverting"),
    (11, "power supply"),
    (245, "starting up"),
    (246, "repeated absorption"),
    (247, "auto equalize"),
    (248, "battery safe"),
    (252, "external control"),
];

/// The numbers of `MPPT`.
const TRACKER: Words = &[(0, "off"), (1, "limited"), (2, "tracking")];

/// The numbers of `ERR`.
const ERRORS: Words = &[
    (0, "none"),
    (2, "battery voltage too high"),
    (17, "charger temperature too high"),
    (18, "charger over current"),
    (19, "charger current reversed"),
    (20, "bulk time limit exceeded"),
    (21, "current sensor"),
    (26, "terminals overheated"),
    (28, "converter"),
    (33, "input voltage too high"),
    (34, "input current too high"),
    (38, "input shut down: battery voltage too high"),
    (39, "input shut down: current while off"),
    (65, "lost communication with a device"),
    (66, "synchronised charging: configuration"),
    (67, "BMS connection lost"),
    (68, "network misconfigured"),
    (116, "factory calibration lost"),
    (117, "invalid firmware"),
    (119, "user settings invalid"),
];

/// Fields that say the number of a label in words.
static WORDS: &[(&str, &str, Words)] =
    &[("state", "CS", STATES), ("tracker", "MPPT", TRACKER), ("error", "ERR", ERRORS)];

impl VeDirect {
    /// A field for each channel, in order.
    ///
    /// # Errors
    /// With the place of the channel whose field can't be one. Labels that only
    /// newer devices have are taken as they are.
    pub(crate) fn new(fields: &[(String, Kind)]) -> Result<VeDirect, (usize, String)> {
        let mut wanted = Vec::new();
        for (place, (name, kind)) in fields.iter().enumerate() {
            let field = if let Some((_, of, words)) = WORDS.iter().find(|(own, ..)| own == name) {
                Field::Words(of, words)
            } else if name.is_empty() || name.bytes().all(|byte| byte.is_ascii_lowercase()) {
                let names = WORDS.iter().map(|(own, ..)| *own);
                return Err((place, unknown(name, names, "labels such as `V`, `PPV` and `H20`")));
            } else {
                let scaled = SCALED.iter().find(|(_, labels)| labels.contains(&name.as_str()));
                Field::Label(name.clone(), scaled.map_or(0, |(exponent, _)| *exponent))
            };
            wanted.push((field, *kind));
        }
        Ok(VeDirect { wanted })
    }

    /// One block, from the end of the last one to its check sum.
    pub(super) fn parse(&mut self, block: &[u8], batch: &mut Batch) -> Result<(), NotUnderstood> {
        let (sum, lines) = block.split_last().ok_or(NotUnderstood)?;
        if text_of(lines).fold(*sum, u8::wrapping_add) != 0 {
            return Err(NotUnderstood);
        }
        let lines = lines.split(|byte| *byte == b'\n').map(|line| {
            // What a frame of the other protocol left of a line.
            let end = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
            line[..end].trim_ascii()
        });
        for line in lines.filter(|line| !line.is_empty()) {
            let line = std::str::from_utf8(line).map_err(|_| NotUnderstood)?;
            // The last line is the check sum, which has been taken away.
            let Some((label, text)) = line.split_once('\t') else { continue };
            for (channel, (field, kind)) in self.wanted.iter().enumerate() {
                match field {
                    Field::Label(wanted, exponent) if wanted == label => {
                        let scalar = match number(text) {
                            Some(number) if *kind != Kind::Text => {
                                Scalar::Number(number.shifted(*exponent).to_f64())
                            }
                            // "---": there is no sensor.
                            _ if text.starts_with("--") => continue,
                            _ => Scalar::Text(text),
                        };
                        batch.push(channel, value(*kind, scalar));
                    }
                    Field::Words(wanted, words) if *wanted == label => {
                        let number = number(text);
                        let word = words.iter().find(|(n, _)| number == Some(Decimal::new(*n, 0)));
                        let word = word.map_or(text, |(_, word)| word);
                        batch.push(channel, value(*kind, Scalar::Text(word)));
                    }
                    Field::Label(..) | Field::Words(..) => {}
                }
            }
        }
        Ok(())
    }
}

/// `-7625` or `0x00000001`.
fn number(text: &str) -> Option<Decimal> {
    match text.strip_prefix("0x") {
        Some(hex) => i64::from_str_radix(hex, 16).ok().map(|number| Decimal::new(number, 0)),
        None => Decimal::parse(text),
    }
}

/// The bytes that are no frame of the HEX protocol.
fn text_of(lines: &[u8]) -> impl Iterator<Item = u8> {
    let mut hex = false;
    lines.iter().copied().filter(move |byte| {
        hex |= *byte == b':';
        let is_text = !hex;
        hex &= *byte != b'\n';
        is_text
    })
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use proptest::prelude::*;

    use super::super::tests::{fields, listed};
    use super::*;

    /// Recordings published with `vedirect` (karioja): of a BMV-702, whose fields
    /// are two blocks, and of a SmartSolar MPPT 75/10; and a BlueSolar's values
    /// from the description of `ve.direct` (bencevans).
    const BMV: &[u8] =
        b"\r\nPID\t0x203\r\nV\t12065\r\nI\t-7625\r\nP\t-92\r\nCE\t-65473\r\nSOC\t839\
        \r\nTTG\t942\r\nAlarm\tOFF\r\nRelay\tOFF\r\nAR\t0\r\nBMV\t700\r\nFW\t0308\r\nChecksum\tq";
    const HISTORY: &[u8] =
        b"\r\nH1\t-149322\r\nH2\t-82854\r\nH3\t0\r\nH4\t0\r\nH5\t0\r\nH6\t-5526294\
        \r\nH7\t11733\r\nH8\t16161\r\nH9\t368003\r\nH10\t26\r\nH11\t0\r\nH12\t0\r\nH17\t6843\
        \r\nH18\t8527\r\nChecksum\t\xbc";
    const MPPT: &[u8] = b"\r\nPID\t0xA04C\r\nFW\t150\r\nSER#\tHQ1512ABCDE\r\nV\t12790\r\nI\t800\
        \r\nVPV\t38870\r\nPPV\t13\r\nCS\t3\r\nMPPT\t2\r\nOR\t0x00000000\r\nERR\t0\r\nLOAD\tON\
        \r\nIL\t200\r\nH19\t417\r\nH20\t25\r\nH21\t183\r\nH22\t38\r\nH23\t168\r\nHSDS\t8\
        \r\nChecksum\t\xe0";

    /// Every label of the protocol, and the words.
    fn all() -> Vec<(String, Kind)> {
        let all = "state tracker error V V2 V3 VS VM DM VPV PPV I I2 I3 IL LOAD T P CE SOC TTG Alarm \
            Relay AR OR H1 H2 H3 H4 H5 H6 H7 H8 H9 H10 H11 H12 H13 H14 H15 H16 H17 H18 H19 H20 H21 \
            H22 H23 ERR CS MPPT MODE AC_OUT_V AC_OUT_I AC_OUT_S WARN DC_IN_V DC_IN_I DC_IN_P MON \
            HSDS PID FW FWE SER# BMV";
        let texts =
            ["state", "tracker", "error", "LOAD", "Alarm", "Relay", "PID", "FW", "SER#", "BMV"];
        fields(all.split_ascii_whitespace(), &texts)
    }

    fn said(block: &[u8]) -> String {
        let fields = all();
        let mut format = VeDirect::new(&fields).unwrap();
        listed(&fields, |batch| format.parse(block, batch))
    }

    #[test]
    fn a_monitor_in_two_blocks() {
        expect![[r#"
            V = 12.065
            I = -7.625
            P = -92
            CE = -65.473
            SOC = 83.9
            TTG = 942
            Alarm = "OFF"
            Relay = "OFF"
            AR = 0
            PID = "0x203"
            FW = "0308"
            BMV = "700"
        "#]]
        .assert_eq(&said(BMV));
        expect![[r#"
            H1 = -149.322
            H2 = -82.854
            H3 = 0
            H4 = 0
            H5 = 0
            H6 = -5526.294
            H7 = 11.733
            H8 = 16.161
            H9 = 368003
            H10 = 26
            H11 = 0
            H12 = 0
            H17 = 68.43
            H18 = 85.27
        "#]]
        .assert_eq(&said(HISTORY));
    }

    #[test]
    fn a_charger() {
        expect![[r#"
            state = "bulk"
            tracker = "tracking"
            error = "none"
            V = 12.79
            VPV = 38.87
            PPV = 13
            I = 0.8
            IL = 0.2
            LOAD = "ON"
            OR = 0
            H19 = 4.17
            H20 = 0.25
            H21 = 183
            H22 = 0.38
            H23 = 168
            ERR = 0
            CS = 3
            MPPT = 2
            HSDS = 8
            PID = "0xA04C"
            FW = "150"
            SER# = "HQ1512ABCDE"
        "#]]
        .assert_eq(&said(MPPT));
    }

    /// "VE.Direct Protocol", "HEX protocol": its frames may come anywhere.
    #[test]
    fn frames_of_the_other_protocol_dont_count() {
        let hex = b":7F0ED0064000C\n";
        let place = MPPT.windows(4).position(|at| at == b"\r\nCS").unwrap();
        let within = [&MPPT[..place], hex, &MPPT[place..]].concat();
        assert_eq!(said(&within), said(MPPT));
        assert_eq!(said(&[hex, MPPT].concat()), said(MPPT));
    }

    #[test]
    fn what_isnt_there_says_nothing_and_what_is_new_is_taken_as_it_is() {
        let fields = [("T", Kind::Number), ("NEW", Kind::Number), ("V", Kind::Text)];
        let fields = fields.map(|(name, kind)| (name.to_owned(), kind));
        let mut format = VeDirect::new(&fields).unwrap();
        let block = summed(b"\r\nT\t---\r\nNEW\t7\r\nV\t12065\r\nChecksum\t");
        let said = listed(&fields, |batch| format.parse(&block, batch));
        assert_eq!(said, "NEW = 7\nV = \"12065\"\n");
        let wrong = VeDirect::new(&[("voltage".to_owned(), Kind::Number)]).err().unwrap();
        assert!(
            wrong.1.starts_with("unknown field \"voltage\"; there are `state`, `tracker`"),
            "{wrong:?}"
        );
    }

    /// With the byte that makes the sum right.
    fn summed(lines: &[u8]) -> Vec<u8> {
        let sum = lines.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
        [lines, &[sum.wrapping_neg()]].concat()
    }

    #[test]
    fn a_flipped_bit_or_a_lost_byte_is_not_understood() {
        let mut format = VeDirect::new(&all()).unwrap();
        for at in 0..MPPT.len() {
            let mut damaged = MPPT.to_vec();
            damaged[at] ^= 4;
            assert!(format.parse(&damaged, &mut Batch::default()).is_err(), "{at}");
            damaged.remove(at);
            assert!(format.parse(&damaged, &mut Batch::default()).is_err(), "{at}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_can_stop_it(bytes: Vec<u8>, lines in "(\r\n[A-Z:]{0,3}\t?[-0-9x]{0,20}){0,9}") {
            let mut format = VeDirect::new(&all()).unwrap();
            _ = format.parse(&bytes, &mut Batch::default());
            _ = format.parse(&summed(lines.as_bytes()), &mut Batch::default());
        }
    }
}
