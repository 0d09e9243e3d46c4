//! Recordings: what went over a device's line, as a text file, and what its
//! driver makes of that without the device.
//!
//! The first line is a JSON object with the version of the format, the device,
//! when the recording began and the device's table of the configuration:
//!
//! ```text
//! {"recording":1,"device":"air","began":"2026-11-24T08:20:03.000000Z","config":{"driver":"serial",…}}
//! 0.412345 < 424d001c0001
//! 10.000213 > ff0186000000000079
//! ```
//!
//! Every other line is a piece of what went over the line: the seconds since then,
//! `<` when it came from the device and `>` when it was sent to it, and the bytes
//! in hexadecimal. Lines that begin with `#` are for people, as are empty ones.

mod replay;
mod tape;

use std::time::Duration;

use reading::Timestamp;
use serde::{Deserialize, Serialize};

pub use replay::{Replay, Replayed};
pub use tape::{Tap, Tape};

/// The version of the format that is written, and the only one that is read.
const VERSION: u32 = 1;
/// Bytes of one line, so that an editor shows it.
const LINE_BYTES: usize = 64;

/// The first line.
#[derive(Deserialize, Serialize)]
struct Head {
    recording: u32,
    device: String,
    began: String,
    config: toml::Table,
}

/// Which way it went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// From the device.
    From,
    /// To the device: a question.
    To,
}

/// A piece of what went over the line.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Piece {
    after: Duration,
    way: Way,
    bytes: Vec<u8>,
}

impl Piece {
    /// `0.412345 < 424d001c`, and so on when it is long.
    fn write(after: Duration, way: Way, bytes: &[u8], out: &mut String) {
        use std::fmt::Write as _;
        for bytes in bytes.chunks(LINE_BYTES) {
            let way = if way == Way::From { '<' } else { '>' };
            // A string takes all.
            _ = write!(out, "{}.{:06} {way} ", after.as_secs(), after.subsec_micros());
            for byte in bytes {
                _ = write!(out, "{byte:02x}");
            }
            out.push('\n');
        }
    }

    /// # Errors
    /// What was expected.
    fn parse(line: &str) -> Result<Piece, &'static str> {
        let mut words = line.split_ascii_whitespace();
        let (after, way, hex) = (words.next(), words.next(), words.next());
        let after = after.and_then(seconds).ok_or("expected seconds, such as 0.412345")?;
        let way = match way {
            Some("<") => Way::From,
            Some(">") => Way::To,
            _ => return Err("expected < for what the device said, or > for what it was asked"),
        };
        let bytes = hex.and_then(bytes).filter(|_| words.next().is_none());
        let bytes = bytes.ok_or("expected bytes in hexadecimal, such as 424d001c")?;
        Ok(Piece { after, way, bytes })
    }
}

/// Seconds with at most six decimals; the longest recording is some years.
fn seconds(text: &str) -> Option<Duration> {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || whole.len() > 9 || decimals.len() > 6 || !digits(whole) {
        return None;
    }
    let micros = format!("{decimals:0<6}");
    let micros: u32 = micros.parse().ok().filter(|_| digits(decimals))?;
    Some(Duration::new(whole.parse().ok()?, micros * 1000))
}

fn bytes(hex: &str) -> Option<Vec<u8>> {
    let digit = |digit: u8| char::from(digit).to_digit(16).and_then(|d| u8::try_from(d).ok());
    let pairs = hex.as_bytes().chunks(2);
    pairs.map(|pair| Some(digit(pair[0])? << 4 | digit(*pair.get(1)?)?)).collect()
}

/// A time so much later.
fn later(than: Timestamp, after: Duration) -> Timestamp {
    let micros = i64::try_from(after.as_micros()).unwrap_or(i64::MAX);
    Timestamp::from_micros(than.as_micros().saturating_add(micros))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_is_written_and_read_back() {
        let mut out = String::new();
        let after = Duration::new(12, 345_000);
        let long: Vec<u8> = (0..=99).collect();
        Piece::write(after, Way::To, &long, &mut out);
        let pieces: Vec<_> = out.lines().map(|line| Piece::parse(line).unwrap()).collect();
        assert_eq!(pieces.len(), 2);
        assert!(pieces.iter().all(|piece| piece.after == after && piece.way == Way::To));
        assert_eq!(pieces.concat_bytes(), long);
        assert!(out.starts_with("12.000345 > 000102"), "{out}");
    }

    trait Concat {
        fn concat_bytes(&self) -> Vec<u8>;
    }

    impl Concat for Vec<Piece> {
        fn concat_bytes(&self) -> Vec<u8> {
            self.iter().flat_map(|piece| piece.bytes.clone()).collect()
        }
    }

    #[test]
    fn what_a_hand_has_written_wrong_says_what_would_be_right() {
        for (line, expected) in [
            ("", "seconds"),
            ("x < 00", "seconds"),
            ("-1 < 00", "seconds"),
            ("1.0000001 < 00", "seconds"),
            ("1 = 00", "<"),
            ("1 < 0", "hexadecimal"),
            ("1 < 0g", "hexadecimal"),
            ("1 < é", "hexadecimal"),
            ("1 < 00 00", "hexadecimal"),
            ("1 <", "hexadecimal"),
        ] {
            let wrong = Piece::parse(line).unwrap_err();
            assert!(wrong.contains(expected), "{line}: {wrong}");
        }
        assert_eq!(Piece::parse("1.5 > 0A").unwrap().after, Duration::from_millis(1500));
    }
}
