//! A WebSocket opening handshake (RFC 6455, section 4), taken apart: request
//! and response as sent, and every check that a client must make.

mod answer;
mod report;

use std::path::PathBuf;
use std::time::Duration;

use bytes::BytesMut;
use data_encoding::{BASE64, HEXLOWER};
use sha1::{Digest, Sha1};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{self, Instant};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use crate::codec::{Codec, Hello, Incoming};
use crate::connect::{self, Stream};
use crate::tls::{self, Files};
use crate::transport::{Event, Transport};
use crate::{Endpoint, InvalidUrl, Version};
use answer::Head;

pub use report::{Check, Report, Step};

/// What is appended to the key before it is hashed (RFC 6455, section 1.3).
pub const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// The longest response that is read: a web page is cut off here.
const RESPONSE_MAX: usize = 16 * 1024;

/// What to ask for.
#[derive(Clone, Debug)]
pub struct Options {
    /// The `Origin` header.
    pub origin: Option<String>,
    /// The subprotocol to offer; with `mqtt`, `mqtt` unless it is another.
    pub subprotocol: Option<String>,
    /// Whether to send an MQTT CONNECT afterwards.
    pub mqtt: bool,
    /// Which version of MQTT.
    pub version: Version,
    /// A PEM file of authorities trusted beside the system's.
    pub ca: Option<PathBuf>,
    /// How long each step may take.
    pub timeout: Duration,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            origin: None,
            subprotocol: None,
            mqtt: false,
            version: Version::V4,
            ca: None,
            timeout: Duration::from_secs(10),
        }
    }
}

/// Why there was no answer to check.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The text isn't a URL.
    #[error("{url}: {error}")]
    Url {
        /// The text.
        url: String,
        /// What is wrong with it.
        error: InvalidUrl,
    },
    /// mqtt:// or mqtts://.
    #[error("{0} has no handshake: use ws:// or wss://")]
    NotWebSocket(String),
    /// A value that would break the request in two.
    #[error("the {0} holds a character that no header can hold")]
    Header(&'static str),
    /// DNS, TCP or TLS failed: the text says which.
    #[error("{0}")]
    Connect(String),
    /// The connection ended before the answer was complete.
    #[error("the server closed the connection after {0} bytes, before its answer was complete")]
    Closed(usize),
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Io(#[from] std::io::Error),
    /// The head of the answer didn't end.
    #[error("the head of the answer is longer than 16 KiB")]
    TooLong,
    /// No answer in time.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
}

/// The one right value of `Sec-WebSocket-Accept`, and how it comes about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accept {
    /// `Sec-WebSocket-Key` as sent.
    pub key: String,
    /// The key with the GUID behind it.
    pub joined: String,
    /// SHA-1 of that, in hexadecimal.
    pub sha1: String,
    /// Base64 of that: the value.
    pub value: String,
}

impl Accept {
    /// Computes the value for a key (RFC 6455, section 4.2.2, item 5.4).
    pub fn of(key: &str) -> Accept {
        let joined = format!("{key}{GUID}");
        let digest = Sha1::digest(joined.as_bytes());
        Accept {
            key: key.to_owned(),
            sha1: HEXLOWER.encode(&digest),
            value: BASE64.encode(&digest),
            joined,
        }
    }
}

/// Connects, performs the handshake and checks the answer.
///
/// # Errors
/// When there is no answer to check. A wrong answer is not an error: see
/// [`Report::ok`].
pub async fn perform(url: &str, options: &Options) -> Result<Report, Error> {
    let endpoint =
        Endpoint::parse(url).map_err(|error| Error::Url { url: url.to_owned(), error })?;
    if !endpoint.websocket {
        return Err(Error::NotWebSocket(url.to_owned()));
    }
    let mut steps = Vec::new();
    let mut stream = open(&endpoint, options, &mut steps).await?;
    let offered = match (&options.subprotocol, options.mqtt) {
        (Some(name), _) => Some(name.as_str()),
        (None, true) => Some("mqtt"),
        (None, false) => None,
    };
    let accept = Accept::of(&generate_key());
    let request = request(&endpoint, &accept.key, options.origin.as_deref(), offered)?;
    let begun = Instant::now();
    let exchanged = time::timeout(options.timeout, exchange(&mut stream, &request))
        .await
        .map_err(|_| Error::Timeout(options.timeout))?;
    let (response, rest) = exchanged?;
    steps.push(Step::since("handshake", begun));
    let mut checks = Head::parse(&response).checks(&accept, offered);
    if options.mqtt && checks.iter().all(|check| check.ok) {
        let begun = Instant::now();
        checks.push(mqtt(stream, rest, options).await);
        steps.push(Step::since("MQTT CONNECT", begun));
    }
    Ok(Report { endpoint, steps, request, response, accept, checks })
}

async fn open(
    endpoint: &Endpoint,
    options: &Options,
    steps: &mut Vec<Step>,
) -> Result<Stream, Error> {
    let connect = |error: connect::Error| Error::Connect(error.to_string());
    let late = |_| Error::Timeout(options.timeout);
    let begun = Instant::now();
    let tcp = time::timeout(options.timeout, connect::tcp(endpoint)).await.map_err(late)?;
    let tcp = tcp.map_err(connect)?;
    steps.push(Step::since("DNS and TCP", begun));
    if !endpoint.tls {
        return Ok(Box::new(tcp));
    }
    let begun = Instant::now();
    let files = Files { ca: options.ca.as_deref(), ..Files::default() };
    let connector =
        tls::connector(&files, true).map_err(|error| Error::Connect(format!("TLS: {error}")))?;
    let tls = connect::tls(endpoint, tcp, &connector);
    let stream = time::timeout(options.timeout, tls).await.map_err(late)?.map_err(connect)?;
    steps.push(Step::since("TLS", begun));
    Ok(stream)
}

/// RFC 6455, section 4.1, in the order of its example.
fn request(
    endpoint: &Endpoint,
    key: &str,
    origin: Option<&str>,
    subprotocol: Option<&str>,
) -> Result<String, Error> {
    for (name, value) in [("origin", origin), ("subprotocol", subprotocol)] {
        if value.is_some_and(|value| !value.bytes().all(|b| b == b' ' || b.is_ascii_graphic())) {
            return Err(Error::Header(name));
        }
    }
    let mut text = format!(
        "GET {} HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: {key}\r\n",
        endpoint.path,
        endpoint.authority(),
    );
    if let Some(origin) = origin {
        text += &format!("Origin: {origin}\r\n");
    }
    if let Some(subprotocol) = subprotocol {
        text += &format!("Sec-WebSocket-Protocol: {subprotocol}\r\n");
    }
    Ok(text + "Sec-WebSocket-Version: 13\r\n\r\n")
}

/// Sends the request and reads up to the end of the response's head; what came
/// after it belongs to the WebSocket.
async fn exchange(stream: &mut Stream, request: &str) -> Result<(Vec<u8>, Vec<u8>), Error> {
    stream.write_all(request.as_bytes()).await?;
    stream.flush().await?;
    let mut answer = Vec::new();
    loop {
        let mut chunk = [0; 1024];
        let length = stream.read(&mut chunk).await?;
        if length == 0 {
            return Err(Error::Closed(answer.len()));
        }
        answer.extend_from_slice(&chunk[..length]);
        if let Some(end) = answer.windows(4).position(|four| four == b"\r\n\r\n") {
            let rest = answer.split_off(end + 4);
            return Ok((answer, rest));
        }
        if answer.len() > RESPONSE_MAX {
            return Err(Error::TooLong);
        }
    }
}

/// MQTT over the open WebSocket.
async fn mqtt(stream: Stream, rest: Vec<u8>, options: &Options) -> Check {
    let limits =
        WebSocketConfig::default().read_buffer_size(4096).max_message_size(Some(RESPONSE_MAX));
    let socket =
        WebSocketStream::from_partially_read(stream, rest, Role::Client, Some(limits)).await;
    let mut transport = Transport::websocket(socket);
    let client_id = format!("tidemill-{:08x}", std::process::id());
    let hello = Hello { client_id, keep_alive: 30, clean: true, ..Hello::default() };
    let asked = connack(&mut transport, options.version, &hello);
    let found = match time::timeout(options.timeout, asked).await {
        Ok(Ok(())) => Ok("accepted".to_owned()),
        Ok(Err(why)) => Err(why),
        Err(_) => Err(format!("no answer within {:?}", options.timeout)),
    };
    let _ = time::timeout(Duration::from_millis(500), transport.close()).await;
    Check::new("MQTT CONNACK", "MQTT 3.2", "accepted", found)
}

/// CONNECT, CONNACK, DISCONNECT; or why the broker refuses.
pub(crate) async fn connack(
    transport: &mut Transport,
    version: Version,
    hello: &Hello,
) -> Result<(), String> {
    let codec = Codec(version);
    let (mut out, mut received) = (BytesMut::new(), BytesMut::new());
    codec.connect(hello, &mut out);
    transport.send(out.split().freeze());
    loop {
        if transport.next(&mut received, true).await.map_err(|e| e.to_string())? == Event::Sent {
            continue;
        }
        match codec.decode(&mut received).map_err(|error| error.to_string())? {
            None => (),
            Some(Incoming::Connack(ack)) => match ack.refused {
                Some(reason) => return Err(reason),
                None => break,
            },
            Some(_) => return Err("another packet than CONNACK".to_owned()),
        }
    }
    codec.disconnect(&mut out);
    if transport.is_idle() {
        transport.send(out.split().freeze());
    }
    while !transport.is_idle() {
        // The answer was had; what follows doesn't matter.
        if transport.next(&mut received, true).await.is_err() {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The handshake of the page that this project began with.
    #[test]
    fn the_key_of_the_seed_has_the_accept_value_of_the_seed() {
        let accept = Accept::of("OfMWmQZlMFBWe/o7k1CzZg==");
        assert_eq!(accept.value, "PqfV+Vb3mDtpMlZ/bO+GBzyX4N8=");
        assert_eq!(accept.sha1, "3ea7d5f956f7983b6932567f6cef86073c97e0df");
    }

    /// RFC 6455, section 1.3.
    #[test]
    fn the_example_of_the_standard() {
        assert_eq!(Accept::of("dGhlIHNhbXBsZSBub25jZQ==").value, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn the_request_can_not_be_split_by_a_value() {
        let endpoint = Endpoint::parse("ws://a:9001/mqtt?x=1").unwrap();
        let text = request(&endpoint, "KEY", Some("https://b"), Some("mqtt")).unwrap();
        assert_eq!(
            text,
            "GET /mqtt?x=1 HTTP/1.1\r\nHost: a:9001\r\nUpgrade: websocket\r\n\
             Connection: Upgrade\r\nSec-WebSocket-Key: KEY\r\nOrigin: https://b\r\n\
             Sec-WebSocket-Protocol: mqtt\r\nSec-WebSocket-Version: 13\r\n\r\n"
        );
        assert!(request(&endpoint, "KEY", Some("a\r\nX: y"), None).is_err());
    }
}
