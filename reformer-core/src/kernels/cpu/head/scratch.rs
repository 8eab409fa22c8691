//! Per-thread buffers, and the common first steps of forward and backward of a tile.

use core::cell::RefCell;

use burn::tensor::bf16;

use super::prefetch::prefetch_ahead;
use super::{HeadRows, Tiles};
use crate::kernels::cpu::element::Element;
use crate::kernels::cpu::host::Rows;
use crate::kernels::cpu::product::{Factor, Kernel, Left, product, product_meanwhile};
use crate::kernels::cpu::simd::{padded, transpose};
use crate::kernels::cpu::tile::{NOWHERE, Tile};

/// Gathers rows at positions, padded with zeros to whole registers.
#[inline(always)]
pub(in crate::kernels::cpu) fn gather<E: Element>(
    to: &mut Vec<E>,
    positions: &[u32],
    rows: Rows<E>,
    scales: Option<&[f32]>,
) {
    let width = padded(rows.d);
    to.resize(positions.len() * width, E::default());
    for (at, (to, &position)) in to.chunks_exact_mut(width).zip(positions).enumerate() {
        prefetch_ahead(positions, at, |position| rows.row(position));
        if position == NOWHERE {
            to.fill(E::default());
            continue;
        }
        let row = rows.row(position as usize);
        if width != row.len() {
            to[row.len()..].fill(E::default());
        }
        match scales {
            // A loop, since a copy would call `memcpy` for each row.
            None => to.iter_mut().zip(row).for_each(|(to, from)| *to = *from),
            Some(scales) => {
                let scale = scales[position as usize];
                for (to, from) in to.iter_mut().zip(row) {
                    *to = E::narrow(from.wide() * scale);
                }
            }
        }
    }
}

/// Factors of terms that are adjacent in rows, copied unless they are the numbers themselves.
#[inline(always)]
pub(super) fn along_rows<'a, F: Factor, E: Element>(
    copy: &'a mut Vec<F>,
    rows: &'a [E],
) -> &'a [F] {
    if let Some(factors) = F::lent(rows) {
        return factors;
    }
    copy.resize(rows.len().div_ceil(F::TERMS), F::default());
    F::along(copy, rows);
    copy
}

/// Factors of terms that lie below each other, in rows of a width.
#[inline(always)]
pub(super) fn across_rows<'a, F: Factor, E: Element>(
    copy: &'a mut Vec<F>,
    rows: &'a [E],
    width: usize,
) -> &'a [F] {
    if let Some(factors) = F::lent(rows) {
        return factors;
    }
    let of_factor = F::TERMS * width;
    copy.resize(rows.len().div_ceil(of_factor) * width, F::default());
    for (to, rows) in copy.chunks_exact_mut(width).zip(rows.chunks(of_factor)) {
        let (first, second) = rows.split_at(width);
        F::across(to, first, (!second.is_empty()).then_some(second));
    }
    copy
}

/// Per-thread buffers for numbers of one format, reused for all tiles.
#[derive(Default)]
pub(in crate::kernels) struct Scratch<E: Element> {
    pub(in crate::kernels::cpu) q: Vec<E>,
    pub(in crate::kernels::cpu) k: Vec<E>,
    pub(in crate::kernels::cpu) v: Vec<E>,
    pub(super) grad: Vec<E>,
    /// Factors of the two matrices of a product, unless they are the numbers themselves.
    pub(super) left: Vec<E::Factor>,
    pub(super) right: Vec<E::Factor>,
    pub(super) transposed: Transposed<E::Factor>,
    pub(in crate::kernels::cpu) wide: Vec<f32>,
    pub(in crate::kernels::cpu) weights: Vec<f32>,
    pub(super) grad_weights: Vec<f32>,
    pub(super) dropout: Vec<f32>,
    pub(in crate::kernels::cpu) sums: Vec<f32>,
    pub(super) stats: [Vec<f32>; 3],
}

/// Factors of transposed rows.
#[derive(Default)]
pub(super) struct Transposed<F> {
    along: Vec<F>,
    transposed: Vec<F>,
}

impl<F: Factor> Transposed<F> {
    /// `[features, rows]`, from rows of padded width `d`.
    #[inline(always)]
    pub(super) fn of<E: Element>(&mut self, rows: &[E], d: usize) -> &[F] {
        let Self { along, transposed } = self;
        let along = along_rows(along, rows);
        transposed.resize(along.len(), F::default());
        transpose(transposed, along, [rows.len() / d, d / F::TERMS]);
        transposed
    }
}

impl<E: Element> Scratch<E> {
    /// Gathers rows and computes logits, not masked yet, `[keys, queries]`. Meanwhile it calls a function: see
    /// [`product_meanwhile`].
    #[inline(always)]
    pub(super) fn logits<K: Kernel<Factor = E::Factor>>(
        &mut self,
        kernel: K,
        tile: &Tile,
        rows: &HeadRows<E>,
        meanwhile: impl FnMut(),
    ) {
        let (m, w, d) = (tile.queries.len(), tile.keys.len(), padded(rows.q.d));
        gather(&mut self.q, &tile.queries, rows.q, None);
        let scales = rows.unit_keys.map(|unit| unit.scales);
        gather(&mut self.k, &tile.keys, rows.k, scales);
        gather(&mut self.v, &tile.keys, rows.v, None);
        self.weights.resize(w * m, 0.0);
        let terms = E::Factor::TERMS;
        let k = Left::Rows(along_rows(&mut self.left, &self.k), d / terms);
        let q = self.transposed.of(&self.q, d);
        let sizes = [w, rows.q.d.div_ceil(terms), m];
        product_meanwhile(kernel, &mut self.weights, k, q, sizes, meanwhile);
    }

    /// Logits of one gathered query, of `d` features, and of gathered keys, a multiple of lanes:
    /// `[keys]`.
    #[inline(always)]
    pub(in crate::kernels::cpu) fn logits_of_row<K: Kernel<Factor = E::Factor>>(
        &mut self,
        kernel: K,
        d: usize,
        n_keys: usize,
    ) {
        let terms = E::Factor::TERMS;
        let q = Left::Rows(along_rows(&mut self.left, &self.q), padded(d) / terms);
        let k = self.transposed.of(&self.k, padded(d));
        let sizes = [1, d.div_ceil(terms), n_keys];
        product(kernel, &mut self.weights, q, k, sizes);
    }

    /// Draws dropout factors, `[keys, queries]`; empty without dropout.
    pub(super) fn draw_dropout(&mut self, tiles: &impl Tiles, number: usize, tile: &Tile) {
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

/// Multiplies by the dropout factors, if there are any.
#[inline(always)]
pub(super) fn drop(values: &mut [f32], factors: &[f32]) {
    for (value, factor) in values.iter_mut().zip(factors) {
        *value *= factor;
    }
}

/// The buffers of a thread.
#[derive(Default)]
pub(in crate::kernels) struct ThreadScratch {
    pub(in crate::kernels::cpu) of_f32: Scratch<f32>,
    pub(in crate::kernels::cpu) of_bf16: Scratch<bf16>,
}

thread_local! {
    pub(in crate::kernels::cpu) static SCRATCH: RefCell<ThreadScratch> = RefCell::default();
}
