//! The kernels as Burn tensor operations: the default for backends without fused kernels, and the
//! reference for those that have them.
//!
//! One tile is one softmax (`tile.rs`); tiled attention iterates over the rounds of a sorted
//! sequence (`tiled.rs`), full attention over slices of queries (`full.rs`). Forward keeps running
//! sums and backward recomputes each tile, so memory is that of one round (one slice), whatever
//! their number.

mod activation;
mod decode;
mod full;
mod hash;
mod keys;
mod layer_norm;
mod linear;
mod loss;
mod residual;
mod rotate;
mod sort;
mod tile;
mod tiled;
mod tokens;

pub use activation::{
    activation, activation_backward, biased_activation, biased_activation_backward,
};
pub use decode::{decode_attention, write_rows};
pub(super) use full::slice_length;
pub use full::{full_attention, full_attention_backward};
pub use hash::hash;
pub use keys::key_rows;
pub use layer_norm::{layer_normalization, layer_normalization_backward};
pub use linear::{linear_layer, linear_layer_backward};
pub use loss::{token_loss, token_loss_backward};
pub use residual::{residual, residual_at};
pub use rotate::{rotate, rotate_at};
pub use sort::{bucket_sort, with_local_round};
pub use tiled::{tiled_attention, tiled_attention_backward};
pub use tokens::token_vectors_backward;

use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};

use super::{AttentionOutput, Prepared};
use crate::random::{Dropout, Key};

/// Logit of a masked key. Its weight is exactly zero next to any other logit.
pub(super) const FORBIDDEN: f32 = -1e9;
/// Logit of a query with itself under a shared query and key (paper, equation 15): far below every
/// real logit and far above [`FORBIDDEN`], so it counts only if no other key is visible.
pub(super) const SELF: f32 = -1e5;

/// See [`ReformerBackend::dropout_factors`](super::ReformerBackend::dropout_factors).
pub fn dropout_factors<B: Backend, const D: usize>(
    shape: [usize; D],
    rate: f64,
    key: Key,
    device: &B::Device,
) -> Tensor<B, D> {
    let mut factors = vec![0.0; shape.iter().product()];
    Dropout::new(key, rate).fill(0, &mut factors);
    Tensor::from_data(TensorData::new(factors, shape), device)
}

/// Running softmax over several parts of a row.
///
/// Holds the largest log-sum-exp so far, the sum of `exp(lse - max)`, and the outputs with the same
/// weights.
struct Accumulator<B: Backend> {
    max: Tensor<B, 4>,
    sum: Tensor<B, 4>,
    output: Tensor<B, 4>,
}

impl<B: Backend> Accumulator<B> {
    /// Adds the output of a part and the log-sum-exp of its logits.
    fn add(state: Option<Self>, output: Tensor<B, 4>, lse: Tensor<B, 4>) -> Self {
        let Some(Self {
            max: old_max,
            sum,
            output: old_output,
        }) = state
        else {
            return Self {
                sum: lse.ones_like(),
                max: lse,
                output,
            };
        };
        // The maximum only keeps `exp` in range; the result does not depend on it.
        let max = old_max.clone().max_pair(lse.clone()).detach();
        let old = (old_max - max.clone()).exp();
        let new = (lse - max.clone()).exp();
        Self {
            sum: sum * old.clone() + new.clone(),
            output: old_output * old + output * new,
            max,
        }
    }

    fn finish(self) -> AttentionOutput<B> {
        AttentionOutput {
            output: self.output / self.sum.clone(),
            max: self.max,
            log_sum: self.sum.log(),
            prepared: Prepared::default(),
        }
    }
}
