//! One head of attention as a list of tiles: forward and backward, whatever the tiles are.
//!
//! Tiles are computed one by one or, where there are more threads than heads, in parallel, some at
//! a time; what they give is added up in their order by the one thread that owns the head. So no
//! number depends on the threads, no memory is shared, and nothing larger than a few tiles exists
//! beside inputs and outputs.

mod backward;
mod forward;
mod scratch;

use pulp::Arch;
use rayon::prelude::*;

pub(super) use self::backward::{HeadGradients, Upstream, backward};
pub(super) use self::forward::{HeadOutput, forward};
use super::host::Rows;
use super::simd::dot;
use super::tile::Tile;
use crate::kernels::{KEY_EPSILON, KeyRule};
use crate::random::Dropout;

/// Tiles whose results exist at a time for each head, if they are computed in parallel.
const TILES_AT_ONCE: usize = 16;

/// Rules between queries and keys of one head.
pub(super) struct Rules<'a> {
    pub(super) causal: bool,
    pub(super) exclude_self: bool,
    pub(super) keys: KeyRule,
    /// `[n_keys]`
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
    /// How rows of `k` become keys; nothing if they are keys.
    pub(super) unit_keys: Option<UnitKeys<'a>>,
    pub(super) v: Rows<'a>,
}

/// Keys that are queries, scaled to one length.
#[derive(Clone, Copy)]
pub(super) struct UnitKeys<'a> {
    /// What each query is multiplied with: `[seq_length]`.
    pub(super) scales: &'a [f32],
    pub(super) length: f32,
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

/// How many tiles of a head are computed at a time, when `n_heads` heads are.
///
/// One, where the heads alone keep every thread busy: what a tile gives is then added up while it
/// is in the nearest cache, and no thread waits for another.
pub(super) fn tiles_at_once(n_heads: usize) -> usize {
    let n_threads = rayon::current_num_threads();
    match n_heads.is_multiple_of(n_threads) || n_heads > 4 * n_threads {
        true => 1,
        false => TILES_AT_ONCE,
    }
}

/// Computes tiles, some at a time, and hands their results on in order.
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
