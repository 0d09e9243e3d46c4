//! The readings that clients may still want, held once for all of them.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use reading::{Datum, Reading, Seq};

use super::subscriber::Readings;
use crate::frame;
use crate::ws::Prepared;

/// How far a client may fall behind, in readings: 8 s at 1,000 readings/s.
const READINGS_MAX: usize = 8_192;

/// The same in bytes as [`weight`] counts them, for channels of long texts.
const BYTES_MAX: usize = 4 << 20;

/// Readings of one piece, which is one message: some 32 KiB.
const PIECE_READINGS_MAX: usize = 256;

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
    /// Whether the last piece takes no more readings.
    sealed: bool,
    readings: usize,
    bytes: usize,
}

/// Readings that follow each other, and are told together.
pub(super) struct Piece {
    pub(super) first: u64,
    bytes: usize,
    readings: Vec<(Seq, Reading)>,
    /// Made by the first client that wants it, outside of any lock.
    message: OnceLock<Message>,
}

/// The message with all readings of a piece, and where in it each stands.
struct Message {
    all: Arc<Prepared>,
    ranges: Vec<Range<usize>>,
}

/// What a client at some position gets.
pub(super) enum Next {
    /// This, which begins at the position or before it.
    Piece(Arc<Piece>),
    /// Nothing yet: more readings are being gathered.
    Later,
    /// Some of its readings have been forgotten.
    Forgotten,
}

impl Default for Room {
    fn default() -> Room {
        Room { readings: READINGS_MAX, bytes: BYTES_MAX }
    }
}

impl Ring {
    pub(super) fn new(room: Room) -> Ring {
        Ring { room, pieces: VecDeque::new(), sealed: true, readings: 0, bytes: 0 }
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

    /// The piece to add to: the last one, unless it is sealed or full.
    fn open(&mut self, position: u64) -> &mut Piece {
        if self.sealed || self.pieces.back().is_none_or(|last| last.is_full()) {
            let (readings, message) = (Vec::new(), OnceLock::new());
            self.pieces.push_back(Arc::new(Piece { first: position, bytes: 0, readings, message }));
            self.sealed = false;
        }
        let last = self.pieces.back_mut().and_then(Arc::get_mut);
        last.expect("no client is given a piece that is still open")
    }

    /// What has been gathered so far is told as it is.
    pub(super) fn seal(&mut self) {
        self.sealed = true;
    }

    pub(super) fn clear(&mut self) {
        self.pieces.clear();
        (self.sealed, self.readings, self.bytes) = (true, 0, 0);
    }

    /// What a client at `position` gets, which is before the head.
    pub(super) fn next(&self, position: u64) -> Next {
        let at = self.pieces.partition_point(|piece| piece.end() <= position);
        match self.pieces.get(at) {
            Some(piece) if piece.first > position => Next::Forgotten,
            Some(piece) => {
                let is_open = at + 1 == self.pieces.len() && !self.sealed && !piece.is_full();
                if is_open { Next::Later } else { Next::Piece(piece.clone()) }
            }
            None => Next::Forgotten,
        }
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

    pub(super) fn len(&self) -> u64 {
        self.readings.len() as u64
    }

    fn is_full(&self) -> bool {
        self.readings.len() >= PIECE_READINGS_MAX
    }

    /// The readings from `position` on.
    pub(super) fn readings(&self, position: u64) -> impl Iterator<Item = &Reading> {
        let before = usize::try_from(position.saturating_sub(self.first)).unwrap_or(usize::MAX);
        self.readings.iter().skip(before).map(|(_, reading)| reading)
    }

    /// All readings, as every client gets them that wants all.
    pub(super) fn all(&self) -> Arc<Prepared> {
        self.message().all.clone()
    }

    /// The readings from `position` on, each with its JSON.
    pub(super) fn entries(&self, position: u64) -> impl Iterator<Item = (&Reading, &[u8])> {
        let Message { all, ranges } = self.message();
        let before = usize::try_from(position.saturating_sub(self.first)).unwrap_or(usize::MAX);
        let texts = ranges.iter().map(|range| &all.payload()[range.clone()]);
        self.readings.iter().map(|(_, reading)| reading).zip(texts).skip(before)
    }

    fn message(&self) -> &Message {
        self.message.get_or_init(|| {
            let mut frame = Readings::default();
            let ranges = self
                .readings
                .iter()
                .map(|(seq, reading)| {
                    frame.add(frame::json(&frame::Entry::new(*seq, reading)).as_bytes())
                })
                .collect();
            Message { all: Arc::new(frame.end()), ranges }
        })
    }

    #[cfg(test)]
    pub(super) fn is_serialised(&self) -> bool {
        self.message.get().is_some()
    }
}

/// Bytes that a reading takes in the ring: itself (twice, since a vector grows
/// by doubling), its JSON, and that compressed.
fn weight(reading: &Reading) -> usize {
    let text = match reading.value.datum() {
        Some(Datum::Text(text)) => text.len(),
        _ => 0,
    };
    2 * size_of::<(Seq, Reading)>() + 150 + reading.channel.as_str().len() + 3 * text
}
