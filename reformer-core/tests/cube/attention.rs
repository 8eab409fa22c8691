//! Attention and its gradients against the reference on the host.

use crate::cases::{Inputs, SHAPE, cases, inputs, slots};
use crate::common::{assert_close, normal, numbers};
use crate::{Gpu, adapter, judged};
use burn::tensor::Tensor;
use burn_flex::Flex;
use reformer_core::Key;
use reformer_core::kernels::{
    AttentionGradients, AttentionOutput, Duplicates, KeyRule, Keys, Masking, Qkv, ReformerBackend,
    SlotLayout, Slots, TileShape, TiledAttention, reference,
};

const TOLERANCE: f64 = 2e-5;
/// Tiles and windows in `cases`, one after the other for each combination of the other rules.
const N_KINDS: usize = 5;

/// Keys of their own and keys that are queries. Heads lie between positions, as in a model, where
/// `strided`.
fn both_keys(inputs: &Inputs<Gpu>, strided: bool) -> [Qkv<Gpu>; 2] {
    let [q, k, v] = inputs.qkv.clone().map(|tensor| match strided {
        true => Tensor::from_data(tensor.swap_dims(1, 2).into_data(), &Default::default())
            .swap_dims(1, 2),
        false => tensor,
    });
    [Keys::Own(k), Keys::UnitQueries(1.5)].map(|keys| Qkv {
        q: q.clone(),
        keys,
        v: v.clone(),
    })
}

fn judged_qkv(qkv: &Qkv<Gpu>) -> Qkv<Flex> {
    Qkv {
        q: judged(qkv.q.clone()),
        keys: match &qkv.keys {
            Keys::Own(k) => Keys::Own(judged(k.clone())),
            Keys::UnitQueries(length) => Keys::UnitQueries(*length),
        },
        v: judged(qkv.v.clone()),
    }
}

pub(crate) fn judged_slots(slots: &Slots<Gpu>) -> Slots<Flex> {
    Slots {
        order: judged(slots.order.clone()),
        slot_of: judged(slots.slot_of.clone()),
        buckets: judged(slots.buckets.clone()),
        mask_pad: slots.mask_pad.clone().map(judged),
    }
}

/// Output and gradients, each from the inputs and from its own forward.
fn compare(
    name: &str,
    qkv: &Qkv<Gpu>,
    tolerance: f64,
    found: (
        impl Fn(Qkv<Gpu>) -> AttentionOutput<Gpu>,
        impl Fn(Qkv<Gpu>, AttentionOutput<Gpu>, Tensor<Gpu, 4>) -> AttentionGradients<Gpu>,
    ),
    expected: (
        impl Fn(Qkv<Flex>) -> AttentionOutput<Flex>,
        impl Fn(Qkv<Flex>, AttentionOutput<Flex>, Tensor<Flex, 4>) -> AttentionGradients<Flex>,
    ),
) {
    let judge = judged_qkv(qkv);
    let ours = found.0(qkv.clone());
    let theirs = expected.0(judge.clone());
    let close = |of: &str, found: Vec<f64>, expected: Vec<f64>| {
        assert_close(&format!("{name}: {of}"), &found, &expected, tolerance);
    };
    close(
        "output",
        numbers(ours.output.clone()),
        numbers(theirs.output.clone()),
    );
    close(
        "log-sum-exp",
        numbers(ours.max.clone() + ours.log_sum.clone()),
        numbers(theirs.max.clone() + theirs.log_sum.clone()),
    );
    let grad: Tensor<Gpu, 4> = normal(9, ours.output.dims());
    let grad = grad.cast(ours.output.dtype());
    let ours = found.1(qkv.clone(), ours, grad.clone());
    let theirs = expected.1(judge, theirs, judged(grad));
    close("dq", numbers(ours.q), numbers(theirs.q));
    assert_eq!(ours.k.is_some(), theirs.k.is_some(), "{name}");
    if let (Some(ours), Some(theirs)) = (ours.k, theirs.k) {
        close("dk", numbers(ours), numbers(theirs));
    }
    close("dv", numbers(ours.v), numbers(theirs.v));
}

fn compare_tiled(name: &str, qkv: &Qkv<Gpu>, slots: &Slots<Gpu>, rules: TiledAttention) {
    let of_judge = judged_slots(slots);
    compare(
        name,
        qkv,
        TOLERANCE,
        (
            |qkv| Gpu::tiled_attention(qkv, slots, &rules),
            |qkv, output, grad| Gpu::tiled_attention_backward(qkv, slots, &rules, output, grad),
        ),
        (
            |qkv| reference::tiled_attention(qkv, &of_judge, &rules),
            |qkv, output, grad| {
                reference::tiled_attention_backward(qkv, &of_judge, &rules, output, grad)
            },
        ),
    );
}

fn compare_full(name: &str, qkv: &Qkv<Gpu>, masking: &Masking<Gpu>, tolerance: f64) {
    let of_judge = Masking {
        causal: masking.causal,
        exclude_self: masking.exclude_self,
        dropout: masking.dropout,
        mask_pad: masking.mask_pad.clone().map(judged),
    };
    compare(
        name,
        qkv,
        tolerance,
        (
            |qkv| Gpu::full_attention(qkv, masking),
            |qkv, output, grad| Gpu::full_attention_backward(qkv, masking, output, grad),
        ),
        (
            |qkv| reference::full_attention(qkv, &of_judge),
            |qkv, output, grad| reference::full_attention_backward(qkv, &of_judge, output, grad),
        ),
    );
}

pub(crate) fn chunks(length: usize, before: usize, after: usize) -> TiledAttention {
    TiledAttention {
        tile: TileShape {
            length,
            before,
            after,
            wrap: false,
        },
        keys: KeyRule::Across,
        duplicates: Duplicates::Exact,
        causal: after == 0,
        exclude_self: true,
        dropout: None,
    }
}

#[test]
fn tiled_is_the_reference_by_every_rule() {
    let Some(_adapter) = adapter() else { return };
    for (n_rounds, padded, dropout) in [(4, true, None), (3, false, Some((0.25, Key::new(6))))] {
        let inputs = inputs::<Gpu>(SHAPE, n_rounds, padded);
        for (number, (name, layout, rules)) in cases().into_iter().enumerate() {
            // Without themselves, padded queries may see nothing. And in software it takes a second
            // to compile a kernel: half of the rules in each of two ways, and each kind of keys in
            // turn.
            let (kind, combination) = (number % N_KINDS, number / N_KINDS);
            let in_turn = (kind + combination / 2) % 2 == usize::from(padded);
            if padded != rules.exclude_self || !in_turn {
                continue;
            }
            let [own, unit] = both_keys(&inputs, false);
            let qkv = if number % 2 == 0 { own } else { unit };
            let rules = TiledAttention { dropout, ..rules };
            let name = format!("{n_rounds} rounds, {name}");
            compare_tiled(&name, &qkv, &slots(&inputs, layout), rules);
        }
    }
}

/// Sizes of models, and what is left over at their ends.
#[test]
fn tiled_is_the_reference_at_real_sizes() {
    let Some(_adapter) = adapter() else { return };
    let band = TiledAttention {
        keys: KeyRule::Band(64),
        ..chunks(32, 2, 0)
    };
    let within = TiledAttention {
        keys: KeyRule::SameBucket,
        ..chunks(64, 1, 1)
    };
    let cases = [
        ("chunks", SlotLayout::Dense(64), chunks(64, 1, 0), 4),
        ("both sides", SlotLayout::Dense(40), chunks(40, 1, 1), 3),
        ("within buckets", SlotLayout::Dense(64), within, 8),
        ("bands", SlotLayout::BucketAligned(32), band, 4),
        ("long tiles", SlotLayout::Dense(150), chunks(150, 1, 0), 1),
    ];
    let sizes = [(64, 333), (128, 190), (20, 199)];
    for ((d_head, seq_length), size) in sizes.into_iter().zip(0..) {
        for (number, (name, layout, rules, n_rounds)) in cases.into_iter().enumerate() {
            if size > 0 && number % 2 == size - 1 {
                continue;
            }
            let inputs = inputs::<Gpu>([1, 2, seq_length, d_head], n_rounds, false);
            let name = format!("{name}, heads of {d_head}");
            let [own, unit] = both_keys(&inputs, true);
            let qkv = if number % 2 == 0 { unit } else { own };
            compare_tiled(&name, &qkv, &slots(&inputs, layout), rules);
        }
    }
}

#[test]
fn wrapped_rounds_are_the_reference() {
    let Some(_adapter) = adapter() else { return };
    // In tiles of 40 all of a round is reached twice.
    for (length, n_rounds, dropout) in [(8, 3, Some((0.2, Key::new(2)))), (40, 1, None)] {
        let mut rules = chunks(length, 1, 0);
        rules.tile.wrap = true;
        rules.duplicates = Duplicates::Keep;
        rules.dropout = dropout;
        let inputs = inputs::<Gpu>(SHAPE, n_rounds, false);
        for qkv in both_keys(&inputs, false) {
            let slots = slots(&inputs, SlotLayout::Dense(length));
            compare_tiled(&format!("wrapped, {length}"), &qkv, &slots, rules);
        }
    }
}

/// Local attention is the same kernel with the order of nature.
#[test]
fn natural_order_is_the_reference() {
    let Some(_adapter) = adapter() else { return };
    // Heads of 300 are shared out among many units.
    for d_head in [24, 300] {
        let inputs = inputs::<Gpu>([2, 2, 150, d_head], 1, true);
        let slots = Slots::natural([2, 2, 150], 64, &Default::default())
            .with_padding(inputs.mask_pad.clone());
        for qkv in both_keys(&inputs, true) {
            compare_tiled("local", &qkv, &slots, chunks(64, 1, 0));
        }
    }
}

#[test]
fn full_is_the_reference() {
    let Some(_adapter) = adapter() else { return };
    for (padded, dropout) in [
        (false, None),
        (true, None),
        (false, Some((0.3, Key::new(8)))),
    ] {
        let inputs = inputs::<Gpu>([2, 2, 201, 24], 1, padded);
        for (causal, exclude_self) in [(true, true), (false, true), (true, false), (false, false)] {
            let masking = Masking {
                causal,
                exclude_self,
                dropout,
                mask_pad: inputs.mask_pad.clone(),
            };
            for qkv in both_keys(&inputs, true) {
                let name = format!("causal {causal}, self excluded {exclude_self}, {dropout:?}");
                compare_full(&name, &qkv, &masking, TOLERANCE);
            }
        }
    }
}

/// Keys and values of another sequence, shorter or longer.
#[test]
fn other_sequences_are_the_reference() {
    let Some(_adapter) = adapter() else { return };
    for (seq_length, n_keys) in [(1, 300), (70, 2), (201, 333), (150, 20)] {
        let inputs = inputs::<Gpu>([2, 2, n_keys, 24], 1, n_keys > 7);
        let [_, k, v] = inputs.qkv.clone();
        let qkv = Qkv {
            q: normal(7, [2, 2, seq_length, 24]),
            keys: Keys::Own(k),
            v,
        };
        for dropout in [None, Some((0.3, Key::new(8)))] {
            let masking = Masking {
                causal: false,
                exclude_self: false,
                dropout,
                mask_pad: inputs.mask_pad.clone(),
            };
            let name = format!("{seq_length} queries, {n_keys} keys, {dropout:?}");
            compare_full(&name, &qkv, &masking, TOLERANCE);
        }
    }
}

/// Several slices of the reference, each with random numbers of its own.
#[test]
fn full_dropout_is_numbered_by_slices() {
    let Some(_adapter) = adapter() else { return };
    let inputs = inputs::<Gpu>([1, 2, 1500, 2], 1, false);
    for causal in [true, false] {
        let masking = Masking {
            causal,
            exclude_self: true,
            dropout: Some((0.5, Key::new(8))),
            mask_pad: None,
        };
        let [qkv, _] = both_keys(&inputs, false);
        compare_full("1,500 positions", &qkv, &masking, TOLERANCE);
    }
}

/// A query that may see nothing gets zeros, not what poisons everybody's gradients.
#[test]
fn whoever_sees_nothing_gets_zeros() {
    let Some(_adapter) = adapter() else { return };
    let inputs = inputs::<Gpu>([2, 1, 7, 4], 1, true);
    let masking = Masking {
        causal: false,
        exclude_self: false,
        dropout: None,
        mask_pad: inputs.mask_pad.clone(),
    };
    let [qkv, _] = both_keys(&inputs, false);
    let attended = Gpu::full_attention(qkv.clone(), &masking);
    let output = numbers(attended.output.clone());
    assert!(output[42..].iter().all(|x| *x == 0.0), "{output:?}");
    let grad = attended.output.ones_like();
    let gradients = Gpu::full_attention_backward(qkv, &masking, attended, grad);
    let of_blind = numbers(gradients.q);
    assert!(of_blind[28..].iter().all(|x| *x == 0.0), "{of_blind:?}");
}

/// So many positions that heads take turns where memory is given in small pieces.
#[test]
fn heads_that_take_turns_are_the_reference() {
    let Some(_adapter) = adapter() else { return };
    let inputs = inputs::<Gpu>([1, 3, 4000, 64], 4, false);
    let band = TiledAttention {
        keys: KeyRule::Band(64),
        ..chunks(32, 2, 0)
    };
    let slots = slots(&inputs, SlotLayout::BucketAligned(32));
    for qkv in both_keys(&inputs, true) {
        compare_tiled("in turns", &qkv, &slots, band);
    }
}

#[test]
fn gradients_are_the_same_bits_every_time() {
    let Some(_adapter) = adapter() else { return };
    let inputs = inputs::<Gpu>([1, 2, 300, 32], 4, false);
    let slots = slots(&inputs, SlotLayout::Dense(64));
    let [_, qkv] = both_keys(&inputs, true);
    let rules = chunks(64, 1, 0);
    let once = || {
        let attended = Gpu::tiled_attention(qkv.clone(), &slots, &rules);
        let grad: Tensor<Gpu, 4> = normal(9, attended.output.dims());
        let gradients = Gpu::tiled_attention_backward(qkv.clone(), &slots, &rules, attended, grad);
        [numbers(gradients.q), numbers(gradients.v)]
    };
    assert_eq!(once(), once());
}
