//! The metrics of a step, and how they are averaged.

pub(crate) mod averages;
pub mod hashing;
pub mod memory;
mod quantity;
pub(crate) mod row;

use std::sync::Arc;
use std::time::Instant;

use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use burn::train::metric::state::{FormatOptions, NumericMetricState};
use burn::train::metric::{
    Adaptor, ItemLazy, Metric, MetricAttributes, MetricMetadata, MetricName, Numeric,
    NumericAttributes, NumericEntry, SerializedEntry,
};
use reformer_core::model::LossOutput;

use crate::metrics::hashing::Hashing;

pub use averages::Averages;
pub use quantity::Quantity;
pub use row::{Row, read_rows};

/// The output of a step: numbers that may not have been computed yet.
#[derive(Debug, Clone)]
pub struct StepOutput<B: Backend> {
    /// Loss and counts, on the device.
    pub loss: LossOutput<B>,
    /// Global norm of the gradients, before clipping; in training only.
    pub gradient_norm: Option<Tensor<B, 1>>,
    /// Statistics of hashing; in evaluations only.
    pub hashing: Option<Hashing>,
    /// When the step began.
    pub started: Instant,
}

impl<B: Backend> ItemLazy for StepOutput<B> {
    type ItemSync = StepStats;

    /// Waits for the step and reads its numbers, all at once.
    fn sync(self) -> StepStats {
        let LossOutput {
            loss,
            n_correct,
            n_targets,
            drift,
        } = self.loss;
        let has_norm = self.gradient_norm.is_some();
        let parts = [Some(loss), Some(n_correct), Some(n_targets)];
        let parts = parts.into_iter().chain([self.gradient_norm, drift]);
        let numbers = Tensor::cat(parts.flatten().collect(), 0).into_data();
        let mut numbers = numbers.iter::<f64>();
        let mut next = || numbers.next().unwrap_or(0.0);
        StepStats {
            loss: next(),
            n_correct: next() as usize,
            n_targets: next() as usize,
            gradient_norm: has_norm.then(&mut next),
            drift: next(),
            hashing: self.hashing,
            started: self.started,
            finished: Instant::now(),
        }
    }
}

/// The numbers of a step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepStats {
    /// Mean negative log-likelihood of the targets, in nats.
    pub loss: f64,
    /// Targets that got the largest logit.
    pub n_correct: usize,
    /// Targets.
    pub n_targets: usize,
    /// Global norm of the gradients, before clipping; in training only.
    pub gradient_norm: Option<f64>,
    /// Largest error of the reversible stack's reconstructed input; zero if the input was not
    /// reconstructed.
    pub drift: f64,
    /// Statistics of hashing; in evaluations only.
    pub hashing: Option<Hashing>,
    /// When the step began.
    pub started: Instant,
    /// When its numbers were available.
    pub finished: Instant,
}

impl Adaptor<StepStats> for StepStats {
    fn adapt(&self) -> StepStats {
        *self
    }
}

/// A [`Quantity`] as a Burn metric.
#[derive(Clone)]
pub struct StepMetric {
    quantity: Quantity,
    name: MetricName,
    state: NumericMetricState,
    last_finished: Option<Instant>,
}

impl StepMetric {
    /// Measures a quantity.
    pub fn new(quantity: Quantity) -> Self {
        Self::labelled(quantity, quantity.name().to_owned())
    }

    /// Measures a quantity under another name.
    pub(crate) fn labelled(quantity: Quantity, name: String) -> Self {
        Self {
            quantity,
            name: Arc::new(name),
            state: NumericMetricState::new(),
            last_finished: None,
        }
    }
}

impl Metric for StepMetric {
    type Input = StepStats;

    fn name(&self) -> MetricName {
        self.name.clone()
    }

    fn attributes(&self) -> MetricAttributes {
        let quantity = self.quantity;
        let higher_is_better = matches!(quantity, Quantity::Accuracy | Quantity::TokensPerSecond);
        NumericAttributes {
            unit: quantity.unit().map(str::to_owned),
            higher_is_better,
        }
        .into()
    }

    fn update(&mut self, stats: &StepStats, metadata: &MetricMetadata) -> SerializedEntry {
        // A device can work on a step while the host has begun the next one.
        let begin = match self.last_finished.replace(stats.finished) {
            Some(last) => last.max(stats.started),
            None => stats.started,
        };
        let time = stats.finished.saturating_duration_since(begin);
        let measured = self.quantity.of(stats, time, metadata.lr);
        let (value, weight) = measured.unwrap_or((0.0, 0));
        let format = FormatOptions::new(self.name()).precision(self.quantity.precision());
        let format = match self.quantity.unit() {
            Some(unit) => format.unit(unit),
            None => format,
        };
        self.state.update(value, weight, format)
    }

    fn clear(&mut self) {
        self.state.reset();
    }
}

impl Numeric for StepMetric {
    fn value(&self) -> NumericEntry {
        self.state.current_value()
    }

    fn running_value(&self) -> NumericEntry {
        self.state.running_value()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::data::dataloader::Progress;
    use burn_flex::Flex;
    use std::f64::consts::LN_2;
    use std::time::Duration;

    fn metadata() -> MetricMetadata {
        let progress = Progress::new(1, 1);
        MetricMetadata {
            progress: progress.clone(),
            global_progress: progress,
            iteration: None,
            lr: None,
        }
    }

    /// A step from `begin` to `end`, in milliseconds.
    fn stats(loss: f64, n_correct: usize, n_targets: usize, [begin, end]: [u64; 2]) -> StepStats {
        // One common origin, so that times can be compared.
        static ORIGIN: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
        let origin = *ORIGIN.get_or_init(Instant::now);
        StepStats {
            loss,
            n_correct,
            n_targets,
            gradient_norm: None,
            drift: 0.0,
            hashing: None,
            started: origin + Duration::from_millis(begin),
            finished: origin + Duration::from_millis(end),
        }
    }

    fn mean(quantity: Quantity, steps: &[StepStats]) -> f64 {
        let mut metric = StepMetric::new(quantity);
        for step in steps {
            metric.update(step, &metadata());
        }
        metric.running_value().current()
    }

    #[test]
    fn means_weigh_each_target_the_same() {
        let steps = [stats(1.0, 3, 30, [0, 1]), stats(4.0, 9, 10, [1, 2])];
        assert_eq!(mean(Quantity::Loss, &steps), 1.75);
        assert!((mean(Quantity::Bits, &steps) - 1.75 / LN_2).abs() < 1e-12);
        assert_eq!(mean(Quantity::Accuracy, &steps), 30.0);
    }

    #[test]
    fn rate_is_all_tokens_by_all_time() {
        let steps = [stats(0.0, 0, 600, [0, 200]), stats(0.0, 0, 600, [200, 600])];
        assert_eq!(mean(Quantity::TokensPerSecond, &steps), 2000.0);
    }

    #[test]
    fn rate_counts_no_time_twice_and_leaves_pauses_out() {
        // The second step was queued early, the third came after a pause.
        let steps = [
            stats(0.0, 0, 100, [0, 100]),
            stats(0.0, 0, 100, [10, 200]),
            stats(0.0, 0, 100, [900, 1000]),
        ];
        assert_eq!(mean(Quantity::TokensPerSecond, &steps), 1000.0);
    }

    #[test]
    fn output_is_read_with_and_without_what_can_be_missing() {
        let one = |value: f32| Tensor::<Flex, 1>::from_data([value], &Default::default());
        let output = StepOutput {
            loss: LossOutput {
                loss: one(2.5),
                n_correct: one(3.0),
                n_targets: one(7.0),
                drift: None,
            },
            gradient_norm: None,
            hashing: None,
            started: Instant::now(),
        };
        let mut with_drift = output.clone();
        with_drift.loss.drift = Some(one(0.5));
        let mut with_both = with_drift.clone();
        with_both.gradient_norm = Some(one(6.0));
        let read = output.sync();
        assert_eq!((read.loss, read.n_correct, read.n_targets), (2.5, 3, 7));
        assert_eq!(read.drift, 0.0);
        assert_eq!(read.gradient_norm, None);
        assert_eq!(with_drift.sync().drift, 0.5);
        let read = with_both.sync();
        assert_eq!((read.gradient_norm, read.drift), (Some(6.0), 0.5));
    }
}
