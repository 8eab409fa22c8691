//! Optimizers: configuration and a common type.

mod adafactor;
pub(crate) mod any;
pub(crate) mod clip;
mod decay;
pub(crate) mod loss_scale;

pub use adafactor::{Adafactor, AdafactorConfig, AdafactorState, Factored, SecondMoment};
pub use any::AnyOptimizer;
pub use decay::{DecayGroup, DecayWeights};

use burn::config::Config;
use burn::module::AutodiffModule;
use burn::optim::adaptor::OptimizerAdaptor;
use burn::optim::momentum::MomentumConfig;
use burn::optim::{Adam, AdamConfig, Sgd, SgdConfig};
use burn::tensor::backend::AutodiffBackend;
use reformer_core::ConfigError;

/// The optimizer and its settings. Weight decay by [`DecayGroup`]s applies to every optimizer; with Adam
/// it is AdamW.
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
    /// Stochastic gradient descent.
    Sgd {
        /// Momentum: share of the last step that is added; 0 uses the gradients alone.
        momentum: f64,
        /// Whether to use Nesterov momentum.
        nesterov: bool,
    },
    /// Adafactor, for large models: little state for each matrix.
    Adafactor(
        /// Its settings.
        AdafactorConfig,
    ),
}

/// Any of the optimizers, as one type.
pub(crate) type BaseOptimizer<M, B> = AnyOptimizer<
    OptimizerAdaptor<Adam, M, B>,
    OptimizerAdaptor<Sgd<<B as AutodiffBackend>::InnerBackend>, M, B>,
    OptimizerAdaptor<Adafactor, M, B>,
>;

impl OptimizerConfig {
    /// The name of the optimizer, equal to that of its [state](AnyOptimizer::name).
    pub fn name(&self) -> &'static str {
        match self {
            Self::Adam { .. } => AnyOptimizer::Adam::<_, (), ()>(()).name(),
            Self::Sgd { .. } => AnyOptimizer::Sgd::<(), _, ()>(()).name(),
            Self::Adafactor(_) => AnyOptimizer::Adafactor::<(), (), _>(()).name(),
        }
    }

    /// Checks every setting.
    ///
    /// # Errors
    /// The first setting that cannot work.
    pub(crate) fn validate(&self) -> Result<(), ConfigError> {
        match *self {
            Self::Adam {
                beta_1,
                beta_2,
                epsilon,
            } => {
                share("optimizer.beta_1", beta_1.into())?;
                share("optimizer.beta_2", beta_2.into())?;
                ConfigError::positive("optimizer.epsilon", epsilon.into())
            }
            Self::Sgd { momentum, nesterov } => {
                if nesterov && momentum == 0.0 {
                    return Err(ConfigError::new(
                        "optimizer.nesterov",
                        nesterov,
                        "there is no momentum to look ahead by",
                        "set momentum to 0.9",
                    ));
                }
                share("optimizer.momentum", momentum)
            }
            Self::Adafactor(config) => config.validate(),
        }
    }

    /// The optimizer, before its first step.
    pub(crate) fn init<B: AutodiffBackend, M: AutodiffModule<B>>(&self) -> BaseOptimizer<M, B> {
        match *self {
            Self::Adam {
                beta_1,
                beta_2,
                epsilon,
            } => {
                let adam = AdamConfig::new().with_beta_1(beta_1).with_beta_2(beta_2);
                AnyOptimizer::Adam(adam.with_epsilon(epsilon).init())
            }
            Self::Sgd { momentum, nesterov } => {
                let momentum = (momentum > 0.0).then(|| {
                    let config = MomentumConfig::new().with_momentum(momentum);
                    config.with_dampening(0.0).with_nesterov(nesterov)
                });
                AnyOptimizer::Sgd(SgdConfig::new().with_momentum(momentum).init())
            }
            Self::Adafactor(config) => AnyOptimizer::Adafactor(config.build().into()),
        }
    }
}

/// Checks that a decay rate lies in [0, 1).
fn share(field: &str, value: f64) -> Result<(), ConfigError> {
    if (0.0..1.0).contains(&value) {
        return Ok(());
    }
    Err(ConfigError::new(
        field,
        value,
        "a decay lies in [0, 1)",
        "use 0.9",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::nn::{Linear, LinearConfig};
    use burn::optim::{GradientsParams, Optimizer};
    use burn::tensor::Tensor;
    use burn_autodiff::Autodiff;
    use burn_flex::Flex;

    type B = Autodiff<Flex>;

    /// The weights of a layer after `n` steps with a gradient of 2 times the weight.
    fn steps(config: OptimizerConfig, rate: f64, n: usize) -> Vec<f32> {
        let device = Default::default();
        let mut layer = LinearConfig::new(1, 2).with_bias(false).init::<B>(&device);
        layer.weight = burn::module::Param::from_data([[1.0, -2.0]], &device);
        let mut optimizer = config.init::<B, Linear<B>>();
        for _ in 0..n {
            let mut gradients = GradientsParams::new();
            let weight: Tensor<Flex, 2> = layer.weight.val().inner();
            gradients.register(layer.weight.id, weight * 2.0);
            layer = optimizer.step(rate, layer, gradients);
        }
        layer
            .weight
            .val()
            .into_data()
            .to_vec()
            .expect("they are floats")
    }

    #[test]
    fn sgd_is_what_its_formulae_say() {
        let sgd = |momentum, nesterov| OptimizerConfig::Sgd { momentum, nesterov };
        assert_eq!(steps(sgd(0.0, false), 0.25, 2), [0.25, -0.5]);
        // v = 2, x = 1/2; v = 1/2 * 2 + 1 = 2, x = 0.
        assert_eq!(steps(sgd(0.5, false), 0.25, 2), [0.0, 0.0]);
        // v = 2, x = 1 - (2 + 1) / 4 = 1/4; v = 1 + 1/2, x = 1/4 - (1/2 + 3/4) / 4.
        assert_eq!(steps(sgd(0.5, true), 0.25, 2), [-0.0625, 0.125]);
    }

    #[test]
    fn state_of_another_optimizer_is_told_apart() {
        let adam = OptimizerConfig::Adam {
            beta_1: 0.9,
            beta_2: 0.99,
            epsilon: 1e-8,
        };
        let sgd = OptimizerConfig::Sgd {
            momentum: 0.0,
            nesterov: false,
        };
        let record = adam.init::<B, Linear<B>>().to_record();
        assert_eq!(record.name(), adam.name());
        assert_ne!(record.name(), sgd.name());
    }

    #[test]
    fn what_cannot_work_is_named() {
        let refused = |config: OptimizerConfig, field: &str| {
            let error = config.validate().expect_err("it cannot work");
            assert_eq!(error.field, format!("optimizer.{field}"));
        };
        let adam = |beta_1, epsilon| OptimizerConfig::Adam {
            beta_1,
            beta_2: 0.99,
            epsilon,
        };
        refused(adam(1.0, 1e-8), "beta_1");
        refused(adam(0.9, 0.0), "epsilon");
        let sgd = |momentum| OptimizerConfig::Sgd {
            momentum,
            nesterov: true,
        };
        refused(sgd(0.0), "nesterov");
        refused(sgd(1.0), "momentum");
        let adafactor = AdafactorConfig::new().with_clip_threshold(0.0);
        refused(OptimizerConfig::Adafactor(adafactor), "clip_threshold");
    }
}
