//! Attention as one autodiff step.

use burn::tensor::backend::Backend;
use burn::tensor::{Int, Tensor};
use burn_autodiff::Autodiff;
use burn_autodiff::checkpoint::strategy::CheckpointStrategy;

use super::step::{Gradient, Saved, gradient, parent, record};
use crate::kernels::{
    AttentionOutput, Keys, Masking, Prepared, Qkv, ReformerBackend, Slots, TiledAttention,
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

    /// The same without the slots and buckets of positions where a backend has made sort keys of them, which
    /// it reads instead: those would be two numbers for each position and round.
    fn for_backward(self, prepared: &Prepared<B>) -> Self {
        match self {
            Self::Tiled(slots, rules) if prepared.sort_keys.is_some() => {
                let shape = slots.slot_of.dims();
                // Has the shape, and the memory of one number, which nobody reads.
                let device = slots.order.device();
                let nothing = Tensor::<B, 4, Int>::empty([1, 1, 1, 1], &device).expand(shape);
                let slots = Slots {
                    slot_of: nothing.clone(),
                    buckets: nothing,
                    ..slots
                };
                Self::Tiled(slots, rules)
            }
            kind => kind,
        }
    }
}

/// Inputs and outputs that backward needs. All are linear in the length.
#[derive(Debug, Clone)]
struct Attended<B: Backend> {
    kind: Kind<B>,
    qkv: Qkv<B>,
    output: AttentionOutput<B>,
}

/// Parents are queries, values and separate keys, if any.
impl<B: ReformerBackend> Saved<B, 4> for Attended<B> {
    fn gradients(
        self,
        grad: Tensor<B, 4>,
        _: impl Fn(usize) -> bool,
    ) -> impl IntoIterator<Item = Gradient<B>> {
        let Self { kind, qkv, output } = self;
        let of = match kind {
            Kind::Tiled(slots, rules) => {
                B::tiled_attention_backward(qkv, &slots, &rules, output, grad)
            }
            Kind::Full(masking) => B::full_attention_backward(qkv, &masking, output, grad),
        };
        [gradient(of.q), gradient(of.v), of.k.and_then(gradient)]
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

/// Queries and values come first in `parents`.
fn register<B: ReformerBackend, C: CheckpointStrategy, const N: usize>(
    parents: [Tensor<Autodiff<B, C>, 4>; N],
    keys: Keys<B>,
    kind: Kind<B>,
) -> AttentionOutput<Autodiff<B, C>> {
    let qkv = Qkv {
        q: parents[0].clone().inner(),
        keys,
        v: parents[1].clone().inner(),
    };
    let attended = kind.forward(qkv.clone());
    let kind = kind.for_backward(&attended.prepared);
    let AttentionOutput {
        output,
        max,
        log_sum,
        ..
    } = attended.clone();
    let saved = || Attended {
        kind,
        qkv,
        output: attended,
    };
    AttentionOutput {
        output: record(parents.map(parent), output, saved),
        max: Tensor::from_inner(max),
        log_sum: Tensor::from_inner(log_sum),
        // The step has it.
        prepared: Prepared::default(),
    }
}
