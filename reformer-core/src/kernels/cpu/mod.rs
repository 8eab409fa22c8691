//! Fused kernels for backends whose tensors live in host memory.
//!
//! Burn's CPU backends iterate over broadcast and transposed tensors one element at a time, and a
//! masked softmax of tensor operations mostly consists of such tensors. Here a tile is gathered
//! once, its products are small matrix products, and masks are computed instead of stored. Heads of
//! the batch run in parallel; the result of a head does not depend on the number of threads.

mod activation;
mod attention;
mod backends;
mod decode;
mod dense;
mod element;
mod full;
mod gemm;
mod hash;
mod head;
mod host;
mod loss;
mod matrix;
mod norm;
mod pairs;
mod product;
mod residual;
mod rotate;
mod row;
mod simd;
mod singles;
#[cfg(test)]
mod testing;
mod tile;
mod tiled;

use burn::tensor::backend::Backend;
use burn::tensor::{DType, Tensor};

pub(super) use activation::{activation, activation_backward};
pub(super) use decode::{decode_attention, key_rows, write_rows};
pub(super) use dense::{linear_layer, linear_layer_backward};
pub(super) use full::{full_attention, full_attention_backward};
pub(super) use hash::hash;
pub(super) use loss::{token_loss, token_loss_backward};
pub(super) use norm::{layer_normalization, layer_normalization_backward};
pub(super) use residual::{residual, residual_at};
pub(super) use rotate::{rotate, rotate_at};
pub(super) use tiled::{tiled_attention, tiled_attention_backward};

/// Whether these kernels support a tensor; otherwise the reference is used. Half precision is
/// computed in `f32` unless the processor multiplies [pairs](pairs::Pair).
pub(super) fn serves<B: Backend, const D: usize>(tensor: &Tensor<B, D>) -> bool {
    matches!(tensor.dtype(), DType::F32 | DType::BF16 | DType::F16)
}

/// Whether they read a tensor as it lies in memory, without a conversion of the whole.
pub(super) fn lends<B: Backend, const D: usize>(tensor: &Tensor<B, D>) -> bool {
    tensor.dtype() == DType::F32 || pairs::Pair::serves(tensor.dtype())
}
