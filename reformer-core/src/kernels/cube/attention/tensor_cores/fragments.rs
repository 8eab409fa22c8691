//! Products of matrices whose elements are in the registers of a plane, in the layout of the `mma`
//! and `ldmatrix` instructions of CUDA.
//!
//! A tile is sixteen rows by eight columns of sums. Unit `i` of the plane has columns `2 * (i % 4)`
//! and the next one of rows `i / 4` and `i / 4 + 8`. Two tiles side by side, rounded, are a matrix of
//! factors for another product.

use burn_cubecl::cubecl;
use burn_cubecl::cubecl::cmma::{MatrixIdent, MmaDefinition};
use burn_cubecl::cubecl::prelude::*;

use super::{EIGHT, Eight, HALF, OWN, Pair, SIDE, row_of};

/// A unit's part of a tile: a pair of columns for each of its rows.
pub(super) type Tile = Array<Pair<f32>>;

/// Alignment in bytes of the rows that `ldmatrix` reads.
const ALIGNMENT: usize = 16;

/// Allocates `n` rows of `d` features.
#[cube]
pub(super) fn room(#[comptime] n: u32, #[comptime] d: u32) -> SharedMemory<Eight> {
    SharedMemory::<Eight>::new_aligned(
        comptime![(n * row_of(d) / EIGHT) as usize],
        comptime![ALIGNMENT],
    )
}

/// Tiles of zeros for `n` columns.
#[cube]
pub(super) fn zeros(#[comptime] n: u32) -> Sequence<Tile> {
    let mut tiles = Sequence::<Tile>::new();
    #[unroll]
    for _ in 0..comptime![n / HALF] {
        let mut tile = Array::<Pair<f32>>::new(comptime![OWN as usize]);
        #[unroll]
        for own in 0..comptime![OWN as usize] {
            tile[own] = Pair::<f32>::new(0.0);
        }
        tiles.push(tile);
    }
    tiles
}

/// Loads four matrices of eight rows by eight columns, from the rows whose offsets the units of the
/// plane have.
#[cube]
fn load<F: Float>(
    from: &SharedMemory<Eight>,
    at: usize,
    #[comptime] transposed: bool,
) -> Array<Pair<F>> {
    let definition = definition::<F>();
    // SAFETY: the words are numbers of this type, and only their address is used.
    let row = unsafe {
        from.slice(at, at + 1)
            .downcast_unchecked::<Vector<F, Const<8>>>()
    };
    definition.load_matrix::<Vector<F, Const<8>>, Const<2>>(
        &row,
        MatrixIdent::A,
        4usize,
        transposed,
    )
}

#[cube]
fn definition<F: Float>() -> MmaDefinition<F, F, f32> {
    MmaDefinition::<F, F, f32>::new(16usize, 8usize, 16usize)
}

/// Adds the products of a matrix of sixteen by sixteen factors with four matrices of eight by eight
/// to two neighbouring tiles.
#[cube]
fn multiply_by<F: Float>(
    factors: &Array<Pair<F>>,
    by: &Array<Pair<F>>,
    tiles: &mut Sequence<Tile>,
    #[comptime] first: u32,
) {
    let definition = definition::<F>();
    #[unroll]
    for i in 0..2u32 {
        let mut of_tile = Array::<Pair<F>>::new(2usize);
        #[unroll]
        for j in 0..2u32 {
            of_tile[j as usize] = by[comptime![(2 * i + j) as usize]];
        }
        let tile = tiles.index_mut(comptime![(first + i) as usize]);
        definition.execute_inplace(factors, &of_tile, tile);
    }
}

/// Products of a plane's rows with a block of others.
#[cube]
pub(super) fn multiply<F: Float>(
    own: &SharedMemory<Eight>,
    theirs: &SharedMemory<Eight>,
    #[comptime] d: u32,
    #[comptime] others: u32,
) -> Sequence<Tile> {
    let mut products = zeros(others);
    let row = comptime![row_of(d) / EIGHT];
    let unit = UNIT_POS_X;
    let of_own = ((UNIT_POS_Y * SIDE + unit % SIDE) * row + unit / SIDE) as usize;
    let other = unit % HALF + unit / SIDE * HALF;
    let of_theirs = (other * row + unit / HALF % 2) as usize;
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

/// Adds to `sums` the product of a plane's factors with a block of others.
#[cube]
pub(super) fn add_multiplied<F: Float>(
    sums: &mut Sequence<Tile>,
    factors: &Sequence<Tile>,
    theirs: &SharedMemory<Eight>,
    #[comptime] d: u32,
    #[comptime] others: u32,
) {
    let row = comptime![row_of(d) / EIGHT];
    let unit = UNIT_POS_X;
    let of_theirs = (unit % SIDE * row + unit / SIDE) as usize;
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
