use std::fmt;
use std::str::FromStr;

use crate::{Gap, Reading};

/// The number of a record. It ascends, one number a record, and goes on where
/// the store left off when the gateway starts again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seq(pub u64);

/// The name of one start of a gateway: 16 hexadecimal digits, chosen at random.
///
/// After a power cut the tail of the store may be gone while the broker already
/// has it, so its numbers are given again. With the epoch, `(gateway, epoch,
/// seq)` still names one record for ever.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Epoch(pub u64);

/// A text that isn't 16 lower-case hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an epoch: 16 hexadecimal digits, such as 9f2c44e01a7b3d58")]
pub struct InvalidEpoch(pub String);

/// A numbered entry of the log: a reading, or the fact that some are missing.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// The start of the gateway in which it was numbered.
    pub epoch: Epoch,
    /// Its number.
    pub seq: Seq,
    /// What it says.
    pub body: Body,
}

/// What a [`Record`] says.
#[derive(Clone, Debug, PartialEq)]
pub enum Body {
    /// A reading.
    Reading(Reading),
    /// Readings are missing.
    Gap(Gap),
}

impl Record {
    /// The reading, unless it is a gap.
    pub fn reading(&self) -> Option<&Reading> {
        match &self.body {
            Body::Reading(reading) => Some(reading),
            Body::Gap(_) => None,
        }
    }
}

impl Seq {
    /// The number after this one.
    #[must_use]
    pub fn next(self) -> Seq {
        Seq(self.0 + 1)
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Epoch {
    type Err = InvalidEpoch;

    fn from_str(text: &str) -> Result<Epoch, InvalidEpoch> {
        let digits =
            text.len() == 16 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let epoch = digits.then(|| u64::from_str_radix(text, 16).ok()).flatten();
        epoch.map(Epoch).ok_or_else(|| InvalidEpoch(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_is_sixteen_digits_there_and_back() {
        let epoch = Epoch(0x00ab_0000_0000_0001);
        assert_eq!(epoch.to_string(), "00ab000000000001");
        assert_eq!("00ab000000000001".parse(), Ok(epoch));
        for text in ["", "ab", "00AB000000000001", "+0ab000000000001"] {
            assert!(text.parse::<Epoch>().is_err(), "{text}");
        }
    }
}
