//! The backends that use these kernels.

use crate::kernels::operations::names::*;
use crate::kernels::operations::{kernels_or_reference, operations};
use crate::kernels::{ReformerBackend, cpu};

/// These kernels for `f32` and half precision, and the reference for other types.
macro_rules! cpu_backends {
    ($backend:ty $(, $parameters:tt)* $(; where $($bounds:tt)*)?) => {
        impl<$($parameters),*> ReformerBackend for $backend $(where $($bounds)*)? {
            fn among_threads<R: Send>(operations: impl FnOnce() -> R + Send) -> R {
                rayon::scope(|_| operations())
            }

            kernels_or_reference! { cpu:
                tiled_attention(qkv, slots, rules) if cpu::serves(&qkv.q);
                tiled_attention_backward(qkv, slots, rules, output, grad) if cpu::serves(&qkv.q);
                full_attention(qkv, masking) if cpu::serves(&qkv.q);
                full_attention_backward(qkv, masking, output, grad) if cpu::serves(&qkv.q);
                hash(vectors, rotations, factors) if cpu::serves(&vectors);
                token_loss(logits, targets) if cpu::serves(&logits);
                token_loss_backward(logits, targets, grad) if cpu::serves(&logits);
                linear_layer(x, weight, bias) if cpu::serves(&x);
                linear_layer_backward(x, weight, grad, wanted, dtype) if cpu::serves(&grad);
                activation(x, activation) if cpu::serves(&x);
                activation_backward(x, activation, grad) if cpu::serves(&x);
                residual(x, parts, direction) if cpu::serves(&x);
                residual_at(x, start, part, direction) if cpu::serves(&x);
                layer_normalization(x, gamma, beta, epsilon, dtype) if cpu::serves(&x);
                layer_normalization_backward(x, gamma, epsilon, grad, sum) if cpu::serves(&x);
                rotate(heads, base, rotation) if cpu::serves(&heads);
                rotate_at(heads, positions, base) if cpu::serves(&heads);
                key_rows(qkv) if cpu::serves(&qkv.q);
                write_rows(cache, rows, values) if cpu::serves(&cache);
                decode_attention(q, kv, visible, exclude_self) if cpu::lends(&q);
            }

            operations! {
                weight_beside(weight, dtype) => match cpu::serves(&weight) {
                    true => weight,
                    false => weight.cast(dtype),
                };
            }
        }
    };
}

#[cfg(feature = "flex")]
cpu_backends!(burn_flex::Flex);

#[cfg(feature = "ndarray")]
cpu_backends!(
    burn_ndarray::NdArray<E, I>, E, I;
    where
        E: burn_ndarray::FloatNdArrayElement,
        I: burn_ndarray::IntNdArrayElement,
        burn_ndarray::NdArrayTensor: From<burn_ndarray::SharedArray<E>>,
        burn_ndarray::NdArrayTensor: From<burn_ndarray::SharedArray<I>>,
);
