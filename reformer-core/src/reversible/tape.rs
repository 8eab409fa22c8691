//! Backward through reversible blocks, from the output only.

use burn::module::AutodiffModule;
use burn::tensor::backend::{AutodiffBackend, Backend};
use burn::tensor::{Int, Tensor};

use super::gradients::GradientSum;
use super::{BlockPasses, Mode, ReversibleBlock, forward};
use crate::chunks::chunk_ranges;
use crate::kernels::{ReformerBackend, Residual};
use crate::pass::{Pass, Source};

/// Saved state of a forward pass: the output of the last block, and the buckets of every LSH layer,
/// in two bytes each if there are few enough.
///
/// Buckets are kept because recomputed activations differ in their last bits: a changed bucket
/// would give the gradient of a different function.
#[derive(Debug)]
pub struct Tape<B: Backend> {
    streams: [Tensor<B, 3>; 2],
    buckets: Vec<Option<Tensor<B, 4, Int>>>,
    pass: Pass<B>,
    mode: Mode,
}

/// Result of [`Tape::backward`]: the input of the stack, and its gradient.
#[derive(Debug)]
pub struct Reconstruction<B: Backend> {
    /// The two streams at the input, recomputed from the output. Their difference from the original
    /// ones is the drift of the stack, which is zero in [`Mode::Exact`].
    pub streams: [Tensor<B, 3>; 2],
    /// Gradients of the two streams at the input.
    pub gradients: [Tensor<B, 3>; 2],
    /// Gradient of the [source](Pass::with_source), summed over the blocks that read it:
    /// `[batch_size, source_length, d_model]`.
    pub source: Option<Tensor<B, 3>>,
}

impl<B: ReformerBackend> Tape<B> {
    /// Runs a stack of blocks forward and keeps the state that backward needs.
    ///
    /// # Shapes
    /// - streams: `[batch_size, seq_length, d_model]` each
    pub fn record<M: ReversibleBlock<B>>(
        blocks: &[M],
        streams: [Tensor<B, 3>; 2],
        pass: Pass<B>,
        mode: Mode,
    ) -> Self {
        let mut buckets = Vec::with_capacity(blocks.len());
        let streams = forward(blocks, streams, &pass, mode, |of_block| {
            buckets.push(of_block);
        });
        Self {
            streams,
            buckets,
            pass,
            mode,
        }
    }

    /// The two streams at the output: `[batch_size, seq_length, d_model]` each.
    pub fn output(&self) -> [Tensor<B, 3>; 2] {
        self.streams.clone()
    }

    /// Inverts the blocks from the last to the first and sums the gradients of their parameters.
    ///
    /// `blocks` are the recorded ones, on the autodiff backend.
    ///
    /// # Shapes
    /// - gradients of the output's streams: `[batch_size, seq_length, d_model]` each
    pub fn backward<A, M>(
        self,
        blocks: &[M],
        gradients: [Tensor<B, 3>; 2],
        sum: &mut GradientSum,
    ) -> Reconstruction<B>
    where
        A: AutodiffBackend<InnerBackend = B> + ReformerBackend,
        M: ReversibleBlock<A> + AutodiffModule<A>,
    {
        let mut state = Reconstruction {
            streams: self.streams,
            gradients,
            source: None,
        };
        let pass = with_source_as_leaf(Pass::<A>::from_inner(&self.pass));
        let buckets = self.buckets.into_iter().enumerate();
        for (block, (number, buckets)) in blocks.iter().zip(buckets).rev() {
            let passes = BlockPasses::new(&pass, number);
            let f = passes.f.with_buckets(buckets.map(Tensor::from_inner));
            state = undo_g::<B, A, M>(state, block, &passes.g, self.mode, sum);
            state = undo_f(state, block, &f, self.mode, sum);
        }
        state
    }
}

/// The pass with a source that requires a gradient.
fn with_source_as_leaf<A: AutodiffBackend>(pass: Pass<A>) -> Pass<A> {
    let source = pass.source().cloned().map(|source| Source {
        hidden: source.hidden.require_grad(),
        ..source
    });
    pass.with_source(source)
}

/// Recomputes `x2` from `y2 = x2 + G(y1)`, one chunk at a time, in place.
fn undo_g<B, A, M>(
    state: Reconstruction<B>,
    block: &M,
    pass: &Pass<A>,
    mode: Mode,
    sum: &mut GradientSum,
) -> Reconstruction<B>
where
    B: ReformerBackend,
    A: AutodiffBackend<InnerBackend = B> + ReformerBackend,
    M: ReversibleBlock<A> + AutodiffModule<A>,
{
    let [y1, mut x2] = state.streams;
    let [mut dy1, dy2] = state.gradients;
    let mut source = state.source;
    let [batch_size, seq_length, _] = y1.dims();
    let chunk_length = block.g_chunk_length(batch_size);
    for (chunk, range) in chunk_ranges(seq_length, chunk_length) {
        let part = |stream: &Tensor<B, 3>| stream.clone().slice_dim(1, range.clone());
        let leaf = Tensor::<A, 3>::from_inner(part(&y1)).require_grad();
        let g = block.g(leaf.clone(), &pass.fold(chunk));
        let value = mode.on_grid(g.clone().inner());
        x2 = B::residual_at(x2, range.start, value, Residual::Subtract);
        let (of_leaf, of_chunks) = match range.len() == seq_length {
            true => (Some((leaf.clone(), dy1)), None),
            false => (None, Some(dy1)),
        };
        let mut gradients = backward_from(g, part(&dy2), of_leaf, block, sum);
        let through_g = take(leaf, &mut gradients);
        dy1 = match of_chunks {
            Some(dy1) => B::residual_at(dy1, range.start, through_g, Residual::Add),
            None => through_g,
        };
        source = plus_source(source, pass, &mut gradients);
    }
    Reconstruction {
        streams: [y1, x2],
        gradients: [dy1, dy2],
        source,
    }
}

/// Recomputes `x1` from `y1 = x1 + F(x2)`.
fn undo_f<B, A, M>(
    state: Reconstruction<B>,
    block: &M,
    pass: &Pass<A>,
    mode: Mode,
    sum: &mut GradientSum,
) -> Reconstruction<B>
where
    B: ReformerBackend,
    A: AutodiffBackend<InnerBackend = B> + ReformerBackend,
    M: ReversibleBlock<A> + AutodiffModule<A>,
{
    let [y1, x2] = state.streams;
    let [dy1, dy2] = state.gradients;
    let leaf = Tensor::<A, 3>::from_inner(x2.clone()).require_grad();
    let (f, _) = block.f(leaf.clone(), pass);
    let inner = mode.on_grid(f.clone().inner());
    let x1 = B::residual(y1, vec![inner], Residual::Subtract);
    let of_leaf = Some((leaf.clone(), dy2));
    let mut gradients = backward_from(f, dy1.clone(), of_leaf, block, sum);
    let dx2 = take(leaf, &mut gradients);
    Reconstruction {
        streams: [x1, x2],
        gradients: [dy1, dx2],
        source: plus_source(state.source, pass, &mut gradients),
    }
}

/// Adds the gradient of the source, if F or G has read it.
fn plus_source<B, A>(
    sum: Option<Tensor<B, 3>>,
    pass: &Pass<A>,
    gradients: &mut A::Gradients,
) -> Option<Tensor<B, 3>>
where
    B: Backend,
    A: AutodiffBackend<InnerBackend = B>,
{
    let new = pass
        .source()
        .and_then(|source| source.hidden.grad_remove(gradients));
    match (sum, new) {
        (Some(sum), Some(new)) => Some(sum + new),
        (sum, new) => sum.or(new),
    }
}

/// Gradient of `leaf`, from which `value` was computed, for the gradient of `value`. The gradients
/// of the module's parameters are added to the sum.
pub(crate) fn pull_back<B, A, M>(
    value: Tensor<A, 3>,
    leaf: Tensor<A, 3>,
    gradient: Tensor<B, 3>,
    module: &M,
    sum: &mut GradientSum,
) -> Tensor<B, 3>
where
    B: Backend,
    A: AutodiffBackend<InnerBackend = B> + ReformerBackend,
    M: AutodiffModule<A>,
{
    take(leaf, &mut backward_from(value, gradient, None, module, sum))
}

/// Backward pass from the gradient of a value, and from that which a leaf has already. Gradients of the
/// module's parameters are added to the sum; those of leaves are returned.
fn backward_from<B, A, M>(
    value: Tensor<A, 3>,
    gradient: Tensor<B, 3>,
    of_leaf: Option<(Tensor<A, 3>, Tensor<B, 3>)>,
    module: &M,
    sum: &mut GradientSum,
) -> A::Gradients
where
    B: Backend,
    A: AutodiffBackend<InnerBackend = B> + ReformerBackend,
    M: AutodiffModule<A>,
{
    let seed = (value, Tensor::from_inner(gradient));
    let root = match of_leaf {
        Some((leaf, gradient)) => A::seed_backward([seed, (leaf, Tensor::from_inner(gradient))]),
        None => A::seed_backward([seed]),
    };
    let mut gradients = root.backward();
    sum.add(&mut gradients, module);
    gradients
}

/// The gradient of a leaf; zeros if the value does not depend on it.
fn take<A: AutodiffBackend>(
    leaf: Tensor<A, 3>,
    gradients: &mut A::Gradients,
) -> Tensor<A::InnerBackend, 3> {
    leaf.grad_remove(gradients)
        .unwrap_or_else(|| leaf.inner().zeros_like())
}
