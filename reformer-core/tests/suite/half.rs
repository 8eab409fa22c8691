//! Attention in half precision: inputs and outputs are rounded, sums are not. On tensor cores where
//! there are any and rows are made of whole matrices.

use super::Subject;
use super::attended::{By, Rules, chunks};
use crate::cases::{N_BUCKETS, inputs};
use crate::common::{integers, normal, relative_error};
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use reformer_core::Key;
use reformer_core::kernels::{
    Duplicates, KeyRule, Keys, Masking, Qkv, ReformerBackend, SlotLayout, Slots, TiledAttention,
};

/// Rounded tensors as they are, or the same numbers elsewhere in another type.
fn qkv_of<A: Backend, B: Backend>(
    [q, k, v]: &[Tensor<A, 4>; 3],
    unit: bool,
    to: impl Fn(Tensor<A, 4>) -> Tensor<B, 4>,
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
fn compare<S: Subject>(name: &str, sizes: [usize; 5], rules: &Rules<S::Backend>) {
    let [batch_size, n_heads, seq_length, d_head, d_v] = sizes;
    let draw = |seed, d| -> Tensor<S::Backend, 4> {
        // Heads lie between positions, as in a model.
        normal(seed, [batch_size, seq_length, n_heads, d]).swap_dims(1, 2)
    };
    for dtype in S::halves() {
        for unit in [true, false] {
            let inputs =
                [draw(1, d_head), draw(2, d_head), draw(3, d_v)].map(|tensor| tensor.cast(dtype));
            let grad = draw(9, d_v).cast(dtype);
            let half = |tensor: Tensor<S::Backend, 4>| S::wide(tensor).cast(dtype);
            let judge = rules.moved::<S::Judge>();
            let exact = judge.run(
                qkv_of(&inputs, unit, S::wide),
                S::wide(grad.clone()),
                By::Reference,
            );
            let plain = judge.run(
                qkv_of(&inputs, unit, half),
                half(grad.clone()),
                By::Reference,
            );
            let ours = rules.run(qkv_of(&inputs, unit, |tensor| tensor), grad, By::Kernel);
            for (((of, exact), (_, plain)), (_, ours)) in exact.iter().zip(&plain).zip(&ours) {
                // Logarithms stay between forward and backward.
                if *of == "log-sum-exp" {
                    continue;
                }
                let (error, allowed) = (
                    relative_error(ours, exact),
                    2.0 * relative_error(plain, exact),
                );
                assert!(
                    error <= allowed,
                    "{name}, {dtype:?}, unit keys {unit}: {of} errs by {error:.2e}, above {allowed:.2e}"
                );
            }
        }
    }
}

fn slots_of<B: ReformerBackend>(
    sizes: [usize; 5],
    n_rounds: usize,
    layout: SlotLayout,
) -> Slots<B> {
    let [batch_size, n_heads, seq_length, ..] = sizes;
    let buckets = integers(
        4,
        [batch_size, n_heads, n_rounds, seq_length],
        N_BUCKETS as u32,
    );
    B::bucket_sort(buckets, N_BUCKETS, layout)
}

pub(crate) fn tiles_of_half_precision_are_near<S: Subject>() {
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
    let aligned = SlotLayout::BucketAligned(16);
    let cases = [
        ("chunks", SlotLayout::Dense(64), causal, 2, [64, 64]),
        ("both sides", SlotLayout::Dense(24), both_sides, 3, [16, 48]),
        ("bands", SlotLayout::BucketAligned(32), band, 2, [32, 16]),
        ("within", SlotLayout::Dense(100), within, 1, [128, 128]),
        ("ragged", SlotLayout::Dense(64), causal, 2, [20, 20]),
        ("wrapped", SlotLayout::Dense(32), wrapped, 2, [16, 16]),
        ("many rounds", aligned, many_rounds, 6, [32, 16]),
    ];
    for (name, layout, rules, n_rounds, [d_head, d_v]) in cases {
        let sizes = [1, 2, 150, d_head, d_v];
        let slots = slots_of(sizes, n_rounds, layout);
        compare::<S>(name, sizes, &Rules::Tiled(slots, rules));
    }
}

pub(crate) fn padding_of_half_precision_is_near<S: Subject>() {
    let sizes = [2, 1, 77, 16, 16];
    let [batch_size, n_heads, seq_length, d_head, _] = sizes;
    let shape = [batch_size, n_heads, seq_length, d_head];
    let mask_pad = inputs::<S::Backend>(shape, 1, true).mask_pad;
    let slots = slots_of(sizes, 3, SlotLayout::Dense(24)).with_padding(mask_pad.clone());
    compare::<S>("tiles", sizes, &Rules::Tiled(slots, chunks(24, 1, 0)));
    let masking = Masking {
        causal: false,
        exclude_self: true,
        dropout: None,
        mask_pad,
    };
    compare::<S>("full", sizes, &Rules::Full(masking));
}

pub(crate) fn full_half_precision_is_near<S: Subject>() {
    let dropout = Some((0.3, Key::new(8)));
    for (causal, dropout) in [(true, None), (false, dropout)] {
        let masking = Masking {
            causal,
            exclude_self: true,
            dropout,
            mask_pad: None,
        };
        let name = format!("full, causal {causal}");
        compare::<S>(&name, [2, 1, 77, 64, 32], &Rules::Full(masking));
    }
}
