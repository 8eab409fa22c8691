//! Gradients of the reversible tape: against plain autodiff, against finite differences, and what
//! drifts.

use crate::common::{assert_close, drawn, integers, normal, numbers};
use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::backend::AutodiffBackend;
use burn::tensor::{Int, Tensor};
use burn_autodiff::Autodiff;
use reformer_core::attention::{AttentionKind, Buckets, ExactUpTo, LocalConfig, LshConfig, Window};
use reformer_core::feed_forward::Activation;
use reformer_core::kernels::ReformerBackend;
use reformer_core::model::{ReformerConfig, ReformerLm, ReformerLmConfig};
use reformer_core::position::PositionConfig;
use reformer_core::reversible::Mode;
use reformer_core::{Key, Pass};

pub(crate) const VOCABULARY: u32 = 13;
pub(crate) const SHAPE: [usize; 2] = [2, 50]; // batch_size, seq_length

pub(crate) fn config(n_layers: usize) -> ReformerConfig {
    ReformerConfig::new(VOCABULARY as usize, 16, n_layers)
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
        .with_position(PositionConfig::Axial {
            shape: vec![8, 8],
            dims: vec![6, 10],
            std: 0.3,
        })
        .with_embedding_std(0.5)
}

pub(crate) fn lm<B: AutodiffBackend>(config: ReformerConfig) -> ReformerLm<B> {
    let config = ReformerLmConfig::new(config).with_loss_chunk_length(20);
    drawn(config.init(&Default::default()))
}

/// Gradients by order of the parameters.
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

pub(crate) struct Result {
    pub(crate) loss: f64,
    drift: Option<f64>,
    pub(crate) gradients: Vec<(String, Vec<f64>)>,
}

pub(crate) fn run<B>(model: &ReformerLm<B>, mode: Mode, pass: &Pass<B>) -> Result
where
    B: AutodiffBackend + ReformerBackend,
    B::InnerBackend: ReformerBackend,
{
    run_scaled(model, mode, pass, 1.0)
}

pub(crate) fn run_scaled<B>(model: &ReformerLm<B>, mode: Mode, pass: &Pass<B>, scale: f64) -> Result
where
    B: AutodiffBackend + ReformerBackend,
    B::InnerBackend: ReformerBackend,
{
    let model = model.clone().with_mode(mode);
    let tokens = integers::<B, 2>(1, SHAPE, VOCABULARY);
    // Some targets are ignored.
    let targets: Tensor<B, 2, Int> = integers::<B, 2>(2, SHAPE, VOCABULARY + 2) - 2;
    let (loss, gradients) = model.scaled_gradients(tokens, targets, pass.clone(), scale);
    let mut ordered = Ordered {
        gradients: &gradients,
        values: Vec::new(),
        path: Vec::new(),
    };
    model.visit(&mut ordered);
    Result {
        loss: numbers(loss.loss)[0],
        drift: loss.drift.map(|drift| numbers(drift)[0]),
        gradients: ordered.values,
    }
}

/// With smooth functions: where an input of ReLU is nearer to zero than the drift, 1e-7, the two
/// passes compute two functions, and one of some 50,000 units always is. So ReLU is for one layer.
fn reversible_equals_plain<B: ReformerBackend>() {
    for n_layers in 1..=8 {
        let second = match n_layers {
            1 => Activation::Relu,
            _ => Activation::Silu,
        };
        for activation in [Activation::Gelu, second] {
            let config = config(n_layers)
                .with_dropout(0.2)
                .with_attention_dropout(0.2)
                .with_gated(n_layers % 2 == 0)
                .with_activation(activation);
            let model = lm::<Autodiff<B>>(config);
            let pass = Pass::train(Key::new(7).fold(n_layers as u64));
            let plain = run(&model, Mode::Plain, &pass);
            let reversible = run(&model, Mode::Reversible, &pass);
            assert_close("loss", &[reversible.loss], &[plain.loss], 1e-6);
            assert_eq!(plain.drift, None);
            for ((name, found), (_, expected)) in reversible.gradients.iter().zip(&plain.gradients)
            {
                let what = format!("{n_layers} layers, {activation:?}: {name}");
                assert_close(&what, found, expected, 1e-5);
            }
        }
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

/// The slope of the loss along a random direction of all parameters, by central differences,
/// against the gradient's product with the direction.
fn finite_differences_confirm_both_modes<B: ReformerBackend>() {
    // Full and local attention and smooth activations: buckets that tip over are no slope.
    let config = config(3)
        .with_layers(vec![AttentionKind::Full, AttentionKind::Local])
        .with_dropout(0.1)
        .with_attention_dropout(0.1);
    let model = lm::<Autodiff<B>>(config);
    let pass = Pass::train(Key::new(11));
    for mode in [Mode::Plain, Mode::Reversible] {
        let result = run(&model, mode, &pass);
        for seed in [1000, 2000, 3000] {
            let step = 1e-3;
            let loss = |step| {
                let shifted = model.clone().map(&mut Shift { step, seed });
                run(&shifted, mode, &pass).loss
            };
            let slope = (loss(step) - loss(-step)) / (2.0 * step);
            let product: f64 = result
                .gradients
                .iter()
                .enumerate()
                .map(|(number, (_, gradient))| {
                    let seed = seed + 1 + number as u64;
                    let direction = numbers(normal::<B, 1>(seed, [gradient.len()]));
                    gradient
                        .iter()
                        .zip(direction)
                        .map(|(g, d)| g * d)
                        .sum::<f64>()
                })
                .sum();
            let error = (slope - product).abs() / product.abs().max(0.1);
            assert!(error < 5e-3, "{mode:?}: slope {slope}, gradient {product}");
        }
    }
}

fn only_the_exact_mode_has_no_drift<B: ReformerBackend>() {
    let model = lm::<Autodiff<B>>(config(8).with_dropout(0.1));
    let pass = Pass::train(Key::new(3));
    let drift = |mode| run(&model, mode, &pass).drift.expect("from a tape");
    let reversible = drift(Mode::Reversible);
    assert!(0.0 < reversible && reversible < 1e-4, "drift {reversible}");
    assert_eq!(drift(Mode::Exact { fraction_bits: 16 }), 0.0);
}

fn the_exact_mode_rounds_and_nothing_more<B: ReformerBackend>() {
    let model = lm::<Autodiff<B>>(config(4));
    let pass = Pass::eval();
    let exact = run(&model, Mode::Exact { fraction_bits: 16 }, &pass);
    let plain = run(&model, Mode::Plain, &pass);
    assert_close("loss", &[exact.loss], &[plain.loss], 1e-4);
}

fn one_seed_gives_one_step<B: ReformerBackend>() {
    let model = lm::<Autodiff<B>>(config(2).with_dropout(0.3).with_attention_dropout(0.3));
    let step = |seed| run(&model, Mode::Reversible, &Pass::train(Key::new(seed)));
    let (first, again, other) = (step(1), step(1), step(2));
    assert_eq!(first.gradients, again.gradients);
    assert_ne!(first.gradients, other.gradients);
}

crate::on_cpu_backends!(
    reversible_equals_plain,
    finite_differences_confirm_both_modes,
    only_the_exact_mode_has_no_drift,
    the_exact_mode_rounds_and_nothing_more,
    one_seed_gives_one_step,
);
