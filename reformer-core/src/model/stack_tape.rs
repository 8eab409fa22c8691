//! The two streams of a stack: from tokens to streams, and backward with a tape.

use burn::module::AutodiffModule;
use burn::nn::Embedding;
use burn::tensor::backend::{AutodiffBackend, Backend};
use burn::tensor::{Int, Tensor};

use crate::chunks::chunk_ranges;
use crate::kernels::{ReformerBackend, TrainBackend};
use crate::pass::Pass;
use crate::position::Position;
use crate::reversible::{GradientSum, Mode, ReversibleBlock, Tape};

/// Embeddings of tokens and positions.
///
/// # Shapes
/// - tokens: `[batch_size, seq_length]`
/// - output: `[batch_size, seq_length, d_model]`
pub(super) fn embed<B: ReformerBackend>(
    embedding: &Embedding<B>,
    position: &Position<B>,
    tokens: Tensor<B, 2, Int>,
) -> Tensor<B, 3> {
    let x = B::token_vectors(embedding.weight.val(), tokens);
    match position.forward(x.dims()[1], &x.device()) {
        Some(positions) => x + positions.unsqueeze(),
        None => x,
    }
}

/// Embeddings of a single token of each sequence, at its position.
///
/// # Shapes
/// - tokens: `[batch_size, 1]`, positions: `[batch_size]`
/// - output: `[batch_size, 1, d_model]`
pub(super) fn embed_at<B: ReformerBackend>(
    embedding: &Embedding<B>,
    position: &Position<B>,
    tokens: Tensor<B, 2, Int>,
    positions: &[usize],
) -> Tensor<B, 3> {
    let x = B::token_vectors(embedding.weight.val(), tokens);
    match position.at(positions.iter().copied(), &x.device()) {
        Some(positions) => x + positions.unsqueeze_dim(1),
        None => x,
    }
}

/// Concatenates two streams: `[batch_size, seq_length, 2 * d_model]`.
pub(super) fn side_by_side<B: Backend>(streams: [Tensor<B, 3>; 2]) -> Tensor<B, 3> {
    Tensor::cat(streams.to_vec(), 2)
}

/// Splits concatenated streams, or their gradients.
pub(super) fn halves<B: Backend>(streams: Tensor<B, 3>) -> [Tensor<B, 3>; 2] {
    let d_model = streams.dims()[2] / 2;
    [0..d_model, d_model..2 * d_model].map(|half| streams.clone().slice_dim(2, half))
}

/// The mean of two streams: `[batch_size, seq_length, d_model]`.
pub(super) fn mean<B: Backend>([y1, y2]: [Tensor<B, 3>; 2]) -> Tensor<B, 3> {
    (y1 + y2) * 0.5
}

/// Backward from both streams, as they are after the last block.
pub(super) struct StackTape<A: AutodiffBackend> {
    tokens: Tensor<A, 2, Int>,
    /// The pass of the embeddings.
    pass: Pass<A>,
    tape: Tape<A::InnerBackend>,
    mode: Mode,
}

/// Result of a [`StackTape`], besides gradients of parameters.
pub(super) struct StackGradients<B: Backend> {
    /// The largest difference between the embeddings and the input recomputed from the output: `[1]`.
    pub(super) drift: Tensor<B, 1>,
    /// Gradient of the source, if the blocks read one.
    pub(super) source: Option<Tensor<B, 3>>,
}

impl<A: TrainBackend> StackTape<A> {
    /// Runs blocks forward on `x`, the embeddings of `tokens` in this pass.
    pub(super) fn record<M: ReversibleBlock<A::InnerBackend>>(
        blocks: &[M],
        tokens: Tensor<A, 2, Int>,
        x: Tensor<A::InnerBackend, 3>,
        [pass, of_blocks]: [Pass<A>; 2],
        mode: Mode,
    ) -> (Self, [Tensor<A::InnerBackend, 3>; 2]) {
        let tape = Tape::record(blocks, [x.clone(), x], of_blocks.inner(), mode);
        let streams = tape.output();
        let recorded = Self {
            tokens,
            pass,
            tape,
            mode,
        };
        (recorded, streams)
    }

    /// Backward from the gradients of both streams to blocks and embeddings. `embed` recomputes the
    /// embeddings; `module` has their parameters.
    pub(super) fn backward<M, E>(
        self,
        blocks: &[M],
        embed: impl FnOnce(Tensor<A, 2, Int>, &Pass<A>) -> Tensor<A, 3>,
        module: &E,
        gradients: [Tensor<A::InnerBackend, 3>; 2],
        sum: &mut GradientSum,
    ) -> StackGradients<A::InnerBackend>
    where
        M: ReversibleBlock<A> + AutodiffModule<A>,
        E: AutodiffModule<A>,
    {
        let input = self.tape.backward::<A, M>(blocks, gradients, sum);
        let [dx1, dx2] = input.gradients;
        // In place, before there are embeddings beside the streams.
        let dx = dx1 + dx2;
        let x = embed(self.tokens, &self.pass);
        let original = x.clone().inner();
        let [drift1, drift2] = input
            .streams
            .map(|stream| drift(stream, &original, self.mode));
        drop(original);
        let mut gradients = A::seed_backward([(x, Tensor::from_inner(dx))]).backward();
        sum.add(&mut gradients, module);
        StackGradients {
            drift: drift1.max_pair(drift2),
            source: input.source,
        }
    }
}

/// Number of positions that are compared at a time, or more where there is the memory.
const COMPARED_AT_ONCE: usize = 4096;

/// The largest error of a stream's input, without tensors of its size: `[1]`.
fn drift<B: ReformerBackend>(
    stream: Tensor<B, 3>,
    original: &Tensor<B, 3>,
    mode: Mode,
) -> Tensor<B, 1> {
    let [batch_size, seq_length, d_model] = stream.dims();
    let device = stream.device();
    let bytes = batch_size * d_model * size_of::<f32>();
    let at_once = B::at_once(COMPARED_AT_ONCE, bytes, &device);
    let mut of_chunks: Vec<_> = chunk_ranges(seq_length, Some(at_once))
        .map(|(_, range)| {
            let part = |x: &Tensor<B, 3>| x.clone().slice_dim(1, range.clone());
            (part(&stream) - mode.on_grid(part(original))).abs().max()
        })
        .collect();
    if of_chunks.len() > 1 {
        // Not pair by pair, which may lose what is not a number.
        return Tensor::cat(of_chunks, 0).max();
    }
    let largest = of_chunks.pop();
    largest.unwrap_or_else(|| Tensor::zeros([1], &device))
}
