//! Functions shared by the kernels on the device.

use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;

/// Four numbers that are loaded and processed together.
pub(super) type Four = Vector<f32, Const<4>>;

/// Default number of units in a cube.
pub(super) const UNITS: u32 = 256;

/// Index of the cube along the second dimension of a [grid](super::device::grid).
#[cube]
pub(super) fn cube_y() -> u32 {
    CUBE_POS_Z * CUBE_COUNT_Y + CUBE_POS_Y
}

/// Four consecutive elements of a row that begins at `row`, zeros beyond its end.
#[cube]
pub(super) fn four_of<F: Float>(
    tensor: &Tensor<F>,
    row: usize,
    first: u32,
    #[comptime] width: u32,
) -> Four {
    let stride = tensor.stride(3);
    let mut four = Four::empty();
    #[unroll]
    for i in 0..4u32 {
        four[i as usize] = if first + i < width {
            f32::cast_from(tensor[row + (first + i) as usize * stride])
        } else {
            0.0f32.runtime()
        };
    }
    four
}

/// Sum of four numbers.
#[cube]
pub(super) fn sum_of(four: Four) -> f32 {
    (four[0] + four[1]) + (four[2] + four[3])
}

/// Offset of a head in a tensor `[batch_size, n_heads, length, d]`.
#[cube]
pub(super) fn head_at<E: CubePrimitive>(tensor: &Tensor<E>, head: u32) -> usize {
    let n_heads = tensor.shape(1) as u32;
    (head / n_heads) as usize * tensor.stride(0) + (head % n_heads) as usize * tensor.stride(1)
}

/// Vector width of row loads.
pub(super) const WIDTH: usize = 4;

/// Units that share a row (a team), and number of rows in a cube, where kernels process whole rows.
pub(super) const LANES: u32 = 32;
pub(super) const TEAMS: u32 = UNITS / LANES;

/// Sum of the elements of a vector.
#[cube]
pub(super) fn total<N: Size>(vector: Vector<f32, N>, #[comptime] width: usize) -> f32 {
    let mut sum = 0.0f32.runtime();
    #[unroll]
    for i in 0..width {
        sum += vector[i];
    }
    sum
}

/// Sum over the units that share a row, in a fixed order. All units of the cube must call it.
#[cube]
pub(super) fn over_lanes(
    value: f32,
    shared: &mut SharedMemory<f32>,
    #[comptime] lanes: u32,
) -> f32 {
    let first = UNIT_POS_Y * lanes;
    // Waits until all units have read the previous values.
    sync_cube();
    shared[(first + UNIT_POS_X) as usize] = value;
    sync_cube();
    // Several sums, whose additions do not wait for each other.
    let mut sums = Four::new(0.0);
    #[unroll]
    for lane in 0..lanes {
        sums[(lane % 4) as usize] += shared[(first + lane) as usize];
    }
    sum_of(sums)
}

/// Sum over the teams of a cube for each lane, in the order of the teams. All units must call it.
#[cube]
pub(super) fn over_teams<N: Size>(
    value: Vector<f32, N>,
    shared: &mut SharedMemory<Vector<f32, N>>,
) -> Vector<f32, N> {
    sync_cube();
    shared[(UNIT_POS_Y * LANES + UNIT_POS_X) as usize] = value;
    sync_cube();
    let mut sum = Vector::<f32, N>::new(0.0);
    #[unroll]
    for team in 0..TEAMS {
        sum += shared[(team * LANES + UNIT_POS_X) as usize];
    }
    sum
}
