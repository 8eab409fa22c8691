//! A linear layer as one autodiff step.

use burn::tensor::backend::{Backend, BackendTypes};
use burn::tensor::{DType, Tensor, TensorPrimitive};
use burn_autodiff::Autodiff;
use burn_autodiff::checkpoint::base::Checkpointer;
use burn_autodiff::checkpoint::strategy::CheckpointStrategy;
use burn_autodiff::grads::Gradients;
use burn_autodiff::ops::{Backward, Ops, OpsKind};

use crate::kernels::{LinearParents, ReformerBackend};

#[derive(Debug, Clone)]
struct State<B: Backend> {
    x: Tensor<B, 3>,
    /// See [`ReformerBackend::weight_beside`].
    weight: Tensor<B, 2>,
    /// That of the parameters.
    dtype: DType,
}

/// The step from (x, weight), or (x, weight, bias), to the output.
#[derive(Debug)]
struct LinearStep;

impl<B: ReformerBackend, const N: usize> Backward<B, N> for LinearStep {
    type State = State<B>;

    fn backward(
        self,
        ops: Ops<Self::State, N>,
        grads: &mut Gradients,
        _checkpointer: &mut Checkpointer,
    ) {
        let grad = Tensor::from_primitive(TensorPrimitive::Float(grads.consume::<B>(&ops.node)));
        let State { x, weight, dtype } = ops.state;
        let is_tracked = |number: usize| ops.parents.get(number).is_some_and(Option::is_some);
        let wanted = LinearParents {
            x: is_tracked(0),
            weight: is_tracked(1),
            bias: is_tracked(2),
        };
        let of = B::linear_layer_backward_as(x, weight, grad, wanted, dtype);
        let primitives = [
            of.x.map(|x| x.into_primitive().tensor()),
            of.weight.map(|weight| weight.into_primitive().tensor()),
            of.bias.map(|bias| bias.into_primitive().tensor()),
        ];
        for (parent, primitive) in ops.parents.into_iter().zip(primitives) {
            if let (Some(parent), Some(primitive)) = (parent, primitive) {
                grads.register::<B>(parent.id, primitive);
            }
        }
    }
}

pub(super) fn linear<B: ReformerBackend, C: CheckpointStrategy>(
    x: Tensor<Autodiff<B, C>, 3>,
    weight: Tensor<Autodiff<B, C>, 2>,
    bias: Option<Tensor<Autodiff<B, C>, 1>>,
) -> Tensor<Autodiff<B, C>, 3> {
    let state = State {
        x: x.clone().inner(),
        weight: B::weight_beside(weight.clone().inner(), x.dtype()),
        dtype: weight.dtype(),
    };
    let inner_bias = bias.clone().map(Tensor::inner);
    let output = B::linear_layer(state.x.clone(), state.weight.clone(), inner_bias);
    let (x, weight) = (
        x.into_primitive().tensor(),
        weight.into_primitive().tensor(),
    );
    match bias {
        Some(bias) => {
            let bias = bias.into_primitive().tensor();
            finish::<B, C, 3>([x, weight, bias], state, output)
        }
        None => finish::<B, C, 2>([x, weight], state, output),
    }
}

/// A tensor of the autodiff backend.
type Primitive<B, C> = <Autodiff<B, C> as BackendTypes>::FloatTensorPrimitive;

fn finish<B: ReformerBackend, C: CheckpointStrategy, const N: usize>(
    parents: [Primitive<B, C>; N],
    state: State<B>,
    output: Tensor<B, 3>,
) -> Tensor<Autodiff<B, C>, 3> {
    let output = output.into_primitive().tensor();
    let step = Backward::<B, N>::prepare::<C>(LinearStep, parents.map(|parent| parent.node));
    let output = match step.compute_bound().stateful() {
        OpsKind::Tracked(step) => step.finish(state, output),
        OpsKind::UnTracked(step) => step.finish(output),
    };
    Tensor::from_primitive(TensorPrimitive::Float(output))
}
