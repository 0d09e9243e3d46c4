use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use reading::Timestamp;
use rumqttc::mqttbytes::v4::{Connect, Packet, PubAck, Subscribe};
use rumqttc::mqttbytes::{Error, QoS};
use serde_json::Value;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::{self, WebSocket};

use super::PATIENCE;

/// Messages that may wait for the test; the broker keeps what comes beyond.
const WAITING_MAX: usize = 1 << 16;

/// The largest packet, bytes.
const PACKET_MAX: usize = 1 << 24;

/// Somebody out there who wants to know: an MQTT 3.1.1 client of the broker,
/// with a session that outlives its connection.
pub(crate) struct Subscriber {
    messages: Receiver<Message>,
}

/// What the broker passed on.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) topic: String,
    pub(crate) payload: Bytes,
    /// Sent on subscribing, because the publisher asked the broker to keep it.
    pub(crate) retained: bool,
    /// When it arrived here.
    pub(crate) at: Timestamp,
}

impl Message {
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.payload)
            .unwrap_or_else(|error| panic!("{error} in {:?} on {}", self.payload, self.topic))
    }
}

impl Subscriber {
    /// Subscribes and waits until the broker has agreed; comes back by itself
    /// when the broker does.
    #[track_caller]
    pub(crate) fn start(address: String, filter: &str) -> Subscriber {
        Subscriber::over(move || Some(Box::new(TcpStream::connect(&address).ok()?)), filter)
    }

    /// The same over WebSocket: `ws://HOST:PORT/PATH`.
    #[track_caller]
    pub(crate) fn over_websocket(url: &str, filter: &str) -> Subscriber {
        let url = url.to_owned();
        let connect = move || Some(Box::new(Frames::connect(&url)?) as Box<dyn Connection>);
        Subscriber::over(connect, filter)
    }

    #[track_caller]
    fn over(
        connect: impl Fn() -> Option<Box<dyn Connection>> + Send + 'static,
        filter: &str,
    ) -> Subscriber {
        let (sender, messages) = sync_channel(WAITING_MAX);
        let (ready, is_ready) = sync_channel(1);
        let filter = filter.to_owned();
        // One session each: with an id in common the broker gives the second
        // what the first had asked for.
        static STARTED: AtomicU32 = AtomicU32::new(0);
        let id = format!("subscriber-{}", STARTED.fetch_add(1, Ordering::Relaxed));
        std::thread::spawn(move || {
            while let Some(()) = match connect() {
                Some(connection) => session(connection, &id, &filter, &sender, &ready),
                None => Some(()),
            } {
                std::thread::sleep(Duration::from_millis(100));
            }
        });
        is_ready.recv_timeout(PATIENCE).expect("the broker lets the subscriber subscribe");
        Subscriber { messages }
    }

    /// The next message, whatever it is.
    #[track_caller]
    pub(crate) fn next(&self) -> Message {
        self.messages.recv_timeout(PATIENCE).expect("a message")
    }

    /// The next one on a topic; others are skipped.
    #[track_caller]
    pub(crate) fn next_on(&self, topic: &str) -> Message {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.messages.recv_timeout(left) {
                Ok(message) if message.topic == topic => return message,
                Ok(_) => {}
                Err(_) => panic!("no message on {topic}"),
            }
        }
    }

    /// All that comes until nothing has come for a while.
    pub(crate) fn rest(&self, quiet: Duration) -> Vec<Message> {
        std::iter::from_fn(|| self.messages.recv_timeout(quiet).ok()).collect()
    }

    /// The next within `patience`; for the benchmark.
    pub(crate) fn poll(&self, patience: Duration) -> Option<Message> {
        match self.messages.recv_timeout(patience) {
            Ok(message) => Some(message),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => panic!("the subscriber has ended"),
        }
    }
}

/// One connection, until the broker ends it; `None` when the test has gone.
fn session(
    mut stream: Box<dyn Connection>,
    id: &str,
    filter: &str,
    messages: &SyncSender<Message>,
    ready: &SyncSender<()>,
) -> Option<()> {
    let mut connect = Connect::new(id);
    connect.clean_session = false;
    connect.keep_alive = 0;
    let mut subscribe = Subscribe::new(filter, QoS::AtLeastOnce);
    subscribe.pkid = 1;
    let mut out = BytesMut::new();
    connect.write(&mut out).unwrap();
    subscribe.write(&mut out).unwrap();
    let mut input = BytesMut::new();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        if stream.write_all(&out).is_err() {
            return Some(());
        }
        out.clear();
        let Ok(n @ 1..) = stream.read(&mut buffer) else { return Some(()) };
        input.extend_from_slice(&buffer[..n]);
        let at = Timestamp::now();
        loop {
            match Packet::read(&mut input, PACKET_MAX) {
                Ok(Packet::Publish(publish)) => {
                    if publish.qos == QoS::AtLeastOnce {
                        PubAck::new(publish.pkid).write(&mut out).unwrap();
                    }
                    let (topic, payload) = (publish.topic, publish.payload);
                    let message = Message { topic, payload, retained: publish.retain, at };
                    messages.send(message).ok()?;
                }
                // The test takes no notice of the later ones.
                Ok(Packet::SubAck(_)) => drop(ready.try_send(())),
                Ok(_) => {}
                Err(Error::InsufficientBytes(_)) => break,
                Err(error) => panic!("mosquitto sent what isn't MQTT: {error}"),
            }
        }
    }
}

/// What MQTT runs over.
trait Connection: Read + Write + Send {}

impl<T: Read + Write + Send> Connection for T {}

/// A stream of bytes in the binary frames of a WebSocket: MQTT 3.1.1, section 6.
struct Frames {
    socket: WebSocket<TcpStream>,
    /// The rest of a frame that didn't fit the reader's buffer.
    rest: Bytes,
}

impl Frames {
    fn connect(url: &str) -> Option<Frames> {
        let mut request = url.into_client_request().unwrap();
        let subprotocol = HeaderValue::from_static("mqtt");
        request.headers_mut().insert("Sec-WebSocket-Protocol", subprotocol);
        let address = request.uri().authority().unwrap().to_string();
        let stream = TcpStream::connect(address).ok()?;
        let (socket, _) = tungstenite::client(request, stream).ok()?;
        Some(Frames { socket, rest: Bytes::new() })
    }
}

impl Read for Frames {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        while self.rest.is_empty() {
            match self.socket.read().map_err(std::io::Error::other)? {
                tungstenite::Message::Binary(bytes) => self.rest = bytes,
                tungstenite::Message::Close(_) => return Ok(0),
                _ => {}
            }
        }
        let n = self.rest.len().min(buffer.len());
        buffer[..n].copy_from_slice(&self.rest.split_to(n));
        Ok(n)
    }
}

impl Write for Frames {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if !bytes.is_empty() {
            let frame = tungstenite::Message::binary(bytes.to_vec());
            self.socket.send(frame).map_err(std::io::Error::other)?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.socket.flush().map_err(std::io::Error::other)
    }
}
