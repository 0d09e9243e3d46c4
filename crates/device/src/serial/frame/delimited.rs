use memchr::memmem;

use super::{FRAME_MAX, Found, begin};

/// Frames between two marks, such as STX and ETX. What the format sees is what
/// stands between them.
///
/// With a mark for the start, noise before it costs nothing, and noise that looks
/// like it at most the frame behind it; without one, noise spoils the frame in
/// which it comes.
#[derive(Clone, Debug)]
pub(crate) struct Delimited {
    /// By which a frame begins; may be empty, and may be the same as `end`.
    start: Vec<u8>,
    /// By which it ends; not empty.
    end: Vec<u8>,
    escape: Option<Escape>,
    /// Inside a frame without a beginning that is too long, until its end.
    skipping: bool,
}

/// How bytes are sent that look like a mark.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Escape {
    /// Stands before them.
    pub byte: u8,
    /// They are XORed with this; 0x20 in HDLC (RFC 1662, 4.2), often 0.
    pub xor: u8,
}

impl Delimited {
    pub(crate) fn new(start: Vec<u8>, end: Vec<u8>, escape: Option<Escape>) -> Delimited {
        Delimited { start, end, escape, skipping: false }
    }

    pub(super) fn begins(&self) -> bool {
        !self.start.is_empty()
    }

    pub(super) fn forget(&mut self) {
        self.skipping = false;
    }

    pub(super) fn find(&mut self, bytes: &mut [u8]) -> Found {
        if let Some(found) = begin(bytes, &self.start) {
            return found;
        }
        let head = self.start.len();
        // Further away it isn't looked for, or it would matter how much is there.
        let most = bytes.len().min(head + FRAME_MAX + self.end.len());
        let end = match self.mark(&bytes[head..most]) {
            Mark::End(length) => head + length,
            Mark::Start(length) => return Found::Noise(head + length),
            Mark::None if most < head + FRAME_MAX + self.end.len() => return Found::More,
            Mark::None if head > 0 => return Found::Noise(1),
            Mark::None if std::mem::replace(&mut self.skipping, true) => {
                return Found::Skip(FRAME_MAX);
            }
            // A mark may lie across the end of what is thrown away.
            Mark::None => return Found::Noise(FRAME_MAX),
        };
        // One mark may be both the end of a frame and the start of the next.
        let shared = self.start == self.end;
        let next = if shared { end } else { end + self.end.len() };
        if std::mem::take(&mut self.skipping) || end == head {
            return Found::Skip(next);
        }
        let length = unescape(&mut bytes[head..end], self.escape);
        // With escapes nothing within a frame can look like a beginning.
        let again = if head == 0 || shared || self.escape.is_some() { next } else { 1 };
        Found::Frame { at: head..head + length, next, again }
    }

    /// The first mark in what follows the start.
    fn mark(&self, bytes: &[u8]) -> Mark {
        let Some(escape) = self.escape else {
            return memmem::find(bytes, &self.end).map_or(Mark::None, Mark::End);
        };
        let mut at = 0;
        while at < bytes.len() {
            let rest = &bytes[at..];
            if rest[0] == escape.byte {
                at += 2;
            } else if rest.starts_with(&self.end) {
                return Mark::End(at);
            } else if self.begins() && rest.starts_with(&self.start) {
                return Mark::Start(at);
            } else {
                at += 1;
            }
        }
        Mark::None
    }
}

enum Mark {
    /// The frame ends before it.
    End(usize),
    /// Another frame begins here; this one has lost its end.
    Start(usize),
    None,
}

/// Takes the escapes out, in place, and gives the length of what is left.
fn unescape(bytes: &mut [u8], escape: Option<Escape>) -> usize {
    let Some(escape) = escape else { return bytes.len() };
    let (mut from, mut to) = (0, 0);
    while from < bytes.len() {
        let escaped = bytes[from] == escape.byte && from + 1 < bytes.len();
        from += usize::from(escaped);
        bytes[to] = if escaped { bytes[from] ^ escape.xor } else { bytes[from] };
        (from, to) = (from + 1, to + 1);
    }
    to
}
