//! The backends that use these kernels.

use burn::tensor::{DType, Int, Tensor};

use crate::kernels::Activation;
use crate::kernels::{
    AttentionGradients, AttentionOutput, LayerNormGradients, LinearGradients, LinearParents,
    Masking, Qkv, ReformerBackend, Residual, Rotation, Slots, TiledAttention, TokenLoss,
    VisibleKeys, cpu, reference,
};

/// These kernels for `f32` and half precision, and the reference for other types.
macro_rules! cpu_backends {
    ($backend:ty $(, $parameters:tt)* $(; where $($bounds:tt)*)?) => {
        impl<$($parameters),*> ReformerBackend for $backend $(where $($bounds)*)? {
            fn among_threads<R: Send>(operations: impl FnOnce() -> R + Send) -> R {
                rayon::scope(|_| operations())
            }

            fn tiled_attention(
                qkv: Qkv<Self>,
                slots: &Slots<Self>,
                rules: &TiledAttention,
            ) -> AttentionOutput<Self> {
                if cpu::serves(&qkv.q) {
                    return cpu::tiled_attention(qkv, slots, rules);
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
                if cpu::serves(&qkv.q) {
                    return cpu::tiled_attention_backward(qkv, slots, rules, output, grad);
                }
                reference::tiled_attention_backward(qkv, slots, rules, output, grad)
            }

            fn full_attention(qkv: Qkv<Self>, masking: &Masking<Self>) -> AttentionOutput<Self> {
                if cpu::serves(&qkv.q) {
                    return cpu::full_attention(qkv, masking);
                }
                reference::full_attention(qkv, masking)
            }

            fn full_attention_backward(
                qkv: Qkv<Self>,
                masking: &Masking<Self>,
                output: AttentionOutput<Self>,
                grad: Tensor<Self, 4>,
            ) -> AttentionGradients<Self> {
                if cpu::serves(&qkv.q) {
                    return cpu::full_attention_backward(qkv, masking, output, grad);
                }
                reference::full_attention_backward(qkv, masking, output, grad)
            }

            fn hash(
                vectors: Tensor<Self, 4>,
                rotations: Tensor<Self, 4>,
                factors: &[usize],
            ) -> Tensor<Self, 4, Int> {
                if cpu::serves(&vectors) {
                    return cpu::hash(vectors, rotations, factors);
                }
                reference::hash(vectors.cast(rotations.dtype()), rotations, factors)
            }

            fn token_loss(
                logits: Tensor<Self, 3>,
                targets: Tensor<Self, 2, Int>,
            ) -> TokenLoss<Self> {
                if cpu::serves(&logits) {
                    return cpu::token_loss(logits, targets);
                }
                reference::token_loss(logits, targets)
            }

            fn token_loss_backward(
                logits: Tensor<Self, 3>,
                targets: Tensor<Self, 2, Int>,
                grad: Tensor<Self, 1>,
            ) -> Tensor<Self, 3> {
                if cpu::serves(&logits) {
                    return cpu::token_loss_backward(logits, targets, grad);
                }
                reference::token_loss_backward(logits, targets, grad)
            }

            fn residual(
                x: Tensor<Self, 3>,
                parts: Vec<Tensor<Self, 3>>,
                direction: Residual,
            ) -> Tensor<Self, 3> {
                if cpu::serves(&x) {
                    return cpu::residual(x, parts, direction);
                }
                reference::residual(x, parts, direction)
            }

            fn residual_at(
                x: Tensor<Self, 3>,
                start: usize,
                part: Tensor<Self, 3>,
                direction: Residual,
            ) -> Tensor<Self, 3> {
                if cpu::serves(&x) {
                    return cpu::residual_at(x, start, part, direction);
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
                if cpu::serves(&x) {
                    return cpu::layer_normalization(x, gamma, beta, epsilon, dtype);
                }
                reference::layer_norm(x, gamma, beta, epsilon, dtype)
            }

            fn linear_layer(
                x: Tensor<Self, 3>,
                weight: Tensor<Self, 2>,
                bias: Option<Tensor<Self, 1>>,
            ) -> Tensor<Self, 3> {
                if cpu::serves(&x) {
                    return cpu::linear(x, weight, bias);
                }
                reference::linear(x, weight, bias)
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

            fn weight_beside(weight: Tensor<Self, 2>, dtype: DType) -> Tensor<Self, 2> {
                match cpu::serves(&weight) {
                    true => weight,
                    false => weight.cast(dtype),
                }
            }

            fn linear_layer_backward_as(
                x: Tensor<Self, 3>,
                weight: Tensor<Self, 2>,
                grad: Tensor<Self, 3>,
                wanted: LinearParents,
                dtype: DType,
            ) -> LinearGradients<Self> {
                let gradients = match cpu::serves(&grad) {
                    true => cpu::linear_backward(x, weight, grad, wanted),
                    false => reference::linear_backward(x, weight, grad, wanted),
                };
                gradients.with_parameters_in(dtype)
            }

            fn activation(x: Tensor<Self, 3>, activation: Activation) -> Tensor<Self, 3> {
                if cpu::serves(&x) {
                    return cpu::activation(x, activation);
                }
                reference::activation(x, activation)
            }

            fn activation_backward(
                x: Tensor<Self, 3>,
                activation: Activation,
                grad: Tensor<Self, 3>,
            ) -> Tensor<Self, 3> {
                if cpu::serves(&x) {
                    return cpu::activation_backward(x, activation, grad);
                }
                reference::activation_backward(x, activation, grad)
            }

            fn rotate_at(
                heads: Tensor<Self, 4>,
                positions: &[usize],
                base: f64,
            ) -> Tensor<Self, 4> {
                if cpu::serves(&heads) {
                    return cpu::rotate_at(heads, positions, base);
                }
                reference::rotate_at(heads, positions, base)
            }

            fn key_rows(qkv: &Qkv<Self>) -> Tensor<Self, 4> {
                if cpu::serves(&qkv.q) {
                    return cpu::key_rows(qkv);
                }
                reference::key_rows(qkv)
            }

            fn write_rows(
                cache: Tensor<Self, 4>,
                rows: &[usize],
                values: Tensor<Self, 4>,
            ) -> Tensor<Self, 4> {
                if cpu::serves(&cache) {
                    return cpu::write_rows(cache, rows, values);
                }
                reference::write_rows(cache, rows, values)
            }

            fn decode_attention(
                q: Tensor<Self, 4>,
                [k, v]: [Tensor<Self, 4>; 2],
                seen: &[VisibleKeys],
                exclude_self: bool,
            ) -> Tensor<Self, 4> {
                if cpu::lends(&q) {
                    return cpu::decode_attention(q, [k, v], seen, exclude_self);
                }
                reference::decode_attention(q, [k, v], seen, exclude_self)
            }

            fn layer_normalization_backward(
                x: Tensor<Self, 3>,
                gamma: Tensor<Self, 1>,
                epsilon: f64,
                grad: Tensor<Self, 3>,
            ) -> LayerNormGradients<Self> {
                if cpu::serves(&x) {
                    return cpu::layer_normalization_backward(x, gamma, epsilon, grad);
                }
                reference::layer_norm_backward(x, gamma, epsilon, grad)
            }

            fn rotate(heads: Tensor<Self, 4>, base: f64, rotation: Rotation) -> Tensor<Self, 4> {
                if cpu::serves(&heads) {
                    return cpu::rotate(heads, base, rotation);
                }
                reference::rotate(heads, base, rotation)
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
