//! The kernel: a cube's block of a product.

use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::barrier::{Barrier, copy_async};
use burn_cubecl::cubecl::prelude::*;

use super::plan::{Block, Plan};
use crate::kernels::cube::matrices::{
    ALIGNMENT, EIGHT, Eight, HALF, OWN, Pair, QUAD, SIDE, Tile, WORDS, arrive, load, multiply_by,
    zeros,
};

/// What a launch is told.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
pub(super) struct Sizes {
    /// Rows and columns of the result.
    rows: u32,
    columns: u32,
    /// Number of terms of a part.
    depth: u32,
    /// Distance of rows of the factors, in vectors.
    left_row: usize,
    right_row: usize,
}

/// The vectors of a unit in the blocks of a factor.
#[derive(CubeType, Clone, Copy)]
struct Source {
    /// Offset of its first vector in the first block.
    first: usize,
    /// Distances of its next vector, and of the next block.
    next: usize,
    next_block: usize,
    /// Offset of its first vector in shared memory.
    to: usize,
}

#[cube]
fn source(row: usize, first: u32, term: usize, #[comptime] block: Block) -> Source {
    let vectors = comptime![block.vectors()];
    let (of_row, of_column) = (UNIT_POS / vectors, UNIT_POS % vectors);
    let mut at = of_row as usize * row + of_column as usize;
    let mut next_block = row * comptime![block.depth as usize];
    if comptime![block.summed_in_row] {
        at += first as usize * row + term / comptime![EIGHT as usize];
        next_block = comptime![(block.depth / EIGHT) as usize].runtime();
    } else {
        at += term * row + (first / EIGHT) as usize;
    }
    Source {
        first: at,
        next: row * comptime![block.rows_at_once() as usize],
        next_block,
        to: (of_row * comptime![block.row()] + of_column) as usize,
    }
}

/// Begins to copy a block.
#[cube]
fn copy(
    factor: &Array<Eight>,
    from: &Source,
    to: &mut SharedMemory<Eight>,
    number: u32,
    #[comptime] stage: u32,
    #[comptime] block: Block,
) {
    let first = from.first + number as usize * from.next_block;
    #[unroll]
    for i in 0..comptime![block.rows() / block.rows_at_once()] {
        let at = first + i as usize * from.next;
        let skipped = comptime![stage * block.room() + i * block.rows_at_once() * block.row()];
        let to_at = from.to + comptime![skipped as usize];
        copy_async(
            &factor.slice(at, at + 1),
            &mut to.slice_mut(to_at, to_at + 1),
            WORDS,
        );
    }
}

/// Offset of the unit's row for `ldmatrix` in a block whose first row or column of the result is
/// `first`: of the second of four matrices are the next rows or columns if `next_first`, otherwise the next terms.
#[cube]
fn row_in_block(first: u32, #[comptime] next_first: bool, #[comptime] block: Block) -> usize {
    let unit = UNIT_POS_X;
    let (near, far) = (unit / HALF % 2 * HALF, unit / SIDE * HALF);
    let (mut i, mut term) = (near, far);
    if comptime![!next_first] {
        i = far;
        term = near;
    }
    let (mut row, mut column) = (first + i, term);
    if comptime![!block.summed_in_row] {
        row = term;
        column = first + i;
    }
    ((row + unit % HALF) * comptime![block.row()] + column / EIGHT) as usize
}

/// The sums of a plane for [`SIDE`] rows before any product: the bias of its columns, or zeros.
#[cube]
fn first_sums(
    bias: &ComptimeOption<Array<Pair<f32>>>,
    column: u32,
    #[comptime] columns: u32,
) -> Sequence<Tile> {
    let mut tiles = zeros(columns);
    #[comptime]
    match bias {
        ComptimeOption::Some(bias) => {
            let first = (column / 2 + UNIT_POS_X % QUAD) as usize;
            #[unroll]
            for tile in 0..comptime![(columns / HALF) as usize] {
                let pair = bias[first + tile * comptime![(HALF / 2) as usize]];
                let of_tile = tiles.index_mut(tile);
                #[unroll]
                for own in 0..comptime![OWN as usize] {
                    of_tile[own] = pair;
                }
            }
        }
        ComptimeOption::None => {}
    }
    tiles
}

/// `left right`, for each part of the terms; plus the bias of every column, if there is one.
#[cube(launch, explicit_define, address_type = "dynamic")]
pub(super) fn multiply<F: Float, O: Float>(
    left: &Array<Eight>,
    right: &Array<Eight>,
    bias: &ComptimeOption<Array<Pair<f32>>>,
    output: &mut Array<Pair<O>>,
    sizes: &Sizes,
    #[comptime] plan: Plan,
    #[define(F, O)] _dtypes: [StorageType; 2],
) {
    let (rows, columns) = comptime![(plan.left, plan.right)];
    let first_row = min(
        CUBE_POS_Y * comptime![rows.n],
        sizes.rows - comptime![rows.n],
    );
    let first_column = min(
        CUBE_POS_X * comptime![columns.n],
        sizes.columns - comptime![columns.n],
    );
    let first_term = CUBE_POS_Z as usize * sizes.depth as usize;
    let of_left = source(sizes.left_row, first_row, first_term, rows);
    let of_right = source(sizes.right_row, first_column, first_term, columns);
    let stages = comptime![plan.stages];
    let mut lefts = SharedMemory::<Eight>::new_aligned(
        comptime![(stages * rows.room()) as usize],
        comptime![ALIGNMENT],
    );
    let mut rights = SharedMemory::<Eight>::new_aligned(
        comptime![(stages * columns.room()) as usize],
        comptime![ALIGNMENT],
    );
    let mut copied = Sequence::<Shared<Barrier>>::new();
    #[unroll]
    for _ in 0..stages {
        copied.push(Barrier::shared(CUBE_DIM, UNIT_POS == 0));
    }
    let n_blocks = sizes.depth / comptime![rows.depth];
    #[unroll]
    for stage in 0..comptime![stages - 1] {
        if stage < n_blocks {
            copy(left, &of_left, &mut lefts, stage, stage, rows);
            copy(right, &of_right, &mut rights, stage, stage, columns);
        }
        arrive(copied.index(comptime![stage as usize]));
    }

    let plane = UNIT_POS_Y;
    let planes = comptime![plan.planes().1];
    let (of_rows, of_columns) = comptime![plan.of_plane];
    let (row_of_plane, column_of_plane) = (plane / planes * of_rows, plane % planes * of_columns);
    let at_left = row_in_block(row_of_plane, true, rows);
    let at_right = row_in_block(column_of_plane, false, columns);
    let mut sums = Sequence::<Sequence<Tile>>::new();
    #[unroll]
    for _ in 0..comptime![of_rows / SIDE] {
        sums.push(first_sums(bias, first_column + column_of_plane, of_columns));
    }
    let mut phase = 0u32.runtime();
    for first in range_stepped(0, n_blocks, stages) {
        #[unroll]
        for stage in 0..stages {
            if first + stage < n_blocks {
                copied.index(comptime![stage as usize]).wait_parity(phase);
                // All units have what they need of the block before, whose room is the next one's.
                sync_cube();
                let ahead = comptime![(stage + stages - 1) % stages];
                let number = first + comptime![stage + stages - 1];
                if number < n_blocks {
                    copy(left, &of_left, &mut lefts, number, ahead, rows);
                    copy(right, &of_right, &mut rights, number, ahead, columns);
                }
                arrive(copied.index(comptime![ahead as usize]));
                add_products::<F>(&lefts, at_left, &rights, at_right, &mut sums, stage, plan);
            }
        }
        phase = 1 - phase;
    }
    let part = CUBE_POS_Z as usize * sizes.rows as usize;
    write::<O>(
        output,
        &sums,
        part + (first_row + row_of_plane) as usize,
        first_column + column_of_plane,
        sizes.columns,
        plan,
    );
}

/// Adds the products of a stage.
#[cube]
fn add_products<F: Float>(
    lefts: &SharedMemory<Eight>,
    at_left: usize,
    rights: &SharedMemory<Eight>,
    at_right: usize,
    sums: &mut Sequence<Sequence<Tile>>,
    #[comptime] stage: u32,
    #[comptime] plan: Plan,
) {
    let (rows, columns) = comptime![(plan.left, plan.right)];
    let (of_rows, of_columns) = comptime![plan.of_plane];
    #[unroll]
    for step in 0..comptime![rows.depth / SIDE] {
        let mut factors = Sequence::<Array<Pair<F>>>::new();
        #[unroll]
        for i in 0..comptime![of_rows / SIDE] {
            let at = comptime![(stage * rows.room()) as usize + rows.offset(i * SIDE, step * SIDE)];
            factors.push(load::<F>(
                lefts,
                at_left + at,
                comptime![!rows.summed_in_row],
            ));
        }
        #[unroll]
        for j in 0..comptime![of_columns / SIDE] {
            let at = comptime![
                (stage * columns.room()) as usize + columns.offset(j * SIDE, step * SIDE)
            ];
            let by = load::<F>(rights, at_right + at, comptime![!columns.summed_in_row]);
            #[unroll]
            for i in 0..comptime![(of_rows / SIDE) as usize] {
                multiply_by::<F>(factors.index(i), &by, sums.index_mut(i), comptime![2 * j]);
            }
        }
    }
}

/// Writes the sums of a plane.
#[cube]
fn write<O: Float>(
    output: &mut Array<Pair<O>>,
    sums: &Sequence<Sequence<Tile>>,
    row: usize,
    column: u32,
    columns: u32,
    #[comptime] plan: Plan,
) {
    let stride = (columns / 2) as usize;
    let first =
        (row + (UNIT_POS_X / QUAD) as usize) * stride + (column / 2 + UNIT_POS_X % QUAD) as usize;
    #[unroll]
    for i in 0..comptime![plan.of_plane.0 / SIDE] {
        #[unroll]
        for own in 0..comptime![OWN] {
            let at = first + comptime![(i * SIDE + own * HALF) as usize] * stride;
            #[unroll]
            for tile in 0..comptime![(plan.of_plane.1 / HALF) as usize] {
                let of_tile = sums.index(comptime![i as usize]).index(tile);
                output[at + tile * comptime![(HALF / 2) as usize]] =
                    Pair::cast_from(of_tile[comptime![own as usize]]);
            }
        }
    }
}
