//! Forward on tensor cores: `softmax(q k^T) v`, a block of keys at a time.

use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;

use super::{
    Eight, PER_ROW, PLANE, SIDE, add_multiplied, load_rows, multiply, room, room_for_factors,
    room_for_products, row_of, row_of_products, store, zeros,
};
use crate::kernels::cube::attention::cube_rows::{CubeBlock, Task, block_of, task_of_cube};
use crate::kernels::cube::attention::logit::{any_in_sight, factor_of, logit_of, range_of};
use crate::kernels::cube::attention::plan::{Plan, Sizes};
use crate::kernels::cube::attention::rounds::{join, keep};
use crate::kernels::cube::attention::row::{RowInfo, row_info, slot_over_rounds};
use crate::kernels::cube::attention::shared_rows::{
    SharedRows, load_block, put, room_for, shared_row,
};
use crate::kernels::cube::common::head_at;
use crate::kernels::reference::FORBIDDEN;

/// Attention in the rounds of a launch. Each round has its own `output`, `max` and `sum`, and is
/// merged with the results of an earlier launch, if any.
#[cube(launch, address_type = "dynamic")]
pub(in super::super) fn attend<F: Float, I: Int>(
    q: &Tensor<Eight<F>>,
    k: &Tensor<Eight<F>>,
    v: &Tensor<Eight<F>>,
    divisors: &Tensor<f32>,
    order: &Tensor<I>,
    sort_keys: &Tensor<i32>,
    mask: &Tensor<I>,
    output: &mut Tensor<f32>,
    max_of: &mut Tensor<f32>,
    sum_of: &mut Tensor<f32>,
    sizes: Sizes,
    #[comptime] plan: Plan,
    #[define(F, I)] _dtypes: [StorageType; 2],
) {
    let task: Task = task_of_cube(&sizes);
    if !task.is_any {
        terminate!();
    }
    let head = task.head;
    let row = UNIT_POS_Y * SIDE + UNIT_POS_X / PER_ROW;
    let share = UNIT_POS_X % PER_ROW;
    let (rows, others) = comptime![(plan.rows, plan.others)];
    let (d_head, d_v) = comptime![(plan.d_head, plan.d_v)];
    let own_side = room_for(rows, false);
    let other_side = room_for(others, false);
    let mut queries = room::<F>(rows, d_head);
    let mut keys = room::<F>(others, d_head);
    let mut values = room::<F>(others, d_v);
    let mut products = room_for_products(plan);
    let mut weights = room_for_factors::<F>(rows, others);

    let block: CubeBlock = block_of(row, sizes.seq_length, &sizes, plan);
    let slot = slot_over_rounds(block.own, &task, &sizes, sizes.seq_length, plan);
    let query: RowInfo = row_info(slot, &task, order, sort_keys, mask, &sizes, true, plan);
    if share == 0 {
        put(&own_side, row, &query, false);
    }
    sync_cube();
    let range = range_of(&own_side, rows);
    if !range.any {
        terminate!();
    }
    let of_head = head as usize * sizes.n_keys as usize;
    load_rows(
        &mut queries,
        q,
        head,
        &own_side,
        divisors,
        of_head,
        rows,
        d_head,
        false,
    );
    let per_unit = comptime![SIDE / PER_ROW];
    let of_sums = comptime![(d_v / PER_ROW) as usize];
    let mut sums = Array::<f32>::new(of_sums);
    #[unroll]
    for i in 0..of_sums {
        sums[i] = 0.0f32.runtime();
    }
    let mut largest = FORBIDDEN.runtime();
    let mut sum = 0.0f32.runtime();
    let mut n_others = block.n_others;
    if comptime![plan.causal && !plan.sorted] {
        n_others = min(n_others, range.last as u32 + 1);
    }
    let of_products = row * comptime![row_of_products(others)];

    for first in range_stepped(0, n_others, others) {
        load_block(
            &other_side,
            first,
            n_others,
            sizes.n_keys,
            &task,
            &block,
            order,
            sort_keys,
            mask,
            &sizes,
            plan,
        );
        if any_in_sight(&other_side, &range, &sizes, plan) {
            load_rows(
                &mut keys,
                k,
                head,
                &other_side,
                divisors,
                of_head,
                others,
                d_head,
                comptime![plan.unit_keys],
            );
            load_rows(
                &mut values,
                v,
                head,
                &other_side,
                divisors,
                of_head,
                others,
                d_v,
                false,
            );
            sync_cube();
            multiply(&queries, &keys, &mut products, d_head, others);
            sync_plane();

            let mut logits = Array::<f32>::new(comptime![(others / PER_ROW) as usize]);
            let mut new_largest = largest;
            #[unroll]
            for i in 0..comptime![others / PER_ROW] {
                let other = i * PER_ROW + share;
                let key = shared_row(&other_side, other, false);
                let product = products[(of_products + other) as usize];
                let logit = logit_of(product, &query, &key, head, sort_keys, &sizes, plan);
                logits[i as usize] = logit;
                new_largest = max(new_largest, logit);
            }
            new_largest = max(new_largest, plane_shuffle_xor(new_largest, 1u32));
            let old = (largest - new_largest).exp();
            largest = new_largest;
            sum *= old;
            #[unroll]
            for i in 0..comptime![others / PER_ROW] {
                let other = i * PER_ROW + share;
                let mut weight = (logits[i as usize] - largest).exp();
                sum += weight;
                if comptime![plan.dropout] {
                    weight *= factor_of(&query, first + other, &sizes);
                }
                weights[(row * comptime![row_of(others)] + other) as usize] = F::cast_from(weight);
            }
            sync_plane();

            // As many matrices of features at a time as fit in the memory of the products.
            let at_once = comptime![others / SIDE];
            #[unroll]
            for group in 0..comptime![(d_v / SIDE).div_ceil(at_once)] {
                let tiles = comptime![Ord::min(at_once, d_v / SIDE - group * at_once)];
                #[unroll]
                for i in 0..tiles {
                    let of_tile = zeros();
                    let tile = comptime![group * at_once + i];
                    add_multiplied(&of_tile, &weights, &values, tile, d_v, others);
                    let plane = UNIT_POS_Y * comptime![SIDE * row_of_products(others)];
                    store(
                        &of_tile,
                        &mut products,
                        plane + i * SIDE,
                        comptime![row_of_products(others)],
                    );
                }
                sync_plane();
                #[unroll]
                for i in 0..comptime![tiles * per_unit] {
                    let column = i * PER_ROW + share;
                    let at = comptime![(group * at_once * per_unit + i) as usize];
                    let added = products[(of_products + column) as usize];
                    sums[at] = sums[at] * old + added;
                }
                sync_plane();
            }
        }
    }

    sum += plane_shuffle_xor(sum, 1u32);
    let joined = join(largest, sum, query.position, &task, max_of, sum_of, &sizes);
    // Both units of a row have read the statistics before one of them writes.
    sync_storage();
    if share == 0 && query.position >= 0 {
        keep(&joined, max_of, sum_of);
    }
    #[unroll]
    for tile in 0..comptime![d_v / SIDE] {
        #[unroll]
        for i in 0..per_unit {
            let at = comptime![(tile * per_unit + i) as usize];
            let column = i * PER_ROW + share;
            products[(of_products + column) as usize] = sums[at] * joined.new;
        }
        sync_plane();
        write_tile(
            output,
            &products,
            task.rows,
            &own_side,
            joined.old,
            sizes.first_round,
            tile * SIDE,
            comptime![row_of_products(others)],
        );
        sync_plane();
    }
}

/// Writes a plane's sixteen rows of sixteen features, added to the result of an earlier launch (if
/// any) times `old`, which each unit has for its own row.
#[cube]
pub(super) fn write_tile(
    to: &mut Tensor<f32>,
    from: &SharedMemory<f32>,
    head: u32,
    rows: &SharedRows,
    old: f32,
    first_round: u32,
    first: u32,
    #[comptime] width: u32,
) {
    let of_head = head_at(to, head);
    let column = UNIT_POS_X % SIDE;
    #[unroll]
    for i in 0..comptime![SIDE * SIDE / PLANE] {
        let in_plane = i * comptime![PLANE / SIDE] + UNIT_POS_X / SIDE;
        let row = UNIT_POS_Y * SIDE + in_plane;
        let old = plane_shuffle(old, in_plane * PER_ROW);
        let position = rows.positions[row as usize];
        if position >= 0 {
            let at = of_head + position as usize * to.stride(2) + (first + column) as usize;
            let mut value = from[(row * width + column) as usize];
            if first_round > 0 {
                value += to[at] * old;
            }
            to[at] = value;
        }
    }
}
