//! Curves of a run as a picture.

use std::path::Path;

use anyhow::{Context, Result, anyhow};
use plotters::prelude::*;
use reformer_train::Row;

const SIZE: (u32, u32) = (900, 500);
/// Room around the curves, as a share of their range.
const MARGIN: f64 = 0.05;

/// Draws bits per token over steps, in training and validation, as SVG. `token_name` is what tokens
/// are called.
///
/// # Errors
/// No rows to draw, or a file that cannot be written.
pub fn plot_loss(rows: &[Row], token_name: &str, path: &Path) -> Result<()> {
    let curve = |split: &str| -> Vec<(f64, f64)> {
        let of_split = rows.iter().filter(|row| row.split == split);
        of_split
            .map(|row| (row.step as f64, row.loss() / std::f64::consts::LN_2))
            .filter(|(_, bits)| bits.is_finite())
            .collect()
    };
    let (train, valid) = (curve("train"), curve("valid"));
    let points = || train.iter().chain(&valid);
    let last_step = points().map(|point| point.0).fold(f64::NAN, f64::max);
    let lowest = points().map(|point| point.1).fold(f64::NAN, f64::min);
    let highest = points().map(|point| point.1).fold(f64::NAN, f64::max);
    if last_step.is_nan() {
        return Err(anyhow!("there are no measurements to plot"));
    }
    let room = MARGIN * (highest - lowest).max(MARGIN);
    draw(
        &train,
        &valid,
        last_step,
        [lowest - room, highest + room],
        &format!("bits per {token_name}"),
        path,
    )
    .map_err(|error| anyhow!(error.to_string()))
    .with_context(|| format!("`{}` cannot be written", path.display()))
}

fn draw(
    train: &[(f64, f64)],
    valid: &[(f64, f64)],
    last_step: f64,
    [bottom, top]: [f64; 2],
    label: &str,
    path: &Path,
) -> Result<(), Box<dyn std::error::Error>> {
    let area = SVGBackend::new(path, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .margin(15)
        .x_label_area_size(40)
        .y_label_area_size(55)
        .build_cartesian_2d(0.0..last_step, bottom..top)?;
    chart
        .configure_mesh()
        .x_desc("step")
        .y_desc(label)
        .x_label_formatter(&|step| format!("{step:.0}"))
        .light_line_style(TRANSPARENT)
        .draw()?;
    for (name, points, color) in [("training", train, BLUE), ("validation", valid, RED)] {
        chart
            .draw_series(LineSeries::new(
                points.iter().copied(),
                color.stroke_width(2),
            ))?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], color.stroke_width(2)));
    }
    chart
        .configure_series_labels()
        .background_style(WHITE)
        .border_style(BLACK)
        .draw()?;
    area.present()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use reformer_train::read_rows;

    /// The columns after the loss.
    const EMPTY: &str = ",,,,,,,,,,,,,";

    /// Rows of a file like those that a run writes.
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
            "1,1,train,5.5{EMPTY}\n2,1,train,2.1{EMPTY}\n2,1,valid,2.4{EMPTY}\n"
        ));
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
        assert!(plot_loss(&rows(&format!("1,1,train,{EMPTY}\n")), "byte", &path).is_err());
    }
}
