//! Gradients of the reversible tape: against plain autodiff, against finite differences, and what
//! drifts.

use crate::common::{assert_close, drawn, integers};
use crate::steps::{Step, assert_same_step, assert_slopes, stack};
use burn::tensor::backend::AutodiffBackend;
use burn::tensor::{Int, Tensor};
use burn_autodiff::Autodiff;
use reformer_core::attention::AttentionKind;
use reformer_core::feed_forward::Activation;
use reformer_core::kernels::{ReformerBackend, TrainBackend};
use reformer_core::model::{ReformerConfig, ReformerLm, ReformerLmConfig, Trainable};
use reformer_core::position::PositionConfig;
use reformer_core::reversible::Mode;
use reformer_core::{Key, Pass};

pub(crate) const VOCABULARY: u32 = 13;
pub(crate) const SHAPE: [usize; 2] = [2, 50]; // batch_size, seq_length

pub(crate) fn config(n_layers: usize) -> ReformerConfig {
    stack(VOCABULARY, n_layers)
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

pub(crate) fn run<B: TrainBackend>(model: &ReformerLm<B>, mode: Mode, pass: &Pass<B>) -> Step {
    run_scaled(model, mode, pass, 1.0)
}

pub(crate) fn run_scaled<B: TrainBackend>(
    model: &ReformerLm<B>,
    mode: Mode,
    pass: &Pass<B>,
    scale: f64,
) -> Step {
    let model = model.clone().with_mode(mode);
    let tokens = integers::<B, 2>(1, SHAPE, VOCABULARY);
    // Some targets are ignored.
    let targets: Tensor<B, 2, Int> = integers::<B, 2>(2, SHAPE, VOCABULARY + 2) - 2;
    let (loss, gradients) = model.scaled_gradients((tokens, targets), pass.clone(), scale);
    Step::new(&model, loss, &gradients)
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
            assert_eq!(plain.drift, None);
            let what = format!("{n_layers} layers, {activation:?}");
            assert_same_step(&what, &reversible, &plain);
        }
    }
}

fn finite_differences_confirm_all_modes<B: ReformerBackend>() {
    // Full and local attention and smooth activations: buckets that tip over are no slope.
    let config = config(3)
        .with_layers(vec![AttentionKind::Full, AttentionKind::Local])
        .with_dropout(0.1)
        .with_attention_dropout(0.1);
    let model = lm::<Autodiff<B>>(config);
    let pass = Pass::train(Key::new(11));
    for mode in [Mode::Plain, Mode::Reversible, Mode::Ordinary] {
        assert_slopes(&format!("{mode:?}"), &model, |model| {
            run(model, mode, &pass)
        });
    }
}

fn finite_differences_confirm_queries_of_one_length<B: ReformerBackend>() {
    let config = config(2)
        .with_layers(vec![AttentionKind::Full])
        .with_query_length(Some(2.0));
    let model = lm::<Autodiff<B>>(config);
    let pass = Pass::train(Key::new(13));
    assert_slopes("queries of one length", &model, |model| {
        run(model, Mode::Reversible, &pass)
    });
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
    finite_differences_confirm_all_modes,
    finite_differences_confirm_queries_of_one_length,
    only_the_exact_mode_has_no_drift,
    the_exact_mode_rounds_and_nothing_more,
    one_seed_gives_one_step,
);
