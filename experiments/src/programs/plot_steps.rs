//! Draws and tabulates what `bench_step --json` measured over lengths.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::cli;
use anyhow::{Context, Result, anyhow, bail};
use clap::Parser;
use plotters::coord::combinators::IntoLogRange;
use plotters::prelude::*;
use serde::Deserialize;

const EXAMPLES: &str = "\
Example:
  for kind in lsh local full; do for length in 1024 4096 16384; do
    bench_step --attention $kind --length $length --json >> steps.jsonl
  done; done
  plot_steps steps.jsonl --svg steps.svg";

const SIZE: (u32, u32) = (1000, 460);
const COLORS: [RGBColor; 4] = [BLUE, RED, GREEN, MAGENTA];

/// Draw time and memory of training steps over length, and print them as a table.
#[derive(Debug, Parser)]
#[command(version, after_help = EXAMPLES)]
struct Arguments {
    /// Lines that `bench_step --json` printed
    measurements: PathBuf,
    /// Picture to write
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

/// What is read of a line.
#[derive(Debug, Deserialize)]
struct Measurement {
    seconds: f64,
    tokens_per_second: f64,
    peak_mib: Option<f64>,
    ratio_to_limit: f64,
    settings: Settings,
}

#[derive(Debug, Deserialize)]
struct Settings {
    length: usize,
    attention: String,
}

/// Runs the program.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    cli::main(|| {
        let measurements = read(&arguments.measurements)?;
        if let Some(path) = &arguments.svg {
            draw(&measurements, path)
                .map_err(|error| anyhow!(error.to_string()))
                .with_context(|| format!("`{}` cannot be written", path.display()))?;
        }
        print!("{}", table(&measurements));
        Ok(())
    })
}

fn read(path: &Path) -> Result<Vec<Measurement>> {
    let text =
        fs::read_to_string(path).with_context(|| format!("`{}` cannot be read", path.display()))?;
    let lines = text
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.is_empty());
    let measurements = lines
        .map(|(number, line)| {
            serde_json::from_str(line).with_context(|| {
                let line = number + 1;
                format!("line {line} of `{}` is no measurement", path.display())
            })
        })
        .collect::<Result<Vec<_>>>()?;
    if measurements.is_empty() {
        bail!("`{}` has no measurements", path.display());
    }
    Ok(measurements)
}

/// One row for each length and kind of attention, in Markdown.
fn table(measurements: &[Measurement]) -> String {
    let mut rows: Vec<_> = measurements.iter().collect();
    rows.sort_by_key(|row| (row.settings.length, &row.settings.attention));
    let mut table =
        "| length | attention | seconds a step | tokens/s | peak MiB | ratio to limit |\n\
                     |---:|---|---:|---:|---:|---:|\n"
            .to_owned();
    for row in rows {
        let peak = row
            .peak_mib
            .map_or("-".to_owned(), |peak| format!("{peak:.0}"));
        writeln!(
            table,
            "| {} | {} | {:.3} | {:.0} | {peak} | {:.2} |",
            row.settings.length,
            row.settings.attention,
            row.seconds,
            row.tokens_per_second,
            row.ratio_to_limit
        )
        .expect("a string takes everything");
    }
    table
}

/// Points of each kind of attention by length.
fn curves(
    measurements: &[Measurement],
    of: impl Fn(&Measurement) -> Option<f64>,
) -> BTreeMap<&str, Vec<(f64, f64)>> {
    let mut curves = BTreeMap::<_, Vec<_>>::new();
    for measurement in measurements {
        if let Some(value) = of(measurement) {
            let curve = curves
                .entry(measurement.settings.attention.as_str())
                .or_default();
            curve.push((measurement.settings.length as f64, value));
        }
    }
    for curve in curves.values_mut() {
        curve.sort_by(|a, b| a.0.total_cmp(&b.0));
    }
    curves
}

fn draw(measurements: &[Measurement], path: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let area = SVGBackend::new(path, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let (left, right) = area.split_horizontally(SIZE.0 / 2);
    let seconds = curves(measurements, |measurement| Some(measurement.seconds));
    draw_curves(&left, "seconds a step", &seconds)?;
    let memory = curves(measurements, |measurement| measurement.peak_mib);
    draw_curves(&right, "peak memory, MiB", &memory)?;
    area.present()?;
    Ok(())
}

fn draw_curves(
    area: &DrawingArea<SVGBackend, plotters::coord::Shift>,
    name: &str,
    curves: &BTreeMap<&str, Vec<(f64, f64)>>,
) -> Result<(), Box<dyn std::error::Error>> {
    let points = || curves.values().flatten();
    if points().next().is_none() {
        return Ok(());
    }
    let range = |of: fn(&(f64, f64)) -> f64| {
        let lowest = points().map(of).fold(f64::INFINITY, f64::min);
        let highest = points().map(of).fold(0.0, f64::max);
        (0.8 * lowest..1.25 * highest).log_scale()
    };
    let mut chart = ChartBuilder::on(area)
        .margin(15)
        .caption(name, ("sans-serif", 16))
        .x_label_area_size(40)
        .y_label_area_size(60)
        .build_cartesian_2d(range(|point| point.0), range(|point| point.1))?;
    chart
        .configure_mesh()
        .x_desc("length")
        .x_label_formatter(&|length| format!("{length:.0}"))
        .light_line_style(TRANSPARENT)
        .draw()?;
    for ((kind, points), color) in curves.iter().zip(COLORS) {
        chart
            .draw_series(LineSeries::new(
                points.iter().copied(),
                color.stroke_width(2),
            ))?
            .label(*kind)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], color.stroke_width(2)));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE)
        .border_style(BLACK)
        .draw()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measurement(length: usize, attention: &str, seconds: f64) -> Measurement {
        Measurement {
            seconds,
            tokens_per_second: length as f64 / seconds,
            peak_mib: Some(100.0),
            ratio_to_limit: 1.5,
            settings: Settings {
                length,
                attention: attention.to_owned(),
            },
        }
    }

    #[test]
    fn rows_are_in_order_of_length() {
        let table = table(&[
            measurement(2048, "lsh", 0.5),
            measurement(1024, "full", 0.25),
        ]);
        let rows: Vec<_> = table.lines().skip(2).collect();
        assert_eq!(rows[0], "| 1024 | full | 0.250 | 4096 | 100 | 1.50 |");
        assert_eq!(rows[1], "| 2048 | lsh | 0.500 | 4096 | 100 | 1.50 |");
    }

    #[test]
    fn picture_has_every_kind() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("steps.svg");
        let all = [
            measurement(1024, "lsh", 0.25),
            measurement(2048, "lsh", 0.5),
            measurement(1024, "full", 0.3),
        ];
        draw(&all, &path).unwrap();
        let picture = fs::read_to_string(path).unwrap();
        assert!(picture.contains("lsh") && picture.contains("full"));
    }
}
