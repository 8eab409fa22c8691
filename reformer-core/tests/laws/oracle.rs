//! The tiled kernel against brute force.
//!
//! The oracle is written from the definition of attention over a multiset of (round, slot)
//! occurrences: it looks at every pair of positions, in `f64`, and knows nothing of tiles being
//! gathered, streamed or masked.

use crate::common::{assert_close, integers, normal, numbers};
use burn::tensor::backend::Backend;
use burn::tensor::{Bool, Int, Tensor};
use burn_autodiff::Autodiff;
use reformer_core::Key;
use reformer_core::kernels::{
    Duplicates, KeyRule, Masking, ReformerBackend, SlotLayout, Slots, TileShape, TiledAttention,
    reference,
};

const SHAPE: [usize; 4] = [2, 2, 37, 5]; // batch_size, n_heads, seq_length, d_head
const N_BUCKETS: usize = 6;

struct Inputs<B: Backend> {
    qkv: [Tensor<B, 4>; 3],
    buckets: Tensor<B, 4, Int>,
    mask_pad: Option<Tensor<B, 2, Bool>>,
}

fn inputs<B: Backend>(n_rounds: usize, padded: bool) -> Inputs<B> {
    let [batch_size, n_heads, seq_length, _] = SHAPE;
    let q = normal(1, SHAPE);
    let k = normal(2, SHAPE);
    let v = normal(3, [batch_size, n_heads, seq_length, 7]);
    let buckets = integers(
        4,
        [batch_size, n_heads, n_rounds, seq_length],
        N_BUCKETS as u32,
    );
    let mask_pad = padded.then(|| {
        let positions = Tensor::<B, 1, Int>::arange(0..seq_length as i64, &Default::default());
        let second = positions.greater_equal_elem(30).reshape([1, seq_length]);
        let first = second.zeros_like();
        Tensor::cat(vec![first, second], 0)
    });
    Inputs {
        qkv: [q, k, v],
        buckets,
        mask_pad,
    }
}

/// Every rule there is: a name, the layout of slots and the rules.
fn cases() -> Vec<(String, SlotLayout, TiledAttention)> {
    let mut cases = Vec::new();
    for causal in [true, false] {
        for duplicates in [Duplicates::Exact, Duplicates::Keep] {
            for exclude_self in [true, false] {
                let after = usize::from(!causal);
                let mut case = |layout, keys, before, after, length| {
                    let tile = TileShape {
                        length,
                        before,
                        after,
                        wrap: false,
                    };
                    let rules = TiledAttention {
                        tile,
                        keys,
                        duplicates,
                        causal,
                        exclude_self,
                        dropout: None,
                    };
                    cases.push((format!("{rules:?}"), layout, rules));
                };
                case(SlotLayout::Dense(4), KeyRule::Across, 1, after, 4);
                case(SlotLayout::Dense(5), KeyRule::Across, 2, 0, 5);
                case(SlotLayout::Dense(4), KeyRule::SameBucket, 1, after, 4);
                case(
                    SlotLayout::BucketAligned(2),
                    KeyRule::Band(4),
                    2,
                    2 * after,
                    2,
                );
                case(SlotLayout::BucketAligned(3), KeyRule::Band(3), 1, after, 3);
            }
        }
    }
    cases
}

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

/// Rows of real positions: what a padded query gets is nobody's concern.
fn real_rows<B: Backend>(values: Vec<f64>, inputs: &Inputs<B>) -> Vec<f64> {
    let [_, n_heads, seq_length, _] = SHAPE;
    let Some(mask) = &inputs.mask_pad else {
        return values;
    };
    let padded: Vec<bool> = mask.clone().into_data().iter::<bool>().collect();
    let width = values.len() / (padded.len() * n_heads);
    values
        .chunks(width)
        .enumerate()
        .filter(|(row, _)| {
            let batch = row / (n_heads * seq_length);
            !padded[batch * seq_length + row % seq_length]
        })
        .flat_map(|(_, row)| row.to_vec())
        .collect()
}

fn slots<B: ReformerBackend>(inputs: &Inputs<B>, layout: SlotLayout) -> Slots<B> {
    B::bucket_sort(inputs.buckets.clone(), N_BUCKETS, layout).with_padding(inputs.mask_pad.clone())
}

fn kernel_agrees_with_the_definition<B: ReformerBackend>() {
    for (n_rounds, padded) in [(1, false), (2, true), (3, false), (5, true)] {
        let inputs = inputs::<B>(n_rounds, padded);
        for (name, layout, rules) in cases() {
            // A query that may see itself like any other key always sees something; one that may
            // not and is alone is the definition's special case. Padding without self-exclusion
            // can leave a padded query with nothing, and those rows are not compared.
            let slots = slots(&inputs, layout);
            let [q, k, v] = inputs.qkv.clone();
            let found = B::tiled_attention(q, k, v, &slots, &rules).output;
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
        let inputs = inputs::<Autodiff<B>>(n_rounds, padded);
        for (name, layout, rules) in cases() {
            for dropout in [None, Some((0.3, key))] {
                let rules = TiledAttention { dropout, ..rules };
                let slots = slots(&inputs, layout);
                let weight = normal::<Autodiff<B>, 4>(9, inputs.qkv[2].dims());
                let gradients = |explicit: bool| {
                    let qkv = inputs.qkv.clone().map(Tensor::require_grad);
                    let [q, k, v] = qkv.clone();
                    let output = if explicit {
                        Autodiff::<B>::tiled_attention(q, k, v, &slots, &rules).output
                    } else {
                        reference::tiled_attention(q, k, v, &slots, &rules).output
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

/// The kernel of the backend against the reference body, forward and backward.
fn kernel_agrees_with_the_reference<B: ReformerBackend>() {
    for (n_rounds, padded) in [(1, true), (3, false)] {
        let inputs = inputs::<B>(n_rounds, padded);
        let grad = normal::<B, 4>(9, inputs.qkv[2].dims());
        for (name, layout, rules) in cases() {
            let dropout = Some((0.25, Key::new(6)));
            let rules = TiledAttention { dropout, ..rules };
            let slots = slots(&inputs, layout);
            let [q, k, v] = inputs.qkv.clone();
            let qkv = || (q.clone(), k.clone(), v.clone());

            let (q1, k1, v1) = qkv();
            let expected = reference::tiled_attention(q1, k1, v1, &slots, &rules);
            let (q1, k1, v1) = qkv();
            let found = B::tiled_attention(q1, k1, v1, &slots, &rules);
            let values = numbers(found.output.clone());
            assert_close(&name, &values, &numbers(expected.output.clone()), 1e-5);

            let (q1, k1, v1) = qkv();
            let expected = reference::tiled_attention_backward(
                q1,
                k1,
                v1,
                &slots,
                &rules,
                expected,
                grad.clone(),
            );
            let (q1, k1, v1) = qkv();
            let found =
                B::tiled_attention_backward(q1, k1, v1, &slots, &rules, found, grad.clone());
            for (of, found, expected) in [
                ("q", found.q, expected.q),
                ("k", found.k, expected.k),
                ("v", found.v, expected.v),
            ] {
                let what = format!("{name}: {of}");
                assert_close(&what, &numbers(found), &numbers(expected), 1e-5);
            }
        }
    }
}

fn full_attention_is_one_tile<B: ReformerBackend>() {
    for padded in [false, true] {
        let inputs = inputs::<B>(1, padded);
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
            let [q, k, v] = inputs.qkv.clone();
            let found = B::full_attention(q, k, v, &masking).output;
            let expected = oracle(&inputs, SlotLayout::Dense(SHAPE[2]), &rules);
            let what = format!("causal {causal}, padded {padded}");
            let expected = real_rows(expected, &inputs);
            assert_close(&what, &real_rows(numbers(found), &inputs), &expected, 1e-5);
        }
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
    let full = numbers(B::full_attention(q.clone(), k.clone(), v.clone(), &masking).output);
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
            let found = B::tiled_attention(q.clone(), k.clone(), v.clone(), &slots, &rules);
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
    kernel_agrees_with_the_reference,
    full_attention_is_one_tile,
    rounds_converge_to_full_attention,
);
