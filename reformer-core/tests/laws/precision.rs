//! Half precision inside blocks: how far off it is, and what stays in `f32`. On flex, the CPU backend
//! that computes in it.

use crate::common::{integers, normal, numbers, relative_error};
use crate::gradients::{SHAPE, VOCABULARY, config, lm, run, run_scaled};
use crate::steps::Step;
use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::backend::AutodiffBackend;
use burn::tensor::{DType, Tensor};
use burn_autodiff::Autodiff;
use burn_flex::Flex;
use reformer_core::attention::{
    Attention, AttentionKind, Buckets, ExactUpTo, FullAttentionConfig, HeadsConfig,
    LocalAttentionConfig, LocalConfig, LshAttentionConfig, LshConfig, Window,
};
use reformer_core::model::{ReformerConfig, Trainable};
use reformer_core::reversible::Mode;
use reformer_core::{Key, Pass, Precision};

type B = Autodiff<Flex>;

/// Rounding to half of the last digit, 2^-9 and 2^-12.
const HALVES: [(Precision, DType, f64); 2] = [
    (Precision::Bf16, DType::BF16, 1.0 / 512.0),
    (Precision::F16, DType::F16, 1.0 / 4096.0),
];

/// Norm of the difference of all gradients together, relative to that of the expected ones.
pub(crate) fn error(found: &Step, expected: &Step) -> f64 {
    let (mut difference, mut norm) = (0.0, 0.0);
    for ((_, found), (_, expected)) in found.gradients.iter().zip(&expected.gradients) {
        for (f, e) in found.iter().zip(expected) {
            difference += (f - e).powi(2);
            norm += e.powi(2);
        }
    }
    (difference / norm).sqrt()
}

fn with(config: &ReformerConfig, precision: Precision, mode: Mode, pass: &Pass<B>) -> Step {
    run(
        &lm::<B>(config.clone().with_precision(precision)),
        mode,
        pass,
    )
}

/// Without hashing, whose buckets tip over and give another function, errors are of the size of
/// rounding.
#[test]
fn tape_is_as_near_to_f32_as_plain_autodiff() {
    let kinds = [
        vec![AttentionKind::Full, AttentionKind::Local],
        config(1).layers,
    ];
    for (hashed, kinds) in kinds.into_iter().enumerate() {
        let config = config(4).with_layers(kinds).with_dropout(0.1);
        let pass = Pass::train(Key::new(5));
        let truth = with(&config, Precision::Full, Mode::Plain, &pass);
        for (precision, _, rounding) in HALVES {
            let plain = with(&config, precision, Mode::Plain, &pass);
            let of_plain = error(&plain, &truth);
            assert!(of_plain > 0.0, "{precision:?} changed nothing");
            if hashed == 0 {
                assert!(of_plain < 8.0 * rounding, "{precision:?}: {of_plain:.1e}");
                assert!((plain.loss - truth.loss).abs() < 4.0 * rounding * truth.loss);
            }
            for mode in [Mode::Reversible, Mode::Exact { fraction_bits: 16 }] {
                let of_tape = error(&with(&config, precision, mode, &pass), &truth);
                assert!(
                    of_tape <= 2.0 * of_plain,
                    "{precision:?}, {mode:?}: {of_tape:.1e} where plain autodiff has {of_plain:.1e}"
                );
            }
        }
    }
}

/// Outputs and gradients of the three kinds of attention, the same buckets given.
#[test]
fn attention_in_half_precision_is_off_by_rounding() {
    let device = Default::default();
    let heads = HeadsConfig::new(16, 2).with_rotary_base(Some(100.0));
    let lsh = LshConfig::new()
        .with_n_rounds(3)
        .with_n_buckets(Buckets::Count(4))
        .with_window(Window::Bucket { len: 8 })
        .with_exact_up_to(ExactUpTo::Never);
    let local = LocalConfig::new().with_chunk_length(8);
    let layers: [Attention<B>; 3] = [
        Attention::Lsh(LshAttentionConfig::new(heads.clone(), lsh).init(&device)),
        Attention::Local(LocalAttentionConfig::new(heads.clone(), local).init(&device)),
        Attention::Full(FullAttentionConfig::new(heads).init(&device)),
    ];
    let weight = normal::<B, 3>(2, [2, 40, 16]);
    for layer in layers {
        let buckets = layer.forward(normal(1, [2, 40, 16]), &Pass::eval()).buckets;
        let pass = Pass::eval().with_buckets(buckets);
        let run = |dtype: DType| {
            let x = normal::<B, 3>(1, [2, 40, 16]).require_grad();
            let output = layer.forward(x.clone().cast(dtype), &pass).output;
            assert_eq!(output.dtype(), dtype);
            let gradients = (output.clone().cast(DType::F32) * weight.clone())
                .sum()
                .backward();
            let gradient = x.grad(&gradients).expect("x is used");
            [numbers(output), numbers(gradient)]
        };
        let expected = run(DType::F32);
        for (precision, dtype, rounding) in HALVES {
            for (found, expected) in run(dtype).iter().zip(&expected) {
                let error = relative_error(found, expected);
                assert!(error < 8.0 * rounding, "{precision:?}: {error:.1e}");
            }
        }
    }
}

/// Types of parameters and of their gradients.
struct Types<'a>(&'a GradientsParams, Vec<DType>);

impl<B: AutodiffBackend> ModuleVisitor<B> for Types<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        let gradient = self.0.get::<B::InnerBackend, D>(param.id);
        self.1.push(param.val().dtype());
        self.1.push(gradient.expect("all are used").dtype());
    }
}

#[test]
fn weights_gradients_and_what_comes_out_stay_in_f32() {
    for (precision, ..) in HALVES {
        for mode in [Mode::Reversible, Mode::Plain] {
            let config = config(3).with_mode(mode).with_precision(precision);
            let model = lm::<B>(config);
            let tokens = || integers::<B, 2>(1, SHAPE, VOCABULARY);
            let (loss, gradients) = model.gradients((tokens(), tokens()), Pass::eval());
            let mut types = Types(&gradients, vec![]);
            model.visit(&mut types);
            types.1.extend([
                loss.loss.dtype(),
                model.forward(tokens(), &Pass::eval()).dtype(),
                model.reformer.forward(tokens(), &Pass::eval()).dtype(),
            ]);
            assert!(
                types.1.iter().all(|dtype| *dtype == DType::F32),
                "{types:?}",
                types = types.1
            );
        }
    }
}

/// A power of two changes no digit as long as everything is in `f32`.
#[test]
fn scaling_the_loss_scales_the_gradients() {
    let model = lm::<B>(config(2));
    for mode in [Mode::Plain, Mode::Reversible] {
        let one = run(&model, mode, &Pass::eval());
        let scaled = run_scaled(&model, mode, &Pass::eval(), 1024.0);
        assert_eq!(scaled.loss, one.loss);
        for ((_, scaled), (_, one)) in scaled.gradients.iter().zip(&one.gradients) {
            let expected: Vec<f64> = one.iter().map(|gradient| gradient * 1024.0).collect();
            assert_eq!(*scaled, expected);
        }
    }
}

/// In f16 what is below 2^-24 is zero, and above 65,504 infinite.
#[test]
fn f16_has_both_ends() {
    let model = lm::<B>(config(2).with_precision(Precision::F16));
    let blocks = |scale: f64| {
        let result = run_scaled(&model, Mode::Reversible, &Pass::eval(), scale);
        let gradients = result.gradients.into_iter();
        let of_blocks = gradients.filter(|(name, _)| name.contains("heads.query"));
        of_blocks.flat_map(|(_, values)| values).collect::<Vec<_>>()
    };
    assert!(blocks(1.0).iter().any(|gradient| *gradient != 0.0));
    assert!(blocks(1e-9).iter().all(|gradient| *gradient == 0.0));
    assert!(blocks(1e9).iter().any(|gradient| !gradient.is_finite()));
}
