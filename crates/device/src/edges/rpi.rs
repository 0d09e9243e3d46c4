//! A Raspberry Pi's lines through rppal, by their BCM numbers.

use async_trait::async_trait;
use reading::Fault;
use rppal::gpio::{Error, Event, Gpio, InputPin, OutputPin, Pin, Trigger};
use tokio::sync::mpsc;

use super::{Bias, Edge, Edges, Line, LineId, Lines, Role, since_boot};
use crate::Failure;
use crate::failure::fault;

/// A burst longer than this is a line that flutters; what doesn't fit is lost,
/// and the next change says so.
const EDGES_MAX: usize = 1024;

struct Rpi {
    pins: Vec<(Held, bool)>,
    edges: mpsc::Receiver<Edge>,
    /// Whether there are any: outputs alone say nothing by themselves.
    inputs: bool,
}

/// A pin as rppal has it.
enum Held {
    Input(InputPin),
    Output(OutputPin),
}

/// Takes the lines.
///
/// # Errors
/// When this isn't a Pi that rppal knows, or there is no such line.
pub(crate) fn open(lines: &[Line]) -> Result<Box<dyn Lines>, Failure> {
    let gpio = Gpio::new().map_err(|error| failure(&error))?;
    let (sender, edges) = mpsc::channel(EDGES_MAX);
    let mut pins = Vec::new();
    for (place, line) in lines.iter().enumerate() {
        let number = match &line.line {
            LineId::Offset(offset) => u8::try_from(*offset).unwrap_or(u8::MAX),
            LineId::Name(name) => {
                let detail = format!("rppal knows lines by their BCM number, not by \"{name}\"");
                return Err(Failure::new(Fault::Absent, detail));
            }
        };
        let pin = gpio.get(number).map_err(|error| failure(&error))?;
        let held = match line.role {
            Role::Input(edges) => Held::Input(watched(pin, place, line, edges, sender.clone())?),
            Role::Output(active) => {
                let mut pin = match active != line.active_low {
                    true => pin.into_output_high(),
                    false => pin.into_output_low(),
                };
                // What `on_stop` says is to stay.
                pin.set_reset_on_drop(false);
                Held::Output(pin)
            }
        };
        pins.push((held, line.active_low));
    }
    Ok(Box::new(Rpi {
        pins,
        edges,
        inputs: lines.iter().any(|line| matches!(line.role, Role::Input(_))),
    }))
}

fn watched(
    pin: Pin,
    place: usize,
    line: &Line,
    edges: Edges,
    sender: mpsc::Sender<Edge>,
) -> Result<InputPin, Failure> {
    let mut pin = match line.bias {
        Bias::AsIs | Bias::Disabled => pin.into_input(),
        Bias::PullUp => pin.into_input_pullup(),
        Bias::PullDown => pin.into_input_pulldown(),
    };
    let active_low = line.active_low;
    let (mut last, mut full) = (0_u32, 0_u32);
    let watch = move |event: Event| {
        let missed = event.seqno.wrapping_sub(last.wrapping_add(1)).saturating_add(full);
        last = event.seqno;
        let edge = Edge {
            line: place,
            active: (event.trigger == Trigger::RisingEdge) != active_low,
            at: Some(since_boot(event.timestamp)),
            missed,
        };
        full = match sender.try_send(edge) {
            Ok(()) => 0,
            // This one is missed as well.
            Err(_) => missed.saturating_add(1),
        };
    };
    let trigger = match (edges, active_low) {
        (Edges::Both, _) => Trigger::Both,
        (Edges::Rising, false) | (Edges::Falling, true) => Trigger::RisingEdge,
        (Edges::Rising, true) | (Edges::Falling, false) => Trigger::FallingEdge,
    };
    pin.set_async_interrupt(trigger, line.debounce, watch).map_err(|error| failure(&error))?;
    Ok(pin)
}

/// What rppal says, with the mend.
pub(crate) fn failure(error: &Error) -> Failure {
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
impl Lines for Rpi {
    fn levels(&mut self) -> Result<Vec<bool>, Failure> {
        Ok(self.pins.iter().map(|(pin, active_low)| pin.is_high() != *active_low).collect())
    }

    async fn changes(&mut self, edges: &mut Vec<Edge>) -> Result<(), Failure> {
        match self.edges.recv_many(edges, EDGES_MAX).await {
            0 if !self.inputs => std::future::pending().await,
            0 => Err(Failure::new(Fault::Io, "rppal gave the lines up")),
            _ => Ok(()),
        }
    }

    fn drive(&mut self, line: usize, active: bool) -> Result<bool, Failure> {
        let (held, active_low) = &mut self.pins[line];
        if let Held::Output(pin) = held {
            pin.write((active != *active_low).into());
        }
        Ok(held.is_high() != *active_low)
    }
}

impl Held {
    fn is_high(&self) -> bool {
        match self {
            Held::Input(pin) => pin.is_high(),
            Held::Output(pin) => pin.is_set_high(),
        }
    }
}
