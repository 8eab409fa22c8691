//! Per-row metadata of one side (queries or keys), kept in shared memory.

use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;

use super::plan::{Plan, Sizes};
use super::side::{Known, NOWHERE, look_up, slot_over_rounds};
use super::walk::{Block, Task};

/// Metadata of rows, shared by all units of a cube.
#[derive(CubeType, Clone, Copy)]
pub(super) struct Crowd {
    pub(super) positions: SharedMemory<i32>,
    pub(super) places: SharedMemory<i32>,
    visible: SharedMemory<i32>,
    /// Four numbers for each query, which give the position of its dropout factors in the random stream.
    draws: SharedMemory<u32>,
}

/// Allocates metadata for `n` rows; `draws` only for queries.
#[cube]
pub(super) fn room_for(#[comptime] n: u32, #[comptime] draws: bool) -> Crowd {
    Crowd {
        positions: SharedMemory::<i32>::new(comptime![n as usize]),
        places: SharedMemory::<i32>::new(comptime![n as usize]),
        visible: SharedMemory::<i32>::new(comptime![n as usize]),
        draws: SharedMemory::<u32>::new(comptime![if draws { 4 * n as usize } else { 1 }]),
    }
}

/// Stores the metadata of row `number`.
#[cube]
pub(super) fn put(crowd: &Crowd, number: u32, known: &Known, #[comptime] draws: bool) {
    let mut positions = crowd.positions;
    let mut places = crowd.places;
    let mut visible = crowd.visible;
    positions[number as usize] = known.position;
    places[number as usize] = known.place;
    visible[number as usize] = known.visible;
    if comptime![draws] {
        let mut to = crowd.draws;
        let draw = (number * 4) as usize;
        to[draw] = known.draw_row;
        to[draw + 1] = known.draw_width;
        to[draw + 2] = known.draw_low;
        to[draw + 3] = known.draw_high;
    }
}

/// Reads the metadata of row `number`.
#[cube]
pub(super) fn known_of(crowd: &Crowd, number: u32, #[comptime] draws: bool) -> Known {
    let mut draw_row = 0u32.runtime();
    let mut draw_width = 0u32.runtime();
    let mut draw_low = 0u32.runtime();
    let mut draw_high = 0u32.runtime();
    if comptime![draws] {
        let draw = (number * 4) as usize;
        draw_row = crowd.draws[draw];
        draw_width = crowd.draws[draw + 1];
        draw_low = crowd.draws[draw + 2];
        draw_high = crowd.draws[draw + 3];
    }
    Known {
        position: crowd.positions[number as usize],
        place: crowd.places[number as usize],
        visible: crowd.visible[number as usize],
        draw_row,
        draw_width,
        draw_low,
        draw_high,
    }
}

/// Loads the metadata of a block of the other side: slots from `first` on, relative to the cube's
/// reach; slots from `end` on are empty. Synchronises the cube before and after, as units have to
/// finish the previous block first.
#[cube]
pub(super) fn look_around<I: Int>(
    crowd: &Crowd,
    first: u32,
    end: u32,
    n: u32,
    task: &Task,
    block: &Block,
    order: &Tensor<I>,
    places: &Tensor<i32>,
    mask: &Tensor<I>,
    sizes: &Sizes,
    #[comptime] plan: Plan,
) {
    sync_cube();
    for number in range_stepped(UNIT_POS, comptime![plan.others], CUBE_DIM) {
        let reached = first + number;
        let mut slot = slot_over_rounds(block.first_other + reached as i32, task, sizes, n, plan);
        if reached >= end {
            slot = NOWHERE.runtime();
        }
        let queries = comptime![plan.of_keys];
        let known = look_up(slot, task, order, places, mask, sizes, queries, plan);
        put(
            crowd,
            number,
            &known,
            comptime![plan.dropout && plan.of_keys],
        );
    }
    sync_cube();
}
