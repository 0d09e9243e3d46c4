//! From the bytes of a serial port to samples: a framer cuts them into frames, a
//! format understands a frame, and a preset names both for a known device.
//!
//! Nothing here can fail: what isn't understood is counted and left out, and the
//! bytes behind it are a fresh start.

pub(crate) mod bytes;
pub(crate) mod checksum;
pub(crate) mod format;
pub(crate) mod frame;
pub(crate) mod preset;
mod reader;
pub(crate) mod rs485;
#[cfg(test)]
mod telegrams;

pub(crate) use reader::{Language, Question, Reader, Rehearsed};
