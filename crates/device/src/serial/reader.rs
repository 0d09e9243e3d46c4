mod rehearsal;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::FutureExt;
use reading::{Fault, Value};
use regex::Regex;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{self, Instant};
use tracing::{info, warn};

use super::format::{Encoding, Format, shown};
use super::frame::{Framer, Frames, Piece};
use crate::recording::{Tap, Way};
use crate::{Batch, Device, Failure};

pub(crate) use rehearsal::Rehearsed;

/// A frame that begins sooner than this after the opening was probably under
/// way before it. At 9600 baud a character takes a millisecond.
const CUT_WITHIN: Duration = Duration::from_millis(20);

/// Frames that follow each other closely are taken together: a wake-up costs more
/// than a frame does. One that comes alone doesn't wait.
const GATHER: Duration = Duration::from_millis(5);

/// From this many bytes a millisecond on a port isn't let wait: the 4 KiB that
/// the kernel keeps for it would fill up within [`GATHER`].
const GATHER_BYTES_MAX: u128 = 256;

/// About as many samples are given at once. A flood is passed on in portions, so
/// that no more than one of them is in memory: some 30 KiB.
const SAMPLES_MAX: usize = 512;

/// An answer of several frames is over when no other has come for so long.
const ANSWER_OVER: Duration = Duration::from_millis(100);

/// What has come unasked is thrown away before a question. A line that babbles
/// without end must not hold us.
const FLUSHES_MAX: usize = 16;

/// How a device is understood, and asked.
#[derive(Clone)]
pub(crate) struct Language {
    pub framer: Framer,
    pub format: Format,
    pub encoding: Encoding,
    /// Frames in which this is found are left out.
    pub ignore: Option<Regex>,
    pub question: Option<Question>,
    /// How many channels there are.
    pub channels: usize,
    /// Where what goes over the line can be listened to.
    pub tap: Tap,
}

/// What is sent to a device that must be asked.
#[derive(Clone, Debug)]
pub(crate) struct Question {
    pub request: Vec<u8>,
    /// How long the answer may take.
    pub patience: Duration,
}

/// A port that is open, and the device at it.
pub(crate) struct Reader<P> {
    port: P,
    name: String,
    frames: Frames,
    language: Language,
    /// Until the first bytes: when it was opened, if a frame may have been under
    /// way by then.
    opened: Option<Instant>,
    /// The first frame may have lost its beginning.
    cut: bool,
    /// When the last bytes were taken, and whether the next may wait.
    taken: Option<Instant>,
    gathers: bool,
    /// There are frames left of the bytes that were taken.
    left: bool,
    /// The last question wasn't answered.
    unanswered: bool,
    /// Used again for each frame that isn't UTF-8.
    text: String,
}

impl<P: AsyncRead + AsyncWrite + Send + Unpin> Reader<P> {
    /// `name` is the path of the port, for errors.
    pub(crate) fn over(port: P, name: String, language: Language) -> Reader<P> {
        // A pty keeps what was written before; a serial port does not. The name
        // may be a link to either.
        let path = std::fs::canonicalize(&name).unwrap_or_else(|_| PathBuf::from(&name));
        let opened = (!path.starts_with("/dev/pts")).then(Instant::now);
        Reader {
            port,
            name,
            frames: Frames::new(language.framer.clone()),
            language,
            opened,
            cut: false,
            taken: None,
            gathers: false,
            left: false,
            unanswered: false,
            text: String::new(),
        }
    }

    /// Takes the bytes that are there, or waits for the first. They may come to
    /// nothing but the silence that ends a frame. What has been taken isn't lost
    /// when this is dropped.
    async fn receive(&mut self) -> Result<(), Failure> {
        let silent_at = self.frames.pause().zip(self.taken).map(|(pause, taken)| taken + pause);
        let read = self.port.read(self.frames.room());
        let mut got = match silent_at {
            None => read.await,
            Some(silent_at) => match time::timeout_at(silent_at, read).await {
                Ok(got) => got,
                Err(_) => {
                    self.frames.silence();
                    return Ok(());
                }
            },
        };
        let mut total = 0;
        loop {
            let count = match got {
                // A port that was unplugged is at its end for ever.
                Ok(0) => return Err(unplugged(&self.name)),
                Ok(count) => count,
                Err(error) => return Err(gone(&self.name, &error)),
            };
            if let Some(opened) = self.opened.take() {
                self.cut = opened.elapsed() < CUT_WITHIN;
            }
            self.language.tap.tell(Way::From, &self.frames.room()[..count]);
            self.frames.filled(count);
            total += count as u128;
            if !self.frames.has_room() {
                break;
            }
            // A pty gives 4 KiB a call however much there is: what is there now
            // is taken together, so that a fast device costs fewer messages. What
            // has been taken must be parsed before anything is awaited.
            match self.port.read(self.frames.room()).now_or_never() {
                // Its end will be seen at the next call, too.
                None | Some(Ok(0) | Err(_)) => break,
                Some(more) => got = more,
            }
        }
        let now = Instant::now();
        let since = self.taken.replace(now).map(|taken| now - taken);
        let closely = |since: Duration| total * 1000 < since.as_micros() * GATHER_BYTES_MAX;
        self.gathers = since.is_some_and(closely) && !self.frames.ends_by_silence();
        Ok(())
    }

    /// Adds what the frames say that have come.
    fn understand(&mut self, batch: &mut Batch) {
        let Reader { frames, language, text, cut, .. } = self;
        let knows_beginnings =
            frames.framer().knows_beginnings() || language.format.shows_its_beginning();
        self.left = true;
        while batch.samples.len() < SAMPLES_MAX {
            let Some(piece) = frames.next() else {
                self.left = false;
                return;
            };
            let cut = std::mem::take(cut);
            let frame = match piece {
                Piece::Frame(frame) => frame,
                Piece::Noise(noise) => {
                    if !cut {
                        batch.noise(|| shown(noise));
                    }
                    continue;
                }
            };
            let frame = language.encoding.utf8(frame, text);
            if language.ignore.as_ref().is_some_and(|ignore| found_in(ignore, frame)) {
                continue;
            }
            // One whose beginning may be missing is no noise.
            if cut && !knows_beginnings {
                continue;
            }
            if language.format.parse(frame, batch).is_err()
                && let Some(noise) = frames.reject()
                && !cut
            {
                batch.noise(|| shown(noise));
            }
        }
    }

    /// Asks, and waits for the answer.
    async fn ask(&mut self, question: &Question, batch: &mut Batch) -> Result<(), Failure> {
        self.flush()?;
        let Question { request, patience } = question;
        let written = time::timeout(*patience, self.port.write_all(request)).await;
        written.unwrap_or(Ok(())).map_err(|error| gone(&self.name, &error))?;
        self.language.tap.tell(Way::To, request);
        let asked = Instant::now();
        let (before, deadline) = (batch.samples.len(), asked + *patience);
        let mut echo = true;
        loop {
            let answered = batch.samples.len() > before;
            let over = self.taken.unwrap_or(asked).max(asked) + ANSWER_OVER;
            let until = if answered { deadline.min(over) } else { deadline };
            let Ok(received) = time::timeout_at(until, self.receive()).await else { break };
            received?;
            // Where both share two wires, what was said is heard first.
            if echo && !self.frames.skip(request, &mut echo) {
                continue;
            }
            self.understand(batch);
            let has = |channel| batch.samples[before..].iter().any(|s| s.channel == channel);
            if (0..self.language.channels).all(has) {
                break;
            }
        }
        // Whatever it was that looked like the beginning of an echo.
        self.understand(batch);
        let silent = batch.samples.len() == before;
        if silent && !self.unanswered {
            if batch.noise == 0 {
                let bad = |channel| batch.push(channel, Value::Bad(Fault::Timeout));
                (0..self.language.channels).for_each(bad);
            }
            let patience = humantime::format_duration(*patience);
            warn!(
                port = self.name,
                "no answer within {patience}; is it switched on, and are baud and wiring right?"
            );
        } else if !silent && self.unanswered {
            info!(port = self.name, "it answers again");
        }
        self.unanswered = silent;
        Ok(())
    }

    /// Throws away what has come unasked, or too late.
    fn flush(&mut self) -> Result<(), Failure> {
        self.opened = None;
        for _ in 0..FLUSHES_MAX {
            self.frames.clear();
            match self.port.read(self.frames.room()).now_or_never() {
                None => break,
                Some(Ok(0)) => return Err(unplugged(&self.name)),
                Some(Ok(count)) => {
                    self.language.tap.tell(Way::From, &self.frames.room()[..count]);
                }
                Some(Err(error)) => return Err(gone(&self.name, &error)),
            }
        }
        Ok(())
    }
}

fn found_in(pattern: &Regex, frame: &[u8]) -> bool {
    pattern.is_match(std::str::from_utf8(frame).unwrap_or_default())
}

#[async_trait]
impl<P: AsyncRead + AsyncWrite + Send + Unpin> Device for Reader<P> {
    async fn read(&mut self, batch: &mut Batch) -> Result<(), Failure> {
        if let Some(question) = self.language.question.clone() {
            return self.ask(&question, batch).await;
        }
        if !self.left {
            if let (true, Some(taken)) = (self.gathers, self.taken) {
                time::sleep_until(taken + GATHER).await;
            }
            self.receive().await?;
        }
        self.understand(batch);
        Ok(())
    }
}

/// An error of reading. The kernel says EIO of a port whose device is gone.
fn gone(name: &str, error: &io::Error) -> Failure {
    const EIO: i32 = 5;
    if error.raw_os_error() == Some(EIO) || error.kind() == io::ErrorKind::BrokenPipe {
        unplugged(name)
    } else {
        Failure::io(name, error)
    }
}

fn unplugged(name: &str) -> Failure {
    let detail = format!("{name}: the device was unplugged, or its other end closed");
    Failure::new(Fault::Absent, detail)
}

#[cfg(test)]
mod tests;
