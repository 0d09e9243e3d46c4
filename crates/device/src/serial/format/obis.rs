//! The names of a meter's registers: OBIS codes, IEC 62056-61, and those that
//! people know them by.

use std::fmt;

use reading::Kind;

use super::decimal::Decimal;
use super::{NotUnderstood, Scalar, unknown, value};
use crate::Batch;

/// A code, `A-B:C.D.E*F`. The medium and the channel, A and B, may be left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Code {
    pub(super) medium: Option<(u8, u8)>,
    /// C, D, E and F; E and F are 255 where they are left out.
    pub(super) register: [u8; 4],
}

/// Takes the wanted registers out of whatever a meter says.
#[derive(Clone)]
pub(crate) struct Registers {
    /// By channel.
    wanted: Vec<Wanted>,
}

#[derive(Clone)]
struct Wanted {
    field: Field,
    kind: Kind,
    /// Several registers may hold the same; only the best that has come counts.
    rank: usize,
    /// When another meter behind this one was last read, as it says.
    read: Option<Box<str>>,
}

#[derive(Clone)]
enum Field {
    Code(Code),
    Named(&'static Named),
    Behind(&'static Behind),
    /// The line that begins a readout.
    Identification,
    /// The status word of an SML entry.
    Status,
}

/// A register with a name.
struct Named {
    name: &'static str,
    /// "" for none.
    unit: &'static str,
    /// The best first.
    codes: &'static [Code],
}

/// A meter behind the meter, on its M-Bus.
struct Behind {
    name: &'static str,
    unit: &'static str,
    /// EN 13757-3, "Device type".
    devices: &'static [u8],
}

/// What a register holds.
#[derive(Clone, Copy, Debug)]
pub(super) enum Held<'a> {
    Number(Decimal),
    Text(&'a str),
}

/// The unit a meter gives, as ours times 10^`shift`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Measured {
    unit: &'static str,
    shift: i32,
}

const fn code(c: u8, d: u8, e: u8) -> Code {
    Code { medium: None, register: [c, d, e, 255] }
}

const fn of(a: u8, b: u8, register: [u8; 4]) -> Code {
    Code { medium: Some((a, b)), register }
}

const fn number(name: &'static str, unit: &'static str, codes: &'static [Code]) -> Named {
    Named { name, unit, codes }
}

const fn text(name: &'static str, codes: &'static [Code]) -> Named {
    Named { name, unit: "", codes }
}

const fn behind(name: &'static str, unit: &'static str, devices: &'static [u8]) -> Behind {
    Behind { name, unit, devices }
}

/// IEC 62056-61, table 5, and the codes of "P1 Companion Standard", version
/// 5.0.2, table 6-4. Import is what the house takes from the grid.
static NAMED: &[Named] = &[
    number("energy_import", "kW.h", &[code(1, 8, 0)]),
    number("energy_import_t1", "kW.h", &[code(1, 8, 1)]),
    number("energy_import_t2", "kW.h", &[code(1, 8, 2)]),
    number("energy_export", "kW.h", &[code(2, 8, 0)]),
    number("energy_export_t1", "kW.h", &[code(2, 8, 1)]),
    number("energy_export_t2", "kW.h", &[code(2, 8, 2)]),
    number("power", "W", &[code(16, 7, 0), code(1, 7, 0), code(15, 7, 0)]),
    number("power_import", "W", &[code(1, 7, 0)]),
    number("power_export", "W", &[code(2, 7, 0)]),
    number("power_l1", "W", &[code(36, 7, 0)]),
    number("power_l2", "W", &[code(56, 7, 0)]),
    number("power_l3", "W", &[code(76, 7, 0)]),
    number("power_import_l1", "W", &[code(21, 7, 0)]),
    number("power_import_l2", "W", &[code(41, 7, 0)]),
    number("power_import_l3", "W", &[code(61, 7, 0)]),
    number("power_export_l1", "W", &[code(22, 7, 0)]),
    number("power_export_l2", "W", &[code(42, 7, 0)]),
    number("power_export_l3", "W", &[code(62, 7, 0)]),
    number("voltage_l1", "V", &[code(32, 7, 0)]),
    number("voltage_l2", "V", &[code(52, 7, 0)]),
    number("voltage_l3", "V", &[code(72, 7, 0)]),
    number("current_l1", "A", &[code(31, 7, 0)]),
    number("current_l2", "A", &[code(51, 7, 0)]),
    number("current_l3", "A", &[code(71, 7, 0)]),
    number("frequency", "Hz", &[code(14, 7, 0)]),
    number("reactive_import", "kvarh", &[code(3, 8, 0)]),
    number("reactive_export", "kvarh", &[code(4, 8, 0)]),
    number("tariff", "", &[code(96, 14, 0)]),
    number("power_failures", "1", &[code(96, 7, 21)]),
    number("power_failures_long", "1", &[code(96, 7, 9)]),
    number("voltage_sags_l1", "1", &[code(32, 32, 0)]),
    number("voltage_sags_l2", "1", &[code(52, 32, 0)]),
    number("voltage_sags_l3", "1", &[code(72, 32, 0)]),
    number("voltage_swells_l1", "1", &[code(32, 36, 0)]),
    number("voltage_swells_l2", "1", &[code(52, 36, 0)]),
    number("voltage_swells_l3", "1", &[code(72, 36, 0)]),
    // Not those of the meters behind it.
    text(
        "meter",
        &[of(1, 0, [96, 1, 0, 255]), of(0, 0, [96, 1, 1, 255]), code(0, 0, 0), code(0, 0, 9)],
    ),
    text("meter_time", &[of(0, 0, [1, 0, 0, 255])]),
    text("message", &[code(96, 13, 0)]),
    text("version", &[code(0, 2, 8)]),
];

/// "P1 Companion Standard", version 5.0.2, section 6.12: 0-n:24.2.1.
static BEHIND: &[Behind] = &[
    behind("gas", "m3", &[3]),
    behind("water", "m3", &[6, 7]),
    behind("heat", "GJ", &[4, 12]),
    behind("cold", "GJ", &[10, 11]),
];

/// The line that begins a readout: maker and type.
const IDENTIFICATION: &str = "identification";
/// Of SML: the status word.
const STATUS: &str = "status";

impl Registers {
    /// A register for each channel, in order.
    ///
    /// # Errors
    /// With the place of the channel whose field isn't one.
    pub(crate) fn new(fields: &[(String, Kind)]) -> Result<Registers, (usize, String)> {
        let mut wanted = Vec::new();
        for (place, (name, kind)) in fields.iter().enumerate() {
            let field = field(name).map_err(|message| (place, message))?;
            wanted.push(Wanted { field, kind: *kind, rank: usize::MAX, read: None });
        }
        Ok(Registers { wanted })
    }

    /// What the meter says of one register. `measured` is the unit it gives,
    /// `None` when it gives none.
    pub(super) fn take(
        &mut self,
        code: Code,
        held: Held<'_>,
        measured: Option<Measured>,
        batch: &mut Batch,
    ) {
        for (channel, wanted) in self.wanted.iter_mut().enumerate() {
            let (rank, unit) = match &wanted.field {
                Field::Code(wanted) if wanted.covers(&code) => (0, None),
                Field::Named(named) => {
                    let Some(rank) = named.codes.iter().position(|known| known.covers(&code))
                    else {
                        continue;
                    };
                    (rank, Some(named.unit))
                }
                _ => continue,
            };
            if rank <= wanted.rank {
                wanted.rank = rank;
                push(channel, wanted.kind, held, measured, unit, batch);
            }
        }
    }

    /// What a meter behind this one says. `read` is when it was read: what has
    /// been told once is an old value.
    pub(super) fn take_behind(
        &mut self,
        device: u8,
        read: &str,
        held: Held<'_>,
        measured: Option<Measured>,
        batch: &mut Batch,
    ) {
        for (channel, wanted) in self.wanted.iter_mut().enumerate() {
            let Field::Behind(behind) = &wanted.field else { continue };
            if behind.devices.contains(&device) && wanted.read.as_deref() != Some(read) {
                wanted.read = Some(read.into());
                push(channel, wanted.kind, held, measured, Some(behind.unit), batch);
            }
        }
    }

    /// The line that begins a readout.
    pub(super) fn take_identification(&self, line: &str, batch: &mut Batch) {
        for (channel, wanted) in self.wanted.iter().enumerate() {
            if matches!(wanted.field, Field::Identification) {
                batch.push(channel, value(wanted.kind, Scalar::Text(line)));
            }
        }
    }

    /// The status word.
    pub(super) fn take_status(&self, status: f64, batch: &mut Batch) {
        for (channel, wanted) in self.wanted.iter().enumerate() {
            if matches!(wanted.field, Field::Status) {
                batch.push(channel, value(wanted.kind, Scalar::Number(status)));
            }
        }
    }
}

/// The registers that have names.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    let named = NAMED.iter().map(|named| named.name);
    named.chain(BEHIND.iter().map(|behind| behind.name)).chain([IDENTIFICATION, STATUS])
}

/// What a channel's `field` means.
fn field(name: &str) -> Result<Field, String> {
    if let Some(named) = NAMED.iter().find(|named| named.name == name) {
        Ok(Field::Named(named))
    } else if let Some(behind) = BEHIND.iter().find(|behind| behind.name == name) {
        Ok(Field::Behind(behind))
    } else if name == IDENTIFICATION {
        Ok(Field::Identification)
    } else if name == STATUS {
        Ok(Field::Status)
    } else if let Ok(code) = Code::parse(name) {
        Ok(Field::Code(code))
    } else {
        Err(unknown(name, names(), "a code such as `1-0:1.8.0`"))
    }
}

/// In the channel's type and unit; bad when it is measured in quite another one.
fn push(
    channel: usize,
    kind: Kind,
    held: Held<'_>,
    measured: Option<Measured>,
    unit: Option<&str>,
    batch: &mut Batch,
) {
    let number = |number: Decimal| match (measured, unit) {
        (Some(measured), Some(unit)) if unit != measured.unit => f64::NAN,
        (Some(measured), _) => number.shifted(measured.shift).to_f64(),
        (None, _) => number.to_f64(),
    };
    let scalar = match held {
        Held::Number(held) => Scalar::Number(number(held)),
        Held::Text(text) if kind == Kind::Number => match Decimal::parse(text) {
            Some(held) => Scalar::Number(number(held)),
            None => Scalar::Text(text),
        },
        Held::Text(text) => Scalar::Text(text),
    };
    batch.push(channel, value(kind, scalar));
}

impl Measured {
    /// The unit as a meter writes it. One that we don't know is none of ours.
    pub(super) fn parse(unit: &str) -> Measured {
        let (unit, shift) = match unit {
            "kWh" => ("kW.h", 0),
            "Wh" => ("kW.h", -3),
            "MWh" => ("kW.h", 3),
            "W" => ("W", 0),
            "kW" => ("W", 3),
            "MW" => ("W", 6),
            "V" => ("V", 0),
            "kV" => ("V", 3),
            "A" => ("A", 0),
            "mA" => ("A", -3),
            "Hz" => ("Hz", 0),
            "kvarh" => ("kvarh", 0),
            "varh" => ("kvarh", -3),
            "var" => ("var", 0),
            "kvar" => ("var", 3),
            "VA" => ("VA", 0),
            "kVA" => ("VA", 3),
            "m3" => ("m3", 0),
            "dm3" | "l" => ("m3", -3),
            "GJ" => ("GJ", 0),
            "MJ" => ("GJ", -3),
            "s" => ("s", 0),
            _ => ("?", 0),
        };
        Measured { unit, shift }
    }

    /// The unit as a number: IEC 62056-62, table 3. `None` for "a count" and for
    /// what no meter in a house measures.
    pub(super) fn numbered(unit: u64) -> Option<Measured> {
        Some(Measured::parse(match unit {
            13 | 14 => "m3",
            27 => "W",
            28 => "VA",
            29 => "var",
            30 => "Wh",
            32 => "varh",
            33 => "A",
            35 => "V",
            44 => "Hz",
            7 => "s",
            _ => return None,
        }))
    }
}

impl Code {
    /// `1-0:1.8.0*255`, `1.8.0`, `F.F`, `C.1.0`.
    pub(super) fn parse(text: &str) -> Result<Code, NotUnderstood> {
        let number = |text: &str| match text {
            // IEC 62056-61, section 5.2: letters for groups C and D.
            "C" => Ok(96),
            "F" => Ok(97),
            "L" => Ok(98),
            "P" => Ok(99),
            // parse() takes a sign as well.
            _ if text.starts_with('+') => Err(NotUnderstood),
            _ => text.parse::<u8>().map_err(|_| NotUnderstood),
        };
        let (medium, register) = match text.split_once(':') {
            Some((medium, register)) => {
                let (a, b) = medium.split_once('-').ok_or(NotUnderstood)?;
                (Some((number(a)?, number(b)?)), register)
            }
            None => (None, text),
        };
        // `&` marks a value that was reset by hand.
        let (register, f) = match register.split_once(['*', '&']) {
            Some((register, f)) => (register, number(f)?),
            None => (register, 255),
        };
        let mut parts = register.split('.');
        let (c, d) = (parts.next(), parts.next());
        let (c, d) = (number(c.ok_or(NotUnderstood)?)?, number(d.ok_or(NotUnderstood)?)?);
        let e = parts.next().map_or(Ok(255), number)?;
        // `1.0.0.255`, as some books write it.
        let f = parts.next().map_or(Ok(f), number)?;
        if parts.next().is_some() {
            return Err(NotUnderstood);
        }
        Ok(Code { medium, register: [c, d, e, f] })
    }

    /// Whether a meter's code is this one. What neither says is the same.
    fn covers(&self, code: &Code) -> bool {
        let medium = match (self.medium, code.medium) {
            (Some(wanted), Some(found)) => wanted == found,
            _ => true,
        };
        medium && self.register == code.register
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((a, b)) = self.medium {
            write!(f, "{a}-{b}:")?;
        }
        let [c, d, e, last] = self.register;
        write!(f, "{c}.{d}")?;
        if e != 255 {
            write!(f, ".{e}")?;
        }
        if last == 255 { Ok(()) } else { write!(f, "*{last}") }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Every register that has a name, and more.
    pub(crate) fn all(more: &[&'static str]) -> Vec<(String, Kind)> {
        let texts =
            ["meter", "meter_time", "message", "version", IDENTIFICATION, "F.F", "1-0:0.0.9"];
        super::super::tests::fields(names().chain(more.iter().copied()), &texts)
    }

    #[test]
    fn a_code_in_every_usual_dress() {
        let same = Code::parse("1-0:1.8.0").unwrap();
        for text in ["1-0:1.8.0*255", "1-0:1.8.0.255"] {
            assert_eq!(Code::parse(text), Ok(same), "{text}");
        }
        assert!(Code::parse("1.8.0").unwrap().covers(&same));
        assert!(!Code::parse("2-0:1.8.0").unwrap().covers(&same));
        // A value of the past is another register.
        assert!(!Code::parse("1.8.0").unwrap().covers(&Code::parse("1.8.0*01").unwrap()));
        assert_eq!(Code::parse("F.F").unwrap().to_string(), "97.97");
        assert_eq!(Code::parse("C.1.0").unwrap().to_string(), "96.1.0");
        assert_eq!(Code::parse("0-1:24.2.1*01").unwrap().to_string(), "0-1:24.2.1*1");
        for text in ["", "1", "1.", "1.8.0.1.2", "1-0", "1:2.3", "1.8.256", "+1.8.0", "a.b"] {
            assert_eq!(Code::parse(text), Err(NotUnderstood), "{text}");
        }
    }

    #[test]
    fn no_name_is_another_or_a_code() {
        let mut all: Vec<_> = names().collect();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), names().count());
        for name in all {
            assert!(Code::parse(name).is_err(), "{name} could be a code");
        }
    }
}
