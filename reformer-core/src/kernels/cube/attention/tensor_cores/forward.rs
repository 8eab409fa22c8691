//! Forward on tensor cores: `softmax(q k^T) v`, a block of keys at a time.

use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::barrier::Barrier;
use burn_cubecl::cubecl::prelude::*;

use super::copies::{Copies, blocks_of_head, copy_rows};
use super::fragments::{add_multiplied, multiply};
use super::pairs::{exp, logarithms, logit_of, other_number};
use super::rows::{
    any_in_sight, block_after, load_first_blocks, load_own, put_in_block, range_of,
    room_for_others, room_for_own, row_of_slot, shared_row, slot_in_block,
};
use super::{BUFFERS, Eight, HALF, OWN, Pair, Place, SIDE, in_quad, place_of};
use crate::kernels::cube::attention::cube_rows::{Task, Visit, end_of, task_of_cube, visit_of};
use crate::kernels::cube::attention::logit::{factor_of, is_itself};
use crate::kernels::cube::attention::plan::Plan;
use crate::kernels::cube::attention::rounds::{Joined, join, keep};
use crate::kernels::cube::attention::row::position_in;
use crate::kernels::cube::attention::tables::Tables;
use crate::kernels::cube::matrices::{Tile, arrive, zeros};
use crate::kernels::reference::FORBIDDEN;

/// Attention in the rounds of a launch. Each round has its own `output`, `max` and `sum`, and is
/// merged with the results of an earlier launch, if any.
#[cube(launch, explicit_define, address_type = "dynamic")]
pub(in super::super) fn attend<F: Float, I: Int>(
    q: &Tensor<Eight>,
    k: &Tensor<Eight>,
    v: &Tensor<Eight>,
    tables: &Tables<I>,
    output: &mut Tensor<Pair<F>>,
    max_of: &mut Tensor<f32>,
    sum_of: &mut Tensor<f32>,
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
    let own_side = room_for_own(plan);
    let other_side = room_for_others(plan);
    let queries = blocks_of_head(q, head, 1u32, comptime![Copies::new(rows, d_head, rows)]);
    let keys = blocks_of_head(
        k,
        head,
        BUFFERS,
        comptime![Copies::new(others, d_head, rows)],
    );
    let values = blocks_of_head(v, head, BUFFERS, comptime![Copies::new(others, d_v, rows)]);
    let logarithms = logarithms(plan);

    let visit: Visit = visit_of(&sizes, plan);
    let (own, _) = load_own(&own_side, &task, tables, plan);
    load_first_blocks(&other_side, &visit, &task, tables, plan);
    sync_cube();
    let zero = 0u32.runtime();
    let range = range_of(&own_side, zero, rows);
    if !range.any {
        terminate!();
    }
    let of_plane = range_of(&own_side, UNIT_POS_Y * SIDE, SIDE);
    let copied = Barrier::shared(CUBE_DIM, UNIT_POS == 0);
    copy_rows(&queries, zero, &own_side, zero);
    let (any, mut any_of_plane) = any_in_sight(&other_side, zero, &range, &of_plane, &sizes, plan);
    if any {
        copy_rows(&keys, zero, &other_side, zero);
        copy_rows(&values, zero, &other_side, zero);
    }
    arrive(&copied);
    let mut sums = zeros(d_v);
    let mut largest = Array::<f32>::new(comptime![OWN as usize]);
    let mut sum = Array::<f32>::new(comptime![OWN as usize]);
    #[unroll]
    for i in 0..comptime![OWN as usize] {
        largest[i] = FORBIDDEN.runtime();
        sum[i] = 0.0f32.runtime();
    }

    // While a block is processed, the rows of the next one are copied, metadata of the one after it are read,
    // and the positions of the one after that.
    let mut slot = slot_in_block(comptime![2 * others].runtime(), &visit, &task, &sizes, plan);
    let mut position = position_in(slot, &task, tables, plan);
    let (mut now, mut buffer) = (0u32.runtime(), 0u32.runtime());
    for first in range_stepped(0, end_of(&visit, range.last, plan), others) {
        let ahead = row_of_slot(slot, position, &task, tables, false, plan);
        let next_slot = slot_in_block(first + comptime![3 * others], &visit, &task, &sizes, plan);
        let next_position = position_in(next_slot, &task, tables, plan);
        copied.wait_parity(buffer);
        // Metadata of the next block are there, and nobody reads rows of the last block any more.
        sync_cube();
        let next = block_after(now, plan);
        let (any_next, any_next_of_plane) =
            any_in_sight(&other_side, next, &range, &of_plane, &sizes, plan);
        if any_next {
            let to = (1 - buffer) * others;
            copy_rows(&keys, to, &other_side, next);
            copy_rows(&values, to, &other_side, next);
        }
        arrive(&copied);
        if any_of_plane {
            let from = buffer * others;
            let mut pairs = multiply::<F>(&queries.memory, &keys.memory, from, d_head, others);
            #[unroll]
            for tile in 0..comptime![others / HALF] {
                let logits = pairs.index_mut(comptime![tile as usize]);
                #[unroll]
                for column in 0..2u32 {
                    let other = now + other_number(tile, column);
                    let key = shared_row(&other_side, other, plan);
                    #[unroll]
                    for i in 0..comptime![OWN as usize] {
                        let query = own.index(i);
                        let mut pair = logits[i];
                        let itself = is_itself(&query.info, &key.info, plan);
                        pair[column as usize] = logit_of(
                            pair[column as usize],
                            query,
                            &key,
                            itself,
                            &logarithms,
                            &sizes,
                            plan,
                        );
                        logits[i] = pair;
                    }
                }
            }
            let mut old = Array::<f32>::new(comptime![OWN as usize]);
            #[unroll]
            for i in 0..comptime![OWN as usize] {
                let mut new_largest = largest[i];
                #[unroll]
                for tile in 0..comptime![(others / HALF) as usize] {
                    let pair = pairs.index(tile)[i];
                    new_largest = max(new_largest, max(pair[0], pair[1]));
                }
                new_largest = max(new_largest, plane_shuffle_xor(new_largest, 1u32));
                new_largest = max(new_largest, plane_shuffle_xor(new_largest, 2u32));
                old[i] = exp(largest[i] - new_largest);
                largest[i] = new_largest;
                sum[i] = sum[i] * old[i];
            }
            rescale(&mut sums, &old, d_v);
            #[unroll]
            for tile in 0..comptime![others / HALF] {
                let weights = pairs.index_mut(comptime![tile as usize]);
                #[unroll]
                for i in 0..comptime![OWN as usize] {
                    let mut pair = weights[i];
                    #[unroll]
                    for column in 0..2u32 {
                        let mut weight = exp(pair[column as usize] - largest[i]);
                        sum[i] = sum[i] + weight;
                        if comptime![plan.dropout] {
                            let other = first + other_number(tile, column);
                            weight *= factor_of(&own.index(i).info, other, &sizes);
                        }
                        pair[column as usize] = weight;
                    }
                    weights[i] = pair;
                }
            }
            if comptime![plan.dropout] {
                // Units take different ways to their factors.
                sync_plane();
            }
            add_multiplied::<F>(&mut sums, &pairs, &values.memory, from, d_v, others);
        }
        put_in_block(&other_side, block_after(next, plan), &ahead, plan);
        slot = next_slot;
        position = next_position;
        any_of_plane = any_next_of_plane;
        now = next;
        buffer = 1 - buffer;
    }

    let mut joined = Sequence::<Joined>::new();
    #[unroll]
    for i in 0..comptime![OWN as usize] {
        let mut of_row = sum[i];
        of_row += plane_shuffle_xor(of_row, 1u32);
        of_row += plane_shuffle_xor(of_row, 2u32);
        let position = own.index(i).info.position;
        joined.push(join(
            largest[i], of_row, position, &task, max_of, sum_of, &sizes,
        ));
    }
    // All units of a row have read the statistics before one of them writes.
    sync_storage();
    let place = place_of(output, task.result, 2usize);
    #[unroll]
    for i in 0..OWN {
        let position = own.index(comptime![i as usize]).info.position;
        let of_row = *joined.index(comptime![i as usize]);
        if position >= 0 {
            if in_quad() == 0 {
                keep(&of_row, max_of, sum_of);
            }
            write::<F>(
                output,
                &sums,
                &place,
                position,
                of_row.new,
                of_row.old,
                sizes.first_round,
                i,
                d_v,
            );
        }
    }
}

/// Multiplies the rows of sums.
#[cube]
fn rescale(sums: &mut Sequence<Tile>, by: &Array<f32>, #[comptime] d: u32) {
    #[unroll]
    for tile in 0..comptime![(d / HALF) as usize] {
        let tile = sums.index_mut(tile);
        #[unroll]
        for i in 0..comptime![OWN as usize] {
            tile[i] = tile[i] * Pair::<f32>::new(by[i]);
        }
    }
}

/// Writes row `own` of the unit's sums times `new`, added to the result of an earlier launch (if any)
/// times `old`.
#[cube]
pub(super) fn write<F: Float>(
    to: &mut Tensor<Pair<F>>,
    sums: &Sequence<Tile>,
    place: &Place,
    position: i32,
    new: f32,
    old: f32,
    first_round: u32,
    #[comptime] own: u32,
    #[comptime] d: u32,
) {
    let row = place.first + position as usize * place.row + in_quad() as usize;
    #[unroll]
    for tile in 0..comptime![(d / HALF) as usize] {
        let at = row + tile * comptime![(HALF / 2) as usize];
        let mut pair = sums.index(tile)[comptime![own as usize]] * Pair::<f32>::new(new);
        if first_round > 0 {
            pair += Pair::<f32>::cast_from(to[at]) * Pair::<f32>::new(old);
        }
        to[at] = Pair::cast_from(pair);
    }
}
