//! Telegrams of published protocols in whatever pieces and noise they come.

use proptest::prelude::*;
use reading::Kind;

use super::format::{Format, Nmea, Readout, Registers, Sml, VeDirect};
use super::frame::{FRAME_MAX, Framer, Frames, Line, Piece};
use crate::Batch;

const BMV: &[u8] = b"\r\nPID\t0x203\r\nV\t12065\r\nI\t-7625\r\nP\t-92\r\nCE\t-65473\r\nSOC\t839\
    \r\nTTG\t942\r\nAlarm\tOFF\r\nRelay\tOFF\r\nAR\t0\r\nBMV\t700\r\nFW\t0308\r\nChecksum\tq";
const GGA: &[u8] = b"$GPGGA,123519,4807.038,N,01131.000,E,1,08,0.9,545.4,M,46.9,M,,*47\r\n";
const DSMR: &[u8] = include_bytes!("../../telegrams/dsmr-5.txt");
const SML: &str = include_str!("../../telegrams/sml-dzg-dvs7420.hex");

fn sml() -> Vec<u8> {
    let digits: Vec<u8> = SML.bytes().filter(u8::is_ascii_hexdigit).collect();
    let byte = |two: &[u8]| u8::from_str_radix(std::str::from_utf8(two).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

/// IEC 62056-21, section 6.4: a readout with a block check character.
fn mode_c() -> Vec<u8> {
    let block = b"0.0.0(12345678)\r\n1.8.0(012345.6*kWh)\r\n!\r\n\x03";
    let sum = block.iter().fold(0, |sum, byte| sum ^ byte);
    [b"/LGZ4ZMF100AC.M26\r\n\x02", &block[..], &[sum]].concat()
}

/// Each protocol: how it is read, and a telegram that says one number.
fn protocols() -> Vec<(Framer, Format, Vec<u8>, f64)> {
    let field = |name: &str| [(name.to_owned(), Kind::Number)];
    let registers = |name| Registers::new(&field(name)).unwrap();
    let nmea = Format::Nmea(Nmea::new(&field("altitude")).unwrap());
    let vedirect = Format::VeDirect(VeDirect::new(&field("SOC")).unwrap());
    let readout = |name| Format::Readout(Readout(registers(name)));
    vec![
        (Framer::Line(Line::default()), nmea, GGA.to_vec(), 545.4),
        (Framer::VeDirect, vedirect, BMV.to_vec(), 83.9),
        (Framer::Readout, readout("energy_import_t1"), DSMR.to_vec(), 4.426),
        (Framer::Readout, readout("energy_import"), mode_c(), 12345.6),
        (Framer::Sml, Format::Sml(Sml(registers("power"))), sml(), -105.5),
    ]
}

/// The numbers in the bytes, as they come in pieces.
fn numbers(framer: &Framer, format: &Format, bytes: &[u8], piece: usize) -> Vec<f64> {
    let (mut frames, mut format) = (Frames::new(framer.clone()), format.clone());
    let mut batch = Batch::default();
    for piece in bytes.chunks(piece) {
        frames.room()[..piece.len()].copy_from_slice(piece);
        frames.filled(piece.len());
        while let Some(piece) = frames.next() {
            if let Piece::Frame(frame) = piece
                && format.parse(frame, &mut batch).is_err()
            {
                frames.reject();
            }
        }
        assert!(frames.room().len() >= FRAME_MAX, "no room for the next piece");
    }
    batch.samples.iter().filter_map(|sample| sample.value.number()).collect()
}

#[test]
fn one_after_another_in_pieces_of_any_size() {
    for (framer, format, telegram, number) in protocols() {
        let three = telegram.repeat(3);
        for piece in [1, 2, 3, 7, 64, 1000, 5000] {
            let found = numbers(&framer, &format, &three, piece);
            assert_eq!(found, [number; 3], "{framer:?} {piece}");
        }
    }
}

/// A reader that comes in the middle, and a plug that was pulled in the middle.
#[test]
fn half_a_telegram_costs_no_other() {
    for (framer, format, telegram, number) in protocols() {
        for at in 1..telegram.len() {
            let tail = [&telegram[at..], &telegram].concat();
            // Of NMEA and VE.Direct something may be left that is whole.
            let found = numbers(&framer, &format, &tail, 100);
            assert_eq!(found.last(), Some(&number), "{framer:?}: from {at}");
            if matches!(framer, Framer::Line(_)) {
                // What a lost line end joins is one line.
                continue;
            }
            let head = [&telegram[..at], &telegram].concat();
            let found = numbers(&framer, &format, &head, 100);
            assert_eq!(found, [number], "{framer:?}: up to {at}");
        }
    }
}

#[test]
fn a_flood_of_what_looks_like_a_beginning_holds_nothing_up() {
    let starts: [&[u8]; 6] = [
        b"/ABC",
        b"/ABC\r\n",
        b"/ABC\r\n!",
        b"\x1b\x1b\x1b\x1b\x01\x01\x01\x01",
        b"\r\nPID\t",
        b"\nChecksum\t",
    ];
    for (framer, format, telegram, number) in protocols() {
        for start in starts {
            let flood = [start.repeat(20_000), b"\n".to_vec(), telegram.repeat(2)].concat();
            let found = numbers(&framer, &format, &flood, 4096);
            assert_eq!(found.last(), Some(&number), "{framer:?} {start:x?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Noise in front of a telegram costs at most the first of two.
    #[test]
    fn noise_costs_at_most_the_telegram_behind_it(
        noise: Vec<u8>, times in 1_usize..200, piece in 1_usize..5000,
    ) {
        for (framer, format, telegram, number) in protocols() {
            let bytes = [noise.repeat(times), telegram.repeat(2)].concat();
            let found = numbers(&framer, &format, &bytes, piece);
            prop_assert_eq!(found.last(), Some(&number), "{:?}", framer);
        }
    }
}
