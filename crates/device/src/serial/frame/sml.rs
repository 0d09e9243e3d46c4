use memchr::memmem;

use super::{FRAME_MAX, Found, begin};

/// BSI TR-03109-1, annex IV b, section 8.1: begins what isn't data.
const ESCAPE: [u8; 4] = [0x1b; 4];
/// And behind it: a file of version 1 begins.
const BEGIN: [u8; 4] = [1; 4];
/// A file ends; one byte and a CRC follow.
const END: u8 = 0x1a;

/// The files of SML, with everything around the messages.
#[derive(Clone, Debug)]
pub(crate) struct SmlFile;

impl SmlFile {
    pub(super) fn find(bytes: &[u8]) -> Found {
        if let Some(found) = begin(bytes, &[ESCAPE, BEGIN].concat()) {
            return found;
        }
        let within = &bytes[..bytes.len().min(FRAME_MAX)];
        let mut from = 2 * ESCAPE.len();
        while let Some(at) = memmem::find(&within[from..], &ESCAPE).map(|at| from + at) {
            let Some(what) = within.get(at + 4..at + 8) else { break };
            match what {
                // The data is the escape itself, or the end of this file was lost
                // just behind one.
                [0x1b, 0x1b, 0x1b, 0x1b] => match within.get(at + 8..at + 12) {
                    Some(next) if next == BEGIN => return Found::Noise(at + 4),
                    Some(_) => from = at + 8,
                    None => break,
                },
                // What was lost may be the CRC, and this the beginning of the next.
                [END, ..] => return Found::Frame { at: 0..at + 8, next: at + 8, again: at + 5 },
                // The end of this one was lost.
                _ => return Found::Noise(at),
            }
        }
        if within.len() < FRAME_MAX { Found::More } else { Found::Noise(1) }
    }
}
