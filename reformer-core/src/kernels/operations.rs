//! The operations of [`ReformerBackend`](super::ReformerBackend) as a table, for backends that
//! implement many of them in the same way.
//!
//! The trait itself and the functions behind it spell out their signatures: that is where they are
//! read and documented. So do the few operations whose bodies follow no pattern or that are generic
//! over a number of dimensions.

/// The names in these signatures, which a module that uses the macros imports.
#[allow(unused_imports)] // Which of them are used depends on the backends that are built in.
pub(in crate::kernels) mod names {
    pub(in crate::kernels) use burn::tensor::{DType, Int, Tensor};

    pub(in crate::kernels) use crate::kernels::{
        Activation, AttentionGradients, AttentionOutput, LayerNormGradients, LinearGradients,
        LinearParents, Masking, Qkv, Residual, Rotation, SlotLayout, Slots, TiledAttention,
        TokenLoss, VisibleKeys,
    };
}

/// Defines `operation!`, a method of the trait: its types are in the table, the names of its arguments
/// and its body are given. The first token stands for the `$` of the macro that is defined.
macro_rules! signatures {
    ($d:tt $($name:ident($($type:ty),*) -> $result:ty;)*) => {
        macro_rules! operation {
            $(($name $d names:tt $d body:block) => {
                $crate::kernels::operations::method!($name $d names ($($type),*) $result, $d body);
            };)*
        }
    };
}

macro_rules! method {
    ($name:ident ($($argument:ident),*) ($($type:ty),*) $result:ty, $body:block) => {
        fn $name($($argument: $type),*) -> $result $body
    };
}

signatures! { $
    bucket_sort(Tensor<Self, 4, Int>, usize, SlotLayout) -> Slots<Self>;
    sort_rounds(Tensor<Self, 4, Int>, usize, SlotLayout, bool) -> Slots<Self>;
    tiled_attention(Qkv<Self>, &Slots<Self>, &TiledAttention) -> AttentionOutput<Self>;
    tiled_attention_backward(
        Qkv<Self>, &Slots<Self>, &TiledAttention, AttentionOutput<Self>, Tensor<Self, 4>
    ) -> AttentionGradients<Self>;
    full_attention(Qkv<Self>, &Masking<Self>) -> AttentionOutput<Self>;
    full_attention_backward(
        Qkv<Self>, &Masking<Self>, AttentionOutput<Self>, Tensor<Self, 4>
    ) -> AttentionGradients<Self>;
    hash(Tensor<Self, 4>, Tensor<Self, 4>, &[usize]) -> Tensor<Self, 4, Int>;
    token_vectors(Tensor<Self, 2>, Tensor<Self, 2, Int>) -> Tensor<Self, 3>;
    token_vectors_backward(
        Tensor<Self, 2>, Tensor<Self, 2, Int>, Tensor<Self, 3>
    ) -> Tensor<Self, 2>;
    token_loss(Tensor<Self, 3>, Tensor<Self, 2, Int>) -> TokenLoss<Self>;
    token_loss_backward(
        Tensor<Self, 3>, Tensor<Self, 2, Int>, Tensor<Self, 1>
    ) -> Tensor<Self, 3>;
    weight_beside(Tensor<Self, 2>, DType) -> Tensor<Self, 2>;
    linear_layer(Tensor<Self, 3>, Tensor<Self, 2>, Option<Tensor<Self, 1>>) -> Tensor<Self, 3>;
    linear_layer_backward(
        Tensor<Self, 3>, Tensor<Self, 2>, Tensor<Self, 3>, LinearParents, DType
    ) -> LinearGradients<Self>;
    activation(Tensor<Self, 3>, Activation) -> Tensor<Self, 3>;
    activation_backward(Tensor<Self, 3>, Activation, Tensor<Self, 3>) -> Tensor<Self, 3>;
    biased_activation(Tensor<Self, 3>, Tensor<Self, 1>, Activation) -> Tensor<Self, 3>;
    biased_activation_backward(
        Tensor<Self, 3>, Tensor<Self, 1>, Activation, Tensor<Self, 3>
    ) -> (Tensor<Self, 3>, Tensor<Self, 1>);
    residual(Tensor<Self, 3>, Vec<Tensor<Self, 3>>, Residual) -> Tensor<Self, 3>;
    residual_at(Tensor<Self, 3>, usize, Tensor<Self, 3>, Residual) -> Tensor<Self, 3>;
    layer_normalization(
        Tensor<Self, 3>, Tensor<Self, 1>, Tensor<Self, 1>, f64, DType
    ) -> Tensor<Self, 3>;
    layer_normalization_backward(
        Tensor<Self, 3>, Tensor<Self, 1>, f64, Tensor<Self, 3>, Option<Tensor<Self, 3>>
    ) -> LayerNormGradients<Self>;
    rotate(Tensor<Self, 4>, f64, Rotation) -> Tensor<Self, 4>;
    rotate_at(Tensor<Self, 4>, &[usize], f64) -> Tensor<Self, 4>;
    key_rows(&Qkv<Self>) -> Tensor<Self, 4>;
    write_rows(Tensor<Self, 4>, &[usize], Tensor<Self, 4>) -> Tensor<Self, 4>;
    decode_attention(
        Tensor<Self, 4>, [Tensor<Self, 4>; 2], &[VisibleKeys], bool
    ) -> Tensor<Self, 4>;
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
/// before, and wrapped rounds are rounded after. The reference does so itself, except for norms.
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
        layer_normalization_backward(
            $x:ident, $gamma:ident, $epsilon:ident, $grad:ident, $sum:ident
        )
    ) => {{
        let sum = $sum.as_ref().map(burn::tensor::Tensor::dims);
        $crate::kernels::layers::check_norm_backward($x.dims(), $gamma.dims(), $grad.dims(), sum);
        $kernels::layer_normalization_backward($x, $gamma, $epsilon, $grad, $sum)
    }};
    ($kernels:ident, $name:ident($($argument:ident),*)) => {
        $kernels::$name($($argument),*)
    };
}

#[cfg(any(feature = "flex", feature = "ndarray", feature = "cube"))]
pub(in crate::kernels) use {kernel, kernels_or_reference};
pub(in crate::kernels) use {method, operation, operations};
