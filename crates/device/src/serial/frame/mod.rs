//! Where a frame begins and ends in a stream of bytes.
//!
//! A new way to tell is a file here with a
//! `find(&mut self, bytes: &mut [u8], seen: usize) -> Found`, and an arm in
//! [`Framer`]. It is asked again and again with whatever has come and isn't
//! consumed yet, from the first byte on; it looks for the first frame in it, and
//! is right whatever the pieces were in which the bytes came. It can't fail, and
//! holds no bytes itself: what it has to decode it decodes in place.

mod cobs;
mod delimited;
mod fixed;
mod idle;
mod length;
mod line;
mod readout;
mod settings;
mod slip;
mod sml;
mod vedirect;

use std::ops::Range;
use std::time::Duration;

use memchr::memmem;

pub(crate) use cobs::Cobs;
pub(crate) use delimited::Delimited;
pub(crate) use fixed::Fixed;
pub(crate) use idle::Idle;
pub(crate) use length::Length;
pub(crate) use line::Line;
use readout::ReadoutFrame;
pub(crate) use settings::FrameSettings;
pub(crate) use slip::Slip;
use sml::SmlFile;
use vedirect::VeDirectBlock;

/// The longest frame. A longer one is the wrong baud rate, and is skipped.
pub(crate) const FRAME_MAX: usize = 8 * 1024;
/// The longest mark by which a frame begins or ends.
pub(crate) const MARK_MAX: usize = 16;
/// How much is asked of the port at once. A pty or a USB port gives at most
/// 4 KiB a call; this is a few of them.
const CHUNK: usize = 16 * 1024;
/// No device pauses for so long within a frame, but where a text may be typed by
/// hand. What has been a frame's beginning until then never was one.
const PAUSE: Duration = Duration::from_millis(250);

/// What a framer makes of the bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// The first frame there is.
    Frame {
        /// Where what the format gets to see lies.
        at: Range<usize>,
        /// Where the next frame begins.
        next: usize,
        /// Where to look for another if the format doesn't understand this one:
        /// behind its first byte when that may have been noise that only looked
        /// like a beginning, and at `next` when the beginning was certain.
        again: usize,
    },
    /// So many bytes say nothing, such as the end of an empty line.
    Skip(usize),
    /// So many bytes are no part of a frame. At least one.
    Noise(usize),
    /// There is no frame yet.
    More,
}

/// How frames are told from each other.
#[derive(Clone, Debug)]
pub(crate) enum Framer {
    Line(Line),
    Delimited(Delimited),
    Fixed(Fixed),
    Length(Length),
    Idle(Idle),
    Slip(Slip),
    Cobs(Cobs),
    /// IEC 62056-21 and P1.
    Readout,
    Sml,
    VeDirect,
}

impl Framer {
    /// The first frame in `bytes`, which are not empty. `seen` of them were there
    /// already when this was asked last, and the answer was [`Found::More`].
    fn find(&mut self, bytes: &mut [u8], seen: usize) -> Found {
        match self {
            Framer::Line(line) => line.find(bytes, seen),
            Framer::Delimited(delimited) => delimited.find(bytes),
            Framer::Fixed(fixed) => fixed.find(bytes),
            Framer::Length(length) => length.find(bytes),
            Framer::Idle(idle) => idle.find(bytes),
            Framer::Slip(slip) => slip.find(bytes, seen),
            Framer::Cobs(cobs) => cobs.find(bytes, seen),
            Framer::Readout => ReadoutFrame::find(bytes),
            Framer::Sml => SmlFile::find(bytes),
            Framer::VeDirect => VeDirectBlock::find(bytes, seen),
        }
    }

    /// What `bytes` are, none of which made a frame, now that there has been
    /// silence for [`Framer::pause`].
    fn silent(&mut self, bytes: &[u8]) -> Found {
        match self {
            Framer::Idle(idle) => idle.silent(bytes),
            _ => Found::Noise(1),
        }
    }

    /// What comes next is the beginning of a frame.
    fn forget(&mut self) {
        match self {
            Framer::Line(line) => line.forget(),
            Framer::Delimited(delimited) => delimited.forget(),
            Framer::Idle(idle) => idle.forget(),
            Framer::Slip(slip) => slip.forget(),
            Framer::Cobs(cobs) => cobs.forget(),
            Framer::Fixed(_) | Framer::Length(_) => {}
            Framer::Readout | Framer::Sml | Framer::VeDirect => {}
        }
    }

    /// After how long a silence to ask [`Framer::silent`], if ever.
    fn pause(&self) -> Option<Duration> {
        match self {
            Framer::Line(_) | Framer::Slip(_) | Framer::Cobs(_) => None,
            // They may come in pieces, and what is a piece is told by the next.
            Framer::Readout | Framer::Sml | Framer::VeDirect => None,
            Framer::Delimited(delimited) => delimited.begins().then_some(PAUSE),
            Framer::Fixed(_) | Framer::Length(_) => Some(PAUSE),
            Framer::Idle(idle) => Some(idle.gap()),
        }
    }

    /// Whether no frame can be found in what has lost its beginning.
    pub(crate) fn knows_beginnings(&self) -> bool {
        match self {
            Framer::Line(_) | Framer::Idle(_) | Framer::Slip(_) | Framer::Cobs(_) => false,
            Framer::Readout | Framer::Sml => true,
            Framer::VeDirect => false,
            Framer::Delimited(delimited) => delimited.begins(),
            Framer::Fixed(fixed) => fixed.begins(),
            Framer::Length(length) => length.begins(),
        }
    }
}

/// What [`Frames`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Piece<'a> {
    /// A frame. Who doesn't understand it says so: [`Frames::reject`].
    Frame(&'a [u8]),
    /// Bytes that belong to no frame, or the first of them.
    Noise(&'a [u8]),
}

/// The bytes of a port, cut into frames. Holds as many as the longest
/// frame and one [`CHUNK`] have, whatever comes.
pub(crate) struct Frames {
    framer: Framer,
    buffer: Box<[u8]>,
    /// Bytes of the buffer that are consumed, and in use.
    start: usize,
    filled: usize,
    /// Bytes from `start` on that the framer has seen without finding a frame.
    seen: usize,
    /// The frame that was given last, until it is known whether it was one.
    given: Option<Given>,
    /// Noise has been told of since the last frame.
    noisy: bool,
    /// There has been silence since the last byte.
    silent: bool,
}

#[derive(Debug)]
struct Given {
    at: Range<usize>,
    next: usize,
    again: usize,
}

impl Frames {
    pub(crate) fn new(framer: Framer) -> Frames {
        Frames {
            framer,
            buffer: vec![0; FRAME_MAX + 2 * MARK_MAX + CHUNK].into(),
            start: 0,
            filled: 0,
            seen: 0,
            given: None,
            noisy: false,
            silent: false,
        }
    }

    pub(crate) fn framer(&self) -> &Framer {
        &self.framer
    }

    /// Where the next bytes go: at least [`CHUNK`] of them once [`Frames::next`]
    /// has said that there is no more.
    pub(crate) fn room(&mut self) -> &mut [u8] {
        &mut self.buffer[self.filled..]
    }

    /// `count` bytes have been put into the room.
    pub(crate) fn filled(&mut self, count: usize) {
        self.filled = (self.filled + count).min(self.buffer.len());
        self.silent = false;
    }

    /// Whether there is room for more.
    pub(crate) fn has_room(&self) -> bool {
        self.filled < self.buffer.len()
    }

    /// How long to wait for more bytes until [`Frames::silence`]; `None` when
    /// silence would say nothing.
    pub(crate) fn pause(&self) -> Option<Duration> {
        self.framer.pause().filter(|_| self.start < self.filled)
    }

    /// Whether silence ends a frame, so that it must be noticed at once.
    pub(crate) fn ends_by_silence(&self) -> bool {
        matches!(self.framer, Framer::Idle(_))
    }

    /// Takes `prefix` away if that is what came first, and clears `waits`. Gives
    /// `false` as long as it may still turn out to be.
    pub(crate) fn skip(&mut self, prefix: &[u8], waits: &mut bool) -> bool {
        let bytes = &self.buffer[self.start..self.filled];
        if bytes.len() < prefix.len() && prefix.starts_with(bytes) && !self.silent {
            return false;
        }
        if bytes.starts_with(prefix) {
            self.consume(prefix.len());
        }
        *waits = false;
        true
    }

    /// No byte has come for that long.
    pub(crate) fn silence(&mut self) {
        self.silent = true;
    }

    /// How many bytes it holds in memory.
    #[cfg(test)]
    pub(crate) fn held(&self) -> usize {
        self.buffer.len()
    }

    /// Throws away what has come.
    pub(crate) fn clear(&mut self) {
        (self.start, self.filled, self.seen, self.given) = (0, 0, 0, None);
        self.framer.forget();
    }

    /// The next frame or noise, or `None` when more bytes are needed.
    pub(crate) fn next(&mut self) -> Option<Piece<'_>> {
        if let Some(given) = self.given.take() {
            // Nobody has rejected it.
            self.consume(given.next);
            self.noisy = false;
        }
        loop {
            let bytes = &mut self.buffer[self.start..self.filled];
            let count = bytes.len();
            if count == 0 {
                break;
            }
            let found = match self.framer.find(bytes, self.seen) {
                Found::More if self.silent => self.framer.silent(bytes),
                found => found,
            };
            match found {
                Found::Frame { at, next, again } => {
                    let frame = self.start + at.start..self.start + at.end;
                    self.given = Some(Given { at: frame.clone(), next, again });
                    return Some(Piece::Frame(&self.buffer[frame]));
                }
                Found::Skip(skipped) => self.consume(skipped),
                Found::Noise(noise) => {
                    let noise = noise.max(1);
                    let at = self.start..self.start + noise.min(count);
                    self.consume(noise);
                    if !std::mem::replace(&mut self.noisy, true) {
                        return Some(Piece::Noise(&self.buffer[at]));
                    }
                }
                Found::More => break,
            }
        }
        // One run of noise is told once, but one that never ends once a call.
        self.noisy = false;
        self.buffer.copy_within(self.start..self.filled, 0);
        self.filled -= self.start;
        self.start = 0;
        self.seen = self.filled;
        None
    }

    /// The last frame was none, or is damaged. Gives its bytes if that is to be
    /// told, because no noise has been since the last frame that was understood.
    pub(crate) fn reject(&mut self) -> Option<&[u8]> {
        let given = self.given.take()?;
        // A beginning that was certain is a frame of its own that was damaged;
        // else the frames found within it are the same trouble over again.
        let certain = given.again == given.next;
        self.consume(given.again);
        let told = std::mem::replace(&mut self.noisy, !certain);
        (certain || !told).then_some(&self.buffer[given.at])
    }

    fn consume(&mut self, count: usize) {
        self.start = (self.start + count).min(self.filled);
        self.seen = 0;
    }
}

/// Where frames that begin with `start` may begin: [`Found::Noise`] before it,
/// [`Found::More`] when it isn't there yet, `None` when it is at the first byte.
fn begin(bytes: &[u8], start: &[u8]) -> Option<Found> {
    if start.is_empty() {
        return bytes.is_empty().then_some(Found::More);
    }
    match memmem::find(bytes, start) {
        Some(0) => None,
        Some(at) => Some(Found::Noise(at)),
        None => {
            // Its first bytes may be the last that have come.
            let most = bytes.len().min(start.len() - 1);
            let kept = (1..=most).rev().find(|&kept| bytes.ends_with(&start[..kept]));
            match bytes.len() - kept.unwrap_or(0) {
                0 => Some(Found::More),
                noise => Some(Found::Noise(noise)),
            }
        }
    }
}

#[cfg(test)]
mod tests;
