use memchr::memchr;

use super::{FRAME_MAX, Found, begin};

const STX: u8 = 0x02;
const ETX: u8 = 0x03;
/// How long the first line is at most: maker, rate and type.
const HEAD_MAX: usize = 64;
/// Behind `!` come at most four digits of a CRC, CR and LF.
const END_MAX: usize = 6;

/// Readouts of meters: from `/` to `!` and the end of its line or, when there was
/// an STX, to the block check character behind ETX.
///
/// A pause ends none: a meter may wait for seconds behind its first line.
#[derive(Clone, Debug)]
pub(crate) struct ReadoutFrame;

impl ReadoutFrame {
    pub(super) fn find(bytes: &[u8]) -> Found {
        if let Some(found) = begin(bytes, b"/") {
            return found;
        }
        let within = &bytes[..bytes.len().min(FRAME_MAX)];
        if !begins(within) {
            return Found::Noise(1);
        }
        match end(within) {
            Some(Some(end)) => Found::Frame { at: 0..end, next: end, again: 1 },
            None if within.len() < FRAME_MAX => Found::More,
            _ => Found::Noise(1),
        }
    }
}

/// Whether it may be the first line: `/`, the maker's three letters, and an end
/// that isn't far. Noise has a `/` every now and then.
fn begins(bytes: &[u8]) -> bool {
    let maker = &bytes[1..bytes.len().min(4)];
    maker.iter().all(u8::is_ascii_alphabetic)
        && (bytes.len() < HEAD_MAX || memchr(b'\n', &bytes[..HEAD_MAX]).is_some())
}

/// Where the readout ends; `None` when that hasn't come yet, and `Some(None)` when
/// this is no readout.
fn end(bytes: &[u8]) -> Option<Option<usize>> {
    let mark = memchr(b'!', bytes)?;
    let line = memchr(b'\n', &bytes[mark..]);
    let Some(line) = line.filter(|line| *line <= END_MAX) else {
        return (bytes.len() - mark > END_MAX).then_some(None);
    };
    let line = mark + line + 1;
    if memchr(STX, &bytes[..mark]).is_none() {
        return Some(Some(line));
    }
    match bytes.get(line)? {
        // And the character behind it.
        &ETX => bytes.get(line + 1).map(|_| Some(line + 2)),
        _ => Some(None),
    }
}
