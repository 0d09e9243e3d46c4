//! A WebSocket over a stream of bytes.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::deflate::Agreed;
use super::frame::{self, CONTROL_MAX, HEAD_MAX, Opcode};
use super::inbound::{Event, Inbound, Wrong};
use super::{Code, Prepared};

/// What is read at once: a client says little.
const READ: usize = 4 << 10;

/// A server's end of a WebSocket, after its handshake.
pub(crate) struct Socket<S> {
    stream: S,
    deflate: Option<Agreed>,
    inbound: Inbound,
    read: BytesMut,
    /// Frames on their way. The sender waits until each is taken, so there are
    /// two at most: one that a dropped `send` has left, and one after it.
    out: VecDeque<Bytes>,
}

/// Why nothing more comes.
#[derive(Debug)]
pub(crate) enum Broken {
    /// The client sends what it may not.
    Wrong(Wrong),
    /// The connection is gone.
    Gone,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Socket<S> {
    /// `max` bytes are the longest message of the client.
    pub(crate) fn new(stream: S, max: usize, deflate: Option<Agreed>) -> Socket<S> {
        let inbound = Inbound::new(max, deflate);
        Socket { stream, deflate, inbound, read: BytesMut::new(), out: VecDeque::new() }
    }

    /// What the client says next. Dropping the future loses nothing.
    pub(crate) async fn receive(&mut self) -> Result<Event, Broken> {
        loop {
            match self.inbound.next(&mut self.read) {
                Ok(Some(event)) => return Ok(event),
                Ok(None) => (),
                Err(wrong) => return Err(Broken::Wrong(wrong)),
            }
            self.read.reserve(READ);
            match self.stream.read_buf(&mut self.read).await {
                Ok(0) | Err(_) => return Err(Broken::Gone),
                Ok(_) => (),
            }
        }
    }

    /// Sends a message and waits until the kernel has it.
    pub(crate) async fn send(&mut self, message: &Prepared) -> Result<(), Broken> {
        self.out.push_back(message.wire(self.deflate));
        self.flush().await
    }

    /// Sends back what came: for the echo alone. It compresses also what is short
    /// and bytes, which the feed doesn't, so that every conformance case of
    /// compression has something to read.
    #[cfg(feature = "echo")]
    pub(crate) async fn echo(&mut self, text: bool, payload: &[u8]) -> Result<(), Broken> {
        let opcode = if text { Opcode::Text } else { Opcode::Binary };
        let Some(agreed) = self.deflate else { return self.frame(opcode, payload).await };
        let mut wire = vec![0; HEAD_MAX];
        super::deflate::deflate(payload, agreed.window, &mut wire);
        let at = frame::prepend(&mut wire, HEAD_MAX, opcode, true);
        self.out.push_back(Bytes::from(wire).slice(at..));
        self.flush().await
    }

    pub(crate) async fn ping(&mut self) -> Result<(), Broken> {
        self.frame(Opcode::Ping, &[]).await
    }

    /// Answers a ping.
    pub(crate) async fn pong(&mut self, payload: &[u8]) -> Result<(), Broken> {
        self.frame(Opcode::Pong, payload).await
    }

    /// Says why it is over. Nothing may be sent afterwards.
    pub(crate) async fn close(&mut self, code: Option<Code>, reason: &str) -> Result<(), Broken> {
        let mut payload = code.map_or(Vec::new(), |Code(code)| code.to_be_bytes().to_vec());
        payload.extend_from_slice(reason.as_bytes());
        payload.truncate(CONTROL_MAX);
        self.frame(Opcode::Close, &payload).await
    }

    /// Ends the stream.
    pub(crate) async fn shutdown(&mut self) {
        // Whoever is gone needn't be told.
        let _ = self.stream.shutdown().await;
    }

    async fn frame(&mut self, opcode: Opcode, payload: &[u8]) -> Result<(), Broken> {
        let mut wire = vec![0; HEAD_MAX];
        wire.extend_from_slice(payload);
        let at = frame::prepend(&mut wire, HEAD_MAX, opcode, false);
        self.out.push_back(Bytes::from(wire).slice(at..));
        self.flush().await
    }

    /// Writes what is on its way. Dropped, it goes on where it was.
    async fn flush(&mut self) -> Result<(), Broken> {
        while !self.out.is_empty() {
            let slices: Vec<_> = self.out.iter().map(|frame| IoSlice::new(frame)).collect();
            let mut written =
                self.stream.write_vectored(&slices).await.map_err(|_| Broken::Gone)?;
            if written == 0 {
                return Err(Broken::Gone);
            }
            while let Some(frame) = self.out.front_mut() {
                let of_this = written.min(frame.len());
                frame.advance(of_this);
                written -= of_this;
                if !frame.is_empty() {
                    break;
                }
                self.out.pop_front();
            }
        }
        self.stream.flush().await.map_err(|_| Broken::Gone)
    }
}
