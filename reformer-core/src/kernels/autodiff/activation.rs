//! The activation function of a feed-forward layer as one autodiff step.

use burn::tensor::{Tensor, TensorPrimitive};
use burn_autodiff::Autodiff;
use burn_autodiff::checkpoint::base::Checkpointer;
use burn_autodiff::checkpoint::strategy::CheckpointStrategy;
use burn_autodiff::grads::Gradients;
use burn_autodiff::ops::{Backward, Ops, OpsKind, unary};

use crate::kernels::Activation;
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

/// The step from an input and a bias to the output.
#[derive(Debug)]
struct BiasedStep;

impl<B: ReformerBackend> Backward<B, 2> for BiasedStep {
    type State = (Tensor<B, 3>, Tensor<B, 1>, Activation);

    fn backward(
        self,
        ops: Ops<Self::State, 2>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let grad = Tensor::from_primitive(TensorPrimitive::Float(grads.consume::<B>(&ops.node)));
        let (x, bias, activation) = ops.state;
        let (of_x, of_bias) = B::biased_activation_backward(x, bias, activation, grad);
        let of = [
            of_x.into_primitive().tensor(),
            of_bias.into_primitive().tensor(),
        ];
        for (parent, grad) in ops.parents.into_iter().zip(of) {
            if let Some(parent) = parent {
                grads.register::<B>(parent.id, grad);
            }
        }
    }
}

pub(super) fn biased_activation<B: ReformerBackend, C: CheckpointStrategy>(
    x: Tensor<Autodiff<B, C>, 3>,
    bias: Tensor<Autodiff<B, C>, 1>,
    activation: Activation,
) -> Tensor<Autodiff<B, C>, 3> {
    let inside = (x.clone().inner(), bias.clone().inner());
    let output = B::biased_activation(inside.0.clone(), inside.1.clone(), activation);
    let output = output.into_primitive().tensor();
    let nodes = [
        x.into_primitive().tensor().node,
        bias.into_primitive().tensor().node,
    ];
    let step = Backward::<B, 2>::prepare::<C>(BiasedStep, nodes);
    let output = match step.compute_bound().stateful() {
        OpsKind::Tracked(step) => step.finish((inside.0, inside.1, activation), output),
        OpsKind::UnTracked(step) => step.finish(output),
    };
    Tensor::from_primitive(TensorPrimitive::Float(output))
}
