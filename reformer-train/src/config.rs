//! Everything that a run depends on.

use burn::config::Config;
use reformer_core::ConfigError;
use reformer_core::model::ReformerLmConfig;

use crate::data::DataConfig;
use crate::schedule::WarmupCosine;

/// The optimizer and its settings.
#[derive(Config, Debug, Copy, PartialEq)]
pub enum OptimizerConfig {
    /// Adam (Kingma and Ba, 2015).
    Adam {
        /// Decay of the mean of gradients.
        beta_1: f32,
        /// Decay of the mean of squared gradients.
        beta_2: f32,
        /// Guards the division.
        epsilon: f32,
    },
    /// Adam with decoupled weight decay (Loshchilov and Hutter, 2019).
    AdamW {
        /// Decay of the mean of gradients.
        beta_1: f32,
        /// Decay of the mean of squared gradients.
        beta_2: f32,
        /// Guards the division.
        epsilon: f32,
        /// Share of the weights, times the learning rate, that a step takes away.
        weight_decay: f32,
    },
}

/// What to do where loss or gradients are infinite or no number.
#[derive(Config, Debug, Copy, PartialEq, Eq)]
pub enum BadLoss {
    /// Stop, and say where and why.
    Stop,
    /// Leave the step's gradients out and go on; stop after so many such steps in a row.
    Skip(
        /// At least 1.
        usize,
    ),
}

/// Configuration of a [`Run`](crate::Run).
#[derive(Config, Debug, PartialEq)]
pub struct TrainConfig {
    /// The model.
    pub model: ReformerLmConfig,
    /// The data.
    pub data: DataConfig,
    /// Tokens that the model sees at a time.
    #[config(default = 512)]
    pub window_length: usize,
    /// Windows in a step.
    #[config(default = 8)]
    pub batch_size: usize,
    /// Steps of the whole run.
    #[config(default = 1000)]
    pub steps: usize,
    /// Steps between two evaluations. The last of these epochs can be shorter.
    #[config(default = 100)]
    pub steps_per_epoch: usize,
    /// Steps between two checkpoints. Default: a checkpoint after each evaluation.
    pub checkpoint_every: Option<usize>,
    /// Checkpoints that are kept, beside the best one.
    #[config(default = 2)]
    pub keep_checkpoints: usize,
    /// Evaluations in a row without a better loss after which the run ends. Default: it does not.
    pub patience: Option<usize>,
    /// What to do where the loss is no number.
    #[config(default = "BadLoss::Stop")]
    pub bad_loss: BadLoss,
    /// Threads that read data ahead.
    #[config(default = 1)]
    pub n_workers: usize,
    /// Windows in a validation, from the start of the validation data. Default: all.
    pub eval_windows: Option<usize>,
    /// The optimizer.
    #[config(
        default = "OptimizerConfig::AdamW { beta_1: 0.9, beta_2: 0.99, epsilon: 1e-8, weight_decay: 0.01 }"
    )]
    pub optimizer: OptimizerConfig,
    /// Learning rate at the end of the warm-up.
    #[config(default = 1e-3)]
    pub learning_rate: f64,
    /// Learning rate at the end of the run, as a share of the highest.
    #[config(default = 0.1)]
    pub final_share: f64,
    /// Steps in which the learning rate rises from zero.
    #[config(default = 100)]
    pub warmup_steps: usize,
    /// Norm of all gradients together above which they are scaled down. Default: no limit.
    pub max_gradient_norm: Option<f64>,
    /// From which weights, data order, dropout and hash rotations follow.
    #[config(default = 42)]
    pub seed: u64,
}

impl TrainConfig {
    /// Checks every setting that does not depend on the data.
    ///
    /// # Errors
    /// The first setting that cannot work.
    pub fn validate(&self) -> Result<(), ConfigError> {
        for (field, value) in [
            ("window_length", self.window_length),
            ("batch_size", self.batch_size),
            ("steps", self.steps),
            ("steps_per_epoch", self.steps_per_epoch),
            ("checkpoint_every", self.checkpoint_every.unwrap_or(1)),
            ("keep_checkpoints", self.keep_checkpoints),
            ("patience", self.patience.unwrap_or(1)),
        ] {
            if value == 0 {
                return Err(ConfigError::new(
                    field,
                    value,
                    "it must be at least 1",
                    "raise it",
                ));
            }
        }
        positive("learning_rate", self.learning_rate)?;
        if let Some(norm) = self.max_gradient_norm {
            positive("max_gradient_norm", norm)?;
        }
        if !(0.0..=1.0).contains(&self.final_share) {
            return Err(ConfigError::new(
                "final_share",
                self.final_share,
                "a share lies in [0, 1]",
                "use 0.1",
            ));
        }
        self.model.validate()?;
        self.validate_length()
    }

    fn validate_length(&self) -> Result<(), ConfigError> {
        match self.model.reformer.position.max_length() {
            Some(max_length) if max_length < self.window_length => Err(ConfigError::new(
                "window_length",
                self.window_length,
                format!("the model has positions for {max_length}"),
                "shorten the windows or give it more positions",
            )),
            _ => Ok(()),
        }
    }

    /// Epochs of the whole run.
    pub fn n_epochs(&self) -> usize {
        self.steps.div_ceil(self.steps_per_epoch)
    }

    /// The learning rate of each step.
    pub fn schedule(&self) -> WarmupCosine {
        WarmupCosine::new(
            self.learning_rate,
            self.learning_rate * self.final_share,
            self.warmup_steps,
            self.steps,
        )
    }
}

fn positive(field: &str, value: f64) -> Result<(), ConfigError> {
    if value > 0.0 && value.is_finite() {
        return Ok(());
    }
    Err(ConfigError::new(
        field,
        value,
        "it must be a number above 0",
        "raise it",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use reformer_core::model::ReformerConfig;
    use reformer_core::position::PositionConfig;

    fn config() -> TrainConfig {
        let reformer = ReformerConfig::new(256, 32, 2);
        TrainConfig::new(ReformerLmConfig::new(reformer), DataConfig::Sample)
    }

    #[test]
    fn defaults_are_valid() {
        config().validate().unwrap();
    }

    #[test]
    fn what_is_wrong_is_named() {
        let refused = |config: TrainConfig, field: &str| {
            assert_eq!(config.validate().unwrap_err().field, field);
        };
        refused(config().with_steps(0), "steps");
        refused(config().with_learning_rate(f64::NAN), "learning_rate");
        refused(
            config().with_max_gradient_norm(Some(0.0)),
            "max_gradient_norm",
        );
        refused(config().with_final_share(1.5), "final_share");
        let with = |reformer| TrainConfig {
            model: ReformerLmConfig::new(reformer),
            ..config()
        };
        let learned = PositionConfig::Learned {
            max_length: 511,
            std: 0.02,
        };
        refused(
            with(ReformerConfig::new(256, 32, 2).with_position(learned)),
            "window_length",
        );
    }

    #[test]
    fn last_epoch_can_be_shorter() {
        let config = config().with_steps(25).with_steps_per_epoch(10);
        assert_eq!(config.n_epochs(), 3);
    }

    #[test]
    fn json_gives_the_configuration_back() {
        let config = config()
            .with_eval_windows(Some(7))
            .with_max_gradient_norm(Some(1.0));
        let json = serde_json::to_string(&config).unwrap();
        assert_eq!(serde_json::from_str::<TrainConfig>(&json).unwrap(), config);
    }
}
