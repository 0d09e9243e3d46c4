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

use super::{Bias, Edge, Edges, Line as Wanted, Lines, Role};
use crate::Failure;
use crate::serial::frame::{Framer, Frames, Line as LineFramer, Piece};

struct Sim {
    lines: Vec<Line>,
    commands: Option<pipe::Receiver>,
    frames: Frames,
}

struct Line {
    /// As the pipe calls it.
    id: String,
    role: Role,
    active_low: bool,
    debounce: Duration,
    /// The level at the pin: high or low.
    pin: bool,
    /// The level that has been reported.
    level: bool,
    /// Another level, and until when it must last to count.
    pending: Option<(bool, Instant)>,
    toggle: Option<(Duration, Instant)>,
    /// Changes that nobody was told of.
    missed: u32,
}

/// Changes of one line that are kept for who is late, as the kernel keeps some.
const CHANGES_MAX: u128 = 1024;

/// Makes the lines. `commands` is the path of a named pipe that takes lines
/// such as `17=1`; it is made when it isn't there.
///
/// # Errors
/// When the pipe can't be made or opened.
pub(crate) fn open(commands: Option<&str>, wanted: &[Wanted]) -> Result<Box<dyn Lines>, Failure> {
    let commands = match commands {
        Some(path) => Some(listen(path).map_err(|error| Failure::io(path, &error))?),
        None => None,
    };
    let now = Instant::now();
    let line = |wanted: &Wanted| {
        let level = match wanted.role {
            Role::Input(_) => wanted.bias == Bias::PullUp,
            Role::Output(active) => active != wanted.active_low,
        };
        Line {
            id: wanted.line.to_string().trim_matches('"').to_owned(),
            role: wanted.role,
            active_low: wanted.active_low,
            debounce: wanted.debounce.unwrap_or_default(),
            pin: level,
            level,
            pending: None,
            toggle: wanted.toggle.map(|every| (every, now + every)),
            missed: 0,
        }
    };
    let lines = wanted.iter().map(line).collect();
    Ok(Box::new(Sim { lines, commands, frames: Frames::new(Framer::Line(LineFramer::default())) }))
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
        // An output follows nobody but its channel.
        let inputs = lines.iter_mut().filter(|line| matches!(line.role, Role::Input(_)));
        for line in inputs.filter(|line| line.id == id.trim()) {
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

    /// Adds the changes that are due.
    fn due(&mut self, place: usize, now: Instant, edges: &mut Vec<Edge>) {
        if let Some((every, at)) = self.toggle
            && at <= now
        {
            let due = (now - at).as_nanos() / every.as_nanos() + 1;
            // The oldest go, an even number of them: the level stays right.
            let lost = due.saturating_sub(CHANGES_MAX).next_multiple_of(2);
            let told = u32::try_from(due - lost.min(due)).unwrap_or(0);
            if self.debounce.is_zero() {
                self.missed = self.missed.saturating_add(u32::try_from(lost).unwrap_or(u32::MAX));
            }
            let lost = u32::try_from(lost).unwrap_or(u32::MAX);
            for n in 0..told {
                self.set(!self.pin, at + every * (lost + n));
                self.change(place, now, edges);
            }
            self.toggle = Some((every, at + every * (lost + told)));
        }
        self.change(place, now, edges);
    }

    /// Adds the change that has lasted long enough, if there is one.
    fn change(&mut self, place: usize, now: Instant, edges: &mut Vec<Edge>) {
        let Some((level, since)) = self.pending.take_if(|(_, at)| *at <= now) else { return };
        self.level = level;
        let active = level != self.active_low;
        let Role::Input(told) = self.role else { return };
        if told.is(active) {
            let missed = match told {
                Edges::Both => std::mem::take(&mut self.missed),
                _ => std::mem::take(&mut self.missed) / 2,
            };
            let at = Some(Timestamp::now() - (now - since));
            edges.push(Edge { line: place, active, at, missed });
        }
    }
}

#[async_trait]
impl Lines for Sim {
    fn levels(&mut self) -> Result<Vec<bool>, Failure> {
        Ok(self.lines.iter().map(|line| line.level != line.active_low).collect())
    }

    async fn changes(&mut self, edges: &mut Vec<Edge>) -> Result<(), Failure> {
        loop {
            let now = Instant::now();
            for (place, line) in self.lines.iter_mut().enumerate() {
                line.due(place, now, edges);
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
                    while let Some(piece) = self.frames.next() {
                        let Piece::Frame(text) = piece else { continue };
                        Self::command(lines, text, now);
                        // Without a debounce every level counts, however short:
                        // the next line of the pipe may already be another.
                        for (place, line) in lines.iter_mut().enumerate() {
                            if line.debounce.is_zero() {
                                line.change(place, now, edges);
                            }
                        }
                    }
                }
            }
        }
    }

    fn drive(&mut self, line: usize, active: bool) -> Result<bool, Failure> {
        let line = &mut self.lines[line];
        line.level = active != line.active_low;
        line.pin = line.level;
        Ok(active)
    }
}
