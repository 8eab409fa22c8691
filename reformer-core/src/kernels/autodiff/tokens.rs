//! Token embeddings as one autodiff step.

use burn::tensor::{Int, Tensor, TensorPrimitive};
use burn_autodiff::Autodiff;
use burn_autodiff::checkpoint::base::Checkpointer;
use burn_autodiff::checkpoint::strategy::CheckpointStrategy;
use burn_autodiff::grads::Gradients;
use burn_autodiff::ops::{Backward, Ops, OpsKind, unary};

use crate::kernels::ReformerBackend;

#[derive(Debug)]
struct TokensStep;

impl<B: ReformerBackend> Backward<B, 1> for TokensStep {
    type State = (Tensor<B, 2>, Tensor<B, 2, Int>);

    fn backward(
        self,
        ops: Ops<Self::State, 1>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let (weight, tokens) = ops.state;
        unary::<B, _>(ops.parents, ops.node, grads, |grad| {
            let grad = Tensor::from_primitive(TensorPrimitive::Float(grad));
            let grad = B::token_vectors_backward(weight, tokens, grad);
            grad.into_primitive().tensor()
        });
    }
}

pub(super) fn token_vectors<B: ReformerBackend, C: CheckpointStrategy>(
    weight: Tensor<Autodiff<B, C>, 2>,
    tokens: Tensor<Autodiff<B, C>, 2, Int>,
) -> Tensor<Autodiff<B, C>, 3> {
    let state = (weight.clone().inner(), tokens.inner());
    let output = B::token_vectors(state.0.clone(), state.1.clone());
    let output = output.into_primitive().tensor();
    let node = weight.into_primitive().tensor().node;
    let step = Backward::<B, 1>::prepare::<C>(TokensStep, [node]);
    let output = match step.compute_bound().stateful() {
        OpsKind::Tracked(step) => step.finish(state, output),
        OpsKind::UnTracked(step) => step.finish(output),
    };
    Tensor::from_primitive(TensorPrimitive::Float(output))
}
