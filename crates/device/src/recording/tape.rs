use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use reading::Timestamp;
use tokio::sync::mpsc;

use super::{Head, Piece, VERSION, Way};
use crate::Config;

/// Pieces that wait to be written. A disk that pauses for a second has room: at
/// 115200 baud a port gives some 200 pieces in it.
const PIECES_MAX: usize = 256;

/// Where a line can be listened to. Costs one look at a flag while nobody does.
#[derive(Clone, Debug, Default)]
pub struct Tap(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    open: AtomicBool,
    /// A std lock: it is never held across an await.
    listener: Mutex<Option<mpsc::Sender<Heard>>>,
}

/// A piece, and when.
#[derive(Debug)]
struct Heard {
    at: Timestamp,
    way: Way,
    bytes: Vec<u8>,
}

/// A recording that is being made. Dropping it ends it.
#[derive(Debug)]
pub struct Tape {
    began: Timestamp,
    last: Duration,
    head: Option<String>,
    heard: mpsc::Receiver<Heard>,
}

impl Tap {
    /// Something has gone over the line. Never waits: who is too slow to write it
    /// down misses it.
    pub(crate) fn tell(&self, way: Way, bytes: &[u8]) {
        if !self.0.open.load(Ordering::Relaxed) {
            return;
        }
        let mut listener = self.0.listener.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(Ok(place)) = listener.as_ref().map(mpsc::Sender::try_reserve) {
            place.send(Heard { at: Timestamp::now(), way, bytes: bytes.to_vec() });
        } else {
            // One that is full tells by ending: a recording with a hole would be
            // understood otherwise than the line was.
            *listener = None;
            self.0.open.store(false, Ordering::Relaxed);
        }
    }

    fn listen(&self) -> Option<mpsc::Receiver<Heard>> {
        let mut listener = self.0.listener.lock().unwrap_or_else(PoisonError::into_inner);
        if listener.as_ref().is_some_and(|listener| !listener.is_closed()) {
            return None;
        }
        let (sender, heard) = mpsc::channel(PIECES_MAX);
        *listener = Some(sender);
        self.0.open.store(true, Ordering::Relaxed);
        Some(heard)
    }
}

impl Tape {
    /// Records a device from now on.
    ///
    /// # Errors
    /// When its driver has no line of its own, or it is being recorded already;
    /// told as a sentence.
    pub fn of(config: &Config) -> Result<Tape, String> {
        let (name, driver) = (config.name(), config.driver());
        let tap = config.driver.tap().ok_or_else(|| {
            format!("{name} can't be recorded: the driver {driver} has no line of bytes")
        })?;
        let heard = tap.listen().ok_or_else(|| format!("{name} is being recorded already"))?;
        let began = Timestamp::now();
        let head = Head {
            recording: VERSION,
            device: name.to_owned(),
            began: began.to_string(),
            config: config.written().clone(),
        };
        // TOML's values are all JSON's.
        let head = serde_json::to_string(&head).map_err(|error| error.to_string())?;
        Ok(Tape { began, last: Duration::ZERO, head: Some(head + "\n"), heard })
    }

    /// The next lines, the first of which is the head. `None` when the device is no
    /// more, or when they were asked for too slowly: then the recording has to end,
    /// because there would be a hole in it.
    pub async fn next(&mut self) -> Option<String> {
        if let Some(head) = self.head.take() {
            return Some(head);
        }
        let mut lines = String::new();
        let mut heard = self.heard.recv().await?;
        loop {
            // A clock that was set back doesn't make the line go backwards.
            self.last = self.last.max(heard.at.since(self.began));
            Piece::write(self.last, heard.way, &heard.bytes, &mut lines);
            match self.heard.try_recv() {
                Ok(next) => heard = next,
                Err(_) => return Some(lines),
            }
        }
    }
}
