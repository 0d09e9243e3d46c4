//! SML, the Smart Message Language of German meters: BSI TR-03109-1, annex IV,
//! "Feinspezifikation Drahtgebundene LMN-Schnittstelle, Teil b: SML", version
//! 1.04.
//!
//! A file is `1b1b1b1b 01010101`, messages, and `1b1b1b1b 1a`, with how many bytes
//! fill it up and a CRC. A message is a tree of elements, each of which begins
//! with its type and length; a reading is in a list of seven within the answer to
//! GetList.

use std::borrow::Cow;

use super::NotUnderstood;
use super::decimal::Decimal;
use super::obis::{Code, Held, Measured, Registers};
use crate::Batch;
use crate::serial::checksum::Sum;

/// Section 8: begins what isn't data.
const ESCAPE: [u8; 4] = [0x1b; 4];
/// What stands before and behind the messages.
const HEAD: usize = 8;
const TAIL: usize = 8;
/// Section 6.1.2: the tag of SML_GetList.Res.
const GET_LIST_RES: u64 = 0x0701;

/// Takes the wanted registers out of files.
#[derive(Clone)]
pub(crate) struct Sml(pub(crate) Registers);

impl Sml {
    /// One file, from its first escape to its CRC.
    pub(super) fn parse(&mut self, file: &[u8], batch: &mut Batch) -> Result<(), NotUnderstood> {
        let (covered, crc) = file.split_last_chunk().ok_or(NotUnderstood)?;
        if Sum::Crc16X25.of(covered) != u32::from(u16::from_le_bytes(*crc)) {
            return Err(NotUnderstood);
        }
        let messages = file.get(HEAD..file.len().saturating_sub(TAIL)).ok_or(NotUnderstood)?;
        let messages = unescaped(messages);
        let mut cursor = Cursor(&messages);
        while !cursor.at_end() {
            self.message(&mut cursor, batch).ok_or(NotUnderstood)?;
        }
        Ok(())
    }

    /// SML_Message, section 6.1. What it says is left alone unless it is the answer
    /// that has the readings.
    fn message(&mut self, cursor: &mut Cursor<'_>, batch: &mut Batch) -> Option<()> {
        cursor.list(6)?;
        // Transaction, group, what to do on an error.
        cursor.skip(3)?;
        cursor.list(2)?;
        if cursor.unsigned()? == GET_LIST_RES {
            self.get_list(cursor, batch)?;
        } else {
            cursor.skip(1)?;
        }
        // The CRC of the message, and its end.
        cursor.skip(2)
    }

    /// SML_GetList.Res, section 6.3.2.
    fn get_list(&mut self, cursor: &mut Cursor<'_>, batch: &mut Batch) -> Option<()> {
        cursor.list(7)?;
        // Client, server, name of the list, time.
        cursor.skip(4)?;
        let Element::List(entries) = cursor.element()? else { return None };
        let mut status = None;
        for _ in 0..entries {
            self.entry(cursor, &mut status, batch)?;
        }
        #[expect(clippy::cast_precision_loss, reason = "nobody has a status of 53 bits")]
        if let Some(status) = status {
            self.0.take_status(status as f64, batch);
        }
        // Signature, time of the gateway.
        cursor.skip(2)
    }

    /// SML_ListEntry, section 6.3.3.
    fn entry(
        &mut self,
        cursor: &mut Cursor<'_>,
        status: &mut Option<u64>,
        batch: &mut Batch,
    ) -> Option<()> {
        cursor.list(7)?;
        let Element::Bytes(name) = cursor.element()? else { return None };
        // Every entry has the same, or none.
        if let Element::Unsigned(found) = cursor.element()? {
            status.get_or_insert(found);
        }
        // The time of the value.
        cursor.skip(1)?;
        let unit = match cursor.element()? {
            Element::Unsigned(unit) => Measured::numbered(unit),
            _ => None,
        };
        let scaler = match cursor.element()? {
            Element::Integer(scaler) => i32::try_from(scaler).ok()?,
            Element::Unsigned(scaler) => i32::try_from(scaler).ok()?,
            _ => 0,
        };
        // A list here would be a profile or the like, which is skipped.
        let before = *cursor;
        let held = cursor.element()?;
        if matches!(held, Element::List(_)) {
            *cursor = before;
            cursor.skip(1)?;
        }
        // The signature of the value.
        cursor.skip(1)?;

        let [a, b, c, d, e, f] = *name else { return Some(()) };
        let code = Code { medium: Some((a, b)), register: [c, d, e, f] };
        match held {
            Element::Integer(number) => {
                let number = Held::Number(Decimal::new(number, scaler));
                self.0.take(code, number, unit, batch);
            }
            Element::Unsigned(number) => {
                let number = Held::Number(Decimal::new(i64::try_from(number).ok()?, scaler));
                self.0.take(code, number, unit, batch);
            }
            Element::Bytes(bytes) if !bytes.is_empty() => {
                let is_text = bytes.iter().all(|byte| (b' '..=b'~').contains(byte));
                let text = if is_text {
                    String::from_utf8_lossy(bytes)
                } else {
                    Cow::Owned(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
                };
                self.0.take(code, Held::Text(&text), None, batch);
            }
            _ => {}
        }
        Some(())
    }
}

/// Section 8.2: an escape in the data is doubled.
fn unescaped(messages: &[u8]) -> Cow<'_, [u8]> {
    let doubled = [ESCAPE, ESCAPE].concat();
    let Some(first) = memchr::memmem::find(messages, &doubled) else {
        return Cow::Borrowed(messages);
    };
    let mut single = messages[..first].to_vec();
    let mut rest = &messages[first..];
    while let Some(at) = memchr::memmem::find(rest, &doubled) {
        single.extend_from_slice(&rest[..at + ESCAPE.len()]);
        rest = &rest[at + doubled.len()..];
    }
    single.extend_from_slice(rest);
    Cow::Owned(single)
}

/// One element, but of a list only its beginning.
#[derive(Clone, Copy, Debug)]
enum Element<'a> {
    /// A string of octets; one that is left out is empty.
    Bytes(&'a [u8]),
    Boolean,
    Integer(i64),
    Unsigned(u64),
    /// So many elements follow.
    List(usize),
    EndOfMessage,
}

/// What is left of the messages.
#[derive(Clone, Copy)]
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    /// Whether only what fills a file up is left.
    fn at_end(&self) -> bool {
        self.0.iter().all(|byte| *byte == 0)
    }

    /// Section 6.2.2: in the first byte a bit for "more follow", three for the type
    /// and four for the length, in each further byte four more for the length.
    fn element(&mut self) -> Option<Element<'a>> {
        let (&first, mut rest) = self.0.split_first()?;
        if first == 0 {
            self.0 = rest;
            return Some(Element::EndOfMessage);
        }
        let kind = first & 0x70;
        let mut length = usize::from(first & 0x0f);
        let mut head = 1;
        let mut more = first & 0x80 != 0;
        while more {
            let (&next, after) = rest.split_first()?;
            // Longer than any file.
            if head > 3 || next & 0x70 != 0 {
                return None;
            }
            length = length << 4 | usize::from(next & 0x0f);
            more = next & 0x80 != 0;
            rest = after;
            head += 1;
        }
        if kind == 0x70 {
            self.0 = rest;
            return Some(Element::List(length));
        }
        let (bytes, rest) = rest.split_at_checked(length.checked_sub(head)?)?;
        self.0 = rest;
        match (kind, bytes.len()) {
            (0x00, _) => Some(Element::Bytes(bytes)),
            (0x40, 1) => Some(Element::Boolean),
            // Leading bytes that say nothing may be left out.
            (0x50, 1..=8) => {
                let sign = if bytes[0] & 0x80 == 0 { 0 } else { -1 };
                Some(Element::Integer(bytes.iter().fold(sign, |n, b| n << 8 | i64::from(*b))))
            }
            (0x60, 1..=8) => {
                Some(Element::Unsigned(bytes.iter().fold(0, |n, b| n << 8 | u64::from(*b))))
            }
            _ => None,
        }
    }

    /// The beginning of a list of just so many.
    fn list(&mut self, length: usize) -> Option<()> {
        matches!(self.element()?, Element::List(found) if found == length).then_some(())
    }

    fn unsigned(&mut self) -> Option<u64> {
        match self.element()? {
            Element::Unsigned(number) => Some(number),
            _ => None,
        }
    }

    /// Skips so many elements, with everything in them. A count instead of a
    /// recursion: how deep it goes is the sender's to say.
    fn skip(&mut self, count: usize) -> Option<()> {
        let mut left = count;
        while left > 0 {
            left -= 1;
            if let Element::List(length) = self.element()? {
                left = left.checked_add(length)?;
            }
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use proptest::prelude::*;

    use super::super::obis::tests::all;
    use super::super::tests::listed;
    use super::*;

    /// The first whole file of each recording in `libsml-testing` (devZer0).
    const EMH: &str = include_str!("../../../telegrams/sml-emh-ed300l.hex");
    const ISKRA: &str = include_str!("../../../telegrams/sml-iskra-mt691.hex");
    const DZG: &str = include_str!("../../../telegrams/sml-dzg-dvs7420.hex");
    const HOLLEY: &str = include_str!("../../../telegrams/sml-holley-dtz541.hex");

    fn bytes(hex: &str) -> Vec<u8> {
        let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
        let byte = |two: &[u8]| u8::from_str_radix(std::str::from_utf8(two).unwrap(), 16).unwrap();
        digits.chunks(2).map(byte).collect()
    }

    fn said(file: &[u8]) -> String {
        let more = ["1-0:15.7.0", "1-0:0.0.9"];
        let fields = all(&more);
        let mut format = Sml(Registers::new(&fields).unwrap());
        listed(&fields, |batch| format.parse(file, batch))
    }

    #[test]
    fn files_of_meters() {
        expect![[r#"
            energy_import = 17243.6756
            energy_import_t1 = 17243.6756
            energy_import_t2 = 0
            power = 126.6
            meter = "06454d4801027156cd45"
            status = 432
            1-0:15.7.0 = 126.6
            1-0:0.0.9 = "06454d4801027156cd45"
        "#]]
        .assert_eq(&said(&bytes(EMH)));
        expect![[r#"
            energy_import = 198.9273
            power = 26
            meter = "0a0149534b0004325ec5"
            status = 1868036
        "#]]
        .assert_eq(&said(&bytes(ISKRA)));
        expect![[r#"
            energy_import = 13.2329
            energy_export = 1500.3213
            power = -105.5
            meter = "0a01445a4700039e2053"
            status = 1861892
        "#]]
        .assert_eq(&said(&bytes(DZG)));
        expect![[r#"
            energy_import_t1 = 0
            energy_import_t2 = 177.3601
            energy_export = 314.926
            power = 460
            voltage_l1 = 232.3
            voltage_l2 = 232.5
            voltage_l3 = 232.5
            current_l1 = 1.06
            current_l2 = 1.74
            current_l3 = 0.91
            frequency = 50
            meter = "0a01484c59020003a910"
            status = 1835268
        "#]]
        .assert_eq(&said(&bytes(HOLLEY)));
    }

    /// A file around messages, filled up and with its CRC.
    fn file(messages: &[u8]) -> Vec<u8> {
        let fill = messages.len().wrapping_neg() % 4;
        let mut file = [&ESCAPE[..], &[1; 4], messages, &vec![0; fill]].concat();
        file.extend(ESCAPE);
        file.extend([0x1a, u8::try_from(fill).unwrap()]);
        let crc = u16::try_from(Sum::Crc16X25.of(&file)).unwrap();
        file.extend(crc.to_le_bytes());
        file
    }

    /// A message with one entry in its list.
    fn message(entry: &[u8]) -> Vec<u8> {
        let head = [0x76, 2, 1, 0x62, 0, 0x62, 0, 0x72, 0x63, 7, 1, 0x77, 1, 2, 1, 1, 1, 0x71];
        [&head[..], entry, &[1, 1, 0x63, 0, 0, 0]].concat()
    }

    /// The entry of 1-0:16.7.0, in W.
    fn power(value: &[u8]) -> Vec<u8> {
        [&[0x77, 7, 1, 0, 16, 7, 0, 255, 1, 1, 0x62, 27, 0x52, 0][..], value, &[1]].concat()
    }

    #[test]
    fn numbers_of_every_length() {
        let watts = |value: &[u8]| said(&file(&message(&power(value))));
        assert_eq!(watts(&[0x52, 0xff]), "power = -1\n");
        assert_eq!(watts(&[0x53, 0xd6, 0xca]), "power = -10550\n");
        assert_eq!(watts(&[0x54, 0xff, 0xff, 0xfe]), "power = -2\n");
        assert_eq!(watts(&[0x62, 0xff]), "power = 255\n");
        assert_eq!(watts(&[0x69, 0, 0, 0, 0, 0, 0, 1, 0]), "power = 256\n");
        // Of a boolean, of a list, and of nothing there is no number.
        for value in [&[0x42, 1][..], &[0x72, 0x62, 1, 1], &[1]] {
            assert_eq!(watts(value), "", "{value:x?}");
        }
    }

    #[test]
    fn an_escape_in_the_data_is_doubled() {
        let entry = |text: &[u8]| {
            let length = u8::try_from(text.len() + 1).unwrap();
            [&[0x77, 7, 1, 0, 0, 0, 9, 255, 1, 1, 1, 1, length][..], text, &[1]].concat()
        };
        let doubled = entry(&[0x1b; 8]);
        let mut messages = message(&doubled);
        // What is counted is the data, not what is sent.
        let place = messages.windows(2).position(|two| two == [1, 9]).unwrap();
        messages[place + 1] = 5;
        let said = said(&file(&messages));
        assert_eq!(said, "meter = \"1b1b1b1b\"\n1-0:0.0.9 = \"1b1b1b1b\"\n");
    }

    #[test]
    fn a_flipped_bit_or_a_lost_byte_is_not_understood() {
        let mut format = Sml(Registers::new(&all(&[])).unwrap());
        let sound = bytes(DZG);
        for at in 0..sound.len() {
            let mut damaged = sound.clone();
            damaged[at] ^= 0x10;
            assert!(format.parse(&damaged, &mut Batch::default()).is_err(), "{at}");
            damaged.remove(at);
            assert!(format.parse(&damaged, &mut Batch::default()).is_err(), "{at}");
        }
    }

    /// A list within a list within a list costs no stack, and one that claims to
    /// have more elements than a file has bytes no time.
    #[test]
    fn lists_as_deep_and_as_long_as_they_claim() {
        let mut format = Sml(Registers::new(&[]).unwrap());
        let mut parse = |messages: &[u8]| format.parse(&file(messages), &mut Batch::default());
        for list in [&[0x71][..], &[0xff, 0x0f], &[0xff, 0x8f, 0x8f, 0x0f], &[0xff; 9]] {
            assert_eq!(parse(&list.repeat(4000)), Err(NotUnderstood));
            let message = [&[0x76][..], &list.repeat(4000)].concat();
            assert_eq!(parse(&message), Err(NotUnderstood));
        }
    }

    proptest! {
        #[test]
        fn no_bytes_can_stop_it(bytes: Vec<u8>, at in 0_usize..200, byte: u8) {
            let mut format = Sml(Registers::new(&all(&[])).unwrap());
            _ = format.parse(&bytes, &mut Batch::default());
            _ = format.parse(&file(&bytes), &mut Batch::default());
            _ = format.parse(&file(&message(&power(&bytes))), &mut Batch::default());
            let mut messages = self::bytes(DZG)[HEAD..].to_vec();
            messages[at] = byte;
            messages.truncate(messages.len() - TAIL);
            _ = format.parse(&file(&messages), &mut Batch::default());
        }
    }
}
