//! What a device said once, understood as it was then, without its port.

use std::time::Duration;

use tokio::io::Empty;

use super::{Language, Reader, SAMPLES_MAX};
use crate::{Batch, Rehearsal};

/// A reader that is given what its port gave.
pub(crate) struct Rehearsed {
    reader: Reader<Empty>,
    /// A question that may come back first, where both share two wires.
    asked: Option<Vec<u8>>,
}

impl Rehearsed {
    pub(crate) fn new(language: Language) -> Rehearsed {
        let mut reader = Reader::over(tokio::io::empty(), String::new(), language);
        // Nothing of a recording is cut off but what was before it.
        reader.opened = None;
        Rehearsed { reader, asked: None }
    }

    fn understand(&mut self, batch: &mut Batch) {
        loop {
            self.reader.understand(batch);
            if !self.reader.left || batch.samples.len() >= SAMPLES_MAX {
                return;
            }
        }
    }
}

impl Rehearsal for Rehearsed {
    fn received(&mut self, mut bytes: &[u8], batch: &mut Batch) {
        while !bytes.is_empty() {
            let frames = &mut self.reader.frames;
            let room = frames.room();
            let (now, later) = bytes.split_at(bytes.len().min(room.len()));
            room[..now.len()].copy_from_slice(now);
            frames.filled(now.len());
            bytes = later;
            if let Some(request) = &self.asked {
                let mut waits = true;
                if !frames.skip(request, &mut waits) {
                    continue;
                }
                self.asked = None;
            }
            self.understand(batch);
        }
    }

    fn asked(&mut self, request: &[u8]) {
        self.reader.frames.clear();
        self.asked = Some(request.to_vec());
    }

    fn silent(&mut self, silence: Duration, batch: &mut Batch) {
        if self.reader.frames.pause().is_some_and(|pause| pause <= silence) {
            self.reader.frames.silence();
            self.understand(batch);
        }
    }
}
