//! Means over seeds, and their confidence intervals.

use statrs::distribution::{ContinuousCDF, StudentsT};

/// The mean of some numbers: not a number if there are none.
pub(crate) fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// The smallest and the largest of some numbers.
fn range(values: &[f64]) -> [f64; 2] {
    values.iter().fold(
        [f64::INFINITY, f64::NEG_INFINITY],
        |[least, most], &value| [least.min(value), most.max(value)],
    )
}

/// The smallest and the largest of some numbers as a cell of a table, with this many decimals.
pub(crate) fn between(values: &[f64], decimals: usize) -> String {
    let [least, most] = range(values);
    format!("{least:.decimals$}..{most:.decimals$}")
}

/// The 95 % confidence interval of a mean as a cell of a table: a dash for fewer than two numbers.
pub(crate) fn margin(values: &[f64]) -> String {
    interval(values).map_or_else(|| "-".to_owned(), |half| format!("±{half:.3}"))
}

/// Half the width of the 95 % confidence interval of a mean (Student's t). None for fewer than two numbers.
pub(crate) fn interval(values: &[f64]) -> Option<f64> {
    let n = values.len() as f64;
    if values.len() < 2 {
        return None;
    }
    let mean = mean(values);
    let variance = values
        .iter()
        .map(|value| (value - mean).powi(2))
        .sum::<f64>()
        / (n - 1.0);
    let quantile = StudentsT::new(0.0, 1.0, n - 1.0).ok()?.inverse_cdf(0.975);
    Some(quantile * (variance / n).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interval_is_students() {
        // Quantiles of t with 2 and 4 degrees of freedom: 4.302653, 2.776445.
        let three = interval(&[1.0, 2.0, 3.0]).unwrap();
        assert!((three - 4.302_653 / 3f64.sqrt()).abs() < 1e-5, "{three}");
        let five = interval(&[0.0, 0.0, 1.0, 2.0, 2.0]).unwrap();
        assert!(
            (five - 2.776_445 * (1.0f64 / 5.0).sqrt()).abs() < 1e-5,
            "{five}"
        );
        assert_eq!(interval(&[1.0]), None);
    }

    #[test]
    fn means_and_ranges() {
        assert_eq!(mean(&[1.0, 2.0, 6.0]), 3.0);
        assert_eq!(range(&[2.0, -1.0, 6.0]), [-1.0, 6.0]);
        assert_eq!(between(&[2.0, -1.0, 6.0], 1), "-1.0..6.0");
        assert_eq!([margin(&[1.0, 2.0, 3.0]), margin(&[1.0])], ["±2.484", "-"]);
    }
}
