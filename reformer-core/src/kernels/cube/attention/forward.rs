//! Forward: a cube computes attention for a block of queries, one block of keys at a time.

use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;

use super::cube_rows::{Location, Task, Visit, end_of, location_of, task_of_cube, visit_of};
use super::logit::{any_in_sight, factor_of, logit_of, range_of};
use super::plan::Plan;
use super::rounds::{join, keep};
use super::row::{RowInfo, part_of_product, read_part};
use super::shared_rows::{load_block, load_own, load_rows, room_for, shared_row};
use super::tables::Tables;
use crate::kernels::cube::common::{Four, head_at};
use crate::kernels::reference::FORBIDDEN;

/// Attention in the rounds of a launch. Each round has its own `output`, `max` and `sum`, and is
/// merged with the results of an earlier launch, if any.
#[cube(launch, explicit_define, address_type = "dynamic")]
pub(super) fn attend<F: Float, I: Int>(
    q: &Tensor<F>,
    k: &Tensor<F>,
    v: &Tensor<F>,
    tables: &Tables<I>,
    output: &mut Tensor<f32>,
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
    let (row, part) = (UNIT_POS_X, UNIT_POS_Y);
    let (rows, others, parts) = comptime![(plan.rows, plan.others, plan.parts)];
    let (d_head, d_v) = comptime![(plan.d_head, plan.d_v)];
    let (fours, fours_v) = comptime![(plan.fours(plan.d_head), plan.fours(plan.d_v))];
    let own_side = room_for(rows, false);
    let other_side = room_for(others, false);
    let mut keys = SharedMemory::<Four>::new(comptime![(others * parts * fours) as usize]);
    let mut values = SharedMemory::<Four>::new(comptime![(others * parts * fours_v) as usize]);
    // `[parts, others, rows]`: partial products; then, in the first part, logits.
    let mut logits = SharedMemory::<f32>::new(comptime![(parts * others * rows) as usize]);
    let mut factors = SharedMemory::<f32>::new(comptime![if plan.dropout {
        (others * rows) as usize
    } else {
        1
    }]);

    let location: Location = location_of(row, &sizes, plan);
    let query: RowInfo = load_own(&own_side, &location, &task, tables, plan);
    let range = range_of(&own_side, rows);
    if !range.any {
        terminate!();
    }

    let one = 1.0f32.runtime();
    let own = read_part(q, head, query.position, one, d_head, plan);
    let mut sums = Array::<Four>::new(comptime![fours_v as usize]);
    #[unroll]
    for i in 0..fours_v {
        sums[i as usize] = Four::new(0.0);
    }
    let mut largest = FORBIDDEN.runtime();
    let mut sum = 0.0f32.runtime();
    let visit: Visit = visit_of(&sizes, plan);

    for first in range_stepped(0, end_of(&visit, range.last, plan), others) {
        load_block(&other_side, first, &visit, &task, tables, plan);
        if any_in_sight(&other_side, &range, &sizes, plan) {
            let divided = comptime![plan.unit_keys];
            load_rows(
                &mut keys,
                k,
                &other_side,
                head,
                tables,
                d_head,
                divided,
                plan,
            );
            load_rows(&mut values, v, &other_side, head, tables, d_v, false, plan);
            sync_cube();
            for other in 0..others {
                let share = part_of_product(&own, &keys, other, fours, parts);
                logits[((part * others + other) * rows + row) as usize] = share;
            }
            sync_cube();
            for other in range_stepped(part, others, parts) {
                let pair = (other * rows + row) as usize;
                let mut product = logits[pair];
                #[unroll]
                for i in 1..parts {
                    product += logits[pair + comptime![(i * others * rows) as usize]];
                }
                let key = shared_row(&other_side, other, false);
                logits[pair] = logit_of(product, &query, &key, head, tables, plan);
                if comptime![plan.dropout] {
                    factors[pair] = factor_of(&query, first + other, &sizes);
                }
            }
            sync_cube();
            let mut new_largest = largest;
            for other in 0..others {
                new_largest = max(new_largest, logits[(other * rows + row) as usize]);
            }
            let old = (largest - new_largest).exp();
            largest = new_largest;
            sum *= old;
            #[unroll]
            for i in 0..fours_v {
                sums[i as usize] *= Four::new(old);
            }
            for other in 0..others {
                let pair = (other * rows + row) as usize;
                let mut weight = (logits[pair] - largest).exp();
                sum += weight;
                if comptime![plan.dropout] {
                    weight *= factors[pair];
                }
                let first = (other * parts + part) * fours_v;
                #[unroll]
                for i in 0..fours_v {
                    sums[i as usize] += values[(first + i) as usize] * Four::new(weight);
                }
            }
        }
    }

    let joined = join(largest, sum, query.position, &task, max_of, sum_of, &sizes);
    // All units of a row have read the statistics before one of them writes.
    sync_storage();
    if query.position >= 0 {
        let row = head_at(output, task.result) + query.position as usize * output.stride(2);
        #[unroll]
        for i in 0..fours_v {
            #[unroll]
            for j in 0..4u32 {
                let feature = (part * fours_v + i) * 4 + j;
                if feature < d_v {
                    let mut value = sums[i as usize][j as usize] * joined.new;
                    if sizes.first_round > 0 {
                        value += output[row + feature as usize] * joined.old;
                    }
                    output[row + feature as usize] = value;
                }
            }
        }
        if part == 0 {
            keep(&joined, max_of, sum_of);
        }
    }
}
