//! The listeners, and the connections they take.
//!
//! Not `axum::serve`: it waits for ever for the rest of a request's head.
//! hyper's own builder closes a connection that hasn't sent one in time, also
//! one that has sent nothing at all.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use axum::http::header::{self, HeaderValue};
use axum::http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::access::Access;
use crate::feed::{self, Patience};
use crate::guard::{self, Guard, Peer, Refusal, network};
use crate::history::History;
use crate::links::Links;
use crate::outputs::Outputs;
use crate::pulse::Pulse;
use crate::stream::{Deadline, Stream};
use crate::tls::Certificate;
use crate::upgrade::Slot;
use crate::{App, Hub, api};

/// Connections in all. Each may cost some 100 KiB, and a service has 1,024 file
/// descriptors unless its unit says otherwise.
const CONNECTIONS_MAX: usize = 768;

/// Connections from one address (IPv6: from one /64): a browser opens six. Not
/// for loopback, where a reverse proxy speaks for everyone.
const ADDRESS_CONNECTIONS_MAX: usize = 64;

/// Connections of the control socket, which have places of their own: `status`
/// works while browsers hold all others.
const CONTROL_CONNECTIONS_MAX: usize = 32;

/// A request's head: line and headers.
const HEAD_MAX: usize = 16 << 10;

/// Headers in it. A browser sends some fifteen.
const HEADERS_MAX: usize = 64;

/// What the kernel holds for a client that doesn't read. Its default grows to
/// megabytes: then a slow client would see old readings rather than skip them.
const SEND_BUFFER: usize = 128 << 10;

/// How many connections there may be, and how patient they are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Connections in all, but for the control socket's.
    pub(crate) connections: usize,
    /// The whole head of a request, and a TLS handshake, has to come within
    /// this; also the next one on the same connection.
    pub(crate) head: Duration,
    /// An answer has to be found within this.
    pub(crate) answer: Duration,
    /// A write has to make progress within this.
    pub(crate) write: Duration,
    /// How long connections have to end when we stop.
    pub(crate) grace: Duration,
    pub(crate) feed: Patience,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections: CONNECTIONS_MAX,
            head: Duration::from_secs(5),
            answer: Duration::from_secs(20),
            write: Duration::from_secs(20),
            grace: Duration::from_secs(3),
            feed: Patience::default(),
        }
    }
}

/// What every connection shares.
struct Server {
    guard: Guard,
    access: Access,
    history: Arc<History>,
    outputs: Outputs,
    router: TowerToHyperService<axum::Router>,
    hub: Hub,
    pulse: Arc<Pulse>,
    limits: Limits,
    tls: Option<Certificate>,
    stop: CancellationToken,
    places: Arc<Semaphore>,
    control_places: Arc<Semaphore>,
    addresses: Arc<Addresses>,
}

/// Serves the page, the feed and the API until told to stop; on `control`
/// without Host, Origin and address checks, since the socket's permissions say
/// who may connect.
///
/// # Errors
/// When the certificate or its key can't be used. Afterwards never: a fault of
/// `accept` is waited out.
pub async fn serve(
    listener: TcpListener,
    control: Option<UnixListener>,
    app: App,
    stop: CancellationToken,
) -> io::Result<()> {
    serve_within(Limits::default(), listener, control, app, stop).await
}

/// [`serve`] with other limits.
pub(crate) async fn serve_within(
    limits: Limits,
    listener: TcpListener,
    control: Option<UnixListener>,
    app: App,
    stop: CancellationToken,
) -> io::Result<()> {
    let address = listener.local_addr()?;
    let tls = match &app.config.tls {
        Some(tls) => Some(Certificate::load(tls.clone()).await),
        None => None,
    };
    let pulse = Arc::new(Pulse::new(app.status));
    let host_name = host_name();
    let links = Links::new(app.config.tls.is_some(), &host_name, address);
    links.welcome(&app.access);
    let outputs = Outputs::new(app.hub.clone(), app.set);
    let history = Arc::new(History::new(app.hub.clone(), app.store));
    let router = api::router(api::Shown {
        history: history.clone(),
        hub: app.hub.clone(),
        pulse: pulse.clone(),
        access: app.access.clone(),
        outputs: outputs.clone(),
        links: Arc::new(links),
        line: app.line,
        configuration: app.configuration,
    });
    let server = Arc::new(Server {
        guard: Guard::new(&app.config, &host_name, address.port()),
        access: app.access,
        history,
        outputs,
        router: TowerToHyperService::new(router),
        hub: app.hub,
        pulse: pulse.clone(),
        limits,
        tls,
        stop: stop.clone(),
        places: Arc::new(Semaphore::new(limits.connections)),
        control_places: Arc::new(Semaphore::new(CONTROL_CONNECTIONS_MAX)),
        addresses: Arc::default(),
    });
    let mut connections = JoinSet::new();
    let mut beat = pin!(pulse.run());
    let mut renewal = pin!(async {
        match &server.tls {
            Some(certificate) => certificate.renew().await,
            None => std::future::pending().await,
        }
    });
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            () = &mut beat => (),
            () = &mut renewal => (),
            accepted = listener.accept() => match accepted {
                Ok((stream, address)) => server.admit(&mut connections, stream, address.ip()),
                Err(error) => rest(&error).await,
            },
            accepted = accept_control(control.as_ref()) => match accepted {
                Ok(stream) => server.admit_control(&mut connections, stream),
                Err(error) => rest(&error).await,
            },
            Some(ended) = connections.join_next() => report(ended),
        }
    }
    // Close the door first, then let everybody leave.
    drop((listener, control));
    let leave = async {
        while let Some(ended) = connections.join_next().await {
            report(ended);
        }
    };
    if timeout(limits.grace, leave).await.is_err() {
        debug!(connections = connections.len(), "gave up waiting for connections");
    }
    Ok(())
}

async fn accept_control(control: Option<&UnixListener>) -> io::Result<UnixStream> {
    match control {
        Some(control) => control.accept().await.map(|(stream, _)| stream),
        None => std::future::pending().await,
    }
}

/// `accept` fails for want of file descriptors: at once again would only burn.
async fn rest(error: &io::Error) {
    warn!(%error, "cannot accept a connection");
    sleep(Duration::from_millis(100)).await;
}

/// A bug of ours in one connection is that connection's end alone.
fn report(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        warn!(%error, "a connection's task failed");
    }
}

impl Server {
    fn admit(self: &Arc<Self>, tasks: &mut JoinSet<()>, stream: TcpStream, address: IpAddr) {
        let address = address.to_canonical();
        // Both places are given back when the connection's task ends. Who gets
        // none is closed: to say why would cost what the limit saves.
        let Ok(place) = self.places.clone().try_acquire_owned() else {
            debug!(%address, "refused: all connections are taken");
            return;
        };
        let Some(entry) = self.addresses.enter(address) else {
            debug!(%address, "refused: too many connections from this address");
            return;
        };
        // Neither option is needed for a connection to work.
        let _ = stream.set_nodelay(true);
        let _ = SockRef::from(&stream).set_send_buffer_size(SEND_BUFFER);
        let server = Arc::clone(self);
        tasks.spawn(async move {
            let _places = (place, entry);
            let stream: Box<dyn Stream> = match &server.tls {
                None => Box::new(stream),
                Some(tls) => {
                    let Some(acceptor) = tls.acceptor() else {
                        return debug!(%address, "no certificate to show");
                    };
                    match timeout(server.limits.head, acceptor.accept(stream)).await {
                        Ok(Ok(stream)) => Box::new(stream),
                        Ok(Err(error)) => return debug!(%address, %error, "no TLS handshake"),
                        Err(_) => return debug!(%address, "no TLS handshake in time"),
                    }
                }
            };
            server.converse(stream, Peer::Address(address)).await;
        });
    }

    fn admit_control(self: &Arc<Self>, tasks: &mut JoinSet<()>, stream: UnixStream) {
        let Ok(place) = self.control_places.clone().try_acquire_owned() else { return };
        let server = Arc::clone(self);
        tasks.spawn(async move {
            let _place = place;
            server.converse(Box::new(stream), Peer::Control).await;
        });
    }

    /// One connection: any number of requests, then perhaps the feed.
    async fn converse(&self, stream: Box<dyn Stream>, peer: Peer) {
        let io = TokioIo::new(Deadline::new(stream, self.limits.write));
        let slot = Slot::default();
        let service = service_fn(|request| {
            let slot = slot.clone();
            async move { Ok::<_, std::convert::Infallible>(self.answer(peer, slot, request).await) }
        });
        let mut connection = pin!(
            http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(self.limits.head)
                .max_buf_size(HEAD_MAX)
                .max_headers(HEADERS_MAX)
                .serve_connection(io, service)
                .with_upgrades()
        );
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = self.stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            debug!(?peer, %error, "connection ended");
        }
        if let Some(accepted) = slot.take() {
            let around = feed::Around {
                hub: &self.hub,
                pulse: &self.pulse,
                history: &self.history,
                access: &self.access,
                outputs: &self.outputs,
                stop: &self.stop,
            };
            feed::run(accepted, around, self.limits.feed).await;
        }
    }

    async fn answer(
        &self,
        peer: Peer,
        slot: Slot,
        mut request: Request<Incoming>,
    ) -> Response<Body> {
        let path = request.uri().path().to_owned();
        let caller = self.guard.check(peer, &request);
        let caller = caller.and_then(|()| self.guard.admit(&self.access, peer, &request));
        let mut response = match caller {
            Err(refusal) => api::refuse(&path, &refusal),
            Ok(caller) => {
                request.extensions_mut().insert(slot);
                request.extensions_mut().insert(caller);
                match timeout(self.limits.answer, self.router.call(request)).await {
                    Ok(Ok(response)) => response,
                    Ok(Err(never)) => match never {},
                    Err(_) => {
                        let reason = "the answer took too long: ask for less";
                        let refusal = Refusal::new(StatusCode::SERVICE_UNAVAILABLE, reason);
                        api::refuse(&path, &refusal)
                    }
                }
            }
        };
        let headers = response.headers_mut();
        guard::protect(headers);
        if !headers.contains_key(header::CACHE_CONTROL) {
            headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        }
        response
    }
}

/// How many connections each address has.
#[derive(Default)]
struct Addresses(Mutex<HashMap<IpAddr, usize>>);

/// One connection of an address.
struct Entry {
    addresses: Arc<Addresses>,
    key: Option<IpAddr>,
}

impl Addresses {
    fn enter(self: &Arc<Self>, address: IpAddr) -> Option<Entry> {
        let key = (!address.is_loopback()).then(|| network(address));
        if let Some(key) = key {
            let mut counts = self.0.lock().expect("no holder panics");
            let count = counts.entry(key).or_default();
            if *count >= ADDRESS_CONNECTIONS_MAX {
                return None;
            }
            *count += 1;
        }
        Some(Entry { addresses: self.clone(), key })
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let Some(key) = self.key else { return };
        let mut counts = self.addresses.0.lock().expect("no holder panics");
        if let Some(count) = counts.get_mut(&key) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&key);
            }
        }
    }
}

/// This machine's name; empty when the kernel doesn't tell.
fn host_name() -> String {
    std::fs::read_to_string(Path::new("/proc/sys/kernel/hostname")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_so_many_connections_and_gets_them_back() {
        let addresses = Arc::<Addresses>::default();
        let enter = |text: &str| addresses.enter(text.parse().unwrap());
        let mut held: Vec<_> =
            (0..ADDRESS_CONNECTIONS_MAX).map(|n| enter(&format!("fd00::{n:x}")).unwrap()).collect();
        assert!(enter("fd00::ffff").is_none(), "one host, whatever its suffix");
        assert!(enter("fd00:0:0:1::1").is_some());
        held.pop();
        assert!(enter("fd00::ffff").is_some());
        drop(held);
        assert!(addresses.0.lock().unwrap().is_empty(), "an address that left takes no memory");
        let loopback: Vec<_> = (0..=ADDRESS_CONNECTIONS_MAX).map(|_| enter("127.0.0.1")).collect();
        assert!(loopback.iter().all(Option::is_some));
    }
}
