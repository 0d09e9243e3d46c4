//! The readings that clients may still want, held once for all of them.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};

use reading::{Datum, Reading, Seq};

use crate::frame;

/// How far a client may fall behind, in readings: 8 s at 1,000 readings/s.
const READINGS_MAX: usize = 8_192;

/// The same in bytes as [`weight`] counts them, for channels of long texts.
const BYTES_MAX: usize = 4 << 20;

/// Readings that are serialised together. The ring forgets whole pieces, and a
/// frame is made of whole pieces.
const PIECE_READINGS_MAX: usize = 128;

/// How much a [`Ring`] holds.
#[derive(Clone, Copy)]
pub(super) struct Room {
    pub(super) readings: usize,
    pub(super) bytes: usize,
}

/// The newest readings, by their position: how many were published before.
pub(super) struct Ring {
    room: Room,
    pieces: VecDeque<Arc<Piece>>,
    readings: usize,
    bytes: usize,
}

/// Readings that follow each other.
pub(super) struct Piece {
    first: u64,
    bytes: usize,
    readings: Vec<(Seq, Reading)>,
    /// Made by the first client that wants it, outside of any lock.
    texts: OnceLock<Texts>,
}

/// The JSON of each reading of a piece, one after the other.
struct Texts {
    all: String,
    ends: Vec<usize>,
}

impl Default for Room {
    fn default() -> Room {
        Room { readings: READINGS_MAX, bytes: BYTES_MAX }
    }
}

impl Ring {
    pub(super) fn new(room: Room) -> Ring {
        Ring { room, pieces: VecDeque::new(), readings: 0, bytes: 0 }
    }

    /// Adds readings, the first of which has this position, and forgets the
    /// oldest.
    pub(super) fn push<'a>(
        &mut self,
        mut position: u64,
        readings: impl Iterator<Item = (Seq, &'a Reading)>,
    ) {
        for (seq, reading) in readings {
            let bytes = weight(reading);
            let piece = self.open(position);
            piece.readings.push((seq, reading.clone()));
            piece.bytes += bytes;
            self.readings += 1;
            self.bytes += bytes;
            position += 1;
        }
        while self.readings > self.room.readings || self.bytes > self.room.bytes {
            let Some(oldest) = self.pieces.pop_front() else { break };
            self.readings -= oldest.readings.len();
            self.bytes -= oldest.bytes;
        }
    }

    /// The piece to add to: the last one, unless it is full or a client has it.
    fn open(&mut self, position: u64) -> &mut Piece {
        let last = self.pieces.back_mut().and_then(Arc::get_mut);
        let fits = last.is_some_and(|last| {
            last.readings.len() < PIECE_READINGS_MAX && last.texts.get().is_none()
        });
        if !fits {
            let (readings, texts) = (Vec::new(), OnceLock::new());
            self.pieces.push_back(Arc::new(Piece { first: position, bytes: 0, readings, texts }));
        }
        let last = self.pieces.back_mut().and_then(Arc::get_mut);
        last.expect("it is new, or was looked at through the same exclusive reference")
    }

    pub(super) fn clear(&mut self) {
        self.pieces.clear();
        (self.readings, self.bytes) = (0, 0);
    }

    /// Pieces with the readings from `position` on; `None` when some of those
    /// have been forgotten. `head` is the position of the next reading.
    pub(super) fn from(
        &self,
        position: u64,
        head: u64,
    ) -> Option<impl Iterator<Item = &Arc<Piece>>> {
        let oldest = self.pieces.front().map_or(head, |piece| piece.first);
        let before = self.pieces.partition_point(|piece| piece.end() <= position);
        (position >= oldest).then(|| self.pieces.range(before..))
    }

    /// Readings, bytes and pieces held.
    #[cfg(test)]
    pub(super) fn held(&self) -> (usize, usize, usize) {
        (self.readings, self.bytes, self.pieces.len())
    }
}

impl Piece {
    /// The position after the last reading.
    pub(super) fn end(&self) -> u64 {
        self.first + self.readings.len() as u64
    }

    /// The readings from `position` on.
    pub(super) fn readings(&self, position: u64) -> impl Iterator<Item = &Reading> {
        let before = usize::try_from(position.saturating_sub(self.first)).unwrap_or(usize::MAX);
        self.readings.iter().skip(before).map(|(_, reading)| reading)
    }

    /// The readings from `position` on, each with its JSON.
    pub(super) fn entries(&self, position: u64) -> impl Iterator<Item = (&Reading, &str)> {
        let texts = self.texts.get_or_init(|| Texts::of(&self.readings));
        let before = usize::try_from(position.saturating_sub(self.first)).unwrap_or(usize::MAX);
        let starts = std::iter::once(&0).chain(&texts.ends);
        let ranges = starts.zip(&texts.ends).map(|(&from, &to)| &texts.all[from..to]);
        self.readings.iter().map(|(_, reading)| reading).zip(ranges).skip(before)
    }

    #[cfg(test)]
    pub(super) fn is_serialised(&self) -> bool {
        self.texts.get().is_some()
    }
}

impl Texts {
    fn of(readings: &[(Seq, Reading)]) -> Texts {
        let mut texts = Texts { all: String::new(), ends: Vec::with_capacity(readings.len()) };
        for (seq, reading) in readings {
            texts.all += &frame::json(&frame::Entry::new(*seq, reading));
            texts.ends.push(texts.all.len());
        }
        texts.all.shrink_to_fit();
        texts
    }
}

/// Bytes that a reading takes in the ring: itself (twice, since a vector grows
/// by doubling) and its JSON.
fn weight(reading: &Reading) -> usize {
    let text = match reading.value.datum() {
        Some(Datum::Text(text)) => text.len(),
        _ => 0,
    };
    2 * size_of::<(Seq, Reading)>() + 110 + reading.channel.as_str().len() + 2 * text
}
