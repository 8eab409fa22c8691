//! Backward, once for the rows of queries and once for those of keys.
//!
//! Each sweep visits all pairs of its rows and recomputes their weights, so that every gradient is
//! summed by one unit in a fixed order. This takes seven products where atomics would need five,
//! but is deterministic to the last bit.

use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;

use super::cube_rows::{Location, Task, Visit, end_of, location_of, task_of_cube, visit_of};
use super::logit::{
    any_in_sight, factor_of_pair, gradients_of_pair, is_itself, logit_of, range_of, statistics_of,
};
use super::plan::Plan;
use super::row::{RowInfo, part_of_product, read_part};
use super::shared_rows::{load_block, load_own, load_rows, room_for, shared_row};
use super::tables::Tables;
use crate::kernels::cube::common::{Four, head_at};

/// Gradients by rows in the rounds of a launch. Each round has its own gradients, which are added to
/// those of an earlier launch, if any. `sums_of` is the gradient of queries or of keys, `values_of`
/// that of values, written only for keys. `rows_of` and `others_of` are queries and keys or vice versa;
/// `ups_of` and `downs_of` are the gradient of the output and values in the same order.
#[cube(launch, explicit_define, address_type = "dynamic")]
pub(super) fn differentiate<F: Float, I: Int>(
    rows_of: &Tensor<F>,
    others_of: &Tensor<F>,
    ups_of: &Tensor<F>,
    downs_of: &Tensor<F>,
    tables: &Tables<I>,
    sums_of: &mut Tensor<f32>,
    values_of: &mut Tensor<f32>,
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
    let of_keys = comptime![plan.of_keys];
    let draws = comptime![plan.dropout && plan.of_keys];
    let own_side = room_for(rows, false);
    let other_side = room_for(others, draws);
    let mut firsts = SharedMemory::<Four>::new(comptime![(others * parts * fours) as usize]);
    let mut seconds = SharedMemory::<Four>::new(comptime![(others * parts * fours_v) as usize]);
    // `[parts, others, rows]` each: partial logits and gradients of weights; then, in the first
    // parts, gradients of logits and weights.
    let mut logits = SharedMemory::<f32>::new(comptime![(parts * others * rows) as usize]);
    let mut weights = SharedMemory::<f32>::new(comptime![(parts * others * rows) as usize]);

    let location: Location = location_of(row, &sizes, plan);
    let own: RowInfo = load_own(&own_side, &location, &task, tables, plan);
    let range = range_of(&own_side, rows);
    if !range.any {
        terminate!();
    }

    let mut divisor = 1.0f32.runtime();
    if comptime![plan.unit_keys && of_keys] {
        let of_head = head as usize * sizes.n_keys as usize;
        divisor = tables.divisors[of_head + max(own.position, 0i32.runtime()) as usize];
    }
    let one = 1.0f32.runtime();
    let first = read_part(rows_of, head, own.position, divisor, d_head, plan);
    let second = read_part(ups_of, head, own.position, one, d_v, plan);
    let mut sums = Array::<Four>::new(comptime![fours as usize]);
    #[unroll]
    for i in 0..fours {
        sums[i as usize] = Four::new(0.0);
    }
    let mut value_sums = Array::<Four>::new(comptime![fours_v as usize]);
    #[unroll]
    for i in 0..fours_v {
        value_sums[i as usize] = Four::new(0.0);
    }

    let visit: Visit = visit_of(&sizes, plan);
    for start in range_stepped(0, end_of(&visit, range.last, plan), others) {
        load_block(&other_side, start, &visit, &task, tables, plan);
        if any_in_sight(&other_side, &range, &sizes, plan) {
            let divided = comptime![plan.unit_keys && !of_keys];
            load_rows(
                &mut firsts,
                others_of,
                &other_side,
                head,
                tables,
                d_head,
                divided,
                plan,
            );
            load_rows(
                &mut seconds,
                downs_of,
                &other_side,
                head,
                tables,
                d_v,
                false,
                plan,
            );
            sync_cube();
            for other in 0..others {
                let share = ((part * others + other) * rows + row) as usize;
                logits[share] = part_of_product(&first, &firsts, other, fours, parts);
                weights[share] = part_of_product(&second, &seconds, other, fours_v, parts);
            }
            sync_cube();
            for other in range_stepped(part, others, parts) {
                let pair = (other * rows + row) as usize;
                let mut product = logits[pair];
                let mut grad = weights[pair];
                #[unroll]
                for i in 1..parts {
                    product += logits[pair + comptime![(i * others * rows) as usize]];
                    grad += weights[pair + comptime![(i * others * rows) as usize]];
                }
                let theirs = shared_row(&other_side, other, draws);
                let (of_logit, of_value) = differentiate_pair(
                    product,
                    grad,
                    &own,
                    &theirs,
                    start + other,
                    &location,
                    head,
                    tables,
                    plan,
                );
                logits[pair] = of_logit;
                weights[pair] = of_value;
            }
            sync_cube();
            for other in 0..others {
                let pair = (other * rows + row) as usize;
                let of_logit = Four::new(logits[pair]);
                let at = (other * parts + part) * fours;
                #[unroll]
                for i in 0..fours {
                    sums[i as usize] += firsts[(at + i) as usize] * of_logit;
                }
                if comptime![of_keys] {
                    let of_value = Four::new(weights[pair]);
                    let at = (other * parts + part) * fours_v;
                    #[unroll]
                    for i in 0..fours_v {
                        value_sums[i as usize] += seconds[(at + i) as usize] * of_value;
                    }
                }
            }
        }
    }

    if own.position >= 0 {
        let round = sizes.first_round;
        add_part(
            sums_of,
            task.result,
            own.position,
            &sums,
            round,
            d_head,
            plan,
        );
        if comptime![of_keys] {
            add_part(
                values_of,
                task.result,
                own.position,
                &value_sums,
                round,
                d_v,
                plan,
            );
        }
    }
}

/// From the dot product of query and key, and that of output gradient and value: the gradient of
/// the pair's logit, and the factor of the output gradient in the gradient of the value. `reached`
/// is the index of the other row in the reach of `own`, which is at `location`.
#[cube]
fn differentiate_pair<I: Int>(
    product: f32,
    grad: f32,
    own: &RowInfo,
    theirs: &RowInfo,
    reached: u32,
    location: &Location,
    head: u32,
    tables: &Tables<I>,
    #[comptime] plan: Plan,
) -> (f32, f32) {
    let (query, key) = if comptime![plan.of_keys] {
        (theirs, own)
    } else {
        (own, theirs)
    };
    let mut of_logit = 0.0f32.runtime();
    let mut of_value = 0.0f32.runtime();
    if query.position >= 0 && key.position >= 0 {
        let logit = logit_of(product, query, key, head, tables, plan);
        let of_query = statistics_of(query.position, head, tables);
        let weight = ((logit - of_query.max) - of_query.log_sum).exp();
        let factor = factor_of_pair(query, reached, location, &tables.sizes, plan);
        let itself = is_itself(query, key, plan);
        let (of_pair, of_its_value) =
            gradients_of_pair(weight, factor, grad, of_query.delta, itself, plan);
        of_logit = of_pair;
        of_value = of_its_value;
    }
    (of_logit, of_value)
}

/// Writes the unit's part of a row, added to the result of an earlier launch, if any.
#[cube]
fn add_part(
    to: &mut Tensor<f32>,
    head: u32,
    position: i32,
    part: &Array<Four>,
    first_round: u32,
    #[comptime] width: u32,
    #[comptime] plan: Plan,
) {
    let fours = comptime![plan.fours(width)];
    let row = head_at(to, head) + position as usize * to.stride(2);
    #[unroll]
    for i in 0..fours {
        #[unroll]
        for j in 0..4u32 {
            let feature = (UNIT_POS_Y * fours + i) * 4 + j;
            if feature < width {
                let mut value = part[i as usize][j as usize];
                if first_round > 0 {
                    value += to[row + feature as usize];
                }
                to[row + feature as usize] = value;
            }
        }
    }
}
