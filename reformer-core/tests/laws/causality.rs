//! Whether what comes later can change what was before.

use crate::common::{drawn, integers};
use burn::tensor::{Int, Tensor};
use reformer_core::attention::{AttentionKind, Buckets, ExactUpTo, LocalConfig, LshConfig, Window};
use reformer_core::kernels::{Duplicates, ReformerBackend};
use reformer_core::model::{ReformerConfig, ReformerLm, ReformerLmConfig};
use reformer_core::{Pass, Precision};

const LENGTH: usize = 96;
const VOCABULARY: u32 = 11;

fn model<B: ReformerBackend>(lsh: LshConfig) -> ReformerLm<B> {
    model_in(Precision::Full, lsh)
}

fn model_in<B: ReformerBackend>(precision: Precision, lsh: LshConfig) -> ReformerLm<B> {
    let reformer = ReformerConfig::new(VOCABULARY as usize, 16, 3)
        .with_n_heads(2)
        .with_layers(vec![AttentionKind::Lsh, AttentionKind::Local])
        .with_lsh(lsh.with_exact_up_to(ExactUpTo::Never))
        .with_local(LocalConfig::new().with_chunk_length(8))
        .with_precision(precision);
    drawn(ReformerLmConfig::new(reformer).init(&Default::default()))
}

/// Bits of the outputs before each of several positions, for several futures.
fn outputs_that_the_future_changes<B: ReformerBackend>(model: &ReformerLm<B>) -> usize {
    let tokens = integers::<B, 2>(1, [1, LENGTH], VOCABULARY);
    let logits = |tokens: Tensor<B, 2, Int>| -> Vec<u32> {
        let logits = model.forward(tokens, &Pass::eval());
        logits.into_data().iter::<f32>().map(f32::to_bits).collect()
    };
    let width = VOCABULARY as usize;
    let original = logits(tokens.clone());
    let mut changed = 0;
    for at in [1, 7, 32, 60, LENGTH - 1] {
        for seed in 0..4 {
            let future = integers::<B, 2>(100 + seed, [1, LENGTH - at], VOCABULARY);
            let past = tokens.clone().slice_dim(1, 0..at);
            let other = logits(Tensor::cat(vec![past, future], 1));
            changed += (0..at)
                .filter(|i| {
                    let row = i * width..(i + 1) * width;
                    original[row.clone()] != other[row]
                })
                .count();
        }
    }
    changed
}

fn bucket_windows_are_strictly_causal<B: ReformerBackend>() {
    for n_rounds in [1, 2, 3, 8] {
        for len in [1, 4, 16, 100] {
            let lsh = LshConfig::new()
                .with_n_rounds(n_rounds)
                .with_n_buckets(Buckets::Count(6))
                .with_window(Window::Bucket { len });
            let changed = outputs_that_the_future_changes(&model::<B>(lsh));
            assert_eq!(changed, 0, "{n_rounds} rounds, window {len}");
        }
    }
}

/// Sums of pairs must not depend on what is between the keys that a query sees.
#[test]
fn bucket_windows_are_strictly_causal_in_half_precision() {
    for precision in [Precision::Bf16, Precision::F16] {
        for (n_rounds, len) in [(1, 4), (2, 7), (3, 16)] {
            let lsh = LshConfig::new()
                .with_n_rounds(n_rounds)
                .with_n_buckets(Buckets::Count(6))
                .with_window(Window::Bucket { len });
            let model = model_in::<burn_flex::Flex>(precision, lsh);
            let changed = outputs_that_the_future_changes(&model);
            assert_eq!(changed, 0, "{precision:?}, {n_rounds} rounds, window {len}");
        }
    }
}

/// The same test finds the leak of windows cut from the sorted sequence, which all peers have.
fn chunk_windows_leak<B: ReformerBackend>() {
    for duplicates in [Duplicates::Keep, Duplicates::Exact] {
        let lsh = LshConfig::new()
            .with_n_rounds(2)
            .with_n_buckets(Buckets::Count(6))
            .with_chunk_length(8)
            .with_window(Window::Chunk {
                before: 1,
                after: 0,
                within_bucket: false,
            })
            .with_duplicates(duplicates);
        let changed = outputs_that_the_future_changes(&model::<B>(lsh));
        println!("chunks of the sorted sequence: {changed} outputs changed with the future");
        assert!(changed > 0);
    }
}

crate::on_cpu_backends!(bucket_windows_are_strictly_causal, chunk_windows_leak);
