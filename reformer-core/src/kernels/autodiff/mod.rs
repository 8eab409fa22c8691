//! The kernels on [`Autodiff`]: forward of the backend inside, explicit backward as one step.

mod attention;
mod layer_norm;
mod rotate;

use burn::tensor::backend::AutodiffBackend;
use burn::tensor::{Bool, Int, Tensor};
use burn_autodiff::Autodiff;
use burn_autodiff::checkpoint::strategy::CheckpointStrategy;

use super::{
    AttentionOutput, Masking, Qkv, ReformerBackend, SlotLayout, Slots, TiledAttention, Turn,
};
use crate::random::Key;
use attention::{Kind, attention};
use layer_norm::layer_norm;
use rotate::rotate;

impl<B: ReformerBackend, C: CheckpointStrategy> ReformerBackend for Autodiff<B, C> {
    fn bucket_sort(
        buckets: Tensor<Self, 4, Int>,
        n_buckets: usize,
        layout: SlotLayout,
    ) -> Slots<Self> {
        let slots = B::bucket_sort(buckets.inner(), n_buckets, layout);
        Slots {
            order: Tensor::from_inner(slots.order),
            slot_of: Tensor::from_inner(slots.slot_of),
            buckets: Tensor::from_inner(slots.buckets),
            mask_pad: slots.mask_pad.map(Tensor::from_inner),
        }
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

    fn layer_normalization(
        x: Tensor<Self, 3>,
        gamma: Tensor<Self, 1>,
        beta: Tensor<Self, 1>,
        epsilon: f64,
    ) -> Tensor<Self, 3> {
        layer_norm(x, gamma, beta, epsilon)
    }

    fn rotate(heads: Tensor<Self, 4>, base: f64, turn: Turn) -> Tensor<Self, 4> {
        rotate(heads, base, turn)
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

fn inner_mask<B: AutodiffBackend>(
    mask: &Option<Tensor<B, 2, Bool>>,
) -> Option<Tensor<B::InnerBackend, 2, Bool>> {
    mask.as_ref().map(|mask| mask.clone().inner())
}
