//! The backends that use these kernels.

use burn_cubecl::{BoolElement, CubeBackend, CubeRuntime, FloatElement, IntElement};

use super::device::{self, serves, single};
use crate::kernels::operations::names::*;
use crate::kernels::operations::{kernels_or_reference, operations};
use crate::kernels::{ReformerBackend, cube};
use crate::random::Key;

/// These kernels for `f32` and half precision, and the reference for other types.
impl<R, F, I, BT> ReformerBackend for CubeBackend<R, F, I, BT>
where
    R: CubeRuntime,
    F: FloatElement,
    I: IntElement,
    BT: BoolElement,
{
    const BIAS_WITH_ACTIVATION: bool = true;

    fn at_once(n: usize, bytes: usize, device: &Self::Device) -> usize {
        device::at_once::<R>(n, bytes, device)
    }

    fn reserved_bytes(device: &Self::Device) -> Option<u64> {
        let usage = R::client(device).memory_usage().ok()?;
        Some(usage.bytes_reserved)
    }

    operations! {
        bucket_sort(buckets, n_buckets, layout) =>
            cube::sort_rounds(buckets, n_buckets, layout, false);
        sort_rounds(buckets, n_buckets, layout, local) =>
            cube::sort_rounds(buckets, n_buckets, layout, local);
    }

    kernels_or_reference! { cube:
        tiled_attention(qkv, slots, rules) if serves(&qkv.q);
        tiled_attention_backward(qkv, slots, rules, output, grad) if serves(&qkv.q);
        full_attention(qkv, masking) if serves(&qkv.q);
        full_attention_backward(qkv, masking, output, grad) if serves(&qkv.q);
        hash(vectors, rotations, factors) if serves(&rotations) && serves(&vectors);
        token_loss(logits, targets) if serves(&logits);
        token_loss_backward(logits, targets, grad) if serves(&logits);
        token_vectors_backward(weight, tokens, grad) if single(&grad);
        linear_layer(x, weight, bias) if serves(&x) && bias.as_ref().is_none_or(single);
        linear_layer_backward(x, weight, grad, wanted, dtype)
            if serves(&grad) && device::serves_type(dtype);
        activation(x, activation) if serves(&x);
        activation_backward(x, activation, grad) if serves(&x) && grad.dtype() == x.dtype();
        biased_activation(x, bias, activation) if serves(&x) && single(&bias);
        biased_activation_backward(x, bias, activation, grad)
            if serves(&x) && grad.dtype() == x.dtype() && single(&bias);
        residual(x, parts, direction) if single(&x) && parts.iter().all(serves);
        residual_at(x, start, part, direction) if single(&x) && serves(&part);
        layer_normalization(x, gamma, beta, epsilon, dtype)
            if single(&x) && single(&gamma) && single(&beta) && device::serves_type(dtype);
        layer_normalization_backward(x, gamma, epsilon, grad, sum)
            if single(&x) && single(&gamma) && serves(&grad) && sum.as_ref().is_none_or(single);
        rotate(heads, base, rotation) if serves(&heads);
        rotate_at(heads, positions, base) if serves(&heads);
    }

    fn dropout_factors<const D: usize>(
        shape: [usize; D],
        rate: f64,
        key: Key,
        device: &Self::Device,
    ) -> Tensor<Self, D> {
        cube::dropout_factors(shape, rate, key, device)
    }

    #[cfg(feature = "cuda")]
    fn device_address<const D: usize>(
        tensor: &Tensor<Self, D>,
    ) -> Option<crate::kernels::DeviceAddress> {
        super::cuda::device_address(tensor.clone().into_primitive().tensor())
    }
}
