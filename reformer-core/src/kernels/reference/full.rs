//! Exact attention over all positions, a slice of queries at a time.

use burn::tensor::backend::Backend;
use burn::tensor::{Bool, Int, Tensor};

use super::keys::{key_rows, through_keys};
use super::tile::Tile;
use crate::kernels::{
    AttentionGradients, AttentionOutput, Masking, Prepared, Qkv, ReformerBackend,
};
use crate::precision::widen;

/// Logits of a slice for each batch row and head: a slice takes this many floats, whatever the
/// sequence length.
const LOGITS_AT_ONCE: usize = 1 << 20;

/// Number of queries in a slice.
pub(in crate::kernels) fn slice_length(seq_length: usize, n_keys: usize) -> usize {
    (LOGITS_AT_ONCE / n_keys).clamp(1, seq_length)
}

/// `[start, end)` of each slice of queries, with its index.
fn slices(
    seq_length: usize,
    n_keys: usize,
) -> impl Iterator<Item = (u64, core::ops::Range<usize>)> {
    let length = slice_length(seq_length, n_keys);
    (0..seq_length)
        .step_by(length)
        .map(move |start| start..(start + length).min(seq_length))
        .enumerate()
        .map(|(number, range)| (number as u64, range))
}

fn rows<B: Backend>(tensor: &Tensor<B, 4>, range: &core::ops::Range<usize>) -> Tensor<B, 5> {
    tensor.clone().slice_dim(2, range.clone()).unsqueeze_dim(2)
}

fn tile<B: ReformerBackend>(
    q: &Tensor<B, 4>,
    k: &Tensor<B, 4>,
    v: &Tensor<B, 4>,
    masking: &Masking<B>,
    (number, range): (u64, core::ops::Range<usize>),
) -> Tile<B> {
    let [batch_size, n_heads, ..] = q.dims();
    let device = q.device();
    let n_queries = range.len();
    let positions = |range: core::ops::Range<usize>| {
        Tensor::<B, 1, Int>::arange(range.start as i64..range.end as i64, &device)
    };
    let queries = positions(range.clone()).reshape([1, 1, 1, n_queries, 1]);
    // Slices are causal by their shape too: later keys are not read.
    let n_keys = if masking.causal {
        range.end
    } else {
        k.dims()[2]
    };
    let keys = positions(0..n_keys).reshape([1, 1, 1, 1, n_keys]);
    let mask_shape = [1, 1, 1, n_queries, n_keys];
    let queries = queries.expand(mask_shape);
    let keys = keys.expand(mask_shape);

    let future: Option<Tensor<B, 5, Bool>> = masking
        .causal
        .then(|| keys.clone().greater(queries.clone()));
    let padding = masking.mask_pad.clone().map(|mask| {
        mask.slice_dim(1, 0..n_keys)
            .reshape([batch_size, 1, 1, 1, n_keys])
            .expand([batch_size, 1, 1, n_queries, n_keys])
    });
    let forbidden = match (future, padding) {
        (Some(future), Some(padding)) => {
            let shape = padding.dims();
            Some(future.expand(shape).bool_or(padding))
        }
        (future, padding) => future.or(padding),
    };
    let all_keys = 0..n_keys;
    Tile {
        q: rows(q, &range),
        k: rows(k, &all_keys),
        v: rows(v, &all_keys),
        forbidden,
        itself: masking.exclude_self.then(|| keys.equal(queries)),
        log_count: None,
        dropout: masking.dropout.map(|(rate, key)| {
            let shape = [batch_size, n_heads, 1, n_queries, n_keys];
            B::dropout_factors(shape, rate, key.fold(number), &device)
        }),
    }
}

/// See [`ReformerBackend::full_attention`].
pub fn full_attention<B: ReformerBackend>(qkv: Qkv<B>, masking: &Masking<B>) -> AttentionOutput<B> {
    masking.check(&qkv);
    let (k, Qkv { q, v, .. }) = (key_rows(&qkv), qkv);
    let (outputs, lses): (Vec<_>, Vec<_>) = slices(q.dims()[2], k.dims()[2])
        .map(|slice| {
            let (output, lse) = tile(&q, &k, &v, masking, slice).forward();
            (output.squeeze_dim::<4>(2), lse.squeeze_dim::<4>(2))
        })
        .unzip();
    let max = Tensor::cat(lses, 2);
    AttentionOutput {
        output: Tensor::cat(outputs, 2).cast(v.dtype()),
        log_sum: max.zeros_like(),
        max,
        prepared: Prepared::default(),
    }
}

/// See [`ReformerBackend::full_attention_backward`].
pub fn full_attention_backward<B: ReformerBackend>(
    qkv: Qkv<B>,
    masking: &Masking<B>,
    output: AttentionOutput<B>,
    grad: Tensor<B, 4>,
) -> AttentionGradients<B> {
    masking.check(&qkv);
    let (q, k, v) = (&qkv.q, &key_rows(&qkv), &qkv.v);
    let delta = (widen(output.output) * widen(grad.clone())).sum_dim(3);
    let mut grad_q = Vec::new();
    let [mut grad_k, mut grad_v] = [k, v].map(|tensor| widen(tensor.zeros_like()));
    for slice in slices(q.dims()[2], k.dims()[2]) {
        let range = slice.1.clone();
        let tile = tile(q, k, v, masking, slice);
        let n_keys = tile.k.dims()[3];
        let grads = tile.backward(
            rows(&grad, &range),
            rows(&output.max, &range),
            rows(&output.log_sum, &range),
            rows(&delta, &range),
        );
        grad_q.push(grads.q.squeeze_dim::<4>(2));
        grad_k = add_rows(grad_k, n_keys, grads.k);
        grad_v = add_rows(grad_v, n_keys, grads.v);
    }
    through_keys(qkv, [Tensor::cat(grad_q, 2), grad_k, grad_v])
}

/// Adds to the first `n_rows` rows.
fn add_rows<B: Backend>(sum: Tensor<B, 4>, n_rows: usize, part: Tensor<B, 5>) -> Tensor<B, 4> {
    let [batch_size, n_heads, n_keys, d] = sum.dims();
    let part = part.squeeze_dim::<4>(2);
    if n_rows == n_keys {
        return sum + part;
    }
    let range = [0..batch_size, 0..n_heads, 0..n_rows, 0..d];
    let head = sum.clone().slice(range.clone());
    sum.slice_assign(range, head + part)
}
