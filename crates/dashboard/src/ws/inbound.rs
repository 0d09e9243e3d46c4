//! What a client sends, piece by piece: no I/O here.

use bytes::{Buf, BytesMut};

use super::Code;
use super::deflate::{self, Agreed};
use super::frame::{CONTROL_MAX, Head, Opcode};

/// What a client has said.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Text(String),
    Binary(Vec<u8>),
    /// To be answered with the same payload (section 5.5.2).
    Ping(Vec<u8>),
    Pong,
    /// To be answered with the same code (section 5.5.1).
    Close(Option<Code>),
}

/// What is wrong with what a client sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wrong {
    Protocol(&'static str),
    NotUtf8,
    TooLong,
}

/// Messages under construction.
pub(super) struct Inbound {
    max: usize,
    deflate: Option<Agreed>,
    /// The frame whose payload is coming, and how much of it has come.
    frame: Option<(Head, u64)>,
    message: Option<Message>,
    control: Vec<u8>,
}

struct Message {
    text: bool,
    compressed: bool,
    data: Vec<u8>,
    /// As far as a plain text is known to be UTF-8.
    checked: usize,
}

impl Wrong {
    /// What the client is told before the connection is closed.
    pub(crate) fn told(self) -> (Code, &'static str) {
        match self {
            Wrong::Protocol(why) => (Code::PROTOCOL, why),
            Wrong::NotUtf8 => (Code::NOT_UTF8, "a text is not UTF-8"),
            Wrong::TooLong => (Code::TOO_LONG, "a message may have 16 KiB"),
        }
    }
}

impl Inbound {
    /// Messages are at most `max` bytes long, also once they are inflated.
    pub(super) fn new(max: usize, deflate: Option<Agreed>) -> Inbound {
        Inbound { max, deflate, frame: None, message: None, control: Vec::new() }
    }

    /// Takes from `bytes` what it can use; gives what that completes. Nothing:
    /// more bytes are needed.
    pub(super) fn next(&mut self, bytes: &mut BytesMut) -> Result<Option<Event>, Wrong> {
        loop {
            let (head, seen) = match &mut self.frame {
                Some((head, seen)) => (*head, seen),
                None => {
                    let Some((head, length)) = Head::parse(bytes)? else { return Ok(None) };
                    bytes.advance(length);
                    self.begin(&head)?;
                    let (head, seen) = self.frame.insert((head, 0));
                    (*head, seen)
                }
            };
            let rest = usize::try_from(head.length - *seen).unwrap_or(usize::MAX);
            let piece = bytes.split_to(rest.min(bytes.len()));
            let offset = *seen;
            *seen += piece.len() as u64;
            let whole = *seen == head.length;
            let plain = piece.iter().zip(offset..).map(|(b, at)| b ^ head.mask[at as usize % 4]);
            if head.opcode.is_control() {
                self.control.extend(plain);
            } else if let Some(message) = &mut self.message {
                message.data.extend(plain);
                message.check()?;
            }
            if !whole {
                return Ok(None);
            }
            self.frame = None;
            if let Some(event) = self.end(&head)? {
                return Ok(Some(event));
            }
        }
    }

    fn begin(&mut self, head: &Head) -> Result<(), Wrong> {
        if head.opcode.is_control() {
            self.control = Vec::with_capacity(CONTROL_MAX.min(head.length as usize));
            return Ok(());
        }
        if head.compressed && (self.deflate.is_none() || head.opcode == Opcode::Continuation) {
            return Err(Wrong::Protocol("a reserved bit is set"));
        }
        match (&self.message, head.opcode) {
            (None, Opcode::Continuation) => {
                return Err(Wrong::Protocol("nothing is there to be continued"));
            }
            (Some(_), Opcode::Continuation) => (),
            (Some(_), _) => return Err(Wrong::Protocol("the message before isn't finished")),
            (None, opcode) => {
                let (text, compressed) = (opcode == Opcode::Text, head.compressed);
                self.message = Some(Message { text, compressed, data: Vec::new(), checked: 0 });
            }
        }
        let so_far = self.message.as_ref().map_or(0, |message| message.data.len());
        // Before it comes, not after.
        if head.length > (self.max - so_far) as u64 {
            return Err(Wrong::TooLong);
        }
        Ok(())
    }

    fn end(&mut self, head: &Head) -> Result<Option<Event>, Wrong> {
        match head.opcode {
            Opcode::Ping => return Ok(Some(Event::Ping(std::mem::take(&mut self.control)))),
            Opcode::Pong => return Ok(Some(Event::Pong)),
            Opcode::Close => return close(&self.control).map(Some),
            _ if !head.last => return Ok(None),
            _ => (),
        }
        let Some(message) = self.message.take() else { return Ok(None) };
        let data = match message.compressed {
            true => deflate::inflate(&message.data, self.max)?,
            false => message.data,
        };
        if !message.text {
            return Ok(Some(Event::Binary(data)));
        }
        String::from_utf8(data).map(Event::Text).map(Some).map_err(|_| Wrong::NotUtf8)
    }
}

impl Message {
    /// A text that can't become UTF-8 any more is refused before its end comes.
    fn check(&mut self) -> Result<(), Wrong> {
        if !self.text || self.compressed {
            return Ok(());
        }
        match std::str::from_utf8(&self.data[self.checked..]) {
            Ok(text) => self.checked += text.len(),
            Err(error) if error.error_len().is_some() => return Err(Wrong::NotUtf8),
            Err(error) => self.checked += error.valid_up_to(),
        }
        Ok(())
    }
}

/// A code and a reason, or neither (section 5.5.1).
fn close(payload: &[u8]) -> Result<Event, Wrong> {
    let Some((code, reason)) = payload.split_first_chunk() else {
        return match payload {
            [] => Ok(Event::Close(None)),
            _ => Err(Wrong::Protocol("half a close code")),
        };
    };
    let code = Code(u16::from_be_bytes(*code));
    if !code.is_sendable() {
        return Err(Wrong::Protocol("a close code that nobody may send"));
    }
    std::str::from_utf8(reason).map_err(|_| Wrong::NotUtf8)?;
    Ok(Event::Close(Some(code)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A client's frame.
    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mask = [0x12, 0x34, 0x56, 0x78];
        let mut bytes = vec![first];
        match payload.len() {
            short @ 0..126 => bytes.push(0x80 | short as u8),
            long => {
                bytes.push(0x80 | 126);
                bytes.extend((long as u16).to_be_bytes());
            }
        }
        bytes.extend(mask);
        bytes.extend(payload.iter().zip(0..).map(|(b, at): (&u8, usize)| b ^ mask[at % 4]));
        bytes
    }

    fn events(inbound: &mut Inbound, bytes: &[u8]) -> Result<Vec<Event>, Wrong> {
        let mut bytes = BytesMut::from(bytes);
        let mut found = Vec::new();
        while let Some(event) = inbound.next(&mut bytes)? {
            found.push(event);
        }
        Ok(found)
    }

    fn all(bytes: &[u8]) -> Result<Vec<Event>, Wrong> {
        events(&mut Inbound::new(1000, agree()), bytes)
    }

    fn agree() -> Option<Agreed> {
        deflate::agree(["permessage-deflate"].into_iter())
    }

    #[test]
    fn a_message_in_pieces_with_a_ping_between() {
        let bytes = [
            frame(0x01, "hä".as_bytes()),
            frame(0x89, b"you?"),
            frame(0x80, b"llo"),
            frame(0x88, &[0x03, 0xe8, b'b', b'y', b'e']),
        ]
        .concat();
        let expected = [
            Event::Ping(b"you?".to_vec()),
            Event::Text("hällo".into()),
            Event::Close(Some(Code(1000))),
        ];
        assert_eq!(all(&bytes).unwrap(), expected);
    }

    #[test]
    fn compressed_messages_are_inflated() {
        let mut small = Vec::new();
        deflate::deflate(b"{\"type\":\"subscribe\"}", 15, &mut small);
        let (one, two) = small.split_at(5);
        let bytes = [frame(0x41, one), frame(0x80, two)].concat();
        assert_eq!(all(&bytes).unwrap(), [Event::Text("{\"type\":\"subscribe\"}".into())]);
        let mut plain = Inbound::new(1000, None);
        assert!(events(&mut plain, &bytes).is_err(), "it wasn't agreed on");
    }

    #[test]
    fn what_no_client_may_send() {
        let protocol = |bytes: &[u8]| matches!(all(bytes), Err(Wrong::Protocol(_)));
        assert!(protocol(&frame(0x80, b"x")), "nothing to continue");
        assert!(protocol(&[frame(0x01, b"x"), frame(0x81, b"y")].concat()), "not finished");
        assert!(protocol(&[frame(0x41, b"x"), frame(0xc0, b"y")].concat()), "compressed again");
        assert!(protocol(&frame(0x88, &[3])), "half a code");
        for code in [0_u16, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000] {
            assert!(protocol(&frame(0x88, &code.to_be_bytes())), "{code}");
        }
        assert_eq!(all(&frame(0x88, &[3, 0xe8, 0xff])), Err(Wrong::NotUtf8));
        assert_eq!(all(&frame(0x81, &[0xff])), Err(Wrong::NotUtf8));
        assert_eq!(all(&frame(0x01, &[b'a', 0xff])), Err(Wrong::NotUtf8), "before the end");
        assert_eq!(all(&frame(0x81, &[0xc3])), Err(Wrong::NotUtf8), "cut off");
        assert_eq!(all(&frame(0x82, &[0; 1001])), Err(Wrong::TooLong));
        let two = [frame(0x02, &[0; 600]), frame(0x80, &[0; 401])].concat();
        assert_eq!(all(&two), Err(Wrong::TooLong), "together");
        // The head alone is enough.
        assert_eq!(all(&frame(0x82, &[0; 1001])[..8]), Err(Wrong::TooLong));
    }

    proptest! {
        /// However the network cuts it, the same comes out.
        #[test]
        fn cuts_do_not_matter(cuts in prop::collection::vec(1_usize..20, 1..40)) {
            let bytes = [
                frame(0x01, "ää".as_bytes()),
                frame(0x8a, b""),
                frame(0x80, &"ö€".repeat(60).into_bytes()),
                frame(0x82, &[7; 300]),
                frame(0x88, &[]),
            ]
            .concat();
            let expected = all(&bytes).unwrap();
            let mut inbound = Inbound::new(1000, agree());
            let (mut rest, mut got) = (&bytes[..], Vec::new());
            let mut waiting = BytesMut::new();
            for cut in cuts.into_iter().chain([usize::MAX]) {
                let (now, later) = rest.split_at(cut.min(rest.len()));
                rest = later;
                waiting.extend_from_slice(now);
                while let Some(event) = inbound.next(&mut waiting).unwrap() {
                    got.push(event);
                }
            }
            prop_assert_eq!(got, expected);
        }

        /// Nothing that a client sends stops us or is kept beyond the limit.
        #[test]
        fn nonsense_ends_or_is_bounded(nonsense in prop::collection::vec(any::<u8>(), 0..2000)) {
            let mut inbound = Inbound::new(1000, agree());
            let _ = events(&mut inbound, &nonsense);
            prop_assert!(inbound.message.is_none_or(|message| message.data.len() <= 1000));
        }
    }
}
