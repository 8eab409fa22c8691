//! Copies of the features of rows to shared memory, which no unit waits for.

use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::barrier::copy_async_checked;
use burn_cubecl::cubecl::prelude::*;

use super::rows::SharedInfo;
use super::{EIGHT, Eight, HeadRows, row_of, units_of};
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

/// Begins to copy rows of features to the rows from `to_row` on, zeros for empty slots: those whose metadata
/// begin with row `first`.
#[cube]
pub(super) fn copy_rows(
    to: &mut SharedMemory<Eight>,
    to_row: u32,
    from: &HeadRows,
    shared: &SharedInfo,
    first: u32,
    #[comptime] copies: Copies,
) {
    let (all, units) = comptime![(copies.all(), copies.units)];
    #[unroll]
    for turn in 0..comptime![all.div_ceil(units)] {
        let i = comptime![turn * units] + UNIT_POS;
        if comptime![(turn + 1) * units > all] {
            if i < all {
                copy_vector(to, to_row, from, shared, first, i, copies);
            }
        } else {
            copy_vector(to, to_row, from, shared, first, i, copies);
        }
    }
}

/// Begins to copy vector `i` of the rows.
#[cube]
fn copy_vector(
    to: &mut SharedMemory<Eight>,
    to_row: u32,
    from: &HeadRows,
    shared: &SharedInfo,
    first: u32,
    i: u32,
    #[comptime] copies: Copies,
) {
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
