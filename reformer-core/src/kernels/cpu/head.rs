//! One head of attention as a list of tiles: forward and backward, whatever the tiles are.
//!
//! Tiles are computed in parallel, some at a time, and what they give is added up in their order
//! by the one thread that owns the head. So no number depends on the threads, no memory is shared,
//! and nothing larger than a few tiles exists beside inputs and outputs.

use core::cell::RefCell;

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::host::Rows;
use super::simd::{Left, dot, exp, padded, product, transpose};
use super::tile::{NOWHERE, Tile};
use crate::kernels::{KEY_EPSILON, KeyRule};
use crate::random::Dropout;

/// Tiles whose results exist at a time for each head.
const TILES_AT_ONCE: usize = 16;

/// Rules between queries and keys of one head.
pub(super) struct Rules<'a> {
    pub(super) causal: bool,
    pub(super) exclude_self: bool,
    pub(super) keys: KeyRule,
    /// `[seq_length]`
    pub(super) padded: Option<&'a [bool]>,
    /// Where positions stand, if anybody asks.
    pub(super) places: Option<Places>,
}

/// Where the positions of a head stand in all rounds: `[seq_length, n_rounds]` each.
pub(super) struct Places {
    pub(super) n_rounds: usize,
    /// Tiles or slots. A query sees a key if `place - place of key + after <= width`, unsigned.
    pub(super) places: Vec<u32>,
    /// Empty where nobody asks.
    pub(super) buckets: Vec<u32>,
    pub(super) after: u32,
    pub(super) width: u32,
    /// Whether keys count by the number of rounds in which they are seen.
    pub(super) count: bool,
}

/// The tiles of a head.
pub(super) trait Tiles: Sync {
    fn rules(&self) -> &Rules<'_>;

    fn n_tiles(&self) -> usize;

    /// Says who meets in tile `number`.
    fn place(&self, number: usize, tile: &mut Tile);

    /// The dropout of a query's weights in tile `number`, if there is any, and the number of its
    /// factor for the first slot in reach.
    fn dropout(&self, number: usize, tile: &Tile, query: usize) -> Option<(Dropout, usize)>;
}

/// Queries, keys and values of a head.
#[derive(Clone, Copy)]
pub(super) struct HeadRows<'a> {
    pub(super) q: Rows<'a>,
    pub(super) k: Rows<'a>,
    /// What rows of `k` are multiplied with to become keys; nothing if they are keys: `[seq_length]`.
    pub(super) key_scale: Option<&'a [f32]>,
    pub(super) v: Rows<'a>,
}

/// `length / |q|` for each query, so that keys have that length.
pub(super) fn key_scales(q: Rows, length: f64, scales: &mut [f32]) {
    let d = q.d as f32;
    Arch::new().dispatch(|| {
        for (position, scale) in scales.iter_mut().enumerate() {
            let row = q.row(position);
            let mean_square = dot(row, row) / d + KEY_EPSILON as f32;
            *scale = length as f32 / (mean_square.sqrt() * d.sqrt());
        }
    });
}

/// Rows at positions, padded with zeros to whole registers.
#[inline(always)]
fn gather(to: &mut Vec<f32>, positions: &[u32], rows: Rows, scales: Option<&[f32]>) {
    let width = padded(rows.d);
    to.resize(positions.len() * width, 0.0);
    for (to, &position) in to.chunks_exact_mut(width).zip(positions) {
        if position == NOWHERE {
            to.fill(0.0);
            continue;
        }
        let row = rows.row(position as usize);
        to[row.len()..].fill(0.0);
        // Times one is no less fast than a copy, which would be a call of `memcpy` for each row.
        let scale = scales.map_or(1.0, |scales| scales[position as usize]);
        for (to, from) in to.iter_mut().zip(row) {
            *to = from * scale;
        }
    }
}

/// Buffers of a thread, used for tile after tile.
#[derive(Default)]
struct Scratch {
    q: Vec<f32>,
    q_transposed: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    grad: Vec<f32>,
    grad_transposed: Vec<f32>,
    weights: Vec<f32>,
    grad_weights: Vec<f32>,
    dropout: Vec<f32>,
    sums: Vec<f32>,
    stats: [Vec<f32>; 3],
}

impl Scratch {
    /// Gathers rows and computes masked logits, `[keys, queries]`.
    #[inline(always)]
    fn logits<S: Simd>(&mut self, simd: S, tile: &Tile, rules: &Rules, rows: &HeadRows) {
        let (m, w, d) = (tile.queries.len(), tile.keys.len(), padded(rows.q.d));
        gather(&mut self.q, &tile.queries, rows.q, None);
        gather(&mut self.k, &tile.keys, rows.k, rows.key_scale);
        gather(&mut self.v, &tile.keys, rows.v, None);
        self.q_transposed.resize(m * d, 0.0);
        transpose(&mut self.q_transposed, &self.q, [m, d]);
        self.weights.resize(w * m, 0.0);
        let sizes = [w, rows.q.d, m];
        let k = Left::Rows(&self.k, d);
        product(simd, &mut self.weights, k, &self.q_transposed, sizes);
        tile.mask(simd, rules, &mut self.weights);
    }

    /// Draws factors of dropout, `[keys, queries]`; none where nothing is dropped.
    fn draw_dropout(&mut self, tiles: &impl Tiles, number: usize, tile: &Tile) {
        self.dropout.clear();
        let m = tile.queries.len();
        for query in 0..tile.n_queries {
            let Some((dropout, first)) = tiles.dropout(number, tile, query) else {
                return;
            };
            self.dropout.resize(m * tile.keys.len(), 0.0);
            self.sums.resize(tile.reach, 0.0);
            dropout.fill(first, &mut self.sums);
            for (key, &slot) in tile.key_slots.iter().enumerate() {
                self.dropout[key * m + query] = self.sums[slot as usize];
            }
        }
    }
}

/// Multiplies with the factors of dropout, if there are any.
#[inline(always)]
fn drop(values: &mut [f32], factors: &[f32]) {
    for (value, factor) in values.iter_mut().zip(factors) {
        *value *= factor;
    }
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// Computes tiles in parallel, some at a time, and hands their results on in order.
fn in_groups<T: Default + Send>(
    tiles: &impl Tiles,
    compute: impl Fn(usize, &mut T) + Sync,
    mut take: impl FnMut(&mut T),
) {
    let n_tiles = tiles.n_tiles();
    let mut group: Vec<T> = Vec::new();
    group.resize_with(n_tiles.min(TILES_AT_ONCE), T::default);
    for first in (0..n_tiles).step_by(TILES_AT_ONCE) {
        let group = &mut group[..TILES_AT_ONCE.min(n_tiles - first)];
        let numbered = group.par_iter_mut().enumerate();
        numbered.for_each(|(number, result)| compute(first + number, result));
        group.iter_mut().for_each(&mut take);
    }
}

/// Softmax of a tile.
#[derive(Default)]
struct Attended {
    tile: Tile,
    /// `[queries, padded d_v]`, normalised within the tile up to `scale`.
    output: Vec<f32>,
    /// Log-sum-exp of each query's logits.
    lse: Vec<f32>,
    /// What rows of `output` are yet to be multiplied with.
    scale: Vec<f32>,
}

struct Forward<'a, T> {
    tiles: &'a T,
    rows: &'a HeadRows<'a>,
    number: usize,
    scratch: &'a mut Scratch,
    result: &'a mut Attended,
}

impl<T: Tiles> WithSimd for Forward<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
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
        scratch.logits(simd, tile, rules, rows);
        tile.exp_below_max(&mut scratch.weights, &mut result.lse);
        tile.divide_by_counts(simd, rules, &mut scratch.weights);
        scratch.draw_dropout(tiles, number, tile);
        tile.sum_over_keys(&scratch.weights, &mut scratch.sums);
        drop(&mut scratch.weights, &scratch.dropout);
        result.output.resize(m * d_v, 0.0);
        let weights = Left::Columns(&scratch.weights, m);
        product(simd, &mut result.output, weights, &scratch.v, [m, w, d_v]);
        result.scale.clear();
        for (lse, sum) in result.lse.iter_mut().zip(&scratch.sums) {
            let max = *lse;
            *lse = max + sum.ln();
            // By the rounded log-sum-exp, as in the reference.
            result.scale.push(exp(max - *lse));
        }
    }
}

/// Output of a head, and its softmax so far.
pub(super) struct HeadOutput<'a> {
    /// `[seq_length, d_v]`
    pub(super) output: &'a mut [f32],
    /// Largest log-sum-exp of a tile: `[seq_length]`.
    pub(super) max: &'a mut [f32],
    /// Sum of `exp(lse - max)`, at the end its logarithm: `[seq_length]`.
    pub(super) sum: &'a mut [f32],
}

/// Attends. `to` holds zeros and, as `max`, minus infinity.
pub(super) fn forward(tiles: &impl Tiles, rows: &HeadRows, to: HeadOutput) {
    let d_v = rows.v.d;
    let HeadOutput { output, max, sum } = to;
    in_groups(
        tiles,
        |number, result: &mut Attended| {
            SCRATCH.with_borrow_mut(|scratch| {
                Arch::new().dispatch(Forward {
                    tiles,
                    rows,
                    number,
                    scratch,
                    result,
                });
            });
        },
        |result| {
            let attended = result.output.chunks_exact(padded(d_v));
            let queries = result.tile.queries.iter().zip(attended);
            for ((&query, row), (lse, scale)) in queries.zip(result.lse.iter().zip(&result.scale)) {
                if query == NOWHERE {
                    continue;
                }
                let query = query as usize;
                let largest = max[query].max(*lse);
                let (old, new) = (exp(max[query] - largest), exp(lse - largest));
                sum[query] = sum[query] * old + new;
                max[query] = largest;
                let new = new * scale;
                for (output, value) in output[query * d_v..][..d_v].iter_mut().zip(row) {
                    *output = *output * old + value * new;
                }
            }
        },
    );
    for (output, sum) in output.chunks_exact_mut(d_v).zip(sum) {
        output.iter_mut().for_each(|value| *value /= *sum);
        *sum = sum.ln();
    }
}

/// What backward of a head reads beside its inputs.
pub(super) struct Upstream<'a> {
    pub(super) grad: Rows<'a>,
    /// `[seq_length]` each
    pub(super) max: &'a [f32],
    pub(super) log_sum: &'a [f32],
    /// `D`, the products of gradients and outputs.
    pub(super) delta: &'a [f32],
}

/// Gradients of a tile.
#[derive(Default)]
struct Differentiated {
    tile: Tile,
    /// `[queries, padded d]`
    q: Vec<f32>,
    /// `[keys, padded d]`
    k: Vec<f32>,
    /// `[keys, padded d_v]`
    v: Vec<f32>,
}

struct Backward<'a, T> {
    tiles: &'a T,
    rows: &'a HeadRows<'a>,
    upstream: &'a Upstream<'a>,
    number: usize,
    scratch: &'a mut Scratch,
    result: &'a mut Differentiated,
}

impl<T: Tiles> WithSimd for Backward<'_, T> {
    type Output = ();

    /// With `p` the weights before and `P` after dropout: `dv = P^T do`, `ds = p (do v - D)`,
    /// `dq = ds k`, `dk = ds^T q`.
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self {
            tiles,
            rows,
            upstream,
            number,
            scratch,
            result,
        } = self;
        let (tile, rules) = (&mut result.tile, tiles.rules());
        tiles.place(number, tile);
        if tile.keys.is_empty() {
            return;
        }
        let (m, w) = (tile.queries.len(), tile.keys.len());
        let (d, d_v) = (padded(rows.q.d), padded(rows.v.d));
        scratch.logits(simd, tile, rules, rows);
        scratch.draw_dropout(tiles, number, tile);

        let [max, log_sum, delta] = &mut scratch.stats;
        // No weight for queries that do not exist.
        at_positions(max, &tile.queries, upstream.max, f32::INFINITY);
        at_positions(log_sum, &tile.queries, upstream.log_sum, 0.0);
        at_positions(delta, &tile.queries, upstream.delta, 0.0);
        tile.exp_below(&mut scratch.weights, [max, log_sum]);
        tile.divide_by_counts(simd, rules, &mut scratch.weights);

        gather(&mut scratch.grad, &tile.queries, upstream.grad, None);
        scratch.grad_transposed.resize(m * d_v, 0.0);
        transpose(&mut scratch.grad_transposed, &scratch.grad, [m, d_v]);
        scratch.grad_weights.resize(w * m, 0.0);
        let v = Left::Rows(&scratch.v, d_v);
        let sizes = [w, rows.v.d, m];
        product(
            simd,
            &mut scratch.grad_weights,
            v,
            &scratch.grad_transposed,
            sizes,
        );
        drop(&mut scratch.grad_weights, &scratch.dropout);
        tile.grad_logits(rules, &mut scratch.grad_weights, &scratch.weights, delta);
        drop(&mut scratch.weights, &scratch.dropout);

        result.q.resize(m * d, 0.0);
        result.k.resize(w * d, 0.0);
        result.v.resize(w * d_v, 0.0);
        let of_logits = &scratch.grad_weights;
        let (k, q, grad) = (&scratch.k, &scratch.q, &scratch.grad);
        product(
            simd,
            &mut result.q,
            Left::Columns(of_logits, m),
            k,
            [m, w, d],
        );
        product(simd, &mut result.k, Left::Rows(of_logits, m), q, [w, m, d]);
        let weights = Left::Rows(&scratch.weights, m);
        product(simd, &mut result.v, weights, grad, [w, m, d_v]);
    }
}

fn at_positions(to: &mut Vec<f32>, positions: &[u32], of: &[f32], nowhere: f32) {
    to.clear();
    to.extend(positions.iter().map(|&position| match position {
        NOWHERE => nowhere,
        position => of[position as usize],
    }));
}

/// Adds gradients of queries, keys and values, `[seq_length, d]` or `d_v` each.
pub(super) fn backward(
    tiles: &impl Tiles,
    rows: &HeadRows,
    upstream: &Upstream,
    [dq, dk, dv]: [&mut [f32]; 3],
) {
    let (d, d_v) = (rows.q.d, rows.v.d);
    in_groups(
        tiles,
        |number, result: &mut Differentiated| {
            SCRATCH.with_borrow_mut(|scratch| {
                Arch::new().dispatch(Backward {
                    tiles,
                    rows,
                    upstream,
                    number,
                    scratch,
                    result,
                });
            });
        },
        |Differentiated { tile, q, k, v }| {
            Arch::new().dispatch(|| {
                scatter_add(dq, &tile.queries, q, d);
                scatter_add(dk, &tile.keys, k, d);
                scatter_add(dv, &tile.keys, v, d_v);
            });
        },
    );
}

/// Adds padded rows to those at their positions.
#[inline(always)]
fn scatter_add(to: &mut [f32], positions: &[u32], rows: &[f32], d: usize) {
    for (&position, row) in positions.iter().zip(rows.chunks_exact(padded(d))) {
        if position == NOWHERE {
            continue;
        }
        for (to, value) in to[position as usize * d..][..d].iter_mut().zip(row) {
            *to += value;
        }
    }
}
