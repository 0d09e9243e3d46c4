//! The codes on disk: add, never change.

use reading::{Datum, Doubt, Fault, Value};

/// The code of a reading's quality with its reason: 0 is good, up to 63
/// uncertain, from 64 bad. All fit SQLite's one-byte integer, and 0 takes none.
pub(crate) fn code(value: &Value) -> i64 {
    match value {
        Value::Good(_) => 0,
        Value::Uncertain(_, doubt) => doubt_code(*doubt),
        Value::Bad(fault) => fault_code(*fault),
    }
}

/// The value that a row stands for. A row that no version writes, say of a
/// damaged page, is a bad reading and not an error that hides its neighbours.
pub(crate) fn value(code: i64, datum: Option<Datum>) -> Value {
    match (code, datum) {
        (0, Some(datum)) => Value::Good(datum),
        (1..=63, Some(datum)) => {
            let doubt = Doubt::ALL.iter().find(|doubt| doubt_code(**doubt) == code);
            Value::Uncertain(datum, doubt.copied().unwrap_or(Doubt::Device))
        }
        (code, _) => {
            let fault = Fault::ALL.iter().find(|fault| fault_code(**fault) == code);
            Value::Bad(fault.copied().unwrap_or(Fault::Corrupt))
        }
    }
}

/// Every code with its words, for the table `quality`.
pub(crate) fn all() -> Vec<(i64, &'static str, Option<&'static str>)> {
    let doubts = Doubt::ALL.iter().map(|d| (doubt_code(*d), "uncertain", Some(d.as_str())));
    let faults = Fault::ALL.iter().map(|f| (fault_code(*f), "bad", Some(f.as_str())));
    std::iter::once((0, "good", None)).chain(doubts).chain(faults).collect()
}

pub(crate) fn doubt_code(doubt: Doubt) -> i64 {
    match doubt {
        Doubt::ClockUnset => 1,
        Doubt::EdgesMissed => 2,
        Doubt::Device => 3,
    }
}

fn fault_code(fault: Fault) -> i64 {
    match fault {
        Fault::Absent => 64,
        Fault::Denied => 65,
        Fault::Busy => 66,
        Fault::Timeout => 67,
        Fault::Corrupt => 68,
        Fault::Io => 69,
        Fault::OutOfRange => 70,
        Fault::Stale => 71,
        Fault::Stuck => 72,
        Fault::Bug => 73,
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use super::*;

    #[test]
    fn the_codes_are_on_disk_add_and_never_change() {
        let mut table = String::new();
        for (code, quality, reason) in all() {
            writeln!(table, "{code} {quality} {}", reason.unwrap_or("-")).unwrap();
        }
        expect_test::expect![[r#"
            0 good -
            1 uncertain clock not set
            2 uncertain edges missed
            3 uncertain device in doubt
            64 bad absent
            65 bad permission denied
            66 bad in use
            67 bad timeout
            68 bad not understood
            69 bad i/o error
            70 bad out of range
            71 bad stale
            72 bad stuck
            73 bad driver bug
        "#]]
        .assert_eq(&table);
    }

    #[test]
    fn a_code_gives_back_the_value_it_was_made_of() {
        let datum = Datum::Number(1.5);
        let mut values = vec![Value::Good(datum.clone())];
        values.extend(Doubt::ALL.iter().map(|doubt| Value::Uncertain(datum.clone(), *doubt)));
        values.extend(Fault::ALL.iter().map(|fault| Value::Bad(*fault)));
        for expected in values {
            assert_eq!(value(code(&expected), expected.datum().cloned()), expected);
        }
    }

    #[test]
    fn a_row_that_no_version_writes_is_a_bad_reading() {
        assert_eq!(value(0, None), Value::Bad(Fault::Corrupt));
        assert_eq!(value(99, Some(Datum::Number(1.0))), Value::Bad(Fault::Corrupt));
    }
}
