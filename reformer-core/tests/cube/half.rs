//! Half precision: inputs and outputs are rounded, sums are not. On tensor cores where there are
//! any and rows are made of whole matrices.

use crate::attention::{chunks, judged_slots};
use crate::cases::inputs;
use crate::common::{integers, normal, numbers, relative_error};
use crate::{Gpu, adapter, judged, say};
use burn::tensor::backend::Backend;
use burn::tensor::{DType, Tensor};
use burn_flex::Flex;
use reformer_core::Key;
use reformer_core::kernels::{
    AttentionGradients, AttentionOutput, Duplicates, KeyRule, Keys, Masking, Qkv, ReformerBackend,
    SlotLayout, Slots, TiledAttention, reference,
};

const N_BUCKETS: usize = 6;

/// The types that the adapter computes with, aloud about the others.
fn types() -> Vec<DType> {
    let served = |dtype: &DType| {
        let served = Gpu::supports_dtype(&Default::default(), *dtype);
        if !served {
            say(&format!("SKIPPED: the adapter has no {dtype:?}"));
        }
        served
    };
    let types = [DType::F16, DType::BF16];
    types.into_iter().filter(served).collect()
}

/// What is attended over, and how.
enum Rules<B: Backend> {
    Tiled(Slots<B>, TiledAttention),
    Full(Masking<B>),
}

impl<B: ReformerBackend> Rules<B> {
    /// Output, gradients of queries, keys and values, by the kernels or the plain path.
    fn run(&self, qkv: Qkv<B>, grad: Tensor<B, 4>, plain: bool) -> Vec<Vec<f64>> {
        let output: AttentionOutput<B> = match (self, plain) {
            (Self::Tiled(slots, rules), true) => {
                reference::tiled_attention(qkv.clone(), slots, rules)
            }
            (Self::Tiled(slots, rules), false) => B::tiled_attention(qkv.clone(), slots, rules),
            (Self::Full(masking), true) => reference::full_attention(qkv.clone(), masking),
            (Self::Full(masking), false) => B::full_attention(qkv.clone(), masking),
        };
        assert_eq!(output.output.dtype(), qkv.v.dtype());
        let of_output = numbers(output.output.clone());
        let gradients: AttentionGradients<B> = match (self, plain) {
            (Self::Tiled(slots, rules), true) => {
                reference::tiled_attention_backward(qkv, slots, rules, output, grad)
            }
            (Self::Tiled(slots, rules), false) => {
                B::tiled_attention_backward(qkv, slots, rules, output, grad)
            }
            (Self::Full(masking), true) => {
                reference::full_attention_backward(qkv, masking, output, grad)
            }
            (Self::Full(masking), false) => B::full_attention_backward(qkv, masking, output, grad),
        };
        let of_keys = gradients.k.map(numbers).unwrap_or_default();
        vec![
            of_output,
            numbers(gradients.q),
            of_keys,
            numbers(gradients.v),
        ]
    }
}

fn on_judge(rules: &Rules<Gpu>) -> Rules<Flex> {
    match rules {
        Rules::Tiled(slots, rules) => Rules::Tiled(judged_slots(slots), *rules),
        Rules::Full(masking) => Rules::Full(Masking {
            causal: masking.causal,
            exclude_self: masking.exclude_self,
            dropout: masking.dropout,
            mask_pad: masking.mask_pad.clone().map(judged),
        }),
    }
}

/// Rounded tensors of `Gpu` as they are, or the same numbers on the judge in another type.
fn qkv_of<B: Backend>(
    [q, k, v]: &[Tensor<Gpu, 4>; 3],
    unit: bool,
    to: impl Fn(Tensor<Gpu, 4>) -> Tensor<B, 4>,
) -> Qkv<B> {
    Qkv {
        q: to(q.clone()),
        keys: match unit {
            true => Keys::UnitQueries(1.5),
            false => Keys::Own(to(k.clone())),
        },
        v: to(v.clone()),
    }
}

/// The kernels err at most twice as much as the plain path in the same precision.
fn compare(name: &str, sizes: [usize; 5], rules: &Rules<Gpu>) {
    let [batch_size, n_heads, seq_length, d_head, d_v] = sizes;
    let draw = |seed, d| -> Tensor<Gpu, 4> {
        // Heads lie between positions, as in a model.
        normal(seed, [batch_size, seq_length, n_heads, d]).swap_dims(1, 2)
    };
    for dtype in types() {
        for unit in [true, false] {
            let inputs =
                [draw(1, d_head), draw(2, d_head), draw(3, d_v)].map(|tensor| tensor.cast(dtype));
            let grad = draw(9, d_v).cast(dtype);
            let wide = |tensor: Tensor<Gpu, 4>| judged(tensor.cast(DType::F32));
            let half = |tensor: Tensor<Gpu, 4>| wide(tensor).cast(dtype);
            let judge = on_judge(rules);
            let exact = judge.run(qkv_of(&inputs, unit, wide), wide(grad.clone()), true);
            let plain = judge.run(qkv_of(&inputs, unit, half), half(grad.clone()), true);
            let ours = rules.run(qkv_of(&inputs, unit, |tensor| tensor), grad, false);
            for ((what, exact), (plain, ours)) in ["output", "dq", "dk", "dv"]
                .into_iter()
                .zip(&exact)
                .zip(plain.iter().zip(&ours))
            {
                let (error, allowed) = (
                    relative_error(ours, exact),
                    2.0 * relative_error(plain, exact),
                );
                assert!(
                    error <= allowed,
                    "{name}, {dtype:?}, unit keys {unit}: {what} errs by {error:.2e}, above {allowed:.2e}"
                );
            }
        }
    }
}

fn slots_of(sizes: [usize; 5], n_rounds: usize, layout: SlotLayout) -> Slots<Gpu> {
    let [batch_size, n_heads, seq_length, ..] = sizes;
    let buckets = integers(
        4,
        [batch_size, n_heads, n_rounds, seq_length],
        N_BUCKETS as u32,
    );
    Gpu::bucket_sort(buckets, N_BUCKETS, layout)
}

#[test]
fn tiles_of_half_precision_are_near() {
    let Some(_adapter) = adapter() else { return };
    let dropout = Some((0.2, Key::new(7)));
    let causal = chunks(64, 1, 0);
    let both_sides = TiledAttention {
        duplicates: Duplicates::Keep,
        dropout,
        ..chunks(24, 1, 1)
    };
    let band = TiledAttention {
        keys: KeyRule::Band(64),
        dropout,
        ..chunks(32, 2, 0)
    };
    let within = TiledAttention {
        keys: KeyRule::SameBucket,
        exclude_self: false,
        ..chunks(100, 1, 0)
    };
    let mut wrapped = TiledAttention {
        duplicates: Duplicates::Keep,
        ..chunks(32, 1, 0)
    };
    wrapped.tile.wrap = true;
    let many_rounds = TiledAttention {
        keys: KeyRule::SameBucket,
        ..chunks(16, 2, 0)
    };
    let cases = [
        ("chunks", SlotLayout::Dense(64), causal, 2, [64, 64]),
        ("both sides", SlotLayout::Dense(24), both_sides, 3, [16, 48]),
        ("bands", SlotLayout::BucketAligned(32), band, 2, [32, 16]),
        ("within", SlotLayout::Dense(100), within, 1, [128, 128]),
        ("ragged", SlotLayout::Dense(64), causal, 2, [20, 20]),
        ("wrapped", SlotLayout::Dense(32), wrapped, 2, [16, 16]),
        (
            "many rounds",
            SlotLayout::BucketAligned(16),
            many_rounds,
            6,
            [32, 16],
        ),
    ];
    for (name, layout, rules, n_rounds, [d_head, d_v]) in cases {
        let sizes = [1, 2, 150, d_head, d_v];
        let slots = slots_of(sizes, n_rounds, layout);
        compare(name, sizes, &Rules::Tiled(slots, rules));
    }
}

#[test]
fn padding_of_half_precision_is_near() {
    let Some(_adapter) = adapter() else { return };
    let sizes = [2, 1, 77, 16, 16];
    let [batch_size, n_heads, seq_length, d_head, _] = sizes;
    let shape = [batch_size, n_heads, seq_length, d_head];
    let mask_pad = inputs::<Gpu>(shape, 1, true).mask_pad;
    let slots = slots_of(sizes, 3, SlotLayout::Dense(24)).with_padding(mask_pad.clone());
    compare("tiles", sizes, &Rules::Tiled(slots, chunks(24, 1, 0)));
    let masking = Masking {
        causal: false,
        exclude_self: true,
        dropout: None,
        mask_pad,
    };
    compare("full", sizes, &Rules::Full(masking));
}

#[test]
fn full_half_precision_is_near() {
    let Some(_adapter) = adapter() else { return };
    let dropout = Some((0.3, Key::new(8)));
    for (causal, dropout) in [(true, None), (false, dropout)] {
        let masking = Masking {
            causal,
            exclude_self: true,
            dropout,
            mask_pad: None,
        };
        let name = format!("full, causal {causal}");
        compare(&name, [2, 1, 77, 64, 32], &Rules::Full(masking));
    }
}
