use memchr::memchr2;

use super::{FRAME_MAX, Found};

/// Lines: CR, LF and CRLF all end one; empty lines are left out. Noise spoils the
/// line in which it comes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Line {
    /// Inside a line that is too long, until its end.
    skipping: bool,
}

impl Line {
    pub(super) fn forget(&mut self) {
        self.skipping = false;
    }

    pub(super) fn find(&mut self, bytes: &[u8], seen: usize) -> Found {
        let end = memchr2(b'\n', b'\r', &bytes[seen..]).map(|length| seen + length);
        ended(bytes, end, &mut self.skipping)
    }
}

/// A frame that has nothing but an end, of one byte.
pub(super) fn ended(bytes: &[u8], end: Option<usize>, skipping: &mut bool) -> Found {
    match end {
        Some(end) if std::mem::take(skipping) || end == 0 => Found::Skip(end + 1),
        Some(end) if end > FRAME_MAX => Found::Noise(end + 1),
        Some(end) => Found::Frame { at: 0..end, next: end + 1, again: end + 1 },
        None if *skipping && !bytes.is_empty() => Found::Skip(bytes.len()),
        None if bytes.len() > FRAME_MAX => {
            *skipping = true;
            Found::Noise(bytes.len())
        }
        None => Found::More,
    }
}
