//! Copies of the features of rows to shared memory, which no unit waits for.

use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::barrier::copy_async_checked;
use burn_cubecl::cubecl::prelude::*;

use super::fragments::room;
use super::rows::SharedInfo;
use super::{EIGHT, Eight, HeadRows, row_of, rows_of_head, units_of};
use crate::kernels::cube::matrices::WORDS;

/// Copies of `n` rows of `d` features by a cube.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Copies {
    n: u32,
    d: u32,
    units: u32,
}

impl Copies {
    /// By a cube with `rows` rows of its own.
    pub(super) fn new(n: u32, d: u32, rows: u32) -> Self {
        let units = units_of(rows);
        Self { n, d, units }
    }

    /// Number of vectors.
    fn all(self) -> u32 {
        self.n * self.d / EIGHT
    }
}

/// Rows of a head, and shared memory for some blocks of them.
#[derive(CubeType, Clone, Copy)]
pub(super) struct Blocks {
    pub(super) memory: SharedMemory<Eight>,
    from: HeadRows,
    /// Of a block.
    #[cube(comptime)]
    copies: Copies,
}

/// Allocates memory for `n` blocks of rows of a head.
#[cube]
pub(super) fn blocks_of_head(
    tensor: &Tensor<Eight>,
    head: u32,
    #[comptime] n: u32,
    #[comptime] copies: Copies,
) -> Blocks {
    Blocks {
        memory: room(comptime![n * copies.n], comptime![copies.d]),
        from: rows_of_head(tensor, head),
        copies,
    }
}

/// Begins to copy the rows of a block to those from `to_row` on, zeros for empty slots: the ones whose
/// metadata begin with row `first`.
#[cube]
pub(super) fn copy_rows(blocks: &Blocks, to_row: u32, shared: &SharedInfo, first: u32) {
    let (all, units) = comptime![(blocks.copies.all(), blocks.copies.units)];
    #[unroll]
    for turn in 0..comptime![all.div_ceil(units)] {
        let i = comptime![turn * units] + UNIT_POS;
        if comptime![(turn + 1) * units > all] {
            if i < all {
                copy_vector(blocks, to_row, shared, first, i);
            }
        } else {
            copy_vector(blocks, to_row, shared, first, i);
        }
    }
}

/// Begins to copy vector `i` of the rows.
#[cube]
fn copy_vector(blocks: &Blocks, to_row: u32, shared: &SharedInfo, first: u32, i: u32) {
    let copies = comptime![blocks.copies];
    let from = &blocks.from;
    let mut to = blocks.memory;
    let vectors = comptime![copies.d / EIGHT];
    let (number, column) = (i / vectors, i % vectors);
    let position = shared.infos[(first + number) as usize][0];
    // A position is a row of the tensor.
    let row = max(position, 0i32.runtime()) as usize * from.place.row;
    let at = from.place.first + row + column as usize;
    let there = usize::cast_from(position >= 0);
    let to_at = ((to_row + number) * comptime![row_of(copies.d) / EIGHT] + column) as usize;
    copy_async_checked(
        &from.tensor.slice(at, at + there),
        &mut to.slice_mut(to_at, to_at + 1),
        WORDS,
    );
}
