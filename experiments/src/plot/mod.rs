//! Plots the curves of a run.

pub(crate) mod figure;

use std::path::Path;

use anyhow::Result;
use reformer_train::metrics::{Quantity, Row};

use crate::plot::figure::{Axis, Curve, Panel, write_svg};

/// Bits per token over `x`, of the rows of one split (`train` or `valid`) that have both.
pub(crate) fn bits(rows: &[Row], split: &str, x: impl Fn(&Row) -> Option<f64>) -> Vec<(f64, f64)> {
    let of_split = rows.iter().filter(|row| row.split == split);
    let point = |row: &Row| Some((x(row)?, row.get(Quantity::Bits)?));
    of_split.filter_map(point).collect()
}

/// Steps of training, for [`bits`].
pub(crate) fn step(row: &Row) -> Option<f64> {
    Some(row.step as f64)
}

/// Seconds of training, for [`bits`].
pub(crate) fn seconds(row: &Row) -> Option<f64> {
    row.get(Quantity::Seconds)
}

/// Plots bits per token over steps, in training and validation, as SVG. `token_name` is the name of a token.
pub(crate) fn plot_loss(rows: &[Row], token_name: &str, path: &Path) -> Result<()> {
    let panel = Panel {
        title: String::new(),
        x: Axis::linear("step"),
        y: Axis::linear(format!("bits per {token_name}")),
        curves: vec![
            Curve::new("training", bits(rows, "train", step)),
            Curve::new("validation", bits(rows, "valid", step)),
        ],
    };
    write_svg(&[panel], path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use reformer_train::metrics::read_rows;

    /// The columns after `bits`.
    const EMPTY: &str = ",,,,,,,,,,,,";

    /// Rows of a metrics file like those of a run.
    fn rows(lines: &str) -> Vec<Row> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.csv");
        let header = "step,epoch,split,loss,bits_per_token,perplexity,accuracy,tokens_per_second,\
                      drift,learning_rate,gradient_norm,coverage,bucket_entropy,largest_bucket,\
                      memory,peak_memory,seconds";
        std::fs::write(&path, format!("{header}\n{lines}")).unwrap();
        read_rows(&path).unwrap()
    }

    #[test]
    fn both_curves_are_in_the_picture() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("loss.svg");
        let rows = rows(&format!(
            "1,1,train,3.8,5.5{EMPTY}\n2,1,train,1.4,2.1{EMPTY}\n2,1,valid,1.6,2.4{EMPTY}\n"
        ));
        assert_eq!(bits(&rows, "valid", step), [(2.0, 2.4)]);
        assert_eq!(bits(&rows, "valid", seconds), []);
        plot_loss(&rows, "byte", &path).unwrap();
        let svg = std::fs::read_to_string(&path).unwrap();
        for text in ["training", "validation", "bits per byte"] {
            assert!(svg.contains(text), "{text}");
        }
    }

    #[test]
    fn nothing_to_plot_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("loss.svg");
        assert!(plot_loss(&[], "byte", &path).is_err());
        assert!(plot_loss(&rows(&format!("1,1,train,,{EMPTY}\n")), "byte", &path).is_err());
    }
}
