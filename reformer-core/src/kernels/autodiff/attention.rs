//! Attention as one autodiff step.

use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorPrimitive};
use burn_autodiff::Autodiff;
use burn_autodiff::checkpoint::base::Checkpointer;
use burn_autodiff::checkpoint::strategy::CheckpointStrategy;
use burn_autodiff::grads::Gradients;
use burn_autodiff::ops::{Backward, Ops, OpsKind};

use crate::kernels::{
    AttentionGradients, AttentionOutput, Keys, Masking, Qkv, ReformerBackend, Slots, TiledAttention,
};

/// Kind of attention of a step, with its rules and integer data.
#[derive(Debug, Clone)]
pub(super) enum Kind<B: Backend> {
    Tiled(Slots<B>, TiledAttention),
    Full(Masking<B>),
}

impl<B: ReformerBackend> Kind<B> {
    fn forward(&self, qkv: Qkv<B>) -> AttentionOutput<B> {
        match self {
            Self::Tiled(slots, rules) => B::tiled_attention(qkv, slots, rules),
            Self::Full(masking) => B::full_attention(qkv, masking),
        }
    }
}

/// Inputs and outputs that backward needs. All are linear in the length.
#[derive(Debug, Clone)]
struct State<B: Backend> {
    kind: Kind<B>,
    qkv: Qkv<B>,
    output: AttentionOutput<B>,
}

impl<B: ReformerBackend> State<B> {
    fn gradients(self, grad: Tensor<B, 4>) -> AttentionGradients<B> {
        let Self { kind, qkv, output } = self;
        match kind {
            Kind::Tiled(slots, rules) => {
                B::tiled_attention_backward(qkv, &slots, &rules, output, grad)
            }
            Kind::Full(masking) => B::full_attention_backward(qkv, &masking, output, grad),
        }
    }
}

/// The step from queries, values and separate keys, if any, to the output of attention.
#[derive(Debug)]
struct AttentionStep;

impl<B: ReformerBackend, const N: usize> Backward<B, N> for AttentionStep {
    type State = State<B>;

    fn backward(
        self,
        ops: Ops<Self::State, N>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let grad = Tensor::from_primitive(TensorPrimitive::Float(grads.consume::<B>(&ops.node)));
        let of = ops.state.gradients(grad);
        let of = [Some(of.q), Some(of.v), of.k];
        for (parent, grad) in ops.parents.into_iter().zip(of) {
            if let (Some(parent), Some(grad)) = (parent, grad) {
                grads.register::<B>(parent.id, grad.into_primitive().tensor());
            }
        }
    }
}

/// Runs attention on the inner backend and registers its backward.
pub(super) fn attention<B: ReformerBackend, C: CheckpointStrategy>(
    qkv: Qkv<Autodiff<B, C>>,
    kind: Kind<B>,
) -> AttentionOutput<Autodiff<B, C>> {
    let Qkv { q, keys, v } = qkv;
    match keys {
        Keys::Own(k) => {
            let keys = Keys::Own(k.clone().inner());
            register::<B, C, 3>([q, v, k], keys, kind)
        }
        Keys::UnitQueries(length) => register::<B, C, 2>([q, v], Keys::UnitQueries(length), kind),
    }
}

/// Queries and values come first in `tracked`.
fn register<B: ReformerBackend, C: CheckpointStrategy, const N: usize>(
    tracked: [Tensor<Autodiff<B, C>, 4>; N],
    keys: Keys<B>,
    kind: Kind<B>,
) -> AttentionOutput<Autodiff<B, C>> {
    let qkv = Qkv {
        q: tracked[0].clone().inner(),
        keys,
        v: tracked[1].clone().inner(),
    };
    let nodes = tracked.map(|tensor| tensor.into_primitive().tensor().node);
    let inside = kind.forward(qkv.clone());
    let primitive = inside.output.clone().into_primitive().tensor();
    let step = Backward::<B, N>::prepare::<C>(AttentionStep, nodes);
    let output = match step.compute_bound().stateful() {
        OpsKind::Tracked(step) => {
            let state = State {
                kind,
                qkv,
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
