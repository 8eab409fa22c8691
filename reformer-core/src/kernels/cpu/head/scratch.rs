//! Per-thread buffers, and the common first steps of forward and backward of a tile.

use core::cell::RefCell;

use pulp::Simd;

use super::{HeadRows, Rules, Tiles};
use crate::kernels::cpu::host::Rows;
use crate::kernels::cpu::simd::{Left, padded, product, transpose};
use crate::kernels::cpu::tile::{NOWHERE, Tile};

/// Gathers rows at positions, padded with zeros to whole registers.
#[inline(always)]
pub(super) fn gather(to: &mut Vec<f32>, positions: &[u32], rows: Rows, scales: Option<&[f32]>) {
    let width = padded(rows.d);
    to.resize(positions.len() * width, 0.0);
    for (to, &position) in to.chunks_exact_mut(width).zip(positions) {
        if position == NOWHERE {
            to.fill(0.0);
            continue;
        }
        let row = rows.row(position as usize);
        to[row.len()..].fill(0.0);
        // Multiplying by 1 is as fast as a copy, which would call `memcpy` for each row.
        let scale = scales.map_or(1.0, |scales| scales[position as usize]);
        for (to, from) in to.iter_mut().zip(row) {
            *to = from * scale;
        }
    }
}

/// Per-thread buffers, reused for all tiles.
#[derive(Default)]
pub(super) struct Scratch {
    pub(super) q: Vec<f32>,
    pub(super) q_transposed: Vec<f32>,
    pub(super) k: Vec<f32>,
    pub(super) v: Vec<f32>,
    pub(super) grad: Vec<f32>,
    pub(super) grad_transposed: Vec<f32>,
    pub(super) weights: Vec<f32>,
    pub(super) grad_weights: Vec<f32>,
    pub(super) dropout: Vec<f32>,
    pub(super) sums: Vec<f32>,
    pub(super) stats: [Vec<f32>; 3],
}

impl Scratch {
    /// Gathers rows and computes masked logits, `[keys, queries]`.
    #[inline(always)]
    pub(super) fn logits<S: Simd>(&mut self, simd: S, tile: &Tile, rules: &Rules, rows: &HeadRows) {
        let (m, w, d) = (tile.queries.len(), tile.keys.len(), padded(rows.q.d));
        gather(&mut self.q, &tile.queries, rows.q, None);
        let scales = rows.unit_keys.map(|unit| unit.scales);
        gather(&mut self.k, &tile.keys, rows.k, scales);
        gather(&mut self.v, &tile.keys, rows.v, None);
        self.q_transposed.resize(m * d, 0.0);
        transpose(&mut self.q_transposed, &self.q, [m, d]);
        self.weights.resize(w * m, 0.0);
        let sizes = [w, rows.q.d, m];
        let k = Left::Rows(&self.k, d);
        product(simd, &mut self.weights, k, &self.q_transposed, sizes);
        tile.mask(simd, rules, &mut self.weights);
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

thread_local! {
    pub(super) static SCRATCH: RefCell<Scratch> = RefCell::default();
}
