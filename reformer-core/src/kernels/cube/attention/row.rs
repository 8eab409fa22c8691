//! Metadata of the queries and keys of a cube, and a unit's part of their rows.

use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;

use super::cube_rows::Task;
use super::plan::Plan;
use super::sizes::Sizes;
use super::tables::Tables;
use crate::kernels::cube::common::{Four, four_of, head_at, sum_of};
use crate::kernels::cube::philox::fold;

/// A slot that does not exist.
pub(super) const NO_SLOT: u32 = u32::MAX;

/// Position of a masked key, which no query sees.
pub(super) const MASKED_POSITION: i32 = i32::MAX;

/// Metadata of a row, including the start of its dropout factors.
#[derive(CubeType, Clone, Copy)]
pub(super) struct RowInfo {
    /// Negative if the slot is empty.
    pub(super) position: i32,
    pub(super) sort_key: i32,
    /// Of a key: its position, or [`MASKED_POSITION`] if it is padding.
    pub(super) visible: i32,
    /// Of a query: the row of its factors, the length of such a row, and the words of their key.
    pub(super) draw_row: u32,
    pub(super) draw_width: u32,
    pub(super) draw_low: u32,
    pub(super) draw_high: u32,
}

/// The index over all rounds of the slot that is `slot` slots from the start of the cube's round.
#[cube]
pub(super) fn slot_over_rounds(
    slot: i32,
    task: &Task,
    sizes: &Sizes,
    n: u32,
    #[comptime] plan: Plan,
) -> u32 {
    let mut found = NO_SLOT.runtime();
    if comptime![plan.sorted] {
        let first = task.round * sizes.n_slots;
        if comptime![plan.wrap] {
            let all = (sizes.n_rounds * sizes.n_slots) as i32;
            // The remainder of a negative number is negative.
            found = (((first as i32 + slot) % all + all) % all) as u32;
        } else if slot >= 0 && (slot as u32) < sizes.n_slots {
            found = first + slot as u32;
        }
    } else if slot >= 0 && (slot as u32) < n {
        found = slot as u32;
    }
    found
}

/// The position in a slot, which is indexed over all rounds; negative if the slot is empty.
#[cube]
pub(super) fn position_in<I: Int>(
    slot: u32,
    task: &Task,
    tables: &Tables<I>,
    #[comptime] plan: Plan,
) -> i32 {
    let mut position = (0u32.runtime()) as i32 - 1;
    let sizes = tables.sizes;
    if slot != NO_SLOT {
        if comptime![plan.sorted] {
            let row = task.head as usize * (sizes.n_rounds * sizes.n_slots) as usize;
            position = i32::cast_from(tables.order[row + slot as usize]);
        } else {
            position = slot as i32;
        }
    }
    position
}

/// Loads the metadata of a slot with this position.
#[cube]
pub(super) fn row_info<I: Int>(
    slot: u32,
    position: i32,
    task: &Task,
    tables: &Tables<I>,
    #[comptime] query: bool,
    #[comptime] plan: Plan,
) -> RowInfo {
    let mut sort_key = 0i32.runtime();
    let mut visible = MASKED_POSITION.runtime();
    let mut draw_row = 0u32.runtime();
    let mut draw_width = 0u32.runtime();
    let mut draw_low = 0u32.runtime();
    let mut draw_high = 0u32.runtime();
    let head = task.head;
    let sizes = tables.sizes;
    if position >= 0 {
        if comptime![plan.near] {
            let row = head as usize * sizes.seq_length as usize + position as usize;
            sort_key = tables.sort_keys[row * sizes.n_rounds as usize + task.round as usize];
        }
        if comptime![!query] {
            visible = position;
            if comptime![plan.padded] {
                let row = (head / sizes.n_heads) as usize * sizes.n_keys as usize;
                if u32::cast_from(tables.mask[row + position as usize]) != 0 {
                    visible = MASKED_POSITION.runtime();
                }
            }
        }
        if comptime![query && plan.dropout] {
            let round = slot / sizes.n_slots;
            let in_round = slot % sizes.n_slots;
            let mut number = round;
            if comptime![plan.sorted] {
                draw_row = head * sizes.n_slots + in_round;
                draw_width = comptime![plan.reach()].runtime();
            } else {
                // By slices of queries, over keys up to the last one that a slice sees.
                number = slot / sizes.slice_length;
                let start = number * sizes.slice_length;
                let n_queries = min(sizes.slice_length, sizes.seq_length - start);
                draw_row = head * n_queries + slot - start;
                draw_width = sizes.n_keys;
                if comptime![plan.causal] {
                    draw_width = start + n_queries;
                }
            }
            let (low, high) = fold(number, sizes.key_low, sizes.key_high);
            draw_low = low;
            draw_high = high;
        }
    }
    RowInfo {
        position,
        sort_key,
        visible,
        draw_row,
        draw_width,
        draw_low,
        draw_high,
    }
}

/// Whether a query and a key are within reach of each other in a round.
#[cube]
pub(super) fn near(sort_key: i32, key_sort_key: i32, sizes: &Sizes) -> bool {
    // Unsigned, negative distances are far above every width.
    ((sort_key - key_sort_key + sizes.after as i32) as u32) <= sizes.width
}

/// Reads the unit's part of a row, zeros for an empty slot.
#[cube]
pub(super) fn read_part<F: Float>(
    from: &Tensor<F>,
    head: u32,
    position: i32,
    divisor: f32,
    #[comptime] width: u32,
    #[comptime] plan: Plan,
) -> Array<Four> {
    let fours = comptime![plan.fours(width)];
    let mut part = Array::<Four>::new(comptime![fours as usize]);
    let first = UNIT_POS_Y * fours;
    let row = head_at(from, head) + max(position, 0i32.runtime()) as usize * from.stride(2);
    #[unroll]
    for i in 0..fours {
        let mut four = Four::new(0.0);
        if position >= 0 {
            four = four_of(from, row, 4 * (first + i), width) / Four::new(divisor);
        }
        part[i as usize] = four;
    }
    part
}

/// The unit's part of the dot product of its row with another one.
#[cube]
pub(super) fn part_of_product(
    part: &Array<Four>,
    rows: &SharedMemory<Four>,
    other: u32,
    #[comptime] fours: u32,
    #[comptime] parts: u32,
) -> f32 {
    let first = (other * parts + UNIT_POS_Y) * fours;
    let mut sums = Four::new(0.0);
    #[unroll]
    for i in 0..fours {
        sums += part[i as usize] * rows[(first + i) as usize];
    }
    sum_of(sums)
}
