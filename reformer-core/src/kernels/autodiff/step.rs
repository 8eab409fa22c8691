//! The frame of an operation that is one step of the autodiff graph: forward by the inner backend,
//! backward by a rule of its own.

use core::fmt::Debug;
use core::marker::PhantomData;

use burn::tensor::backend::{AutodiffBackend, Backend, BackendTypes};
use burn::tensor::{Tensor, TensorPrimitive};
use burn_autodiff::Autodiff;
use burn_autodiff::checkpoint::base::Checkpointer;
use burn_autodiff::checkpoint::strategy::CheckpointStrategy;
use burn_autodiff::grads::Gradients;
use burn_autodiff::ops::{Backward, Ops, OpsKind};

/// What forward saves, with the rule of backward.
pub(super) trait Saved<B: Backend, const D: usize>: Clone + Debug + Send + 'static {
    /// Whether backward adds the gradient of the first parent to the one that it has already, which
    /// [`onto`](Self::onto) is given. Otherwise Burn adds them, with one more tensor and pass.
    const ADDS: bool = false;

    /// The same with the gradient that the first parent has already, if any.
    fn onto(self, _sum: Gradient<B>) -> Self {
        self
    }

    /// Gradients of the parents, in their order, for the gradient `grad` of the output. Those of
    /// parents that are not tracked may be left out.
    fn gradients(
        self,
        grad: Tensor<B, D>,
        is_tracked: impl Fn(usize) -> bool,
    ) -> impl IntoIterator<Item = Gradient<B>>;
}

/// The gradient of a parent of any number of dimensions.
pub(super) type Gradient<B> = Option<<B as BackendTypes>::FloatTensorPrimitive>;

/// The gradient of a parent.
pub(super) fn gradient<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> Gradient<B> {
    Some(tensor.into_primitive().tensor())
}

/// An input of a step, of any number of dimensions.
pub(super) type Parent<B, C> = <Autodiff<B, C> as BackendTypes>::FloatTensorPrimitive;

/// An input of a step.
pub(super) fn parent<B: Backend, C: CheckpointStrategy, const D: usize>(
    tensor: Tensor<Autodiff<B, C>, D>,
) -> Parent<B, C> {
    tensor.into_primitive().tensor()
}

/// The step of the graph to an output of `D` dimensions.
#[derive(Debug)]
struct Step<S, const D: usize>(PhantomData<fn() -> S>);

impl<B: Backend, S: Saved<B, D>, const N: usize, const D: usize> Backward<B, N> for Step<S, D> {
    type State = S;

    fn backward(self, ops: Ops<S, N>, grads: &mut Gradients, _checkpointer: &mut Checkpointer) {
        let grad = grads.consume::<B>(&ops.node);
        let tracked = ops.parents.each_ref().map(Option::is_some);
        let is_tracked = |parent: usize| tracked.get(parent).is_some_and(|tracked| *tracked);
        let state = match &ops.parents[..] {
            [Some(first), ..] if S::ADDS => {
                // Burn removes the gradient of a tensor, of which only the node counts.
                let mut tensor = Autodiff::<B>::from_inner(grad.clone());
                tensor.node = first.clone();
                ops.state.onto(grads.remove::<B>(&tensor))
            }
            _ => ops.state,
        };
        let grad = Tensor::from_primitive(TensorPrimitive::Float(grad));
        let gradients = state.gradients(grad, is_tracked);
        for (parent, gradient) in ops.parents.into_iter().zip(gradients) {
            if let (Some(parent), Some(gradient)) = (parent, gradient) {
                grads.register::<B>(parent.id, gradient);
            }
        }
    }
}

/// The tensors of the parents are dropped here: only their nodes are part of the graph.
fn prepare<B, C, S, const N: usize, const D: usize>(
    parents: [Parent<B, C>; N],
) -> OpsKind<Step<S, D>, B, S, C, N>
where
    B: Backend,
    C: CheckpointStrategy,
    S: Saved<B, D>,
{
    Backward::<B, N>::prepare::<C>(Step(PhantomData), parents.map(|parent| parent.node))
        .compute_bound()
        .stateful()
}

/// Runs `forward` with what it needs and, if a parent is tracked, saves that for backward. Otherwise
/// forward owns it, and may work in place.
pub(super) fn run<B, C, S, const N: usize, const D: usize>(
    parents: [Parent<B, C>; N],
    inputs: S,
    forward: impl FnOnce(S) -> Tensor<B, D>,
) -> Tensor<Autodiff<B, C>, D>
where
    B: Backend,
    C: CheckpointStrategy,
    S: Saved<B, D>,
{
    let output = match prepare::<B, C, S, N, D>(parents) {
        OpsKind::Tracked(step) => {
            let output = forward(inputs.clone());
            step.finish(inputs, output.into_primitive().tensor())
        }
        OpsKind::UnTracked(step) => step.finish(forward(inputs).into_primitive().tensor()),
    };
    Tensor::from_primitive(TensorPrimitive::Float(output))
}

/// Records an output that is there already. `saved` is called only if a parent is tracked.
pub(super) fn record<B, C, S, const N: usize, const D: usize>(
    parents: [Parent<B, C>; N],
    output: Tensor<B, D>,
    saved: impl FnOnce() -> S,
) -> Tensor<Autodiff<B, C>, D>
where
    B: Backend,
    C: CheckpointStrategy,
    S: Saved<B, D>,
{
    let output = output.into_primitive().tensor();
    let output = match prepare::<B, C, S, N, D>(parents) {
        OpsKind::Tracked(step) => step.finish(saved(), output),
        OpsKind::UnTracked(step) => step.finish(output),
    };
    Tensor::from_primitive(TensorPrimitive::Float(output))
}
