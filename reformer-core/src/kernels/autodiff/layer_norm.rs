//! Layer normalisation as one autodiff step.

use burn::tensor::backend::Backend;
use burn::tensor::{DType, Tensor, TensorPrimitive};
use burn_autodiff::Autodiff;
use burn_autodiff::checkpoint::base::Checkpointer;
use burn_autodiff::checkpoint::strategy::CheckpointStrategy;
use burn_autodiff::grads::Gradients;
use burn_autodiff::ops::{Backward, Ops, OpsKind};

use crate::kernels::ReformerBackend;

#[derive(Debug, Clone)]
struct State<B: Backend> {
    x: Tensor<B, 3>,
    gamma: Tensor<B, 1>,
    epsilon: f64,
}

/// The step from (x, gamma, beta) to the normalised tensor.
#[derive(Debug)]
struct LayerNormStep;

impl<B: ReformerBackend> Backward<B, 3> for LayerNormStep {
    type State = State<B>;

    fn backward(
        self,
        ops: Ops<Self::State, 3>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let grad = Tensor::from_primitive(TensorPrimitive::Float(grads.consume::<B>(&ops.node)));
        let State { x, gamma, epsilon } = ops.state;
        let of = B::layer_normalization_backward(x, gamma, epsilon, grad);
        let primitives = [
            of.x.into_primitive().tensor(),
            of.gamma.into_primitive().tensor(),
            of.beta.into_primitive().tensor(),
        ];
        for (parent, primitive) in ops.parents.into_iter().zip(primitives) {
            if let Some(parent) = parent {
                grads.register::<B>(parent.id, primitive);
            }
        }
    }
}

pub(super) fn layer_norm<B: ReformerBackend, C: CheckpointStrategy>(
    x: Tensor<Autodiff<B, C>, 3>,
    gamma: Tensor<Autodiff<B, C>, 1>,
    beta: Tensor<Autodiff<B, C>, 1>,
    epsilon: f64,
    dtype: DType,
) -> Tensor<Autodiff<B, C>, 3> {
    let state = State {
        x: x.clone().inner(),
        gamma: gamma.clone().inner(),
        epsilon,
    };
    let inner_beta = beta.clone().inner();
    let inner = (state.x.clone(), state.gamma.clone());
    let output = B::layer_normalization(inner.0, inner.1, inner_beta, epsilon, dtype);
    let output = output.into_primitive().tensor();
    let nodes = [
        x.into_primitive().tensor().node,
        gamma.into_primitive().tensor().node,
        beta.into_primitive().tensor().node,
    ];
    let step = Backward::<B, 3>::prepare::<C>(LayerNormStep, nodes);
    let output = match step.compute_bound().stateful() {
        OpsKind::Tracked(step) => step.finish(state, output),
        OpsKind::UnTracked(step) => step.finish(output),
    };
    Tensor::from_primitive(TensorPrimitive::Float(output))
}
