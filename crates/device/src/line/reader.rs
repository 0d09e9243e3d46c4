use std::io;
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::FutureExt;
use reading::Fault;
use regex::Regex;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::{self, Instant};

use super::{Format, Frame, Frames, shown};
use crate::{Batch, Device, Failure};

/// A line that begins sooner than this after the opening was probably under
/// way before it. At 9600 baud a character takes a millisecond.
const CUT_WITHIN: Duration = Duration::from_millis(20);

/// Lines that follow each other closely are taken together: a wake-up costs more
/// than a line does. A line that comes alone doesn't wait.
const GATHER: Duration = Duration::from_millis(5);

/// From this many bytes a millisecond on a port isn't let wait: the 4 KiB that
/// the kernel keeps for it would fill up within [`GATHER`].
const GATHER_BYTES_MAX: u128 = 256;

/// A port that is open and speaks in lines.
pub(crate) struct Lines<P> {
    port: P,
    name: String,
    frames: Frames,
    format: Format,
    ignore: Option<Regex>,
    /// Until the first bytes: when it was opened, if a line may have been under
    /// way by then.
    opened: Option<Instant>,
    /// The first line may have lost its beginning.
    cut: bool,
    /// When the last bytes were taken, and whether the next may wait.
    taken: Option<Instant>,
    gathers: bool,
}

impl<P: AsyncRead> Lines<P> {
    /// `name` is the path of the port, for errors.
    pub(crate) fn over(port: P, name: String, format: Format, ignore: Option<Regex>) -> Lines<P> {
        // A pty keeps what was written before; a serial port does not. The name
        // may be a link to either.
        let path = std::fs::canonicalize(&name).unwrap_or_else(|_| PathBuf::from(&name));
        let opened = (!path.starts_with("/dev/pts")).then(Instant::now);
        Lines {
            port,
            name,
            frames: Frames::new(),
            format,
            ignore,
            opened,
            cut: false,
            taken: None,
            gathers: false,
        }
    }
}

#[async_trait]
impl<P: AsyncRead + Send + Unpin> Device for Lines<P> {
    async fn read(&mut self, batch: &mut Batch) -> Result<(), Failure> {
        if let (true, Some(taken)) = (self.gathers, self.taken) {
            time::sleep_until(taken + GATHER).await;
        }
        let mut got = self.port.read(self.frames.room()).await;
        let mut total = 0;
        loop {
            let count = match got {
                // A port that was unplugged is at its end for ever.
                Ok(0) => {
                    let detail =
                        format!("{}: the device was unplugged, or its other end closed", self.name);
                    return Err(Failure::new(Fault::Absent, detail));
                }
                Ok(count) => count,
                Err(error) => return Err(gone(&self.name, &error)),
            };
            if let Some(opened) = self.opened.take() {
                self.cut = opened.elapsed() < CUT_WITHIN;
            }
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
        self.gathers =
            since.is_some_and(|since| total * 1000 < since.as_micros() * GATHER_BYTES_MAX);
        let (format, cut, ignore) = (&mut self.format, &mut self.cut, &self.ignore);
        self.frames.drain(|frame| match frame {
            Frame::Line(line) => {
                let cut = std::mem::take(cut);
                let text = || std::str::from_utf8(line).unwrap_or_default();
                if ignore.as_ref().is_some_and(|ignore| ignore.is_match(text())) {
                    return;
                }
                if cut { format.parse_cut(line, batch) } else { format.parse(line, batch) }
            }
            Frame::TooLong(line) => {
                *cut = false;
                batch.noise(|| format!("a line that is too long: {}", shown(line)));
            }
        });
        Ok(())
    }
}

/// An error of reading. The kernel says EIO of a port whose device is gone.
fn gone(name: &str, error: &io::Error) -> Failure {
    const EIO: i32 = 5;
    if error.raw_os_error() == Some(EIO) || error.kind() == io::ErrorKind::BrokenPipe {
        Failure::new(
            Fault::Absent,
            format!("{name}: the device was unplugged, or its other end closed"),
        )
    } else {
        Failure::io(name, error)
    }
}

#[cfg(test)]
mod tests {
    use reading::Kind;
    use tokio::io::{AsyncWriteExt, duplex};

    use super::*;
    use crate::line::Json;

    fn over<P: AsyncRead>(port: P, name: &str) -> Lines<P> {
        let format = Format::Json(Json::new(&[("t".to_owned(), Kind::Number)]));
        Lines::over(port, name.to_owned(), format, None)
    }

    fn numbers(batch: &mut Batch) -> Vec<f64> {
        batch.samples.drain(..).filter_map(|sample| sample.value.number()).collect()
    }

    #[tokio::test]
    async fn a_line_in_pieces_is_one_line_and_the_end_of_the_port_is_a_loss() {
        let (mut device, port) = duplex(64);
        let mut open = over(port, "/dev/pts/1");
        let mut batch = Batch::default();
        device.write_all(b"{\"t\":1}\r\n{\"t\":").await.unwrap();
        open.read(&mut batch).await.unwrap();
        device.write_all(b"2}\n").await.unwrap();
        open.read(&mut batch).await.unwrap();
        assert_eq!(numbers(&mut batch), [1.0, 2.0]);
        drop(device);
        assert_eq!(open.read(&mut batch).await.unwrap_err().fault, Fault::Absent);
    }

    #[tokio::test]
    async fn noise_is_counted_and_the_port_goes_on() {
        let (mut device, port) = duplex(64 * 1024);
        let mut open = over(port, "/dev/pts/1");
        let mut batch = Batch::default();
        let long = vec![b'x'; 20_000];
        for bytes in [b"\xff\xfe\x00{\n{\"t\":1}\n".as_slice(), &long, b"\n{\"t\":2}\n"] {
            device.write_all(bytes).await.unwrap();
            open.read(&mut batch).await.unwrap();
        }
        assert_eq!((numbers(&mut batch), batch.noise), (vec![1.0, 2.0], 2));
    }

    #[tokio::test(start_paused = true)]
    async fn lines_that_follow_closely_are_taken_together_and_one_alone_at_once() {
        let (mut device, port) = duplex(64 * 1024);
        let mut open = over(port, "/dev/pts/1");
        let mut batch = Batch::default();
        let start = Instant::now();
        for pause in [1_000, 1] {
            device.write_all(b"{\"t\":1}\n").await.unwrap();
            open.read(&mut batch).await.unwrap();
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
        assert_eq!(start.elapsed(), Duration::from_millis(1_001), "a line alone waited");
        for _ in 0..3 {
            device.write_all(b"{\"t\":2}\n").await.unwrap();
        }
        open.read(&mut batch).await.unwrap();
        assert_eq!(numbers(&mut batch), [1.0, 1.0, 2.0, 2.0, 2.0]);
        assert_eq!(start.elapsed(), Duration::from_millis(1_005));

        // One that never stops isn't made to wait.
        device.write_all(&b"{\"t\":3}\n".repeat(1_000)).await.unwrap();
        open.read(&mut batch).await.unwrap();
        device.write_all(b"{\"t\":4}\n").await.unwrap();
        let flooded = Instant::now();
        open.read(&mut batch).await.unwrap();
        assert_eq!(flooded.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_line_of_a_port_may_be_cut_and_is_no_noise() {
        for (after, name, noise) in
            [(0, "/dev/ttyS0", 0), (21, "/dev/ttyS0", 1), (0, "/dev/pts/1", 1)]
        {
            let (mut device, port) = duplex(64);
            let mut open = over(port, name);
            let mut batch = Batch::default();
            tokio::time::sleep(Duration::from_millis(after)).await;
            device.write_all(b"\":1}\n{\"t\":2}\n").await.unwrap();
            open.read(&mut batch).await.unwrap();
            assert_eq!((numbers(&mut batch), batch.noise), (vec![2.0], noise), "{name} {after}");
        }
    }
}
