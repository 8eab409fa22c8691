//! The encoder-decoder: gradients of both stacks, padding on both sides, causality.

use crate::common::{assert_close, drawn, integers, numbers};
use crate::precision::error;
use crate::steps::{Step, assert_same_step, assert_slopes, stack};
use burn::tensor::backend::Backend;
use burn::tensor::{Bool, Int, Tensor};
use burn_autodiff::Autodiff;
use reformer_core::attention::AttentionKind;
use reformer_core::kernels::{ReformerBackend, TrainBackend};
use reformer_core::model::{
    CrossKind, ReformerSeq2Seq, ReformerSeq2SeqConfig, Seq2SeqInput, Trainable,
};
use reformer_core::position::PositionConfig;
use reformer_core::reversible::Mode;
use reformer_core::{Key, Pass, Precision};

const VOCABULARY: u32 = 13;
const BATCH: usize = 2;
const SOURCE: usize = 41;
const TARGET: usize = 30;
const CROSS: [CrossKind; 2] = [CrossKind::Full, CrossKind::Concatenated];

fn config(cross: CrossKind, n_layers: usize) -> ReformerSeq2SeqConfig {
    let reformer = stack(VOCABULARY, n_layers)
        .with_position(PositionConfig::Learned {
            max_length: 64,
            std: 0.3,
            sinusoidal: false,
        })
        .with_embedding_std(0.7);
    ReformerSeq2SeqConfig::new(reformer)
        .with_cross(cross)
        .with_n_encoder_layers(Some(n_layers + 1))
        .with_loss_chunk_length(12)
}

fn model<B: Backend>(config: &ReformerSeq2SeqConfig) -> ReformerSeq2Seq<B> {
    drawn(config.init(&Default::default()))
}

/// True from `real` on in the second row, from `length` on in the first.
fn mask<B: Backend>(length: usize, real: usize) -> Tensor<B, 2, Bool> {
    let positions = Tensor::<B, 1, Int>::arange(0..length as i64, &Default::default());
    let row = |end: usize| positions.clone().greater_equal_elem(end as i64);
    Tensor::stack(vec![row(length), row(real)], 0)
}

/// Pairs of which the second one is shorter on both sides.
fn input<B: Backend>() -> Seq2SeqInput<B> {
    Seq2SeqInput {
        source: integers(1, [BATCH, SOURCE], VOCABULARY),
        source_mask_pad: Some(mask(SOURCE, SOURCE - 9)),
        inputs: integers(2, [BATCH, TARGET], VOCABULARY),
        input_mask_pad: Some(mask(TARGET, TARGET - 7)),
    }
}

fn run<B: TrainBackend>(model: &ReformerSeq2Seq<B>, mode: Mode, pass: &Pass<B>) -> Step {
    run_scaled(model, mode, pass, 1.0)
}

fn run_scaled<B: TrainBackend>(
    model: &ReformerSeq2Seq<B>,
    mode: Mode,
    pass: &Pass<B>,
    scale: f64,
) -> Step {
    let model = model.clone().with_mode(mode);
    // Some targets are ignored, and those of padding.
    let targets: Tensor<B, 2, Int> = integers::<B, 2>(3, [BATCH, TARGET], VOCABULARY + 2) - 2;
    let targets = targets.mask_fill(mask(TARGET, TARGET - 7), -1);
    let (loss, gradients) = model.scaled_gradients((input(), targets), pass.clone(), scale);
    Step::new(&model, loss, &gradients)
}

fn reversible_equals_plain<B: ReformerBackend>() {
    for cross in CROSS {
        for n_layers in [1, 2, 4] {
            let mut config = config(cross, n_layers).with_tie_output(n_layers != 2);
            config.reformer = config
                .reformer
                .with_dropout(0.2)
                .with_attention_dropout(0.2);
            let model = model::<Autodiff<B>>(&config);
            let pass = Pass::train(Key::new(7).fold(n_layers as u64));
            let plain = run(&model, Mode::Plain, &pass);
            let reversible = run(&model, Mode::Reversible, &pass);
            let what = format!("{cross:?}, {n_layers} layers");
            assert_same_step(&what, &reversible, &plain);
            let drift = reversible.drift.expect("from a tape");
            assert!(drift < 1e-4, "{what}: drift {drift}");
            let exact = Mode::Exact { fraction_bits: 16 };
            assert_eq!(run(&model, exact, &pass).drift, Some(0.0), "{what}");
        }
    }
}

fn finite_differences_confirm_both_modes<B: ReformerBackend>() {
    for cross in CROSS {
        let mut config = config(cross, 2);
        // Buckets that tip over are no slope.
        config.reformer = config
            .reformer
            .with_layers(vec![AttentionKind::Full, AttentionKind::Local])
            .with_dropout(0.1)
            .with_attention_dropout(0.1);
        let model = model::<Autodiff<B>>(&config);
        let pass = Pass::train(Key::new(11));
        for mode in [Mode::Plain, Mode::Reversible] {
            let what = format!("{cross:?}, {mode:?}");
            assert_slopes(&what, &model, |model| run(model, mode, &pass));
        }
    }
}

/// A batch without padding, the same with padding of any content on either side, and each pair
/// alone.
fn padding_changes_nothing<B: ReformerBackend>() {
    for cross in CROSS {
        let model = model::<B>(&config(cross, 3));
        let source: Tensor<B, 2, Int> = integers(1, [BATCH, 20], VOCABULARY);
        let inputs: Tensor<B, 2, Int> = integers(2, [BATCH, 14], VOCABULARY);
        let alone = numbers(model.forward(
            Seq2SeqInput {
                source: source.clone(),
                source_mask_pad: None,
                inputs: inputs.clone(),
                input_mask_pad: None,
            },
            &Pass::eval(),
        ));
        for (seed, more_source, more_target) in [(5, 7, 0), (6, 0, 9), (7, 21, 13)] {
            let filled = |tokens: &Tensor<B, 2, Int>, more: usize| {
                let [_, length] = tokens.dims();
                let anything = integers(seed, [BATCH, more.max(1)], VOCABULARY);
                let filled = Tensor::cat(vec![tokens.clone(), anything], 1);
                let positions =
                    Tensor::<B, 1, Int>::arange(0..(length + more) as i64, &Default::default());
                let mask = positions.greater_equal_elem(length as i64);
                let mask = mask.reshape([1, length + more]);
                let filled = filled.slice_dim(1, 0..length + more);
                (filled, Some(mask.expand([BATCH, length + more])))
            };
            let (source, source_mask_pad) = filled(&source, more_source);
            let (inputs, input_mask_pad) = filled(&inputs, more_target);
            let padded = Seq2SeqInput {
                source,
                source_mask_pad,
                inputs,
                input_mask_pad,
            };
            let found = model.forward(padded, &Pass::eval()).slice_dim(1, 0..14);
            let what = format!("{cross:?}, {more_source} and {more_target} more");
            assert_close(&what, &numbers(found), &alone, 2e-5);
        }
    }
}

/// Logits, one row of bits for each position of the target.
fn bits<B: ReformerBackend>(
    model: &ReformerSeq2Seq<B>,
    source: Tensor<B, 2, Int>,
    inputs: Tensor<B, 2, Int>,
) -> Vec<Vec<u32>> {
    let input = Seq2SeqInput {
        source,
        source_mask_pad: None,
        inputs,
        input_mask_pad: None,
    };
    let logits = model.forward(input, &Pass::eval()).into_data();
    let bits: Vec<u32> = logits.iter::<f32>().map(f32::to_bits).collect();
    bits.chunks(VOCABULARY as usize).map(Into::into).collect()
}

/// No input changes what is predicted before it; every token of the source changes something.
fn decoder_is_causal_and_reads_the_source<B: ReformerBackend>() {
    for cross in CROSS {
        // Three layers: one of them is exact, and sees all of the source.
        let model = model::<B>(&config(cross, 3));
        let source: Tensor<B, 2, Int> = integers(1, [1, SOURCE], VOCABULARY);
        let inputs: Tensor<B, 2, Int> = integers(2, [1, TARGET], VOCABULARY);
        let original = bits(&model, source.clone(), inputs.clone());
        for at in [1, 7, 19, TARGET - 1] {
            let past = inputs.clone().slice_dim(1, 0..at);
            let future = integers(50 + at as u64, [1, TARGET - at], VOCABULARY);
            let other = bits(&model, source.clone(), Tensor::cat(vec![past, future], 1));
            assert_eq!(original[..at], other[..at], "{cross:?} before {at}");
            assert_ne!(original[at..], other[at..], "{cross:?} from {at}");
        }
        for at in [0, 17, SOURCE - 1] {
            let changed = (source.clone().slice_dim(1, at..at + 1) + 1)
                .remainder_scalar(i64::from(VOCABULARY));
            let changed = source.clone().slice_assign([0..1, at..at + 1], changed);
            let other = bits(&model, changed, inputs.clone());
            for position in 0..TARGET {
                assert_ne!(original[position], other[position], "{cross:?}, {at}");
            }
        }
    }
}

/// Any lengths, down to one token.
fn any_lengths_pass<B: ReformerBackend>() {
    for cross in CROSS {
        let model = model::<Autodiff<B>>(&config(cross, 2));
        for (source_length, target_length) in [(1, 1), (1, 40), (50, 1), (17, 64)] {
            let input = Seq2SeqInput {
                source: integers(1, [3, source_length], VOCABULARY),
                source_mask_pad: None,
                inputs: integers(2, [3, target_length], VOCABULARY),
                input_mask_pad: None,
            };
            let targets = integers(3, [3, target_length], VOCABULARY);
            let (loss, _) = model.gradients((input, targets), Pass::train(Key::new(1)));
            let loss = numbers(loss.loss)[0];
            assert!(loss.is_finite() && loss > 0.0, "{loss}");
        }
    }
}

fn one_seed_gives_one_step<B: ReformerBackend>() {
    let mut config = config(CrossKind::Full, 2);
    config.reformer = config
        .reformer
        .with_dropout(0.3)
        .with_attention_dropout(0.3);
    let model = model::<Autodiff<B>>(&config);
    let step = |seed| run(&model, Mode::Reversible, &Pass::train(Key::new(seed)));
    let (first, again, other) = (step(1), step(1), step(2));
    assert_eq!(first.gradients, again.gradients);
    assert_ne!(first.gradients, other.gradients);
}

/// On flex, the CPU backend that computes in it.
#[test]
fn half_precision_is_near_and_scaling_changes_nothing_else() {
    type B = Autodiff<burn_flex::Flex>;
    for cross in CROSS {
        let mut config = config(cross, 2);
        // Buckets that tip over would be another function.
        config.reformer = config.reformer.with_layers(vec![AttentionKind::Full]);
        let full = run(&model::<B>(&config), Mode::Reversible, &Pass::eval());
        config.reformer = config.reformer.with_precision(Precision::Bf16);
        let model = model::<B>(&config);
        for mode in [Mode::Reversible, Mode::Plain] {
            let half = run(&model, mode, &Pass::eval());
            assert_close("loss", &[half.loss], &[full.loss], 1e-2);
            assert_ne!(half.loss, full.loss);
            let error = error(&half, &full);
            assert!(error < 0.05, "{cross:?}, {mode:?}: {error}");
            let scaled = run_scaled(&model, mode, &Pass::eval(), 1024.0);
            assert_eq!(scaled.loss, half.loss);
            for ((name, found), (_, expected)) in scaled.gradients.iter().zip(&half.gradients) {
                let expected: Vec<f64> = expected.iter().map(|x| 1024.0 * x).collect();
                assert_close(name, found, &expected, 1e-5);
            }
        }
    }
}

crate::on_cpu_backends!(
    reversible_equals_plain,
    finite_differences_confirm_both_modes,
    padding_changes_nothing,
    decoder_is_causal_and_reads_the_source,
    any_lengths_pass,
    one_seed_gives_one_step,
);
