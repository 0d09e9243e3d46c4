//! A line or connection that several devices share: one asks at a time, in the
//! order in which they came.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex as Registry, PoisonError, Weak};
use std::time::Duration;

use reading::Fault;
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::time;
use tokio_serial::{Parity, SerialPortBuilderExt, SerialStream, StopBits};

use super::rtu::Rtu;
use super::tcp::Tcp;
use super::{Telegram, Trouble};
use crate::Failure;
use crate::drivers::refused;
use crate::serial::rs485::Rs485;

/// How long a connection may take to be made.
const CONNECT_MAX: Duration = Duration::from_secs(5);

/// Every bus of this process that a device is on.
static BUSES: Registry<Vec<Weak<Bus>>> = Registry::new(Vec::new());

/// How to reach slaves.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Wire {
    /// RTU on a serial port.
    Serial { path: PathBuf, line: Line },
    /// TCP, to `host:port`.
    Tcp(String),
}

/// The settings of a serial line, the same for all on it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Line {
    /// Bits a second.
    pub baud: u32,
    pub parity: Parity,
    pub stop_bits: StopBits,
    pub rs485: Option<Rs485>,
}

/// A wire with devices on it. The last that leaves closes it.
#[derive(Debug)]
pub(crate) struct Bus {
    wire: Wire,
    link: Mutex<Option<Link>>,
}

#[derive(Debug)]
enum Link {
    Rtu(Rtu<SerialStream>),
    Tcp(Tcp<TcpStream>),
}

impl Wire {
    /// For people: the port or the host.
    pub(crate) fn name(&self) -> String {
        match self {
            Wire::Serial { path, .. } => path.display().to_string(),
            Wire::Tcp(host) => host.clone(),
        }
    }

    fn is_same_place(&self, other: &Wire) -> bool {
        // The same port by its other name is the same port.
        let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
        match (self, other) {
            (Wire::Serial { path, .. }, Wire::Serial { path: other, .. }) => {
                real(path) == real(other)
            }
            (one, other) => one == other,
        }
    }

    async fn connect(&self) -> Result<Link, Failure> {
        match self {
            Wire::Serial { path, line } => {
                let path = path.to_string_lossy();
                let port = tokio_serial::new(path.as_ref(), line.baud)
                    .parity(line.parity)
                    .stop_bits(line.stop_bits)
                    // Exclusive: another master's questions would break ours.
                    .exclusive(true)
                    .open_native_async()
                    .map_err(|error| refused(&path, &error))?;
                if let Some(rs485) = &line.rs485 {
                    rs485.apply(&path, &port)?;
                }
                Ok(Link::Rtu(Rtu::over(port, line.baud)))
            }
            Wire::Tcp(host) => {
                let stream = match time::timeout(CONNECT_MAX, TcpStream::connect(host)).await {
                    Ok(Ok(stream)) => stream,
                    Ok(Err(error)) => {
                        let detail =
                            format!("{host}: {error}; is it switched on, and the port right?");
                        return Err(Failure::new(Fault::Absent, detail));
                    }
                    Err(_) => {
                        let detail =
                            format!("{host}: no connection within 5 s; is it switched on?");
                        return Err(Failure::new(Fault::Timeout, detail));
                    }
                };
                // A question is one small packet, and waited for.
                stream.set_nodelay(true).map_err(|error| Failure::io(host, &error))?;
                Ok(Link::Tcp(Tcp::over(stream)))
            }
        }
    }
}

impl Bus {
    /// The bus on this wire, which other devices may be on already.
    ///
    /// # Errors
    /// When they are, with other settings.
    pub(crate) fn on(wire: Wire) -> Result<Arc<Bus>, Failure> {
        let mut buses = BUSES.lock().unwrap_or_else(PoisonError::into_inner);
        buses.retain(|bus| bus.strong_count() > 0);
        let mut there = buses.iter().filter_map(Weak::upgrade);
        if let Some(bus) = there.find(|bus| bus.wire.is_same_place(&wire)) {
            let same = match (&bus.wire, &wire) {
                (Wire::Serial { line, .. }, Wire::Serial { line: other, .. }) => line == other,
                _ => true,
            };
            if same {
                return Ok(bus);
            }
            let detail = format!(
                "{}: another device reads it with other settings; baud, parity and stop_bits must \
                 be the same for all on one line",
                wire.name()
            );
            return Err(Failure::new(Fault::Busy, detail));
        }
        let bus = Arc::new(Bus { wire, link: Mutex::new(None) });
        buses.push(Arc::downgrade(&bus));
        Ok(bus)
    }

    pub(crate) fn wire(&self) -> &Wire {
        &self.wire
    }

    /// Asks a slave when it is this device's turn, opening the wire when it is
    /// not open. `patience` is how long the answer may take.
    pub(crate) async fn ask(
        &self,
        address: u8,
        request: Telegram<'_>,
        patience: Duration,
    ) -> Result<Vec<u8>, Trouble> {
        let mut link = self.link.lock().await;
        let open = match link.take() {
            Some(Link::Tcp(mut tcp)) => {
                let answer = tcp.ask(address, request, patience).await;
                if matches!(answer, Ok(_) | Err(Trouble::Exception(_))) {
                    *link = Some(Link::Tcp(tcp));
                }
                match answer {
                    // Many servers close a connection that was idle: a new one
                    // tells whether there is more to it.
                    Err(Trouble::Gone(_)) => None,
                    answer => return self.named(answer),
                }
            }
            open => open,
        };
        let open = match open {
            Some(open) => open,
            None => self.wire.connect().await.map_err(Trouble::Gone)?,
        };
        let answer = match open {
            // A connection is put back when its answer has come: else it is
            // dropped, also when whoever asks leaves in the middle.
            Link::Tcp(mut tcp) => {
                let answer = tcp.ask(address, request, patience).await;
                if matches!(answer, Ok(_) | Err(Trouble::Exception(_))) {
                    *link = Some(Link::Tcp(tcp));
                }
                answer
            }
            // A line stays where it is: it has to remember what it is owed.
            rtu @ Link::Rtu(_) => match link.insert(rtu) {
                Link::Rtu(rtu) => {
                    let answer = rtu.ask(address, request, patience).await;
                    if matches!(answer, Err(Trouble::Gone(_))) {
                        // Let go of the port at once, or it comes back under
                        // another name.
                        *link = None;
                    }
                    answer
                }
                Link::Tcp(_) => Err(Trouble::Silence),
            },
        };
        self.named(answer)
    }

    fn named(&self, answer: Result<Vec<u8>, Trouble>) -> Result<Vec<u8>, Trouble> {
        answer.map_err(|trouble| match trouble {
            Trouble::Gone(failure) => {
                let detail = format!("{}: {}", self.wire.name(), failure.detail);
                let fault = if failure.fault == Fault::Io { Fault::Absent } else { failure.fault };
                Trouble::Gone(Failure::new(fault, detail))
            }
            trouble => trouble,
        })
    }
}
