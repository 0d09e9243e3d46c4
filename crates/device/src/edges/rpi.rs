//! A Raspberry Pi's lines through rppal, by their BCM numbers.

use async_trait::async_trait;
use reading::{Fault, Timestamp};
use rppal::gpio::{Error, Event, Gpio, InputPin, Trigger};
use tokio::sync::mpsc;

use super::{Bias, Edge, Input, Inputs, LineId};
use crate::Failure;
use crate::failure::fault;

/// A burst longer than this is a line that flutters; what doesn't fit is lost,
/// and the next change says so.
const EDGES_MAX: usize = 1024;

struct Rpi {
    pins: Vec<(InputPin, bool)>,
    edges: mpsc::Receiver<Edge>,
}

/// Takes the inputs.
///
/// # Errors
/// When this isn't a Pi that rppal knows, or there is no such line.
pub(crate) fn open(inputs: &[Input]) -> Result<Box<dyn Inputs>, Failure> {
    let gpio = Gpio::new().map_err(|error| failure(&error))?;
    let (sender, edges) = mpsc::channel(EDGES_MAX);
    let mut pins = Vec::new();
    for (place, input) in inputs.iter().enumerate() {
        let number = match &input.line {
            LineId::Offset(offset) => u8::try_from(*offset).unwrap_or(u8::MAX),
            LineId::Name(name) => {
                let detail = format!("rppal knows lines by their BCM number, not by \"{name}\"");
                return Err(Failure::new(Fault::Absent, detail));
            }
        };
        let pin = gpio.get(number).map_err(|error| failure(&error))?;
        let mut pin = match input.bias {
            Bias::AsIs | Bias::Disabled => pin.into_input(),
            Bias::PullUp => pin.into_input_pullup(),
            Bias::PullDown => pin.into_input_pulldown(),
        };
        let (sender, active_low) = (sender.clone(), input.active_low);
        let (mut last, mut full) = (0_u32, false);
        let watch = move |event: Event| {
            let missed = full || event.seqno != last.wrapping_add(1);
            last = event.seqno;
            let edge = Edge {
                input: place,
                active: (event.trigger == Trigger::RisingEdge) != active_low,
                at: Some(since_boot(event.timestamp)),
                missed,
            };
            full = sender.try_send(edge).is_err();
        };
        pin.set_async_interrupt(Trigger::Both, input.debounce, watch)
            .map_err(|error| failure(&error))?;
        pins.push((pin, active_low));
    }
    Ok(Box::new(Rpi { pins, edges }))
}

/// rppal gives the time since the boot (CLOCK_MONOTONIC).
fn since_boot(then: std::time::Duration) -> Timestamp {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let now = std::time::Duration::try_from(now).unwrap_or(then);
    Timestamp::now() - now.saturating_sub(then)
}

fn failure(error: &Error) -> Failure {
    let word = match error {
        Error::PinUsed(_) => Fault::Busy,
        Error::UnknownModel | Error::PinNotAvailable(_) => Fault::Absent,
        Error::PermissionDenied(_) => Fault::Denied,
        Error::Io(error) => fault(error),
        Error::ThreadPanic => Fault::Bug,
    };
    let mend = match word {
        Fault::Denied => "; add the gateway's user to the group gpio: usermod -aG gpio USER",
        _ => "; leave `backend` out to use the kernel's own interface",
    };
    Failure::new(word, format!("rppal: {error}{mend}"))
}

#[async_trait]
impl Inputs for Rpi {
    fn levels(&mut self) -> Result<Vec<bool>, Failure> {
        Ok(self.pins.iter().map(|(pin, active_low)| pin.is_high() != *active_low).collect())
    }

    async fn changes(&mut self, edges: &mut Vec<Edge>) -> Result<(), Failure> {
        match self.edges.recv_many(edges, EDGES_MAX).await {
            0 => Err(Failure::new(Fault::Io, "rppal gave the lines up")),
            _ => Ok(()),
        }
    }
}
