//! The head of a frame (RFC 6455, section 5.2).

use super::Wrong;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opcode {
    Continuation,
    Text,
    Binary,
    Close,
    Ping,
    Pong,
}

/// The longest payload of a control frame (section 5.5).
pub(super) const CONTROL_MAX: usize = 125;

/// The longest head of a server's frame.
pub(super) const HEAD_MAX: usize = 10;

/// The head of a client's frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) last: bool,
    /// Set on the first frame of a compressed message (RFC 7692, section 6).
    pub(super) compressed: bool,
    pub(super) opcode: Opcode,
    pub(super) mask: [u8; 4],
    pub(super) length: u64,
}

impl Opcode {
    const fn of(bits: u8) -> Option<Opcode> {
        Some(match bits {
            0 => Opcode::Continuation,
            1 => Opcode::Text,
            2 => Opcode::Binary,
            8 => Opcode::Close,
            9 => Opcode::Ping,
            10 => Opcode::Pong,
            _ => return None,
        })
    }

    const fn bits(self) -> u8 {
        match self {
            Opcode::Continuation => 0,
            Opcode::Text => 1,
            Opcode::Binary => 2,
            Opcode::Close => 8,
            Opcode::Ping => 9,
            Opcode::Pong => 10,
        }
    }

    pub(super) const fn is_control(self) -> bool {
        matches!(self, Opcode::Close | Opcode::Ping | Opcode::Pong)
    }
}

impl Head {
    /// The head at the beginning of these bytes, and its length; nothing when
    /// more bytes are needed.
    pub(super) fn parse(bytes: &[u8]) -> Result<Option<(Head, usize)>, Wrong> {
        let [first, second, rest @ ..] = bytes else { return Ok(None) };
        if first & 0x30 != 0 {
            return Err(Wrong::Protocol("a reserved bit is set"));
        }
        let opcode = Opcode::of(first & 0x0f).ok_or(Wrong::Protocol("an unknown opcode"))?;
        let (last, compressed) = (first & 0x80 != 0, first & 0x40 != 0);
        if second & 0x80 == 0 {
            return Err(Wrong::Protocol("a client's frame is not masked"));
        }
        let short = second & 0x7f;
        if opcode.is_control() && (!last || compressed || usize::from(short) > CONTROL_MAX) {
            return Err(Wrong::Protocol("a control frame is whole, plain and short"));
        }
        let (length, rest) = match short {
            126 => match rest.split_first_chunk() {
                Some((long, rest)) => (u64::from(u16::from_be_bytes(*long)), rest),
                None => return Ok(None),
            },
            127 => match rest.split_first_chunk() {
                Some((long, rest)) => (u64::from_be_bytes(*long), rest),
                None => return Ok(None),
            },
            short => (u64::from(short), rest),
        };
        if length > i64::MAX as u64 {
            return Err(Wrong::Protocol("a length has 63 bits"));
        }
        let Some((mask, rest)) = rest.split_first_chunk() else { return Ok(None) };
        let head = Head { last, compressed, opcode, mask: *mask, length };
        Ok(Some((head, bytes.len() - rest.len())))
    }
}

/// Writes the head of a server's whole frame so that it ends where the payload
/// begins; gives where it begins itself.
pub(super) fn prepend(
    wire: &mut [u8],
    payload_at: usize,
    opcode: Opcode,
    compressed: bool,
) -> usize {
    let length = wire.len() - payload_at;
    let first = 0x80 | if compressed { 0x40 } else { 0 } | opcode.bits();
    let long = (length as u64).to_be_bytes();
    let (second, extended): (u8, &[u8]) = match length {
        0..126 => (length as u8, &[]),
        126..0x1_0000 => (126, &long[6..]),
        _ => (127, &long),
    };
    let at = payload_at - 2 - extended.len();
    wire[at] = first;
    wire[at + 1] = second;
    wire[at + 2..payload_at].copy_from_slice(extended);
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_of_all_lengths() {
        let mask = [1, 2, 3, 4];
        for (length, head) in [
            (5_u64, vec![0x81, 0x85]),
            (126, vec![0x81, 0xfe, 0, 126]),
            (70_000, vec![0x81, 0xff, 0, 0, 0, 0, 0, 1, 0x11, 0x70]),
        ] {
            let bytes = [&head[..], &mask].concat();
            for cut in 0..bytes.len() {
                assert_eq!(Head::parse(&bytes[..cut]), Ok(None), "more is needed");
            }
            let expected =
                Head { last: true, compressed: false, opcode: Opcode::Text, mask, length };
            assert_eq!(Head::parse(&bytes), Ok(Some((expected, bytes.len()))));
            // The same head as a server writes it: without a mask.
            let mut wire = vec![0; HEAD_MAX + usize::try_from(length).unwrap()];
            let at = prepend(&mut wire, HEAD_MAX, Opcode::Text, false);
            let plain: Vec<u8> =
                head.iter().enumerate().map(|(n, b)| if n == 1 { b & 0x7f } else { *b }).collect();
            assert_eq!(wire[at..HEAD_MAX], plain);
        }
    }

    #[test]
    fn heads_that_no_client_may_send() {
        for (bytes, why) in [
            ([0xa1, 0x80], "reserved"),
            ([0x83, 0x80], "opcode"),
            ([0x81, 0x05], "masked"),
            ([0x09, 0x80], "control"),
            ([0xc9, 0x80], "control"),
            ([0x89, 0xfe], "control"),
        ] {
            match Head::parse(&bytes) {
                Err(Wrong::Protocol(said)) => assert!(said.contains(why), "{said}"),
                other => panic!("{bytes:?}: {other:?}"),
            }
        }
        let long = [0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0];
        assert!(Head::parse(&long).is_err());
    }
}
