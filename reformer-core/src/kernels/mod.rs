//! The operations that decide how fast and how large a Reformer is, each with a slow twin.
//!
//! Model code asks its backend for [`ReformerBackend`]. Every method has a default body made of
//! Burn's tensor operations (module [`reference`](mod@reference)), so a backend we have never heard of needs one
//! line:
//!
//! ```
//! # use burn::tensor::backend::Backend;
//! use reformer_core::kernels::ReformerBackend;
//! # fn uses<B: ReformerBackend>() {}
//! // impl ReformerBackend for MyBackend {}
//! uses::<burn_flex::Flex>();
//! ```
//!
//! [`Autodiff`](burn_autodiff::Autodiff) is not such a backend: its implementation (module
//! `autodiff`) calls the forward of the backend inside, keeps the output and its log-sum-exp, and
//! registers the explicit backward as one step. Nothing of the size of the attention matrix, of
//! the rounds or of the window outlives a call, on any backend.

mod autodiff;
#[cfg(any(feature = "flex", feature = "ndarray"))]
mod cpu;
#[cfg(feature = "cube")]
mod cube;
#[cfg(feature = "fusion")]
mod fusion;
mod layers;
mod newest;
mod problem;
pub mod reference;

use burn::tensor::backend::Backend;
use burn::tensor::{DType, Element, Int, Tensor};

pub use layers::{LinearGradients, LinearParents, Residual, TokenLoss};
pub(crate) use newest::KEYS_AT_ONCE;
pub use newest::Seen;
pub(crate) use problem::KEY_EPSILON;
pub use problem::{
    AttentionGradients, AttentionOutput, Duplicates, KeyRule, Keys, LayerNormGradients, Masking,
    Qkv, SlotLayout, Slots, TileShape, TiledAttention, Turn,
};

use crate::feed_forward::Activation;
use crate::random::Key;

/// A backend on which a Reformer runs: Burn's operations and the fused ones below.
///
/// Shapes use `n_rounds` for hash rounds and `d_head` for the size of a head. `key` of a dropout
/// is a counter-based [`Key`]: backward draws the same mask again instead of storing it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a backend on which a Reformer runs",
    note = "there are `Flex`, `NdArray`, `Cuda`, `Wgpu` and `Autodiff` of them, each behind a feature of its name",
    note = "they are those of Burn 0.21, `reformer_core::burn`: types of another release are others"
)]
pub trait ReformerBackend: Backend {
    /// Whether a bias costs less where it is added in [`biased_activation`](Self::biased_activation) than in
    /// [`linear_layer`](Self::linear_layer).
    const BIAS_WITH_ACTIVATION: bool = false;

    /// How many positions to work on at a time where `n` were asked for and each takes `bytes`: more on
    /// a device that has the memory for them and would spend its time on starting kernels otherwise.
    /// Nothing but the order of sums may depend on it.
    fn at_once(n: usize, _bytes: usize, _device: &Self::Device) -> usize {
        n
    }

    /// Sorts positions by (bucket, position), for each round by itself, and lays them out in
    /// slots. Stable, linear in the length, and free of composite keys that could overflow.
    ///
    /// # Shapes
    /// - buckets: `[batch_size, n_heads, n_rounds, seq_length]`, values in `0..n_buckets`
    fn bucket_sort(
        buckets: Tensor<Self, 4, Int>,
        n_buckets: usize,
        layout: SlotLayout,
    ) -> Slots<Self> {
        reference::bucket_sort(buckets, n_buckets, layout)
    }

    /// [`bucket_sort`](Self::bucket_sort) of all rounds that are attended to: those of hashing and, if there
    /// is a `local` one, before them a round in which all positions share the first bucket. The last
    /// bucket is that of padding, which stays there. Buckets may be integers of any type; those of the
    /// slots are of the backend's own.
    ///
    /// # Shapes
    /// - buckets: `[batch_size, n_heads, n_rounds, seq_length]`, values in `0..n_buckets`
    fn sort_rounds(
        buckets: Tensor<Self, 4, Int>,
        n_buckets: usize,
        layout: SlotLayout,
        local: bool,
    ) -> Slots<Self> {
        let buckets = buckets.cast(<Self::IntElem as Element>::dtype());
        let rounds = match local {
            true => reference::with_local_round(buckets, n_buckets),
            false => buckets,
        };
        Self::bucket_sort(rounds, n_buckets, layout)
    }

    /// Attention inside tiles of a (sorted) sequence: LSH attention, and local attention with the
    /// natural order. See [`TiledAttention`] for the rules.
    ///
    /// # Shapes
    /// - output: `[batch_size, n_heads, seq_length, d_v]`
    ///
    /// # Panics
    /// If shapes do not fit each other.
    fn tiled_attention(
        qkv: Qkv<Self>,
        slots: &Slots<Self>,
        rules: &TiledAttention,
    ) -> AttentionOutput<Self> {
        reference::tiled_attention(qkv, slots, rules)
    }

    /// Gradients of [`tiled_attention`](Self::tiled_attention) for the gradient `grad` of its
    /// output, from the inputs and the output alone.
    fn tiled_attention_backward(
        qkv: Qkv<Self>,
        slots: &Slots<Self>,
        rules: &TiledAttention,
        output: AttentionOutput<Self>,
        grad: Tensor<Self, 4>,
    ) -> AttentionGradients<Self> {
        reference::tiled_attention_backward(qkv, slots, rules, output, grad)
    }

    /// Exact attention over all positions, one slice of queries after another, so that memory
    /// stays linear in the length (the paper's memory-efficient baseline). Keys and values may be
    /// those of another sequence, of another length, if no rule asks how positions lie.
    ///
    /// # Shapes
    /// - output: `[batch_size, n_heads, seq_length, d_v]`
    ///
    /// # Panics
    /// If shapes do not fit each other.
    fn full_attention(qkv: Qkv<Self>, masking: &Masking<Self>) -> AttentionOutput<Self> {
        reference::full_attention(qkv, masking)
    }

    /// Gradients of [`full_attention`](Self::full_attention).
    fn full_attention_backward(
        qkv: Qkv<Self>,
        masking: &Masking<Self>,
        output: AttentionOutput<Self>,
        grad: Tensor<Self, 4>,
    ) -> AttentionGradients<Self> {
        reference::full_attention_backward(qkv, masking, output, grad)
    }

    /// Buckets of vectors, for each round: the index of the largest of `[xR; -xR]`, the first one of
    /// equals. Several factors count like digits, the first one lowest. Vectors may be of another type
    /// than rotations, in whose type they are hashed. Has no gradient.
    ///
    /// # Shapes
    /// - vectors: `[batch_size, n_heads, seq_length, d_head]`
    /// - rotations: `[n_heads, d_head, n_rounds, sum(factors) / 2]`
    /// - output: `[batch_size, n_heads, n_rounds, seq_length]`, values in `0..product(factors)`
    fn hash(
        vectors: Tensor<Self, 4>,
        rotations: Tensor<Self, 4>,
        factors: &[usize],
    ) -> Tensor<Self, 4, Int> {
        reference::hash(vectors, rotations, factors)
    }

    /// The vectors of tokens, rows of a table.
    ///
    /// # Shapes
    /// - weight: `[n_tokens, d]`, tokens: `[batch_size, seq_length]`
    /// - output: `[batch_size, seq_length, d]`
    fn token_vectors(weight: Tensor<Self, 2>, tokens: Tensor<Self, 2, Int>) -> Tensor<Self, 3> {
        burn::tensor::module::embedding(weight, tokens)
    }

    /// Gradient of the table of [`token_vectors`](Self::token_vectors) for the gradient `grad` of its
    /// output: rows of a token are added in an order that does not change from run to run.
    fn token_vectors_backward(
        weight: Tensor<Self, 2>,
        tokens: Tensor<Self, 2, Int>,
        grad: Tensor<Self, 3>,
    ) -> Tensor<Self, 2> {
        reference::token_vectors_backward(weight, tokens, grad)
    }

    /// Cross-entropy of tokens, summed over the targets that are not below zero. Logits in half precision
    /// are widened.
    ///
    /// # Shapes
    /// - logits: `[batch_size, seq_length, vocab_size]`, targets: `[batch_size, seq_length]`
    fn token_loss(logits: Tensor<Self, 3>, targets: Tensor<Self, 2, Int>) -> TokenLoss<Self> {
        reference::token_loss(logits, targets)
    }

    /// Gradient of the logits for the gradient `grad` of the [loss](Self::token_loss): `[1]`. In the type
    /// of the logits.
    fn token_loss_backward(
        logits: Tensor<Self, 3>,
        targets: Tensor<Self, 2, Int>,
        grad: Tensor<Self, 1>,
    ) -> Tensor<Self, 3> {
        reference::token_loss_backward(logits, targets, grad)
    }

    /// A linear layer on every position: `x weight + bias`. Weight and bias are cast to the type of the
    /// input.
    ///
    /// # Shapes
    /// - x: `[batch_size, seq_length, d_in]`, weight: `[d_in, d_out]`, bias: `[d_out]`
    /// - output: `[batch_size, seq_length, d_out]`
    ///
    /// # Panics
    /// If the shapes do not fit.
    fn linear_layer(
        x: Tensor<Self, 3>,
        weight: Tensor<Self, 2>,
        bias: Option<Tensor<Self, 1>>,
    ) -> Tensor<Self, 3> {
        reference::linear(x, weight, bias)
    }

    /// Gradients of [`linear_layer`](Self::linear_layer) for the gradient `grad` of its output: those that are
    /// `wanted`.
    fn linear_layer_backward(
        x: Tensor<Self, 3>,
        weight: Tensor<Self, 2>,
        grad: Tensor<Self, 3>,
        wanted: LinearParents,
    ) -> LinearGradients<Self> {
        reference::linear_backward(x, weight, grad, wanted)
    }

    /// The same with gradients of weight and bias in a type of their own: that of the parameters, where the
    /// layer computes in half precision.
    fn linear_layer_backward_as(
        x: Tensor<Self, 3>,
        weight: Tensor<Self, 2>,
        grad: Tensor<Self, 3>,
        wanted: LinearParents,
        dtype: DType,
    ) -> LinearGradients<Self> {
        Self::linear_layer_backward(x, weight, grad, wanted).with_parameters_in(dtype)
    }

    /// The function between the projections of a feed-forward layer, element by element.
    ///
    /// # Shapes
    /// - x, output: `[batch_size, seq_length, d]`
    fn activation(x: Tensor<Self, 3>, activation: Activation) -> Tensor<Self, 3> {
        reference::activation(x, activation)
    }

    /// Gradient of [`activation`](Self::activation) at `x` for the gradient `grad` of its output.
    fn activation_backward(
        x: Tensor<Self, 3>,
        activation: Activation,
        grad: Tensor<Self, 3>,
    ) -> Tensor<Self, 3> {
        reference::activation_backward(x, activation, grad)
    }

    /// [`activation`](Self::activation) of `x + bias`, for a bias in `f32` whatever the type of `x`.
    ///
    /// # Shapes
    /// - x, output: `[batch_size, seq_length, d]`, bias: `[d]`
    fn biased_activation(
        x: Tensor<Self, 3>,
        bias: Tensor<Self, 1>,
        activation: Activation,
    ) -> Tensor<Self, 3> {
        reference::biased_activation(x, bias, activation)
    }

    /// Gradients of [`biased_activation`](Self::biased_activation) for the gradient `grad` of its output: of
    /// `x`, and of the bias.
    fn biased_activation_backward(
        x: Tensor<Self, 3>,
        bias: Tensor<Self, 1>,
        activation: Activation,
        grad: Tensor<Self, 3>,
    ) -> (Tensor<Self, 3>, Tensor<Self, 1>) {
        reference::biased_activation_backward(x, bias, activation, grad)
    }

    /// A number whose gradient with regard to `value` is `gradient`: what a backward pass starts
    /// from that continues another one. The number itself means nothing. The gradient may be in a wider
    /// type than the value.
    ///
    /// # Shapes
    /// - output: `[1]`
    fn seed_backward<const D: usize>(
        value: Tensor<Self, D>,
        gradient: Tensor<Self, D>,
    ) -> Tensor<Self, 1> {
        (value.clone() * gradient.cast(value.dtype())).sum()
    }

    /// Adds to `x`, or takes from it, a residual that is given in parts of the sequence. Parts may be in
    /// half precision where `x` is not.
    ///
    /// # Shapes
    /// - x, output: `[batch_size, seq_length, d]`
    /// - parts: `[batch_size, length, d]` each; their lengths make `seq_length`
    fn residual(
        x: Tensor<Self, 3>,
        parts: Vec<Tensor<Self, 3>>,
        direction: Residual,
    ) -> Tensor<Self, 3> {
        reference::residual(x, parts, direction)
    }

    /// The same for a single part, which belongs to the positions from `start` on. In place where a backend can
    /// and nobody else has `x`.
    ///
    /// # Shapes
    /// - x, output: `[batch_size, seq_length, d]`
    /// - part: `[batch_size, length, d]`
    fn residual_at(
        x: Tensor<Self, 3>,
        start: usize,
        part: Tensor<Self, 3>,
        direction: Residual,
    ) -> Tensor<Self, 3> {
        reference::residual_at(x, start, part, direction)
    }

    /// Layer normalisation over the last dimension. On its own because Burn's autodiff takes other
    /// operations than the backend inside, whose last bits differ: a block that is computed again
    /// would not give what it gave the first time. The output is cast to `dtype`.
    ///
    /// # Shapes
    /// - x, output: `[batch_size, seq_length, d]`, gamma, beta: `[d]`
    fn layer_normalization(
        x: Tensor<Self, 3>,
        gamma: Tensor<Self, 1>,
        beta: Tensor<Self, 1>,
        epsilon: f64,
        dtype: DType,
    ) -> Tensor<Self, 3> {
        reference::layer_norm(x, gamma, beta, epsilon, dtype)
    }

    /// Gradients of [`layer_normalization`](Self::layer_normalization) for the gradient `grad` of its output,
    /// which may be in half precision; they are in the type of the input.
    fn layer_normalization_backward(
        x: Tensor<Self, 3>,
        gamma: Tensor<Self, 1>,
        epsilon: f64,
        grad: Tensor<Self, 3>,
    ) -> LayerNormGradients<Self> {
        reference::layer_norm_backward(x, gamma, epsilon, grad)
    }

    /// Rotary positions (Su et al., 2021): feature `i` of the first half of a head and its partner
    /// in the second half are turned by an angle that grows with the position. Dot products then
    /// depend on distances, and lengths stay the same.
    ///
    /// # Shapes
    /// - heads, output: `[batch_size, n_heads, seq_length, d_head]`, `d_head` even
    fn rotate(heads: Tensor<Self, 4>, base: f64, turn: Turn) -> Tensor<Self, 4> {
        reference::rotate(heads, base, turn)
    }

    /// [`rotate`](Self::rotate) for a single position of each sequence.
    ///
    /// # Shapes
    /// - heads, output: `[batch_size, n_heads, 1, d_head]`, `d_head` even
    /// - positions: `[batch_size]`
    fn rotate_at(heads: Tensor<Self, 4>, positions: &[usize], base: f64) -> Tensor<Self, 4> {
        reference::rotate_at(heads, positions, base)
    }

    /// Keys as logits take them, for a cache.
    ///
    /// # Shapes
    /// - output: `[batch_size, n_heads, seq_length, d_head]`
    fn key_rows(qkv: &Qkv<Self>) -> Tensor<Self, 4> {
        reference::key_rows(qkv)
    }

    /// Writes a row of each sequence into a cache. In place where a backend can and nobody else has
    /// the cache.
    ///
    /// # Shapes
    /// - cache, output: `[batch_size, n_heads, n_rows, d]`
    /// - rows: `[batch_size]`, each below `n_rows`
    /// - values: `[batch_size, n_heads, 1, d]`
    fn write_rows(
        cache: Tensor<Self, 4>,
        rows: &[usize],
        values: Tensor<Self, 4>,
    ) -> Tensor<Self, 4> {
        reference::write_rows(cache, rows, values)
    }

    /// Attention of the newest position of each sequence to rows of a cache, with logits `q . k`.
    /// With `exclude_self` a position sees itself only if it sees nothing else.
    ///
    /// # Shapes
    /// - q: `[batch_size, n_heads, 1, d_head]`
    /// - k: `[batch_size, n_heads, n_rows, d_head]`, v: `[batch_size, n_heads, n_rows, d_v]`
    /// - seen: for each head of the batch, or for each sequence
    /// - output: `[batch_size, n_heads, 1, d_v]`
    fn newest_attention(
        q: Tensor<Self, 4>,
        [k, v]: [Tensor<Self, 4>; 2],
        seen: &[Seen],
        exclude_self: bool,
    ) -> Tensor<Self, 4> {
        reference::newest_attention(q, [k, v], seen, exclude_self)
    }

    /// What dropout multiplies a tensor with: 0 at the given rate, otherwise `1 / (1 - rate)`;
    /// element `i` in row-major order depends on the key and on `i` alone.
    fn dropout_factors<const D: usize>(
        shape: [usize; D],
        rate: f64,
        key: Key,
        device: &Self::Device,
    ) -> Tensor<Self, D> {
        reference::dropout_factors(shape, rate, key, device)
    }

    /// Where the numbers of a tensor lie, for libraries that work on the memory of a GPU by themselves.
    /// None on every other backend, and of a tensor whose numbers do not lie one after the other.
    ///
    /// Whoever writes there makes sure that all work on the tensor is done and that nobody else holds
    /// it.
    fn device_address<const D: usize>(_tensor: &Tensor<Self, D>) -> Option<DeviceAddress> {
        None
    }
}

/// A place in the memory of a GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceAddress {
    /// The GPU, as its driver numbers it.
    pub device: usize,
    /// What its driver knows as a pointer (`CUdeviceptr`).
    pub address: u64,
}
