//! The loss of tokens as one autodiff step.

use burn::tensor::{Int, Tensor, TensorPrimitive};
use burn_autodiff::Autodiff;
use burn_autodiff::checkpoint::base::Checkpointer;
use burn_autodiff::checkpoint::strategy::CheckpointStrategy;
use burn_autodiff::grads::Gradients;
use burn_autodiff::ops::{Backward, Ops, OpsKind, unary};

use crate::kernels::{ReformerBackend, TokenLoss};

#[derive(Debug)]
struct TokenLossStep;

impl<B: ReformerBackend> Backward<B, 1> for TokenLossStep {
    type State = (Tensor<B, 3>, Tensor<B, 2, Int>);

    fn backward(
        self,
        ops: Ops<Self::State, 1>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let (logits, targets) = ops.state;
        unary::<B, _>(ops.parents, ops.node, grads, |grad| {
            let grad = Tensor::from_primitive(TensorPrimitive::Float(grad));
            let grad = B::token_loss_backward(logits, targets, grad);
            grad.into_primitive().tensor()
        });
    }
}

pub(super) fn token_loss<B: ReformerBackend, C: CheckpointStrategy>(
    logits: Tensor<Autodiff<B, C>, 3>,
    targets: Tensor<Autodiff<B, C>, 2, Int>,
) -> TokenLoss<Autodiff<B, C>> {
    let state = (logits.clone().inner(), targets.inner());
    let node = logits.into_primitive().tensor().node;
    let inside = B::token_loss(state.0.clone(), state.1.clone());
    let nll = inside.nll.into_primitive().tensor();
    let step = Backward::<B, 1>::prepare::<C>(TokenLossStep, [node]);
    let nll = match step.compute_bound().stateful() {
        OpsKind::Tracked(step) => step.finish(state, nll),
        OpsKind::UnTracked(step) => step.finish(nll),
    };
    TokenLoss {
        nll: Tensor::from_primitive(TensorPrimitive::Float(nll)),
        n_correct: Tensor::from_inner(inside.n_correct),
    }
}
