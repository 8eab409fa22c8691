//! How a product is cut into cubes, stages and planes.

use burn_cubecl::CubeRuntime;
use burn_cubecl::cubecl::client::ComputeClient;

use crate::kernels::cube::matrices::{ALIGNMENT, EIGHT, PLANE, row_of};

/// Rows and columns of a cube's block of the result, and of a plane's part of it: four planes with 128 sums
/// in the registers of each unit, so that a matrix in shared memory serves four others.
pub(super) const SIDE_OF_BLOCK: u32 = 128;
const SIDE_OF_PLANE: u32 = 64;

/// Number of terms of a stage.
pub(super) const DEPTH: u32 = 64;

/// A block of a factor in shared memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Block {
    /// Whether a row of the factor has what is summed over, as in `x` and `weight^T` of
    /// `x weight`; otherwise a row has what a sum is for.
    pub(super) summed_in_row: bool,
    /// Number of rows or columns of the result.
    pub(super) n: u32,
    /// Number of terms.
    pub(super) depth: u32,
    units: u32,
}

impl Block {
    /// Number of rows in memory.
    pub(super) fn rows(self) -> u32 {
        if self.summed_in_row {
            self.n
        } else {
            self.depth
        }
    }

    /// Elements of a row.
    pub(super) fn columns(self) -> u32 {
        if self.summed_in_row {
            self.depth
        } else {
            self.n
        }
    }

    /// Vectors of a row.
    pub(super) fn vectors(self) -> u32 {
        self.columns() / EIGHT
    }

    /// Vectors of a row in shared memory.
    pub(super) fn row(self) -> u32 {
        row_of(self.columns()) / EIGHT
    }

    /// Rows that the units of a cube copy at a time.
    pub(super) fn rows_at_once(self) -> u32 {
        self.units / self.vectors()
    }

    /// Vectors of shared memory.
    pub(super) fn room(self) -> u32 {
        self.rows() * self.row()
    }

    /// How far a row or column of the result, and a term, is away in shared memory.
    pub(super) fn offset(self, i: u32, term: u32) -> usize {
        let (row, column) = if self.summed_in_row {
            (i, term)
        } else {
            (term, i)
        };
        (row * self.row() + column / EIGHT) as usize
    }
}

/// How a product is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Plan {
    pub(super) left: Block,
    pub(super) right: Block,
    /// Rows and columns of the result that a plane has.
    pub(super) of_plane: (u32, u32),
    pub(super) stages: u32,
}

impl Plan {
    /// For factors whose rows have what is summed over, or not: see [`Block::summed_in_row`].
    pub(super) fn new<R: CubeRuntime>(
        client: &ComputeClient<R>,
        left_summed_in_row: bool,
        right_summed_in_row: bool,
    ) -> Self {
        let units = (SIDE_OF_BLOCK / SIDE_OF_PLANE).pow(2) * PLANE;
        let block = |summed_in_row| Block {
            summed_in_row,
            n: SIDE_OF_BLOCK,
            depth: DEPTH,
            units,
        };
        let (left, right) = (block(left_summed_in_row), block(right_summed_in_row));
        let bytes = (left.room() + right.room()) as usize * ALIGNMENT;
        let room = client.properties().hardware.max_shared_memory_size;
        Self {
            left,
            right,
            of_plane: (SIDE_OF_PLANE, SIDE_OF_PLANE),
            // Two cubes share a multiprocessor, which has little more room than a cube may have.
            stages: if room >= 6 * bytes { 3 } else { 2 },
        }
    }

    pub(super) fn planes(self) -> (u32, u32) {
        (
            self.left.n / self.of_plane.0,
            self.right.n / self.of_plane.1,
        )
    }

    pub(super) fn units(self) -> u32 {
        self.planes().0 * self.planes().1 * PLANE
    }
}
