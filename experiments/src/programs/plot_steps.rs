//! Plots and tabulates results of `bench_step --json` by length.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::cli;
use crate::plot::figure::{Axis, Curve, Panel, write_svg};
use anyhow::{Context, Result, bail};
use clap::Parser;
use serde::Deserialize;

const EXAMPLES: &str = "\
Example:
  for kind in lsh local full; do for length in 1024 4096 16384; do
    bench_step --attention $kind --length $length --json >> steps.jsonl
  done; done
  plot_steps steps.jsonl --svg steps.svg";

/// Plot time and memory of training steps by length, and print them as a table.
#[derive(Debug, Parser)]
#[command(version, after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// Lines that `bench_step --json` printed
    measurements: PathBuf,
    /// Picture to write
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

/// The fields that are read of a line.
#[derive(Debug, Deserialize)]
struct Measurement {
    seconds: f64,
    tokens_per_second: f64,
    peak_mib: Option<f64>,
    /// Missing if it was measured with `--bare`.
    ratio_to_limit: Option<f64>,
    settings: Settings,
}

#[derive(Debug, Deserialize)]
struct Settings {
    length: usize,
    attention: String,
}

/// Runs the program.
pub fn main() -> ExitCode {
    let arguments: Arguments = cli::parse();
    cli::main(|| {
        let measurements = read(&arguments.measurements)?;
        if let Some(path) = &arguments.svg {
            draw(&measurements, path)?;
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
                format!("line {line} of `{}` is not a measurement", path.display())
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
        let ratio = row
            .ratio_to_limit
            .map_or("-".to_owned(), |ratio| format!("{ratio:.2}"));
        writeln!(
            table,
            "| {} | {} | {:.3} | {:.0} | {peak} | {ratio} |",
            row.settings.length, row.settings.attention, row.seconds, row.tokens_per_second
        )
        .expect("a string takes everything");
    }
    table
}

/// One curve for each kind of attention, by length.
fn panel(
    measurements: &[Measurement],
    label: &str,
    of: impl Fn(&Measurement) -> Option<f64>,
) -> Panel {
    let mut curves = BTreeMap::<_, Vec<_>>::new();
    for measurement in measurements {
        if let Some(value) = of(measurement) {
            let curve = curves.entry(&measurement.settings.attention).or_default();
            curve.push((measurement.settings.length as f64, value));
        }
    }
    for curve in curves.values_mut() {
        curve.sort_by(|a, b| a.0.total_cmp(&b.0));
    }
    let curves = curves.into_iter();
    Panel {
        title: label.to_owned(),
        x: Axis::log("length"),
        y: Axis::log(label),
        curves: curves
            .map(|(kind, curve)| Curve::new(kind, curve))
            .collect(),
    }
}

fn draw(measurements: &[Measurement], path: &Path) -> Result<()> {
    let panels = [
        panel(measurements, "seconds a step", |measured| {
            Some(measured.seconds)
        }),
        panel(measurements, "peak memory, MiB", |measured| {
            measured.peak_mib
        }),
    ];
    write_svg(&panels, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measurement(length: usize, attention: &str, seconds: f64) -> Measurement {
        Measurement {
            seconds,
            tokens_per_second: length as f64 / seconds,
            peak_mib: Some(100.0),
            ratio_to_limit: Some(1.5),
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
