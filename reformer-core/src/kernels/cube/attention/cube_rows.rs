//! Rows of a cube, and the slots of the other side that it visits.

use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;

use super::plan::Plan;
use super::row::{NO_SLOT, slot_over_rounds};
use super::sizes::Sizes;

/// Location of a row.
#[derive(CubeType, Clone, Copy)]
pub(super) struct Location {
    /// Its slot, from the start of its round on; negative if it has none.
    pub(super) slot: i32,
    /// Its index in its tile.
    pub(super) in_tile: u32,
}

/// Task of a cube: a head of the batch in a round.
#[derive(CubeType, Clone, Copy)]
pub(super) struct Task {
    pub(super) head: u32,
    pub(super) round: u32,
    /// Index of its results: heads of the launch are contiguous within each round, beginning with
    /// its first round.
    pub(super) result: u32,
    /// False if the grid has more cubes than tasks.
    pub(super) is_any: bool,
}

#[cube]
pub(super) fn task_of_cube(sizes: &Sizes) -> Task {
    let number = (CUBE_POS / sizes.n_cubes as usize) as u32;
    let head = number / sizes.at_once;
    let round = number % sizes.at_once;
    Task {
        head: sizes.first_head + head,
        round: sizes.first_round + round,
        result: round * sizes.n + head,
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
pub(super) fn location_of(row: u32, sizes: &Sizes, #[comptime] plan: Plan) -> Location {
    let (n_rows, _) = lengths(sizes, plan);
    let number = (CUBE_POS % sizes.n_cubes as usize) as u32;
    let rows = comptime![plan.rows];
    let mut slot = 0i32.runtime() - 1;
    let mut in_tile = number * rows + row;
    if comptime![plan.sorted] {
        let (length, cubes) = comptime![(plan.length, plan.cubes_of_tile())];
        let tile = number / cubes;
        in_tile = number % cubes * rows + row;
        if in_tile < length && tile < sizes.n_slots / length {
            slot = (tile * length + in_tile) as i32;
        }
    } else if in_tile < n_rows {
        slot = in_tile as i32;
    }
    Location { slot, in_tile }
}

/// Slots of the other side that a cube visits.
#[derive(CubeType, Clone, Copy)]
pub(super) struct Visit {
    /// The first one, from the start of the cube's round on, and their number.
    first: i32,
    n: u32,
    /// Number of rows of a head on the other side.
    n_rows: u32,
}

/// The slots within reach of the cube's rows.
#[cube]
pub(super) fn visit_of(sizes: &Sizes, #[comptime] plan: Plan) -> Visit {
    let (_, n_rows) = lengths(sizes, plan);
    let mut first = 0i32.runtime();
    let mut n = n_rows;
    if comptime![plan.sorted] {
        let number = (CUBE_POS % sizes.n_cubes as usize) as u32;
        let tile = number / comptime![plan.cubes_of_tile()];
        // For keys the window is mirrored: queries up to `after` tiles before and `before` tiles after can see it.
        let before = comptime![if plan.of_keys {
            plan.after
        } else {
            plan.before
        }];
        let length = comptime![plan.length];
        first = (tile * length) as i32 - comptime![(before * length) as i32];
        n = comptime![plan.reach()].runtime();
    }
    Visit { first, n, n_rows }
}

/// Number of slots of a visit that rows can see, the last of which is at position `last`.
#[cube]
pub(super) fn end_of(visit: &Visit, last: i32, #[comptime] plan: Plan) -> u32 {
    let mut n = visit.n;
    if comptime![!plan.sorted && plan.causal && !plan.of_keys] {
        n = min(n, last as u32 + 1);
    }
    n
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
    let in_round = visit.first + number as i32;
    let mut slot = slot_over_rounds(in_round, task, sizes, visit.n_rows, plan);
    if number >= visit.n {
        slot = NO_SLOT.runtime();
    }
    slot
}

/// For a query at index `reached` in the reach of a key: the index of the key's slot in the reach
/// of the query.
#[cube]
pub(super) fn seen_from(reached: u32, key: &Location, #[comptime] plan: Plan) -> u32 {
    let mut number = key.in_tile;
    if comptime![plan.sorted] {
        let length = comptime![plan.length];
        let tiles = comptime![plan.before + plan.after];
        number += (tiles - reached / length) * length;
    }
    number
}
