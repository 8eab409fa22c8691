//! Token embeddings.

use burn::tensor::backend::Backend;
use burn::tensor::{Int, Tensor, TensorPrimitive};

/// See [`ReformerBackend::token_vectors_backward`](crate::kernels::ReformerBackend::token_vectors_backward).
pub fn token_vectors_backward<B: Backend>(
    weight: Tensor<B, 2>,
    tokens: Tensor<B, 2, Int>,
    grad: Tensor<B, 3>,
) -> Tensor<B, 2> {
    Tensor::from_primitive(TensorPrimitive::Float(B::embedding_backward(
        weight.into_primitive().tensor(),
        grad.into_primitive().tensor(),
        tokens.into_primitive(),
    )))
}
