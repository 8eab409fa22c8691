//! The learning rate of each step.

mod factor;

pub use factor::RateFactor;

use std::f64::consts::PI;

use burn::config::Config;
use burn::lr_scheduler::LrScheduler;
use burn::optim::LearningRate;
use burn::tensor::backend::Backend;
use reformer_core::ConfigError;

/// The schedule of the learning rate. All but the last begin with a linear warm-up to their `rate`.
///
/// ```
/// use reformer_train::ScheduleConfig;
///
/// let schedule = ScheduleConfig::Cosine { rate: 1.0, warmup_steps: 2, final_share: 0.0 };
/// let rates: Vec<f64> = (0..6).map(|step| schedule.rate(step, 6)).collect();
/// assert_eq!(rates[..3], [0.5, 1.0, 1.0]);
/// assert!((rates[4] - 0.5).abs() < 1e-9); // half-way down
/// ```
#[derive(Config, Debug, PartialEq)]
pub enum ScheduleConfig {
    /// Constant after the warm-up.
    Constant {
        /// The rate.
        rate: f64,
        /// Steps until it is reached.
        warmup_steps: usize,
    },
    /// Linear decay.
    Linear {
        /// The highest rate.
        rate: f64,
        /// Steps until it is reached.
        warmup_steps: usize,
        /// Rate at the end of the run, as a share of the highest.
        final_share: f64,
    },
    /// Cosine decay.
    Cosine {
        /// The highest rate.
        rate: f64,
        /// Steps until it is reached.
        warmup_steps: usize,
        /// Rate at the end of the run, as a share of the highest.
        final_share: f64,
    },
    /// A product of factors, as the paper's code describes its rates.
    Multifactor {
        /// The factors, in any order.
        factors: Vec<RateFactor>,
    },
}

impl ScheduleConfig {
    /// The learning rate of a step, counted from 0, in a run of `steps` steps. The final share would be
    /// reached at the step after the last.
    pub fn rate(&self, step: usize, steps: usize) -> LearningRate {
        let (rate, warmup_steps, shape): (_, _, fn(f64) -> f64) = match self {
            Self::Constant { rate, warmup_steps } => (*rate, *warmup_steps, |_| 1.0),
            Self::Linear {
                rate, warmup_steps, ..
            } => (*rate, *warmup_steps, |gone| 1.0 - gone),
            Self::Cosine {
                rate, warmup_steps, ..
            } => (*rate, *warmup_steps, |gone| 0.5 * (1.0 + (PI * gone).cos())),
            Self::Multifactor { factors } => {
                return factors.iter().map(|factor| factor.at(step + 1)).product();
            }
        };
        if step < warmup_steps {
            return rate * (step + 1) as f64 / warmup_steps as f64;
        }
        let falling = steps.saturating_sub(warmup_steps).max(1);
        let gone = ((step - warmup_steps) as f64 / falling as f64).min(1.0);
        let floor = rate * self.final_share();
        floor + (rate - floor) * shape(gone)
    }

    fn final_share(&self) -> f64 {
        match self {
            Self::Linear { final_share, .. } | Self::Cosine { final_share, .. } => *final_share,
            Self::Constant { .. } | Self::Multifactor { .. } => 0.0,
        }
    }

    /// Steps of the warm-up.
    pub fn warmup_steps(&self) -> usize {
        match self {
            Self::Constant { warmup_steps, .. }
            | Self::Linear { warmup_steps, .. }
            | Self::Cosine { warmup_steps, .. } => *warmup_steps,
            Self::Multifactor { factors } => {
                let warmups = factors.iter().map(RateFactor::warmup_steps);
                warmups.max().unwrap_or(0)
            }
        }
    }

    /// Replaces the highest rate; of a product, the constant factor.
    pub fn set_rate(&mut self, new: LearningRate) {
        match self {
            Self::Constant { rate, .. } | Self::Linear { rate, .. } | Self::Cosine { rate, .. } => {
                *rate = new;
            }
            Self::Multifactor { factors } => {
                factors.retain(|factor| !matches!(factor, RateFactor::Constant(_)));
                factors.insert(0, RateFactor::Constant(new));
            }
        }
    }

    /// Replaces the number of warm-up steps; of a product, in all factors that have one.
    pub fn set_warmup_steps(&mut self, new: usize) {
        match self {
            Self::Constant { warmup_steps, .. }
            | Self::Linear { warmup_steps, .. }
            | Self::Cosine { warmup_steps, .. } => *warmup_steps = new,
            Self::Multifactor { factors } => {
                for factor in factors {
                    factor.set_warmup_steps(new);
                }
            }
        }
    }

    /// Checks every setting.
    ///
    /// # Errors
    /// The first setting that cannot work.
    pub(crate) fn validate(&self) -> Result<(), ConfigError> {
        match self {
            Self::Constant { rate, .. } | Self::Linear { rate, .. } | Self::Cosine { rate, .. } => {
                ConfigError::positive("schedule.rate", *rate)?;
            }
            Self::Multifactor { factors } => {
                factors.iter().try_for_each(RateFactor::validate)?;
            }
        }
        let share = self.final_share();
        if !(0.0..=1.0).contains(&share) {
            return Err(ConfigError::new(
                "schedule.final_share",
                share,
                "a share lies in [0, 1]",
                "use 0.1",
            ));
        }
        Ok(())
    }
}

/// The state of a [`ScheduleConfig`] in a run, with the interface of Burn's learner.
#[derive(Debug, Clone)]
pub struct Schedule {
    config: ScheduleConfig,
    steps: usize,
    next: usize,
}

impl Schedule {
    /// The schedule of a run of `steps` steps, before its first one.
    pub fn new(config: ScheduleConfig, steps: usize) -> Self {
        Self {
            config,
            steps,
            next: 0,
        }
    }
}

impl LrScheduler for Schedule {
    type Record<B: Backend> = usize;

    fn step(&mut self) -> LearningRate {
        let rate = self.config.rate(self.next, self.steps);
        self.next += 1;
        rate
    }

    fn to_record<B: Backend>(&self) -> usize {
        self.next
    }

    fn load_record<B: Backend>(self, next: usize) -> Self {
        Self { next, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn_flex::Flex;

    fn cosine(rate: f64, final_share: f64, warmup_steps: usize) -> ScheduleConfig {
        ScheduleConfig::Cosine {
            rate,
            warmup_steps,
            final_share,
        }
    }

    #[test]
    fn cosine_rises_to_the_peak_and_falls_to_the_floor() {
        let schedule = cosine(2.0, 0.25, 4);
        let rates: Vec<f64> = (0..16).map(|step| schedule.rate(step, 14)).collect();
        assert_eq!(rates[..5], [0.5, 1.0, 1.5, 2.0, 2.0]);
        assert!(rates[4..].windows(2).all(|pair| pair[0] >= pair[1]));
        let middle = rates[9];
        assert!((middle - 1.25).abs() < 1e-9, "half-way down: {middle}");
        assert_eq!(rates[14..], [0.5, 0.5]);
    }

    #[test]
    fn line_falls_evenly_and_constant_stays() {
        let linear = ScheduleConfig::Linear {
            rate: 1.0,
            warmup_steps: 2,
            final_share: 0.5,
        };
        let rates: Vec<f64> = (0..7).map(|step| linear.rate(step, 6)).collect();
        assert_eq!(rates, [0.5, 1.0, 1.0, 0.875, 0.75, 0.625, 0.5]);
        let constant = ScheduleConfig::Constant {
            rate: 1.0,
            warmup_steps: 2,
        };
        let rates: Vec<f64> = (0..5).map(|step| constant.rate(step, 4)).collect();
        assert_eq!(rates, [0.5, 1.0, 1.0, 1.0, 1.0]);
    }

    #[test]
    fn works_without_warmup_and_with_nothing_else() {
        assert_eq!(cosine(1.0, 0.1, 0).rate(0, 10), 1.0);
        assert_eq!(cosine(1.0, 0.1, 10).rate(9, 10), 1.0);
        assert!(cosine(1.0, 0.1, 10).rate(10, 10).is_finite());
    }

    #[test]
    fn factors_are_multiplied_from_step_one_on() {
        let schedule = ScheduleConfig::Multifactor {
            factors: vec![
                RateFactor::Constant(3.0),
                RateFactor::LinearWarmup { steps: 4 },
            ],
        };
        let rates: Vec<f64> = (0..5).map(|step| schedule.rate(step, 9)).collect();
        assert_eq!(rates, [0.75, 1.5, 2.25, 3.0, 3.0]);
    }

    #[test]
    fn rate_and_warmup_can_be_replaced() {
        let mut schedule = cosine(1.0, 0.1, 10);
        schedule.set_rate(2.0);
        schedule.set_warmup_steps(4);
        assert_eq!(schedule, cosine(2.0, 0.1, 4));
        let factors = |rate, steps| ScheduleConfig::Multifactor {
            factors: vec![
                RateFactor::Constant(rate),
                RateFactor::LinearWarmup { steps },
                RateFactor::RsqrtDecay {
                    warmup_steps: steps,
                },
            ],
        };
        let mut schedule = factors(1.0, 10);
        schedule.set_rate(2.0);
        schedule.set_warmup_steps(4);
        assert_eq!(schedule, factors(2.0, 4));
        assert_eq!(schedule.warmup_steps(), 4);
    }

    #[test]
    fn what_cannot_work_is_named() {
        let refused = |config: ScheduleConfig, field: &str| {
            assert_eq!(config.validate().expect_err("it cannot work").field, field);
        };
        refused(cosine(f64::NAN, 0.1, 0), "schedule.rate");
        refused(cosine(1.0, 1.5, 0), "schedule.final_share");
        let factors = vec![RateFactor::DecayEvery {
            steps: 0,
            share: 0.5,
        }];
        refused(ScheduleConfig::Multifactor { factors }, "schedule.steps");
    }

    #[test]
    fn record_remembers_the_step() {
        let new = || Schedule::new(cosine(1.0, 0.0, 3), 9);
        let mut schedule = new();
        for _ in 0..5 {
            schedule.step();
        }
        let mut resumed = new().load_record::<Flex>(schedule.to_record::<Flex>());
        assert_eq!(resumed.step(), schedule.step());
    }
}
