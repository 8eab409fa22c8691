//! Products of a plane's rows with blocks of others, and of their weights: see
//! [`matrices`](crate::kernels::cube::matrices).

use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;

use crate::kernels::cube::matrices::{
    ALIGNMENT, EIGHT, Eight, HALF, OWN, Pair, SIDE, Tile, load, multiply_by, row_of, zeros,
};

/// Allocates `n` rows of `d` features.
#[cube]
pub(super) fn room(#[comptime] n: u32, #[comptime] d: u32) -> SharedMemory<Eight> {
    SharedMemory::<Eight>::new_aligned(
        comptime![(n * row_of(d) / EIGHT) as usize],
        comptime![ALIGNMENT],
    )
}

/// Products of a plane's rows with a block of others, which begins with row `first`.
#[cube]
pub(super) fn multiply<F: Float>(
    own: &SharedMemory<Eight>,
    theirs: &SharedMemory<Eight>,
    first: u32,
    #[comptime] d: u32,
    #[comptime] others: u32,
) -> Sequence<Tile> {
    let mut products = zeros(others);
    let row = comptime![row_of(d) / EIGHT];
    let unit = UNIT_POS_X;
    let of_own = ((UNIT_POS_Y * SIDE + unit % SIDE) * row + unit / SIDE) as usize;
    let other = unit % HALF + unit / SIDE * HALF;
    let of_theirs = ((first + other) * row + unit / HALF % 2) as usize;
    #[unroll]
    for step in 0..comptime![d / SIDE] {
        let column = comptime![(step * SIDE / EIGHT) as usize];
        let factors = load::<F>(own, of_own + column, false);
        #[unroll]
        for group in 0..comptime![others / SIDE] {
            let at = comptime![(group * SIDE * row) as usize + column];
            let by = load::<F>(theirs, of_theirs + at, false);
            multiply_by::<F>(&factors, &by, &mut products, comptime![2 * group]);
        }
    }
    products
}

/// Adds to `sums` the product of a plane's factors with a block of others, which begins with row `first`.
#[cube]
pub(super) fn add_multiplied<F: Float>(
    sums: &mut Sequence<Tile>,
    factors: &Sequence<Tile>,
    theirs: &SharedMemory<Eight>,
    first: u32,
    #[comptime] d: u32,
    #[comptime] others: u32,
) {
    let row = comptime![row_of(d) / EIGHT];
    let unit = UNIT_POS_X;
    let of_theirs = ((first + unit % SIDE) * row + unit / SIDE) as usize;
    #[unroll]
    for group in 0..comptime![others / SIDE] {
        let rounded = round::<F>(factors, comptime![2 * group]);
        #[unroll]
        for step in 0..comptime![d / SIDE] {
            let at = comptime![(group * SIDE * row + step * SIDE / EIGHT) as usize];
            let by = load::<F>(theirs, of_theirs + at, true);
            multiply_by::<F>(&rounded, &by, sums, comptime![2 * step]);
        }
    }
}

/// Two neighbouring tiles as a matrix of factors.
#[cube]
fn round<F: Float>(tiles: &Sequence<Tile>, #[comptime] first: u32) -> Array<Pair<F>> {
    let mut factors = Array::<Pair<F>>::new(4usize);
    #[unroll]
    for i in 0..2u32 {
        let tile = tiles.index(comptime![(first + i) as usize]);
        #[unroll]
        for own in 0..OWN {
            let at = comptime![(2 * i + own) as usize];
            factors[at] = Pair::<F>::cast_from(tile[own as usize]);
        }
    }
    factors
}
