//! Bytes out and in over a connection, one frame at a time in each direction,
//! so that nothing is queued here beyond that.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use futures_util::{Sink, Stream as _};
use tokio::io::AsyncWrite;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{Error as WsError, Message};
use tokio_util::io::poll_read_buf;

use crate::connect::Stream;
use crate::tls;

/// What several publishes are gathered into. Measured: past this, larger frames
/// gain nothing, and memory matters more.
pub(crate) const FRAME: usize = 16 * 1024;
/// Bytes taken from a plain stream at a time.
const READ: usize = 8 * 1024;

/// A connection to a broker.
pub(crate) struct Transport {
    kind: Kind,
    /// Handed over and not yet written and flushed.
    sending: Option<Bytes>,
    flushing: bool,
    /// What ended it, kept until what came before has been looked at.
    failed: Option<Closed>,
}

enum Kind {
    Stream(Stream),
    WebSocket(Box<WebSocketStream<Stream>>),
}

/// What happened on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// Bytes came.
    Received,
    /// What was handed over is on its way: hand over the next.
    Sent,
}

/// Why a connection is over.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Closed {
    #[error("the broker closed the connection{0}")]
    Peer(String),
    #[error("the connection broke: {}", tls::explained(.0))]
    Io(#[from] io::Error),
    #[error("the broker doesn't keep to WebSocket: {0}")]
    WebSocket(String),
}

impl Transport {
    pub(crate) fn stream(stream: Stream) -> Transport {
        Transport { kind: Kind::Stream(stream), sending: None, flushing: false, failed: None }
    }

    pub(crate) fn websocket(socket: WebSocketStream<Stream>) -> Transport {
        Transport {
            kind: Kind::WebSocket(Box::new(socket)),
            sending: None,
            flushing: false,
            failed: None,
        }
    }

    /// Whether the next frame may be handed over.
    pub(crate) fn is_idle(&self) -> bool {
        self.sending.is_none() && !self.flushing
    }

    /// Hands a frame over; only when idle.
    pub(crate) fn send(&mut self, frame: Bytes) {
        debug_assert!(self.is_idle(), "one frame at a time");
        self.sending = Some(frame);
    }

    /// Writes and reads until something has happened. Dropping the future loses
    /// nothing. `received` grows past [`READ`] by one read or message at most;
    /// with `reading` off it doesn't grow, and whoever floods us fills buffers
    /// of its own.
    pub(crate) async fn next(
        &mut self,
        received: &mut BytesMut,
        reading: bool,
    ) -> Result<Event, Closed> {
        std::future::poll_fn(|context| self.poll(context, received, reading)).await
    }

    fn poll(
        &mut self,
        context: &mut Context<'_>,
        received: &mut BytesMut,
        reading: bool,
    ) -> Poll<Result<Event, Closed>> {
        if let Some(closed) = self.failed.take() {
            return Poll::Ready(Err(closed));
        }
        // Reading first: an acknowledgement makes room, and a broker that can't
        // get rid of its answers stops reading. All that is there is taken, as
        // each acknowledgement is a frame of its own: what they make room for
        // goes out in one.
        let before = received.len();
        while reading && received.len() < READ.max(before + 1) {
            match self.poll_receive(context, received) {
                Poll::Ready(Ok(())) => (),
                Poll::Ready(Err(closed)) if received.len() == before => {
                    return Poll::Ready(Err(closed));
                }
                Poll::Ready(Err(closed)) => {
                    self.failed = Some(closed);
                    break;
                }
                Poll::Pending => break,
            }
        }
        if received.len() > before {
            return Poll::Ready(Ok(Event::Received));
        }
        if self.is_idle() {
            return Poll::Pending;
        }
        ready!(self.poll_send(context))?;
        Poll::Ready(Ok(Event::Sent))
    }

    fn poll_receive(
        &mut self,
        context: &mut Context<'_>,
        received: &mut BytesMut,
    ) -> Poll<Result<(), Closed>> {
        match &mut self.kind {
            Kind::Stream(stream) => {
                received.reserve(READ);
                match ready!(poll_read_buf(Pin::new(stream), context, received))? {
                    0 => Poll::Ready(Err(Closed::Peer(String::new()))),
                    _ => Poll::Ready(Ok(())),
                }
            }
            Kind::WebSocket(socket) => loop {
                match ready!(Pin::new(&mut *socket).poll_next(context)) {
                    Some(Ok(Message::Binary(bytes))) => {
                        received.extend_from_slice(&bytes);
                        return Poll::Ready(Ok(()));
                    }
                    // MQTT 3.1.1, section 6.0: binary frames only.
                    Some(Ok(Message::Text(_))) => {
                        let what = "a text frame, where MQTT is binary".to_owned();
                        return Poll::Ready(Err(Closed::WebSocket(what)));
                    }
                    Some(Ok(Message::Close(frame))) => {
                        let why = frame.map_or(String::new(), |frame| {
                            let reason: String = frame
                                .reason
                                .chars()
                                .filter(|c| !c.is_control())
                                .take(120)
                                .collect();
                            format!(" with code {} {reason}", u16::from(frame.code))
                        });
                        return Poll::Ready(Err(Closed::Peer(why.trim_end().to_owned())));
                    }
                    // The library answers pings by itself.
                    Some(Ok(_)) => (),
                    Some(Err(error)) => return Poll::Ready(Err(error.into())),
                    None => return Poll::Ready(Err(Closed::Peer(String::new()))),
                }
            },
        }
    }

    fn poll_send(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Closed>> {
        match &mut self.kind {
            Kind::Stream(stream) => {
                while let Some(frame) = &mut self.sending {
                    let written = ready!(Pin::new(&mut *stream).poll_write(context, frame))?;
                    if written == 0 {
                        return Poll::Ready(Err(io::Error::from(io::ErrorKind::WriteZero).into()));
                    }
                    frame.advance(written);
                    if frame.is_empty() {
                        self.sending = None;
                        self.flushing = true;
                    }
                }
                ready!(Pin::new(stream).poll_flush(context))?;
            }
            Kind::WebSocket(socket) => {
                if self.sending.is_some() {
                    ready!(Pin::new(&mut *socket).poll_ready(context))?;
                    if let Some(frame) = self.sending.take() {
                        Pin::new(&mut *socket).start_send(Message::Binary(frame))?;
                        self.flushing = true;
                    }
                }
                ready!(Pin::new(socket).poll_flush(context))?;
            }
        }
        self.flushing = false;
        Poll::Ready(Ok(()))
    }

    /// Says goodbye as the layer below MQTT does it: a close frame, TLS's close.
    pub(crate) async fn close(mut self) {
        // Nobody is left to tell of an error.
        let _ = match &mut self.kind {
            Kind::Stream(stream) => tokio::io::AsyncWriteExt::shutdown(stream).await.map_err(drop),
            Kind::WebSocket(socket) => socket.close(None).await.map_err(drop),
        };
    }
}

impl From<WsError> for Closed {
    fn from(error: WsError) -> Closed {
        match error {
            WsError::ConnectionClosed | WsError::AlreadyClosed => Closed::Peer(String::new()),
            WsError::Protocol(
                tokio_tungstenite::tungstenite::error::ProtocolError::ResetWithoutClosingHandshake,
            ) => Closed::Peer(" without a word".to_owned()),
            WsError::Io(error) => Closed::Io(error),
            other => Closed::WebSocket(other.to_string()),
        }
    }
}
