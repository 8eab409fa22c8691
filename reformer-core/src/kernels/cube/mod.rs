//! Fused kernels for every CubeCL runtime: CUDA, and Vulkan through wgpu.
//!
//! Nothing here reads a tensor back, so that a step of training is a queue of launches: buckets
//! are sorted where they are, and the number of slots is what any buckets could need.

mod attention;
mod common;
#[cfg(feature = "cuda")]
mod cuda;
mod device;
mod hash;
mod philox;
mod rows;
mod sort;

use burn::tensor::{Int, Tensor};
use burn_cubecl::{BoolElement, CubeBackend, CubeRuntime, FloatElement, IntElement};

#[cfg(feature = "cuda")]
use super::DeviceAddress;
use super::{
    AttentionGradients, AttentionOutput, Masking, Qkv, ReformerBackend, SlotLayout, Slots,
    TiledAttention, reference,
};
use crate::random::{Dropout, Key};
#[cfg(feature = "cuda")]
use device::Cube;
use device::serves;

impl<R, F, I, BT> ReformerBackend for CubeBackend<R, F, I, BT>
where
    R: CubeRuntime,
    F: FloatElement,
    I: IntElement,
    BT: BoolElement,
{
    fn bucket_sort(
        buckets: Tensor<Self, 4, Int>,
        n_buckets: usize,
        layout: SlotLayout,
    ) -> Slots<Self> {
        sort::bucket_sort(buckets, n_buckets, layout)
    }

    fn tiled_attention(
        qkv: Qkv<Self>,
        slots: &Slots<Self>,
        rules: &TiledAttention,
    ) -> AttentionOutput<Self> {
        if serves(qkv.q.dtype()) {
            return attention::tiled_attention(qkv, slots, rules);
        }
        reference::tiled_attention(qkv, slots, rules)
    }

    fn tiled_attention_backward(
        qkv: Qkv<Self>,
        slots: &Slots<Self>,
        rules: &TiledAttention,
        output: AttentionOutput<Self>,
        grad: Tensor<Self, 4>,
    ) -> AttentionGradients<Self> {
        if serves(qkv.q.dtype()) {
            return attention::tiled_attention_backward(qkv, slots, rules, output, grad);
        }
        reference::tiled_attention_backward(qkv, slots, rules, output, grad)
    }

    fn full_attention(qkv: Qkv<Self>, masking: &Masking<Self>) -> AttentionOutput<Self> {
        if serves(qkv.q.dtype()) {
            return attention::full_attention(qkv, masking);
        }
        reference::full_attention(qkv, masking)
    }

    fn full_attention_backward(
        qkv: Qkv<Self>,
        masking: &Masking<Self>,
        output: AttentionOutput<Self>,
        grad: Tensor<Self, 4>,
    ) -> AttentionGradients<Self> {
        if serves(qkv.q.dtype()) {
            return attention::full_attention_backward(qkv, masking, output, grad);
        }
        reference::full_attention_backward(qkv, masking, output, grad)
    }

    fn hash(
        vectors: Tensor<Self, 4>,
        rotations: Tensor<Self, 4>,
        factors: &[usize],
    ) -> Tensor<Self, 4, Int> {
        if serves(rotations.dtype()) {
            return hash::hash(vectors, rotations, factors);
        }
        reference::hash(vectors, rotations, factors)
    }

    fn dropout_factors<const D: usize>(
        shape: [usize; D],
        rate: f64,
        key: Key,
        device: &Self::Device,
    ) -> Tensor<Self, D> {
        philox::dropout_factors(shape, Dropout::new(key, rate), F::dtype(), device)
    }

    #[cfg(feature = "cuda")]
    fn device_address<const D: usize>(tensor: &Tensor<Self, D>) -> Option<DeviceAddress> {
        cuda::device_address(<Self as Cube>::floats(tensor.clone()))
    }
}
