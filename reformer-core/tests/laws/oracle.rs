//! The tiled kernel against brute force.
//!
//! The oracle is written from the definition of attention over a multiset of (round, slot)
//! occurrences: it looks at every pair of positions, in `f64`, and knows nothing of tiles being
//! gathered, streamed or masked.

use crate::cases::{Inputs, SHAPE, cases, inputs, own_keys, real_rows, slots};
use crate::common::{assert_close, normal, numbers};
use burn::tensor::activation::softmax;
use burn::tensor::backend::Backend;
use burn::tensor::{Bool, Tensor, TensorData};
use burn_autodiff::Autodiff;
use reformer_core::Key;
use reformer_core::kernels::{
    Duplicates, KeyRule, Masking, ReformerBackend, SlotLayout, TileShape, TiledAttention, reference,
};

/// What one query sees: for each key the number of occurrences over all rounds.
fn occurrences(
    buckets: &[Vec<usize>],
    rules: &TiledAttention,
    layout: SlotLayout,
    padded: &[bool],
    query: usize,
) -> Vec<usize> {
    let seq_length = padded.len();
    let mut seen = vec![0; seq_length];
    for round in buckets {
        // Rank of a position in the sorted order, or among its bucket.
        let before = |i: usize, j: usize| (round[j], j) < (round[i], i);
        let rank = |i: usize| (0..seq_length).filter(|&j| before(i, j)).count();
        let rank_in_bucket = |i: usize| (0..i).filter(|&j| round[j] == round[i]).count();
        for (key, seen) in seen.iter_mut().enumerate() {
            let in_reach = match (rules.keys, layout) {
                (KeyRule::Band(band), SlotLayout::BucketAligned(_)) => {
                    round[key] == round[query]
                        && rank_in_bucket(key).abs_diff(rank_in_bucket(query)) <= band
                }
                (keys, SlotLayout::Dense(length)) => {
                    let (tile, of_query) = (rank(key) / length, rank(query) / length);
                    let near =
                        tile + rules.tile.before >= of_query && tile <= of_query + rules.tile.after;
                    near && (keys == KeyRule::Across || round[key] == round[query])
                }
                other => unreachable!("{other:?} is not tested"),
            };
            let allowed = !padded[key] && (!rules.causal || key <= query);
            *seen += usize::from(in_reach && allowed);
        }
    }
    seen
}

/// Attention from the definition: `[batch_size, n_heads, seq_length, d_v]`, row-major.
fn oracle<B: Backend>(inputs: &Inputs<B>, layout: SlotLayout, rules: &TiledAttention) -> Vec<f64> {
    let [batch_size, n_heads, seq_length, d_head] = SHAPE;
    let [_, _, n_rounds, _] = inputs.buckets.dims();
    let d_v = inputs.qkv[2].dims()[3];
    let [q, k, v] = inputs.qkv.clone().map(numbers);
    let buckets: Vec<usize> = inputs
        .buckets
        .clone()
        .into_data()
        .iter::<i64>()
        .map(|bucket| bucket as usize)
        .collect();
    let padded: Vec<bool> = match &inputs.mask_pad {
        Some(mask) => mask.clone().into_data().iter::<bool>().collect(),
        None => vec![false; batch_size * seq_length],
    };
    let mut output = Vec::new();
    for head in 0..batch_size * n_heads {
        let rounds: Vec<Vec<usize>> = (0..n_rounds)
            .map(|round| {
                let start = (head * n_rounds + round) * seq_length;
                buckets[start..start + seq_length].to_vec()
            })
            .collect();
        let batch = head / n_heads;
        let padded = &padded[batch * seq_length..(batch + 1) * seq_length];
        let row = |values: &[f64], i: usize, d: usize| {
            let start = (head * seq_length + i) * d;
            values[start..start + d].to_vec()
        };
        for query in 0..seq_length {
            let mut seen = occurrences(&rounds, rules, layout, padded, query);
            if rules.exclude_self {
                seen[query] = 0;
            }
            if seen.iter().all(|&count| count == 0) {
                // Nothing else to see: itself, once.
                seen[query] = 1;
            }
            let weights: Vec<f64> = (0..seq_length)
                .map(|key| {
                    let times = match rules.duplicates {
                        Duplicates::Exact => seen[key].min(1),
                        Duplicates::Keep => seen[key],
                    };
                    let (q, k) = (row(&q, query, d_head), row(&k, key, d_head));
                    let logit: f64 = q.iter().zip(k).map(|(q, k)| q * k).sum();
                    times as f64 * logit.exp()
                })
                .collect();
            let sum: f64 = weights.iter().sum();
            for feature in 0..d_v {
                let value: f64 = (0..seq_length)
                    .map(|key| weights[key] * row(&v, key, d_v)[feature])
                    .sum();
                output.push(value / sum);
            }
        }
    }
    output
}

fn kernel_agrees_with_the_definition<B: ReformerBackend>() {
    for (n_rounds, padded) in [(1, false), (2, true), (3, false), (5, true)] {
        let inputs = inputs::<B>(SHAPE, n_rounds, padded);
        for (name, layout, rules) in cases() {
            // A query that may see itself like any other key always sees something; one that may
            // not and is alone is the definition's special case. Padding without self-exclusion
            // can leave a padded query with nothing, and those rows are not compared.
            let slots = slots(&inputs, layout);
            let found = B::tiled_attention(own_keys(inputs.qkv.clone()), &slots, &rules).output;
            let found = real_rows(numbers(found), &inputs);
            let expected = real_rows(oracle(&inputs, layout, &rules), &inputs);
            let what = format!("{n_rounds} rounds, padded {padded}, {name}");
            assert_close(&what, &found, &expected, 1e-5);
        }
    }
}

/// The explicit backward against Burn's autodiff through the same forward.
fn backward_agrees_with_autodiff<B: ReformerBackend>() {
    let key = Key::new(5);
    for (n_rounds, padded) in [(1, true), (3, false)] {
        let inputs = inputs::<Autodiff<B>>(SHAPE, n_rounds, padded);
        for (name, layout, rules) in cases() {
            for dropout in [None, Some((0.3, key))] {
                let rules = TiledAttention { dropout, ..rules };
                let slots = slots(&inputs, layout);
                let weight = normal::<Autodiff<B>, 4>(9, inputs.qkv[2].dims());
                let gradients = |explicit: bool| {
                    let qkv = inputs.qkv.clone().map(Tensor::require_grad);
                    let inputs = own_keys(qkv.clone());
                    let output = if explicit {
                        Autodiff::<B>::tiled_attention(inputs, &slots, &rules).output
                    } else {
                        reference::tiled_attention(inputs, &slots, &rules).output
                    };
                    let gradients = (output.clone() * weight.clone()).sum().backward();
                    let of = qkv.map(|x| numbers(x.grad(&gradients).expect("it was used")));
                    (numbers(output), of)
                };
                let (found, found_gradients) = gradients(true);
                let (expected, expected_gradients) = gradients(false);
                let what = format!("{n_rounds} rounds, dropout {dropout:?}, {name}");
                assert_close(&what, &found, &expected, 1e-6);
                let pairs = found_gradients.iter().zip(&expected_gradients);
                for (of, (found, expected)) in ["q", "k", "v"].iter().zip(pairs) {
                    assert_close(&format!("{what}: {of}"), found, expected, 1e-5);
                }
            }
        }
    }
}

fn full_attention_is_one_tile<B: ReformerBackend>() {
    for padded in [false, true] {
        let inputs = inputs::<B>(SHAPE, 1, padded);
        for causal in [true, false] {
            let tile = TileShape {
                length: SHAPE[2],
                before: 0,
                after: 0,
                wrap: false,
            };
            let rules = TiledAttention {
                tile,
                keys: KeyRule::Across,
                duplicates: Duplicates::Keep,
                causal,
                exclude_self: true,
                dropout: None,
            };
            let masking = Masking {
                causal,
                exclude_self: true,
                dropout: None,
                mask_pad: inputs.mask_pad.clone(),
            };
            let found = B::full_attention(own_keys(inputs.qkv.clone()), &masking).output;
            let expected = oracle(&inputs, SlotLayout::Dense(SHAPE[2]), &rules);
            let what = format!("causal {causal}, padded {padded}");
            let expected = real_rows(expected, &inputs);
            assert_close(&what, &real_rows(numbers(found), &inputs), &expected, 1e-5);
        }
    }
}

/// Attention to another sequence, by the definition; gradients by Burn's autodiff through plain
/// tensor operations.
fn attention_to_another_sequence_is_a_softmax<B: ReformerBackend>() {
    let (q_shape, k_shape) = ([2, 2, 5, 6], [2, 2, 9, 6]);
    let leaf = |seed, shape| normal::<Autodiff<B>, 4>(seed, shape).require_grad();
    let (q, k, v) = (leaf(1, q_shape), leaf(2, k_shape), leaf(3, [2, 2, 9, 3]));
    // The last three keys of the second sequence are padding.
    let padded: Vec<bool> = (0..18).map(|i| i >= 15).collect();
    let padded = TensorData::new(padded, [2, 9]);
    let mask_pad = Tensor::<Autodiff<B>, 2, Bool>::from_data(padded, &q.device());
    let run = |explicit: bool| {
        let output = if explicit {
            let masking = Masking {
                causal: false,
                exclude_self: false,
                dropout: None,
                mask_pad: Some(mask_pad.clone()),
            };
            let qkv = own_keys([q.clone(), k.clone(), v.clone()]);
            Autodiff::<B>::full_attention(qkv, &masking).output
        } else {
            let logits = q.clone().matmul(k.clone().swap_dims(2, 3));
            let mask = mask_pad.clone().reshape([2, 1, 1, 9]).expand(logits.dims());
            softmax(logits.mask_fill(mask, -1e9), 3).matmul(v.clone())
        };
        let weight = normal::<Autodiff<B>, 4>(4, output.dims());
        let gradients = (output.clone() * weight).sum().backward();
        let of = [&q, &k, &v].map(|x| numbers(x.grad(&gradients).expect("it was used")));
        (numbers(output), of)
    };
    let ((found, found_gradients), (expected, expected_gradients)) = (run(true), run(false));
    assert_close("output", &found, &expected, 1e-5);
    for (found, expected) in found_gradients.iter().zip(&expected_gradients) {
        assert_close("gradient", found, expected, 1e-5);
    }
}

/// With more rounds, and keys counted once, LSH attention becomes full attention.
fn rounds_converge_to_full_attention<B: ReformerBackend>() {
    let shape = [4, 4, 64, 8];
    let q = normal::<B, 4>(1, shape);
    let k = q.clone() / q.clone().square().sum_dim(3).sqrt();
    let v = normal::<B, 4>(2, shape);
    let masking = Masking {
        causal: true,
        exclude_self: true,
        dropout: None,
        mask_pad: None,
    };
    let qkv = || own_keys([q.clone(), k.clone(), v.clone()]);
    let full = numbers(B::full_attention(qkv(), &masking).output);
    let windows = [
        ("chunks", SlotLayout::Dense(8), KeyRule::Across, 1),
        (
            "buckets",
            SlotLayout::BucketAligned(8),
            KeyRule::Band(16),
            2,
        ),
    ];
    for (name, layout, keys, before) in windows {
        let (mut first, mut last) = (None, f64::INFINITY);
        for n_rounds in [1, 2, 4, 8, 16, 32, 64] {
            let rotations = reformer_core::attention::rotations::<B>(
                Key::new(3),
                4,
                8,
                n_rounds,
                &[8],
                &q.device(),
            );
            let buckets = reformer_core::attention::hash(q.clone(), rotations, &[8]);
            let slots = B::bucket_sort(buckets, 8, layout);
            let rules = TiledAttention {
                tile: TileShape {
                    length: 8,
                    before,
                    after: 0,
                    wrap: false,
                },
                keys,
                duplicates: Duplicates::Exact,
                causal: true,
                exclude_self: true,
                dropout: None,
            };
            let found = B::tiled_attention(qkv(), &slots, &rules);
            let found = numbers(found.output);
            let squares = found.iter().zip(&full).map(|(f, e)| (f - e).powi(2));
            let error = (squares.sum::<f64>() / full.len() as f64).sqrt();
            println!("{name}: {n_rounds} rounds, rms error to full attention {error:.4}");
            assert!(error < last, "{name}: the error grew at {n_rounds} rounds");
            last = error;
            first.get_or_insert(error);
        }
        let gain = first.unwrap_or(0.0) / last;
        assert!(
            gain > 8.0,
            "{name}: 64 rounds are only {gain:.1} times closer"
        );
    }
}

crate::on_cpu_backends!(
    kernel_agrees_with_the_definition,
    backward_agrees_with_autodiff,
    full_attention_is_one_tile,
    attention_to_another_sequence_is_a_softmax,
    rounds_converge_to_full_attention,
);
