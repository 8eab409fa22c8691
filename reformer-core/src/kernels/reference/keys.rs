//! Keys that are queries of unit length.

use burn::tensor::Tensor;
use burn::tensor::backend::Backend;

use crate::kernels::{AttentionGradients, KEY_EPSILON, Keys, Qkv};
use crate::precision::widen;

/// See [`ReformerBackend::key_rows`](crate::kernels::ReformerBackend::key_rows).
pub fn key_rows<B: Backend>(qkv: &Qkv<B>) -> Tensor<B, 4> {
    match &qkv.keys {
        Keys::Own(k) => k.clone(),
        Keys::UnitQueries(length) => {
            let q = widen(qkv.q.clone());
            let divisor = divisor(&q, *length);
            (q / divisor).cast(qkv.q.dtype())
        }
    }
}

/// Divisor that turns a query into a key of the given length; zero stays zero:
/// `[batch_size, n_heads, seq_length, 1]`.
fn divisor<B: Backend>(q: &Tensor<B, 4>, length: f64) -> Tensor<B, 4> {
    let d_head = q.dims()[3] as f64;
    let mean_square = q.clone().square().mean_dim(3);
    // Callers divide by this instead of multiplying by `recip`, which may be accurate to 14 bits only.
    (mean_square + KEY_EPSILON).sqrt() * (d_head.sqrt() / length)
}

/// Gradients of the attention inputs, in their type, from those of queries, keys and values.
/// If keys are queries, `k = q length / |q|` gives `dq += (dk - k (k . dk) / length^2) length / |q|`.
pub(super) fn through_keys<B: Backend>(
    qkv: Qkv<B>,
    [dq, dk, dv]: [Tensor<B, 4>; 3],
) -> AttentionGradients<B> {
    let dtype = qkv.q.dtype();
    match qkv.keys {
        Keys::Own(_) => AttentionGradients {
            q: dq.cast(dtype),
            k: Some(dk.cast(dtype)),
            v: dv.cast(dtype),
        },
        Keys::UnitQueries(length) => {
            let q = widen(qkv.q);
            let divisor = divisor(&q, length);
            let k = q / divisor.clone();
            let along = (k.clone() * dk.clone()).sum_dim(3) / (length * length);
            AttentionGradients {
                q: (dq + (dk - k * along) / divisor).cast(dtype),
                k: None,
                v: dv.cast(dtype),
            }
        }
    }
}
