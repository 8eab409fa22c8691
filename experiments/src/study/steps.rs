//! Measures training steps, each in a subprocess.

use anyhow::Result;
use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Deserialize;
use serde_json::Value;

use super::{Study, StudyArguments};
use crate::measure::step::{Measurement, StepArguments};
use crate::measure::subprocess::measure_in_subprocess;

/// Parses arguments of `bench_step`.
///
/// # Panics
/// If they are invalid.
pub(crate) fn step(words: &str) -> StepArguments {
    StepArguments::parse_from(std::iter::once("bench_step").chain(words.split_whitespace()))
}

/// Opens a study whose settings are those of its steps, and measures the missing ones.
///
/// # Errors
/// Those of [`Study::open`], or a step that cannot be measured; earlier results are kept.
pub(crate) fn open_and_measure(
    name: &'static str,
    arguments: &StudyArguments,
    steps: &[(String, StepArguments)],
) -> Result<(Study, Vec<Measurement>)> {
    let study = Study::open_with(name, arguments, &steps, renewed)?;
    let measured = measure_steps(&study, steps)?;
    Ok((study, measured))
}

/// The settings of steps with the names of this version.
fn renewed(earlier: Value) -> Value {
    let steps = Vec::<(String, StepArguments)>::deserialize(&earlier);
    let steps = steps.and_then(serde_json::to_value);
    steps.unwrap_or(earlier)
}

/// Measures the missing steps, with one progress bar.
fn measure_steps(study: &Study, steps: &[(String, StepArguments)]) -> Result<Vec<Measurement>> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn settings_of_earlier_versions_are_those_of_today() {
        let own = [(
            "a".to_owned(),
            step("--layers 2 --batch-size 3 --length 64"),
        )];
        let own = serde_json::to_value(own).unwrap();
        let mut earlier = own.clone();
        let settings = earlier[0][1].as_object_mut().unwrap();
        for (now, then) in [
            ("batch_size", "batch"),
            ("layers", "depth"),
            ("chunk_length", "chunk"),
            ("window_kind", "window"),
            ("ff_chunk_length", "ff_chunk"),
        ] {
            let value = settings.remove(now).unwrap();
            settings.insert(then.to_owned(), value);
        }
        // Which there was no other value of.
        settings.remove("local_round").unwrap();
        assert_eq!(renewed(earlier), own);
        assert_eq!(renewed(own.clone()), own);
        assert_eq!(renewed(json!([1])), json!([1]));
    }
}
