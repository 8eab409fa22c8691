//! Products of matrices whose elements are in the registers of a plane, in the layout of the `mma`
//! and `ldmatrix` instructions of CUDA.
//!
//! A tile is sixteen rows by eight columns of sums. Unit `i` of the plane has columns `2 * (i % 4)`
//! and the next one of rows `i / 4` and `i / 4 + 8`. Two tiles side by side, rounded, are a matrix of
//! factors for another product.

use burn_cubecl::cubecl;
use burn_cubecl::cubecl::cmma::{MatrixIdent, MmaDefinition};
use burn_cubecl::cubecl::prelude::barrier::Barrier;
use burn_cubecl::cubecl::prelude::*;

/// Number of rows of a tile, and of features and other rows in a matrix of factors.
pub(super) const SIDE: u32 = 16;

/// Number of units in a plane, and of those that share rows.
pub(super) const PLANE: u32 = 32;
pub(super) const QUAD: u32 = 4;

/// Number of rows of a unit: half a matrix lies between them.
pub(super) const OWN: u32 = 2;
pub(super) const HALF: u32 = 8;

/// Half-precision numbers per load: sixteen bytes. Kernels copy them as words, because compilers take
/// a vector of halves to pieces.
pub(super) const EIGHT: u32 = 8;
pub(super) type Eight = Vector<u32, Const<4>>;

/// Words of such a load.
pub(super) const WORDS: u32 = 4;

/// Two neighbouring columns of a matrix, which a unit has together.
pub(super) type Pair<F> = Vector<F, Const<2>>;

/// A unit's part of a tile: a pair of columns for each of its rows.
pub(super) type Tile = Array<Pair<f32>>;

/// Alignment in bytes of the rows that `ldmatrix` reads.
pub(super) const ALIGNMENT: usize = 16;

/// Row stride in shared memory, in elements. Neighbouring rows begin in different banks.
pub(super) fn row_of(d: u32) -> u32 {
    d + EIGHT
}

/// Marks the unit's copies to shared memory so far as those that a barrier waits for.
#[cube]
pub(super) fn arrive(copied: &Shared<Barrier>) {
    copied.commit_copy_async();
    copied.arrive();
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
pub(super) fn load<F: Float>(
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
pub(super) fn multiply_by<F: Float>(
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
