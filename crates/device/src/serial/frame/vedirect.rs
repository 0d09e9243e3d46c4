use memchr::memmem;

use super::Found;

/// What ends a block, but for the byte of the check sum, which may be any.
const CHECKSUM: &[u8] = b"\nChecksum\t";
/// By which a block begins in which a device says what it is.
const BEGIN: &[u8] = b"\r\nPID\t";
/// The longest block. The protocol allows 22 fields of 45 bytes; what the HEX
/// protocol says in between counts here as well.
const BLOCK_MAX: usize = 4 * 1024;

/// The blocks of VE.Direct, which begin where the last one ended.
#[derive(Clone, Debug)]
pub(crate) struct VeDirectBlock;

impl VeDirectBlock {
    pub(super) fn find(bytes: &[u8], seen: usize) -> Found {
        let within = &bytes[..bytes.len().min(BLOCK_MAX)];
        // Nothing but the beginning of the mark has been seen.
        let from = seen.saturating_sub(CHECKSUM.len()).min(within.len());
        match memmem::find(&within[from..], CHECKSUM).map(|at| from + at + CHECKSUM.len() + 1) {
            Some(end) if end <= within.len() => {
                // Of two blocks of which the first has lost its end, the second.
                let second = memmem::find(&bytes[1..end], BEGIN).map(|at| at + 1);
                // Or the byte was lost, and what stands there begins the second.
                let behind = if bytes[end - 1] == BEGIN[0] { end - 1 } else { end };
                Found::Frame { at: 0..end, next: end, again: second.unwrap_or(behind) }
            }
            // A mark may lie across the end of what is thrown away.
            _ if within.len() == BLOCK_MAX => Found::Noise(BLOCK_MAX - CHECKSUM.len()),
            _ => Found::More,
        }
    }
}
