use memchr::memchr;

use super::Found;
use super::line::ended;

/// Ends a frame; escapes; what they are escaped as (RFC 1055, page 2).
const END: u8 = 0xc0;
const ESC: u8 = 0xdb;
const ESC_END: u8 = 0xdc;
const ESC_ESC: u8 = 0xdd;

/// SLIP: frames ended by C0. Noise spoils the frame in which it comes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Slip {
    /// Inside a frame that is too long, until its end.
    skipping: bool,
}

impl Slip {
    pub(super) fn forget(&mut self) {
        self.skipping = false;
    }

    pub(super) fn find(&mut self, bytes: &mut [u8], seen: usize) -> Found {
        let end = memchr(END, &bytes[seen..]).map(|length| seen + length);
        match ended(bytes, end, &mut self.skipping) {
            Found::Frame { at, next, again } => match decode(&mut bytes[at]) {
                Some(length) => Found::Frame { at: 0..length, next, again },
                None => Found::Noise(next),
            },
            found => found,
        }
    }
}

/// Takes the escapes out, in place, and gives the length of what is left. `None`
/// for an escape that there isn't: RFC 1055 would keep it, but a frame that is
/// known to be damaged is better left out.
fn decode(bytes: &mut [u8]) -> Option<usize> {
    let (mut from, mut to) = (0, 0);
    while let Some(&byte) = bytes.get(from) {
        from += 1;
        bytes[to] = match byte {
            ESC => {
                from += 1;
                match *bytes.get(from - 1)? {
                    ESC_END => END,
                    ESC_ESC => ESC,
                    _ => return None,
                }
            }
            byte => byte,
        };
        to += 1;
    }
    Some(to)
}
