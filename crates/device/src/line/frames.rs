use memchr::memchr2;

/// The longest line. A longer one is the wrong baud rate, and is skipped.
const LINE_MAX: usize = 8 * 1024;
/// How much is asked of the port at once. A pty or a USB port gives at most
/// 4 KiB a call; this is a few of them.
const CHUNK: usize = 16 * 1024;

/// Cuts a stream of bytes into lines, and can't fail. CR, LF and CRLF all end
/// a line; empty lines are left out.
pub(crate) struct Frames {
    buffer: Box<[u8]>,
    /// Bytes of the buffer in use.
    filled: usize,
    /// Bytes looked at for an end of line without finding one.
    scanned: usize,
    /// Inside a line that is too long, until its end.
    skipping: bool,
}

/// What [`Frames`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Frame<'a> {
    /// A line without its end.
    Line(&'a [u8]),
    /// The beginning of a line that is too long.
    TooLong(&'a [u8]),
}

impl Frames {
    pub(crate) fn new() -> Frames {
        let buffer = vec![0; LINE_MAX + CHUNK].into();
        Frames { buffer, filled: 0, scanned: 0, skipping: false }
    }

    /// Where the next bytes go: at least [`CHUNK`] of them after a call of
    /// [`Frames::drain`].
    pub(crate) fn room(&mut self) -> &mut [u8] {
        &mut self.buffer[self.filled..]
    }

    /// `count` bytes have been put into the room.
    pub(crate) fn filled(&mut self, count: usize) {
        self.filled = (self.filled + count).min(self.buffer.len());
    }

    /// Whether there is room for more.
    pub(crate) fn has_room(&self) -> bool {
        self.filled < self.buffer.len()
    }

    /// Gives every complete line and keeps the rest for the next call.
    pub(crate) fn drain(&mut self, mut each: impl FnMut(Frame<'_>)) {
        let mut start = 0;
        let mut from = self.scanned;
        while let Some(length) = memchr2(b'\n', b'\r', &self.buffer[from..self.filled]) {
            let end = from + length;
            let line = &self.buffer[start..end];
            if self.skipping {
                self.skipping = false;
            } else if line.len() > LINE_MAX {
                each(Frame::TooLong(&line[..LINE_MAX]));
            } else if !line.is_empty() {
                each(Frame::Line(line));
            }
            start = end + 1;
            from = start;
        }
        let rest = self.filled - start;
        if self.skipping {
            self.filled = 0;
        } else if rest > LINE_MAX {
            each(Frame::TooLong(&self.buffer[start..start + LINE_MAX]));
            self.skipping = true;
            self.filled = 0;
        } else {
            self.buffer.copy_within(start..self.filled, 0);
            self.filled = rest;
        }
        self.scanned = self.filled;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Feeds the bytes in pieces; a line that is too long is `!`.
    fn lines(bytes: &[u8], piece: usize) -> Vec<String> {
        let mut frames = Frames::new();
        let mut lines = Vec::new();
        for piece in bytes.chunks(piece) {
            frames.room()[..piece.len()].copy_from_slice(piece);
            frames.filled(piece.len());
            frames.drain(|frame| match frame {
                Frame::Line(line) => lines.push(String::from_utf8_lossy(line).into_owned()),
                Frame::TooLong(line) => {
                    assert_eq!(line.len(), LINE_MAX);
                    lines.push("!".into());
                }
            });
            assert!(frames.room().len() >= CHUNK, "no room for the next chunk");
        }
        lines
    }

    #[test]
    fn every_end_of_line_is_one_and_empty_lines_are_none() {
        for piece in [1, 2, 3, 100] {
            assert_eq!(lines(b"\r\na\nb\r\nc\r\rd\n\ne", piece), ["a", "b", "c", "d"], "{piece}");
        }
    }

    #[test]
    fn a_line_that_never_ends_is_skipped_once_and_the_next_is_read() {
        let mut bytes = b"a\n".to_vec();
        bytes.extend(std::iter::repeat_n(b'x', 5 * CHUNK));
        bytes.extend(b"\nb\n");
        for piece in [1000, CHUNK] {
            assert_eq!(lines(&bytes, piece), ["a", "!", "b"], "{piece}");
        }
        let longest = [vec![b'y'; LINE_MAX], b"\n".to_vec()].concat();
        assert_eq!(lines(&longest, CHUNK)[0].len(), LINE_MAX);
    }

    proptest! {
        /// However the bytes arrive, the lines are the same as of all at once.
        #[test]
        fn pieces_make_no_difference(
            text in "([a-z]{0,8}[\r\n]{0,2}){0,40}", piece in 1_usize..50,
        ) {
            let ends = |c| c == '\n' || c == '\r';
            let mut expected: Vec<&str> = text.split(ends).collect();
            expected.pop();
            expected.retain(|line| !line.is_empty());
            prop_assert_eq!(lines(text.as_bytes(), piece), expected);
        }
    }
}
