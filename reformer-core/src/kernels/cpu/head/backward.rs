//! Backward: weights are recomputed, and gradients of each tile are added to those of the head.

use super::prefetch::{prefetch_ahead, prefetch_rows};
use super::scratch::{SCRATCH, Scratch, across_rows, along_rows, drop, gather};
use super::{HeadRows, Tiles, UnitKeys, in_groups};
use crate::kernels::cpu::element::Element;
use crate::kernels::cpu::host::Rows;
use crate::kernels::cpu::product::{Factor, Kernel, Left, WithKernel, product};
use crate::kernels::cpu::simd::{dot, padded, vectorized};
use crate::kernels::cpu::tile::{NOWHERE, Tile};

/// Inputs of a head's backward pass, besides queries, keys and values.
pub(in crate::kernels::cpu) struct Upstream<'a, E = f32> {
    pub(in crate::kernels::cpu) grad: Rows<'a, E>,
    /// `[seq_length]` each
    pub(in crate::kernels::cpu) max: &'a [f32],
    pub(in crate::kernels::cpu) log_sum: &'a [f32],
    /// `D`, the dot products of gradients and outputs.
    pub(in crate::kernels::cpu) delta: &'a [f32],
}

/// Gradients of a tile.
#[derive(Default)]
struct Differentiated {
    tile: Tile,
    /// `[queries, padded d]`
    q: Vec<f32>,
    /// `[keys, padded d]`; if keys are [`UnitKeys`], gradients of the corresponding queries.
    k: Vec<f32>,
    /// `[keys, padded d_v]`
    v: Vec<f32>,
}

struct Backward<'a, T, E: Element> {
    tiles: &'a T,
    rows: &'a HeadRows<'a, E>,
    upstream: &'a Upstream<'a, E>,
    number: usize,
    scratch: &'a mut Scratch<E>,
    result: &'a mut Differentiated,
}

impl<T: Tiles, E: Element> WithKernel<E::Factor> for Backward<'_, T, E> {
    type Output = ();

    /// With `p` the weights before and `P` after dropout: `dv = P^T do`, `ds = p (do v - D)`,
    /// `dq = ds k`, `dk = ds^T q`.
    #[inline(always)]
    fn with_kernel<K: Kernel<Factor = E::Factor>>(self, kernel: K) {
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
        let upcoming = tiles.upcoming(number);
        scratch.logits(
            kernel,
            tile,
            rows,
            prefetch_rows(upcoming, [rows.q, rows.v, upstream.grad]),
        );
        scratch.draw_dropout(tiles, number, tile);

        let [max, log_sum, delta] = &mut scratch.stats;
        // Queries of empty slots have no weights.
        at_positions(max, &tile.queries, upstream.max, f32::INFINITY);
        at_positions(log_sum, &tile.queries, upstream.log_sum, 0.0);
        at_positions(delta, &tile.queries, upstream.delta, 0.0);
        tile.weights(kernel.simd(), rules, &mut scratch.weights, [max, log_sum]);

        gather(&mut scratch.grad, &tile.queries, upstream.grad, None);
        scratch.grad_weights.resize(w * m, 0.0);
        let terms = E::Factor::TERMS;
        let v = Left::Rows(along_rows(&mut scratch.left, &scratch.v), d_v / terms);
        let grad = scratch.transposed.of(&scratch.grad, d_v);
        let sizes = [w, rows.v.d.div_ceil(terms), m];
        product(kernel, &mut scratch.grad_weights, v, grad, sizes);
        drop(&mut scratch.grad_weights, &scratch.dropout);
        tile.grad_logits(rules, &mut scratch.grad_weights, &scratch.weights, delta);
        drop(&mut scratch.weights, &scratch.dropout);

        result.q.resize(m * d, 0.0);
        result.k.resize(w * d, 0.0);
        result.v.resize(w * d_v, 0.0);
        let Scratch { left, right, .. } = scratch;
        let of_logits = Left::Columns(across_rows(left, &scratch.grad_weights, m), m);
        let k = across_rows(right, &scratch.k, d);
        let sizes = [m, w.div_ceil(terms), d];
        product(kernel, &mut result.q, of_logits, k, sizes);
        let of_logits = Left::Rows(along_rows(left, &scratch.grad_weights), m / terms);
        let q = across_rows(right, &scratch.q, d);
        product(kernel, &mut result.k, of_logits, q, [w, m / terms, d]);
        let weights = Left::Rows(along_rows(left, &scratch.weights), m / terms);
        let grad = across_rows(right, &scratch.grad, d_v);
        product(kernel, &mut result.v, weights, grad, [w, m / terms, d_v]);
        if let Some(unit) = rows.unit_keys {
            through_keys(&mut result.k, &scratch.k, &tile.keys, unit, d);
        }
    }
}

/// Turns gradients of keys, `[keys, padded d]`, into those of the corresponding queries: with
/// `k = q s`, where `s` is `length / |q|`, they are `(dk - k (k . dk) / length^2) s`. This is
/// linear in `dk`, so it may be applied before the sum over tiles.
#[inline(always)]
fn through_keys<E: Element>(dk: &mut [f32], k: &[E], positions: &[u32], unit: UnitKeys, d: usize) {
    let rows = dk.chunks_exact_mut(d).zip(k.chunks_exact(d));
    for ((dk, k), &position) in rows.zip(positions) {
        let scale = unit.scales[position as usize];
        let along = dot(k, dk) / (unit.length * unit.length);
        for (dk, k) in dk.iter_mut().zip(k) {
            *dk = (*dk - k.wide() * along) * scale;
        }
    }
}

fn at_positions(to: &mut Vec<f32>, positions: &[u32], of: &[f32], nowhere: f32) {
    to.clear();
    to.extend(positions.iter().map(|&position| match position {
        NOWHERE => nowhere,
        position => of[position as usize],
    }));
}

/// Gradients of a head.
pub(in crate::kernels::cpu) struct HeadGradients<'a> {
    /// `[seq_length, d]`
    pub(in crate::kernels::cpu) q: &'a mut [f32],
    /// `[seq_length, d]`; `None` if keys are [`UnitKeys`], whose gradients are added to the queries'.
    pub(in crate::kernels::cpu) k: Option<&'a mut [f32]>,
    /// `[seq_length, d_v]`
    pub(in crate::kernels::cpu) v: &'a mut [f32],
}

/// Computes and adds gradients, `at_once` tiles at a time.
pub(in crate::kernels::cpu) fn backward<E: Element>(
    tiles: &impl Tiles,
    at_once: usize,
    rows: &HeadRows<E>,
    upstream: &Upstream<E>,
    mut to: HeadGradients,
) {
    let (d, d_v) = (rows.q.d, rows.v.d);
    in_groups(
        tiles,
        at_once,
        |number, result: &mut Differentiated| {
            SCRATCH.with_borrow_mut(|scratch| {
                E::Factor::dispatch(Backward {
                    tiles,
                    rows,
                    upstream,
                    number,
                    scratch: E::scratch(scratch),
                    result,
                });
            });
        },
        |Differentiated { tile, q, k, v }| {
            vectorized(
                #[inline(always)]
                || {
                    scatter_add(to.q, &tile.queries, q, d);
                    scatter_add(to.k.as_deref_mut().unwrap_or(to.q), &tile.keys, k, d);
                    scatter_add(to.v, &tile.keys, v, d_v);
                },
            );
        },
    );
}

/// Adds padded rows to the rows at their positions.
#[inline(always)]
fn scatter_add(to: &mut [f32], positions: &[u32], rows: &[f32], d: usize) {
    let rows = rows.chunks_exact(padded(d));
    for (at, (&position, row)) in positions.iter().zip(rows).enumerate() {
        prefetch_ahead(positions, at, |position| &to[position * d..][..d]);
        if position == NOWHERE {
            continue;
        }
        for (to, value) in to[position as usize * d..][..d].iter_mut().zip(row) {
            *to += value;
        }
    }
}
