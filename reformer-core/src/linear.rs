//! Linear layers.

use burn::nn::Linear;
use burn::tensor::Tensor;

use crate::kernels::ReformerBackend;

/// Applies Burn's linear layer with our kernel, whose results do not depend on autodiff or threads.
/// Weights are cast to the type of the input.
///
/// # Shapes
/// - x: `[batch_size, seq_length, d_input]`
/// - output: `[batch_size, seq_length, d_output]`
pub(crate) fn linear<B: ReformerBackend>(layer: &Linear<B>, x: Tensor<B, 3>) -> Tensor<B, 3> {
    let bias = layer.bias.as_ref().map(|bias| bias.val());
    B::linear_layer(x, layer.weight.val(), bias)
}
