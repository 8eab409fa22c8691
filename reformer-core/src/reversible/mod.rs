//! Reversible residual layers (Gomez et al., 2017; paper, section 3).
//!
//! A block updates two streams in turn, `y1 = x1 + F(x2)` and `y2 = x2 + G(y1)`, so its input can
//! be recomputed: `x2 = y2 - G(y1)`, `x1 = y1 - F(x2)`. Forward keeps no activations; backward
//! recomputes each block from its output. Memory does not grow with depth.
//!
//! Burn cannot run a backward pass inside a step of another one, so this is a [`Tape`] instead of
//! an autodiff step. Forward runs on the inner backend and gives the output and the tape; the
//! caller's loss gives the output's gradient; the tape turns it into gradients of the parameters,
//! block by block.

mod gradients;
mod tape;

use burn::config::Config;
use burn::module::Module;
use burn::tensor::backend::Backend;
use burn::tensor::{Int, Tensor};

pub use gradients::GradientSum;
pub(crate) use tape::pull_back;
pub use tape::{Reconstruction, Tape};

use crate::chunks::{chunk_ranges, parts};
use crate::error::ConfigError;
use crate::kernels::{ReformerBackend, Residual};
use crate::pass::Pass;
use crate::precision::widen;

/// How the backward pass obtains activations.
#[derive(Config, Debug, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Each block's input is recomputed from its output. Rounding changes its last bits; see
    /// [`Reconstruction`] for how much.
    Reversible,
    /// The same without rounding errors: the outputs of F and G are rounded to multiples of
    /// `2^-fraction_bits`. Adding and subtracting them is then exact, as long as streams stay below
    /// `2^(24 - fraction_bits)`.
    Exact {
        /// Binary digits after the point; 16 allows streams up to 256.
        fraction_bits: u32,
    },
    /// Burn's autodiff keeps all activations. Memory grows with depth.
    Plain,
    /// One residual stream, `y = x + F(x)`, `z = y + G(y)`, as in a Transformer, with the same
    /// parameters, by Burn's autodiff: the baseline for reversible layers (paper, figure 3). Both
    /// streams are `z`.
    Ordinary,
}

impl Mode {
    /// Checks the number of fraction bits.
    ///
    /// # Errors
    /// More fraction bits than `f32` supports.
    pub fn validate(&self) -> Result<(), ConfigError> {
        match self {
            Self::Exact { fraction_bits } if *fraction_bits > 22 => Err(ConfigError::new(
                "mode.fraction_bits",
                fraction_bits,
                "an f32 has 24 binary digits, and some are needed before the point",
                "use 16",
            )),
            _ => Ok(()),
        }
    }

    /// Whether backward recomputes activations with a [`Tape`] instead of keeping them.
    pub fn is_recomputed(self) -> bool {
        matches!(self, Self::Reversible | Self::Exact { .. })
    }

    /// Rounds the output of F or G to the multiples of this mode.
    pub(crate) fn on_grid<B: Backend>(self, residual: Tensor<B, 3>) -> Tensor<B, 3> {
        match self {
            Self::Exact { fraction_bits } => {
                let steps = f64::from(1u32 << fraction_bits);
                widen(residual).mul_scalar(steps).round().div_scalar(steps)
            }
            Self::Reversible | Self::Plain | Self::Ordinary => residual,
        }
    }
}

/// A block `y1 = x1 + F(x2)`, `y2 = x2 + G(y1)`.
///
/// Any module can implement it. F and G may depend on their input, the weights and the pass only:
/// no state, and no randomness except that of the [key](Pass::key).
pub trait ReversibleBlock<B: Backend>: Module<B> {
    /// The first residual function, usually attention. May return buckets, which [`Pass::buckets`] contains
    /// when F is recomputed. The outputs of F and G may be in half precision even if the stream is not.
    ///
    /// # Shapes
    /// - x, output: `[batch_size, seq_length, d_model]`
    fn f(&self, x: Tensor<B, 3>, pass: &Pass<B>) -> (Tensor<B, 3>, Option<Tensor<B, 4, Int>>);

    /// The second residual function, usually feed-forward.
    ///
    /// # Shapes
    /// - x, output: `[batch_size, seq_length, d_model]`
    fn g(&self, x: Tensor<B, 3>, pass: &Pass<B>) -> Tensor<B, 3>;

    /// Chunk length of G if it is position-wise, for a given batch size.
    fn g_chunk_length(&self, _batch_size: usize) -> Option<usize> {
        None
    }
}

/// Passes of the two functions of a block, derived from that of the stack.
struct BlockPasses<B: Backend> {
    f: Pass<B>,
    g: Pass<B>,
}

impl<B: Backend> BlockPasses<B> {
    fn new(stack: &Pass<B>, block: usize) -> Self {
        Self {
            f: stack.fold(2 * block as u64),
            g: stack.fold(2 * block as u64 + 1),
        }
    }
}

/// Runs a stack of blocks forward and passes the buckets of each block to `remember`. On an
/// autodiff backend this is the plain mode: the graph keeps every activation.
///
/// # Shapes
/// - streams, output: `[batch_size, seq_length, d_model]` each
pub fn forward<B: ReformerBackend, M: ReversibleBlock<B>>(
    blocks: &[M],
    streams: [Tensor<B, 3>; 2],
    pass: &Pass<B>,
    mode: Mode,
    mut remember: impl FnMut(Option<Tensor<B, 4, Int>>),
) -> [Tensor<B, 3>; 2] {
    let mut streams = streams.map(|stream| mode.on_grid(stream));
    for (number, block) in blocks.iter().enumerate() {
        let passes = BlockPasses::new(pass, number);
        let f = |x| {
            let (output, buckets) = block.f(x, &passes.f);
            remember(buckets);
            output
        };
        let g = |chunk, x| block.g(x, &passes.g.fold(chunk));
        let chunk_length = block.g_chunk_length(streams[0].dims()[0]);
        streams = add_residuals(streams, mode, f, chunk_length, g);
    }
    streams
}

/// `y1 = x1 + F(x2)`, `y2 = x2 + G(y1)`, or both `y1 + G(y1)` in [`Mode::Ordinary`]. G is called
/// with the chunk number and at most `g_chunk_length` positions.
pub(crate) fn add_residuals<B: ReformerBackend>(
    [x1, x2]: [Tensor<B, 3>; 2],
    mode: Mode,
    f: impl FnOnce(Tensor<B, 3>) -> Tensor<B, 3>,
    g_chunk_length: Option<usize>,
    mut g: impl FnMut(u64, Tensor<B, 3>) -> Tensor<B, 3>,
) -> [Tensor<B, 3>; 2] {
    let y1 = B::residual(x1, vec![mode.on_grid(f(x2.clone()))], Residual::Add);
    let mut g = |chunk, y1| mode.on_grid(g(chunk, y1));
    if mode.is_recomputed() {
        // Added as they come: chunks kept until the last one would be one more sequence in memory.
        let chunks = chunk_ranges(y1.dims()[1], g_chunk_length);
        let y2 = chunks.fold(x2, |y2, (chunk, range)| {
            let part = g(chunk, y1.clone().slice_dim(1, range.clone()));
            B::residual_at(y2, range.start, part, Residual::Add)
        });
        return [y1, y2];
    }
    let g = parts(y1.clone(), g_chunk_length, g);
    if mode == Mode::Ordinary {
        let z = B::residual(y1, g, Residual::Add);
        return [z.clone(), z];
    }
    [y1, B::residual(x2, g, Residual::Add)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn_flex::Flex;

    #[test]
    fn an_ordinary_block_has_one_stream() {
        let x = || Tensor::<Flex, 3>::from_data([[[1.0, 2.0], [3.0, 4.0]]], &Default::default());
        let block = |mode| {
            let g = |_, y: Tensor<Flex, 3>| y * 10.0;
            add_residuals([x(), x()], mode, |x| x * 2.0, Some(1), g)
                .map(|stream| stream.into_data().to_vec::<f32>().unwrap())
        };
        let y = vec![3.0, 6.0, 9.0, 12.0];
        assert_eq!(
            block(Mode::Plain),
            [y, vec![31.0, 62.0, 93.0, 124.0]],
            "x + F(x), x + G(y)"
        );
        let z = vec![33.0, 66.0, 99.0, 132.0];
        assert_eq!(block(Mode::Ordinary), [z.clone(), z], "twice y + G(y)");
    }
}
