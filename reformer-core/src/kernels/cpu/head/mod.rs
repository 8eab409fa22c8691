//! One head of attention as a list of tiles: forward and backward for any kind of tiles.
//!
//! Tiles are computed one by one or, if there are more threads than heads, several in parallel. The
//! thread that owns the head adds their results in order. So results do not depend on the threads,
//! threads share no memory, and nothing larger than a few tiles is allocated besides inputs and
//! outputs.

mod backward;
mod forward;
mod prefetch;
mod scratch;

use rayon::prelude::*;

pub(super) use self::backward::{HeadGradients, Upstream, backward};
pub(super) use self::forward::{HeadOutput, add_scaled, forward, merge};
pub(super) use self::scratch::{SCRATCH, Scratch, ThreadScratch, gather};
use super::element::Element;
use super::host::Rows;
use super::simd::{dot, vectorized};
use super::tile::Tile;
use crate::kernels::{KEY_EPSILON, KeyRule};
use crate::random::Dropout;

/// Number of tiles of a head whose results exist at a time, if computed in parallel.
const TILES_AT_ONCE: usize = 16;

/// Masking rules of one head.
pub(super) struct Rules<'a> {
    pub(super) causal: bool,
    pub(super) exclude_self: bool,
    pub(super) keys: KeyRule,
    /// `[n_keys]`
    pub(super) padded: Option<&'a [bool]>,
    /// Places and buckets of positions, if the rules need them.
    pub(super) places: Option<Places>,
}

/// Places (slots or tiles) and buckets of a head's positions: `[seq_length, n_rounds]` each.
pub(super) struct Places {
    pub(super) n_rounds: usize,
    /// Tiles or slots. A query sees a key if `place - place of key + after <= width`, unsigned.
    pub(super) places: Vec<u32>,
    /// Empty if buckets are not needed.
    pub(super) buckets: Vec<u32>,
    pub(super) after: u32,
    pub(super) width: u32,
    /// Whether weights are divided by the number of rounds in which the key is seen.
    pub(super) count: bool,
}

/// The tiles of a head.
pub(super) trait Tiles: Sync {
    fn rules(&self) -> &Rules<'_>;

    fn n_tiles(&self) -> usize;

    /// Positions of queries and keys that no tile up to `number` sees, but the next one. Empty where rows are read in their
    /// order in memory, which the processor sees coming.
    fn upcoming(&self, number: usize) -> impl Iterator<Item = u32>;

    /// Fills in the queries and keys of tile `number`.
    fn place(&self, number: usize, tile: &mut Tile);

    /// The dropout of a query's weights in tile `number`, if any, and the index of its factor for
    /// the first slot in reach.
    fn dropout(&self, number: usize, tile: &Tile, query: usize) -> Option<(Dropout, usize)>;
}

/// Queries, keys and values of a head.
#[derive(Clone, Copy)]
pub(super) struct HeadRows<'a, E = f32> {
    pub(super) q: Rows<'a, E>,
    pub(super) k: Rows<'a, E>,
    /// Scaling of the rows of `k`; `None` if they are the keys.
    pub(super) unit_keys: Option<UnitKeys<'a>>,
    pub(super) v: Rows<'a, E>,
}

/// Keys that are queries, scaled to one length.
#[derive(Clone, Copy)]
pub(super) struct UnitKeys<'a> {
    /// Factor of each query: `[seq_length]`.
    pub(super) scales: &'a [f32],
    pub(super) length: f32,
}

/// `length / |q|` for each query, which scales keys to that length.
pub(super) fn key_scales<E: Element>(q: Rows<E>, length: f64, scales: &mut [f32]) {
    let d = q.d as f32;
    vectorized(
        #[inline(always)]
        || {
            for (position, scale) in scales.iter_mut().enumerate() {
                let row = q.row(position);
                let mean_square = dot(row, row) / d + KEY_EPSILON as f32;
                *scale = length as f32 / (mean_square.sqrt() * d.sqrt());
            }
        },
    );
}

/// Number of tiles per head to compute at a time, for `n_heads` heads.
///
/// One, if the heads alone keep every thread busy: the result of a tile is then added while it is
/// in the nearest cache, and no thread waits for another.
pub(super) fn tiles_at_once(n_heads: usize) -> usize {
    let n_threads = rayon::current_num_threads();
    match n_heads.is_multiple_of(n_threads) || n_heads > 4 * n_threads {
        true => 1,
        false => TILES_AT_ONCE,
    }
}

/// Computes tiles, several at a time, and passes their results on in order.
fn in_groups<T: Default + Send>(
    tiles: &impl Tiles,
    at_once: usize,
    compute: impl Fn(usize, &mut T) + Sync,
    mut take: impl FnMut(&mut T),
) {
    let n_tiles = tiles.n_tiles();
    if at_once == 1 {
        let mut result = T::default();
        for number in 0..n_tiles {
            compute(number, &mut result);
            take(&mut result);
        }
        return;
    }
    let mut group: Vec<T> = Vec::new();
    group.resize_with(n_tiles.min(at_once), T::default);
    for first in (0..n_tiles).step_by(at_once) {
        let group = &mut group[..at_once.min(n_tiles - first)];
        let numbered = group.par_iter_mut().enumerate();
        numbered.for_each(|(number, result)| compute(first + number, result));
        group.iter_mut().for_each(&mut take);
    }
}
