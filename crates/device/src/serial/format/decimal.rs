//! Numbers as devices write them: digits and a power of ten.

/// `digits` × 10^`exponent`. Kept apart until the unit is known, so that 0.057 kW
/// becomes 57 W and not 57.00000000000001 W.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Decimal {
    digits: i64,
    exponent: i32,
}

/// Powers of ten that an f64 holds exactly.
const EXACT: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16,
    1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
];

impl Decimal {
    pub(crate) fn new(digits: i64, exponent: i32) -> Decimal {
        Decimal { digits, exponent }
    }

    /// `-12.50`; `None` for anything else, and for more digits than an i64 has.
    pub(crate) fn parse(text: &str) -> Option<Decimal> {
        let (sign, digits) = match text.as_bytes() {
            [b'-', rest @ ..] => (-1, rest),
            [b'+', rest @ ..] => (1, rest),
            rest => (1, rest),
        };
        let mut number = Decimal::new(0, 0);
        let mut point = false;
        let mut any = false;
        for byte in digits {
            match byte {
                b'0'..=b'9' => {
                    let digit = i64::from(byte - b'0');
                    number.digits = number.digits.checked_mul(10)?.checked_add(digit)?;
                    number.exponent -= i32::from(point);
                    any = true;
                }
                b'.' if !point => point = true,
                _ => return None,
            }
        }
        number.digits *= sign;
        any.then_some(number)
    }

    /// Times 10^`by`.
    pub(crate) fn shifted(self, by: i32) -> Decimal {
        Decimal { exponent: self.exponent.saturating_add(by), ..self }
    }

    /// The nearest f64; beyond all of them it isn't finite.
    #[expect(clippy::cast_precision_loss, reason = "what isn't exact takes the long way")]
    pub(crate) fn to_f64(self) -> f64 {
        /// From here on not every whole number is an f64.
        const WHOLE_MAX: u64 = 1 << 53;
        let power = EXACT.get(self.exponent.unsigned_abs() as usize);
        match power {
            // Both are exact, so that the one operation rounds once.
            Some(power) if self.digits.unsigned_abs() <= WHOLE_MAX && self.exponent < 0 => {
                self.digits as f64 / power
            }
            Some(power) if self.digits.unsigned_abs() <= WHOLE_MAX => self.digits as f64 * power,
            _ => format!("{}e{}", self.digits, self.exponent).parse().unwrap_or(f64::NAN),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn number(text: &str) -> Option<f64> {
        Decimal::parse(text).map(Decimal::to_f64)
    }

    #[test]
    fn a_number_and_what_is_none() {
        assert_eq!(number("00052185.7825309"), Some(52_185.782_530_9));
        assert_eq!(number("-7625"), Some(-7625.0));
        assert_eq!(number("+.5"), Some(0.5));
        for text in ["", "-", ".", "1.2.3", "1e3", " 1", "0x20", "NaN", "99999999999999999999"] {
            assert_eq!(number(text), None, "{text}");
        }
    }

    #[test]
    fn a_change_of_unit_adds_no_digits() {
        let kilo = |text| Decimal::parse(text).map(|number| number.shifted(3).to_f64());
        assert_eq!(kilo("0.057"), Some(57.0));
        assert_eq!(kilo("1.005"), Some(1005.0));
        assert_eq!(Decimal::new(172_436_756, -4).to_f64(), 17_243.675_6);
        assert!(Decimal::new(1, 400).to_f64().is_infinite());
        assert_eq!(Decimal::new(i64::MIN, -400).to_f64(), 0.0);
    }

    proptest! {
        /// Both ways to an f64 give what the standard library gives.
        #[test]
        fn it_is_the_nearest_number(digits: i64, exponent in -60..60) {
            let long: f64 = format!("{digits}e{exponent}").parse().unwrap();
            prop_assert_eq!(Decimal::new(digits, exponent).to_f64(), long);
        }
    }
}
