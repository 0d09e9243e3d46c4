//! Checksums: which bytes of a frame they cover, and where they stand.

use std::ops::Range;

use crc::Crc;
use schemars::JsonSchema;
use serde::Deserialize;

use super::bytes::Endian;

/// How it is worked out. The names of CRCs are those of the CRC RevEng catalogue,
/// or what data sheets call them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
pub(crate) enum Sum {
    /// All bytes added up, modulo 256.
    #[serde(rename = "sum8")]
    Add8,
    /// The two's complement of that: with it all bytes add up to 0. Also known as
    /// LRC; of Winsen's sensors.
    #[serde(rename = "sum8-complement")]
    Complement8,
    /// All bytes added up, modulo 65536.
    #[serde(rename = "sum16")]
    Add16,
    /// All bytes XORed.
    #[serde(rename = "xor")]
    Xor,
    /// Polynomial 0x07 (SMBus).
    #[serde(rename = "crc8")]
    Crc8,
    /// Polynomial 0x31, reflected (1-Wire).
    #[serde(rename = "crc8-maxim")]
    Crc8Maxim,
    /// Polynomial 0x31, beginning with 0xff (Sensirion; NRSC-5).
    #[serde(rename = "crc8-sensirion")]
    Crc8Sensirion,
    /// Polynomial 0x8005, reflected, beginning with 0xffff; the low byte first.
    #[serde(rename = "crc16-modbus")]
    Crc16Modbus,
    /// Polynomial 0x8005, reflected (CRC-16/ARC, "CRC16", "IBM").
    #[serde(rename = "crc16-arc")]
    Crc16Arc,
    /// Polynomial 0x1021, beginning with 0xffff (CCITT-FALSE, IBM-3740).
    #[serde(rename = "crc16-ccitt")]
    Crc16Ccitt,
    /// Polynomial 0x1021, beginning with 0.
    #[serde(rename = "crc16-xmodem")]
    Crc16Xmodem,
    /// Polynomial 0x1021, reflected.
    #[serde(rename = "crc16-kermit")]
    Crc16Kermit,
    /// Polynomial 0x1021, reflected, inverted (HDLC, IBM-SDLC); the low byte first.
    #[serde(rename = "crc16-x25")]
    Crc16X25,
    /// Polynomial 0x04c11db7, reflected, inverted (Ethernet, ZIP).
    #[serde(rename = "crc32")]
    Crc32,
}

impl Sum {
    /// How many bytes it has.
    pub(crate) fn size(self) -> usize {
        match self {
            Sum::Add8 | Sum::Complement8 | Sum::Xor => 1,
            Sum::Crc8 | Sum::Crc8Maxim | Sum::Crc8Sensirion => 1,
            Sum::Crc32 => 4,
            _ => 2,
        }
    }

    /// In which order its bytes are sent, where all agree.
    fn endian(self) -> Option<Endian> {
        matches!(self, Sum::Crc16Modbus | Sum::Crc16X25).then_some(Endian::Little)
    }

    /// What it is of these bytes.
    pub(crate) fn of(self, bytes: &[u8]) -> u32 {
        const CRC8: Crc<u8> = Crc::<u8>::new(&crc::CRC_8_SMBUS);
        const MAXIM: Crc<u8> = Crc::<u8>::new(&crc::CRC_8_MAXIM_DOW);
        const SENSIRION: Crc<u8> = Crc::<u8>::new(&crc::CRC_8_NRSC_5);
        const MODBUS: Crc<u16> = Crc::<u16>::new(&crc::CRC_16_MODBUS);
        const ARC: Crc<u16> = Crc::<u16>::new(&crc::CRC_16_ARC);
        const CCITT: Crc<u16> = Crc::<u16>::new(&crc::CRC_16_IBM_3740);
        const XMODEM: Crc<u16> = Crc::<u16>::new(&crc::CRC_16_XMODEM);
        const KERMIT: Crc<u16> = Crc::<u16>::new(&crc::CRC_16_KERMIT);
        const X25: Crc<u16> = Crc::<u16>::new(&crc::CRC_16_IBM_SDLC);
        const CRC32: Crc<u32> = Crc::<u32>::new(&crc::CRC_32_ISO_HDLC);
        let sum = || bytes.iter().fold(0_u16, |sum, byte| sum.wrapping_add((*byte).into()));
        match self {
            Sum::Add8 => u32::from(sum() & 0xff),
            Sum::Complement8 => u32::from(sum().wrapping_neg() & 0xff),
            Sum::Add16 => sum().into(),
            Sum::Xor => bytes.iter().fold(0, |xor, byte| xor ^ byte).into(),
            Sum::Crc8 => CRC8.checksum(bytes).into(),
            Sum::Crc8Maxim => MAXIM.checksum(bytes).into(),
            Sum::Crc8Sensirion => SENSIRION.checksum(bytes).into(),
            Sum::Crc16Modbus => MODBUS.checksum(bytes).into(),
            Sum::Crc16Arc => ARC.checksum(bytes).into(),
            Sum::Crc16Ccitt => CCITT.checksum(bytes).into(),
            Sum::Crc16Xmodem => XMODEM.checksum(bytes).into(),
            Sum::Crc16Kermit => KERMIT.checksum(bytes).into(),
            Sum::Crc16X25 => X25.checksum(bytes).into(),
            Sum::Crc32 => CRC32.checksum(bytes),
        }
    }
}

/// A place in a frame: from its first byte on, from 0, or, when negative, from its
/// end on, -1 being the last byte.
pub(crate) fn place(frame: &[u8], at: i32) -> Option<usize> {
    let at = i64::from(at);
    let from = if at < 0 { i64::try_from(frame.len()).ok()? } else { 0 };
    usize::try_from(from + at).ok()
}

/// A frame's checksum.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Checksum {
    /// How it is worked out.
    pub(crate) kind: Sum,
    /// Where it stands, from 0; negative from the end on, where it stands by
    /// default.
    pub(crate) at: Option<i32>,
    /// The first byte that it covers.
    #[serde(default)]
    pub(crate) from: i32,
    /// The first byte that it doesn't cover any more; by default its own.
    pub(crate) to: Option<i32>,
    /// In which order its bytes come; by default as is usual for its kind, else as
    /// in the frame's fields.
    pub(crate) endian: Option<Endian>,
}

impl Checksum {
    /// Whether it is right. `endian` is that of the frame's fields.
    pub(crate) fn is_right(&self, frame: &[u8], endian: Endian) -> bool {
        self.places(frame).is_some_and(|(at, covered)| {
            let endian = self.endian.or(self.kind.endian()).unwrap_or(endian);
            u64::from(self.kind.of(&frame[covered])) == endian.unsigned(&frame[at])
        })
    }

    /// Where it stands and what it covers, if the frame has both.
    fn places(&self, frame: &[u8]) -> Option<(Range<usize>, Range<usize>)> {
        let size = self.kind.size();
        let at = match self.at {
            Some(at) => place(frame, at)?,
            None => frame.len().checked_sub(size)?,
        };
        let to = self.to.map_or(Some(at), |to| place(frame, to))?;
        let (own, covered) = (at..at + size, place(frame, self.from)?..to);
        let inside = own.end <= frame.len() && covered.end <= frame.len();
        (inside && covered.start <= covered.end).then_some((own, covered))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The check values of the catalogue: each of "123456789".
    #[test]
    fn every_kind_has_its_check_value() {
        for (kind, check) in [
            (Sum::Add8, 0xdd),
            (Sum::Complement8, 0x23),
            (Sum::Add16, 0x1dd),
            (Sum::Xor, 0x31),
            (Sum::Crc8, 0xf4),
            (Sum::Crc8Maxim, 0xa1),
            (Sum::Crc8Sensirion, 0xf7),
            (Sum::Crc16Modbus, 0x4b37),
            (Sum::Crc16Arc, 0xbb3d),
            (Sum::Crc16Ccitt, 0x29b1),
            (Sum::Crc16Xmodem, 0x31c3),
            (Sum::Crc16Kermit, 0x2189),
            (Sum::Crc16X25, 0x906e),
            (Sum::Crc32, 0xcbf4_3926),
        ] {
            assert_eq!(kind.of(b"123456789"), check, "{kind:?}");
        }
    }

    fn checksum(kind: Sum, at: Option<i32>, from: i32, to: Option<i32>) -> Checksum {
        Checksum { kind, at, from, to, endian: None }
    }

    #[test]
    fn it_stands_where_it_is_said_to() {
        let right = |sum: Checksum, frame: &[u8]| sum.is_right(frame, Endian::Big);
        assert!(right(checksum(Sum::Add16, None, 0, None), &[0x80, 0x81, 0x01, 0x01]));
        assert!(right(checksum(Sum::Add8, Some(-2), 1, None), &[9, 1, 2, 3, 0xab]));
        assert!(right(checksum(Sum::Add8, Some(0), 1, Some(-1)), &[3, 1, 2, 9]));
        // The end of Modbus's question 11 03 00 6B 00 03 (serial line, 6.2.2).
        let modbus = checksum(Sum::Crc16Modbus, None, 0, None);
        assert!(right(modbus, &[0x11, 0x03, 0x00, 0x6b, 0x00, 0x03, 0x76, 0x87]));
        assert!(!right(checksum(Sum::Add8, None, 0, None), &[1, 2, 4]));
    }

    #[test]
    fn what_isnt_there_is_wrong() {
        for frame in [&[][..], &[0], &[0, 0]] {
            for (at, from, to) in
                [(None, 5, None), (Some(9), 0, None), (Some(-9), 0, None), (Some(0), 1, Some(9))]
            {
                assert!(!checksum(Sum::Add8, at, from, to).is_right(frame, Endian::Big));
            }
        }
    }
}
