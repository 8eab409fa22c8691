//! Measures training steps, each in a subprocess.

use anyhow::Result;
use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};

use super::Study;
use crate::measure::step::{Measurement, StepArguments};
use crate::measure::subprocess::measure_in_subprocess;

/// Parses arguments of `bench_step`.
///
/// # Panics
/// If they are invalid.
pub(crate) fn step(words: &str) -> StepArguments {
    StepArguments::parse_from(std::iter::once("bench_step").chain(words.split_whitespace()))
}

/// Measures the missing steps, with one progress bar.
///
/// # Errors
/// A step that cannot be measured; earlier results are kept.
pub(crate) fn measure_steps(
    study: &Study,
    steps: &[(String, StepArguments)],
) -> Result<Vec<Measurement>> {
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {elapsed} {msg}");
    let bar =
        ProgressBar::new(steps.len() as u64).with_style(style.expect("the template is a constant"));
    let mut measurements = Vec::with_capacity(steps.len());
    for (key, step) in steps {
        bar.set_message(key.clone());
        let mut step = step.clone();
        step.device = study.device();
        let measurement: Measurement = study.remember(key, || measure_in_subprocess(&step))?;
        let peak = measurement.peak_mib.unwrap_or(f64::NAN);
        let line = format!("{key}: {:.3} s, {peak:.0} MiB", measurement.seconds);
        match bar.is_hidden() {
            true => println!("{line}"),
            false => bar.println(line),
        }
        bar.inc(1);
        measurements.push(measurement);
    }
    bar.finish_and_clear();
    Ok(measurements)
}
