//! Logits of pairs in the registers of a unit.

use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;

use super::rows::{Row, compared_rounds};
use super::{HALF, in_quad};
use crate::kernels::cube::attention::logit::{masked, sees};
use crate::kernels::cube::attention::plan::Plan;
use crate::kernels::cube::attention::row::near;
use crate::kernels::cube::attention::sizes::Sizes;

/// The exponential with the precision of the instruction for it, which errs by far less than a
/// weight in half precision.
#[cube(fast_math = FastMath::all())]
pub(super) fn exp(value: f32) -> f32 {
    value.exp()
}

/// The number, in a block, of the other row of a pair: column `column` of the unit in tile `tile`.
#[cube]
pub(super) fn other_number(#[comptime] tile: u32, #[comptime] column: u32) -> u32 {
    in_quad() * 2 + comptime![tile * HALF + column]
}

/// Logarithms of numbers of rounds, with which a pair is counted.
#[cube]
pub(super) fn logarithms(#[comptime] plan: Plan) -> SharedMemory<f32> {
    let n_rounds = comptime![plan.counted_rounds];
    let mut logarithms = SharedMemory::<f32>::new(comptime![n_rounds as usize + 1]);
    if comptime![n_rounds > 0] {
        for count in range_stepped(UNIT_POS, comptime![n_rounds + 1], CUBE_DIM) {
            logarithms[count as usize] = f32::cast_from(max(count, 1u32.runtime())).ln();
        }
    }
    logarithms
}

/// The logit of a pair, from the dot product of its query and key.
#[cube]
pub(super) fn logit_of(
    product: f32,
    query: &Row,
    key: &Row,
    itself: bool,
    logarithms: &SharedMemory<f32>,
    sizes: &Sizes,
    #[comptime] plan: Plan,
) -> f32 {
    let mut logit = product;
    if comptime![plan.unit_keys] {
        logit *= key.scale;
    }
    if comptime![plan.counted_rounds > 0] {
        let mut count = 1u32.runtime();
        #[unroll]
        for round in 0..comptime![compared_rounds(&plan) as usize] {
            count += u32::cast_from(near(query.of_rounds[round], key.of_rounds[round], sizes));
        }
        logit -= logarithms[count as usize];
    }
    let seen = sees(&query.info, &key.info, sizes, plan);
    masked(logit, seen, itself, plan)
}
