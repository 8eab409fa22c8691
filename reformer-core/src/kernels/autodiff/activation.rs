//! The function between the projections of a feed-forward layer as one step of autodiff.

use burn::tensor::{Tensor, TensorPrimitive};
use burn_autodiff::Autodiff;
use burn_autodiff::checkpoint::base::Checkpointer;
use burn_autodiff::checkpoint::strategy::CheckpointStrategy;
use burn_autodiff::grads::Gradients;
use burn_autodiff::ops::{Backward, Ops, OpsKind, unary};

use crate::feed_forward::Activation;
use crate::kernels::ReformerBackend;

#[derive(Debug)]
struct ActivationStep;

impl<B: ReformerBackend> Backward<B, 1> for ActivationStep {
    type State = (Tensor<B, 3>, Activation);

    fn backward(
        self,
        ops: Ops<Self::State, 1>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let (x, activation) = ops.state;
        unary::<B, _>(ops.parents, ops.node, grads, |grad| {
            let grad = Tensor::from_primitive(TensorPrimitive::Float(grad));
            let grad = B::activation_backward(x, activation, grad);
            grad.into_primitive().tensor()
        });
    }
}

pub(super) fn activation<B: ReformerBackend, C: CheckpointStrategy>(
    x: Tensor<Autodiff<B, C>, 3>,
    activation: Activation,
) -> Tensor<Autodiff<B, C>, 3> {
    let inside = x.clone().inner();
    let node = x.into_primitive().tensor().node;
    let step = Backward::<B, 1>::prepare::<C>(ActivationStep, [node]);
    let output = |x| B::activation(x, activation).into_primitive().tensor();
    let output = match step.compute_bound().stateful() {
        OpsKind::Tracked(step) => {
            let output = output(inside.clone());
            step.finish((inside, activation), output)
        }
        OpsKind::UnTracked(step) => step.finish(output(inside)),
    };
    Tensor::from_primitive(TensorPrimitive::Float(output))
}
