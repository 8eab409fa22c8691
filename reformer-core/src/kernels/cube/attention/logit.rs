//! Logit, dropout factor and visibility of a pair of query and key.

use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;

use super::cube_rows::{Location, seen_from};
use super::plan::Plan;
use super::row::{MASKED_POSITION, RowInfo, near};
use super::shared_rows::SharedRows;
use super::sizes::Sizes;
use super::tables::Tables;
use crate::kernels::cube::philox::factor;
use crate::kernels::reference::SELF;

/// Logit of a masked key: its weight is exactly zero next to any maximum.
const HIDDEN: f32 = -2e9;

/// Range of positions and sort keys of a cube's rows, used to skip blocks that none of them can see.
#[derive(CubeType, Clone, Copy)]
pub(super) struct Range {
    pub(super) any: bool,
    pub(super) first: i32,
    pub(super) last: i32,
    pub(super) lowest: i32,
    pub(super) highest: i32,
}

#[cube]
pub(super) fn range_of(rows: &SharedRows, #[comptime] n: u32) -> Range {
    let mut any = false.runtime();
    let mut first = MASKED_POSITION.runtime();
    let mut last = 0i32.runtime();
    let mut lowest = MASKED_POSITION.runtime();
    let mut highest = 0i32.runtime();
    for row in 0..n {
        let position = rows.positions[row as usize];
        if position >= 0 {
            let sort_key = rows.sort_keys[row as usize];
            any = true;
            first = min(first, position);
            last = max(last, position);
            lowest = min(lowest, sort_key);
            highest = max(highest, sort_key);
        }
    }
    Range {
        any,
        first,
        last,
        lowest,
        highest,
    }
}

/// Whether a row of the other side can interact with any row in the range.
#[cube]
pub(super) fn in_sight(
    position: i32,
    sort_key: i32,
    range: &Range,
    sizes: &Sizes,
    #[comptime] plan: Plan,
) -> bool {
    let mut in_sight = position >= 0;
    if comptime![plan.causal && plan.of_keys] {
        in_sight = in_sight && position >= range.first;
    }
    if comptime![plan.causal && !plan.of_keys] {
        in_sight = in_sight && position <= range.last;
    }
    if comptime![plan.near] {
        let (after, width) = (sizes.after as i32, sizes.width as i32);
        let mut from = range.lowest + after - width;
        let mut to = range.highest + after;
        if comptime![plan.of_keys] {
            from = range.lowest - after;
            to = range.highest - after + width;
        }
        in_sight = in_sight && sort_key >= from;
        in_sight = in_sight && sort_key <= to;
    }
    in_sight
}

/// Whether any row of the block can interact with any row in the range.
#[cube]
pub(super) fn any_in_sight(
    others: &SharedRows,
    range: &Range,
    sizes: &Sizes,
    #[comptime] plan: Plan,
) -> bool {
    let mut any = false.runtime();
    for other in 0..comptime![plan.others] {
        let position = others.positions[other as usize];
        let sort_key = others.sort_keys[other as usize];
        any = any || in_sight(position, sort_key, range, sizes, plan);
    }
    any
}

/// Whether the rules let a query see a key that is not itself.
#[cube]
pub(super) fn sees(query: &RowInfo, key: &RowInfo, sizes: &Sizes, #[comptime] plan: Plan) -> bool {
    let mut last = MASKED_POSITION.runtime() - 1;
    if comptime![plan.causal] {
        last = query.position;
    }
    let mut seen = query.position >= 0 && key.visible <= last;
    if comptime![plan.near] {
        seen = seen && near(query.sort_key, key.sort_key, sizes);
    }
    seen
}

/// Whether the logit of a pair is that of a query with itself, which is a constant.
#[cube]
pub(super) fn is_itself(query: &RowInfo, key: &RowInfo, #[comptime] plan: Plan) -> bool {
    let mut itself = false.runtime();
    if comptime![plan.exclude_self] {
        itself = query.position >= 0 && query.position == key.position;
    }
    itself
}

/// The logit of a pair by the rules.
#[cube]
pub(super) fn masked(logit: f32, seen: bool, itself: bool, #[comptime] plan: Plan) -> f32 {
    let mut masked = select(seen, logit, HIDDEN.runtime());
    if comptime![plan.exclude_self] {
        // After the other rules: a query without other visible keys, such as padding, sees itself.
        masked = select(itself, SELF.runtime(), masked);
    }
    masked
}

/// The logit of a pair, from the dot product of its query and key.
#[cube]
pub(super) fn logit_of<I: Int>(
    product: f32,
    query: &RowInfo,
    key: &RowInfo,
    head: u32,
    tables: &Tables<I>,
    #[comptime] plan: Plan,
) -> f32 {
    let seen = sees(query, key, &tables.sizes, plan);
    let itself = is_itself(query, key, plan);
    let mut logit = masked(product, seen, itself, plan);
    if comptime![plan.counted_rounds > 0] {
        let counted = seen && !itself;
        if counted {
            let count = rounds_together(query.position, key.position, head, tables);
            if count > 1 {
                logit -= f32::cast_from(count).ln();
            }
        }
    }
    logit
}

/// Number of rounds in which a query sees a key.
#[cube]
fn rounds_together<I: Int>(query: i32, key: i32, head: u32, tables: &Tables<I>) -> u32 {
    let sizes = tables.sizes;
    let first = head as usize * sizes.seq_length as usize;
    let n_rounds = sizes.n_rounds as usize;
    let of_query = (first + query as usize) * n_rounds;
    let of_key = (first + key as usize) * n_rounds;
    let mut count = 0u32.runtime();
    for round in 0..n_rounds {
        let of_query = tables.sort_keys[of_query + round];
        let of_key = tables.sort_keys[of_key + round];
        if near(of_query, of_key, &sizes) {
            count += 1;
        }
    }
    count
}

/// The dropout factor of a query's weight for slot `reached` of its reach.
#[cube]
pub(super) fn factor_of(query: &RowInfo, reached: u32, sizes: &Sizes) -> f32 {
    factor(
        query.draw_row,
        query.draw_width,
        reached,
        query.draw_low,
        query.draw_high,
        sizes.threshold,
        sizes.kept,
    )
}

/// What backward has of a query: the two parts of its log-sum-exp, and the dot product of the
/// output and its gradient.
#[derive(CubeType, Clone, Copy)]
pub(super) struct Statistics {
    pub(super) max: f32,
    pub(super) log_sum: f32,
    pub(super) delta: f32,
}

/// Reads the statistics of a query; those of an empty row, with a negative position, are zeros.
#[cube]
pub(super) fn statistics_of<I: Int>(position: i32, head: u32, tables: &Tables<I>) -> Statistics {
    let statistics = tables.statistics.unwrap();
    let mut max = 0.0f32.runtime();
    let mut log_sum = 0.0f32.runtime();
    let mut delta = 0.0f32.runtime();
    if position >= 0 {
        let first = head as usize * tables.sizes.seq_length as usize;
        let at = (first + position as usize) * 3;
        max = statistics[at];
        log_sum = statistics[at + 1];
        delta = statistics[at + 2];
    }
    Statistics {
        max,
        log_sum,
        delta,
    }
}

/// From a weight, its dropout factor and the dot product of output gradient and value: the gradient
/// of the pair's logit, and the factor of the output gradient in the gradient of the value.
#[cube]
pub(super) fn gradients_of_pair(
    weight: f32,
    factor: f32,
    grad: f32,
    delta: f32,
    itself: bool,
    #[comptime] plan: Plan,
) -> (f32, f32) {
    let mut of_weight = grad;
    let mut of_value = weight;
    if comptime![plan.dropout] {
        of_value *= factor;
        of_weight *= factor;
    }
    let mut of_logit = weight * (of_weight - delta);
    if comptime![plan.exclude_self] {
        // The logit of a query with itself is a constant and has no gradient.
        of_logit = select(itself, 0.0f32.runtime(), of_logit);
    }
    (of_logit, of_value)
}

/// The dropout factor of a pair in backward. `reached` is the index of the other row in the reach
/// of the cube's own row.
#[cube]
pub(super) fn factor_of_pair(
    query: &RowInfo,
    reached: u32,
    own: &Location,
    sizes: &Sizes,
    #[comptime] plan: Plan,
) -> f32 {
    let mut factor = 1.0f32.runtime();
    if comptime![plan.dropout] {
        let mut number = reached;
        if comptime![plan.of_keys] {
            number = seen_from(reached, own, plan);
        }
        factor = factor_of(query, number, sizes);
    }
    factor
}
