use std::collections::VecDeque;
use std::net::TcpStream;
use std::time::Instant;

use serde_json::Value;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::handshake::client::Response;
use tokio_tungstenite::tungstenite::http::{HeaderName, HeaderValue};
use tokio_tungstenite::tungstenite::{self, HandshakeError, Message, WebSocket};

use super::PATIENCE;

/// A client of `/api/v1/live`, such as a browser or a script.
pub(crate) struct Feed {
    socket: WebSocket<TcpStream>,
    /// Readings of the last frame that nobody has asked for yet.
    readings: VecDeque<Value>,
    /// What the server answered to the opening handshake.
    pub(crate) response: Response,
}

impl Feed {
    #[track_caller]
    pub(crate) fn open(address: &str) -> Feed {
        Feed::try_open(address, &[]).unwrap_or_else(|status| panic!("the feed answers {status}"))
    }

    /// With headers beside, or instead of, those of a handshake.
    ///
    /// # Errors
    /// The status with which the upgrade was refused.
    #[track_caller]
    pub(crate) fn try_open(address: &str, headers: &[(&str, &str)]) -> Result<Feed, u16> {
        let url = format!("ws://{address}/api/v1/live");
        let mut request = url.into_client_request().unwrap();
        for (name, value) in headers {
            let name: HeaderName = name.parse().unwrap();
            request.headers_mut().insert(name, HeaderValue::from_str(value).unwrap());
        }
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        match tungstenite::client(request, stream) {
            Ok((socket, response)) => Ok(Feed { socket, readings: VecDeque::new(), response }),
            Err(HandshakeError::Failure(tungstenite::Error::Http(refused))) => {
                Err(refused.status().as_u16())
            }
            Err(other) => panic!("the handshake with the feed: {other}"),
        }
    }

    /// The next frame of any type.
    #[track_caller]
    pub(crate) fn next(&mut self) -> Value {
        loop {
            match self.socket.read().expect("a frame of the feed") {
                Message::Text(text) => return serde_json::from_str(&text).expect("JSON"),
                Message::Ping(_) | Message::Pong(_) => {}
                other => panic!("the feed sent {other:?}"),
            }
        }
    }

    /// The next frame of one type; others are skipped.
    #[track_caller]
    pub(crate) fn next_of(&mut self, kind: &str) -> Value {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            let frame = self.next();
            if frame["type"] == kind {
                return frame;
            }
        }
        panic!("no {kind} frame within {PATIENCE:?}");
    }

    /// The next reading of one channel that is as wanted.
    #[track_caller]
    pub(crate) fn reading(&mut self, channel: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            while let Some(reading) = self.readings.pop_front() {
                if reading["channel"] == channel && wanted(&reading) {
                    return reading;
                }
            }
            let frame = self.next();
            self.readings.extend(frame["readings"].as_array().into_iter().flatten().cloned());
        }
        panic!("no such reading of {channel} within {PATIENCE:?}");
    }

    #[track_caller]
    pub(crate) fn send(&mut self, text: &str) {
        self.socket.send(Message::text(text)).unwrap();
    }

    /// Frames until the connection is closed.
    pub(crate) fn until_closed(mut self) -> Vec<Value> {
        let mut frames = Vec::new();
        while let Ok(message) = self.socket.read() {
            if let Message::Text(text) = message {
                frames.push(serde_json::from_str(&text).expect("JSON"));
            }
        }
        frames
    }
}
