//! The operations of [`ReformerBackend`](super::ReformerBackend) as a table, for backends that implement many of
//! them in the same way.
//!
//! The trait itself and the functions behind it spell out their signatures: that is where they are
//! read and documented. So do the few operations whose bodies follow no pattern or that are generic
//! over a number of dimensions.

/// A method of the trait: its signature, with the given names of arguments, and the given body.
macro_rules! operation {
    (bucket_sort($buckets:ident, $n_buckets:ident, $layout:ident) $body:block) => {
        fn bucket_sort(
            $buckets: burn::tensor::Tensor<Self, 4, burn::tensor::Int>,
            $n_buckets: usize,
            $layout: $crate::kernels::SlotLayout,
        ) -> $crate::kernels::Slots<Self> $body
    };
    (sort_rounds($buckets:ident, $n_buckets:ident, $layout:ident, $local:ident) $body:block) => {
        fn sort_rounds(
            $buckets: burn::tensor::Tensor<Self, 4, burn::tensor::Int>,
            $n_buckets: usize,
            $layout: $crate::kernels::SlotLayout,
            $local: bool,
        ) -> $crate::kernels::Slots<Self> $body
    };
    (tiled_attention($qkv:ident, $slots:ident, $rules:ident) $body:block) => {
        fn tiled_attention(
            $qkv: $crate::kernels::Qkv<Self>,
            $slots: &$crate::kernels::Slots<Self>,
            $rules: &$crate::kernels::TiledAttention,
        ) -> $crate::kernels::AttentionOutput<Self> $body
    };
    (
        tiled_attention_backward(
            $qkv:ident, $slots:ident, $rules:ident, $output:ident, $grad:ident
        ) $body:block
    ) => {
        fn tiled_attention_backward(
            $qkv: $crate::kernels::Qkv<Self>,
            $slots: &$crate::kernels::Slots<Self>,
            $rules: &$crate::kernels::TiledAttention,
            $output: $crate::kernels::AttentionOutput<Self>,
            $grad: burn::tensor::Tensor<Self, 4>,
        ) -> $crate::kernels::AttentionGradients<Self> $body
    };
    (full_attention($qkv:ident, $masking:ident) $body:block) => {
        fn full_attention(
            $qkv: $crate::kernels::Qkv<Self>,
            $masking: &$crate::kernels::Masking<Self>,
        ) -> $crate::kernels::AttentionOutput<Self> $body
    };
    (
        full_attention_backward($qkv:ident, $masking:ident, $output:ident, $grad:ident) $body:block
    ) => {
        fn full_attention_backward(
            $qkv: $crate::kernels::Qkv<Self>,
            $masking: &$crate::kernels::Masking<Self>,
            $output: $crate::kernels::AttentionOutput<Self>,
            $grad: burn::tensor::Tensor<Self, 4>,
        ) -> $crate::kernels::AttentionGradients<Self> $body
    };
    (hash($vectors:ident, $rotations:ident, $factors:ident) $body:block) => {
        fn hash(
            $vectors: burn::tensor::Tensor<Self, 4>,
            $rotations: burn::tensor::Tensor<Self, 4>,
            $factors: &[usize],
        ) -> burn::tensor::Tensor<Self, 4, burn::tensor::Int> $body
    };
    (token_vectors($weight:ident, $tokens:ident) $body:block) => {
        fn token_vectors(
            $weight: burn::tensor::Tensor<Self, 2>,
            $tokens: burn::tensor::Tensor<Self, 2, burn::tensor::Int>,
        ) -> burn::tensor::Tensor<Self, 3> $body
    };
    (token_vectors_backward($weight:ident, $tokens:ident, $grad:ident) $body:block) => {
        fn token_vectors_backward(
            $weight: burn::tensor::Tensor<Self, 2>,
            $tokens: burn::tensor::Tensor<Self, 2, burn::tensor::Int>,
            $grad: burn::tensor::Tensor<Self, 3>,
        ) -> burn::tensor::Tensor<Self, 2> $body
    };
    (token_loss($logits:ident, $targets:ident) $body:block) => {
        fn token_loss(
            $logits: burn::tensor::Tensor<Self, 3>,
            $targets: burn::tensor::Tensor<Self, 2, burn::tensor::Int>,
        ) -> $crate::kernels::TokenLoss<Self> $body
    };
    (token_loss_backward($logits:ident, $targets:ident, $grad:ident) $body:block) => {
        fn token_loss_backward(
            $logits: burn::tensor::Tensor<Self, 3>,
            $targets: burn::tensor::Tensor<Self, 2, burn::tensor::Int>,
            $grad: burn::tensor::Tensor<Self, 1>,
        ) -> burn::tensor::Tensor<Self, 3> $body
    };
    (weight_beside($weight:ident, $dtype:ident) $body:block) => {
        fn weight_beside(
            $weight: burn::tensor::Tensor<Self, 2>,
            $dtype: burn::tensor::DType,
        ) -> burn::tensor::Tensor<Self, 2> $body
    };
    (linear_layer($x:ident, $weight:ident, $bias:ident) $body:block) => {
        fn linear_layer(
            $x: burn::tensor::Tensor<Self, 3>,
            $weight: burn::tensor::Tensor<Self, 2>,
            $bias: Option<burn::tensor::Tensor<Self, 1>>,
        ) -> burn::tensor::Tensor<Self, 3> $body
    };
    (
        linear_layer_backward(
            $x:ident, $weight:ident, $grad:ident, $wanted:ident, $dtype:ident
        ) $body:block
    ) => {
        fn linear_layer_backward(
            $x: burn::tensor::Tensor<Self, 3>,
            $weight: burn::tensor::Tensor<Self, 2>,
            $grad: burn::tensor::Tensor<Self, 3>,
            $wanted: $crate::kernels::LinearParents,
            $dtype: burn::tensor::DType,
        ) -> $crate::kernels::LinearGradients<Self> $body
    };
    (activation($x:ident, $activation:ident) $body:block) => {
        fn activation(
            $x: burn::tensor::Tensor<Self, 3>,
            $activation: $crate::kernels::Activation,
        ) -> burn::tensor::Tensor<Self, 3> $body
    };
    (activation_backward($x:ident, $activation:ident, $grad:ident) $body:block) => {
        fn activation_backward(
            $x: burn::tensor::Tensor<Self, 3>,
            $activation: $crate::kernels::Activation,
            $grad: burn::tensor::Tensor<Self, 3>,
        ) -> burn::tensor::Tensor<Self, 3> $body
    };
    (biased_activation($x:ident, $bias:ident, $activation:ident) $body:block) => {
        fn biased_activation(
            $x: burn::tensor::Tensor<Self, 3>,
            $bias: burn::tensor::Tensor<Self, 1>,
            $activation: $crate::kernels::Activation,
        ) -> burn::tensor::Tensor<Self, 3> $body
    };
    (
        biased_activation_backward($x:ident, $bias:ident, $activation:ident, $grad:ident)
        $body:block
    ) => {
        fn biased_activation_backward(
            $x: burn::tensor::Tensor<Self, 3>,
            $bias: burn::tensor::Tensor<Self, 1>,
            $activation: $crate::kernels::Activation,
            $grad: burn::tensor::Tensor<Self, 3>,
        ) -> (burn::tensor::Tensor<Self, 3>, burn::tensor::Tensor<Self, 1>) $body
    };
    (residual($x:ident, $parts:ident, $direction:ident) $body:block) => {
        fn residual(
            $x: burn::tensor::Tensor<Self, 3>,
            $parts: Vec<burn::tensor::Tensor<Self, 3>>,
            $direction: $crate::kernels::Residual,
        ) -> burn::tensor::Tensor<Self, 3> $body
    };
    (residual_at($x:ident, $start:ident, $part:ident, $direction:ident) $body:block) => {
        fn residual_at(
            $x: burn::tensor::Tensor<Self, 3>,
            $start: usize,
            $part: burn::tensor::Tensor<Self, 3>,
            $direction: $crate::kernels::Residual,
        ) -> burn::tensor::Tensor<Self, 3> $body
    };
    (
        layer_normalization($x:ident, $gamma:ident, $beta:ident, $epsilon:ident, $dtype:ident)
        $body:block
    ) => {
        fn layer_normalization(
            $x: burn::tensor::Tensor<Self, 3>,
            $gamma: burn::tensor::Tensor<Self, 1>,
            $beta: burn::tensor::Tensor<Self, 1>,
            $epsilon: f64,
            $dtype: burn::tensor::DType,
        ) -> burn::tensor::Tensor<Self, 3> $body
    };
    (
        layer_normalization_backward($x:ident, $gamma:ident, $epsilon:ident, $grad:ident)
        $body:block
    ) => {
        fn layer_normalization_backward(
            $x: burn::tensor::Tensor<Self, 3>,
            $gamma: burn::tensor::Tensor<Self, 1>,
            $epsilon: f64,
            $grad: burn::tensor::Tensor<Self, 3>,
        ) -> $crate::kernels::LayerNormGradients<Self> $body
    };
    (rotate($heads:ident, $base:ident, $rotation:ident) $body:block) => {
        fn rotate(
            $heads: burn::tensor::Tensor<Self, 4>,
            $base: f64,
            $rotation: $crate::kernels::Rotation,
        ) -> burn::tensor::Tensor<Self, 4> $body
    };
    (rotate_at($heads:ident, $positions:ident, $base:ident) $body:block) => {
        fn rotate_at(
            $heads: burn::tensor::Tensor<Self, 4>,
            $positions: &[usize],
            $base: f64,
        ) -> burn::tensor::Tensor<Self, 4> $body
    };
    (key_rows($qkv:ident) $body:block) => {
        fn key_rows($qkv: &$crate::kernels::Qkv<Self>) -> burn::tensor::Tensor<Self, 4> $body
    };
    (write_rows($cache:ident, $rows:ident, $values:ident) $body:block) => {
        fn write_rows(
            $cache: burn::tensor::Tensor<Self, 4>,
            $rows: &[usize],
            $values: burn::tensor::Tensor<Self, 4>,
        ) -> burn::tensor::Tensor<Self, 4> $body
    };
    (decode_attention($q:ident, $kv:ident, $seen:ident, $exclude_self:ident) $body:block) => {
        fn decode_attention(
            $q: burn::tensor::Tensor<Self, 4>,
            $kv: [burn::tensor::Tensor<Self, 4>; 2],
            $seen: &[$crate::kernels::VisibleKeys],
            $exclude_self: bool,
        ) -> burn::tensor::Tensor<Self, 4> $body
    };
}

/// Methods of the trait, each of an expression.
macro_rules! operations {
    ($($name:ident($($argument:ident),*) => $body:expr;)*) => {
        $($crate::kernels::operations::operation!($name($($argument),*) { $body });)*
    };
}

/// Methods of the trait, each by the kernel of this name in `$kernels` if it serves these tensors,
/// and otherwise by the reference.
#[cfg(any(feature = "flex", feature = "ndarray", feature = "cube"))]
macro_rules! kernels_or_reference {
    ($kernels:ident: $($name:ident($($argument:ident),*) if $serves:expr;)*) => {
        $($crate::kernels::operations::operation!($name($($argument),*) {
            if $serves {
                $crate::kernels::operations::kernel!($kernels, $name($($argument),*))
            } else {
                $crate::kernels::reference::$name($($argument),*)
            }
        });)*
    };
}

/// Calls a kernel. What all kernels of an operation have in common is here: shapes are checked
/// before, and wrapped rounds are rounded after. The reference does so itself.
#[cfg(any(feature = "flex", feature = "ndarray", feature = "cube"))]
macro_rules! kernel {
    ($kernels:ident, tiled_attention($qkv:ident, $slots:ident, $rules:ident)) => {{
        $slots.check(&$qkv, $rules);
        let output = $kernels::tiled_attention($qkv, $slots, $rules);
        if $rules.rounds_like_the_peers($slots.n_rounds()) {
            output.rounded_like_the_peers()
        } else {
            output
        }
    }};
    (
        $kernels:ident,
        tiled_attention_backward($qkv:ident, $slots:ident, $rules:ident, $($of_output:ident),*)
    ) => {{
        $slots.check(&$qkv, $rules);
        $kernels::tiled_attention_backward($qkv, $slots, $rules, $($of_output),*)
    }};
    ($kernels:ident, full_attention($qkv:ident, $masking:ident)) => {{
        $masking.check(&$qkv);
        $kernels::full_attention($qkv, $masking)
    }};
    (
        $kernels:ident,
        full_attention_backward($qkv:ident, $masking:ident, $($of_output:ident),*)
    ) => {{
        $masking.check(&$qkv);
        $kernels::full_attention_backward($qkv, $masking, $($of_output),*)
    }};
    ($kernels:ident, linear_layer($x:ident, $weight:ident, $bias:ident)) => {{
        let bias = $bias.as_ref().map(burn::tensor::Tensor::dims);
        $crate::kernels::layers::check_linear($x.dims(), $weight.dims(), bias);
        $kernels::linear_layer($x, $weight, $bias)
    }};
    (
        $kernels:ident,
        linear_layer_backward($x:ident, $weight:ident, $grad:ident, $($rest:ident),*)
    ) => {{
        $crate::kernels::layers::check_linear_backward($x.dims(), $weight.dims(), $grad.dims());
        $kernels::linear_layer_backward($x, $weight, $grad, $($rest),*)
    }};
    (
        $kernels:ident,
        layer_normalization($x:ident, $gamma:ident, $beta:ident, $($rest:ident),*)
    ) => {{
        $crate::kernels::layers::check_norm($x.dims(), &[$gamma.dims(), $beta.dims()]);
        $kernels::layer_normalization($x, $gamma, $beta, $($rest),*)
    }};
    (
        $kernels:ident,
        layer_normalization_backward($x:ident, $gamma:ident, $epsilon:ident, $grad:ident)
    ) => {{
        $crate::kernels::layers::check_norm($x.dims(), &[$gamma.dims()]);
        assert_eq!($x.dims(), $grad.dims(), "gradient of a norm of this shape");
        $kernels::layer_normalization_backward($x, $gamma, $epsilon, $grad)
    }};
    ($kernels:ident, $name:ident($($argument:ident),*)) => {
        $kernels::$name($($argument),*)
    };
}

#[cfg(any(feature = "flex", feature = "ndarray", feature = "cube"))]
pub(in crate::kernels) use {kernel, kernels_or_reference};
pub(in crate::kernels) use {operation, operations};
