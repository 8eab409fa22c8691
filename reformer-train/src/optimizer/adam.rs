//! Adam.

use burn::config::Config;
use burn::module::AutodiffModule;
use burn::optim::Adam;
use burn::optim::adaptor::OptimizerAdaptor;
use burn::tensor::backend::AutodiffBackend;
use reformer_core::ConfigError;

/// Settings of Adam (Kingma and Ba, 2015).
#[derive(Config, Debug, Copy, PartialEq)]
pub struct AdamConfig {
    /// Decay of the mean of gradients.
    #[config(default = 0.9)]
    pub beta_1: f32,
    /// Decay of the mean of squared gradients.
    #[config(default = 0.99)]
    pub beta_2: f32,
    /// Added to the denominator of a step.
    #[config(default = 1e-8)]
    pub epsilon: f32,
}

impl AdamConfig {
    /// The settings that programs use: the defaults.
    pub fn usual() -> Self {
        Self::new()
    }

    /// Checks every setting.
    ///
    /// # Errors
    /// The first setting that cannot work.
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        super::decay_rate("optimizer.beta_1", self.beta_1.into())?;
        super::decay_rate("optimizer.beta_2", self.beta_2.into())?;
        ConfigError::positive("optimizer.epsilon", self.epsilon.into())
    }

    /// The optimizer, before its first step.
    pub fn init<B: AutodiffBackend, M: AutodiffModule<B>>(&self) -> OptimizerAdaptor<Adam, M, B> {
        burn::optim::AdamConfig::new()
            .with_beta_1(self.beta_1)
            .with_beta_2(self.beta_2)
            .with_epsilon(self.epsilon)
            .init()
    }
}
