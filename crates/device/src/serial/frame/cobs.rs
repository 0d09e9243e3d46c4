use memchr::memchr;

use super::Found;
use super::line::ended;

/// COBS: frames ended by 00, which never is within one (Cheshire and Baker,
/// "Consistent Overhead Byte Stuffing", 1999). Noise spoils the frame in which it
/// comes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cobs {
    /// Inside a frame that is too long, until its end.
    skipping: bool,
}

impl Cobs {
    pub(super) fn forget(&mut self) {
        self.skipping = false;
    }

    pub(super) fn find(&mut self, bytes: &mut [u8], seen: usize) -> Found {
        let end = memchr(0, &bytes[seen..]).map(|length| seen + length);
        match ended(bytes, end, &mut self.skipping) {
            Found::Frame { at, next, again } => match decode(&mut bytes[at]) {
                Some(length) => Found::Frame { at: 0..length, next, again },
                None => Found::Noise(next),
            },
            found => found,
        }
    }
}

/// Decodes in place, and gives the length of what is left; `None` when a block
/// reaches beyond the end. Each block is a byte n, n - 1 bytes as they are, and a
/// zero, unless n is 255 or the frame ends there.
fn decode(bytes: &mut [u8]) -> Option<usize> {
    let (mut from, mut to) = (0, 0);
    while let Some(&code) = bytes.get(from) {
        let block = from + 1..from + usize::from(code);
        if block.end > bytes.len() {
            return None;
        }
        from = block.end;
        bytes.copy_within(block.clone(), to);
        to += block.len();
        if code < 255 && from < bytes.len() {
            bytes[to] = 0;
            to += 1;
        }
    }
    Some(to)
}
