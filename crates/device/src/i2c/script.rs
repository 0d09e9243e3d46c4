//! A bus of which everything is known beforehand: what is written to it, and
//! what it answers.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use embedded_hal::i2c::{ErrorType, I2c, Operation};
use rustix::io::Errno;

use super::wire::{BusError, Wire};
use crate::worker::Worker;

/// One transaction.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// These bytes are written, and answered by those.
    Ok(&'static [u8], &'static [u8]),
    /// These bytes are written, and this comes of it.
    Fails(&'static [u8], Errno),
}

#[derive(Clone)]
pub(crate) struct Script {
    address: u8,
    steps: Arc<Mutex<VecDeque<Step>>>,
}

impl Script {
    pub(crate) fn new(address: u8, steps: &[Step]) -> Script {
        Script { address, steps: Arc::new(Mutex::new(steps.iter().cloned().collect())) }
    }

    pub(crate) fn wire(&self) -> Wire {
        Wire::new(Box::new(self.clone()), self.address, Worker::default())
    }

    /// Goes on.
    pub(crate) fn then(&self, steps: &[Step]) {
        self.steps.lock().unwrap().extend(steps.iter().cloned());
    }

    /// How many steps have not been taken.
    pub(crate) fn left(&self) -> usize {
        self.steps.lock().unwrap().len()
    }
}

impl ErrorType for Script {
    type Error = BusError;
}

impl I2c for Script {
    fn transaction(
        &mut self,
        address: u8,
        operations: &mut [Operation<'_>],
    ) -> Result<(), BusError> {
        assert_eq!(address, self.address);
        let written: Vec<u8> = operations
            .iter()
            .filter_map(|operation| match operation {
                Operation::Write(bytes) => Some(*bytes),
                Operation::Read(_) => None,
            })
            .flatten()
            .copied()
            .collect();
        let step = self.steps.lock().unwrap().pop_front();
        let (expected, answer) = match step.expect("something is said after the end") {
            Step::Ok(expected, answer) => (expected, Ok(answer)),
            Step::Fails(expected, errno) => (expected, Err(BusError(errno))),
        };
        assert_eq!(written, expected, "what was written");
        let mut answer = answer?;
        for operation in operations {
            if let Operation::Read(bytes) = operation {
                let (now, rest) = answer.split_at(bytes.len());
                bytes.copy_from_slice(now);
                answer = rest;
            }
        }
        assert!(answer.is_empty(), "so much wasn't asked for");
        Ok(())
    }
}
