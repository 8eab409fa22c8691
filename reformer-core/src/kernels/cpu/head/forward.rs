//! Forward: the softmax of each tile, merged into that of the head.

use super::prefetch::prefetch_rows;
use super::scratch::{SCRATCH, Scratch, drop};
use super::{HeadRows, Tiles, in_groups};
use crate::kernels::cpu::element::{Element, widened};
use crate::kernels::cpu::product::{Factor, Kernel, Left, WithKernel, product};
use crate::kernels::cpu::simd::{exp, padded, vectorized};
use crate::kernels::cpu::tile::{NOWHERE, Tile};

/// Softmax of a tile.
#[derive(Default)]
struct Attended {
    tile: Tile,
    /// `[queries, padded d_v]`, normalised within the tile except for the factor `scale`.
    output: Vec<f32>,
    /// Log-sum-exp of each query's logits.
    lse: Vec<f32>,
    /// Remaining factor of the rows of `output`.
    scale: Vec<f32>,
}

struct Forward<'a, T, E: Element> {
    tiles: &'a T,
    rows: &'a HeadRows<'a, E>,
    number: usize,
    scratch: &'a mut Scratch<E>,
    result: &'a mut Attended,
}

impl<T: Tiles, E: Element> WithKernel<E::Factor> for Forward<'_, T, E> {
    type Output = ();

    #[inline(always)]
    fn with_kernel<K: Kernel<Factor = E::Factor>>(self, kernel: K) {
        let Self {
            tiles,
            rows,
            number,
            scratch,
            result,
        } = self;
        let (tile, rules) = (&mut result.tile, tiles.rules());
        tiles.place(number, tile);
        if tile.keys.is_empty() {
            return;
        }
        let (m, w, d_v) = (tile.queries.len(), tile.keys.len(), padded(rows.v.d));
        let upcoming = tiles.upcoming(number);
        scratch.logits(
            kernel,
            tile,
            rows,
            prefetch_rows(upcoming, [rows.q, rows.v]),
        );
        scratch.draw_dropout(tiles, number, tile);
        let Scratch { weights, sums, .. } = scratch;
        tile.softmax(kernel.simd(), rules, weights, &mut result.lse, sums);
        drop(&mut scratch.weights, &scratch.dropout);
        result.output.resize(m * d_v, 0.0);
        // One term at a time, also in half precision: in pairs, a masked key in between would move the
        // others into other pairs, and a later token the last bits of earlier ones.
        let weights = Left::Columns(&scratch.weights, m);
        let v = widened(&mut scratch.wide, &scratch.v);
        let sizes = [m, w, d_v];
        product(kernel.simd(), &mut result.output, weights, v, sizes);
        result.scale.clone_from(&result.lse);
        for (lse, sum) in result.lse.iter_mut().zip(&scratch.sums) {
            *lse += sum.ln();
        }
        // Uses the rounded log-sum-exp, as in the reference.
        for (scale, lse) in result.scale.iter_mut().zip(&result.lse) {
            *scale = exp(*scale - lse);
        }
    }
}

/// Merges a softmax into a running one: its largest log-sum-exp and the sum of `exp(lse - max)`.
/// Returns the factors of the old values and of the new ones, whose own remaining factor is `scale`.
#[inline(always)]
pub(in crate::kernels::cpu) fn merge(
    max: &mut f32,
    sum: &mut f32,
    lse: f32,
    scale: f32,
) -> [f32; 2] {
    let largest = max.max(lse);
    let (old, new) = (exp(*max - largest), exp(lse - largest));
    *sum = *sum * old + new;
    *max = largest;
    [old, new * scale]
}

/// Merges a row of values, with the factors of [`merge`].
#[inline(always)]
pub(in crate::kernels::cpu) fn add_scaled(
    output: &mut [f32],
    values: &[f32],
    [old, new]: [f32; 2],
) {
    for (output, value) in output.iter_mut().zip(values) {
        *output = *output * old + value * new;
    }
}

/// Output of a head, and its running softmax.
pub(in crate::kernels::cpu) struct HeadOutput<'a> {
    /// Query of the first row.
    pub(in crate::kernels::cpu) first: usize,
    /// `[seq_length, d_v]`
    pub(in crate::kernels::cpu) output: &'a mut [f32],
    /// Largest log-sum-exp of a tile: `[seq_length]`.
    pub(in crate::kernels::cpu) max: &'a mut [f32],
    /// Sum of `exp(lse - max)`, finally its logarithm: `[seq_length]`.
    pub(in crate::kernels::cpu) sum: &'a mut [f32],
}

impl HeadOutput<'_> {
    /// Merges the result of a tile.
    ///
    /// Rows at random positions of a long sequence are not in cache. The second loop only reads and
    /// writes them, so that the processor can wait for many at a time.
    #[inline(always)]
    fn merge(&mut self, attended: &mut Attended, d_v: usize) {
        let Attended {
            tile,
            output,
            lse,
            scale,
        } = attended;
        for ((&query, lse), scale) in tile.queries.iter().zip(&mut *lse).zip(&mut *scale) {
            if query == NOWHERE {
                continue;
            }
            let row = query as usize - self.first;
            // From here on, the factors of the old and the new row.
            [*lse, *scale] = merge(&mut self.max[row], &mut self.sum[row], *lse, *scale);
        }
        let factors = lse.iter().zip(&*scale);
        let rows = output.chunks_exact(padded(d_v)).zip(factors);
        for (&query, (row, (&old, &new))) in tile.queries.iter().zip(rows) {
            if query == NOWHERE {
                continue;
            }
            let place = query as usize - self.first;
            let output = &mut self.output[place * d_v..][..d_v];
            add_scaled(output, row, [old, new]);
        }
    }

    /// Divides the sums of weighted values by the sums of the weights.
    #[inline(always)]
    fn normalise(&mut self, d_v: usize) {
        for (output, sum) in self.output.chunks_exact_mut(d_v).zip(&mut *self.sum) {
            for value in output {
                *value /= *sum;
            }
            *sum = sum.ln();
        }
    }
}

/// Computes attention, `at_once` tiles at a time. `to` holds zeros and, as `max`, minus infinity.
pub(in crate::kernels::cpu) fn forward<E: Element>(
    tiles: &impl Tiles,
    at_once: usize,
    rows: &HeadRows<E>,
    mut to: HeadOutput,
) {
    let d_v = rows.v.d;
    in_groups(
        tiles,
        at_once,
        |number, result: &mut Attended| {
            SCRATCH.with_borrow_mut(|scratch| {
                E::Factor::dispatch(Forward {
                    tiles,
                    rows,
                    number,
                    scratch: E::scratch(scratch),
                    result,
                });
            });
        },
        |attended| {
            vectorized(
                #[inline(always)]
                || to.merge(attended, d_v),
            )
        },
    );
    vectorized(
        #[inline(always)]
        || to.normalise(d_v),
    );
}
