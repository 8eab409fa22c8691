//! Fused kernels for every CubeCL runtime: CUDA, and Vulkan through wgpu.
//!
//! No kernel reads a tensor back to the host, so a training step is a queue of launches: buckets
//! are sorted on the device, and the number of slots is an upper bound for any bucket sizes.

mod activation;
mod attention;
mod common;
#[cfg(feature = "cuda")]
mod cuda;
mod device;
mod hash;
mod linear;
mod loss;
mod norm;
mod philox;
mod residual;
mod rotate;
mod rows;
mod sort;
mod sums;
mod tokens;

use burn::tensor::{DType, Int, Tensor};
use burn_cubecl::{BoolElement, CubeBackend, CubeRuntime, FloatElement, IntElement};

#[cfg(feature = "cuda")]
use super::DeviceAddress;
use super::{
    AttentionGradients, AttentionOutput, LayerNormGradients, LinearGradients, LinearParents,
    Masking, Qkv, ReformerBackend, Residual, Rotation, SlotLayout, Slots, TiledAttention,
    TokenLoss, reference,
};
use crate::kernels::Activation;
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
        sort::sort_rounds(buckets, n_buckets, layout, false)
    }

    fn sort_rounds(
        buckets: Tensor<Self, 4, Int>,
        n_buckets: usize,
        layout: SlotLayout,
        local: bool,
    ) -> Slots<Self> {
        sort::sort_rounds(buckets, n_buckets, layout, local)
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
        if serves(rotations.dtype()) && serves(vectors.dtype()) {
            return hash::hash(vectors, rotations, factors);
        }
        reference::hash(vectors, rotations, factors)
    }

    const BIAS_WITH_ACTIVATION: bool = true;

    fn at_once(n: usize, bytes: usize, device: &Self::Device) -> usize {
        device::at_once::<R>(n, bytes, device)
    }

    fn reserved_bytes(device: &Self::Device) -> Option<u64> {
        let usage = R::client(device).memory_usage().ok()?;
        Some(usage.bytes_reserved)
    }

    fn token_loss(logits: Tensor<Self, 3>, targets: Tensor<Self, 2, Int>) -> TokenLoss<Self> {
        if serves(logits.dtype()) {
            return loss::token_loss(logits, targets);
        }
        reference::token_loss(logits, targets)
    }

    fn token_loss_backward(
        logits: Tensor<Self, 3>,
        targets: Tensor<Self, 2, Int>,
        grad: Tensor<Self, 1>,
    ) -> Tensor<Self, 3> {
        if serves(logits.dtype()) {
            return loss::token_loss_backward(logits, targets, grad);
        }
        reference::token_loss_backward(logits, targets, grad)
    }

    fn token_vectors_backward(
        weight: Tensor<Self, 2>,
        tokens: Tensor<Self, 2, Int>,
        grad: Tensor<Self, 3>,
    ) -> Tensor<Self, 2> {
        if grad.dtype() == DType::F32 {
            return tokens::token_vectors_backward(weight.dims()[0], tokens, grad);
        }
        reference::token_vectors_backward(weight, tokens, grad)
    }

    fn linear_layer(
        x: Tensor<Self, 3>,
        weight: Tensor<Self, 2>,
        bias: Option<Tensor<Self, 1>>,
    ) -> Tensor<Self, 3> {
        match bias {
            Some(bias) if serves(x.dtype()) && bias.dtype() == DType::F32 => {
                linear::plus_bias(reference::linear(x, weight, None), bias)
            }
            bias => reference::linear(x, weight, bias),
        }
    }

    fn linear_layer_backward(
        x: Tensor<Self, 3>,
        weight: Tensor<Self, 2>,
        grad: Tensor<Self, 3>,
        wanted: LinearParents,
    ) -> LinearGradients<Self> {
        let dtype = grad.dtype();
        Self::linear_layer_backward_as(x, weight, grad, wanted, dtype)
    }

    fn linear_layer_backward_as(
        x: Tensor<Self, 3>,
        weight: Tensor<Self, 2>,
        grad: Tensor<Self, 3>,
        wanted: LinearParents,
        dtype: DType,
    ) -> LinearGradients<Self> {
        if serves(grad.dtype()) && serves(dtype) {
            return linear::linear_layer_backward(x, weight, grad, wanted, dtype);
        }
        reference::linear_backward(x, weight, grad, wanted).with_parameters_in(dtype)
    }

    fn activation(x: Tensor<Self, 3>, activation: Activation) -> Tensor<Self, 3> {
        if serves(x.dtype()) {
            return activation::activation(x, None, activation);
        }
        reference::activation(x, activation)
    }

    fn activation_backward(
        x: Tensor<Self, 3>,
        activation: Activation,
        grad: Tensor<Self, 3>,
    ) -> Tensor<Self, 3> {
        if serves(x.dtype()) && grad.dtype() == x.dtype() {
            return activation::activation_backward(x, None, activation, grad).0;
        }
        reference::activation_backward(x, activation, grad)
    }

    fn biased_activation(
        x: Tensor<Self, 3>,
        bias: Tensor<Self, 1>,
        activation: Activation,
    ) -> Tensor<Self, 3> {
        if serves(x.dtype()) && bias.dtype() == DType::F32 {
            return activation::activation(x, Some(bias), activation);
        }
        reference::biased_activation(x, bias, activation)
    }

    fn biased_activation_backward(
        x: Tensor<Self, 3>,
        bias: Tensor<Self, 1>,
        activation: Activation,
        grad: Tensor<Self, 3>,
    ) -> (Tensor<Self, 3>, Tensor<Self, 1>) {
        if serves(x.dtype()) && grad.dtype() == x.dtype() && bias.dtype() == DType::F32 {
            return activation::biased_activation_backward(x, bias, activation, grad);
        }
        reference::biased_activation_backward(x, bias, activation, grad)
    }

    fn residual(
        x: Tensor<Self, 3>,
        parts: Vec<Tensor<Self, 3>>,
        direction: Residual,
    ) -> Tensor<Self, 3> {
        if x.dtype() == DType::F32 && parts.iter().all(|part| serves(part.dtype())) {
            return residual::residual(x, parts, direction);
        }
        reference::residual(x, parts, direction)
    }

    fn residual_at(
        x: Tensor<Self, 3>,
        start: usize,
        part: Tensor<Self, 3>,
        direction: Residual,
    ) -> Tensor<Self, 3> {
        if x.dtype() == DType::F32 && serves(part.dtype()) {
            return residual::residual_at(x, start, part, direction);
        }
        reference::residual_at(x, start, part, direction)
    }

    fn layer_normalization(
        x: Tensor<Self, 3>,
        gamma: Tensor<Self, 1>,
        beta: Tensor<Self, 1>,
        epsilon: f64,
        dtype: DType,
    ) -> Tensor<Self, 3> {
        let inputs = [x.dtype(), gamma.dtype(), beta.dtype()];
        if inputs == [DType::F32; 3] && serves(dtype) {
            return norm::layer_normalization(x, [gamma, beta], epsilon, dtype);
        }
        reference::layer_norm(x, gamma, beta, epsilon, dtype)
    }

    fn layer_normalization_backward(
        x: Tensor<Self, 3>,
        gamma: Tensor<Self, 1>,
        epsilon: f64,
        grad: Tensor<Self, 3>,
    ) -> LayerNormGradients<Self> {
        if [x.dtype(), gamma.dtype()] == [DType::F32; 2] && serves(grad.dtype()) {
            return norm::layer_normalization_backward(x, gamma, epsilon, grad);
        }
        reference::layer_norm_backward(x, gamma, epsilon, grad)
    }

    fn rotate(heads: Tensor<Self, 4>, base: f64, rotation: Rotation) -> Tensor<Self, 4> {
        if serves(heads.dtype()) {
            return rotate::rotate(heads, None, base, rotation);
        }
        reference::rotate(heads, base, rotation)
    }

    fn rotate_at(heads: Tensor<Self, 4>, positions: &[usize], base: f64) -> Tensor<Self, 4> {
        if serves(heads.dtype()) {
            return rotate::rotate(heads, Some(positions), base, Rotation::Apply);
        }
        reference::rotate_at(heads, positions, base)
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
