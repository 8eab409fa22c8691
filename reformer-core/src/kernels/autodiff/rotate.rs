//! Rotation by position as one autodiff step: backward rotates by the negative angle.

use burn::tensor::{Tensor, TensorPrimitive};
use burn_autodiff::Autodiff;
use burn_autodiff::checkpoint::base::Checkpointer;
use burn_autodiff::checkpoint::strategy::CheckpointStrategy;
use burn_autodiff::grads::Gradients;
use burn_autodiff::ops::{Backward, Ops, OpsKind, unary};

use crate::kernels::{ReformerBackend, Rotation};

#[derive(Debug)]
struct RotateStep;

impl<B: ReformerBackend> Backward<B, 1> for RotateStep {
    type State = (f64, Rotation);

    fn backward(
        self,
        ops: Ops<Self::State, 1>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let (base, rotation) = ops.state;
        unary::<B, _>(ops.parents, ops.node, grads, |grad| {
            let grad = Tensor::<B, 4>::from_primitive(TensorPrimitive::Float(grad));
            B::rotate(grad, base, rotation.inverse())
                .into_primitive()
                .tensor()
        });
    }
}

pub(super) fn rotate<B: ReformerBackend, C: CheckpointStrategy>(
    heads: Tensor<Autodiff<B, C>, 4>,
    base: f64,
    rotation: Rotation,
) -> Tensor<Autodiff<B, C>, 4> {
    let output = B::rotate(heads.clone().inner(), base, rotation);
    let output = output.into_primitive().tensor();
    let node = heads.into_primitive().tensor().node;
    let step = Backward::<B, 1>::prepare::<C>(RotateStep, [node]);
    let output = match step.compute_bound().stateful() {
        OpsKind::Tracked(step) => step.finish((base, rotation), output),
        OpsKind::UnTracked(step) => step.finish(output),
    };
    Tensor::from_primitive(TensorPrimitive::Float(output))
}
