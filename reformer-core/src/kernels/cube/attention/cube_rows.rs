//! Rows of a cube, and the slots of the other side that it visits.

use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;

use super::plan::Plan;
use super::row::{NO_SLOT, slot_over_rounds};
use super::sizes::Sizes;

/// Location of a row, in slots from the start of its round.
#[derive(CubeType, Clone, Copy)]
pub(super) struct CubeBlock {
    /// Its slot, negative if it has none.
    pub(super) own: i32,
    /// Its index in its tile.
    pub(super) in_tile: u32,
    /// The first slot of the other side within reach, and the number of these slots.
    pub(super) first_other: i32,
    pub(super) n_others: u32,
}

/// Task of a cube: a head of the batch in a round.
#[derive(CubeType, Clone, Copy)]
pub(super) struct Task {
    pub(super) head: u32,
    pub(super) round: u32,
    /// Index of the results: heads of the launch are contiguous within each round, beginning with
    /// its first round.
    pub(super) rows: u32,
    /// False if the grid has more cubes than tasks.
    pub(super) is_any: bool,
}

#[cube]
pub(super) fn task_of_cube(sizes: &Sizes) -> Task {
    let number = (CUBE_POS / sizes.blocks as usize) as u32;
    let head = number / sizes.at_once;
    let round = number % sizes.at_once;
    Task {
        head: sizes.first_head + head,
        round: sizes.first_round + round,
        rows: round * sizes.n + head,
        is_any: head < sizes.n,
    }
}

/// Number of rows of a head on the side of the cube's own rows, and on the other side.
#[cube]
pub(super) fn lengths(sizes: &Sizes, #[comptime] plan: Plan) -> (u32, u32) {
    if comptime![plan.of_keys] {
        (sizes.n_keys, sizes.seq_length)
    } else {
        (sizes.seq_length, sizes.n_keys)
    }
}

/// Location of row `row` of this cube.
#[cube]
pub(super) fn block_of(row: u32, sizes: &Sizes, #[comptime] plan: Plan) -> CubeBlock {
    let (n, others) = lengths(sizes, plan);
    let number = (CUBE_POS % sizes.blocks as usize) as u32;
    let rows = comptime![plan.rows];
    let length = comptime![plan.length];
    let mut own = 0i32.runtime() - 1;
    let mut in_tile = number * rows + row;
    let mut first_other = 0i32.runtime();
    let mut n_others = others;
    if comptime![plan.sorted] {
        let in_tile_blocks = comptime![plan.length.div_ceil(plan.rows)];
        let tile = number / in_tile_blocks;
        in_tile = number % in_tile_blocks * rows + row;
        if in_tile < length && tile < sizes.n_slots / length {
            own = (tile * length + in_tile) as i32;
        }
        // For keys the window is mirrored: queries up to `after` tiles before and `before` tiles after can see it.
        let before = comptime![if plan.of_keys {
            plan.after
        } else {
            plan.before
        }];
        first_other = (tile * length) as i32 - comptime![(before * plan.length) as i32];
        n_others = comptime![plan.reach()].runtime();
    } else if in_tile < n {
        own = in_tile as i32;
    }
    CubeBlock {
        own,
        in_tile,
        first_other,
        n_others,
    }
}

/// Slots of the other side that a cube visits.
#[derive(CubeType, Clone, Copy)]
pub(super) struct Visit {
    /// See [`CubeBlock::first_other`].
    first_other: i32,
    /// Number of these slots.
    pub(super) n: u32,
    /// Number of rows of a head on the other side.
    n_rows: u32,
}

/// The slots that the cube of `block` visits; `last` is the last position of its rows.
#[cube]
pub(super) fn visit_of(
    block: &CubeBlock,
    last: i32,
    sizes: &Sizes,
    #[comptime] plan: Plan,
) -> Visit {
    let (_, n_rows) = lengths(sizes, plan);
    let mut n = block.n_others;
    if comptime![plan.causal && !plan.sorted && !plan.of_keys] {
        n = min(n, last as u32 + 1);
    }
    Visit {
        first_other: block.first_other,
        n,
        n_rows,
    }
}

/// The index over all rounds of slot number `number` of a visit.
#[cube]
pub(super) fn visited_slot(
    visit: &Visit,
    number: u32,
    task: &Task,
    sizes: &Sizes,
    #[comptime] plan: Plan,
) -> u32 {
    let from_start = visit.first_other + number as i32;
    let mut slot = slot_over_rounds(from_start, task, sizes, visit.n_rows, plan);
    if number >= visit.n {
        slot = NO_SLOT.runtime();
    }
    slot
}

/// For a query at index `reached` in the reach of a key: the index of the key's slot in the reach
/// of the query.
#[cube]
pub(super) fn seen_from(reached: u32, block: &CubeBlock, #[comptime] plan: Plan) -> u32 {
    let mut number = block.in_tile;
    if comptime![plan.sorted] {
        let length = comptime![plan.length];
        let tiles = comptime![plan.before + plan.after];
        number += (tiles - reached / length) * length;
    }
    number
}
