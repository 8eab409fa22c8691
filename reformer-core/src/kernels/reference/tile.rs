//! Attention of a block of queries to a block of keys, forward and backward.

use burn::tensor::backend::Backend;
use burn::tensor::{Bool, Tensor};

use super::{FORBIDDEN, SELF};
use crate::precision::widen;

/// Blocks of queries with the keys in their reach, all of the same size.
///
/// `n` is the number of blocks, `m` the queries in a block, `w` the keys in reach of a block. Masks
/// and counts may have size 1 in place of `batch_size`, `n_heads` or `n`.
///
/// `q`, `k` and `v` share one type, also for the products; softmax and sums are in `f32` at least.
pub(super) struct Tile<B: Backend> {
    /// `[batch_size, n_heads, n, m, d_head]`
    pub(super) q: Tensor<B, 5>,
    /// `[batch_size, n_heads, n, w, d_head]`
    pub(super) k: Tensor<B, 5>,
    /// `[batch_size, n_heads, n, w, d_v]`
    pub(super) v: Tensor<B, 5>,
    /// Masked keys: `[batch_size, n_heads, n, m, w]`.
    pub(super) forbidden: Option<Tensor<B, 5, Bool>>,
    /// True where the key is the query's own position: the same shape.
    pub(super) itself: Option<Tensor<B, 5, Bool>>,
    /// `log N_ij`: the same shape.
    pub(super) log_count: Option<Tensor<B, 5>>,
    /// Dropout factors of the weights: the same shape.
    pub(super) dropout: Option<Tensor<B, 5>>,
}

/// Gradients for the tensors of a [`Tile`].
pub(super) struct TileGradients<B: Backend> {
    pub(super) q: Tensor<B, 5>,
    pub(super) k: Tensor<B, 5>,
    pub(super) v: Tensor<B, 5>,
}

impl<B: Backend> Tile<B> {
    /// `q_i · k_j - log N_ij`, masked: `[batch_size, n_heads, n, m, w]`.
    fn logits(&self) -> Tensor<B, 5> {
        let mut logits = widen(self.q.clone().matmul(self.k.clone().swap_dims(3, 4)));
        let shape = logits.dims();
        if let Some(log_count) = &self.log_count {
            logits = logits - log_count.clone();
        }
        if let Some(forbidden) = &self.forbidden {
            logits = logits.mask_fill(forbidden.clone().expand(shape), FORBIDDEN);
        }
        if let Some(itself) = &self.itself {
            // After the other masks: a query without other visible keys, such as padding, sees itself.
            logits = logits.mask_fill(itself.clone().expand(shape), SELF);
        }
        logits
    }

    fn drop(&self, weights: Tensor<B, 5>) -> Tensor<B, 5> {
        match &self.dropout {
            Some(factors) => weights * factors.clone(),
            None => weights,
        }
    }

    /// Softmax over the keys of this tile only.
    ///
    /// # Shapes
    /// - output: `[batch_size, n_heads, n, m, d_v]`
    /// - log-sum-exp of the logits: `[batch_size, n_heads, n, m, 1]`
    pub(super) fn forward(&self) -> (Tensor<B, 5>, Tensor<B, 5>) {
        let logits = self.logits();
        let max = logits.clone().max_dim(4).detach();
        let weights = (logits - max.clone()).exp();
        let sum = weights.clone().sum_dim(4);
        let lse = max.clone() + sum.log();
        // Uses the rounded log-sum-exp, as backward has no other. The difference only matters for a
        // query that sees itself twice and no other key, which the peers' wrapped rounds allow.
        let weights = self.drop(weights).cast(self.v.dtype());
        let output = widen(weights.matmul(self.v.clone())) * (max - lse.clone()).exp();
        (output, lse)
    }

    /// Gradients, with weights normalised by `max + log_sum` over all tiles that contain the query.
    ///
    /// With `p` the weights before and `P` after dropout: `dv = Pᵀ do`, `ds = p (do · v - D)`,
    /// `dq = ds k`, `dk = dsᵀ q`, where `D = do · o`.
    ///
    /// # Shapes
    /// - grad: `[batch_size, n_heads, n, m, d_v]`
    /// - max, log_sum, delta (`D`): `[batch_size, n_heads, n, m, 1]`
    pub(super) fn backward(
        &self,
        grad: Tensor<B, 5>,
        max: Tensor<B, 5>,
        log_sum: Tensor<B, 5>,
        delta: Tensor<B, 5>,
    ) -> TileGradients<B> {
        let weights = ((self.logits() - max) - log_sum).exp();
        let dtype = self.v.dtype();
        let v = self
            .drop(weights.clone())
            .cast(dtype)
            .swap_dims(3, 4)
            .matmul(grad.clone());
        let grad_weights = widen(grad.matmul(self.v.clone().swap_dims(3, 4)));
        let grad_weights = self.drop(grad_weights);
        let mut grad_logits = weights * (grad_weights - delta);
        if let Some(itself) = &self.itself {
            // The logit of a query with itself is a constant and has no gradient.
            let shape = grad_logits.dims();
            grad_logits = grad_logits.mask_fill(itself.clone().expand(shape), 0.0);
        }
        let grad_logits = grad_logits.cast(dtype);
        TileGradients {
            q: widen(grad_logits.clone().matmul(self.k.clone())),
            k: widen(grad_logits.swap_dims(3, 4).matmul(self.q.clone())),
            v: widen(v),
        }
    }
}
