//! Measuring with a progress bar.

use std::ops::ControlFlow;

use reformer_core::kernels::ReformerBackend;
use reformer_train::inference::Scores;
use reformer_train::{Evaluation, Measured, TrainError};

use crate::cli::progress::Counter;

/// Measures a model on the data that it was opened with, with a progress bar. Returns its predictions with the scores.
/// `watch` may stop the measurement, as in [`Evaluation::measure`].
pub(crate) fn measure<B: ReformerBackend>(
    evaluation: &Evaluation<B>,
    device: &B::Device,
    mut watch: impl FnMut(usize, usize) -> ControlFlow<()>,
) -> Result<(Scores, Measured), TrainError> {
    let mut counter = Counter::new("evaluating", "sequences");
    let measured = evaluation.measure(device, |done, all| {
        counter.set(done, all);
        watch(done, all)
    })?;
    Ok((Scores::new(evaluation, &measured), measured))
}
