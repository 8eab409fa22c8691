//! Sort keys: a sortable number for each position and round, which encodes bucket and distance.
//!
//! A sort key is the index of a slot or tile, plus a gap for each bucket that exceeds any distance
//! within reach. Since slots are sorted by bucket, a position in a larger bucket has a larger slot,
//! so one comparison of sort keys checks both the distance and the bucket.

use burn::tensor::DType;
use burn_cubecl::cubecl;
use burn_cubecl::cubecl::calculate_cube_count_elemwise;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::{CubeRuntime, tensor::CubeTensor};

use crate::kernels::cube::common::UNITS;
use crate::kernels::cube::device::{empty, offsets};
use crate::kernels::cube::rows::dims;

#[cube(launch, address_type = "dynamic")]
fn find<I: Int>(
    slot_of: &Array<I>,
    buckets: &Array<I>,
    sort_keys: &mut Array<i32>,
    n_rounds: usize,
    seq_length: usize,
    unit: u32,
    gap: u32,
    #[define(I)] _dtype: StorageType,
) {
    if ABSOLUTE_POS < sort_keys.len() {
        let head = ABSOLUTE_POS / n_rounds / seq_length;
        let position = ABSOLUTE_POS / n_rounds % seq_length;
        let round = ABSOLUTE_POS % n_rounds;
        let from = (head * n_rounds + round) * seq_length + position;
        let mut sort_key = u32::cast_from(slot_of[from]) / unit;
        if gap > 0 {
            sort_key += u32::cast_from(buckets[from]) * gap;
        }
        sort_keys[ABSOLUTE_POS] = sort_key as i32;
    }
}

/// Sort keys of positions, contiguous over the rounds of a position:
/// `[batch_size, n_heads, seq_length, n_rounds]`. With a `gap` of zero they ignore buckets.
pub(super) fn sort_keys<R: CubeRuntime>(
    slot_of: CubeTensor<R>,
    buckets: CubeTensor<R>,
    unit: usize,
    gap: usize,
) -> CubeTensor<R> {
    let [batch_size, n_heads, n_rounds, seq_length] = dims(&slot_of);
    let shape = [batch_size, n_heads, seq_length, n_rounds];
    let sort_keys = empty(&slot_of, shape, DType::I32);
    let client = slot_of.client.clone();
    let units = CubeDim::new_1d(UNITS);
    let dtype = slot_of.dtype;
    find::launch(
        &client,
        calculate_cube_count_elemwise(&client, shape.iter().product(), units),
        units,
        offsets(&[&slot_of, &sort_keys]),
        slot_of.into_array_arg(),
        buckets.into_array_arg(),
        sort_keys.clone().into_array_arg(),
        n_rounds,
        seq_length,
        unit as u32,
        gap as u32,
        dtype.into(),
    );
    sort_keys
}
