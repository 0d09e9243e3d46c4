//! Least squares.

/// The coefficients, lowest power first, of the polynomial that lies nearest to
/// the points; `None` when they don't define one.
///
/// The normal equations, solved by elimination with pivots. They are badly
/// conditioned for high degrees, so the measured values are first brought to
/// -1 … 1; the coefficients are of those: see [`Curve`].
pub(super) fn polynomial(degree: usize, points: &[[f64; 2]]) -> Option<Curve> {
    let size = degree + 1;
    let (mut low, mut high) = (f64::MAX, f64::MIN);
    for [x, _] in points {
        (low, high) = (low.min(*x), high.max(*x));
    }
    if points.len() < size || low >= high {
        return None;
    }
    let (middle, half) = (f64::midpoint(low, high), (high - low) / 2.0);
    let mut rows = vec![vec![0.0; size + 1]; size];
    for [x, y] in points {
        let x = (x - middle) / half;
        let powers: Vec<f64> = (0..2 * size).map(|n| x.powi(n as i32)).collect();
        for (i, row) in rows.iter_mut().enumerate() {
            for (j, cell) in row[..size].iter_mut().enumerate() {
                *cell += powers[i + j];
            }
            row[size] += powers[i] * y;
        }
    }
    for column in 0..size {
        let pivot = (column..size)
            .max_by(|a, b| rows[*a][column].abs().total_cmp(&rows[*b][column].abs()))?;
        rows.swap(column, pivot);
        let pivot = rows[column].clone();
        // Fewer different points than coefficients.
        if pivot[column].abs() < 1e-9 {
            return None;
        }
        for (place, row) in rows.iter_mut().enumerate().filter(|(place, _)| *place != column) {
            debug_assert_ne!(place, column);
            let factor = row[column] / pivot[column];
            for (cell, pivot) in row.iter_mut().zip(&pivot) {
                *cell -= factor * pivot;
            }
        }
    }
    let coefficients: Vec<f64> = (0..size).map(|n| rows[n][size] / rows[n][n]).collect();
    coefficients.iter().all(|c| c.is_finite()).then_some(Curve { middle, half, coefficients })
}

/// A polynomial of `(x - middle) / half`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Curve {
    middle: f64,
    half: f64,
    coefficients: Vec<f64>,
}

impl Curve {
    /// Its value, by Horner's rule.
    pub(super) fn at(&self, x: f64) -> f64 {
        let x = (x - self.middle) / self.half;
        self.coefficients.iter().rev().fold(0.0, |sum, coefficient| sum * x + coefficient)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_line_between_points_that_lie_on_none() {
        let line = polynomial(1, &[[0.0, 0.0], [1.0, 2.0], [2.0, 2.0]]).unwrap();
        // By hand: y = 1/3 + x.
        assert!(
            (line.at(0.0) - 1.0 / 3.0).abs() < 1e-12 && (line.at(3.0) - 10.0 / 3.0).abs() < 1e-12
        );
    }

    #[test]
    fn points_that_define_nothing() {
        assert_eq!(polynomial(1, &[[1.0, 1.0]]), None);
        assert_eq!(polynomial(1, &[[1.0, 1.0], [1.0, 2.0]]), None);
        assert_eq!(polynomial(2, &[[1.0, 1.0], [2.0, 2.0], [1.0, 1.0]]), None);
    }

    proptest! {
        /// As many points as coefficients: it goes through each.
        #[test]
        fn it_goes_through_its_points(
            ys in proptest::collection::vec(-1e3..1e3_f64, 2..6), start in -1e3..1e3_f64,
        ) {
            let points: Vec<[f64; 2]> =
                ys.iter().enumerate().map(|(n, y)| [start + 7.0 * n as f64, *y]).collect();
            let curve = polynomial(points.len() - 1, &points).unwrap();
            for [x, y] in points {
                prop_assert!((curve.at(x) - y).abs() < 1e-6, "{} is not {y}", curve.at(x));
            }
        }
    }
}
