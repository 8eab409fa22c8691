//! What kernels share on the device.

use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;

/// Four numbers that are read and computed with at once.
pub(super) type Four = Vector<f32, Const<4>>;

/// Units of a cube where nothing else asks for a number.
pub(super) const UNITS: u32 = 256;

/// Number of the cube along the second dimension of a [grid](super::device::grid).
#[cube]
pub(super) fn cube_y() -> u32 {
    CUBE_POS_Z * CUBE_COUNT_Y + CUBE_POS_Y
}

/// Four neighbouring elements of a row that begins at `row`, zeros beyond its end.
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

/// Where a head begins in a tensor `[batch_size, n_heads, length, d]`.
#[cube]
pub(super) fn head_at<E: CubePrimitive>(tensor: &Tensor<E>, head: u32) -> usize {
    let n_heads = tensor.shape(1) as u32;
    (head / n_heads) as usize * tensor.stride(0) + (head % n_heads) as usize * tensor.stride(1)
}
