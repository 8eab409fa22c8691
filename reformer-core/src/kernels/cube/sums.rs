//! Sums over rows. A cube has a block of columns and strided rows, and one more launch adds the results
//! of cubes with the same columns in order: deterministic to the last bit, without a copy of the input.

use burn::tensor::DType;
use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::{CubeRuntime, tensor::CubeTensor};

use super::common::{LANES, TEAMS, over_teams};
use super::device::{Cube, Floats, empty, offsets, side_by_side, width};
use super::strided::{Strided, strided};

/// Maximum number of segments of rows: with the columns, enough cubes for any GPU, and few enough for
/// one launch to sum their results.
const MOST_SEGMENTS: usize = 512;

/// Minimum number of rows in a segment: eight for each team.
const ROWS_OF_SEGMENT: usize = 64;

/// Rows whose loads do not wait for each other: a launch with few cubes waits for memory.
const TOGETHER: usize = 8;

/// Units per cube for kernels that process columns.
pub(super) fn units() -> CubeDim {
    CubeDim::new_2d(LANES, TEAMS)
}

/// Number of cubes that cover all columns.
pub(super) fn blocks_of_columns(d: usize, width: usize) -> u32 {
    d.div_ceil(LANES as usize * width) as u32
}

/// Number of segments of rows.
pub(super) fn segments_of(n_rows: usize) -> usize {
    n_rows.div_ceil(ROWS_OF_SEGMENT).clamp(1, MOST_SEGMENTS)
}

/// Sums rows of `from` into one row of `to` for each segment.
#[cube(launch, address_type = "dynamic")]
fn add_rows<F: Float, O: Float, N: Size>(
    from: &Strided<Vector<F, N>>,
    to: &mut Array<Vector<O, N>>,
    n_rows: usize,
    #[comptime] d: usize,
    #[comptime] width: usize,
    #[define(F, O)] _dtypes: [StorageType; 2],
) {
    let columns = comptime![d / width];
    let column = (CUBE_POS_X * LANES + UNIT_POS_X) as usize;
    let mut shared = SharedMemory::<Vector<f32, N>>::new(comptime![(LANES * TEAMS) as usize]);
    let mut sum = Vector::<f32, N>::new(0.0);
    if column < columns {
        let first = (CUBE_POS_Y * TEAMS + UNIT_POS_Y) as usize;
        let apart = (CUBE_COUNT_Y * TEAMS) as usize;
        let n_own = (n_rows + apart - 1 - first) / apart;
        let n_together = n_own / TOGETHER * TOGETHER;
        for i in range_stepped(0, n_together, TOGETHER) {
            #[unroll]
            for j in 0..TOGETHER {
                let row = first + (i + j) * apart;
                sum += Vector::<f32, N>::cast_from(from.vectors[from.row(row) + column]);
            }
        }
        for i in n_together..n_own {
            let row = first + i * apart;
            sum += Vector::<f32, N>::cast_from(from.vectors[from.row(row) + column]);
        }
    }
    let sum = over_teams(sum, &mut shared);
    if UNIT_POS_Y == 0 && column < columns {
        to[CUBE_POS_Y as usize * columns + column] = Vector::cast_from(sum);
    }
}

/// Sums of `[batch_size, length, d]` over the rows of each segment.
fn partial_sums<R: CubeRuntime>(
    from: &CubeTensor<R>,
    segments: usize,
    dtype: DType,
) -> CubeTensor<R> {
    let [batch_size, length, d] = from.meta.shape().dims();
    let to = empty(from, [1, segments, d], dtype);
    let width = width(&[from, &to]);
    add_rows::launch(
        &from.client,
        CubeCount::Static(blocks_of_columns(d, width), segments as u32, 1),
        units(),
        offsets(&[from]),
        width,
        strided(from.clone(), width),
        to.clone().into_array_arg(),
        batch_size * length,
        d,
        width,
        [from.dtype.into(), dtype.into()],
    );
    to
}

/// Sums of `[batch_size, length, d]` over all rows, in a given type: `[1, 1, d]`. The features of a
/// row must be contiguous.
pub(super) fn sum_rows<R: CubeRuntime>(from: &CubeTensor<R>, dtype: DType) -> CubeTensor<R> {
    let [batch_size, length, _] = from.meta.shape().dims();
    let n_rows = batch_size * length;
    if n_rows <= MOST_SEGMENTS {
        return partial_sums(from, 1, dtype);
    }
    let of_segments = partial_sums(from, segments_of(n_rows), DType::F32);
    partial_sums(&of_segments, 1, dtype)
}

/// Sum over all positions, in a given type.
pub(super) fn sum_of_rows<B: Cube>(from: Floats<B, 3>, dtype: DType) -> Floats<B, 1> {
    let d = from.dims()[2];
    let from = side_by_side(B::floats(from));
    B::of_floats::<3>(sum_rows(&from, dtype)).reshape([d])
}
