//! Modbus: what is asked and answered, and the wires it goes over.
//!
//! Specifications: *MODBUS Application Protocol V1.1b3* (here "protocol"),
//! *MODBUS over Serial Line V1.02* ("serial line") and *MODBUS Messaging on
//! TCP/IP V1.0b* ("TCP/IP").

mod bus;
mod pdu;
mod plan;
mod rtu;
mod tcp;
mod values;

use std::io;
use std::str::FromStr;

use reading::Fault;

pub(crate) use bus::{Bus, Line, Wire};
pub(crate) use pdu::{Exception, Request, Telegram, Write};
pub(crate) use plan::{Block, REGISTERS_MAX, plan};
pub(crate) use values::{Format, Order, RegisterType};

use crate::Failure;

/// One of the four kinds of places (protocol, 4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Table {
    /// A bit that may be written.
    Coil,
    /// A bit that is only read.
    Discrete,
    /// 16 bits that may be written.
    Holding,
    /// 16 bits that are only read.
    Input,
}

impl Table {
    pub(crate) fn is_bits(self) -> bool {
        matches!(self, Table::Coil | Table::Discrete)
    }

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Table::Coil => "coil",
            Table::Discrete => "discrete",
            Table::Holding => "holding",
            Table::Input => "input",
        }
    }
}

/// A register or a bit: `input:0`. The number is the one in the telegram, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub table: Table,
    pub at: u16,
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Place, String> {
        let (table, at) = text.split_once(':').unwrap_or((text, ""));
        let tables = [Table::Coil, Table::Discrete, Table::Holding, Table::Input];
        let table = tables.into_iter().find(|known| known.as_str() == table);
        match (table, at.parse()) {
            (Some(table), Ok(at)) if at_is_plain(text) => Ok(Place { table, at }),
            _ => Err("expected a table and a number from 0 to 65535: \"input:0\", \"holding:0\", \
                      \"coil:0\" or \"discrete:0\"; a manual's 30001 is \"input:0\", its 40001 \
                      \"holding:0\""
                .into()),
        }
    }
}

/// Rust would also read "+5".
fn at_is_plain(text: &str) -> bool {
    text.split_once(':').is_some_and(|(_, at)| at.bytes().all(|b| b.is_ascii_digit()))
}

/// Why a question has no answer.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// It refuses, and says why.
    Exception(Exception),
    /// Nothing came in time.
    Silence,
    /// Something came, but no answer: so many bytes.
    Garbled(usize),
    /// The wire is gone.
    Gone(Failure),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Trouble {
        Trouble::Gone(Failure::io("the line", &error))
    }
}

impl Trouble {
    /// What a reading says of it.
    pub(crate) fn fault(&self) -> Fault {
        match self {
            Trouble::Exception(exception) => exception.fault(),
            Trouble::Silence => Fault::Timeout,
            Trouble::Garbled(_) => Fault::Corrupt,
            Trouble::Gone(failure) => failure.fault,
        }
    }
}
