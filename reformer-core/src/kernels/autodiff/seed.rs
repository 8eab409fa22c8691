//! Starts a backward pass from a given gradient of a tensor.

use burn::tensor::{Tensor, TensorPrimitive};
use burn_autodiff::Autodiff;
use burn_autodiff::checkpoint::base::Checkpointer;
use burn_autodiff::checkpoint::strategy::CheckpointStrategy;
use burn_autodiff::grads::Gradients;
use burn_autodiff::ops::{Backward, Ops, OpsKind, unary};

use crate::kernels::ReformerBackend;

/// The step from a tensor to a scalar, whose backward returns the given gradient. A product and a
/// sum would be equivalent, with three more passes over the tensor.
#[derive(Debug)]
struct SeedStep;

impl<B: ReformerBackend> Backward<B, 1> for SeedStep {
    type State = B::FloatTensorPrimitive;

    fn backward(
        self,
        ops: Ops<Self::State, 1>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let gradient = ops.state;
        unary::<B, _>(ops.parents, ops.node, grads, |_| gradient);
    }
}

pub(super) fn seed<B: ReformerBackend, C: CheckpointStrategy, const D: usize>(
    value: Tensor<Autodiff<B, C>, D>,
    gradient: Tensor<Autodiff<B, C>, D>,
) -> Tensor<Autodiff<B, C>, 1> {
    assert_eq!(
        value.dims(),
        gradient.dims(),
        "a gradient has the shape of what it belongs to"
    );
    let dtype = value.dtype();
    let output = Tensor::<B, 1>::zeros([1], &value.device());
    let output = output.into_primitive().tensor();
    let node = value.into_primitive().tensor().node;
    let step = Backward::<B, 1>::prepare::<C>(SeedStep, [node]);
    let output = match step.compute_bound().stateful() {
        OpsKind::Tracked(step) => {
            let gradient = gradient.inner().cast(dtype);
            step.finish(gradient.into_primitive().tensor(), output)
        }
        OpsKind::UnTracked(step) => step.finish(output),
    };
    Tensor::from_primitive(TensorPrimitive::Float(output))
}
