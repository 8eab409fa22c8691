//! The metrics of a step, and how they are averaged.

pub(crate) mod averages;
pub mod hashing;
pub mod memory;
pub(crate) mod row;

use std::f64::consts::LN_2;
use std::sync::Arc;
use std::time::{Duration, Instant};

use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use burn::train::metric::state::{FormatOptions, NumericMetricState};
use burn::train::metric::{
    Adaptor, ItemLazy, Metric, MetricAttributes, MetricMetadata, MetricName, Numeric,
    NumericAttributes, NumericEntry, SerializedEntry,
};
use reformer_core::model::LmLoss;

use crate::data::DataConfig;
use crate::metrics::hashing::Hashing;

/// The output of a step: numbers that may not have been computed yet.
#[derive(Debug, Clone)]
pub struct LmOutput<B: Backend> {
    /// Loss and counts, on the device.
    pub loss: LmLoss<B>,
    /// Global norm of the gradients, before clipping; in training only.
    pub gradient_norm: Option<Tensor<B, 1>>,
    /// Statistics of hashing; in evaluations only.
    pub hashing: Option<Hashing>,
    /// When the step began.
    pub started: Instant,
}

impl<B: Backend> ItemLazy for LmOutput<B> {
    type ItemSync = LmStats;

    /// Waits for the step and reads its numbers, all at once.
    fn sync(self) -> LmStats {
        let LmLoss {
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
        LmStats {
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
pub struct LmStats {
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

impl Adaptor<LmStats> for LmStats {
    fn adapt(&self) -> LmStats {
        *self
    }
}

/// A quantity to measure, and a column of `metrics.csv`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Quantity {
    /// Mean negative log-likelihood, in nats.
    Loss,
    /// The same in bits: bits per byte of a text, bits per dimension of an image.
    Bits,
    /// Its exponential: the number of equally likely tokens with the same loss.
    Perplexity,
    /// Share of targets that got the largest logit, in percent.
    Accuracy,
    /// Tokens per second.
    TokensPerSecond,
    /// Largest error of the reversible stack's reconstructed input.
    Drift,
    /// Learning rate of the optimizer's step.
    LearningRate,
    /// Global norm of the gradients, before clipping.
    GradientNorm,
    /// Share of the softmax mass of full attention that LSH attention sees, in percent.
    Coverage,
    /// How evenly hashing fills its buckets, in percent; see
    /// [`BucketBalance`](crate::metrics::hashing::BucketBalance).
    BucketEntropy,
    /// Share of queries in the fullest bucket, in percent.
    LargestBucket,
    /// Resident memory of the process, in MiB.
    Memory,
    /// Peak resident memory of the process, in MiB.
    PeakMemory,
    /// Training time of the run, without pauses between its processes.
    Seconds,
}

impl Quantity {
    /// All of them, in the order of the columns.
    pub const ALL: [Self; 14] = [
        Self::Loss,
        Self::Bits,
        Self::Perplexity,
        Self::Accuracy,
        Self::TokensPerSecond,
        Self::Drift,
        Self::LearningRate,
        Self::GradientNorm,
        Self::Coverage,
        Self::BucketEntropy,
        Self::LargestBucket,
        Self::Memory,
        Self::PeakMemory,
        Self::Seconds,
    ];

    /// Whether it is measured in each step. The others are derived from those, or belong to the process.
    pub(crate) fn is_measured(self) -> bool {
        use Quantity::{Bits, Memory, PeakMemory, Perplexity, Seconds};
        !matches!(self, Bits | Perplexity | Memory | PeakMemory | Seconds)
    }

    /// Its name as a Burn metric.
    pub fn name(self) -> &'static str {
        match self {
            Self::Loss => "Loss",
            Self::Bits => "Bits per token",
            Self::Perplexity => "Perplexity",
            Self::Accuracy => "Accuracy",
            Self::TokensPerSecond => "Tokens per second",
            Self::Drift => "Drift",
            Self::LearningRate => "Learning rate",
            Self::GradientNorm => "Gradient norm",
            Self::Coverage => "Coverage",
            Self::BucketEntropy => "Bucket entropy",
            Self::LargestBucket => "Largest bucket",
            Self::Memory => "Memory",
            Self::PeakMemory => "Peak memory",
            Self::Seconds => "Seconds",
        }
    }

    /// The name for display, which depends on the prediction targets of the data, such as bytes.
    pub fn label(self, data: &DataConfig) -> String {
        match self {
            Self::Bits => format!("Bits per {}", data.token_name()),
            Self::TokensPerSecond => {
                let mut unit = data.unit();
                unit[..1].make_ascii_uppercase();
                format!("{unit} per second")
            }
            other => other.name().to_owned(),
        }
    }

    /// The unit, where it has one.
    pub fn unit(self) -> Option<&'static str> {
        match self {
            Self::Loss => Some("nats"),
            Self::Accuracy | Self::Coverage | Self::BucketEntropy | Self::LargestBucket => {
                Some("%")
            }
            Self::Memory | Self::PeakMemory => Some("MiB"),
            Self::Seconds => Some("s"),
            _ => None,
        }
    }

    fn precision(self) -> usize {
        match self {
            Self::Loss | Self::Bits => 4,
            Self::LearningRate => 6,
            Self::TokensPerSecond => 0,
            _ => 2,
        }
    }

    /// The value in a step and its weight in a mean over steps; `None` where it is not measured.
    ///
    /// Means over targets are weighted by the step's targets, rates by its time (in microseconds).
    fn of(
        self,
        stats: &LmStats,
        time: Duration,
        learning_rate: Option<f64>,
    ) -> Option<(f64, usize)> {
        let micros = time.as_micros().max(1) as usize;
        let percent = |share: f64| (100.0 * share, 1);
        match self {
            Self::Loss => Some((stats.loss, stats.n_targets)),
            Self::Bits => Some((stats.loss / LN_2, stats.n_targets)),
            Self::Accuracy => {
                let share = stats.n_correct as f64 / stats.n_targets.max(1) as f64;
                Some((100.0 * share, stats.n_targets))
            }
            Self::TokensPerSecond => Some((stats.n_targets as f64 * 1e6 / micros as f64, micros)),
            Self::Drift => Some((stats.drift, 1)),
            Self::LearningRate => Some((learning_rate?, 1)),
            // The norm of a skipped step is not finite and is not part of the mean.
            Self::GradientNorm => Some((stats.gradient_norm.filter(|norm| norm.is_finite())?, 1)),
            Self::Coverage => Some(percent(stats.hashing?.coverage)),
            Self::BucketEntropy => Some(percent(stats.hashing?.balance?.entropy)),
            Self::LargestBucket => Some(percent(stats.hashing?.balance?.largest_share)),
            Self::Perplexity | Self::Memory | Self::PeakMemory | Self::Seconds => None,
        }
    }
}

/// A [`Quantity`] as a Burn metric.
#[derive(Clone)]
pub struct LmMetric {
    quantity: Quantity,
    name: MetricName,
    state: NumericMetricState,
    last_finished: Option<Instant>,
}

impl LmMetric {
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

impl Metric for LmMetric {
    type Input = LmStats;

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

    fn update(&mut self, stats: &LmStats, metadata: &MetricMetadata) -> SerializedEntry {
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

impl Numeric for LmMetric {
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
    fn stats(loss: f64, n_correct: usize, n_targets: usize, [begin, end]: [u64; 2]) -> LmStats {
        // One common origin, so that times can be compared.
        static ORIGIN: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
        let origin = *ORIGIN.get_or_init(Instant::now);
        LmStats {
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

    fn mean(quantity: Quantity, steps: &[LmStats]) -> f64 {
        let mut metric = LmMetric::new(quantity);
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
        let output = LmOutput {
            loss: LmLoss {
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
