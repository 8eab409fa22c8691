//! What is special to GPUs: rows without any key, heads in turns, and rows that many cubes share. What
//! holds on every backend is in the suite.

use crate::cases::{inputs, slots};
use crate::common::{integers, numbers};
use crate::suite::attended::{Rules, both_keys, chunks, compare};
use crate::suite::hashing::assert_same_order;
use crate::{Gpu, OnGpu, adapter};
use reformer_core::kernels::{KeyRule, Masking, ReformerBackend, SlotLayout, TiledAttention};

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
    let tiled = Rules::Tiled(slots(&inputs, SlotLayout::BucketAligned(32)), band);
    for qkv in both_keys(&inputs, true) {
        compare::<OnGpu>("in turns", &tiled, &qkv);
    }
}

/// A whole length of the paper, in a row that many cubes share.
#[test]
fn a_long_sequence_is_sorted() {
    let Some(_adapter) = adapter() else { return };
    let buckets = integers(1, [1, 1, 1, 1 << 17], 4097);
    assert_same_order::<OnGpu>(buckets, 4097, SlotLayout::BucketAligned(32));
}
