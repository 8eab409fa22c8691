//! Optimizers: their settings, weight decay and clipping of gradients.

mod adafactor;
mod adam;
pub(crate) mod clip;
pub(crate) mod decay;
mod list;
pub(crate) mod loss_scale;
mod sgd;

use std::collections::HashSet;

use burn::config::Config;
use burn::module::{AutodiffModule, ParamId};
use burn::optim::adaptor::OptimizerAdaptor;
use burn::optim::{Adam, GradientsParams, LearningRate, Optimizer, Sgd};
use burn::record::{PrecisionSettings, Record};
use burn::tensor::backend::AutodiffBackend;
use reformer_core::ConfigError;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use list::{Items, States, optimizers};

pub use adafactor::{Adafactor, AdafactorConfig, AdafactorState, Factored, SecondMoment};
pub use adam::AdamConfig;
pub use decay::DecayGroup;
pub use sgd::SgdConfig;

optimizers! {
    /// Adam; AdamW with the weight decay that presets have.
    Adam(AdamConfig) as "adam" => Adam,
    /// Gradient descent with momentum 0.9.
    Sgd(SgdConfig) as "sgd" => Sgd<B::InnerBackend>,
    /// Factored second moments, little memory; steps relative to the size of a weight.
    Adafactor(AdafactorConfig) as "adafactor" => Adafactor,
}

impl OptimizerConfig {
    /// The usual settings of all optimizers, in JSON, each below its name in files.
    pub(crate) fn all_settings() -> Value {
        let all = Self::NAMES.iter().filter_map(|(name, _)| {
            let settings = serde_json::to_value(Self::by_name(name)?).ok()?;
            settings.as_object().cloned()
        });
        all.flatten().collect()
    }
}

/// Checks that a decay rate lies in [0, 1).
fn decay_rate(field: &str, value: f64) -> Result<(), ConfigError> {
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
    use burn::record::FullPrecisionSettings;
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
        let sgd = |momentum, nesterov| {
            let config = SgdConfig::new().with_momentum(momentum);
            OptimizerConfig::Sgd(config.with_nesterov(nesterov))
        };
        assert_eq!(steps(sgd(0.0, false), 0.25, 2), [0.25, -0.5]);
        // v = 2, x = 1/2; v = 1/2 * 2 + 1 = 2, x = 0.
        assert_eq!(steps(sgd(0.5, false), 0.25, 2), [0.0, 0.0]);
        // v = 2, x = 1 - (2 + 1) / 4 = 1/4; v = 1 + 1/2, x = 1/4 - (1/2 + 3/4) / 4.
        assert_eq!(steps(sgd(0.5, true), 0.25, 2), [-0.0625, 0.125]);
    }

    #[test]
    fn state_of_another_optimizer_has_another_name() {
        let [adam, sgd] = ["adam", "sgd"].map(|name| OptimizerConfig::by_name(name).unwrap());
        let record = adam.init::<B, Linear<B>>().to_record();
        assert_eq!(record.name(), adam.name());
        assert_ne!(record.name(), sgd.name());
    }

    #[test]
    fn every_name_is_that_of_an_optimizer() {
        for (name, about) in OptimizerConfig::NAMES {
            let config = OptimizerConfig::by_name(name).expect("it is in the list");
            assert_eq!(config.name().to_lowercase(), *name);
            assert!(config.validate().is_ok() && !about.starts_with(' '));
        }
        assert_eq!(OptimizerConfig::by_name("Adam"), None);
    }

    /// Names of optimizers and of settings are in the `config.json` of older runs.
    #[test]
    fn settings_are_serialised_as_in_older_versions() {
        let json = |name| serde_json::to_string(&OptimizerConfig::by_name(name)).unwrap();
        let adam = r#"{"Adam":{"beta_1":0.9,"beta_2":0.99,"epsilon":1e-8}}"#;
        assert_eq!(json("adam"), adam);
        let sgd = r#"{"Sgd":{"momentum":0.9,"nesterov":false}}"#;
        assert_eq!(json("sgd"), sgd);
    }

    #[test]
    fn states_can_be_split_by_parameter_and_merged() {
        let device = Default::default();
        let layer = LinearConfig::new(1, 2).init::<B>(&device);
        let (weight, bias) = (layer.weight.id, layer.bias.as_ref().unwrap().id);
        let mut gradients = GradientsParams::new();
        gradients.register(weight, Tensor::<Flex, 2>::from_data([[3.0, 4.0]], &device));
        gradients.register(bias, Tensor::<Flex, 1>::from_data([0.5, 1.0], &device));
        let mut optimizer = OptimizerConfig::Adam(AdamConfig::new()).init::<B, Linear<B>>();
        optimizer.step(0.1, layer, gradients);
        let whole = optimizer.to_record();
        let json = |record: &AnyRecord<Linear<B>, B>| {
            let item = record.clone().into_item::<FullPrecisionSettings>();
            serde_json::to_value(item).unwrap()
        };
        let [of_weight, of_bias] = [weight, bias].map(|id| whole.clone().filter(&[id].into()));
        for (part, id) in [(&of_weight, weight), (&of_bias, bias)] {
            let part = json(part);
            let states = part["Adam"].as_object().expect("of the same optimizer");
            assert_eq!(states.keys().collect::<Vec<_>>(), [&id.serialize()]);
        }
        assert_eq!(json(&of_weight.merge(of_bias)), json(&whole));
    }

    #[test]
    fn what_cannot_work_is_named() {
        let refused = |config: OptimizerConfig, field: &str| {
            let error = config.validate().expect_err("it cannot work");
            assert_eq!(error.field, format!("optimizer.{field}"));
        };
        let adam = |beta_1, epsilon| {
            let config = AdamConfig::new().with_beta_1(beta_1);
            OptimizerConfig::Adam(config.with_epsilon(epsilon))
        };
        refused(adam(1.0, 1e-8), "beta_1");
        refused(adam(0.9, 0.0), "epsilon");
        let sgd = |momentum| {
            let config = SgdConfig::new().with_momentum(momentum);
            OptimizerConfig::Sgd(config.with_nesterov(true))
        };
        refused(sgd(0.0), "nesterov");
        refused(sgd(1.0), "momentum");
        let adafactor = AdafactorConfig::new().with_clip_threshold(0.0);
        refused(OptimizerConfig::Adafactor(adafactor), "clip_threshold");
    }
}
