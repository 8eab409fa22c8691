//! Burn's fusion on top of a backend with its own kernels.
//!
//! Fusion queues operations and fuses some of them. One of our kernels ends a queue: its inputs are
//! computed first, and its results are registered afterwards. This waits for the queue only, never
//! for the device.

use burn::tensor::{Bool, Shape, TensorPrimitive};
use burn_fusion::stream::OperationStreams;
use burn_fusion::{Fusion, FusionBackend, FusionHandle, FusionTensor, NoOp, get_client};
use burn_ir::{InitOperationIr, OperationIr};

use super::operations::names::*;
use super::operations::operations;
use super::{DeviceAddress, Keys, Prepared, ReformerBackend};
use crate::random::Key;

/// Every operation for which a fused backend has kernels. The others are tensor operations, which
/// fusion fuses.
impl<B: FusionBackend + ReformerBackend> ReformerBackend for Fusion<B> {
    const BIAS_WITH_ACTIVATION: bool = B::BIAS_WITH_ACTIVATION;

    fn at_once(n: usize, bytes: usize, device: &Self::Device) -> usize {
        B::at_once(n, bytes, device)
    }

    fn reserved_bytes(device: &Self::Device) -> Option<u64> {
        B::reserved_bytes(device)
    }

    operations! {
        bucket_sort(buckets, n_buckets, layout) =>
            B::bucket_sort(buckets.resolve(), n_buckets, layout).register();
        sort_rounds(buckets, n_buckets, layout, local) =>
            B::sort_rounds(buckets.resolve(), n_buckets, layout, local).register();
        tiled_attention(qkv, slots, rules) =>
            B::tiled_attention(qkv.resolve(), &slots.clone().resolve(), rules).register();
        tiled_attention_backward(qkv, slots, rules, output, grad) => {
            let (slots, output, grad) = (slots.clone().resolve(), output.resolve(), grad.resolve());
            B::tiled_attention_backward(qkv.resolve(), &slots, rules, output, grad).register()
        };
        full_attention(qkv, masking) =>
            B::full_attention(qkv.resolve(), &masking.clone().resolve()).register();
        full_attention_backward(qkv, masking, output, grad) => {
            let masking = masking.clone().resolve();
            let (output, grad) = (output.resolve(), grad.resolve());
            B::full_attention_backward(qkv.resolve(), &masking, output, grad).register()
        };
        hash(vectors, rotations, factors) =>
            B::hash(vectors.resolve(), rotations.resolve(), factors).register();
        token_vectors_backward(weight, tokens, grad) =>
            B::token_vectors_backward(weight.resolve(), tokens.resolve(), grad.resolve()).register();
        token_loss(logits, targets) => B::token_loss(logits.resolve(), targets.resolve()).register();
        token_loss_backward(logits, targets, grad) =>
            B::token_loss_backward(logits.resolve(), targets.resolve(), grad.resolve()).register();
        linear_layer(x, weight, bias) =>
            B::linear_layer(x.resolve(), weight.resolve(), bias.resolve()).register();
        linear_layer_backward(x, weight, grad, wanted, dtype) => {
            let (x, weight, grad) = (x.resolve(), weight.resolve(), grad.resolve());
            B::linear_layer_backward(x, weight, grad, wanted, dtype).register()
        };
        activation(x, activation) => B::activation(x.resolve(), activation).register();
        activation_backward(x, activation, grad) =>
            B::activation_backward(x.resolve(), activation, grad.resolve()).register();
        biased_activation(x, bias, activation) =>
            B::biased_activation(x.resolve(), bias.resolve(), activation).register();
        biased_activation_backward(x, bias, activation, grad) => {
            let (x, bias, grad) = (x.resolve(), bias.resolve(), grad.resolve());
            B::biased_activation_backward(x, bias, activation, grad).register()
        };
        residual(x, parts, direction) =>
            B::residual(x.resolve(), parts.resolve(), direction).register();
        residual_at(x, start, part, direction) =>
            B::residual_at(x.resolve(), start, part.resolve(), direction).register();
        layer_normalization(x, gamma, beta, epsilon, dtype) => {
            let (x, gamma, beta) = (x.resolve(), gamma.resolve(), beta.resolve());
            B::layer_normalization(x, gamma, beta, epsilon, dtype).register()
        };
        layer_normalization_backward(x, gamma, epsilon, grad, sum) => {
            let (x, gamma, grad) = (x.resolve(), gamma.resolve(), grad.resolve());
            B::layer_normalization_backward(x, gamma, epsilon, grad, sum.resolve()).register()
        };
        rotate(heads, base, rotation) => B::rotate(heads.resolve(), base, rotation).register();
        rotate_at(heads, positions, base) =>
            B::rotate_at(heads.resolve(), positions, base).register();
    }

    fn dropout_factors<const D: usize>(
        shape: [usize; D],
        rate: f64,
        key: Key,
        device: &Self::Device,
    ) -> Tensor<Self, D> {
        B::dropout_factors(shape, rate, key, device).register()
    }

    fn device_address<const D: usize>(tensor: &Tensor<Self, D>) -> Option<DeviceAddress> {
        B::device_address(&tensor.clone().resolve())
    }
}

/// What the operations queued so far compute, on the backend below.
trait Resolve {
    type Inner;

    fn resolve(self) -> Self::Inner;
}

/// Results of the backend below, registered with fusion.
trait Register {
    type Outer;

    fn register(self) -> Self::Outer;
}

impl<B: FusionBackend, const D: usize> Resolve for Tensor<Fusion<B>, D> {
    type Inner = Tensor<B, D>;

    fn resolve(self) -> Tensor<B, D> {
        let tensor = self.into_primitive().tensor();
        let client = tensor.client.clone();
        let tensor = client.resolve_tensor_float::<B>(tensor);
        Tensor::from_primitive(TensorPrimitive::Float(tensor))
    }
}

impl<B: FusionBackend, const D: usize> Resolve for Tensor<Fusion<B>, D, Int> {
    type Inner = Tensor<B, D, Int>;

    fn resolve(self) -> Tensor<B, D, Int> {
        let tensor = self.into_primitive();
        let client = tensor.client.clone();
        Tensor::from_primitive(client.resolve_tensor_int::<B>(tensor))
    }
}

impl<B: FusionBackend, const D: usize> Resolve for Tensor<Fusion<B>, D, Bool> {
    type Inner = Tensor<B, D, Bool>;

    fn resolve(self) -> Tensor<B, D, Bool> {
        let tensor = self.into_primitive();
        let client = tensor.client.clone();
        Tensor::from_primitive(client.resolve_tensor_bool::<B>(tensor))
    }
}

impl<T: Resolve> Resolve for Option<T> {
    type Inner = Option<T::Inner>;

    fn resolve(self) -> Self::Inner {
        self.map(T::resolve)
    }
}

impl<T: Resolve> Resolve for Vec<T> {
    type Inner = Vec<T::Inner>;

    fn resolve(self) -> Self::Inner {
        self.into_iter().map(T::resolve).collect()
    }
}

impl<B: FusionBackend> Resolve for Qkv<Fusion<B>> {
    type Inner = Qkv<B>;

    fn resolve(self) -> Qkv<B> {
        Qkv {
            q: self.q.resolve(),
            keys: match self.keys {
                Keys::Own(k) => Keys::Own(k.resolve()),
                Keys::UnitQueries(length) => Keys::UnitQueries(length),
            },
            v: self.v.resolve(),
        }
    }
}

impl<B: FusionBackend> Resolve for Masking<Fusion<B>> {
    type Inner = Masking<B>;

    fn resolve(self) -> Masking<B> {
        Masking {
            causal: self.causal,
            exclude_self: self.exclude_self,
            dropout: self.dropout,
            mask_pad: self.mask_pad.resolve(),
        }
    }
}

/// Resolves the tensors of a structure, field by field.
macro_rules! resolve_fields {
    ($($name:ident { $($field:ident),* })*) => {
        $(impl<B: FusionBackend> Resolve for $name<Fusion<B>> {
            type Inner = $name<B>;

            fn resolve(self) -> Self::Inner {
                $name { $($field: self.$field.resolve()),* }
            }
        })*
    };
}

resolve_fields! {
    Slots { order, slot_of, buckets, mask_pad }
    AttentionOutput { output, max, log_sum, prepared }
    Prepared { divisors, sort_keys }
}

/// Registers a computed tensor with fusion.
fn known<B: FusionBackend>(
    handle: FusionHandle<B::FusionRuntime>,
    shape: Shape,
    dtype: DType,
    device: &B::Device,
) -> FusionTensor<B::FusionRuntime> {
    let client = get_client::<B>(device);
    let made = InitOperationIr::create(shape, dtype, || client.register_tensor_handle(handle));
    let streams = OperationStreams::default();
    let made = client.register(streams, OperationIr::Init(made), NoOp::<B>::new());
    match <[_; 1]>::try_from(made) {
        Ok([tensor]) => tensor,
        Err(_) => unreachable!("an operation that makes one tensor"),
    }
}

impl<B: FusionBackend, const D: usize> Register for Tensor<B, D> {
    type Outer = Tensor<Fusion<B>, D>;

    fn register(self) -> Self::Outer {
        let (shape, dtype, device) = (self.shape(), self.dtype(), self.device());
        let handle = B::float_tensor_handle(self.into_primitive().tensor());
        let tensor = known::<B>(handle, shape, dtype, &device);
        Tensor::from_primitive(TensorPrimitive::Float(tensor))
    }
}

impl<B: FusionBackend, const D: usize> Register for Tensor<B, D, Int> {
    type Outer = Tensor<Fusion<B>, D, Int>;

    fn register(self) -> Self::Outer {
        let (shape, dtype, device) = (self.shape(), self.dtype(), self.device());
        let handle = B::int_tensor_handle(self.into_primitive());
        Tensor::from_primitive(known::<B>(handle, shape, dtype, &device))
    }
}

impl<B: FusionBackend, const D: usize> Register for Tensor<B, D, Bool> {
    type Outer = Tensor<Fusion<B>, D, Bool>;

    fn register(self) -> Self::Outer {
        let (shape, dtype, device) = (self.shape(), self.dtype(), self.device());
        let handle = B::bool_tensor_handle(self.into_primitive());
        Tensor::from_primitive(known::<B>(handle, shape, dtype, &device))
    }
}

impl<T: Register> Register for Option<T> {
    type Outer = Option<T::Outer>;

    fn register(self) -> Self::Outer {
        self.map(T::register)
    }
}

impl<S: Register, T: Register> Register for (S, T) {
    type Outer = (S::Outer, T::Outer);

    fn register(self) -> Self::Outer {
        (self.0.register(), self.1.register())
    }
}

/// Registers the tensors of a structure, field by field.
macro_rules! register_fields {
    ($($name:ident { $($field:ident),* })*) => {
        $(impl<B: FusionBackend> Register for $name<B> {
            type Outer = $name<Fusion<B>>;

            fn register(self) -> Self::Outer {
                $name { $($field: self.$field.register()),* }
            }
        })*
    };
}

register_fields! {
    Slots { order, slot_of, buckets, mask_pad }
    AttentionOutput { output, max, log_sum, prepared }
    Prepared { divisors, sort_keys }
    AttentionGradients { q, k, v }
    LinearGradients { x, weight, bias }
    LayerNormGradients { x, gamma, beta }
    TokenLoss { nll, n_correct }
}
