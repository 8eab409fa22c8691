//! Backward on tensor cores, once for the rows of queries and once for those of keys.

use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::barrier::Barrier;
use burn_cubecl::cubecl::prelude::*;

use super::copies::{Copies, blocks_of_head, copy_rows};
use super::forward::write;
use super::fragments::{add_multiplied, multiply};
use super::pairs::{exp, logarithms, logit_of, other_number};
use super::rows::{
    any_in_sight, block_after, load_first_blocks, load_own, put_in_block, range_of,
    room_for_others, room_for_own, row_of_slot, shared_row, slot_in_block,
};
use super::{BUFFERS, Eight, HALF, OWN, Pair, SIDE, place_of};
use crate::kernels::cube::attention::cube_rows::{Task, Visit, end_of, task_of_cube, visit_of};
use crate::kernels::cube::attention::logit::{factor_of_pair, gradients_of_pair, is_itself};
use crate::kernels::cube::attention::plan::Plan;
use crate::kernels::cube::attention::row::position_in;
use crate::kernels::cube::attention::tables::Tables;
use crate::kernels::cube::matrices::{arrive, zeros};

/// Gradients by rows in the rounds of a launch. Each round has its own gradients, which are added to
/// those of an earlier launch, if any. `sums_of` is the gradient of queries or of keys, `values_of`
/// that of values, written only for keys. `rows_of` and `others_of` are queries and keys or vice versa;
/// `ups_of` and `downs_of` are the gradient of the output and values in the same order.
#[cube(launch, explicit_define, address_type = "dynamic")]
pub(in super::super) fn differentiate<F: Float, I: Int>(
    rows_of: &Tensor<Eight>,
    others_of: &Tensor<Eight>,
    ups_of: &Tensor<Eight>,
    downs_of: &Tensor<Eight>,
    tables: &Tables<I>,
    sums_of: &mut Tensor<Pair<F>>,
    values_of: &mut Tensor<Pair<F>>,
    #[comptime] plan: Plan,
    #[define(F, I)] _dtypes: [StorageType; 2],
) {
    let sizes = tables.sizes;
    let task: Task = task_of_cube(&sizes);
    if !task.is_any {
        terminate!();
    }
    let head = task.head;
    let (rows, others) = comptime![(plan.rows, plan.others)];
    let (d_head, d_v) = comptime![(plan.d_head, plan.d_v)];
    let of_keys = comptime![plan.of_keys];
    let own_side = room_for_own(plan);
    let other_side = room_for_others(plan);
    let first = blocks_of_head(
        rows_of,
        head,
        1u32,
        comptime![Copies::new(rows, d_head, rows)],
    );
    let second = blocks_of_head(ups_of, head, 1u32, comptime![Copies::new(rows, d_v, rows)]);
    let firsts = blocks_of_head(
        others_of,
        head,
        BUFFERS,
        comptime![Copies::new(others, d_head, rows)],
    );
    let seconds = blocks_of_head(
        downs_of,
        head,
        BUFFERS,
        comptime![Copies::new(others, d_v, rows)],
    );
    let logarithms = logarithms(plan);

    let visit: Visit = visit_of(&sizes, plan);
    let (own, locations) = load_own(&own_side, &task, tables, plan);
    load_first_blocks(&other_side, &visit, &task, tables, plan);
    sync_cube();
    let zero = 0u32.runtime();
    let range = range_of(&own_side, zero, rows);
    if !range.any {
        terminate!();
    }
    let of_plane = range_of(&own_side, UNIT_POS_Y * SIDE, SIDE);
    let copied = Barrier::shared(CUBE_DIM, UNIT_POS == 0);
    copy_rows(&first, zero, &own_side, zero);
    copy_rows(&second, zero, &own_side, zero);
    let (any, mut any_of_plane) = any_in_sight(&other_side, zero, &range, &of_plane, &sizes, plan);
    if any {
        copy_rows(&firsts, zero, &other_side, zero);
        copy_rows(&seconds, zero, &other_side, zero);
    }
    arrive(&copied);
    let mut sums = zeros(d_head);
    let mut value_sums = zeros(comptime![if of_keys { d_v } else { 0 }]);

    // As in forward, blocks are on their way while others are processed.
    let mut slot = slot_in_block(comptime![2 * others].runtime(), &visit, &task, &sizes, plan);
    let mut position = position_in(slot, &task, tables, plan);
    let (mut now, mut buffer) = (0u32.runtime(), 0u32.runtime());
    for start in range_stepped(0, end_of(&visit, range.last, plan), others) {
        let ahead = row_of_slot(slot, position, &task, tables, of_keys, plan);
        let next_slot = slot_in_block(start + comptime![3 * others], &visit, &task, &sizes, plan);
        let next_position = position_in(next_slot, &task, tables, plan);
        copied.wait_parity(buffer);
        // Metadata of the next block are there, and nobody reads rows of the last block any more.
        sync_cube();
        let next = block_after(now, plan);
        let (any_next, any_next_of_plane) =
            any_in_sight(&other_side, next, &range, &of_plane, &sizes, plan);
        if any_next {
            let to = (1 - buffer) * others;
            copy_rows(&firsts, to, &other_side, next);
            copy_rows(&seconds, to, &other_side, next);
        }
        arrive(&copied);
        if any_of_plane {
            let from = buffer * others;
            let mut products = multiply::<F>(&first.memory, &firsts.memory, from, d_head, others);
            let mut grads = multiply::<F>(&second.memory, &seconds.memory, from, d_v, others);
            #[unroll]
            for tile in 0..comptime![others / HALF] {
                let of_tile = products.index_mut(comptime![tile as usize]);
                let of_grads = grads.index_mut(comptime![tile as usize]);
                #[unroll]
                for column in 0..2u32 {
                    let other = other_number(tile, column);
                    let theirs = shared_row(&other_side, now + other, plan);
                    #[unroll]
                    for i in 0..comptime![OWN as usize] {
                        let mine = own.index(i);
                        let (query, key) = if of_keys {
                            (&theirs, mine)
                        } else {
                            (mine, &theirs)
                        };
                        let mut product = of_tile[i];
                        let mut grad = of_grads[i];
                        let at = comptime![column as usize];
                        let itself = is_itself(&query.info, &key.info, plan);
                        let logit =
                            logit_of(product[at], query, key, itself, &logarithms, &sizes, plan);
                        let of_query = query.statistics;
                        let weight = exp((logit - of_query[0]) - of_query[1]);
                        let reached = start + other;
                        let factor =
                            factor_of_pair(&query.info, reached, locations.index(i), &sizes, plan);
                        let (mut of_logit, of_value) =
                            gradients_of_pair(weight, factor, grad[at], of_query[2], itself, plan);
                        if comptime![plan.unit_keys && !of_keys] {
                            of_logit *= key.scale;
                        }
                        product[at] = of_logit;
                        grad[at] = of_value;
                        of_tile[i] = product;
                        of_grads[i] = grad;
                    }
                }
            }
            if comptime![plan.dropout] {
                // Units take different ways to their factors.
                sync_plane();
            }
            add_multiplied::<F>(&mut sums, &products, &firsts.memory, from, d_head, others);
            if of_keys {
                add_multiplied::<F>(&mut value_sums, &grads, &seconds.memory, from, d_v, others);
            }
        }
        put_in_block(&other_side, block_after(next, plan), &ahead, plan);
        slot = next_slot;
        position = next_position;
        any_of_plane = any_next_of_plane;
        now = next;
        buffer = 1 - buffer;
    }

    let of_sums = place_of(sums_of, task.result, 2usize);
    let of_values = place_of(values_of, task.result, 2usize);
    #[unroll]
    for i in 0..OWN {
        let position = own.index(comptime![i as usize]).info.position;
        if position >= 0 {
            let round = sizes.first_round;
            let one = 1.0f32.runtime();
            write::<F>(
                sums_of, &sums, &of_sums, position, one, one, round, i, d_head,
            );
            if of_keys {
                write::<F>(
                    values_of,
                    &value_sums,
                    &of_values,
                    position,
                    one,
                    one,
                    round,
                    i,
                    d_v,
                );
            }
        }
    }
}
