//! Backward on tensor cores, once for the rows of queries and once for those of keys.

use burn_cubecl::cubecl;
use burn_cubecl::cubecl::cmma;
use burn_cubecl::cubecl::prelude::*;

use super::forward::write_tile;
use super::{
    Eight, PER_ROW, SIDE, add_multiplied, load_rows, multiply, room, room_for_factors,
    room_for_products, row_of, row_of_products, store, zeros,
};
use crate::kernels::cube::attention::cube_rows::{CubeBlock, Task, block_of, task_of_cube};
use crate::kernels::cube::attention::logit::{any_in_sight, differentiate_pair, range_of};
use crate::kernels::cube::attention::plan::{Plan, Sizes};
use crate::kernels::cube::attention::row::{RowInfo, row_info, slot_over_rounds};
use crate::kernels::cube::attention::shared_rows::{
    SharedRows, load_block, put, room_for, shared_row,
};

/// Gradients by rows in the rounds of a launch. Each round has its own gradients, which are added to
/// those of an earlier launch, if any. `sums_of` is the gradient of queries or of keys, `values_of`
/// that of values, written only for keys. `rows_of` and `others_of` are queries and keys or vice versa;
/// `ups_of` and `downs_of` are the gradient of the output and values in the same order.
#[cube(launch, address_type = "dynamic")]
pub(in super::super) fn differentiate<F: Float, I: Int>(
    rows_of: &Tensor<Eight<F>>,
    others_of: &Tensor<Eight<F>>,
    ups_of: &Tensor<Eight<F>>,
    downs_of: &Tensor<Eight<F>>,
    divisors: &Tensor<f32>,
    order: &Tensor<I>,
    sort_keys: &Tensor<i32>,
    mask: &Tensor<I>,
    statistics: &Tensor<f32>,
    sums_of: &mut Tensor<f32>,
    values_of: &mut Tensor<f32>,
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
    let of_keys = comptime![plan.of_keys];
    let draws = comptime![plan.dropout && plan.of_keys];
    let (n_rows, n_others) = if of_keys {
        (sizes.n_keys, sizes.seq_length)
    } else {
        (sizes.seq_length, sizes.n_keys)
    };
    let own_side = room_for(rows, false);
    let other_side = room_for(others, draws);
    let mut first = room::<F>(rows, d_head);
    let mut second = room::<F>(rows, d_v);
    let mut firsts = room::<F>(others, d_head);
    let mut seconds = room::<F>(others, d_v);
    let mut products = room_for_products(plan);
    let mut grads = room_for_products(plan);
    let mut of_logits = room_for_factors::<F>(rows, others);
    let mut of_values = room_for_factors::<F>(comptime![if of_keys { rows } else { 1 }], others);

    let block: CubeBlock = block_of(row, n_rows, &sizes, plan);
    let slot = slot_over_rounds(block.own, &task, &sizes, n_rows, plan);
    let queries = comptime![!of_keys];
    let own: RowInfo = row_info(slot, &task, order, sort_keys, mask, &sizes, queries, plan);
    if share == 0 {
        put(&own_side, row, &own, false);
    }
    sync_cube();
    let range = range_of(&own_side, rows);
    if !range.any {
        terminate!();
    }
    let of_head = head as usize * sizes.n_keys as usize;
    load_rows(
        &mut first,
        rows_of,
        head,
        &own_side,
        divisors,
        of_head,
        rows,
        d_head,
        comptime![plan.unit_keys && of_keys],
    );
    load_rows(
        &mut second,
        ups_of,
        head,
        &own_side,
        divisors,
        of_head,
        rows,
        d_v,
        false,
    );
    let mut sums = Sequence::<cmma::Matrix<f32>>::new();
    #[unroll]
    for _ in 0..comptime![d_head / SIDE] {
        sums.push(zeros());
    }
    let mut value_sums = Sequence::<cmma::Matrix<f32>>::new();
    #[unroll]
    for _ in 0..comptime![if of_keys { d_v / SIDE } else { 0 }] {
        value_sums.push(zeros());
    }

    let mut end = block.n_others;
    if comptime![plan.causal && !plan.sorted && !of_keys] {
        end = min(end, range.last as u32 + 1);
    }
    for start in range_stepped(0, end, others) {
        load_block(
            &other_side,
            start,
            end,
            n_others,
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
                &mut firsts,
                others_of,
                head,
                &other_side,
                divisors,
                of_head,
                others,
                d_head,
                comptime![plan.unit_keys && !of_keys],
            );
            load_rows(
                &mut seconds,
                downs_of,
                head,
                &other_side,
                divisors,
                of_head,
                others,
                d_v,
                false,
            );
            sync_cube();
            multiply(&first, &firsts, &mut products, d_head, others);
            multiply(&second, &seconds, &mut grads, d_v, others);
            sync_plane();
            #[unroll]
            for i in 0..comptime![others / PER_ROW] {
                let other = i * PER_ROW + share;
                let theirs = shared_row(&other_side, other, draws);
                let pair = (row * comptime![row_of_products(others)] + other) as usize;
                let (of_logit, of_value) = differentiate_pair(
                    products[pair],
                    grads[pair],
                    &own,
                    &theirs,
                    start + other,
                    &block,
                    head,
                    sort_keys,
                    statistics,
                    &sizes,
                    plan,
                );
                let factor = (row * comptime![row_of(others)] + other) as usize;
                of_logits[factor] = F::cast_from(of_logit);
                if of_keys {
                    of_values[factor] = F::cast_from(of_value);
                }
            }
            sync_plane();
            #[unroll]
            for tile in 0..comptime![d_head / SIDE] {
                let sum = sums.index(comptime![tile as usize]);
                add_multiplied(sum, &of_logits, &firsts, tile, d_head, others);
            }
            #[unroll]
            for tile in 0..comptime![if of_keys { d_v / SIDE } else { 0 }] {
                let sum = value_sums.index(comptime![tile as usize]);
                add_multiplied(sum, &of_values, &seconds, tile, d_v, others);
            }
        }
    }

    sync_plane();
    write(
        &sums,
        sums_of,
        &mut products,
        task.rows,
        &own_side,
        &sizes,
        plan,
    );
    write(
        &value_sums,
        values_of,
        &mut products,
        task.rows,
        &own_side,
        &sizes,
        plan,
    );
}

/// Writes a plane's rows of sums, added to the result of an earlier launch, if any.
#[cube]
fn write(
    sums: &Sequence<cmma::Matrix<f32>>,
    to: &mut Tensor<f32>,
    room: &mut SharedMemory<f32>,
    head: u32,
    rows: &SharedRows,
    sizes: &Sizes,
    #[comptime] plan: Plan,
) {
    let width = comptime![row_of_products(plan.others)];
    #[unroll]
    for tile in 0..sums.len() {
        store(sums.index(tile), room, UNIT_POS_Y * SIDE * width, width);
        sync_plane();
        let first = comptime![tile as u32 * SIDE].runtime();
        let one = 1.0f32.runtime();
        write_tile(to, room, head, rows, one, sizes.first_round, first, width);
        sync_plane();
    }
}
