//! Metadata of the rows of both sides, in shared memory and in registers.

use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;

use super::{HALF, OWN, PLANE, QUAD, SIDE, in_quad};
use crate::kernels::cube::attention::cube_rows::{
    Location, Task, Visit, lengths, location_of, visited_slot,
};
use crate::kernels::cube::attention::logit::{Range, in_sight, statistics_of};
use crate::kernels::cube::attention::plan::Plan;
use crate::kernels::cube::attention::row::{
    MASKED_POSITION, NO_SLOT, RowInfo, position_in, row_info, slot_over_rounds,
};
use crate::kernels::cube::attention::sizes::Sizes;
use crate::kernels::cube::attention::tables::Tables;

type Quadruple<E> = Vector<E, Const<4>>;

/// Metadata of a row.
#[derive(CubeType)]
pub(super) struct Row {
    pub(super) info: RowInfo,
    /// Of a key: the factor of its logits.
    pub(super) scale: f32,
    /// Of a query, in backward: see [`Statistics`](super::super::logit::Statistics).
    pub(super) statistics: Quadruple<f32>,
    /// Sort keys in the rounds that are compared.
    pub(super) of_rounds: Array<i32>,
}

/// Metadata of rows, shared by all units of a cube.
#[derive(CubeType, Clone, Copy)]
pub(super) struct SharedInfo {
    /// Position, position as a visible key, sort key, and bits of the scale.
    pub(super) infos: SharedMemory<Quadruple<i32>>,
    of_rounds: SharedMemory<Quadruple<i32>>,
    statistics: SharedMemory<Quadruple<f32>>,
    draws: SharedMemory<Quadruple<u32>>,
}

/// Number of rounds in which sort keys of a pair are compared to count those that it has together. A
/// pair in reach is near in its own round, which is not one of them.
pub(super) fn compared_rounds(plan: &Plan) -> u32 {
    plan.counted_rounds.saturating_sub(1)
}

/// Number of vectors of four for the sort keys of these rounds.
fn fours_of_rounds(plan: &Plan) -> u32 {
    compared_rounds(plan).div_ceil(4)
}

/// Number of blocks of the other side whose metadata are in shared memory: the present one, the next one,
/// whose rows are being copied, and the one after it.
const BLOCKS: u32 = 3;

/// Bytes of the metadata of `rows` rows of a cube, and of some blocks of the other side.
pub(in super::super) fn bytes_of_info(plan: &Plan) -> u32 {
    let queries = plan.of_keys as u32 * (1 + plan.dropout as u32);
    let others = BLOCKS * plan.others * (1 + fours_of_rounds(plan) + queries);
    // Of what is not there, there is one, and so of the metadata of the cube's own rows.
    16 * (plan.rows + others + 6) + 4 * (plan.counted_rounds + 1)
}

/// Allocates metadata for the rows of a cube.
#[cube]
pub(super) fn room_for_own(#[comptime] plan: Plan) -> SharedInfo {
    SharedInfo {
        infos: SharedMemory::<Quadruple<i32>>::new(comptime![plan.rows as usize]),
        of_rounds: SharedMemory::<Quadruple<i32>>::new(1usize),
        statistics: SharedMemory::<Quadruple<f32>>::new(1usize),
        draws: SharedMemory::<Quadruple<u32>>::new(1usize),
    }
}

/// Allocates metadata for blocks of the other side.
#[cube]
pub(super) fn room_for_others(#[comptime] plan: Plan) -> SharedInfo {
    let n = comptime![(BLOCKS * plan.others) as usize];
    let of_rounds = comptime![Ord::max(n * fours_of_rounds(&plan) as usize, 1)];
    let draws = comptime![plan.dropout && plan.of_keys];
    SharedInfo {
        infos: SharedMemory::<Quadruple<i32>>::new(n),
        of_rounds: SharedMemory::<Quadruple<i32>>::new(of_rounds),
        statistics: SharedMemory::<Quadruple<f32>>::new(comptime![if plan.of_keys {
            n
        } else {
            1
        }]),
        draws: SharedMemory::<Quadruple<u32>>::new(comptime![if draws { n } else { 1 }]),
    }
}

/// The unit's slot in a block of the other side, whose first one is number `first` of a visit. Units
/// beyond the block have none.
#[cube]
pub(super) fn slot_in_block(
    first: u32,
    visit: &Visit,
    task: &Task,
    sizes: &Sizes,
    #[comptime] plan: Plan,
) -> u32 {
    let mut slot = NO_SLOT.runtime();
    if UNIT_POS < comptime![plan.others] {
        slot = visited_slot(visit, first + UNIT_POS, task, sizes, plan);
    }
    slot
}

/// Reads the metadata of a slot with this position.
#[cube]
pub(super) fn row_of_slot<I: Int>(
    slot: u32,
    position: i32,
    task: &Task,
    tables: &Tables<I>,
    #[comptime] query: bool,
    #[comptime] plan: Plan,
) -> Row {
    let head = task.head;
    let sizes = tables.sizes;
    let info = row_info(slot, position, task, tables, query, plan);
    let compared = comptime![compared_rounds(&plan)];
    let mut of_rounds = Array::<i32>::new(comptime![Ord::max(compared, 1) as usize]);
    let mut scale = 1.0f32.runtime();
    let mut of_query = Quadruple::<f32>::new(0.0);
    #[unroll]
    for i in 0..comptime![Ord::max(compared, 1) as usize] {
        of_rounds[i] = 0i32.runtime();
    }
    if position >= 0 {
        let at = position as usize;
        if comptime![plan.unit_keys && !query] {
            let divisor = head as usize * sizes.n_keys as usize + at;
            scale = 1.0 / tables.divisors.read_unchecked(divisor);
        }
        if comptime![query && tables.statistics.is_some()] {
            let read = statistics_of(position, head, tables);
            of_query[0] = read.max;
            of_query[1] = read.log_sum;
            of_query[2] = read.delta;
        }
        let n_rounds = comptime![plan.counted_rounds];
        let first = (head as usize * sizes.seq_length as usize + at) * n_rounds as usize;
        #[unroll]
        for i in 0..compared {
            let round = (task.round + comptime![1 + i]) % n_rounds;
            of_rounds[i as usize] = tables.sort_keys.read_unchecked(first + round as usize);
        }
    }
    Row {
        info,
        scale,
        statistics: of_query,
        of_rounds,
    }
}

/// Stores the metadata of row `number`.
#[cube]
pub(super) fn put(
    shared: &SharedInfo,
    number: u32,
    row: &Row,
    #[comptime] own: bool,
    #[comptime] plan: Plan,
) {
    let number = number as usize;
    let mut infos = shared.infos;
    let mut info = Quadruple::<i32>::empty();
    info[0] = row.info.position;
    info[1] = row.info.visible;
    info[2] = row.info.sort_key;
    info[3] = i32::reinterpret(row.scale);
    infos[number] = info;
    let compared = comptime![compared_rounds(&plan)];
    if comptime![!own && compared > 0] {
        let mut of_rounds = shared.of_rounds;
        let fours = comptime![fours_of_rounds(&plan)];
        #[unroll]
        for four in 0..fours {
            let mut some = Quadruple::<i32>::empty();
            #[unroll]
            for i in 0..4u32 {
                let round = comptime![Ord::min(four * 4 + i, compared - 1) as usize];
                some[i as usize] = row.of_rounds[round];
            }
            of_rounds[number * fours as usize + four as usize] = some;
        }
    }
    if comptime![!own && plan.of_keys] {
        let mut statistics = shared.statistics;
        statistics[number] = row.statistics;
        if comptime![plan.dropout] {
            let mut draws = shared.draws;
            let mut draw = Quadruple::<u32>::empty();
            draw[0] = row.info.draw_row;
            draw[1] = row.info.draw_width;
            draw[2] = row.info.draw_low;
            draw[3] = row.info.draw_high;
            draws[number] = draw;
        }
    }
}

/// Reads the metadata of row `number` of the other side.
#[cube]
pub(super) fn shared_row(shared: &SharedInfo, number: u32, #[comptime] plan: Plan) -> Row {
    let number = number as usize;
    let info = shared.infos[number];
    let mut of_query = Quadruple::<f32>::new(0.0);
    let mut draw = Quadruple::<u32>::new(0);
    if comptime![plan.of_keys] {
        of_query = shared.statistics[number];
        if comptime![plan.dropout] {
            draw = shared.draws[number];
        }
    }
    let compared = comptime![compared_rounds(&plan)];
    let mut of_rounds = Array::<i32>::new(comptime![Ord::max(compared, 1) as usize]);
    #[unroll]
    for four in 0..comptime![fours_of_rounds(&plan)] {
        let fours = comptime![fours_of_rounds(&plan) as usize];
        let some = shared.of_rounds[number * fours + four as usize];
        #[unroll]
        for i in 0..comptime![Ord::min(4, compared - four * 4)] {
            of_rounds[comptime![(four * 4 + i) as usize]] = some[i as usize];
        }
    }
    Row {
        info: RowInfo {
            position: info[0],
            visible: info[1],
            sort_key: info[2],
            draw_row: draw[0],
            draw_width: draw[1],
            draw_low: draw[2],
            draw_high: draw[3],
        },
        scale: f32::reinterpret(info[3]),
        statistics: of_query,
        of_rounds,
    }
}

/// Loads the metadata of the unit's rows, and shares them with the cube; also returns where the rows
/// are.
#[cube]
pub(super) fn load_own<I: Int>(
    shared: &SharedInfo,
    task: &Task,
    tables: &Tables<I>,
    #[comptime] plan: Plan,
) -> (Sequence<Row>, Sequence<Location>) {
    let sizes = tables.sizes;
    let (n, _) = lengths(&sizes, plan);
    let mut rows = Sequence::<Row>::new();
    let mut locations = Sequence::<Location>::new();
    #[unroll]
    for i in 0..OWN {
        let number = own_number(i);
        let location: Location = location_of(number, &sizes, plan);
        let slot = slot_over_rounds(location.slot, task, &sizes, n, plan);
        let position = position_in(slot, task, tables, plan);
        let query = comptime![!plan.of_keys];
        let row = row_of_slot(slot, position, task, tables, query, plan);
        if in_quad() == 0 {
            put(shared, number, &row, true, plan);
        }
        rows.push(row);
        locations.push(location);
    }
    (rows, locations)
}

/// Loads the metadata of the first two blocks of the other side.
#[cube]
pub(super) fn load_first_blocks<I: Int>(
    shared: &SharedInfo,
    visit: &Visit,
    task: &Task,
    tables: &Tables<I>,
    #[comptime] plan: Plan,
) {
    let (others, query) = comptime![(plan.others, plan.of_keys)];
    let mut slots = Array::<u32>::new(2usize);
    let mut positions = Array::<i32>::new(2usize);
    #[unroll]
    for i in 0..2u32 {
        let first = comptime![i * others].runtime();
        let slot = slot_in_block(first, visit, task, &tables.sizes, plan);
        slots[i as usize] = slot;
        positions[i as usize] = position_in(slot, task, tables, plan);
    }
    #[unroll]
    for i in 0..2u32 {
        let at = comptime![i as usize];
        let row = row_of_slot(slots[at], positions[at], task, tables, query, plan);
        put_in_block(shared, comptime![i * others].runtime(), &row, plan);
    }
}

/// Stores the metadata of the unit's slot in a block, whose first one is in row `first`.
#[cube]
pub(super) fn put_in_block(shared: &SharedInfo, first: u32, row: &Row, #[comptime] plan: Plan) {
    if UNIT_POS < comptime![plan.others] {
        put(shared, first + UNIT_POS, row, false, plan);
    }
}

/// The row of the metadata of a block that follows another one.
#[cube]
pub(super) fn block_after(first: u32, #[comptime] plan: Plan) -> u32 {
    let next = first + comptime![plan.others];
    select(
        next == comptime![BLOCKS * plan.others],
        0u32.runtime(),
        next,
    )
}

/// See [`Range`]: of `n` rows from row `from` on.
#[cube]
pub(super) fn range_of(shared: &SharedInfo, from: u32, #[comptime] n: u32) -> Range {
    let mut first = MASKED_POSITION.runtime();
    let mut last = 0i32.runtime() - 1;
    let mut lowest = MASKED_POSITION.runtime();
    let mut highest = 0i32.runtime();
    #[unroll]
    for turn in 0..comptime![n.div_ceil(PLANE)] {
        // If there are not enough rows, units have the last one.
        let row = min(turn * PLANE + UNIT_POS_X, comptime![n - 1].runtime());
        let info = shared.infos[(from + row) as usize];
        if info[0] >= 0 {
            first = min(first, info[0]);
            last = max(last, info[0]);
            lowest = min(lowest, info[2]);
            highest = max(highest, info[2]);
        }
    }
    let last = plane_max(last);
    Range {
        any: last >= 0,
        first: plane_min(first),
        last,
        lowest: plane_min(lowest),
        highest: plane_max(highest),
    }
}

/// Whether any row of a block, from row `from` on, can interact with any row in the range of the cube,
/// and in that of the plane.
#[cube]
pub(super) fn any_in_sight(
    shared: &SharedInfo,
    from: u32,
    of_cube: &Range,
    of_plane: &Range,
    sizes: &Sizes,
    #[comptime] plan: Plan,
) -> (bool, bool) {
    let mut by_cube = false.runtime();
    let mut by_plane = false.runtime();
    #[unroll]
    for turn in 0..comptime![plan.others / PLANE] {
        let info = shared.infos[(from + turn * PLANE + UNIT_POS_X) as usize];
        by_cube = by_cube || in_sight(info[0], info[2], of_cube, sizes, plan);
        by_plane = by_plane || in_sight(info[0], info[2], of_plane, sizes, plan);
    }
    (plane_any(by_cube), plane_any(by_plane))
}

/// The unit's rows: their numbers in the cube.
#[cube]
fn own_number(#[comptime] own: u32) -> u32 {
    UNIT_POS_Y * SIDE + UNIT_POS_X / QUAD + comptime![own * HALF]
}
