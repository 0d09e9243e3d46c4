//! Sends back what it is sent, on the gateway's own upgrade and framing: for the
//! conformance cases (`cargo xtask conformance`), which need an echo. Not in the
//! gateway.

use axum::body::Body;
use axum::http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::access::Who;
use crate::guard::{Caller, Peer};
use crate::upgrade::{self, Slot};
use crate::ws::{Broken, Event, Socket};

/// Connections at once: the cases come one by one.
const CONNECTIONS_MAX: usize = 64;

/// Echoes until `listener` fails. `max` bytes are the longest message, which is
/// all that differs from the feed: some cases send 16 MiB.
///
/// # Errors
/// When nobody can connect any more.
pub async fn serve(listener: TcpListener, max: usize) -> std::io::Result<()> {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await?;
        if connections.len() >= CONNECTIONS_MAX {
            connections.join_next().await;
        }
        connections.spawn(converse(stream, max));
    }
}

async fn converse(stream: TcpStream, max: usize) {
    let slot = Slot::default();
    let service = service_fn(|request: Request<Incoming>| {
        let slot = slot.clone();
        async move { Ok::<_, std::convert::Infallible>(answer(request, slot)) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    if connection.await.is_err() {
        return;
    }
    let Some(accepted) = slot.take() else { return };
    let Ok(upgraded) = accepted.upgrade.await else { return };
    let mut socket = Socket::new(TokioIo::new(upgraded), max, accepted.deflate);
    // A client that is gone needs no answer.
    let _ = echo(&mut socket).await;
    socket.shutdown().await;
}

fn answer(request: Request<Incoming>, slot: Slot) -> Response<Body> {
    let mut request = request.map(Body::new);
    let (peer, who) = (Peer::Control, Who::Control);
    request.extensions_mut().insert(slot);
    request.extensions_mut().insert(Caller { peer, who, anyone: true, secure: false });
    upgrade::accept(request).unwrap_or_else(|(status, reason)| {
        let mut response = Response::new(Body::from(reason));
        *response.status_mut() = status;
        response
    })
}

async fn echo<S>(socket: &mut Socket<S>) -> Result<(), Broken>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    loop {
        match socket.receive().await {
            Ok(Event::Text(text)) => socket.echo(true, text.as_bytes()).await?,
            Ok(Event::Binary(bytes)) => socket.echo(false, &bytes).await?,
            Ok(Event::Ping(payload)) => socket.pong(&payload).await?,
            Ok(Event::Pong) => (),
            Ok(Event::Close(code)) => return socket.close(code, "").await,
            Err(Broken::Wrong(wrong)) => {
                let (code, why) = wrong.told();
                return socket.close(Some(code), why).await;
            }
            Err(Broken::Gone) => return Err(Broken::Gone),
        }
    }
}
