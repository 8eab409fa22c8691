//! The factors of learning rates in the paper's code.

use std::f64::consts::PI;

use burn::config::Config;
use reformer_core::ConfigError;

/// A factor of a learning rate, as in `trax.supervised.lr_schedules.multifactor`. As in trax, steps
/// are counted from 1.
#[derive(Config, Debug, Copy, PartialEq)]
pub enum RateFactor {
    /// The same in every step.
    Constant(
        /// The factor.
        f64,
    ),
    /// `min(1, step / steps)`.
    LinearWarmup {
        /// Steps until 1 is reached.
        steps: usize,
    },
    /// `1 / sqrt(max(step, warmup_steps))`.
    RsqrtDecay {
        /// Steps before the decay begins.
        warmup_steps: usize,
    },
    /// `sqrt(warmup_steps / max(step, warmup_steps))`: falls from 1.
    RsqrtNormalizedDecay {
        /// Steps before the decay begins.
        warmup_steps: usize,
    },
    /// `share ^ floor(step / steps)`.
    DecayEvery {
        /// Steps between two reductions.
        steps: usize,
        /// Factor of each reduction.
        share: f64,
    },
    /// `(1 + cos(pi * progress)) / 2`, where the progress goes from 0 to 1 and begins again.
    CosineDecay {
        /// Steps before the first cycle.
        warmup_steps: usize,
        /// Steps of a cycle.
        steps_per_cycle: usize,
    },
}

impl RateFactor {
    /// The factor in a step, counted from 1.
    pub fn at(&self, step: usize) -> f64 {
        let t = step as f64;
        match *self {
            Self::Constant(factor) => factor,
            Self::LinearWarmup { steps } => (t / steps as f64).min(1.0),
            Self::RsqrtDecay { warmup_steps } => t.max(warmup_steps as f64).sqrt().recip(),
            Self::RsqrtNormalizedDecay { warmup_steps } => {
                let warmup = warmup_steps as f64;
                (warmup / t.max(warmup)).sqrt()
            }
            Self::DecayEvery { steps, share } => share.powf((step / steps) as f64),
            Self::CosineDecay {
                warmup_steps,
                steps_per_cycle,
            } => {
                let progress = step.saturating_sub(warmup_steps) % steps_per_cycle;
                0.5 * (1.0 + (PI * progress as f64 / steps_per_cycle as f64).cos())
            }
        }
    }

    /// Steps of the warm-up.
    pub(super) fn warmup_steps(&self) -> usize {
        match *self {
            Self::LinearWarmup { steps } => steps,
            _ => 0,
        }
    }

    pub(super) fn set_warmup_steps(&mut self, new: usize) {
        match self {
            Self::LinearWarmup {
                steps: warmup_steps,
            }
            | Self::RsqrtDecay { warmup_steps }
            | Self::RsqrtNormalizedDecay { warmup_steps }
            | Self::CosineDecay { warmup_steps, .. } => *warmup_steps = new,
            Self::Constant(_) | Self::DecayEvery { .. } => {}
        }
    }

    /// Checks every setting.
    ///
    /// # Errors
    /// The first setting that cannot work.
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        match *self {
            Self::Constant(factor) => ConfigError::positive("schedule.Constant", factor),
            Self::LinearWarmup { steps } => ConfigError::positive("schedule.steps", steps as f64),
            Self::RsqrtDecay { .. } => Ok(()),
            Self::RsqrtNormalizedDecay { warmup_steps } => {
                ConfigError::positive("schedule.warmup_steps", warmup_steps as f64)
            }
            Self::DecayEvery { steps, share } => {
                ConfigError::positive("schedule.steps", steps as f64)?;
                ConfigError::positive("schedule.share", share)
            }
            Self::CosineDecay {
                steps_per_cycle, ..
            } => ConfigError::positive("schedule.steps_per_cycle", steps_per_cycle as f64),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Computed by hand from the formulae of trax.
    #[test]
    fn factors_are_those_of_trax() {
        let cosine = RateFactor::CosineDecay {
            warmup_steps: 10,
            steps_per_cycle: 4,
        };
        let decay = RateFactor::DecayEvery {
            steps: 3,
            share: 0.5,
        };
        let cases = [
            (RateFactor::Constant(0.3), [0.3, 0.3, 0.3, 0.3]),
            (
                RateFactor::LinearWarmup { steps: 8 },
                [0.125, 0.5, 1.0, 1.0],
            ),
            (
                RateFactor::RsqrtDecay { warmup_steps: 4 },
                [0.5, 0.5, 0.25, 0.125],
            ),
            (
                RateFactor::RsqrtNormalizedDecay { warmup_steps: 4 },
                [1.0, 1.0, 0.5, 0.25],
            ),
            (decay, [1.0, 0.5, 0.5f64.powi(5), 0.5f64.powi(21)]),
            // 16 and 64 are 6 and 54 steps after the warm-up: both half-way through a cycle.
            (cosine, [1.0, 1.0, 0.5, 0.5]),
        ];
        for (factor, expected) in cases {
            for (step, expected) in [1, 4, 16, 64].into_iter().zip(expected) {
                let found = factor.at(step);
                assert!(
                    (found - expected).abs() < 1e-12,
                    "{factor:?} {step}: {found}"
                );
            }
        }
    }
}
