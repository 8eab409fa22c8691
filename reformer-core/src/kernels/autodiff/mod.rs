//! The kernels on [`Autodiff`]: forward of the inner backend, explicit backward as one step.

mod activation;
mod attention;
mod layer_norm;
mod linear;
mod loss;
mod rotate;
mod seed;
mod tokens;

use burn::tensor::backend::AutodiffBackend;
use burn::tensor::{Bool, DType, Int, Tensor};
use burn_autodiff::Autodiff;
use burn_autodiff::checkpoint::strategy::CheckpointStrategy;

use super::{
    AttentionOutput, Masking, Qkv, ReformerBackend, Rotation, SlotLayout, Slots, TiledAttention,
    TokenLoss,
};
use crate::kernels::Activation;
use crate::random::Key;
use activation::{activation, biased_activation};
use attention::{Kind, attention};
use layer_norm::layer_norm;
use linear::linear;
use loss::token_loss;
use rotate::rotate;
use seed::seed;
use tokens::token_vectors;

impl<B: ReformerBackend, C: CheckpointStrategy> ReformerBackend for Autodiff<B, C> {
    const BIAS_WITH_ACTIVATION: bool = B::BIAS_WITH_ACTIVATION;

    fn at_once(n: usize, bytes: usize, device: &Self::Device) -> usize {
        B::at_once(n, bytes, device)
    }

    fn among_threads<R: Send>(operations: impl FnOnce() -> R + Send) -> R {
        B::among_threads(operations)
    }

    fn reserved_bytes(device: &Self::Device) -> Option<u64> {
        B::reserved_bytes(device)
    }

    fn bucket_sort(
        buckets: Tensor<Self, 4, Int>,
        n_buckets: usize,
        layout: SlotLayout,
    ) -> Slots<Self> {
        of_inner(B::bucket_sort(buckets.inner(), n_buckets, layout))
    }

    fn sort_rounds(
        buckets: Tensor<Self, 4, Int>,
        n_buckets: usize,
        layout: SlotLayout,
        local: bool,
    ) -> Slots<Self> {
        of_inner(B::sort_rounds(buckets.inner(), n_buckets, layout, local))
    }

    fn tiled_attention(
        qkv: Qkv<Self>,
        slots: &Slots<Self>,
        rules: &TiledAttention,
    ) -> AttentionOutput<Self> {
        let slots = Slots {
            order: slots.order.clone().inner(),
            slot_of: slots.slot_of.clone().inner(),
            buckets: slots.buckets.clone().inner(),
            mask_pad: inner_mask(&slots.mask_pad),
        };
        attention(qkv, Kind::Tiled(slots, *rules))
    }

    fn full_attention(qkv: Qkv<Self>, masking: &Masking<Self>) -> AttentionOutput<Self> {
        let masking = Masking {
            causal: masking.causal,
            exclude_self: masking.exclude_self,
            dropout: masking.dropout,
            mask_pad: inner_mask(&masking.mask_pad),
        };
        attention(qkv, Kind::Full(masking))
    }

    fn hash(
        vectors: Tensor<Self, 4>,
        rotations: Tensor<Self, 4>,
        factors: &[usize],
    ) -> Tensor<Self, 4, Int> {
        Tensor::from_inner(B::hash(vectors.inner(), rotations.inner(), factors))
    }

    fn token_vectors(weight: Tensor<Self, 2>, tokens: Tensor<Self, 2, Int>) -> Tensor<Self, 3> {
        token_vectors(weight, tokens)
    }

    fn token_loss(logits: Tensor<Self, 3>, targets: Tensor<Self, 2, Int>) -> TokenLoss<Self> {
        token_loss(logits, targets)
    }

    fn linear_layer(
        x: Tensor<Self, 3>,
        weight: Tensor<Self, 2>,
        bias: Option<Tensor<Self, 1>>,
    ) -> Tensor<Self, 3> {
        linear(x, weight, bias)
    }

    fn activation(x: Tensor<Self, 3>, function: Activation) -> Tensor<Self, 3> {
        activation(x, function)
    }

    fn biased_activation(
        x: Tensor<Self, 3>,
        bias: Tensor<Self, 1>,
        activation: Activation,
    ) -> Tensor<Self, 3> {
        biased_activation(x, bias, activation)
    }

    fn seed_backward<const D: usize>(
        value: Tensor<Self, D>,
        gradient: Tensor<Self, D>,
    ) -> Tensor<Self, 1> {
        seed(value, gradient)
    }

    fn layer_normalization(
        x: Tensor<Self, 3>,
        gamma: Tensor<Self, 1>,
        beta: Tensor<Self, 1>,
        epsilon: f64,
        dtype: DType,
    ) -> Tensor<Self, 3> {
        layer_norm(x, gamma, beta, epsilon, dtype)
    }

    fn rotate(heads: Tensor<Self, 4>, base: f64, rotation: Rotation) -> Tensor<Self, 4> {
        rotate(heads, base, rotation)
    }

    fn dropout_factors<const D: usize>(
        shape: [usize; D],
        rate: f64,
        key: Key,
        device: &Self::Device,
    ) -> Tensor<Self, D> {
        Tensor::from_inner(B::dropout_factors(shape, rate, key, device))
    }
}

fn of_inner<B: AutodiffBackend>(slots: Slots<B::InnerBackend>) -> Slots<B> {
    Slots {
        order: Tensor::from_inner(slots.order),
        slot_of: Tensor::from_inner(slots.slot_of),
        buckets: Tensor::from_inner(slots.buckets),
        mask_pad: slots.mask_pad.map(Tensor::from_inner),
    }
}

fn inner_mask<B: AutodiffBackend>(
    mask: &Option<Tensor<B, 2, Bool>>,
) -> Option<Tensor<B::InnerBackend, 2, Bool>> {
    mask.as_ref().map(|mask| mask.clone().inner())
}
