//! Questions and answers, whatever carries them (protocol, 6).

use std::fmt;

use reading::Fault;

use super::Table;

/// A question to one slave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    pub table: Table,
    pub at: u16,
    pub count: u16,
}

/// Something to be written to one slave: a coil, or registers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Write {
    /// One bit (protocol, 6.5).
    Coil { at: u16, on: bool },
    /// One register (protocol, 6.6).
    Register { at: u16, word: [u8; 2] },
    /// Several (protocol, 6.12), as they go over the wire.
    Registers { at: u16, bytes: Vec<u8> },
}

/// What a slave is sent.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Telegram<'a> {
    Read(&'a Request),
    Write(&'a Write),
}

impl Write {
    fn function(&self) -> u8 {
        match self {
            Write::Coil { .. } => 5,
            Write::Register { .. } => 6,
            Write::Registers { .. } => 16,
        }
    }

    /// As it goes over the wire, without address and checksum.
    fn pdu(&self) -> Vec<u8> {
        let mut pdu = vec![self.function()];
        match self {
            Write::Coil { at, on } => {
                pdu.extend(at.to_be_bytes());
                pdu.extend(if *on { [0xff, 0] } else { [0, 0] });
            }
            Write::Register { at, word } => {
                pdu.extend(at.to_be_bytes());
                pdu.extend(word);
            }
            Write::Registers { at, bytes } => {
                pdu.extend(at.to_be_bytes());
                pdu.extend((bytes.len() as u16 / 2).to_be_bytes());
                pdu.push(bytes.len() as u8);
                pdu.extend(bytes);
            }
        }
        pdu
    }
}

impl Telegram<'_> {
    pub(crate) fn function(&self) -> u8 {
        match self {
            Telegram::Read(request) => request.function(),
            Telegram::Write(write) => write.function(),
        }
    }

    pub(crate) fn pdu(&self) -> Vec<u8> {
        match self {
            Telegram::Read(request) => request.pdu().to_vec(),
            Telegram::Write(write) => write.pdu(),
        }
    }

    /// How many bytes of data its answer has.
    pub(crate) fn answer_bytes(&self) -> usize {
        match self {
            Telegram::Read(request) => request.answer_bytes(),
            // Where, and what or how many.
            Telegram::Write(_) => 4,
        }
    }

    /// As [`Request::answer_length`].
    pub(crate) fn answer_length(&self, begin: &[u8]) -> Option<usize> {
        match self {
            Telegram::Read(request) => request.answer_length(begin),
            Telegram::Write(write) => match *begin {
                [function, ..] if function == write.function() | 0x80 => Some(2),
                [function, ..] if function == write.function() => Some(5),
                _ => None,
            },
        }
    }

    /// As [`Request::answer`]. What was written is answered by its own
    /// beginning, so that an answer can't be another's.
    pub(crate) fn answer<'a>(&self, pdu: &'a [u8]) -> Option<Result<&'a [u8], Exception>> {
        let write = match self {
            Telegram::Read(request) => return request.answer(pdu),
            Telegram::Write(write) => write,
        };
        match *pdu {
            [function, code] if function == write.function() | 0x80 => Some(Err(Exception(code))),
            _ if pdu.len() == 5 && write.pdu().starts_with(pdu) => Some(Ok(&[])),
            _ => None,
        }
    }
}

/// A refusal: its number on the wire (protocol, 7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exception(pub u8);

impl Request {
    /// The function code.
    pub(crate) fn function(&self) -> u8 {
        match self.table {
            Table::Coil => 1,
            Table::Discrete => 2,
            Table::Holding => 3,
            Table::Input => 4,
        }
    }

    /// As it goes over the wire, without address and checksum.
    pub(crate) fn pdu(&self) -> [u8; 5] {
        let ([at_high, at_low], [high, low]) = (self.at.to_be_bytes(), self.count.to_be_bytes());
        [self.function(), at_high, at_low, high, low]
    }

    /// How many bytes of data its answer has.
    pub(crate) fn answer_bytes(&self) -> usize {
        let count = usize::from(self.count);
        if self.table.is_bits() { count.div_ceil(8) } else { 2 * count }
    }

    /// How long the answer is that begins so; `None` for what can't be one.
    pub(crate) fn answer_length(&self, begin: &[u8]) -> Option<usize> {
        match *begin {
            [function, ..] if function == self.function() | 0x80 => Some(2),
            [function] if function == self.function() => Some(2 + self.answer_bytes()),
            [function, bytes, ..] if function == self.function() => {
                let length = usize::from(bytes);
                (length == self.answer_bytes()).then_some(2 + length)
            }
            _ => None,
        }
    }

    /// The data of an answer, or the refusal; `None` for what is no answer to
    /// this.
    pub(crate) fn answer<'a>(&self, pdu: &'a [u8]) -> Option<Result<&'a [u8], Exception>> {
        if self.answer_length(pdu)? != pdu.len() {
            return None;
        }
        match *pdu {
            [function, code] if function & 0x80 != 0 => Some(Err(Exception(code))),
            [_, _, ref data @ ..] => Some(Ok(data)),
            _ => None,
        }
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let last = u32::from(self.at) + u32::from(self.count) - 1;
        write!(f, "{}:{}", self.table.as_str(), self.at)?;
        if self.count > 1 { write!(f, " to {last}") } else { Ok(()) }
    }
}

impl Exception {
    /// A gateway's word for a slave that doesn't answer it.
    pub(crate) const NO_ANSWER: Exception = Exception(11);

    pub(crate) fn fault(self) -> Fault {
        match self.0 {
            2 | 10 => Fault::Absent,
            5 | 6 => Fault::Busy,
            11 => Fault::Timeout,
            1 | 3 => Fault::Denied,
            _ => Fault::Io,
        }
    }
}

impl fmt::Display for Exception {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (words, mend) = match self.0 {
            1 => ("illegal function", "it has no such table; try \"holding\" instead of \"input\""),
            2 => (
                "illegal data address",
                "it has no such register: many manuals count from 1; a smaller `gap` or `limit` \
                 keeps holes out",
            ),
            3 => ("illegal data value", "a smaller `limit` may help"),
            4 => ("device failure", "see its manual"),
            5 => ("acknowledged, still at work", "ask less often"),
            6 => ("device busy", "ask less often"),
            8 => ("memory parity error", "see its manual"),
            10 => ("gateway path unavailable", "see the gateway's settings"),
            11 => ("the gateway's target doesn't answer", "look at the address and the wiring"),
            _ => ("not in the specification", "see its manual"),
        };
        write!(f, "exception {}, {words}: {mend}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of the protocol's sections 6.1 to 6.4.
    #[test]
    fn questions_and_answers_are_those_of_the_specification() {
        for (table, at, count, question, answer) in [
            (Table::Coil, 19, 19, [1, 0, 0x13, 0, 0x13], &[1, 3, 0xcd, 0x6b, 5][..]),
            (Table::Discrete, 196, 22, [2, 0, 0xc4, 0, 0x16], &[2, 3, 0xac, 0xdb, 0x35]),
            (Table::Holding, 107, 3, [3, 0, 0x6b, 0, 3], &[3, 6, 2, 0x2b, 0, 0, 0, 0x64]),
            (Table::Input, 8, 1, [4, 0, 8, 0, 1], &[4, 2, 0, 0x0a]),
        ] {
            let request = Request { table, at, count };
            assert_eq!(request.pdu(), question);
            assert_eq!(request.answer(answer), Some(Ok(&answer[2..])));
            let refusal = [question[0] | 0x80, 2];
            assert_eq!(request.answer(&refusal), Some(Err(Exception(2))));
            assert_eq!(request.answer(&answer[..answer.len() - 1]), None, "too short");
            assert_eq!(request.answer(&[answer, &[0]].concat()), None, "too long");
            let mut other = answer.to_vec();
            other[0] ^= 4;
            assert_eq!(request.answer(&other), None, "another function's");
        }
    }

    /// The examples of the protocol's sections 6.5, 6.6 and 6.12.
    #[test]
    fn what_is_written_is_answered_by_its_beginning() {
        let coil = Write::Coil { at: 172, on: true };
        let register = Write::Register { at: 1, word: [0, 3] };
        let registers = Write::Registers { at: 1, bytes: vec![0, 0x0a, 1, 2] };
        for (write, question, answer) in [
            (coil, &[5, 0, 0xac, 0xff, 0][..], [5, 0, 0xac, 0xff, 0]),
            (register, &[6, 0, 1, 0, 3], [6, 0, 1, 0, 3]),
            (registers, &[16, 0, 1, 0, 2, 4, 0, 0x0a, 1, 2], [16, 0, 1, 0, 2]),
        ] {
            let telegram = Telegram::Write(&write);
            assert_eq!(telegram.pdu(), question);
            assert_eq!(telegram.answer_length(&answer), Some(5));
            assert_eq!(telegram.answer(&answer), Some(Ok(&[][..])));
            assert_eq!(telegram.answer(&[answer[0] | 0x80, 4]), Some(Err(Exception(4))));
            let mut other = answer;
            other[2] ^= 1;
            assert_eq!(telegram.answer(&other), None, "another register's");
        }
    }

    #[test]
    fn a_refusal_is_told_in_words() {
        let said = Exception(2).to_string();
        assert!(said.contains("illegal data address") && said.contains("count from 1"), "{said}");
        assert!(Exception(99).to_string().starts_with("exception 99, not in the specification"));
    }
}
