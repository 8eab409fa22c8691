//! The trait of a backend: its operations, with the reference as default bodies.

use burn::tensor::backend::Backend;
use burn::tensor::{DType, Element, Int, Tensor};

use super::{
    Activation, AttentionGradients, AttentionOutput, DeviceAddress, LayerNormGradients,
    LinearGradients, LinearParents, Masking, Qkv, Residual, Rotation, SlotLayout, Slots,
    TiledAttention, TokenLoss, VisibleKeys, reference,
};
use crate::random::Key;

/// A value from which a backward pass begins, and its gradient.
pub type Seed<B, const D: usize> = (Tensor<B, D>, Tensor<B, D>);

/// A backend on which a Reformer runs: Burn's operations and the fused ones below.
///
/// Shapes use `n_rounds` for hash rounds and `d_head` for the size of a head. `key` of a dropout
/// is a counter-based [`Key`]: backward draws the same mask again instead of storing it.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a backend on which a Reformer runs",
    note = "implemented by `Flex`, `NdArray`, `Cuda`, `Wgpu`, `LibTorch` (feature `tch`) and `Autodiff` of them; each needs the feature of its name",
    note = "use the types re-exported by `reformer_core` (Burn 0.21): those of another release are different types"
)]
pub trait ReformerBackend: Backend {
    /// Whether adding a bias in [`biased_activation`](Self::biased_activation) is cheaper than in
    /// [`linear_layer`](Self::linear_layer).
    const BIAS_WITH_ACTIVATION: bool = false;

    /// Number of positions in a chunk, where `n` are configured and each takes `bytes`: more on a
    /// device that has the memory and would otherwise spend its time on kernel launches. Only the
    /// order of sums may depend on it.
    fn at_once(n: usize, _bytes: usize, _device: &Self::Device) -> usize {
        n
    }

    /// Bytes reserved on a device, with those kept for later tensors. `None` for host memory.
    fn reserved_bytes(_device: &Self::Device) -> Option<u64> {
        None
    }

    /// Runs a series of short operations where the kernels' threads are: otherwise each of them would
    /// hand its work over to those and sleep, which takes longer than the work of a single token.
    fn among_threads<R: Send>(operations: impl FnOnce() -> R + Send) -> R {
        operations()
    }

    /// Sorts positions by (bucket, position) in each round and assigns them to slots. Stable,
    /// linear in the length, and without composite keys that could overflow.
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

    /// [`bucket_sort`](Self::bucket_sort) of all attention rounds: the hash rounds and, if there is
    /// a `local` one, before them a round in which all positions share the first bucket. The last
    /// bucket is for padding, also in the local round. Buckets may be integers of any type; those
    /// of the slots have the backend's default type.
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

    /// Attention inside tiles of a sorted sequence: LSH attention, and local attention in natural
    /// order. See [`TiledAttention`] for the rules.
    ///
    /// # Shapes
    /// - output: `[batch_size, n_heads, seq_length, d_v]`
    ///
    /// # Panics
    /// If shapes do not match.
    fn tiled_attention(
        qkv: Qkv<Self>,
        slots: &Slots<Self>,
        rules: &TiledAttention,
    ) -> AttentionOutput<Self> {
        reference::tiled_attention(qkv, slots, rules)
    }

    /// Gradients of [`tiled_attention`](Self::tiled_attention) for the gradient `grad` of its
    /// output, from nothing but the inputs and the output.
    fn tiled_attention_backward(
        qkv: Qkv<Self>,
        slots: &Slots<Self>,
        rules: &TiledAttention,
        output: AttentionOutput<Self>,
        grad: Tensor<Self, 4>,
    ) -> AttentionGradients<Self> {
        reference::tiled_attention_backward(qkv, slots, rules, output, grad)
    }

    /// Exact attention over all positions, one slice of queries after another: memory is linear in
    /// the length (the paper's memory-efficient baseline). Keys and values may belong to another
    /// sequence of another length, unless causality or `exclude_self` is set.
    ///
    /// # Shapes
    /// - output: `[batch_size, n_heads, seq_length, d_v]`
    ///
    /// # Panics
    /// If shapes do not match.
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

    /// Buckets of vectors, for each round: the index of the largest of `[xR; -xR]`, the first one
    /// of equals. Several factors are combined like digits, lowest first. Vectors are hashed in the
    /// type of the rotations and may have another type. Not differentiable.
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

    /// Token embeddings: rows of a table.
    ///
    /// # Shapes
    /// - weight: `[n_tokens, d]`, tokens: `[batch_size, seq_length]`
    /// - output: `[batch_size, seq_length, d]`
    fn token_vectors(weight: Tensor<Self, 2>, tokens: Tensor<Self, 2, Int>) -> Tensor<Self, 3> {
        burn::tensor::module::embedding(weight, tokens)
    }

    /// Gradient of the table of [`token_vectors`](Self::token_vectors) for the gradient `grad` of
    /// its output. Rows of the same token are summed in a deterministic order.
    fn token_vectors_backward(
        weight: Tensor<Self, 2>,
        tokens: Tensor<Self, 2, Int>,
        grad: Tensor<Self, 3>,
    ) -> Tensor<Self, 2> {
        reference::token_vectors_backward(weight, tokens, grad)
    }

    /// Cross-entropy of tokens, summed over the targets that are not negative. Logits in half
    /// precision are cast to `f32`.
    ///
    /// # Shapes
    /// - logits: `[batch_size, seq_length, vocab_size]`, targets: `[batch_size, seq_length]`
    fn token_loss(logits: Tensor<Self, 3>, targets: Tensor<Self, 2, Int>) -> TokenLoss<Self> {
        reference::token_loss(logits, targets)
    }

    /// Gradient of the logits for the gradient `grad` of the [loss](Self::token_loss): `[1]`. In
    /// the type of the logits.
    fn token_loss_backward(
        logits: Tensor<Self, 3>,
        targets: Tensor<Self, 2, Int>,
        grad: Tensor<Self, 1>,
    ) -> Tensor<Self, 3> {
        reference::token_loss_backward(logits, targets, grad)
    }

    /// A linear layer on every position: `x weight + bias`, with parameters in the type of `x`.
    ///
    /// # Shapes
    /// - x: `[batch_size, seq_length, d_in]`, weight: `[d_in, d_out]`, bias: `[d_out]`
    /// - output: `[batch_size, seq_length, d_out]`
    ///
    /// # Panics
    /// If the shapes do not match.
    fn linear_layer(
        x: Tensor<Self, 3>,
        weight: Tensor<Self, 2>,
        bias: Option<Tensor<Self, 1>>,
    ) -> Tensor<Self, 3> {
        reference::linear_layer(x, weight, bias)
    }

    /// A weight as [`linear_layer`](Self::linear_layer) and its backward take it beside inputs of a type:
    /// cast once for both, or as it is where products convert it anyway.
    fn weight_beside(weight: Tensor<Self, 2>, dtype: DType) -> Tensor<Self, 2> {
        weight.cast(dtype)
    }

    /// The `wanted` gradients of [`linear_layer`](Self::linear_layer) for the gradient `grad` of
    /// its output. Those of weight and bias are in `dtype`: that of the parameters, where the layer
    /// computes in half precision.
    fn linear_layer_backward(
        x: Tensor<Self, 3>,
        weight: Tensor<Self, 2>,
        grad: Tensor<Self, 3>,
        wanted: LinearParents,
        dtype: DType,
    ) -> LinearGradients<Self> {
        reference::linear_layer_backward(x, weight, grad, wanted, dtype)
    }

    /// The activation function of a feed-forward layer, element by element.
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

    /// [`activation`](Self::activation) of `x + bias`, with a bias in `f32` for any type of `x`.
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

    /// Gradients of `x` and of the bias of [`biased_activation`](Self::biased_activation) for the
    /// gradient `grad` of its output.
    fn biased_activation_backward(
        x: Tensor<Self, 3>,
        bias: Tensor<Self, 1>,
        activation: Activation,
        grad: Tensor<Self, 3>,
    ) -> (Tensor<Self, 3>, Tensor<Self, 1>) {
        reference::biased_activation_backward(x, bias, activation, grad)
    }

    /// A scalar whose gradients with respect to some values are given, each beside its value: starts a
    /// backward pass that continues another one. The scalar itself has no meaning. A gradient may have
    /// a wider type than its value. One value may have been computed from another one: what comes
    /// through it is added to the gradient given for the other.
    ///
    /// # Shapes
    /// - output: `[1]`
    fn seed_backward<const D: usize, const N: usize>(seeds: [Seed<Self, D>; N]) -> Tensor<Self, 1> {
        let products = seeds.map(|(value, gradient)| {
            let dtype = value.dtype();
            (value * gradient.cast(dtype)).sum().cast(DType::F32)
        });
        let sum = products.into_iter().reduce(|sum, product| sum + product);
        sum.expect("a backward pass begins with a value")
    }

    /// Adds a residual to `x`, or subtracts it. The residual is given in chunks of the sequence,
    /// which may be in half precision even if `x` is not.
    ///
    /// # Shapes
    /// - x, output: `[batch_size, seq_length, d]`
    /// - parts: `[batch_size, length, d]` each; their lengths sum to `seq_length`
    fn residual(
        x: Tensor<Self, 3>,
        parts: Vec<Tensor<Self, 3>>,
        direction: Residual,
    ) -> Tensor<Self, 3> {
        reference::residual(x, parts, direction)
    }

    /// The same for a single chunk that begins at position `start`. In place if the backend
    /// supports it and `x` is not shared.
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

    /// Layer normalisation over the last dimension. A separate kernel because Burn's autodiff uses
    /// other operations than the inner backend: the last bits differ, so a recomputed block would
    /// not reproduce its first result. The output is cast to `dtype`.
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
        reference::layer_normalization(x, gamma, beta, epsilon, dtype)
    }

    /// Gradients of [`layer_normalization`](Self::layer_normalization) for the gradient `grad` of
    /// its output, which may be in half precision. They have the type of the input. That of the input
    /// is added to `sum`, if there is one, in place if that is not shared.
    ///
    /// # Shapes
    /// - x, grad, sum: `[batch_size, seq_length, d]`, gamma: `[d]`
    fn layer_normalization_backward(
        x: Tensor<Self, 3>,
        gamma: Tensor<Self, 1>,
        epsilon: f64,
        grad: Tensor<Self, 3>,
        sum: Option<Tensor<Self, 3>>,
    ) -> LayerNormGradients<Self> {
        reference::layer_normalization_backward(x, gamma, epsilon, grad, sum)
    }

    /// Rotary positions (Su et al., 2021): feature `i` of the first half of a head and its partner
    /// in the second half are rotated by an angle proportional to the position. Dot products then
    /// depend on relative positions, and lengths stay the same.
    ///
    /// # Shapes
    /// - heads, output: `[batch_size, n_heads, seq_length, d_head]`, `d_head` even
    fn rotate(heads: Tensor<Self, 4>, base: f64, rotation: Rotation) -> Tensor<Self, 4> {
        reference::rotate(heads, base, rotation)
    }

    /// [`rotate`](Self::rotate) for a single position of each sequence.
    ///
    /// # Shapes
    /// - heads, output: `[batch_size, n_heads, 1, d_head]`, `d_head` even
    /// - positions: `[batch_size]`
    fn rotate_at(heads: Tensor<Self, 4>, positions: &[usize], base: f64) -> Tensor<Self, 4> {
        reference::rotate_at(heads, positions, base)
    }

    /// Keys as used in the logits, for a cache.
    ///
    /// # Shapes
    /// - output: `[batch_size, n_heads, seq_length, d_head]`
    fn key_rows(qkv: &Qkv<Self>) -> Tensor<Self, 4> {
        reference::key_rows(qkv)
    }

    /// Writes one row of each sequence into a cache. In place if the backend supports it and the
    /// cache is not shared.
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
    /// With `exclude_self` a position sees itself only if it sees no other key.
    ///
    /// # Shapes
    /// - q: `[batch_size, n_heads, 1, d_head]`
    /// - kv: keys `[batch_size, n_heads, n_rows, d_head]`, values `[batch_size, n_heads, n_rows, d_v]`
    /// - visible: for each head of the batch, or for each sequence
    /// - output: `[batch_size, n_heads, 1, d_v]`
    fn decode_attention(
        q: Tensor<Self, 4>,
        kv: [Tensor<Self, 4>; 2],
        visible: &[VisibleKeys],
        exclude_self: bool,
    ) -> Tensor<Self, 4> {
        reference::decode_attention(q, kv, visible, exclude_self)
    }

    /// Dropout factors of a tensor: 0 with probability `rate`, otherwise `1 / (1 - rate)`. Element
    /// `i` in row-major order depends only on the key and on `i`.
    fn dropout_factors<const D: usize>(
        shape: [usize; D],
        rate: f64,
        key: Key,
        device: &Self::Device,
    ) -> Tensor<Self, D> {
        reference::dropout_factors(shape, rate, key, device)
    }

    /// Address of a tensor's data, for external libraries that work on GPU memory. `None` on all
    /// other backends and for tensors that are not contiguous.
    ///
    /// Before writing there, the caller must ensure that all work on the tensor has finished and
    /// that the tensor is not shared.
    fn device_address<const D: usize>(_tensor: &Tensor<Self, D>) -> Option<DeviceAddress> {
        None
    }
}
