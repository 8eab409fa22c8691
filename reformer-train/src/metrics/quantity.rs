//! What is measured, and how it is called.

use std::f64::consts::LN_2;
use std::time::Duration;

use crate::data::DataConfig;
use crate::metrics::StepStats;

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

    /// Digits after the point, for display.
    pub(super) fn precision(self) -> usize {
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
    pub(super) fn of(
        self,
        stats: &StepStats,
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
