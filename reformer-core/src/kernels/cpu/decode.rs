//! Decoding: attention of the newest positions, with the kernels for whole sequences.
//!
//! In a tile of a whole sequence, the result of a query does not depend on other queries, and
//! masked keys add exact zeros at the end of sums. So the same arithmetic for only the newest query
//! and its visible keys gives the same bits.

use core::ops::Range;

use burn::tensor::{Tensor, TensorPrimitive};
use rayon::prelude::*;

use super::attention::joined;
use super::element::{Element, widened, with_element};
use super::head::{self, SCRATCH, Scratch, add_scaled, gather, merge};
use super::host::{Floats, Host, Rows, tensor};
use super::product::{Factor, Kernel, Left, WithKernel, product};
use super::simd::{exp, padded};
use super::tile::NOWHERE;
use crate::kernels::reference::SELF;
use crate::kernels::{Keys, Qkv, VisibleKeys, items_of_task, reference};

/// See [`ReformerBackend::key_rows`](crate::kernels::ReformerBackend::key_rows).
pub(in crate::kernels) fn key_rows<B: Host>(qkv: &Qkv<B>) -> Tensor<B, 4> {
    let length = match &qkv.keys {
        Keys::Own(k) => return k.clone(),
        Keys::UnitQueries(length) => *length,
    };
    let shape @ [_, _, seq_length, d] = qkv.q.dims();
    let (device, dtype) = (qkv.q.device(), qkv.q.dtype());
    with_element!(dtype, E => {
        let q = Floats::<B, 4, E>::rows_of(qkv.q.clone());
        let mut keys = vec![E::default(); shape.iter().product()];
        let of_head = (seq_length * d).max(1);
        let heads = keys.par_chunks_mut(of_head).enumerate();
        let heads = heads.with_min_len(items_of_task(of_head));
        heads.for_each(|(number, keys)| {
            let q = q.head(number);
            let mut scales = vec![0.0; seq_length];
            head::key_scales(q, length, &mut scales);
            for ((position, key), scale) in keys.chunks_exact_mut(d).enumerate().zip(scales) {
                for (key, q) in key.iter_mut().zip(q.row(position)) {
                    *key = E::narrow(q.wide() * scale);
                }
            }
        });
        tensor(keys, shape, dtype, &device)
    })
}

/// See [`ReformerBackend::write_rows`](crate::kernels::ReformerBackend::write_rows).
pub(in crate::kernels) fn write_rows<B: Host>(
    cache: Tensor<B, 4>,
    rows: &[usize],
    values: Tensor<B, 4>,
) -> Tensor<B, 4> {
    let ([_, n_heads, n_rows, d], dtype) = (cache.dims(), cache.dtype());
    let mut primitive = cache.into_primitive().tensor();
    with_element!(dtype, E => {
        let Some(memory) = B::lend_mut::<E>(&mut primitive) else {
            let cache = Tensor::from_primitive(TensorPrimitive::Float(primitive));
            return reference::write_rows(cache, rows, values);
        };
        let values = Floats::<B, 4, E>::rows_of(values);
        for (number, head) in memory.chunks_exact_mut(n_rows * d).enumerate() {
            let row = rows[number / n_heads];
            head[row * d..][..d].copy_from_slice(values.head(number).row(0));
        }
    });
    Tensor::from_primitive(TensorPrimitive::Float(primitive))
}

/// See [`ReformerBackend::decode_attention`](crate::kernels::ReformerBackend::decode_attention).
pub(in crate::kernels) fn decode_attention<B: Host>(
    q: Tensor<B, 4>,
    [k, v]: [Tensor<B, 4>; 2],
    visible: &[VisibleKeys],
    exclude_self: bool,
) -> Tensor<B, 4> {
    with_element!(q.dtype(), E => decode::<B, E>(q, [k, v], visible, exclude_self))
}

fn decode<B: Host, E: Element>(
    q: Tensor<B, 4>,
    [k, v]: [Tensor<B, 4>; 2],
    visible: &[VisibleKeys],
    exclude_self: bool,
) -> Tensor<B, 4> {
    let [batch_size, n_heads, _, d] = q.dims();
    let [.., d_v] = v.dims();
    let (device, dtype) = (q.device(), q.dtype());
    let [q, k, v] = [q, k, v].map(Floats::<B, 4, E>::rows_of);
    let n = batch_size * n_heads;
    let of_head = |number: usize| {
        let mut output = vec![0.0; d_v];
        SCRATCH.with_borrow_mut(|scratch| {
            E::Factor::dispatch(Newest {
                q: q.head(number),
                k: k.head(number),
                v: v.head(number),
                visible: &visible[number * visible.len() / n],
                exclude_self,
                scratch: E::scratch(scratch),
                output: &mut output,
            });
        });
        output
    };
    let n_keys = visible.iter().map(|visible| visible.keys.len()).max();
    let heads = (0..n)
        .into_par_iter()
        .with_min_len(items_of_task(n_keys.unwrap_or(0) * (d + d_v)))
        .map(of_head)
        .collect();
    joined::<E, B>(heads, [batch_size, n_heads, 1, d_v], dtype, &device)
}

/// The newest position of a head.
struct Newest<'a, E: Element> {
    q: Rows<'a, E>,
    k: Rows<'a, E>,
    v: Rows<'a, E>,
    visible: &'a VisibleKeys,
    exclude_self: bool,
    scratch: &'a mut Scratch<E>,
    /// Zeros: `[d_v]`.
    output: &'a mut [f32],
}

impl<E: Element> WithKernel<E::Factor> for Newest<'_, E> {
    type Output = ();

    /// The arithmetic of [`head::forward`](super::head::forward) and its tiles in the same order.
    /// Lanes are keys: with queries in them, as in a tile, one of sixteen would be in use.
    #[inline(always)]
    fn with_kernel<K: Kernel<Factor = E::Factor>>(mut self, kernel: K) {
        gather(&mut self.scratch.q, &[0], self.q, None);
        let (mut largest, mut total) = (f32::NEG_INFINITY, 0.0);
        let mut keys = Vec::new();
        for number in 0..self.visible.ends.len() {
            let part = self.visible.part(number);
            if part.is_empty() {
                continue;
            }
            keys.clear();
            keys.extend_from_slice(&self.visible.keys[part.clone()]);
            let [lse, scale] = self.attend(kernel, part, &mut keys);
            let factors = merge(&mut largest, &mut total, lse, scale);
            add_scaled(self.output, &self.scratch.sums, factors);
        }
        for value in self.output {
            *value /= total;
        }
    }
}

impl<E: Element> Newest<'_, E> {
    /// Attention to a part of the visible keys, whose rows are `keys`. Leaves the sum of weighted
    /// values in [`Scratch::sums`]; returns the log-sum-exp and the remaining factor of the sum.
    #[inline(always)]
    fn attend<K: Kernel<Factor = E::Factor>>(
        &mut self,
        kernel: K,
        part: Range<usize>,
        keys: &mut Vec<u32>,
    ) -> [f32; 2] {
        let Self {
            q,
            k,
            v,
            visible,
            exclude_self,
            scratch,
            ..
        } = self;
        let (w, d_v) = (keys.len(), padded(v.d));
        keys.resize(padded(w), NOWHERE);
        gather(&mut scratch.k, keys, *k, None);
        gather(&mut scratch.v, &keys[..w], *v, None);
        scratch.weights.resize(keys.len(), 0.0);
        scratch.logits_of_row(kernel, q.d, keys.len());
        let weights = &mut scratch.weights[..w];
        if *exclude_self {
            for (logit, &key) in weights.iter_mut().zip(&*keys) {
                *logit = if key == visible.own { SELF } else { *logit };
            }
        }
        let max = weights.iter().fold(
            f32::NEG_INFINITY,
            |max, &logit| {
                if logit > max { logit } else { max }
            },
        );
        for logit in &mut *weights {
            *logit = exp(*logit - max);
        }
        if let Some(counts) = visible.counts.get(part) {
            for (weight, count) in weights.iter_mut().zip(counts) {
                *weight /= count;
            }
        }
        let sum = weights.iter().fold(0.0, |sum, weight| sum + weight);
        scratch.sums.resize(d_v, 0.0);
        let values = widened(&mut scratch.wide, &scratch.v);
        let weights = Left::Rows(weights, w);
        let sizes = [1, w, d_v];
        product(kernel.simd(), &mut scratch.sums, weights, values, sizes);
        let lse = max + sum.ln();
        [lse, exp(max - lse)]
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{assert_close, numbers, on_both_backends};
    use super::*;
    use crate::kernels::ReformerBackend;

    on_both_backends!(kernel_is_the_reference rows_are_written_and_nothing_else);

    fn seen(own: u32, parts: &[&[u32]], once: bool) -> VisibleKeys {
        let mut seen = VisibleKeys {
            own,
            ..VisibleKeys::default()
        };
        for part in parts {
            seen.keys.extend_from_slice(part);
            seen.end_part();
        }
        if once {
            seen.count_once();
        }
        seen
    }

    fn kernel_is_the_reference<B: ReformerBackend>() {
        let rows =
            |d: usize, n: usize, seed| numbers::<B>(2 * 2 * n * d, seed).reshape([2, 2, n, d]);
        let [q, k, v] = [rows(5, 1, 1), rows(5, 20, 2), rows(7, 20, 3)];
        let each_head = [
            seen(9, &[&[3, 1, 9], &[1, 2, 9]], true),
            seen(9, &[&[9], &[9], &[9]], true),
            seen(4, &[&[0, 1, 2, 3, 4]], false),
            seen(19, &[&[19], &[7, 7, 8, 19]], false),
        ];
        let each_sequence = [
            seen(2, &[&[0, 1], &[2]], false),
            seen(19, &[&[0, 5, 19]], false),
        ];
        for seen in [&each_head[..], &each_sequence] {
            for exclude_self in [true, false] {
                let input = || (q.clone(), [k.clone(), v.clone()]);
                let (q, cache) = input();
                let found = B::decode_attention(q, cache, seen, exclude_self);
                let (q, cache) = input();
                let expected = reference::decode_attention(q, cache, seen, exclude_self);
                assert_close(&found.into_data(), &expected.into_data(), 0);
            }
        }
    }

    fn rows_are_written_and_nothing_else<B: ReformerBackend>() {
        let cache = || numbers::<B>(2 * 3 * 4 * 5, 1).reshape([2, 3, 4, 5]);
        let values = || {
            numbers::<B>(2 * 3 * 5, 2)
                .reshape([2, 1, 3, 5])
                .swap_dims(1, 2)
        };
        let expected = reference::write_rows(cache(), &[3, 0], values()).into_data();
        let shared = cache();
        let kept = shared.to_data();
        let found = B::write_rows(shared.clone(), &[3, 0], values()).into_data();
        assert_eq!(found, expected);
        assert_eq!(shared.into_data(), kept, "what others hold must stay");
        assert_eq!(
            B::write_rows(cache(), &[3, 0], values()).into_data(),
            expected
        );
    }
}
