//! A small MQTT broker, for `tidemill demo` and for the tests.
//!
//! It speaks MQTT 3.1.1 and 5 over WebSocket (any path, the subprotocols `mqtt`
//! and `mqttv3.1`) and, when asked, over TCP. It keeps retained messages, wills
//! and subscriptions with `+` and `#`, takes QoS 0, 1 and 2 and delivers at QoS
//! 0 or 1. It remembers nothing of a client that is away, has no users and no
//! TLS, and is meant for loopback alone.
//!
//! It can be bent: see [`Behaviour`].

mod behaviour;
mod client;
mod hub;
mod packet;
mod topic;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time;
use tokio_tungstenite::accept_hdr_async_with_config;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::{HeaderValue, StatusCode};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::connect::Stream;
use crate::transport::{FRAME, Transport};
use hub::Hub;

pub use behaviour::Behaviour;
pub use hub::Message;

/// Connections at a time; further ones are closed. A demo has a handful.
const CLIENTS_MAX: usize = 256;
/// The largest packet of a client.
const PACKET_MAX: u32 = 1024 * 1024;
/// For the WebSocket handshake, and again for CONNECT.
const PATIENCE: Duration = Duration::from_secs(5);
/// After the listener failed, lest a lack of descriptors becomes a busy loop.
const REST: Duration = Duration::from_millis(50);

/// Listens for MQTT clients.
pub struct Broker {
    websocket: TcpListener,
    tcp: Option<TcpListener>,
    address: SocketAddr,
    hub: Arc<Hub>,
}

/// Bends a broker and looks into it, also while it runs.
#[derive(Clone)]
pub struct Handle {
    hub: Arc<Hub>,
}

impl Broker {
    /// Listens for WebSocket clients; port 0 takes any that is free.
    ///
    /// # Errors
    /// When the address can't be listened on.
    pub async fn bind(address: SocketAddr) -> io::Result<Broker> {
        let websocket = TcpListener::bind(address).await?;
        let address = websocket.local_addr()?;
        Ok(Broker { websocket, tcp: None, address, hub: Hub::new() })
    }

    /// Listens for clients over plain TCP, too; returns their URL:
    /// `mqtt://127.0.0.1:PORT`.
    ///
    /// # Errors
    /// When the address can't be listened on.
    pub async fn bind_tcp(&mut self, address: SocketAddr) -> io::Result<String> {
        let listener = TcpListener::bind(address).await?;
        let url = format!("mqtt://{}", listener.local_addr()?);
        self.tcp = Some(listener);
        Ok(url)
    }

    /// Where WebSocket clients connect: `ws://127.0.0.1:PORT/mqtt`.
    pub fn url(&self) -> String {
        format!("ws://{}/mqtt", self.address)
    }

    /// The address of the WebSocket listener.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// For bending it and looking into it.
    pub fn handle(&self) -> Handle {
        Handle { hub: Arc::clone(&self.hub) }
    }

    /// Serves until told to stop, then ends every connection.
    pub async fn run(self, stop: CancellationToken) {
        let mut clients = JoinSet::new();
        loop {
            tokio::select! {
                accepted = self.websocket.accept() => {
                    let Some(stream) = welcome(accepted, &clients).await else { continue };
                    let (hub, stop) = (Arc::clone(&self.hub), stop.clone());
                    clients.spawn(async move {
                        match time::timeout(PATIENCE, upgrade(stream)).await {
                            Ok(Ok(transport)) => client::serve(transport, hub, stop).await,
                            Ok(Err(error)) => debug!(%error, "handshake failed"),
                            Err(_) => debug!("handshake took too long"),
                        }
                    });
                }
                accepted = accept(self.tcp.as_ref()) => {
                    let Some(stream) = welcome(accepted, &clients).await else { continue };
                    let transport = Transport::stream(Box::new(stream));
                    clients.spawn(client::serve(transport, Arc::clone(&self.hub), stop.clone()));
                }
                Some(_) = clients.join_next() => (),
                () = stop.cancelled() => break,
            }
        }
        // Each has the same token, and a write of its own that may be stuck.
        let _ = time::timeout(Duration::from_secs(1), async {
            while clients.join_next().await.is_some() {}
        })
        .await;
    }
}

impl Handle {
    /// Changes how the broker behaves from now on.
    pub fn bend(&self, change: impl FnOnce(&mut Behaviour)) {
        self.hub.behaviour.send_modify(change);
    }

    /// Everything published to matching topics from now on, retained messages
    /// first. When as many as `capacity` wait unread, the subscription ends.
    pub fn subscribe(&self, filter: &str, capacity: usize) -> mpsc::Receiver<Message> {
        self.hub.listen(filter, capacity)
    }

    /// Publishes as a client would.
    pub fn publish(&self, message: Message) {
        self.hub.publish(message, None);
    }

    /// The ids of the clients connected now.
    pub fn clients(&self) -> Vec<String> {
        self.hub.clients()
    }

    /// Cuts every connection without a word, as a lost network does once it is
    /// noticed.
    pub fn cut(&self) {
        self.hub.cut();
    }
}

async fn accept(listener: Option<&TcpListener>) -> io::Result<(TcpStream, SocketAddr)> {
    match listener {
        Some(listener) => listener.accept().await,
        None => std::future::pending().await,
    }
}

async fn welcome(
    accepted: io::Result<(TcpStream, SocketAddr)>,
    clients: &JoinSet<()>,
) -> Option<TcpStream> {
    match accepted {
        Ok((stream, _)) if clients.len() < CLIENTS_MAX => {
            stream.set_nodelay(true).ok().map(|()| stream)
        }
        Ok(_) => None,
        Err(error) => {
            debug!(%error, "can't accept");
            time::sleep(REST).await;
            None
        }
    }
}

async fn upgrade(stream: TcpStream) -> Result<Transport, Box<dyn std::error::Error + Send + Sync>> {
    let largest = PACKET_MAX as usize;
    let limits = WebSocketConfig::default()
        .read_buffer_size(8 * 1024)
        .write_buffer_size(FRAME)
        .max_write_buffer_size(2 * FRAME + 2 * largest)
        .max_message_size(Some(2 * largest))
        .max_frame_size(Some(2 * largest));
    let stream: Stream = Box::new(stream);
    let socket = accept_hdr_async_with_config(stream, choose, Some(limits)).await?;
    Ok(Transport::websocket(socket))
}

/// Takes the first subprotocol offered that is MQTT's (RFC 6455, 4.2.2). A
/// client that offers none is let in: simple ones forget it.
#[expect(clippy::result_large_err, reason = "the library's own type for a refusal")]
fn choose(request: &Request, mut response: Response) -> Result<Response, ErrorResponse> {
    const HEADER: &str = "Sec-WebSocket-Protocol";
    let offered: Vec<&str> = request
        .headers()
        .get_all(HEADER)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|list| list.split(','))
        .map(str::trim)
        .collect();
    match offered.iter().find(|name| matches!(**name, "mqtt" | "mqttv3.1")) {
        Some(name) => {
            if let Ok(value) = HeaderValue::from_str(name) {
                response.headers_mut().insert(HEADER, value);
            }
            Ok(response)
        }
        None if offered.is_empty() => Ok(response),
        None => {
            let mut refusal = ErrorResponse::new(Some("offer the subprotocol mqtt\n".to_owned()));
            *refusal.status_mut() = StatusCode::BAD_REQUEST;
            Err(refusal)
        }
    }
}
