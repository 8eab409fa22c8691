//! The cost of a study, printed before it starts.

use super::trainings::Training;
use crate::measure::flops;

/// Operations a second of the products of a training: 40 % of what an H100 does densely in half precision (989
/// TFLOP/s). An assumption, since no study has been run on one.
const RATE: f64 = 0.4 * 989e12;

/// Operations and hours of trainings, as text.
pub(super) fn plan(trainings: &[Training]) -> String {
    let operations: f64 = trainings.iter().map(operations).sum();
    let steps: usize = trainings.iter().map(|training| training.config.steps).sum();
    format!(
        "{} trainings, {steps} steps, {operations:.1e} floating-point operations of their products: {} at 40 % of an \
         H100's half-precision rate",
        trainings.len(),
        duration(operations / RATE)
    )
}

fn operations(training: &Training) -> f64 {
    training.config.steps as f64 * flops::step_of(&training.config)
}

fn duration(seconds: f64) -> String {
    match seconds / 3600.0 {
        hours if hours < 0.1 => "minutes".to_owned(),
        hours if hours < 48.0 => format!("{hours:.1} hours"),
        hours => format!("{:.1} days", hours / 24.0),
    }
}
