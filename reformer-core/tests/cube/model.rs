//! A whole step of training against the one on the host.

use crate::common::{assert_close, drawn, integers};
use crate::steps::{Step, stack};
use crate::suite::say;
use crate::{Gpu, adapter};
use burn::module::Module;
use burn::record::{FullPrecisionSettings, NamedMpkBytesRecorder, Recorder};
use burn::tensor::backend::AutodiffBackend;
use burn_autodiff::Autodiff;
use burn_flex::Flex;
use reformer_core::attention::AttentionKind;
use reformer_core::feed_forward::Activation;
use reformer_core::kernels::TrainBackend;
use reformer_core::model::{ReformerConfig, ReformerLm, ReformerLmConfig, Trainable};
use reformer_core::reversible::Mode;
use reformer_core::{Key, Pass, Precision};

type Host = Autodiff<Flex>;
pub(crate) type Device = Autodiff<Gpu>;

pub(crate) const VOCABULARY: u32 = 13;
/// Every part of a sequence has the same size, so that few kernels are compiled.
pub(crate) const SHAPE: [usize; 2] = [2, 48]; // batch_size, seq_length

/// Heads of 16, which tensor cores take.
pub(crate) fn config(layers: Vec<AttentionKind>) -> ReformerLmConfig {
    let small = stack(VOCABULARY, layers.len());
    let config = ReformerConfig::new(VOCABULARY as usize, 32, layers.len())
        .with_n_heads(2)
        .with_lsh(small.lsh)
        .with_local(small.local)
        .with_layers(layers)
        .with_ff_chunk_length(Some(16))
        .with_activation(Activation::Gelu)
        .with_embedding_std(0.5)
        .with_dropout(0.1);
    ReformerLmConfig::new(config).with_loss_chunk_length(24)
}

/// The same weights on another backend.
fn moved<B: AutodiffBackend>(model: &ReformerLm<Host>, config: &ReformerLmConfig) -> ReformerLm<B> {
    let recorder = NamedMpkBytesRecorder::<FullPrecisionSettings>::new();
    let bytes = recorder.record(model.clone().into_record(), ()).unwrap();
    let record = recorder.load(bytes, &Default::default()).unwrap();
    config.init(&Default::default()).load_record(record)
}

fn step<B: TrainBackend>(model: &ReformerLm<B>, mode: Mode, scale: f64) -> Step {
    let model = model.clone().with_mode(mode);
    let tokens = integers::<B, 2>(1, SHAPE, VOCABULARY);
    let targets = integers::<B, 2>(2, SHAPE, VOCABULARY + 2) - 2;
    let pass = Pass::train(Key::new(7));
    let (loss, gradients) = model.scaled_gradients((tokens, targets), pass, scale);
    Step::new(&model, loss, &gradients)
}

/// Norm of the difference of all gradients together, relative to that of the expected ones.
fn error(found: &Step, expected: &Step, scale: f64) -> f64 {
    let (mut difference, mut norm) = (0.0, 0.0);
    for ((_, found), (_, expected)) in found.gradients.iter().zip(&expected.gradients) {
        for (f, e) in found.iter().zip(expected) {
            difference += (f / scale - e).powi(2);
            norm += e.powi(2);
        }
    }
    (difference / norm).sqrt()
}

/// Whether products of `f32` may be those of TF32, whose factors have as many digits as `f16`: see
/// [`Precision::Full`].
const MAY_ROUND_FACTORS: bool = cfg!(all(feature = "cuda", not(feature = "wgpu")));

#[test]
fn a_step_is_that_of_the_host() {
    let Some(_adapter) = adapter() else { return };
    let mut layers = vec![AttentionKind::Local, AttentionKind::Full];
    // Rounded queries tip over into other buckets, which is another function.
    if !MAY_ROUND_FACTORS {
        layers.insert(0, AttentionKind::Lsh);
    }
    let config = config(layers);
    let host = drawn(config.init::<Host>(&Default::default()));
    let device = moved::<Device>(&host, &config);
    let expected = step(&host, Mode::Reversible, 1.0);
    let found = step(&device, Mode::Reversible, 1.0);
    let (mut of_loss, mut of_gradients, mut of_drift) = (1e-5, 1e-4, 1e-4);
    if MAY_ROUND_FACTORS {
        let half = with_precision(&config, Precision::F16);
        let rounded = step(&moved::<Host>(&host, &half), Mode::Reversible, F16_SCALE);
        of_gradients = 2.0 * error(&rounded, &expected, F16_SCALE);
        of_loss = 2f64.powi(-11);
        // What is computed again from streams that differ in their last digit is rounded to other factors.
        of_drift = of_gradients;
    }
    let off = error(&found, &expected, 1.0);
    say(&format!(
        "single precision: loss {} for {}, gradients off by {off:.1e} of {of_gradients:.1e}",
        found.loss, expected.loss
    ));
    assert_close("loss", &[found.loss], &[expected.loss], of_loss);
    assert!(off < of_gradients, "gradients are off by {off:.1e}");
    let drift = found.drift.unwrap();
    assert!(drift < of_drift, "streams drift by {drift:.1e}");
}

/// Factor of the loss that keeps gradients in the range of `f16`.
const F16_SCALE: f64 = 64.0;

fn with_precision(config: &ReformerLmConfig, precision: Precision) -> ReformerLmConfig {
    let mut config = config.clone();
    config.reformer = config.reformer.with_precision(precision);
    config
}

/// Streams and weights in single precision, blocks in half: twice the error of the host at most.
/// Without hashing, whose buckets tip over and give another function.
#[test]
fn mixed_precision_goes_through_the_tape() {
    let Some(_adapter) = adapter() else { return };
    let layers = vec![AttentionKind::Local, AttentionKind::Full];
    let full = config(layers);
    let host = drawn(full.init::<Host>(&Default::default()));
    let truth = step(&host, Mode::Reversible, 1.0);
    for (precision, scale) in [(Precision::F16, F16_SCALE), (Precision::Bf16, 1.0)] {
        if precision.check::<Gpu>(&Default::default()).is_err() {
            say(&format!("SKIPPED: the adapter has no {precision:?}"));
            continue;
        }
        let config = with_precision(&full, precision);
        let plain = step(&moved::<Host>(&host, &config), Mode::Reversible, scale);
        let found = step(&moved::<Device>(&host, &config), Mode::Reversible, scale);
        let (ours, theirs) = (error(&found, &truth, scale), error(&plain, &truth, scale));
        say(&format!(
            "{precision:?}: off by {ours:.1e}, the host by {theirs:.1e}"
        ));
        assert!(theirs > 0.0, "{precision:?} changed nothing");
        assert!(
            ours <= 2.0 * theirs,
            "{precision:?}: off by {ours:.1e}, the host by {theirs:.1e}"
        );
    }
}
