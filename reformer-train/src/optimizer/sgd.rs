//! Stochastic gradient descent.

use burn::config::Config;
use burn::module::AutodiffModule;
use burn::optim::Sgd;
use burn::optim::adaptor::OptimizerAdaptor;
use burn::optim::momentum::MomentumConfig;
use burn::tensor::backend::AutodiffBackend;
use reformer_core::ConfigError;

/// Settings of stochastic gradient descent.
#[derive(Config, Debug, Copy, PartialEq)]
pub struct SgdConfig {
    /// Momentum: share of the last step that is added; 0 uses the gradients alone.
    #[config(default = 0.9)]
    pub momentum: f64,
    /// Whether to use Nesterov momentum.
    #[config(default = false)]
    pub nesterov: bool,
}

impl SgdConfig {
    /// The settings that programs use: the defaults.
    pub fn usual() -> Self {
        Self::new()
    }

    /// Checks every setting.
    ///
    /// # Errors
    /// The first setting that cannot work.
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        if self.nesterov && self.momentum == 0.0 {
            return Err(ConfigError::new(
                "optimizer.nesterov",
                self.nesterov,
                "Nesterov momentum needs a momentum above 0",
                "set momentum to 0.9",
            ));
        }
        super::decay_rate("optimizer.momentum", self.momentum)
    }

    /// The optimizer, before its first step.
    pub fn init<B, M>(&self) -> OptimizerAdaptor<Sgd<B::InnerBackend>, M, B>
    where
        B: AutodiffBackend,
        M: AutodiffModule<B>,
    {
        let momentum = (self.momentum > 0.0).then(|| {
            let config = MomentumConfig::new().with_momentum(self.momentum);
            config.with_dampening(0.0).with_nesterov(self.nesterov)
        });
        burn::optim::SgdConfig::new().with_momentum(momentum).init()
    }
}
