//! From a URL to a stream that carries MQTT: DNS, TCP, TLS, WebSocket. Each
//! step is a function of its own, and says in its error which one failed.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};
use tokio::time;
use tokio_rustls::TlsConnector;
use tokio_tungstenite::tungstenite::error::{Error as WsError, ProtocolError, SubProtocolError};
use tokio_tungstenite::tungstenite::handshake::client::{Request, generate_key};
use tokio_tungstenite::tungstenite::http::{self, StatusCode};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use crate::codec::INCOMING_MAX;
use crate::tls::{self, Files};
use crate::transport::{FRAME, Transport};
use crate::{Config, Endpoint};

/// One address may not use up the time of the others: names with a dead IPv6
/// address are common.
const ADDRESS_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection of any kind.
pub trait Bytestream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Bytestream for T {}

/// What every layer above TCP is spoken over.
pub type Stream = Box<dyn Bytestream>;

/// Reaches a broker in another way than by DNS and TCP.
pub type Dial = Arc<
    dyn Fn(&Endpoint) -> Pin<Box<dyn Future<Output = io::Result<Stream>> + Send>> + Send + Sync,
>;

/// Which step failed, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("DNS: {host} is not found: {error}")]
    Dns { host: String, error: io::Error },
    #[error("TCP: {authority} refuses the connection: is the broker running, and on this port?")]
    Closed { authority: String },
    #[error("TCP: {authority} can't be reached: {error}")]
    Tcp { authority: String, error: io::Error },
    #[error("TLS: {0}")]
    TlsSettings(#[from] tls::Error),
    #[error("TLS: {0:?} is not a name that a certificate can hold")]
    TlsName(String),
    #[error("TLS: {}", tls::explained(.0))]
    Tls(io::Error),
    #[error("WebSocket: {0}")]
    WebSocket(String),
    #[error("no connection within {0:?}")]
    Timeout(Duration),
}

/// All the steps, within the configured time.
pub(crate) async fn connect(
    config: &Config,
    endpoint: &Endpoint,
    dial: Option<&Dial>,
) -> Result<Transport, Error> {
    let files = Files {
        ca: config.ca.as_deref(),
        cert: config.cert.as_deref(),
        key: config.key.as_deref(),
    };
    // Before the network: a wrong certificate is no reason to disturb a broker.
    let connector = endpoint.tls.then(|| tls::connector(&files, endpoint.websocket)).transpose()?;
    let all = async {
        let mut stream: Stream = match dial {
            Some(dial) => dial(endpoint).await.map_err(|error| unreachable(endpoint, error))?,
            None => Box::new(tcp(endpoint).await?),
        };
        if let Some(connector) = &connector {
            stream = tls(endpoint, stream, connector).await?;
        }
        if endpoint.websocket {
            let largest = usize::try_from(config.max_packet.as_u64()).unwrap_or(usize::MAX);
            websocket(config, endpoint, stream, largest).await.map(Transport::websocket)
        } else {
            Ok(Transport::stream(stream))
        }
    };
    time::timeout(config.connect_timeout, all)
        .await
        .unwrap_or(Err(Error::Timeout(config.connect_timeout)))
}

/// The addresses of a host.
pub(crate) async fn resolve(endpoint: &Endpoint) -> Result<Vec<SocketAddr>, Error> {
    let unknown = |error| Error::Dns { host: endpoint.host.clone(), error };
    let found: Vec<SocketAddr> =
        lookup_host((endpoint.host.as_str(), endpoint.port)).await.map_err(unknown)?.collect();
    if found.is_empty() { Err(unknown(io::ErrorKind::NotFound.into())) } else { Ok(found) }
}

/// The first address that answers.
pub(crate) async fn tcp(endpoint: &Endpoint) -> Result<TcpStream, Error> {
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for address in resolve(endpoint).await? {
        match time::timeout(ADDRESS_TIMEOUT, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                // A publish waits for nothing: batching is ours, not Nagle's.
                stream.set_nodelay(true).map_err(|error| unreachable(endpoint, error))?;
                return Ok(stream);
            }
            Ok(Err(error)) => last = error,
            Err(_) => last = io::ErrorKind::TimedOut.into(),
        }
    }
    Err(unreachable(endpoint, last))
}

fn unreachable(endpoint: &Endpoint, error: io::Error) -> Error {
    let authority = format!("{}:{}", endpoint.host, endpoint.port);
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Error::Closed { authority },
        _ => Error::Tcp { authority, error },
    }
}

/// TLS over a connection of any kind.
pub(crate) async fn tls(
    endpoint: &Endpoint,
    stream: impl Bytestream + 'static,
    connector: &TlsConnector,
) -> Result<Stream, Error> {
    let name = ServerName::try_from(endpoint.host.clone())
        .map_err(|_| Error::TlsName(endpoint.host.clone()))?;
    let stream = connector.connect(name, stream).await.map_err(Error::Tls)?;
    Ok(Box::new(stream))
}

/// The opening handshake, as configured.
pub(crate) async fn websocket(
    config: &Config,
    endpoint: &Endpoint,
    stream: Stream,
    largest: usize,
) -> Result<WebSocketStream<Stream>, Error> {
    let request = request(config, endpoint).map_err(|e| Error::WebSocket(e.to_string()))?;
    // One frame is written at a time and flushed, so the buffer holds that one
    // and a pong or two.
    let limits = WebSocketConfig::default()
        .read_buffer_size(8 * 1024)
        .write_buffer_size(FRAME)
        .max_write_buffer_size(2 * FRAME + 2 * largest + 1024)
        .max_message_size(Some(INCOMING_MAX as usize + 5))
        .max_frame_size(Some(INCOMING_MAX as usize + 5));
    let (socket, _) = client_async_with_config(request, stream, Some(limits))
        .await
        .map_err(|error| Error::WebSocket(refusal(&error, config)))?;
    Ok(socket)
}

fn request(config: &Config, endpoint: &Endpoint) -> http::Result<Request> {
    let mut request = http::Request::builder()
        .uri(endpoint.full())
        .header("Host", endpoint.authority())
        .header("Connection", "Upgrade")
        .header("Upgrade", "websocket")
        .header("Sec-WebSocket-Version", "13")
        .header("Sec-WebSocket-Key", generate_key())
        .header("Sec-WebSocket-Protocol", config.subprotocol.as_str());
    if let Some(origin) = &config.origin {
        request = request.header("Origin", origin);
    }
    for (name, value) in &config.headers {
        request = request.header(name, value);
    }
    request.body(())
}

/// A failed handshake for people, with the mend where one is known.
fn refusal(error: &WsError, config: &Config) -> String {
    let offered = config.subprotocol.as_str();
    match error {
        WsError::Http(response) => {
            let status = response.status();
            let mend = match status {
                StatusCode::NOT_FOUND => ": check the path of the URL",
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                    ": check `origin`, `headers` and the query of the URL"
                }
                StatusCode::BAD_REQUEST => ": check the path of the URL and `subprotocol`",
                _ if status.is_redirection() => ": it redirects; set the URL it leads to",
                _ if status.is_success() => ": that is a web server, not a WebSocket",
                _ => "",
            };
            format!("the server answers {status} instead of 101{mend}")
        }
        WsError::Protocol(ProtocolError::SecWebSocketSubProtocolError(which)) => match which {
            SubProtocolError::NoSubProtocol => {
                format!("the server didn't choose the subprotocol {offered}: set `subprotocol`")
            }
            _ => format!("the server chose another subprotocol than {offered}"),
        },
        WsError::Protocol(ProtocolError::HandshakeIncomplete) => {
            "the server closed the connection during the handshake: is it a WebSocket?".to_owned()
        }
        WsError::Io(error) => {
            let why = tls::explained(error);
            format!("the connection broke during the handshake ({why}): is it a WebSocket?")
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use tokio_tungstenite::tungstenite::handshake::client::generate_request;

    use super::*;

    #[test]
    fn the_request_is_the_configured_one() {
        let config: Config = toml::from_str(
            r#"
            url = "wss://hub.example:8884/$iothub/websocket?a=%2F&b"
            origin = "https://example.com"
            subprotocol = "mqttv3.1"
            headers = { Authorization = "Bearer x" }
            "#,
        )
        .unwrap();
        let request = request(&config, &config.endpoints()[0]).unwrap();
        let (bytes, _) = generate_request(request).unwrap();
        let text = String::from_utf8(bytes).unwrap().to_ascii_lowercase();
        for line in [
            "get /$iothub/websocket?a=%2f&b http/1.1",
            "host: hub.example:8884",
            "origin: https://example.com",
            "sec-websocket-protocol: mqttv3.1",
            "authorization: bearer x",
        ] {
            assert!(text.contains(&format!("{line}\r\n")), "{line} in {text}");
        }
    }

    #[test]
    fn no_origin_is_sent_unless_asked_for() {
        let config: Config = toml::from_str("url = \"ws://a\"").unwrap();
        let (bytes, _) =
            generate_request(request(&config, &config.endpoints()[0]).unwrap()).unwrap();
        let text = String::from_utf8(bytes).unwrap();
        assert!(text.starts_with("GET / HTTP/1.1\r\nHost: a\r\n") && !text.contains("Origin"));
    }
}
