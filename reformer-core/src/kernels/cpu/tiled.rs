//! Tiled attention, forward and backward, one head after another.

use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use rayon::prelude::*;

use super::tile::{Head, Tile, gather, product, scatter_add};
use super::{floats, integers, tensor};
use crate::kernels::{AttentionGradients, AttentionOutput, Slots, TiledAttention};

/// Integer data of all heads on the host.
struct Places {
    order: Vec<i32>,
    slot_of: Vec<i32>,
    buckets: Vec<i32>,
    padded: Option<Vec<bool>>,
    n_heads: usize,
    n_rounds: usize,
    n_slots: usize,
    seq_length: usize,
}

impl Places {
    fn new<B: Backend>(slots: &Slots<B>) -> Self {
        let [_, n_heads, n_rounds, n_slots] = slots.order.dims();
        Self {
            order: integers(&slots.order),
            slot_of: integers(&slots.slot_of),
            buckets: integers(&slots.buckets),
            padded: slots
                .mask_pad
                .as_ref()
                .map(|mask| mask.to_data().iter::<bool>().collect()),
            n_heads,
            n_rounds,
            n_slots,
            seq_length: slots.slot_of.dims()[3],
        }
    }

    fn head<'a>(&'a self, number: usize, rules: &'a TiledAttention) -> Head<'a> {
        let rows = |numbers: &'a [i32], width: usize| {
            let size = self.n_rounds * width;
            &numbers[number * size..(number + 1) * size]
        };
        let batch = number / self.n_heads;
        Head {
            rules,
            number,
            n_rounds: self.n_rounds,
            n_slots: self.n_slots,
            seq_length: self.seq_length,
            order: rows(&self.order, self.n_slots),
            slot_of: rows(&self.slot_of, self.seq_length),
            buckets: rows(&self.buckets, self.seq_length),
            padded: self
                .padded
                .as_ref()
                .map(|padded| &padded[batch * self.seq_length..(batch + 1) * self.seq_length]),
        }
    }
}

/// Every tile of every round of a head.
fn tiles(head: &Head) -> impl Iterator<Item = (usize, usize)> + use<> {
    let n_tiles = head.n_slots / head.rules.tile.length;
    (0..head.n_rounds).flat_map(move |round| (0..n_tiles).map(move |tile| (round, tile)))
}

/// See [`ReformerBackend::tiled_attention`](crate::kernels::ReformerBackend::tiled_attention).
pub(in crate::kernels) fn tiled_attention<B: Backend>(
    q: Tensor<B, 4>,
    k: Tensor<B, 4>,
    v: Tensor<B, 4>,
    slots: &Slots<B>,
    rules: &TiledAttention,
) -> AttentionOutput<B> {
    let [batch_size, n_heads, seq_length, d] = q.dims();
    let d_v = v.dims()[3];
    let device = q.device();
    let places = Places::new(slots);
    let (q, k, v) = (floats(q), floats(k), floats(v));
    let n_rows = batch_size * n_heads * seq_length;
    let mut output = vec![0.0; n_rows * d_v];
    let mut max = vec![f32::NEG_INFINITY; n_rows];
    let mut log_sum = vec![0.0; n_rows];
    output
        .par_chunks_mut(seq_length * d_v)
        .zip(max.par_chunks_mut(seq_length))
        .zip(log_sum.par_chunks_mut(seq_length))
        .enumerate()
        .for_each(|(number, ((output, max), sum))| {
            let rows = |values, d| head_rows(values, number, seq_length, d);
            let qkv = [rows(&q, d), rows(&k, d), rows(&v, d_v)];
            let head = places.head(number, rules);
            forward_head(&head, qkv, [d, d_v], output, max, sum);
        });
    let stats = [batch_size, n_heads, seq_length, 1];
    let output = AttentionOutput {
        output: tensor(output, [batch_size, n_heads, seq_length, d_v], &device),
        max: tensor(max, stats, &device),
        log_sum: tensor(log_sum, stats, &device),
    };
    if rules.tile.wrap && places.n_rounds > 1 {
        return output.rounded_like_the_peers();
    }
    output
}

fn head_rows(values: &[f32], head: usize, seq_length: usize, d: usize) -> &[f32] {
    &values[head * seq_length * d..(head + 1) * seq_length * d]
}

/// Softmax over all rounds of a head, running: `max` and `sum` hold the largest log-sum-exp of a
/// round so far and the sum of `exp(lse - max)`; `sum` ends as its logarithm.
fn forward_head(
    head: &Head,
    qkv: [&[f32]; 3],
    [d, d_v]: [usize; 2],
    output: &mut [f32],
    max: &mut [f32],
    sum: &mut [f32],
) {
    let mut tile = Tile::new();
    let mut attended = Vec::new();
    let mut lses = Vec::new();
    for (round, number) in tiles(head) {
        tile.place(head, round, number);
        tile.gather(qkv, [d, d_v]);
        tile.compute_logits(head, round, d);
        tile.draw_dropout(head, round, number);
        let (m, w) = (tile.queries.len(), tile.keys.len());
        lses.clear();
        for row in tile.logits.chunks_exact_mut(w) {
            lses.push(softmax(row));
        }
        let mut weights = core::mem::take(&mut tile.logits);
        tile.drop(&mut weights);
        attended.resize(m * d_v, 0.0);
        product(
            &mut attended,
            [m, w, d_v],
            (&weights, [w, 1]),
            (&tile.v, [d_v, 1]),
        );
        tile.logits = weights;

        for (i, &query) in tile.queries.iter().enumerate() {
            let Ok(query) = usize::try_from(query) else {
                continue;
            };
            let largest = max[query].max(lses[i]);
            let (old, new) = ((max[query] - largest).exp(), (lses[i] - largest).exp());
            sum[query] = sum[query] * old + new;
            max[query] = largest;
            let output = &mut output[query * d_v..(query + 1) * d_v];
            let row = &attended[i * d_v..(i + 1) * d_v];
            for (output, value) in output.iter_mut().zip(row) {
                *output = *output * old + value * new;
            }
        }
    }
    for (output, sum) in output.chunks_exact_mut(d_v).zip(sum.iter_mut()) {
        output.iter_mut().for_each(|value| *value /= *sum);
        *sum = sum.ln();
    }
}

/// Turns logits into weights and gives their log-sum-exp.
fn softmax(row: &mut [f32]) -> f32 {
    let max = row
        .iter()
        .fold(f32::NEG_INFINITY, |max, &logit| max.max(logit));
    let mut sum = 0.0;
    for logit in row.iter_mut() {
        *logit = (*logit - max).exp();
        sum += *logit;
    }
    let lse = max + sum.ln();
    // By the rounded log-sum-exp, as in the reference.
    let scale = (max - lse).exp();
    row.iter_mut().for_each(|weight| *weight *= scale);
    lse
}

/// What backward of a head reads.
struct Upstream<'a> {
    qkv: [&'a [f32]; 3],
    grad: &'a [f32],
    output: &'a [f32],
    max: &'a [f32],
    log_sum: &'a [f32],
}

/// See [`ReformerBackend::tiled_attention_backward`](crate::kernels::ReformerBackend::tiled_attention_backward).
pub(in crate::kernels) fn tiled_attention_backward<B: Backend>(
    q: Tensor<B, 4>,
    k: Tensor<B, 4>,
    v: Tensor<B, 4>,
    slots: &Slots<B>,
    rules: &TiledAttention,
    output: AttentionOutput<B>,
    grad: Tensor<B, 4>,
) -> AttentionGradients<B> {
    let shape @ [_, _, seq_length, d] = q.dims();
    let v_shape @ [_, _, _, d_v] = v.dims();
    let device = q.device();
    let places = Places::new(slots);
    let (q, k, v, grad) = (floats(q), floats(k), floats(v), floats(grad));
    let (max, log_sum) = (floats(output.max), floats(output.log_sum));
    let output = floats(output.output);
    let (mut dq, mut dk, mut dv) = (vec![0.0; q.len()], vec![0.0; k.len()], vec![0.0; v.len()]);
    dq.par_chunks_mut(seq_length * d)
        .zip(dk.par_chunks_mut(seq_length * d))
        .zip(dv.par_chunks_mut(seq_length * d_v))
        .enumerate()
        .for_each(|(number, ((dq, dk), dv))| {
            let rows = |values, d| head_rows(values, number, seq_length, d);
            let upstream = Upstream {
                qkv: [rows(&q, d), rows(&k, d), rows(&v, d_v)],
                grad: rows(&grad, d_v),
                output: rows(&output, d_v),
                max: rows(&max, 1),
                log_sum: rows(&log_sum, 1),
            };
            let head = places.head(number, rules);
            backward_head(&head, &upstream, [d, d_v], [dq, dk, dv]);
        });
    AttentionGradients {
        q: tensor(dq, shape, &device),
        k: tensor(dk, shape, &device),
        v: tensor(dv, v_shape, &device),
    }
}

/// The formulae are those of the reference's tile.
fn backward_head(
    head: &Head,
    upstream: &Upstream,
    [d, d_v]: [usize; 2],
    [dq, dk, dv]: [&mut [f32]; 3],
) {
    let mut tile = Tile::new();
    let (mut grad, mut grad_weights) = (Vec::new(), Vec::new());
    let mut rows = Vec::new();
    for (round, number) in tiles(head) {
        tile.place(head, round, number);
        tile.gather(upstream.qkv, [d, d_v]);
        tile.compute_logits(head, round, d);
        tile.draw_dropout(head, round, number);
        let (m, w) = (tile.queries.len(), tile.keys.len());
        gather(&mut grad, &tile.queries, upstream.grad, d_v);

        let mut weights = core::mem::take(&mut tile.logits);
        for (row, &query) in weights.chunks_exact_mut(w).zip(&tile.queries) {
            match usize::try_from(query) {
                Ok(query) => {
                    let (max, log_sum) = (upstream.max[query], upstream.log_sum[query]);
                    row.iter_mut()
                        .for_each(|logit| *logit = (*logit - max - log_sum).exp());
                }
                Err(_) => row.fill(0.0),
            }
        }
        grad_weights.resize(m * w, 0.0);
        product(
            &mut grad_weights,
            [m, d_v, w],
            (&grad, [d_v, 1]),
            (&tile.v, [1, d_v]),
        );
        tile.drop(&mut grad_weights);
        for (i, &query) in tile.queries.iter().enumerate() {
            let Ok(at) = usize::try_from(query) else {
                continue;
            };
            let features = at * d_v..(at + 1) * d_v;
            let pairs = upstream.grad[features.clone()]
                .iter()
                .zip(&upstream.output[features]);
            let delta: f32 = pairs.map(|(grad, output)| grad * output).sum();
            let row = i * w..(i + 1) * w;
            for ((grad, weight), &key) in grad_weights[row.clone()]
                .iter_mut()
                .zip(&weights[row])
                .zip(&tile.keys)
            {
                let constant = head.rules.exclude_self && key == query;
                *grad = if constant {
                    0.0
                } else {
                    weight * (*grad - delta)
                };
            }
        }
        // Rows of empty queries: no weight, so nothing to hand on.
        for (row, &query) in grad_weights.chunks_exact_mut(w).zip(&tile.queries) {
            if query < 0 {
                row.fill(0.0);
            }
        }

        rows.resize(m * d, 0.0);
        product(
            &mut rows,
            [m, w, d],
            (&grad_weights, [w, 1]),
            (&tile.k, [d, 1]),
        );
        scatter_add(dq, &tile.queries, &rows, d);
        rows.resize(w * d, 0.0);
        product(
            &mut rows,
            [w, m, d],
            (&grad_weights, [1, w]),
            (&tile.q, [d, 1]),
        );
        scatter_add(dk, &tile.keys, &rows, d);
        tile.drop(&mut weights);
        rows.resize(w * d_v, 0.0);
        product(
            &mut rows,
            [w, m, d_v],
            (&weights, [1, w]),
            (&grad, [d_v, 1]),
        );
        scatter_add(dv, &tile.keys, &rows, d_v);
        tile.logits = weights;
    }
}
