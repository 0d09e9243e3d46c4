use std::time::Duration;

use super::{FRAME_MAX, Found};

/// Frames with silence between them. How long it was is known as well as the
/// kernel and the adapter pass the bytes on: a USB adapter gathers them for up to
/// 16 ms. Noise spoils the frame to which it is no pause.
#[derive(Clone, Debug)]
pub(crate) struct Idle {
    gap: Duration,
    /// Inside a frame that is too long, until silence.
    skipping: bool,
}

impl Idle {
    /// With so long a silence between two frames.
    pub(crate) fn new(gap: Duration) -> Idle {
        Idle { gap, skipping: false }
    }

    pub(super) fn gap(&self) -> Duration {
        self.gap
    }

    pub(super) fn forget(&mut self) {
        self.skipping = false;
    }

    /// Of a frame that is too long one byte is kept, so that its end is noticed.
    pub(super) fn find(&mut self, bytes: &[u8]) -> Found {
        let most = if self.skipping { 1 } else { FRAME_MAX };
        match bytes.len() {
            length if length <= most => Found::More,
            length if std::mem::replace(&mut self.skipping, true) => Found::Skip(length - 1),
            length => Found::Noise(length - 1),
        }
    }

    pub(super) fn silent(&mut self, bytes: &[u8]) -> Found {
        let length = bytes.len();
        if std::mem::take(&mut self.skipping) {
            return Found::Skip(length);
        }
        Found::Frame { at: 0..length, next: length, again: length }
    }
}
