//! The kernel's character device, uAPI v2 (Linux 5.10): every board's lines,
//! debounced and time-stamped by the kernel, with numbers that prove a loss.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use gpiocdev::line::{Bias as CdevBias, EdgeDetection, EdgeKind, EventClock, Offset, Value};
use gpiocdev::tokio::AsyncRequest;
use gpiocdev::{Chip, Request};
use reading::Fault;

use super::{Bias, CONSUMER, Edge, Edges, Line, LineId, Lines, Role, since_boot};
use crate::Failure;
use crate::failure::fault;

/// How many changes the kernel keeps for us. A line that flutters at 10 kHz
/// fills it in a tenth of a second; then changes are lost, and known to be.
const KERNEL_EVENTS_MAX: u32 = 1024;
/// How many are taken at once.
const EVENTS_MAX: usize = 64;

struct Cdev {
    request: AsyncRequest,
    /// By offset: the line's place, and the number of its last change.
    places: HashMap<Offset, (usize, u32)>,
    offsets: Vec<Offset>,
    events: Vec<u64>,
}

/// Takes lines of one chip: a path, a name such as `gpiochip0`, or a label.
///
/// # Errors
/// When there is no such chip or line, or another holds it.
pub(crate) fn open(chip: &str, lines: &[Line]) -> Result<Box<dyn Lines>, Failure> {
    let found = find(chip)?;
    let mut builder = Request::builder();
    builder
        .on_chip(found.path())
        .with_consumer(CONSUMER)
        .with_kernel_event_buffer_size(KERNEL_EVENTS_MAX);
    let mut places = HashMap::new();
    let mut offsets = Vec::new();
    for (place, line) in lines.iter().enumerate() {
        let offset = offset(&found, chip, &line.line)?;
        builder.with_line(offset);
        // An output has its level with the request: it never glitches.
        match line.role {
            Role::Input(_) => builder.as_input(),
            Role::Output(active) => builder.as_output(Value::from(active)),
        };
        match line.bias {
            Bias::AsIs => {}
            Bias::Disabled => _ = builder.with_bias(CdevBias::Disabled),
            Bias::PullUp => _ = builder.with_bias(CdevBias::PullUp),
            Bias::PullDown => _ = builder.with_bias(CdevBias::PullDown),
        }
        if line.active_low {
            builder.as_active_low();
        } else {
            builder.as_active_high();
        }
        if let Some(debounce) = line.debounce {
            builder.with_debounce_period(debounce);
        }
        if let Role::Input(edges) = line.role {
            let detection = match edges {
                Edges::Rising => EdgeDetection::RisingEdge,
                Edges::Falling => EdgeDetection::FallingEdge,
                Edges::Both => EdgeDetection::BothEdges,
            };
            builder.with_edge_detection(detection).with_event_clock(EventClock::Monotonic);
        }
        offsets.push(offset);
        if places.insert(offset, (place, 0)).is_some() {
            let detail = format!("two channels have line {offset} of {chip}: leave one out");
            return Err(Failure::new(Fault::Busy, detail));
        }
    }
    let request =
        builder.request().map_err(|error| failure(&format!("lines of {chip}"), &error))?;
    let events = vec![0; request.edge_event_u64_size() * EVENTS_MAX];
    Ok(Box::new(Cdev { request: AsyncRequest::new(request), places, offsets, events }))
}

fn find(chip: &str) -> Result<Chip, Failure> {
    let path = if chip.contains('/') { chip.to_owned() } else { format!("/dev/{chip}") };
    if Path::new(&path).exists() {
        return Chip::from_path(&path).map_err(|error| failure(&path, &error));
    }
    let chips = gpiocdev::chip::chips().unwrap_or_default();
    if !chip.contains('/') {
        for path in &chips {
            // A chip that may not be opened may not be the one, either.
            let Ok(found) = Chip::from_path(path) else { continue };
            if found.info().is_ok_and(|info| info.label == chip || info.name == chip) {
                return Ok(found);
            }
        }
    }
    let there: Vec<_> = chips.iter().map(|path| path.display().to_string()).collect();
    let there = if there.is_empty() {
        "this machine shows no GPIO chip at all (/dev/gpiochip*); chip = \"sim\" needs none"
            .to_owned()
    } else {
        format!("there are {}", there.join(", "))
    };
    Err(Failure::new(Fault::Absent, format!("no GPIO chip {chip}: {there}")))
}

fn offset(found: &Chip, chip: &str, line: &LineId) -> Result<Offset, Failure> {
    let info = match line {
        LineId::Offset(offset) => found.line_info(*offset).ok(),
        LineId::Name(name) => found.find_line_info(name),
    };
    let Some(info) = info else {
        let count = found.info().map_or(0, |info| info.num_lines);
        let detail = format!("no line {line} on {chip}, which has {count}; gpioinfo lists them");
        return Err(Failure::new(Fault::Absent, detail));
    };
    if info.used {
        let detail = format!("line {line} of {chip} is held by \"{}\"", info.consumer);
        return Err(Failure::new(Fault::Busy, detail));
    }
    Ok(info.offset)
}

fn failure(thing: &str, error: &gpiocdev::Error) -> Failure {
    let fault = match error {
        gpiocdev::Error::Os(number) => fault(&std::io::Error::from_raw_os_error(number.0)),
        gpiocdev::Error::GpioChip(..) | gpiocdev::Error::NoGpioChips() => Fault::Absent,
        _ => Fault::Io,
    };
    let mend = match fault {
        Fault::Denied => "; add the gateway's user to the group gpio: usermod -aG gpio USER",
        _ => "",
    };
    Failure::new(fault, format!("{thing}: {error}{mend}"))
}

#[async_trait]
impl Lines for Cdev {
    fn levels(&mut self) -> Result<Vec<bool>, Failure> {
        let request: &Request = self.request.as_ref();
        let level = |offset: &Offset| request.value(*offset).map(bool::from);
        let levels: Result<_, _> = self.offsets.iter().map(level).collect();
        levels.map_err(|error| failure("levels", &error))
    }

    async fn changes(&mut self, edges: &mut Vec<Edge>) -> Result<(), Failure> {
        let read = self.request.read_edge_events_into_slice(&mut self.events).await;
        let words = read.map_err(|error| failure("changes", &error))?;
        let request: &Request = self.request.as_ref();
        for event in self.events[..words].chunks_exact(request.edge_event_u64_size()) {
            let event =
                request.edge_event_from_slice(event).map_err(|error| failure("changes", &error))?;
            let Some((line, last)) = self.places.get_mut(&event.offset) else { continue };
            let missed = event.line_seqno.wrapping_sub(last.wrapping_add(1));
            *last = event.line_seqno;
            edges.push(Edge {
                line: *line,
                // The kernel has already turned an active-low line round.
                active: event.kind == EdgeKind::Rising,
                at: Some(since_boot(Duration::from_nanos(event.timestamp_ns))),
                missed,
            });
        }
        Ok(())
    }

    fn drive(&mut self, line: usize, active: bool) -> Result<bool, Failure> {
        let (request, offset): (&Request, _) = (self.request.as_ref(), self.offsets[line]);
        let state = request.set_value(offset, active.into()).and_then(|()| request.value(offset));
        state.map(bool::from).map_err(|error| failure(&format!("line {offset}"), &error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chip_that_is_not_there_is_absent_and_the_error_says_what_is() {
        for chip in ["gpiochip97", "/dev/gpiochip97", "no-such-label"] {
            let failure = open(chip, &[]).err().unwrap();
            assert_eq!(failure.fault, Fault::Absent);
            assert!(failure.detail.starts_with(&format!("no GPIO chip {chip}: th")), "{failure}");
        }
        assert_eq!(open("/dev/null", &[]).err().unwrap().fault, Fault::Absent);
    }
}
