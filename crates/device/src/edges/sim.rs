//! Lines that are not there: they follow a named pipe, or change by
//! themselves. Bias, polarity and debounce work as the kernel's do.

use std::io;
use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use reading::Timestamp;
use rustix::fs::{CWD, FileType, Mode, mknodat};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::time::{Instant, sleep_until};

use super::{Bias, Edge, Input, Inputs};
use crate::Failure;
use crate::line::{Frame, Frames};

struct Sim {
    lines: Vec<Line>,
    commands: Option<pipe::Receiver>,
    frames: Frames,
}

struct Line {
    /// As the pipe calls it.
    id: String,
    active_low: bool,
    debounce: Duration,
    /// The level at the pin: high or low.
    pin: bool,
    /// The level that has been reported.
    level: bool,
    /// Another level, and until when it must last to count.
    pending: Option<(bool, Instant)>,
    toggle: Option<(Duration, Instant)>,
}

/// Makes the inputs. `commands` is the path of a named pipe that takes lines
/// such as `17=1`; it is made when it isn't there.
///
/// # Errors
/// When the pipe can't be made or opened.
pub(crate) fn open(commands: Option<&str>, inputs: &[Input]) -> Result<Box<dyn Inputs>, Failure> {
    let commands = match commands {
        Some(path) => Some(listen(path).map_err(|error| Failure::io(path, &error))?),
        None => None,
    };
    let now = Instant::now();
    let line = |input: &Input| Line {
        id: input.line.to_string().trim_matches('"').to_owned(),
        active_low: input.active_low,
        debounce: input.debounce.unwrap_or_default(),
        pin: input.bias == Bias::PullUp,
        level: input.bias == Bias::PullUp,
        pending: None,
        toggle: input.toggle.map(|every| (every, now + every)),
    };
    let lines = inputs.iter().map(line).collect();
    Ok(Box::new(Sim { lines, commands, frames: Frames::new() }))
}

fn listen(path: &str) -> io::Result<pipe::Receiver> {
    if !Path::new(path).exists() {
        mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)?;
    }
    // Open for writing as well, or it is at its end whenever no one writes.
    pipe::OpenOptions::new().read_write(true).open_receiver(path)
}

impl Sim {
    /// What a line of the pipe says; what can't be understood says nothing.
    fn command(lines: &mut [Line], text: &[u8], now: Instant) {
        let Some((id, level)) =
            std::str::from_utf8(text).ok().and_then(|text| text.trim().split_once('='))
        else {
            return;
        };
        let level = match level.trim() {
            "1" => true,
            "0" => false,
            _ => return,
        };
        for line in lines.iter_mut().filter(|line| line.id == id.trim()) {
            line.set(level, now);
        }
    }
}

impl Line {
    /// Sets the pin. A debounced line must keep its level for it to count.
    fn set(&mut self, level: bool, now: Instant) {
        self.pin = level;
        self.pending = match self.pending {
            _ if level == self.level => None,
            Some(pending @ (pending_level, _)) if pending_level == level => Some(pending),
            _ => Some((level, now + self.debounce)),
        };
    }

    fn next(&self) -> Option<Instant> {
        let toggle = self.toggle.map(|(_, at)| at);
        self.pending.map(|(_, at)| at).into_iter().chain(toggle).min()
    }

    /// The new state, if one is due.
    fn due(&mut self, now: Instant) -> Option<bool> {
        if let Some((every, at)) = &mut self.toggle
            && *at <= now
        {
            *at += *every;
            self.set(!self.pin, now);
        }
        let (level, _) = self.pending.take_if(|(_, at)| *at <= now)?;
        self.level = level;
        Some(level != self.active_low)
    }
}

#[async_trait]
impl Inputs for Sim {
    fn levels(&mut self) -> Result<Vec<bool>, Failure> {
        Ok(self.lines.iter().map(|line| line.level != line.active_low).collect())
    }

    async fn changes(&mut self, edges: &mut Vec<Edge>) -> Result<(), Failure> {
        loop {
            let (now, at) = (Instant::now(), Some(Timestamp::now()));
            for (input, line) in self.lines.iter_mut().enumerate() {
                if let Some(active) = line.due(now) {
                    edges.push(Edge { input, active, at, missed: false });
                }
            }
            if !edges.is_empty() {
                return Ok(());
            }
            let next = self.lines.iter().filter_map(Line::next).min();
            let wait = async {
                match next {
                    Some(next) => sleep_until(next).await,
                    None => std::future::pending().await,
                }
            };
            let read = async {
                match &mut self.commands {
                    Some(commands) => commands.read(self.frames.room()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = wait => {}
                read = read => {
                    let count = read.map_err(|error| Failure::io("commands", &error))?;
                    let (now, lines) = (Instant::now(), &mut self.lines);
                    self.frames.filled(count);
                    self.frames.drain(|frame| {
                        if let Frame::Line(text) = frame {
                            Self::command(lines, text, now);
                            // Without a debounce every level counts, however short:
                            // the next line of the pipe may already be another.
                            for (input, line) in lines.iter_mut().enumerate() {
                                if line.debounce.is_zero() && let Some(active) = line.due(now) {
                                    let at = Some(Timestamp::now());
                                    edges.push(Edge { input, active, at, missed: false });
                                }
                            }
                        }
                    });
                }
            }
        }
    }
}
