//! Merges the softmax of a round with that of an earlier launch, if rounds are not all separate.

use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;

use super::cube_rows::Task;
use super::sizes::Sizes;
use crate::kernels::reference::FORBIDDEN;

/// Merged statistics of an output row.
#[derive(CubeType, Clone, Copy)]
pub(super) struct Joined {
    /// Offset of the row's statistics.
    at: usize,
    max: f32,
    sum: f32,
    /// Factors of the output of earlier rounds, and of this round's sums.
    pub(super) old: f32,
    pub(super) new: f32,
}

/// Merges a round with the result of an earlier launch, using the rounded log-sum-exp as in the
/// reference. `sum` is the sum of exponentials of logits less the `largest` one.
#[cube]
pub(super) fn join(
    largest: f32,
    sum: f32,
    position: i32,
    task: &Task,
    max_of: &Tensor<f32>,
    sum_of: &Tensor<f32>,
    sizes: &Sizes,
) -> Joined {
    let mut lse = FORBIDDEN.runtime();
    let mut new = 0.0f32.runtime();
    if sum > 0.0 {
        lse = largest + sum.ln();
        new = (largest - lse).exp();
    }
    let at =
        task.result as usize * sizes.seq_length as usize + max(position, 0i32.runtime()) as usize;
    let mut joined_max = lse;
    let mut old = 0.0f32.runtime();
    let mut joined_sum = 1.0f32.runtime();
    if sizes.first_round > 0 {
        joined_max = max(lse, max_of[at]);
        old = (max_of[at] - joined_max).exp();
        let share = (lse - joined_max).exp();
        joined_sum = sum_of[at] * old + share;
        new *= share;
    }
    Joined {
        at,
        max: joined_max,
        sum: joined_sum,
        old,
        new,
    }
}

/// Writes the statistics of a row.
#[cube]
pub(super) fn keep(joined: &Joined, max_of: &mut Tensor<f32>, sum_of: &mut Tensor<f32>) {
    max_of[joined.at] = joined.max;
    sum_of[joined.at] = joined.sum;
}
