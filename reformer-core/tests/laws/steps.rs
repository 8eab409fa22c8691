//! Steps of training, to be compared.

use crate::common::{assert_close, normal, numbers};
use burn::module::{AutodiffModule, Module, ModuleMapper, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;
use burn::tensor::backend::{AutodiffBackend, Backend};
use reformer_core::attention::{AttentionKind, Buckets, ExactUpTo, LocalConfig, LshConfig, Window};
use reformer_core::model::{LossOutput, ReformerConfig};

/// A small stack with all kinds of attention, which hashes at any length.
pub(crate) fn stack(vocab_size: u32, n_layers: usize) -> ReformerConfig {
    ReformerConfig::new(vocab_size as usize, 16, n_layers)
        .with_n_heads(2)
        .with_layers(vec![
            AttentionKind::Lsh,
            AttentionKind::Local,
            AttentionKind::Full,
        ])
        .with_lsh(
            LshConfig::new()
                .with_n_rounds(2)
                .with_n_buckets(Buckets::Count(6))
                .with_window(Window::Bucket { len: 8 })
                .with_exact_up_to(ExactUpTo::Never),
        )
        .with_local(LocalConfig::new().with_chunk_length(8))
        .with_ff_chunk_length(Some(16))
}

/// What a step gives.
pub(crate) struct Step {
    pub(crate) loss: f64,
    pub(crate) drift: Option<f64>,
    /// Path and gradient of every parameter.
    pub(crate) gradients: Vec<(String, Vec<f64>)>,
}

impl Step {
    pub(crate) fn new<B: AutodiffBackend, M: Module<B>>(
        model: &M,
        loss: LossOutput<B::InnerBackend>,
        gradients: &GradientsParams,
    ) -> Self {
        Self {
            loss: numbers(loss.loss)[0],
            drift: loss.drift.map(|drift| numbers(drift)[0]),
            gradients: ordered(model, gradients),
        }
    }
}

/// Gradients by order of the parameters; every parameter has one.
pub(crate) fn ordered<B: AutodiffBackend, M: Module<B>>(
    model: &M,
    gradients: &GradientsParams,
) -> Vec<(String, Vec<f64>)> {
    struct Ordered<'a> {
        gradients: &'a GradientsParams,
        values: Vec<(String, Vec<f64>)>,
        path: Vec<String>,
    }
    impl<B: AutodiffBackend> ModuleVisitor<B> for Ordered<'_> {
        fn enter_module(&mut self, name: &str, _container: &str) {
            self.path.push(name.into());
        }

        fn exit_module(&mut self, _name: &str, _container: &str) {
            self.path.pop();
        }

        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
            let path = self.path.join(".");
            let gradient = self.gradients.get::<B::InnerBackend, D>(param.id);
            let gradient = gradient.unwrap_or_else(|| panic!("no gradient of {path}"));
            self.values.push((path, numbers(gradient)));
        }
    }
    let mut ordered = Ordered {
        gradients,
        values: Vec::new(),
        path: Vec::new(),
    };
    model.visit(&mut ordered);
    ordered.values
}

/// Compares loss and gradients of all parameters.
#[track_caller]
pub(crate) fn assert_same_step(what: &str, found: &Step, expected: &Step) {
    assert_close("loss", &[found.loss], &[expected.loss], 1e-6);
    assert_eq!(found.gradients.len(), expected.gradients.len(), "{what}");
    for ((name, found), (_, expected)) in found.gradients.iter().zip(&expected.gradients) {
        assert_close(&format!("{what}: {name}"), found, expected, 1e-5);
    }
}

/// Moves every parameter along a direction.
struct Shift {
    step: f64,
    seed: u64,
}

impl<B: AutodiffBackend> ModuleMapper<B> for Shift {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
        self.seed += 1;
        let direction = normal::<B, D>(self.seed, param.dims());
        param.map(|value| (value + direction * self.step).detach().require_grad())
    }
}

/// The slope of the loss along random directions of all parameters, by central differences at two
/// distances (Richardson), against the gradient's product with the direction.
#[track_caller]
pub(crate) fn assert_slopes<B, M>(what: &str, model: &M, run: impl Fn(&M) -> Step)
where
    B: AutodiffBackend,
    M: AutodiffModule<B>,
{
    let gradients = run(model).gradients;
    for seed in [1000, 2000, 3000] {
        let loss = |step| run(&model.clone().map(&mut Shift { step, seed })).loss;
        let central = |step: f64| (loss(step) - loss(-step)) / (2.0 * step);
        let slope = (4.0 * central(1e-3) - central(2e-3)) / 3.0;
        let product: f64 = gradients
            .iter()
            .zip(seed + 1..)
            .map(|((_, gradient), seed)| along::<B::InnerBackend>(gradient, seed))
            .sum();
        let error = (slope - product).abs() / product.abs().max(0.1);
        assert!(error < 5e-3, "{what}: slope {slope}, gradient {product}");
    }
}

fn along<B: Backend>(gradient: &[f64], seed: u64) -> f64 {
    let direction = numbers(normal::<B, 1>(seed, [gradient.len()]));
    gradient.iter().zip(direction).map(|(g, d)| g * d).sum()
}
