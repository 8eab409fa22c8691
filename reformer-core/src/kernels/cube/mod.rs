//! Fused kernels for every CubeCL runtime: CUDA, and Vulkan through wgpu.
//!
//! No kernel reads a tensor back to the host, so a training step is a queue of launches: buckets
//! are sorted on the device, and the number of slots is an upper bound for any bucket sizes.

mod activation;
mod attention;
mod backend;
mod common;
#[cfg(feature = "cuda")]
mod cuda;
mod device;
mod hash;
mod linear;
mod loss;
mod matrices;
mod merge;
mod norm;
mod philox;
mod product;
mod residual;
mod rotate;
mod rows;
mod sort;
mod strided;
mod sums;
mod tokens;

pub(super) use activation::{
    activation, activation_backward, biased_activation, biased_activation_backward,
};
pub(super) use attention::{
    full_attention, full_attention_backward, tiled_attention, tiled_attention_backward,
};
pub(super) use hash::hash;
pub(super) use linear::{linear_layer, linear_layer_backward};
pub(super) use loss::{token_loss, token_loss_backward};
pub(super) use norm::{layer_normalization, layer_normalization_backward};
pub(super) use philox::dropout_factors;
pub(super) use residual::{residual, residual_at};
pub(super) use rotate::{rotate, rotate_at};
pub(super) use sort::sort_rounds;
pub(super) use tokens::token_vectors_backward;
