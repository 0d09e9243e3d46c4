use super::{Found, begin};
use crate::serial::bytes::Endian;

/// Frames that say how long they are. A frame that isn't understood is searched
/// for another from its second byte on, so with a checksum noise costs no other
/// frame.
#[derive(Clone, Debug)]
pub(crate) struct Length {
    /// By which it begins; may be empty.
    pub start: Vec<u8>,
    /// Where the length stands, from the first byte of the frame on.
    pub at: usize,
    /// In how many bytes, 1 to 4.
    pub size: usize,
    pub endian: Endian,
    /// How many bytes the frame has more than its length says.
    pub add: i64,
    /// The longest frame: what claims to be longer is noise.
    pub max: usize,
}

impl Length {
    pub(super) fn begins(&self) -> bool {
        !self.start.is_empty()
    }

    pub(super) fn find(&mut self, bytes: &[u8]) -> Found {
        if let Some(found) = begin(bytes, &self.start) {
            return found;
        }
        let head = self.start.len().max(self.at + self.size);
        let Some(field) = bytes.get(self.at..self.at + self.size) else { return Found::More };
        let says = i64::try_from(self.endian.unsigned(field)).unwrap_or(i64::MAX);
        match usize::try_from(says.saturating_add(self.add)) {
            Ok(length) if (head..=self.max).contains(&length) => {
                if bytes.len() < length {
                    return Found::More;
                }
                Found::Frame { at: 0..length, next: length, again: 1 }
            }
            _ => Found::Noise(1),
        }
    }
}
