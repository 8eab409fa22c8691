//! Decoding: attention of the newest positions, with the kernels for whole sequences.
//!
//! In a tile of a whole sequence, the result of a query does not depend on other queries, and
//! masked keys add exact zeros at the end of sums. So a tile with only the newest query and its
//! visible keys gives the same bits.

use burn::tensor::{Tensor, TensorPrimitive};
use rayon::prelude::*;

use super::attention::joined;
use super::element::{Element, with_element};
use super::head::{self, HeadOutput, HeadRows, Rules, Tiles};
use super::host::{Floats, Host, tensor};
use super::tile::Tile;
use crate::kernels::{KeyRule, Keys, Qkv, VisibleKeys, reference};
use crate::random::Dropout;

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
        let heads = keys.par_chunks_mut((seq_length * d).max(1)).enumerate();
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
    seen: &[VisibleKeys],
    exclude_self: bool,
) -> Tensor<B, 4> {
    with_element!(q.dtype(), E => decode::<B, E>(q, [k, v], seen, exclude_self))
}

fn decode<B: Host, E: Element>(
    q: Tensor<B, 4>,
    [k, v]: [Tensor<B, 4>; 2],
    seen: &[VisibleKeys],
    exclude_self: bool,
) -> Tensor<B, 4> {
    let [batch_size, n_heads, ..] = q.dims();
    let [.., d_v] = v.dims();
    let (device, dtype) = (q.device(), q.dtype());
    let [q, k, v] = [q, k, v].map(Floats::<B, 4, E>::rows_of);
    let n = batch_size * n_heads;
    let rules = Rules {
        causal: false,
        exclude_self,
        keys: KeyRule::Across,
        padded: None,
        places: None,
    };
    let of_head = |number: usize| {
        let seen = &seen[number * seen.len() / n];
        let rows = HeadRows {
            q: q.head(number).first_everywhere(),
            k: k.head(number),
            unit_keys: None,
            v: v.head(number),
        };
        let mut output = vec![0.0; d_v];
        let to = HeadOutput {
            first: seen.own as usize,
            output: &mut output,
            max: &mut [f32::NEG_INFINITY],
            sum: &mut [0.0],
        };
        let tiles = Newest {
            seen,
            rules: &rules,
        };
        head::forward(&tiles, 1, &rows, to);
        output
    };
    let heads = (0..n).into_par_iter().map(of_head).collect();
    joined::<E, B>(heads, [batch_size, n_heads, 1, d_v], dtype, &device)
}

/// One head, with a tile for each part.
struct Newest<'a> {
    seen: &'a VisibleKeys,
    rules: &'a Rules<'a>,
}

impl Tiles for Newest<'_> {
    fn rules(&self) -> &Rules<'_> {
        self.rules
    }

    fn n_tiles(&self) -> usize {
        self.seen.ends.len()
    }

    fn place(&self, number: usize, tile: &mut Tile) {
        let part = self.seen.part(number);
        tile.start(core::iter::once(self.seen.own));
        tile.push_keys(self.seen.keys[part.clone()].iter().copied());
        tile.finish(0, self.rules);
        if let Some(counts) = self.seen.counts.get(part) {
            tile.counts.extend_from_slice(counts);
        }
    }

    fn dropout(&self, _number: usize, _tile: &Tile, _query: usize) -> Option<(Dropout, usize)> {
        None
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
