//! A message that is made once and sent to any number of clients.

use std::sync::OnceLock;

use bytes::Bytes;

use super::deflate::{self, Agreed, WINDOW_MAX};
use super::frame::{self, HEAD_MAX, Opcode};

/// A message shorter than this is sent as it is: little is saved, and a client
/// has to inflate it.
const SMALL: usize = 200;

/// A text message as it goes over the wire.
#[derive(Debug)]
pub(crate) struct Prepared {
    plain: Bytes,
    payload_at: usize,
    /// Made by the first client that wants it; `None` when nothing is saved.
    deflated: OnceLock<Option<Bytes>>,
}

impl Prepared {
    /// `write` appends the payload, which is JSON and so UTF-8.
    pub(crate) fn text(write: impl FnOnce(&mut Vec<u8>)) -> Prepared {
        let mut wire = vec![0; HEAD_MAX];
        write(&mut wire);
        wire.shrink_to_fit();
        let at = frame::prepend(&mut wire, HEAD_MAX, Opcode::Text, false);
        let plain = Bytes::from(wire).slice(at..);
        Prepared { plain, payload_at: HEAD_MAX - at, deflated: OnceLock::new() }
    }

    pub(crate) fn payload(&self) -> &[u8] {
        &self.plain[self.payload_at..]
    }

    /// The frame for a client that has agreed on this.
    pub(super) fn wire(&self, agreed: Option<Agreed>) -> Bytes {
        match agreed {
            Some(agreed) if self.payload().len() >= SMALL => {
                let deflated = match agreed.window {
                    WINDOW_MAX => self.deflated.get_or_init(|| self.deflate(WINDOW_MAX)).clone(),
                    // Few ask for less; each gets its own.
                    window => self.deflate(window),
                };
                deflated.unwrap_or_else(|| self.plain.clone())
            }
            _ => self.plain.clone(),
        }
    }

    fn deflate(&self, window: u8) -> Option<Bytes> {
        let mut wire = vec![0; HEAD_MAX];
        deflate::deflate(self.payload(), window, &mut wire);
        if wire.len() >= self.plain.len() {
            return None;
        }
        wire.shrink_to_fit();
        let at = frame::prepend(&mut wire, HEAD_MAX, Opcode::Text, true);
        Some(Bytes::from(wire).slice(at..))
    }
}

impl From<String> for Prepared {
    fn from(text: String) -> Prepared {
        Prepared::text(|wire| wire.extend_from_slice(text.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_compressed_once_for_all() {
        let agreed = deflate::agree(["permessage-deflate"].into_iter());
        let text = r#"{"seq":1,"channel":"weather/temperature","value":21.5},"#.repeat(50);
        let prepared = Prepared::from(text.clone());
        let (one, two) = (prepared.wire(agreed), prepared.wire(agreed));
        assert_eq!(one.as_ptr(), two.as_ptr(), "the same bytes");
        assert!(one.len() * 5 < text.len(), "{}", one.len());
        assert_eq!(one[0], 0xc1, "the whole of a compressed text");
        assert_eq!(deflate::inflate(&one[2..], 10_000).unwrap(), text.as_bytes());
        assert_eq!(prepared.wire(None)[0], 0x81);
        assert_eq!(prepared.payload(), text.as_bytes());
        let small = Prepared::from("{}".to_owned());
        assert_eq!(small.wire(agreed)[..], [0x81, 2, b'{', b'}']);
    }
}
