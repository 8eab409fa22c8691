//! Burn's fusion on top of a backend with its own kernels.
//!
//! Fusion queues operations and fuses some of them. One of our kernels ends a queue: its inputs are
//! computed first, and its results are registered afterwards. This waits for the queue only, never
//! for the device.

use burn::tensor::{Bool, DType, Int, Shape, Tensor, TensorPrimitive};
use burn_fusion::stream::OperationStreams;
use burn_fusion::{Fusion, FusionBackend, FusionHandle, FusionTensor, NoOp, get_client};
use burn_ir::{InitOperationIr, OperationIr};

use super::{
    AttentionGradients, AttentionOutput, DeviceAddress, Keys, LayerNormGradients, Masking, Qkv,
    ReformerBackend, Rotation, SlotLayout, Slots, TiledAttention,
};
use crate::random::Key;

impl<B: FusionBackend + ReformerBackend> ReformerBackend for Fusion<B> {
    fn bucket_sort(
        buckets: Tensor<Self, 4, Int>,
        n_buckets: usize,
        layout: SlotLayout,
    ) -> Slots<Self> {
        let slots = B::bucket_sort(ints(buckets.clone()), n_buckets, layout);
        Slots {
            order: of_ints(slots.order),
            slot_of: of_ints(slots.slot_of),
            buckets,
            mask_pad: None,
        }
    }

    fn tiled_attention(
        qkv: Qkv<Self>,
        slots: &Slots<Self>,
        rules: &TiledAttention,
    ) -> AttentionOutput<Self> {
        of_output(B::tiled_attention(rows(qkv), &inner_slots(slots), rules))
    }

    fn tiled_attention_backward(
        qkv: Qkv<Self>,
        slots: &Slots<Self>,
        rules: &TiledAttention,
        output: AttentionOutput<Self>,
        grad: Tensor<Self, 4>,
    ) -> AttentionGradients<Self> {
        let slots = inner_slots(slots);
        let (output, grad) = (inner_output(output), floats(grad));
        let gradients = B::tiled_attention_backward(rows(qkv), &slots, rules, output, grad);
        of_gradients(gradients)
    }

    fn full_attention(qkv: Qkv<Self>, masking: &Masking<Self>) -> AttentionOutput<Self> {
        of_output(B::full_attention(rows(qkv), &inner_masking(masking)))
    }

    fn full_attention_backward(
        qkv: Qkv<Self>,
        masking: &Masking<Self>,
        output: AttentionOutput<Self>,
        grad: Tensor<Self, 4>,
    ) -> AttentionGradients<Self> {
        let masking = inner_masking(masking);
        let (output, grad) = (inner_output(output), floats(grad));
        of_gradients(B::full_attention_backward(
            rows(qkv),
            &masking,
            output,
            grad,
        ))
    }

    fn hash(
        vectors: Tensor<Self, 4>,
        rotations: Tensor<Self, 4>,
        factors: &[usize],
    ) -> Tensor<Self, 4, Int> {
        of_ints(B::hash(floats(vectors), floats(rotations), factors))
    }

    fn dropout_factors<const D: usize>(
        shape: [usize; D],
        rate: f64,
        key: Key,
        device: &Self::Device,
    ) -> Tensor<Self, D> {
        of_floats(B::dropout_factors(shape, rate, key, device))
    }

    fn token_vectors_backward(
        weight: Tensor<Self, 2>,
        tokens: Tensor<Self, 2, Int>,
        grad: Tensor<Self, 3>,
    ) -> Tensor<Self, 2> {
        let grad = floats(grad);
        of_floats(B::token_vectors_backward(
            floats(weight),
            ints(tokens),
            grad,
        ))
    }

    fn layer_normalization(
        x: Tensor<Self, 3>,
        gamma: Tensor<Self, 1>,
        beta: Tensor<Self, 1>,
        epsilon: f64,
        dtype: DType,
    ) -> Tensor<Self, 3> {
        let (gamma, beta) = (floats(gamma), floats(beta));
        of_floats(B::layer_normalization(
            floats(x),
            gamma,
            beta,
            epsilon,
            dtype,
        ))
    }

    fn layer_normalization_backward(
        x: Tensor<Self, 3>,
        gamma: Tensor<Self, 1>,
        epsilon: f64,
        grad: Tensor<Self, 3>,
    ) -> LayerNormGradients<Self> {
        let (gamma, grad) = (floats(gamma), floats(grad));
        let of = B::layer_normalization_backward(floats(x), gamma, epsilon, grad);
        LayerNormGradients {
            x: of_floats(of.x),
            gamma: of_floats(of.gamma),
            beta: of_floats(of.beta),
        }
    }

    fn rotate(heads: Tensor<Self, 4>, base: f64, rotation: Rotation) -> Tensor<Self, 4> {
        of_floats(B::rotate(floats(heads), base, rotation))
    }

    fn rotate_at(heads: Tensor<Self, 4>, positions: &[usize], base: f64) -> Tensor<Self, 4> {
        of_floats(B::rotate_at(floats(heads), positions, base))
    }

    fn device_address<const D: usize>(tensor: &Tensor<Self, D>) -> Option<DeviceAddress> {
        B::device_address(&floats(tensor.clone()))
    }
}

fn floats<B: FusionBackend, const D: usize>(tensor: Tensor<Fusion<B>, D>) -> Tensor<B, D> {
    let tensor = tensor.into_primitive().tensor();
    let client = tensor.client.clone();
    let tensor = client.resolve_tensor_float::<B>(tensor);
    Tensor::from_primitive(TensorPrimitive::Float(tensor))
}

fn ints<B: FusionBackend, const D: usize>(tensor: Tensor<Fusion<B>, D, Int>) -> Tensor<B, D, Int> {
    let tensor = tensor.into_primitive();
    let client = tensor.client.clone();
    Tensor::from_primitive(client.resolve_tensor_int::<B>(tensor))
}

fn bools<B: FusionBackend, const D: usize>(
    tensor: Tensor<Fusion<B>, D, Bool>,
) -> Tensor<B, D, Bool> {
    let tensor = tensor.into_primitive();
    let client = tensor.client.clone();
    Tensor::from_primitive(client.resolve_tensor_bool::<B>(tensor))
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

fn of_floats<B: FusionBackend, const D: usize>(tensor: Tensor<B, D>) -> Tensor<Fusion<B>, D> {
    let (shape, dtype, device) = (tensor.shape(), tensor.dtype(), tensor.device());
    let handle = B::float_tensor_handle(tensor.into_primitive().tensor());
    Tensor::from_primitive(TensorPrimitive::Float(known::<B>(
        handle, shape, dtype, &device,
    )))
}

fn of_ints<B: FusionBackend, const D: usize>(
    tensor: Tensor<B, D, Int>,
) -> Tensor<Fusion<B>, D, Int> {
    let (shape, dtype, device) = (tensor.shape(), tensor.dtype(), tensor.device());
    let handle = B::int_tensor_handle(tensor.into_primitive());
    Tensor::from_primitive(known::<B>(handle, shape, dtype, &device))
}

fn rows<B: FusionBackend>(qkv: Qkv<Fusion<B>>) -> Qkv<B> {
    Qkv {
        q: floats(qkv.q),
        keys: match qkv.keys {
            Keys::Own(k) => Keys::Own(floats(k)),
            Keys::UnitQueries(length) => Keys::UnitQueries(length),
        },
        v: floats(qkv.v),
    }
}

fn inner_slots<B: FusionBackend>(slots: &Slots<Fusion<B>>) -> Slots<B> {
    Slots {
        order: ints(slots.order.clone()),
        slot_of: ints(slots.slot_of.clone()),
        buckets: ints(slots.buckets.clone()),
        mask_pad: slots.mask_pad.clone().map(bools),
    }
}

fn inner_masking<B: FusionBackend>(masking: &Masking<Fusion<B>>) -> Masking<B> {
    Masking {
        causal: masking.causal,
        exclude_self: masking.exclude_self,
        dropout: masking.dropout,
        mask_pad: masking.mask_pad.clone().map(bools),
    }
}

fn inner_output<B: FusionBackend>(output: AttentionOutput<Fusion<B>>) -> AttentionOutput<B> {
    AttentionOutput {
        output: floats(output.output),
        max: floats(output.max),
        log_sum: floats(output.log_sum),
    }
}

fn of_output<B: FusionBackend>(output: AttentionOutput<B>) -> AttentionOutput<Fusion<B>> {
    AttentionOutput {
        output: of_floats(output.output),
        max: of_floats(output.max),
        log_sum: of_floats(output.log_sum),
    }
}

fn of_gradients<B: FusionBackend>(
    gradients: AttentionGradients<B>,
) -> AttentionGradients<Fusion<B>> {
    AttentionGradients {
        q: of_floats(gradients.q),
        k: gradients.k.map(of_floats),
        v: of_floats(gradients.v),
    }
}
