//! The kernels on [`Autodiff`]: forward of the inner backend, explicit backward as one step.

mod attention;
mod layers;
mod step;

use burn::tensor::Bool;
use burn::tensor::backend::AutodiffBackend;
use burn_autodiff::Autodiff;
use burn_autodiff::checkpoint::strategy::CheckpointStrategy;

use super::operations::names::*;
use super::operations::operations;
use super::{ReformerBackend, Seed};
use crate::random::Key;
use attention::{Kind, attention};

/// Backward operations are those of the inner backend: a step calls them.
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

    operations! {
        bucket_sort(buckets, n_buckets, layout) =>
            of_inner(B::bucket_sort(buckets.inner(), n_buckets, layout));
        sort_rounds(buckets, n_buckets, layout, local) =>
            of_inner(B::sort_rounds(buckets.inner(), n_buckets, layout, local));
        tiled_attention(qkv, slots, rules) =>
            attention(qkv, Kind::Tiled(inner_slots(slots), *rules));
        full_attention(qkv, masking) => attention(qkv, Kind::Full(inner_masking(masking)));
        hash(vectors, rotations, factors) =>
            Tensor::from_inner(B::hash(vectors.inner(), rotations.inner(), factors));
        token_vectors(weight, tokens) => layers::token_vectors(weight, tokens);
        token_loss(logits, targets) => layers::token_loss(logits, targets);
        linear_layer(x, weight, bias) => layers::linear_layer(x, weight, bias);
        activation(x, activation) => layers::activation(x, activation);
        biased_activation(x, bias, activation) => layers::biased_activation(x, bias, activation);
        layer_normalization(x, gamma, beta, epsilon, dtype) =>
            layers::layer_normalization(x, gamma, beta, epsilon, dtype);
        rotate(heads, base, rotation) => layers::rotate(heads, base, rotation);
    }

    fn seed_backward<const D: usize, const N: usize>(seeds: [Seed<Self, D>; N]) -> Tensor<Self, 1> {
        layers::seed_backward(seeds)
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

fn inner_slots<B: AutodiffBackend>(slots: &Slots<B>) -> Slots<B::InnerBackend> {
    Slots {
        order: slots.order.clone().inner(),
        slot_of: slots.slot_of.clone().inner(),
        buckets: slots.buckets.clone().inner(),
        mask_pad: inner_mask(&slots.mask_pad),
    }
}

fn inner_masking<B: AutodiffBackend>(masking: &Masking<B>) -> Masking<B::InnerBackend> {
    Masking {
        causal: masking.causal,
        exclude_self: masking.exclude_self,
        dropout: masking.dropout,
        mask_pad: inner_mask(&masking.mask_pad),
    }
}

fn inner_mask<B: AutodiffBackend>(
    mask: &Option<Tensor<B, 2, Bool>>,
) -> Option<Tensor<B::InnerBackend, 2, Bool>> {
    mask.as_ref().map(|mask| mask.clone().inner())
}
