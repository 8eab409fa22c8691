//! Attention and its gradients against the reference.

use super::Subject;
use super::attended::{By, Rules, both_keys, chunks, compare, compare_within, grad_of};
use crate::cases::{Inputs, N_BUCKETS, SHAPE, cases, inputs, slots};
use crate::common::{integers, normal, numbers};
use burn::tensor::{Int, Tensor};
use reformer_core::Key;
use reformer_core::kernels::{
    AttentionOutput, Duplicates, KeyRule, Keys, Masking, Prepared, Qkv, ReformerBackend,
    SlotLayout, Slots, TiledAttention,
};

/// Tiles and windows in `cases`, one after the other for each combination of the other rules.
const N_KINDS: usize = 5;

/// Both kinds of keys, or the one whose turn it is.
fn in_turn<S: Subject>(both: [Qkv<S::Backend>; 2], number: usize) -> Vec<Qkv<S::Backend>> {
    match S::THINNED {
        true => both.into_iter().skip(number % 2).take(1).collect(),
        false => both.to_vec(),
    }
}

/// Half of the rules in each of two ways, and each kind of keys in turn.
fn is_left(number: usize, n_rounds: usize, rules: &TiledAttention) -> bool {
    let (kind, combination) = (number % N_KINDS, number / N_KINDS);
    let turn = (kind + combination / 2) % 2;
    match (n_rounds, rules.dropout.is_some()) {
        (4, false) => rules.exclude_self && turn == 1,
        (3, true) => !rules.exclude_self && turn == 0,
        _ => false,
    }
}

pub(crate) fn tiled_is_the_reference_by_every_rule<S: Subject>() {
    for (n_rounds, padded) in [(1, true), (3, false), (4, true)] {
        let inputs = inputs::<S::Backend>(SHAPE, n_rounds, padded);
        for (number, (name, layout, rules)) in cases().into_iter().enumerate() {
            if padded && !rules.exclude_self {
                continue; // Padded queries may see nothing.
            }
            for dropout in [None, Some((0.25, Key::new(6)))] {
                let rules = TiledAttention { dropout, ..rules };
                if S::THINNED && !is_left(number, n_rounds, &rules) {
                    continue;
                }
                let tiled = Rules::Tiled(slots(&inputs, layout), rules);
                for qkv in in_turn::<S>(both_keys(&inputs, false), number) {
                    compare::<S>(&format!("{n_rounds} rounds, {name}"), &tiled, &qkv);
                }
            }
        }
    }
}

/// Length of tiles with more keys than models have.
const LONG: usize = 150;
/// Relative error of sums of more than 128 terms, on any backend.
const OF_LONG_SUMS: f64 = 2e-5;

/// Sizes of models: tiles of many registers, and what is left over at their ends.
pub(crate) fn tiled_is_the_reference_at_real_sizes<S: Subject>() {
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
        ("long tiles", SlotLayout::Dense(LONG), chunks(LONG, 1, 0), 1),
    ];
    // Where some cases must do: whether those with even and with odd numbers are tested.
    let sizes = [
        (64, 333, [true, true]),
        (32, 257, [false, false]),
        (128, 130, [false, false]),
        (128, 190, [false, true]),
        (20, 199, [true, false]),
    ];
    for (d_head, seq_length, left) in sizes {
        for (number, (name, layout, rules, n_rounds)) in cases.into_iter().enumerate() {
            if S::THINNED && !left[number % 2] {
                continue;
            }
            let inputs = inputs::<S::Backend>([1, 2, seq_length, d_head], n_rounds, false);
            let tiled = Rules::Tiled(slots(&inputs, layout), rules);
            let name = format!("{name}, heads of {d_head}");
            let tolerance = match layout {
                SlotLayout::Dense(LONG) => OF_LONG_SUMS,
                _ => S::TOLERANCE,
            };
            for qkv in in_turn::<S>(both_keys(&inputs, true), number + 1) {
                compare_within::<S>(&name, &tiled, &qkv, tolerance);
            }
        }
    }
}

pub(crate) fn wrapped_rounds_are_the_reference<S: Subject>() {
    let dropout = Some((0.2, Key::new(2)));
    // In tiles of 40 all of a round is reached twice.
    for (length, n_rounds, dropout) in [(8, 3, None), (8, 3, dropout), (40, 1, None)] {
        if S::THINNED && length == 8 && dropout.is_none() {
            continue;
        }
        let mut rules = TiledAttention {
            duplicates: Duplicates::Keep,
            dropout,
            ..chunks(length, 1, 0)
        };
        rules.tile.wrap = true;
        let inputs = inputs::<S::Backend>(SHAPE, n_rounds, false);
        let tiled = Rules::Tiled(slots(&inputs, SlotLayout::Dense(length)), rules);
        for qkv in both_keys(&inputs, false) {
            compare::<S>(&format!("wrapped, {length}, {dropout:?}"), &tiled, &qkv);
        }
    }
}

/// Local attention is the same kernel with the order of nature.
pub(crate) fn natural_order_is_the_reference<S: Subject>() {
    // Heads of 300 are shared out among many units of a GPU.
    for d_head in [24, 300] {
        let inputs = inputs::<S::Backend>([2, 2, 150, d_head], 1, true);
        let slots = Slots::natural([2, 2, 150], 64, &Default::default())
            .with_padding(inputs.mask_pad.clone());
        let tiled = Rules::Tiled(slots, chunks(64, 1, 0));
        for qkv in both_keys(&inputs, true) {
            compare_within::<S>("local", &tiled, &qkv, OF_LONG_SUMS);
        }
    }
}

pub(crate) fn full_is_the_reference<S: Subject>() {
    for (padded, dropout) in [
        (false, None),
        (true, None),
        (false, Some((0.3, Key::new(8)))),
    ] {
        let inputs = inputs::<S::Backend>([2, 2, 201, 24], 1, padded);
        for (causal, exclude_self) in [(true, true), (false, true), (true, false), (false, false)] {
            let masking = Rules::Full(Masking {
                causal,
                exclude_self,
                dropout,
                mask_pad: inputs.mask_pad.clone(),
            });
            for qkv in both_keys(&inputs, true) {
                let name = format!("causal {causal}, self excluded {exclude_self}, {dropout:?}");
                compare::<S>(&name, &masking, &qkv);
            }
        }
    }
}

/// Keys and values of another sequence, shorter or longer.
pub(crate) fn other_sequences_are_the_reference<S: Subject>() {
    for (seq_length, n_keys) in [(1, 300), (70, 2), (201, 333), (150, 20)] {
        let inputs = inputs::<S::Backend>([2, 2, n_keys, 24], 1, n_keys > 7);
        let [_, k, v] = inputs.qkv.clone();
        let qkv = Qkv {
            q: normal(7, [2, 2, seq_length, 24]),
            keys: Keys::Own(k),
            v,
        };
        for dropout in [None, Some((0.3, Key::new(8)))] {
            let masking = Rules::Full(Masking {
                causal: false,
                exclude_self: false,
                dropout,
                mask_pad: inputs.mask_pad.clone(),
            });
            let name = format!("{seq_length} queries, {n_keys} keys, {dropout:?}");
            compare::<S>(&name, &masking, &qkv);
        }
    }
}

/// Several slices of the reference, each with random numbers of its own.
pub(crate) fn full_dropout_is_numbered_by_slices<S: Subject>() {
    let inputs = inputs::<S::Backend>([1, 2, 1500, 2], 1, false);
    for causal in [true, false] {
        let masking = Rules::Full(Masking {
            causal,
            exclude_self: true,
            dropout: Some((0.5, Key::new(8))),
            mask_pad: None,
        });
        let [qkv, _] = both_keys(&inputs, false);
        compare::<S>("1,500 positions", &masking, &qkv);
    }
}

pub(crate) fn gradients_are_the_same_bits_every_time<S: Subject>() {
    let inputs = inputs::<S::Backend>([1, 2, 300, 32], 4, false);
    let tiled = Rules::Tiled(slots(&inputs, SlotLayout::Dense(64)), chunks(64, 1, 0));
    let [_, qkv] = both_keys(&inputs, true);
    let once = || tiled.run(qkv.clone(), grad_of(&qkv), By::Kernel);
    assert_eq!(once(), once());
}

/// Backward uses what forward has computed before it, and computes it itself where it is not given.
pub(crate) fn gradients_are_the_same_bits_without_what_forward_prepares<S: Subject>() {
    let inputs = inputs::<S::Backend>([2, 2, 100, 16], 3, false);
    let tiled = |keys| TiledAttention {
        keys,
        ..chunks(16, 1, 1)
    };
    let of_rules = [KeyRule::Across, KeyRule::SameBucket, KeyRule::Band(5)]
        .map(|keys| Rules::Tiled(slots(&inputs, SlotLayout::Dense(16)), tiled(keys)));
    let full = Rules::Full(Masking {
        causal: true,
        exclude_self: true,
        dropout: None,
        mask_pad: None,
    });
    for rules in of_rules.iter().chain([&full]) {
        for qkv in both_keys(&inputs, true) {
            let given = rules.forward(qkv.clone(), By::Kernel);
            let alone = AttentionOutput {
                prepared: Prepared::default(),
                ..given.clone()
            };
            let [given, alone] = [given, alone].map(|output| {
                let of = rules.backward(qkv.clone(), output, grad_of(&qkv), By::Kernel);
                [Some(of.q), of.k, Some(of.v)].map(|of| of.map(numbers))
            });
            assert_eq!(given, alone);
        }
    }
}

/// The message of a panic.
fn refusal(function: impl FnOnce()) -> String {
    let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(function)).unwrap_err();
    *panic.downcast::<String>().unwrap()
}

pub(crate) fn bad_shapes_are_refused_by_name<S: Subject>() {
    type Change<B> = fn(&mut Qkv<B>, &mut Inputs<B>);
    let refused = |change: Change<S::Backend>, expected: &str| {
        let mut inputs = inputs::<S::Backend>(SHAPE, 2, false);
        let [mut qkv, _] = both_keys(&inputs, false);
        let slots = slots(&inputs, SlotLayout::Dense(4));
        change(&mut qkv, &mut inputs);
        let slots = slots.with_padding(inputs.mask_pad);
        let message = refusal(|| {
            S::Backend::tiled_attention(qkv, &slots, &chunks(4, 1, 0));
        });
        assert!(message.contains(expected), "{message}");
    };
    refused(
        |qkv, _| qkv.keys = Keys::Own(normal(1, [2, 2, 37, 6])),
        "[2, 2, 37, 5] do not fit keys of shape [2, 2, 37, 6]",
    );
    refused(
        |qkv, _| qkv.v = normal(1, [2, 2, 36, 7]),
        "[2, 2, 37, 5] do not fit values of shape [2, 2, 36, 7]",
    );
    refused(
        |qkv, _| {
            let shape = [1, 2, 37, 5];
            *qkv = Qkv {
                q: normal(1, shape),
                keys: Keys::UnitQueries(1.0),
                v: normal(1, shape),
            };
        },
        "do not fit queries of shape [1, 2, 37, 5]",
    );
    refused(
        |_, inputs| {
            let buckets: Tensor<S::Backend, 2, Int> = integers(1, [2, 36], N_BUCKETS as u32);
            inputs.mask_pad = Some(buckets.greater_elem(2));
        },
        "a mask of shape [2, 36]",
    );
    let message = refusal(|| {
        let [qkv, _] = both_keys(&inputs::<S::Backend>(SHAPE, 1, false), false);
        let q = normal(1, [2, 2, 4, 5]);
        let masking = Masking {
            causal: true,
            exclude_self: false,
            dropout: None,
            mask_pad: None,
        };
        S::Backend::full_attention(Qkv { q, ..qkv }, &masking);
    });
    assert!(message.contains("4 queries and 37 keys"), "{message}");
}
