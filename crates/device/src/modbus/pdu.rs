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

    #[test]
    fn a_refusal_is_told_in_words() {
        let said = Exception(2).to_string();
        assert!(said.contains("illegal data address") && said.contains("count from 1"), "{said}");
        assert!(Exception(99).to_string().starts_with("exception 99, not in the specification"));
    }
}
