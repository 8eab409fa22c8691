//! Plots and tabulates results of `bench_step --json` by length.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Parser;

use crate::cli;
use crate::cli::input::without_mark;
use crate::cli::named::names_of;
use crate::measure::step::Measurement;
use crate::out;
use crate::plot::figure::{Axis, Curve, Panel, write_svg};
use crate::study::{Table, cell};

const EXAMPLES: &str = "\
Examples:
  bench_step --attention lsh --length 1024 --json >> steps.jsonl
  bench_step --attention lsh --length 4096 --json >> steps.jsonl
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

pub fn main() -> ExitCode {
    cli::program(|arguments: Arguments| {
        let path = &arguments.measurements;
        out::check_output("--svg", arguments.svg.as_deref(), [path])?;
        let measurements = read(path)?;
        if let Some(path) = &arguments.svg {
            draw(&measurements, path)?;
        }
        print!("{}", table(&measurements).markdown());
        Ok(())
    })
}

fn read(path: &Path) -> Result<Vec<Measurement>> {
    let text =
        fs::read_to_string(path).with_context(|| format!("`{}` cannot be read", path.display()))?;
    let lines = without_mark(&text)
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

/// One row for each length and kind of attention.
fn table(measurements: &[Measurement]) -> Table {
    let mut rows: Vec<_> = measurements.iter().collect();
    rows.sort_by_key(|row| (row.settings.length, attention(row)));
    let mut table = Table::new([
        "length",
        "attention",
        "seconds a step",
        "tokens/s",
        "peak MiB",
        "ratio to limit",
    ]);
    for row in rows {
        table.row([
            row.settings.length.to_string(),
            attention(row),
            format!("{:.3}", row.seconds),
            format!("{:.0}", row.tokens_per_second),
            cell(row.peak_mib, 0),
            cell(row.ratio_to_limit, 2),
        ]);
    }
    table
}

fn attention(measurement: &Measurement) -> String {
    names_of(&measurement.settings.attention).unwrap_or("-".to_owned())
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
            let curve = curves.entry(attention(measurement)).or_default();
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
