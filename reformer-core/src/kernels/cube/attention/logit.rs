//! Logit, dropout factor and visibility of a pair of query and key.

use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;

use super::cube_rows::{CubeBlock, seen_from};
use super::plan::{Plan, Sizes};
use super::row::{MASKED_POSITION, RowInfo, near};
use super::shared_rows::SharedRows;
use crate::kernels::cube::philox::factor;
use crate::kernels::reference::SELF;

/// Logit of a masked key: its weight is exactly zero next to any maximum.
pub(super) const HIDDEN: f32 = -2e9;

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
        let mut in_sight = position >= 0;
        if comptime![plan.causal && plan.of_keys] {
            in_sight = in_sight && position >= range.first;
        }
        if comptime![plan.causal && !plan.of_keys] {
            in_sight = in_sight && position <= range.last;
        }
        if comptime![plan.near] {
            let sort_key = others.sort_keys[other as usize];
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
        any = any || in_sight;
    }
    any
}

/// The logit of a pair, from the dot product of its query and key.
#[cube]
pub(super) fn logit_of(
    product: f32,
    query: &RowInfo,
    key: &RowInfo,
    head: u32,
    sort_keys: &Tensor<i32>,
    sizes: &Sizes,
    #[comptime] plan: Plan,
) -> f32 {
    let mut last = MASKED_POSITION.runtime() - 1;
    if comptime![plan.causal] {
        last = query.position;
    }
    let mut seen = query.position >= 0 && key.visible <= last;
    if comptime![plan.near] {
        seen = seen && near(query.sort_key, key.sort_key, sizes);
    }
    let mut logit = HIDDEN.runtime();
    if seen {
        logit = product;
    }
    let mut itself = false.runtime();
    if comptime![plan.exclude_self] {
        // After the other rules: a query without other visible keys, such as padding, sees itself.
        itself = query.position >= 0 && query.position == key.position;
        if itself {
            logit = SELF.runtime();
        }
    }
    if comptime![plan.count] {
        let counted = seen && !itself;
        if counted {
            let count = rounds_together(query.position, key.position, head, sort_keys, sizes);
            if count > 1 {
                logit -= f32::cast_from(count).ln();
            }
        }
    }
    logit
}

/// Number of rounds in which a query sees a key.
#[cube]
fn rounds_together(query: i32, key: i32, head: u32, sort_keys: &Tensor<i32>, sizes: &Sizes) -> u32 {
    let first = head as usize * sizes.seq_length as usize;
    let n_rounds = sizes.n_rounds as usize;
    let of_query = (first + query as usize) * n_rounds;
    let of_key = (first + key as usize) * n_rounds;
    let mut count = 0u32.runtime();
    for round in 0..n_rounds {
        if near(
            sort_keys[of_query + round],
            sort_keys[of_key + round],
            sizes,
        ) {
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

/// From the dot product of query and key, and that of output gradient and value: the gradient of
/// the pair's logit, and the factor of the output gradient in the gradient of the value. `reached`
/// is the index of the other row in the reach of `own`.
#[cube]
pub(super) fn differentiate_pair(
    product: f32,
    grad: f32,
    own: &RowInfo,
    theirs: &RowInfo,
    reached: u32,
    block: &CubeBlock,
    head: u32,
    sort_keys: &Tensor<i32>,
    statistics: &Tensor<f32>,
    sizes: &Sizes,
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
        let logit = logit_of(product, query, key, head, sort_keys, sizes, plan);
        let statistic = (head as usize * sizes.seq_length as usize + query.position as usize) * 3;
        let weight = ((logit - statistics[statistic]) - statistics[statistic + 1]).exp();
        let mut of_weight = grad;
        of_value = weight;
        if comptime![plan.dropout] {
            let mut number = reached;
            if comptime![plan.of_keys] {
                number = seen_from(reached, block, plan);
            }
            let factor = factor_of(query, number, sizes);
            of_value *= factor;
            of_weight *= factor;
        }
        of_logit = weight * (of_weight - statistics[statistic + 2]);
        if comptime![plan.exclude_self] {
            // The logit of a query with itself is a constant and has no gradient.
            if query.position == key.position {
                of_logit = 0.0f32.runtime();
            }
        }
    }
    (of_logit, of_value)
}
