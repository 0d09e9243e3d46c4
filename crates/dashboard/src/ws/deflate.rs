//! permessage-deflate (RFC 7692).

use std::cell::RefCell;

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::Wrong;

/// What ends each message's deflate stream and isn't sent (section 7.2.1).
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];

/// The largest window, in bits, which is what every client gets that doesn't ask
/// for less.
pub(super) const WINDOW_MAX: u8 = 15;

/// The smallest that the compressor knows: zlib makes 9 of 8, which a client
/// that has asked for 8 can't read.
const WINDOW_MIN: u8 = 9;

/// Of 50 readings in 5,575 bytes level 1 leaves 1,108, level 2 811 in the same
/// time, and level 6 771.
const LEVEL: u32 = 2;

/// What was agreed on in the handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Agreed {
    /// The server's window, in bits.
    pub(super) window: u8,
}

impl Agreed {
    /// The value of `Sec-WebSocket-Extensions` in the answer. Both sides start
    /// anew with each message: the server's frames serve all clients, and no
    /// client costs a window.
    pub(crate) fn answer(self) -> String {
        let mut answer = String::from(
            "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
        );
        if self.window < WINDOW_MAX {
            answer += &format!("; server_max_window_bits={}", self.window);
        }
        answer
    }
}

/// The first of the client's offers that we can keep (section 5.1). `offers` are
/// the values of all `Sec-WebSocket-Extensions` headers.
pub(crate) fn agree<'a>(offers: impl Iterator<Item = &'a str>) -> Option<Agreed> {
    offers.flat_map(|list| list.split(',')).find_map(offer)
}

fn offer(text: &str) -> Option<Agreed> {
    let mut parts = text.split(';').map(str::trim);
    if parts.next()? != "permessage-deflate" {
        return None;
    }
    let mut window = WINDOW_MAX;
    let mut seen = Vec::new();
    for part in parts {
        let (name, value) = match part.split_once('=') {
            Some((name, value)) => (name.trim(), Some(value.trim().trim_matches('"'))),
            None => (part, None),
        };
        if seen.contains(&name) {
            return None;
        }
        seen.push(name);
        match (name, value) {
            ("server_no_context_takeover" | "client_no_context_takeover", None)
            | ("client_max_window_bits", None) => (),
            // We can read any window.
            ("client_max_window_bits", Some(bits)) => drop(bits_of(bits, 8)?),
            ("server_max_window_bits", Some(bits)) => window = bits_of(bits, WINDOW_MIN)?,
            _ => return None,
        }
    }
    Some(Agreed { window })
}

fn bits_of(text: &str, min: u8) -> Option<u8> {
    let plain = !text.starts_with(['0', '+']);
    text.parse().ok().filter(|bits| plain && (min..=WINDOW_MAX).contains(bits))
}

thread_local! {
    /// One a thread, since a compressor takes some 300 KB and is used for
    /// microseconds.
    static COMPRESSOR: RefCell<Compress> =
        RefCell::new(Compress::new(Compression::new(LEVEL), false));
}

/// A whole message, compressed, appended to `out`.
pub(super) fn deflate(message: &[u8], window: u8, out: &mut Vec<u8>) {
    if window == WINDOW_MAX {
        COMPRESSOR.with_borrow_mut(|compressor| {
            compressor.reset();
            run(compressor, message, out);
        });
    } else {
        let level = Compression::new(LEVEL);
        run(&mut Compress::new_with_window_bits(level, false, window), message, out);
    }
}

fn run(compressor: &mut Compress, message: &[u8], out: &mut Vec<u8>) {
    loop {
        out.reserve(message.len() / 4 + 64);
        let done = usize::try_from(compressor.total_in()).unwrap_or(usize::MAX);
        let rest = message.get(done..).unwrap_or_default();
        // A compressor with room to write and a stream that isn't finished has
        // nothing to complain of.
        let _ = compressor.compress_vec(rest, out, FlushCompress::Sync);
        let taken = compressor.total_in() == message.len() as u64;
        if taken && out.len() < out.capacity() {
            break;
        }
    }
    if out.ends_with(&TAIL) {
        out.truncate(out.len() - TAIL.len());
    }
}

/// A whole message, as it was before its client compressed it. It never grows
/// beyond `max`, however little came.
pub(super) fn inflate(message: &[u8], max: usize) -> Result<Vec<u8>, Wrong> {
    const WRONG: Wrong = Wrong::Protocol("what is compressed can't be read");
    let mut inflater = Decompress::new(false);
    let mut out = Vec::new();
    for mut rest in [message, &TAIL] {
        loop {
            // One byte beyond the limit shows that there is more.
            out.reserve((rest.len() * 4 + 64).min(max + 1 - out.len()));
            let (before, written) = (inflater.total_in(), out.len());
            let status = inflater.decompress_vec(rest, &mut out, FlushDecompress::Sync);
            let taken = usize::try_from(inflater.total_in() - before).map_err(|_| WRONG)?;
            rest = rest.get(taken..).unwrap_or_default();
            if out.len() > max {
                return Err(Wrong::TooLong);
            }
            match status.map_err(|_| WRONG)? {
                // A sender may finish a stream and go on with another
                // (section 7.2.3.5).
                Status::StreamEnd => inflater.reset(false),
                // Neither read nor written: it would never end.
                _ if taken == 0 && out.len() == written && !rest.is_empty() => return Err(WRONG),
                _ => (),
            }
            if rest.is_empty() && out.len() < out.capacity() {
                break;
            }
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn squeezed(message: &[u8], window: u8) -> Vec<u8> {
        let mut out = Vec::new();
        deflate(message, window, &mut out);
        out
    }

    #[test]
    fn the_examples_of_the_rfc_are_read() {
        // Section 7.2.3.
        let hello = b"Hello";
        for message in [
            &[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00][..],
            &[0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00],
            &[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00],
            &[0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00],
        ] {
            assert_eq!(inflate(message, 100).unwrap(), hello, "{message:x?}");
        }
        assert_eq!(squeezed(b"", 15), [0]);
    }

    #[test]
    fn a_bomb_is_not_inflated() {
        let bomb = squeezed(&vec![b'x'; 10 << 20], 15);
        assert!(bomb.len() < 256 << 10, "{}", bomb.len());
        assert_eq!(inflate(&bomb, 16 << 10), Err(Wrong::TooLong));
        // A message that grows in many steps, and one that just fits.
        for length in [1, 300, 5_000, 16 << 10] {
            let fits = squeezed(&vec![b'x'; length], 15);
            assert_eq!(inflate(&fits, 16 << 10).unwrap().len(), length);
        }
    }

    #[test]
    fn offers_are_agreed_to_or_passed_over() {
        let agreed = |offer: &str| agree([offer].into_iter()).map(|agreed| agreed.window);
        for (offer, window) in [
            ("permessage-deflate", Some(15)),
            ("permessage-deflate; client_max_window_bits", Some(15)),
            ("permessage-deflate; client_max_window_bits=8; server_max_window_bits=9", Some(9)),
            ("permessage-deflate;server_max_window_bits=\"10\"", Some(10)),
            ("permessage-deflate; server_max_window_bits=8", None),
            ("permessage-deflate; server_max_window_bits=16", None),
            ("permessage-deflate; server_max_window_bits", None),
            ("permessage-deflate; server_no_context_takeover=1", None),
            ("permessage-deflate; client_max_window_bits=9; client_max_window_bits=9", None),
            ("permessage-deflate; dance", None),
            ("permessage-deflate; dance, permessage-deflate", Some(15)),
            ("x-webkit-deflate-frame, permessage-bzip2", None),
            ("", None),
        ] {
            assert_eq!(agreed(offer), window, "{offer}");
        }
        let answer = Agreed { window: 10 }.answer();
        assert!(answer.ends_with("; server_max_window_bits=10"), "{answer}");
    }

    proptest! {
        #[test]
        fn what_is_deflated_inflates(
            message in prop::collection::vec(any::<u8>(), 0..5000),
            window in 9_u8..=15,
        ) {
            let small = squeezed(&message, window);
            prop_assert_eq!(inflate(&small, 5000).unwrap(), message.clone());
            // Also what repeats.
            let long = message.repeat(5);
            prop_assert_eq!(inflate(&squeezed(&long, window), 25_000).unwrap(), long);
        }

        #[test]
        fn nonsense_is_refused_or_short(nonsense in prop::collection::vec(any::<u8>(), 0..500)) {
            if let Ok(out) = inflate(&nonsense, 1000) {
                prop_assert!(out.len() <= 1000);
            }
        }
    }
}
