//! Modbus RTU over a serial line (serial line, 2.5.1).
//!
//! An answer carries no number by which it could be told whose it is. What an
//! answer must match is the slave's address, the function and the length; so a
//! question is only asked when no earlier one of the same shape may still be
//! answered. When one may, a *spacer* of another shape is asked first: a slave
//! answers in order, so once the spacer is answered, all before it has been.

use std::collections::HashMap;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{self, Instant};

use super::{Exception, REGISTERS_MAX, Request, Telegram, Trouble};

/// No slave answers later than this.
const LATEST: Duration = Duration::from_secs(10);
/// A frame has at most 256 bytes (serial line, 2.5.1); what a late answer and
/// an echo put before it fits as well. More is noise, whose oldest bytes go.
const BUFFER_MAX: usize = 1024;
/// Above 19,200 baud the pause between two frames is fixed (serial line, 2.5.1.1).
const PAUSE_MIN: Duration = Duration::from_micros(1750);

/// CRC-16 of a frame, low byte first on the wire (serial line, 6.2.2).
fn crc(bytes: &[u8]) -> [u8; 2] {
    let mut crc = 0xffff_u16;
    for byte in bytes {
        crc ^= u16::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0xa001 } else { crc >> 1 };
        }
    }
    crc.to_le_bytes()
}

/// A question as it goes over the line.
fn frame(address: u8, request: Telegram<'_>) -> Vec<u8> {
    let mut frame = vec![address];
    frame.extend(request.pdu());
    frame.extend(crc(&frame));
    frame
}

/// The answer in what was heard, and where it ends. Whatever stands before it
/// is noise, an echo, or the late answer to another question.
fn answer(
    heard: &[u8],
    address: u8,
    request: Telegram<'_>,
) -> Option<(Result<Vec<u8>, Exception>, usize)> {
    (0..heard.len()).filter(|&start| heard[start] == address).find_map(|start| {
        let length = request.answer_length(heard.get(start + 1..)?)?;
        let end = start + 1 + length + 2;
        let frame = heard.get(start..end)?;
        let (body, sum) = frame.split_last_chunk::<2>()?;
        if crc(body) != *sum {
            return None;
        }
        let answer = request.answer(&body[1..])?;
        Some((answer.map(<[u8]>::to_vec), end))
    })
}

/// What an answer looks like: function and number of bytes.
type Shape = (u8, usize);

fn shape(request: Telegram<'_>) -> Shape {
    (request.function(), request.answer_bytes())
}

/// What a slave may still answer.
#[derive(Debug)]
struct Owed {
    shapes: Vec<Shape>,
    until: Instant,
}

/// A line with any number of slaves.
#[derive(Debug)]
pub(super) struct Rtu<S> {
    stream: S,
    /// How long a byte takes.
    byte: Duration,
    /// When the line was last in use.
    used: Instant,
    owed: HashMap<u8, Owed>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Rtu<S> {
    pub(super) fn over(stream: S, baud: u32) -> Rtu<S> {
        // Start, eight data bits, parity or stop, stop.
        let byte = Duration::from_secs(11) / baud.max(1);
        Rtu { stream, byte, used: Instant::now(), owed: HashMap::new() }
    }

    /// Asks a slave; `patience` is how long it may think.
    pub(super) async fn ask(
        &mut self,
        address: u8,
        request: Telegram<'_>,
        patience: Duration,
    ) -> Result<Vec<u8>, Trouble> {
        self.owed.retain(|_, owed| Instant::now() < owed.until);
        // The answer to a write says what was written: it is nobody else's.
        let spacer = match request {
            Telegram::Read(request) => self.spacer(address, request),
            Telegram::Write(_) => None,
        };
        if let Some(spacer) = spacer {
            match self.exchange(address, Telegram::Read(&spacer), patience).await {
                // A refusal is an answer as well.
                Ok(_) | Err(Trouble::Exception(_)) => {}
                Err(trouble) => return Err(trouble),
            }
        }
        self.exchange(address, request, patience).await
    }

    /// What to ask first, so that no late answer is taken for this one's.
    fn spacer(&self, address: u8, request: &Request) -> Option<Request> {
        let owed = &self.owed.get(&address)?.shapes;
        if !owed.contains(&shape(Telegram::Read(request))) {
            return None;
        }
        let most = if request.table.is_bits() { REGISTERS_MAX * 16 } else { REGISTERS_MAX };
        // Fewer of the same: the slave has them. Then more, which it may refuse.
        let counts = (1..request.count).rev().chain(request.count + 1..=most);
        let other = |count| Request { count, ..*request };
        counts.map(other).find(|spacer| !owed.contains(&shape(Telegram::Read(spacer))))
    }

    async fn exchange(
        &mut self,
        address: u8,
        request: Telegram<'_>,
        patience: Duration,
    ) -> Result<Vec<u8>, Trouble> {
        let pause = PAUSE_MIN.max(self.byte * 7 / 2);
        time::sleep_until(self.used + pause).await;
        self.flush().await?;
        // Refusals of earlier questions look like one of this.
        let doubtful = self.owed.get(&address).is_some_and(|owed| {
            owed.shapes.iter().any(|(function, _)| *function == request.function())
        });
        // Before it is asked: whoever drops this future may leave in between.
        let sent = frame(address, request);
        let bytes = (sent.len() + request.answer_bytes() + 5) as u32;
        let deadline = Instant::now() + self.byte * bytes + patience;
        let owed = self
            .owed
            .entry(address)
            .or_insert_with(|| Owed { shapes: Vec::new(), until: deadline });
        owed.until = deadline + LATEST;
        if !owed.shapes.contains(&shape(request)) {
            owed.shapes.push(shape(request));
        }
        let answer = time::timeout_at(deadline, self.stream.write_all(&sent)).await;
        answer.map_err(|_| Trouble::Silence)??;
        self.used = Instant::now();
        let result = self.listen(address, request, doubtful, deadline).await;
        if matches!(result, Ok(_) | Err(Trouble::Exception(_))) {
            self.owed.remove(&address);
        }
        result
    }

    async fn listen(
        &mut self,
        address: u8,
        request: Telegram<'_>,
        doubtful: bool,
        deadline: Instant,
    ) -> Result<Vec<u8>, Trouble> {
        let mut heard = Vec::with_capacity(256);
        let mut bytes = 0;
        let mut refused = None;
        loop {
            while let Some((answer, end)) = answer(&heard, address, request) {
                match answer {
                    Err(exception) if doubtful => {
                        // It is ours if nothing better comes.
                        refused = Some(exception);
                        heard.drain(..end);
                    }
                    answer => return answer.map_err(Trouble::Exception),
                }
            }
            let mut chunk = [0; 256];
            let read = match time::timeout_at(deadline, self.stream.read(&mut chunk)).await {
                Ok(read) => read?,
                Err(_) => {
                    return Err(match (refused, bytes) {
                        (Some(exception), _) => Trouble::Exception(exception),
                        (None, 0) => Trouble::Silence,
                        (None, bytes) => Trouble::Garbled(bytes),
                    });
                }
            };
            if read == 0 {
                return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into());
            }
            self.used = Instant::now();
            bytes += read;
            heard.extend_from_slice(&chunk[..read]);
            heard.drain(..heard.len().saturating_sub(BUFFER_MAX));
        }
    }

    /// Throws away what has come unasked.
    async fn flush(&mut self) -> Result<(), Trouble> {
        let mut chunk = [0; 256];
        // A line that babbles without end must not hold us: it is told by the
        // answers that can't be understood.
        for _ in 0..BUFFER_MAX {
            match self.stream.read(&mut chunk).now_or_never() {
                None => break,
                Some(Ok(0)) => {
                    return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into());
                }
                Some(read) => _ = read?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
