//! Weight decay by groups of parameters.

use burn::config::Config;
use burn::module::{AutodiffModule, ModuleMapper, Param};
use burn::optim::LearningRate;
use burn::tensor::Tensor;
use burn::tensor::backend::AutodiffBackend;
use reformer_core::ConfigError;

/// Parameters with the same weight decay.
///
/// A parameter belongs to the first group that it matches; without a match, it does not decay.
#[derive(Config, Debug, PartialEq)]
pub struct DecayGroup {
    /// Substrings of paths, such as `embedding` or `blocks.0`: the group has parameters whose path in
    /// the model contains one of them. Empty: it has all.
    pub paths: Vec<String>,
    /// Minimum rank of its parameters: biases and norms have 1, weights 2.
    pub min_rank: usize,
    /// Decay rate, to be multiplied by the learning rate.
    pub rate: f64,
}

impl DecayGroup {
    /// Only weights decay; norms, biases, and embeddings of tokens and positions do not.
    pub fn only_weights(rate: f64) -> Vec<Self> {
        let embeddings = ["embedding", "position"].map(str::to_owned);
        vec![
            Self::new(embeddings.to_vec(), 1, 0.0),
            Self::new(vec![], 2, rate),
        ]
    }

    fn has(&self, path: &[String], rank: usize) -> bool {
        let is_in = |part: &String| {
            let part: Vec<&str> = part.split('.').collect();
            path.windows(part.len()).any(|window| window == part)
        };
        rank >= self.min_rank && (self.paths.is_empty() || self.paths.iter().any(is_in))
    }

    /// Checks every setting.
    ///
    /// # Errors
    /// A rate that is negative or not finite.
    pub(crate) fn validate(&self) -> Result<(), ConfigError> {
        if self.rate >= 0.0 && self.rate.is_finite() {
            return Ok(());
        }
        Err(ConfigError::new(
            "weight_decay.rate",
            self.rate,
            "it must be a number from 0 up",
            "use 0 for none",
        ))
    }
}

/// A module after decoupled weight decay: AdamW is this before each step of Adam (Loshchilov and Hutter, 2019).
pub(crate) fn decayed<B: AutodiffBackend, M: AutodiffModule<B>>(
    module: M,
    lr: LearningRate,
    groups: &[DecayGroup],
) -> M {
    module.map(&mut Decay {
        groups,
        lr,
        path: vec![],
    })
}

struct Decay<'a> {
    groups: &'a [DecayGroup],
    lr: LearningRate,
    path: Vec<String>,
}

impl<B: AutodiffBackend> ModuleMapper<B> for Decay<'_> {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
        let group = self.groups.iter().find(|group| group.has(&self.path, D));
        let share = self.lr * group.map_or(0.0, |group| group.rate);
        let (id, tensor, mapper) = param.consume();
        // Frozen parameters do not decay.
        let tensor = match tensor.is_require_grad() && share > 0.0 {
            true => Tensor::from_inner(tensor.inner() * (1.0 - share)).require_grad(),
            false => tensor,
        };
        Param::from_mapped_value(id, tensor, mapper)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::module::{Module, ModuleVisitor};
    use burn::optim::{AdamConfig, AdamWConfig, GradientsParams, Optimizer};
    use burn::tensor::Distribution;
    use burn::tensor::backend::Backend;
    use burn_autodiff::Autodiff;
    use burn_flex::Flex;
    use reformer_core::model::{ReformerConfig, ReformerLm, ReformerLmConfig};
    use reformer_core::position::PositionConfig;

    type B = Autodiff<Flex>;

    fn model() -> ReformerLm<B> {
        let positions = PositionConfig::Learned {
            max_length: 8,
            std: 1.0,
            sinusoidal: false,
        };
        let model = ReformerConfig::new(11, 16, 2).with_position(positions);
        ReformerLmConfig::new(model).init(&Default::default())
    }

    /// Collects each parameter with its path.
    #[derive(Default)]
    struct Collect {
        path: Vec<String>,
        found: Vec<(String, usize, Vec<f32>)>,
    }

    impl ModuleVisitor<B> for Collect {
        fn enter_module(&mut self, name: &str, _container_type: &str) {
            self.path.push(name.to_owned());
        }

        fn exit_module(&mut self, _name: &str, _container_type: &str) {
            self.path.pop();
        }

        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
            let values = param.val().into_data().to_vec().expect("they are floats");
            self.found.push((self.path.join("."), D, values));
        }
    }

    fn parameters(model: &ReformerLm<B>) -> Vec<(String, usize, Vec<f32>)> {
        let mut collect = Collect::default();
        model.visit(&mut collect);
        collect.found
    }

    #[test]
    fn weights_decay_and_nothing_else_does() {
        let model = model();
        let before = parameters(&model);
        let after = parameters(&decayed(model, 0.1, &DecayGroup::only_weights(0.5)));
        let mut n_decayed = 0;
        for ((path, rank, before), (_, _, after)) in before.iter().zip(&after) {
            let is_weight = *rank == 2 && !path.contains("embedding") && !path.contains("position");
            let factor = if is_weight { 0.95 } else { 1.0 };
            n_decayed += usize::from(is_weight);
            for (before, after) in before.iter().zip(after) {
                assert!((after - factor * before).abs() < 1e-6, "{path}");
            }
        }
        // In each block: queries, values, outputs, and both layers of feed-forward; and the logits.
        assert!(n_decayed > 2 * 4, "{n_decayed}");
        assert!(n_decayed < before.len() - 4 * 2, "norms and biases");
    }

    #[test]
    fn first_group_that_fits_counts() {
        let group = |paths: &[&str], min_rank, rate| {
            DecayGroup::new(
                paths.iter().map(|&path| path.to_owned()).collect(),
                min_rank,
                rate,
            )
        };
        let path: Vec<String> = ["model", "blocks", "1", "norm", "gamma"]
            .map(str::to_owned)
            .into();
        assert!(group(&["blocks.1"], 1, 0.1).has(&path, 1));
        assert!(group(&["x", "norm"], 1, 0.1).has(&path, 1));
        assert!(group(&[], 1, 0.1).has(&path, 1));
        assert!(!group(&["blocks.2"], 1, 0.1).has(&path, 1));
        assert!(
            !group(&["nor"], 1, 0.1).has(&path, 1),
            "parts are whole names"
        );
        assert!(!group(&["norm"], 2, 0.1).has(&path, 1));
    }

    #[test]
    fn adam_whose_weights_decay_is_adam_w() {
        let model = model();
        // Weights are initialised at first use.
        parameters(&model);
        let gradients = |seed| {
            let mut random = Gradients(GradientsParams::new());
            B::seed(&Default::default(), seed);
            model.visit(&mut random);
            random.0
        };
        let adam = AdamConfig::new().with_epsilon(1e-8).with_beta_2(0.99);
        let adam_w = AdamWConfig::new().with_epsilon(1e-8).with_beta_2(0.99);
        let all = vec![DecayGroup::new(vec![], 1, 0.3)];
        let mut ours = adam.init::<B, ReformerLm<B>>();
        let mut burns = adam_w.with_weight_decay(0.3).init::<B, ReformerLm<B>>();
        let (mut by_ours, mut by_burns) = (model.clone(), model.clone());
        for seed in 0..3 {
            by_ours = ours.step(0.1, decayed(by_ours, 0.1, &all), gradients(seed));
            by_burns = burns.step(0.1, by_burns, gradients(seed));
        }
        for ((path, _, ours), (_, _, burns)) in
            parameters(&by_ours).iter().zip(&parameters(&by_burns))
        {
            for (ours, burns) in ours.iter().zip(burns) {
                // Steps of 0.1; Burn rounds the bias correction differently.
                assert!((ours - burns).abs() < 1e-5, "{path}: {ours} {burns}");
            }
        }
    }

    const NORMAL: Distribution = Distribution::Normal(0.0, 1.0);

    struct Gradients(GradientsParams);

    impl ModuleVisitor<B> for Gradients {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
            let shape = param.val().shape();
            let gradient = Tensor::<Flex, D>::random(shape, NORMAL, &Default::default());
            self.0.register(param.id, gradient);
        }
    }
}
