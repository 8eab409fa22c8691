//! Rows of one side (queries or keys) and their metadata, in shared memory.

use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;

use super::cube_rows::{Location, Task, Visit, lengths, visited_slot};
use super::plan::Plan;
use super::row::{RowInfo, position_in, row_info, slot_over_rounds};
use super::tables::Tables;
use crate::kernels::cube::common::{Four, four_of, head_at};

/// Metadata of rows, shared by all units of a cube.
#[derive(CubeType, Clone, Copy)]
pub(super) struct SharedRows {
    pub(super) positions: SharedMemory<i32>,
    pub(super) sort_keys: SharedMemory<i32>,
    visible: SharedMemory<i32>,
    /// Four numbers for each query, which give the position of its dropout factors in the random stream.
    draws: SharedMemory<u32>,
}

/// Allocates metadata for `n` rows; `draws` only for queries.
#[cube]
pub(super) fn room_for(#[comptime] n: u32, #[comptime] draws: bool) -> SharedRows {
    SharedRows {
        positions: SharedMemory::<i32>::new(comptime![n as usize]),
        sort_keys: SharedMemory::<i32>::new(comptime![n as usize]),
        visible: SharedMemory::<i32>::new(comptime![n as usize]),
        draws: SharedMemory::<u32>::new(comptime![if draws { 4 * n as usize } else { 1 }]),
    }
}

/// Stores the metadata of row `number`.
#[cube]
pub(super) fn put(shared: &SharedRows, number: u32, info: &RowInfo, #[comptime] draws: bool) {
    let mut positions = shared.positions;
    let mut sort_keys = shared.sort_keys;
    let mut visible = shared.visible;
    positions[number as usize] = info.position;
    sort_keys[number as usize] = info.sort_key;
    visible[number as usize] = info.visible;
    if comptime![draws] {
        let mut to = shared.draws;
        let draw = (number * 4) as usize;
        to[draw] = info.draw_row;
        to[draw + 1] = info.draw_width;
        to[draw + 2] = info.draw_low;
        to[draw + 3] = info.draw_high;
    }
}

/// Reads the metadata of row `number`.
#[cube]
pub(super) fn shared_row(shared: &SharedRows, number: u32, #[comptime] draws: bool) -> RowInfo {
    let mut draw_row = 0u32.runtime();
    let mut draw_width = 0u32.runtime();
    let mut draw_low = 0u32.runtime();
    let mut draw_high = 0u32.runtime();
    if comptime![draws] {
        let draw = (number * 4) as usize;
        draw_row = shared.draws[draw];
        draw_width = shared.draws[draw + 1];
        draw_low = shared.draws[draw + 2];
        draw_high = shared.draws[draw + 3];
    }
    RowInfo {
        position: shared.positions[number as usize],
        sort_key: shared.sort_keys[number as usize],
        visible: shared.visible[number as usize],
        draw_row,
        draw_width,
        draw_low,
        draw_high,
    }
}

/// Loads the metadata of the row that the unit has a part of, and shares them with the cube.
/// Synchronises the cube afterwards.
#[cube]
pub(super) fn load_own<I: Int>(
    shared: &SharedRows,
    location: &Location,
    task: &Task,
    tables: &Tables<I>,
    #[comptime] plan: Plan,
) -> RowInfo {
    let (n, _) = lengths(&tables.sizes, plan);
    let slot = slot_over_rounds(location.slot, task, &tables.sizes, n, plan);
    let position = position_in(slot, task, tables, plan);
    let query = comptime![!plan.of_keys];
    let info: RowInfo = row_info(slot, position, task, tables, query, plan);
    if UNIT_POS_Y == 0 {
        put(shared, UNIT_POS_X, &info, false);
    }
    sync_cube();
    info
}

/// Loads the metadata of a block of the other side: slots of a visit from number `first` on.
/// Synchronises the cube before and after, as units have to finish the previous block first.
#[cube]
pub(super) fn load_block<I: Int>(
    shared: &SharedRows,
    first: u32,
    visit: &Visit,
    task: &Task,
    tables: &Tables<I>,
    #[comptime] plan: Plan,
) {
    sync_cube();
    for number in range_stepped(UNIT_POS, comptime![plan.others], CUBE_DIM) {
        let slot = visited_slot(visit, first + number, task, &tables.sizes, plan);
        let position = position_in(slot, task, tables, plan);
        let query = comptime![plan.of_keys];
        let info = row_info(slot, position, task, tables, query, plan);
        put(
            shared,
            number,
            &info,
            comptime![plan.dropout && plan.of_keys],
        );
    }
    sync_cube();
}

/// Copies the rows of a block of the other side, of `width` features, to shared memory: zeros for
/// empty slots. If `divided`, queries become the keys that they also are.
#[cube]
pub(super) fn load_rows<F: Float, I: Int>(
    to: &mut SharedMemory<Four>,
    from: &Tensor<F>,
    shared: &SharedRows,
    head: u32,
    tables: &Tables<I>,
    #[comptime] width: u32,
    #[comptime] divided: bool,
    #[comptime] plan: Plan,
) {
    let fours = comptime![plan.parts * plan.fours(width)];
    let of_head = head_at(from, head);
    let first_divisor = head as usize * tables.sizes.n_keys as usize;
    for i in range_stepped(UNIT_POS, comptime![plan.others * fours], CUBE_DIM) {
        let position = shared.positions[(i / fours) as usize];
        let mut four = Four::new(0.0);
        if position >= 0 {
            let row = of_head + position as usize * from.stride(2);
            four = four_of(from, row, 4 * (i % fours), width);
            if divided {
                four /= Four::new(tables.divisors[first_divisor + position as usize]);
            }
        }
        to[i as usize] = four;
    }
}
