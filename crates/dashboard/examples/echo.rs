//! An echo on the gateway's own WebSocket code: `echo 127.0.0.1:9001`.

use tokio::net::TcpListener;

/// Some conformance cases send messages of 16 MiB.
const MESSAGE_MAX: usize = 32 << 20;

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:9001".to_owned());
    dashboard::echo::serve(TcpListener::bind(address).await?, MESSAGE_MAX).await
}
