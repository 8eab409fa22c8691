//! Attention as one step of autodiff.

use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorPrimitive};
use burn_autodiff::Autodiff;
use burn_autodiff::checkpoint::base::Checkpointer;
use burn_autodiff::checkpoint::strategy::CheckpointStrategy;
use burn_autodiff::grads::Gradients;
use burn_autodiff::ops::{Backward, Ops, OpsKind};

use crate::kernels::{
    AttentionGradients, AttentionOutput, Masking, ReformerBackend, Slots, TiledAttention,
};

/// Which attention a step belongs to, with its rules and integer data.
#[derive(Debug, Clone)]
pub(super) enum Kind<B: Backend> {
    Tiled(Slots<B>, TiledAttention),
    Full(Masking<B>),
}

impl<B: ReformerBackend> Kind<B> {
    fn forward(&self, [q, k, v]: [Tensor<B, 4>; 3]) -> AttentionOutput<B> {
        match self {
            Self::Tiled(slots, rules) => B::tiled_attention(q, k, v, slots, rules),
            Self::Full(masking) => B::full_attention(q, k, v, masking),
        }
    }
}

/// Inputs and outputs that backward starts from. All are linear in the length.
#[derive(Debug, Clone)]
struct State<B: Backend> {
    kind: Kind<B>,
    qkv: [Tensor<B, 4>; 3],
    output: AttentionOutput<B>,
}

impl<B: ReformerBackend> State<B> {
    fn gradients(self, grad: Tensor<B, 4>) -> AttentionGradients<B> {
        let [q, k, v] = self.qkv;
        match self.kind {
            Kind::Tiled(slots, rules) => {
                B::tiled_attention_backward(q, k, v, &slots, &rules, self.output, grad)
            }
            Kind::Full(masking) => B::full_attention_backward(q, k, v, &masking, self.output, grad),
        }
    }
}

/// The step from (q, k, v) to the output of attention.
#[derive(Debug)]
struct AttentionStep;

impl<B: ReformerBackend> Backward<B, 3> for AttentionStep {
    type State = State<B>;

    fn backward(
        self,
        ops: Ops<Self::State, 3>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let grad = Tensor::from_primitive(TensorPrimitive::Float(grads.consume::<B>(&ops.node)));
        let of = ops.state.gradients(grad);
        for (parent, grad) in ops.parents.into_iter().zip([of.q, of.k, of.v]) {
            if let Some(parent) = parent {
                grads.register::<B>(parent.id, grad.into_primitive().tensor());
            }
        }
    }
}

/// Runs an attention on the backend inside and registers its backward.
pub(super) fn attention<B: ReformerBackend, C: CheckpointStrategy>(
    qkv: [Tensor<Autodiff<B, C>, 4>; 3],
    kind: Kind<B>,
) -> AttentionOutput<Autodiff<B, C>> {
    let inputs = qkv.each_ref().map(|tensor| tensor.clone().inner());
    let nodes = qkv.map(|tensor| tensor.into_primitive().tensor().node);
    let inside = kind.forward(inputs.clone());
    let primitive = inside.output.clone().into_primitive().tensor();
    let step = Backward::<B, 3>::prepare::<C>(AttentionStep, nodes);
    let output = match step.compute_bound().stateful() {
        OpsKind::Tracked(step) => {
            let state = State {
                kind,
                qkv: inputs,
                output: inside.clone(),
            };
            step.finish(state, primitive)
        }
        OpsKind::UnTracked(step) => step.finish(primitive),
    };
    AttentionOutput {
        output: Tensor::from_primitive(TensorPrimitive::Float(output)),
        max: Tensor::from_inner(inside.max),
        log_sum: Tensor::from_inner(inside.log_sum),
    }
}
