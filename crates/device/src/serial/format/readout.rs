//! Readouts of meters as text: IEC 62056-21 ("D0"), section 6.3.3 and 6.4, and the
//! P1 port of Dutch, Belgian, Swedish and Luxembourgish meters, which speaks its
//! mode D: "P1 Companion Standard", versions 2.2 to 5.0.2.
//!
//! A readout is a line `/` with maker and type, data sets `CODE(value*unit)`, and
//! `!`. What follows is a CRC of four hex digits from P1 version 4 on, a block
//! check character after ETX in mode C, and nothing before version 4 and in
//! mode D; there only the parity bits protect it, and the shape.

use super::NotUnderstood;
use super::obis::{Code, Held, Measured, Registers};
use crate::Batch;
use crate::serial::checksum::Sum;

const STX: u8 = 0x02;
const ETX: u8 = 0x03;
/// Groups in brackets of one data set that are looked at: a P1 gas meter before
/// version 4 has seven; a log of power cuts has more, none of them a reading.
const GROUPS_MAX: usize = 7;
/// Meters that one M-Bus can have behind this one: channels 1 to 4 in P1, and more
/// would be no harm.
const BEHIND_MAX: usize = 8;

/// Takes the wanted registers out of readouts.
#[derive(Clone)]
pub(crate) struct Readout(pub(crate) Registers);

/// The version of the P1 protocol, from which on there has to be a CRC.
const VERSION: Code = Code { medium: Some((1, 3)), register: [0, 2, 8, 255] };

impl Readout {
    /// One readout, from `/` to its last check character.
    pub(super) fn parse(&mut self, readout: &[u8], batch: &mut Batch) -> Result<(), NotUnderstood> {
        let end = memchr::memrchr(b'!', readout).ok_or(NotUnderstood)?;
        let checked = is_sound(&readout[..=end], &readout[end + 1..])?;
        let text = std::str::from_utf8(&readout[..end]).map_err(|_| NotUnderstood)?;
        let text = text.strip_prefix('/').ok_or(NotUnderstood)?;
        // Noise that kept its shape has other characters in it, mostly.
        let is_plain = |c: char| c == '\r' || c == '\n' || c == '\x02' || (' '..='~').contains(&c);
        if !text.chars().all(is_plain) {
            return Err(NotUnderstood);
        }
        let (identification, sets) = text.split_once(['\r', '\n']).ok_or(NotUnderstood)?;
        self.0.take_identification(identification, batch);
        let mut devices = [0; BEHIND_MAX];
        let mut rest = sets;
        while let Some((code, groups, after)) = data_set(rest)? {
            rest = after;
            // What has a name of its own, as some meters have, is none of ours.
            let Ok(code) = Code::parse(code) else { continue };
            let [first, second, ..] = groups.all;
            match (code.medium, code.register, groups.count) {
                (medium, register, _)
                    if medium == VERSION.medium && register == VERSION.register =>
                {
                    // Before version 4 there is none of this either.
                    if !checked {
                        return Err(NotUnderstood);
                    }
                    self.0.take(code, Held::Text(first), None, batch);
                }
                // The type of a meter behind this one, before its reading.
                (Some((0, n)), [24, 1, 0, _], 1) if usize::from(n) < BEHIND_MAX => {
                    devices[usize::from(n)] = first.parse().unwrap_or(0);
                }
                // From version 4 on: when it was read, and the reading. A Belgian
                // meter gives 24.2.3 for gas that isn't converted.
                (Some((0, n)), [24, 2, ..], 2) if usize::from(n) < BEHIND_MAX => {
                    let (held, unit) = with_unit(second);
                    let device = devices[usize::from(n)];
                    self.0.take_behind(device, first, held, unit, batch);
                    self.0.take(code, held, unit, batch);
                }
                // Before: when it was read, four more, the unit, and on the next
                // line the reading.
                (Some((0, n)), [24, 3, ..], 7) if usize::from(n) < BEHIND_MAX => {
                    let held = Held::Text(groups.all[6]);
                    let unit = Some(Measured::parse(groups.all[5]));
                    let device = devices[usize::from(n)];
                    self.0.take_behind(device, first, held, unit, batch);
                    self.0.take(code, held, unit, batch);
                }
                // A peak, with the time it was at before or behind it.
                (_, _, 2) if is_time(first) => {
                    let (held, unit) = with_unit(second);
                    self.0.take(code, held, unit, batch);
                }
                (_, _, 0) => {}
                _ => {
                    let (held, unit) = with_unit(first);
                    self.0.take(code, held, unit, batch);
                }
            }
        }
        Ok(())
    }
}

/// Whether the check characters behind `!` are right, and whether there are any.
fn is_sound(readout: &[u8], behind: &[u8]) -> Result<bool, NotUnderstood> {
    if let Some(etx) = memchr::memchr(ETX, behind) {
        // Section 5.8: the XOR of all characters after STX, up to and with ETX.
        let stx = memchr::memchr(STX, readout).ok_or(NotUnderstood)?;
        let block = readout[stx + 1..].iter().chain(&behind[..=etx]);
        let sum = block.fold(0, |sum, byte| sum ^ byte);
        let given = behind.get(etx + 1).ok_or(NotUnderstood)?;
        return if (sum ^ given) & 0x7f == 0 { Ok(true) } else { Err(NotUnderstood) };
    }
    let behind = behind.trim_ascii();
    if behind.is_empty() {
        return Ok(false);
    }
    // "P1 Companion Standard", section 6.2: CRC16 of everything from `/` to `!`.
    let given = std::str::from_utf8(behind).ok().filter(|crc| crc.len() == 4);
    let given = given.and_then(|crc| u32::from_str_radix(crc, 16).ok());
    if given == Some(Sum::Crc16Arc.of(readout)) { Ok(true) } else { Err(NotUnderstood) }
}

/// The groups in brackets of one data set.
struct Groups<'a> {
    all: [&'a str; GROUPS_MAX],
    count: usize,
}

/// A code, its groups, and what follows.
type DataSet<'a> = (&'a str, Groups<'a>, &'a str);

/// The next data set. Line ends may stand anywhere between two groups.
fn data_set(text: &str) -> Result<Option<DataSet<'_>>, NotUnderstood> {
    let space = |c: char| c.is_ascii_whitespace() || c == '\x02';
    let text = text.trim_start_matches(space);
    if text.is_empty() {
        return Ok(None);
    }
    let (code, mut rest) = text.split_at(text.find('(').ok_or(NotUnderstood)?);
    // A line of something else before it.
    let code = code.rsplit(['\r', '\n']).next().unwrap_or_default().trim_ascii();
    let mut groups = Groups { all: [""; GROUPS_MAX], count: 0 };
    while let Some(group) = rest.strip_prefix('(') {
        let (group, after) = group.split_once(')').ok_or(NotUnderstood)?;
        if let Some(place) = groups.all.get_mut(groups.count) {
            *place = group;
        }
        groups.count += 1;
        rest = after.trim_start_matches(space);
    }
    Ok(Some((code, groups, rest)))
}

/// `001581.123*kWh`; also without a unit.
fn with_unit(group: &str) -> (Held<'_>, Option<Measured>) {
    match group.split_once('*') {
        Some((held, unit)) => (Held::Text(held), Some(Measured::parse(unit))),
        None => (Held::Text(group), None),
    }
}

/// A time stamp: `YYMMDDhhmmss` with S or W for summer or winter, or without.
fn is_time(group: &str) -> bool {
    let digits = group.strip_suffix(['S', 'W']).unwrap_or(group);
    digits.len() == 12 && digits.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use proptest::prelude::*;
    use reading::Kind;

    use super::super::obis::tests::all;
    use super::super::tests::listed;
    use super::*;

    /// Telegrams published with `dsmr_parser` (ndokter): the examples of "P1
    /// Companion Standard", versions 2.2, 3.0 and 5.0, and one of a Kaifa meter.
    const V2_2: &str = include_str!("../../../telegrams/dsmr-2.2.txt");
    const V3: &str = include_str!("../../../telegrams/dsmr-3.txt");
    const V4: &str = include_str!("../../../telegrams/dsmr-4.2.txt");
    const V5: &str = include_str!("../../../telegrams/dsmr-5.txt");
    /// An EasyMeter Q3D's, in D0's mode D.
    const Q3D: &str = include_str!("../../../telegrams/d0-q3d.txt");

    fn said(readout: &str) -> String {
        let more = ["1-0:1.8.0", "0-1:24.2.1", "1-0:96.5.5", "F.F", "1.6.0"];
        let fields = all(&more);
        let mut format = Readout(Registers::new(&fields).unwrap());
        listed(&fields, |batch| format.parse(readout.as_bytes(), batch))
    }

    #[test]
    fn p1_of_version_2_2_has_a_reading_in_two_lines_and_no_crc() {
        expect![[r#"
            energy_import_t1 = 1.001
            energy_import_t2 = 1.001
            energy_export_t1 = 1.001
            energy_export_t2 = 1.001
            power = 1010
            power_import = 1010
            power_export = 0
            tariff = 1
            meter = "00000000000000"
            message = ""
            gas = 1.001
            identification = "ISk5\\2MT382-1004"
        "#]]
        .assert_eq(&said(V2_2));
    }

    #[test]
    fn p1_of_version_3() {
        expect![[r#"
            energy_import_t1 = 12345.678
            energy_import_t2 = 12345.678
            energy_export_t1 = 12345.678
            energy_export_t2 = 12345.678
            power = 1190
            power_import = 1190
            power_export = 0
            tariff = 2
            meter = "4B384547303034303436333935353037"
            message = "303132333435363738393A3B3C3D3E3F303132333435363738393A3B3C3D3E3F303132333435363738393A3B3C3D3E3F303132333435363738393A3B3C3D3E3F303132333435363738393A3B3C3D3E3F"
            gas = 1.001
            identification = "ISk5\\2MT382-1000"
        "#]].assert_eq(&said(V3));
    }

    #[test]
    fn p1_of_version_4() {
        expect![[r#"
            energy_import_t1 = 1581.123
            energy_import_t2 = 1435.706
            energy_export_t1 = 0
            energy_export_t2 = 0
            power = 2027
            power_import = 2027
            power_export = 0
            power_import_l1 = 170
            power_import_l2 = 1247
            power_import_l3 = 209
            power_export_l1 = 0
            power_export_l2 = 0
            power_export_l3 = 0
            current_l1 = 0
            current_l2 = 6
            current_l3 = 2
            tariff = 2
            power_failures = 15
            power_failures_long = 7
            voltage_sags_l1 = 0
            voltage_sags_l2 = 0
            voltage_sags_l3 = 0
            voltage_swells_l1 = 0
            voltage_swells_l2 = 0
            voltage_swells_l3 = 0
            meter = "3960221976967177082151037881335713"
            meter_time = "161113205757W"
            message = ""
            version = "42"
            gas = 981.443
            identification = "KFM5KAIFA-METER"
            0-1:24.2.1 = 981.443
        "#]]
        .assert_eq(&said(V4));
    }

    #[test]
    fn p1_of_version_5() {
        expect![[r#"
            energy_import_t1 = 4.426
            energy_import_t2 = 2.399
            energy_export_t1 = 2.444
            energy_export_t2 = 0
            power = 244
            power_import = 244
            power_export = 0
            power_import_l1 = 70
            power_import_l2 = 32
            power_import_l3 = 142
            power_export_l1 = 0
            power_export_l2 = 0
            power_export_l3 = 0
            voltage_l1 = 230
            voltage_l2 = 230
            voltage_l3 = 229
            current_l1 = 0.48
            current_l2 = 0.44
            current_l3 = 0.86
            tariff = 2
            power_failures = 13
            power_failures_long = 0
            voltage_sags_l1 = 0
            voltage_sags_l2 = 0
            voltage_sags_l3 = 0
            voltage_swells_l1 = 0
            voltage_swells_l2 = 0
            voltage_swells_l3 = 0
            meter = "4B384547303034303436333935353037"
            meter_time = "170102192002W"
            message = ""
            version = "50"
            gas = 0.107
            identification = "ISk5\\2MT382-1000"
            0-1:24.2.1 = 0.107
        "#]]
        .assert_eq(&said(V5));
    }

    #[test]
    fn d0_in_mode_d() {
        expect![[r#"
            energy_import = 52185.7825309
            energy_export = 19949.3221493
            power = 2124.86
            power_import = 2124.86
            power_import_l1 = 747.85
            power_import_l2 = 737.28
            power_import_l3 = 639.73
            meter = "0272031312565"
            identification = "ESY5Q3DB1024 V3.04"
            1-0:1.8.0 = 52185.7825309
            1-0:96.5.5 = 80
        "#]]
        .assert_eq(&said(Q3D));
    }

    /// IEC 62056-21, section 6.4: STX behind the first line, and a block check
    /// character behind ETX; old meters leave medium and unit out.
    fn mode_c() -> String {
        let block = "F.F(00)\r\n0.0.0(12345678)\r\n1.8.0(012345.6)\r\n1.8.0*01(011111.1)\r\n\
            2.8.0(000012.3*kWh)1.6.0(03.14*kW)(2411240815)\r\n!\r\n\x03";
        let sum = block.bytes().fold(0, |sum, byte| sum ^ byte);
        format!("/LGZ4ZMF100AC.M26\r\n\x02{block}{}", char::from(sum))
    }

    #[test]
    fn d0_in_mode_c() {
        expect![[r#"
            energy_import = 12345.6
            energy_export = 12.3
            meter = "12345678"
            identification = "LGZ4ZMF100AC.M26"
            1-0:1.8.0 = 12345.6
            F.F = "00"
            1.6.0 = 3140
        "#]]
        .assert_eq(&said(&mode_c()));
    }

    /// e-MUCS H, section 5.2: Belgian gas is 24.2.3, water comes on another
    /// channel, and 1.6.0 has the time of the peak first.
    #[test]
    fn p1_in_belgium() {
        let readout = "/FLU5\\253770234_A\r\n\r\n0-0:96.1.4(50217)\r\n\
            1-0:1.8.1(000171.155*kWh)\r\n1-0:1.6.0(200509134558S)(02.589*kW)\r\n\
            0-1:24.1.0(003)\r\n0-1:24.2.3(200512134558S)(00112.384*m3)\r\n\
            0-2:24.1.0(007)\r\n0-2:24.2.1(200512134558S)(00872.234*m3)\r\n!";
        let crc = Sum::Crc16Arc.of(readout.as_bytes());
        expect![[r#"
            energy_import_t1 = 171.155
            gas = 112.384
            water = 872.234
            identification = "FLU5\\253770234_A"
            1.6.0 = 2589
        "#]]
        .assert_eq(&said(&format!("{readout}{crc:04X}\r\n")));
    }

    /// The unit that a meter gives is the unit of its register, or it is neither.
    #[test]
    fn a_register_in_quite_another_unit_is_bad() {
        let fields = [("energy_import".to_owned(), Kind::Number)];
        let mut format = Readout(Registers::new(&fields).unwrap());
        let mut batch = Batch::default();
        format.parse(b"/ABC5\r\n1.8.0(1.5*kW)1.8.0(1*MWh)1.8.0(x)\r\n!\r\n", &mut batch).unwrap();
        let values: Vec<_> = batch.samples.iter().map(|sample| sample.value.number()).collect();
        assert_eq!(values, [None, Some(1000.0), None]);
    }

    #[test]
    fn a_gas_meter_is_told_of_once_for_each_time_it_was_read() {
        let fields = [("gas".to_owned(), Kind::Number)];
        let mut format = Readout(Registers::new(&fields).unwrap());
        let mut batch = Batch::default();
        let later = V2_2.replace("161107190000", "161107200000");
        for telegram in [V2_2, V2_2, &later, &later] {
            format.parse(telegram.as_bytes(), &mut batch).unwrap();
        }
        assert_eq!(batch.samples.len(), 2);
    }

    #[test]
    fn a_flipped_bit_or_a_lost_byte_is_not_understood() {
        let fields = all(&[]);
        let block = mode_c();
        // What stands before STX nothing protects.
        let from = block.find('\x02').unwrap();
        for (readout, from) in [(V5.trim_end(), 0), (&block, from)] {
            let readout = readout.as_bytes();
            let mut format = Readout(Registers::new(&fields).unwrap());
            for at in from..readout.len() {
                let mut damaged = readout.to_vec();
                damaged[at] ^= 0x21;
                assert!(format.parse(&damaged, &mut Batch::default()).is_err(), "{at}");
                damaged = readout.to_vec();
                damaged.remove(at);
                assert!(format.parse(&damaged, &mut Batch::default()).is_err(), "{at}");
            }
        }
    }

    #[test]
    fn version_4_without_its_crc_is_not_understood() {
        let fields = all(&[]);
        let mut format = Readout(Registers::new(&fields).unwrap());
        let without = V4.replace("!6796", "!");
        assert!(format.parse(without.as_bytes(), &mut Batch::default()).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_can_stop_it(
            bytes: Vec<u8>,
            sets in "([-0-9.:*]{0,9}(\\([0-9SW*k(]{0,13}\\)?){0,9}[\r\n]{0,2}){0,9}",
        ) {
            let mut format = Readout(Registers::new(&all(&[])).unwrap());
            _ = format.parse(&bytes, &mut Batch::default());
            _ = format.parse(format!("/\r\n{sets}!\r\n").as_bytes(), &mut Batch::default());
        }
    }
}
