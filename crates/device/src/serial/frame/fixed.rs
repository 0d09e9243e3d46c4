use super::{Found, begin};

/// Frames of one length, best with bytes by which they begin. A frame that isn't
/// understood is searched for another from its second byte on, so with a checksum
/// noise costs no other frame.
#[derive(Clone, Debug)]
pub(crate) struct Fixed {
    length: usize,
    start: Vec<u8>,
    end: Vec<u8>,
}

impl Fixed {
    /// `length` counts `start` and `end`, which may be empty.
    pub(crate) fn new(length: usize, start: Vec<u8>, end: Vec<u8>) -> Fixed {
        Fixed { length, start, end }
    }

    pub(super) fn begins(&self) -> bool {
        !self.start.is_empty()
    }

    pub(super) fn find(&mut self, bytes: &[u8]) -> Found {
        if let Some(found) = begin(bytes, &self.start) {
            return found;
        }
        match bytes.get(..self.length) {
            Some(frame) if frame.ends_with(&self.end) => {
                Found::Frame { at: 0..self.length, next: self.length, again: 1 }
            }
            Some(_) => Found::Noise(1),
            None => Found::More,
        }
    }
}
