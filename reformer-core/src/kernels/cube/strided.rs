//! Tensors whose rows may lie anywhere, as arguments of kernels.
//!
//! Kernels take arrays, and the strides that they read as scalars. Scalars and lengths of arrays come
//! with a launch, whereas CubeCL copies shapes and strides of tensors to the device before it.

use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::{CubeRuntime, tensor::CubeTensor};

/// Rows of `[batch_size, length, d]` or `[batch_size, n_heads, length, d]`, as vectors. The features
/// of a row are contiguous. Offsets count vectors.
#[derive(CubeType, CubeLaunch)]
pub(super) struct Strided<E: CubePrimitive> {
    pub(super) vectors: Array<E>,
    /// 1 without heads.
    pub(super) n_heads: u32,
    pub(super) length: usize,
    /// From a sequence, head or position to the next one.
    of_batch: usize,
    pub(super) of_head: usize,
    pub(super) of_position: usize,
}

#[cube]
impl<E: CubePrimitive> Strided<E> {
    /// Offset of a position of a sequence, in the first head.
    pub(super) fn at(&self, batch: usize, position: usize) -> usize {
        batch * self.of_batch + position * self.of_position
    }

    /// Offset of row number `row` without heads.
    pub(super) fn row(&self, row: usize) -> usize {
        self.at(row / self.length, row % self.length)
    }

    /// Offset of a head of the batch.
    pub(super) fn head(&self, head: u32) -> usize {
        let (batch, of_sequence) = (head / self.n_heads, head % self.n_heads);
        batch as usize * self.of_batch + of_sequence as usize * self.of_head
    }

    /// Offset of row number `row`, counted from a head of the batch on.
    pub(super) fn row_from(&self, first_head: u32, row: usize) -> usize {
        let head = first_head + (row / self.length) as u32;
        self.head(head) + row % self.length * self.of_position
    }
}

/// The argument for a tensor whose rows consist of vectors of `width` elements:
/// see [`width`](super::device::width).
pub(super) fn strided<E: CubePrimitive, R: CubeRuntime>(
    tensor: CubeTensor<R>,
    width: usize,
) -> StridedLaunch<E, R> {
    let (shape, strides) = (tensor.meta.shape(), tensor.meta.strides());
    let rows = strides.len() - 2;
    let (n_heads, of_head) = match rows {
        1 => (1, 0),
        _ => (shape[1], strides[1]),
    };
    let length = shape[rows];
    let [of_batch, of_head, of_position] = [strides[0], of_head, strides[rows]].map(|stride| {
        debug_assert!(stride.is_multiple_of(width), "{strides:?} in {width}");
        stride / width
    });
    StridedLaunch::new(
        tensor.into_array_arg(),
        n_heads as u32,
        length,
        of_batch,
        of_head,
        of_position,
    )
}
