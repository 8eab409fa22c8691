//! Processing of a long sequence in chunks.

use core::ops::Range;

use burn::tensor::Tensor;
use burn::tensor::backend::Backend;

use crate::kernels::{ReformerBackend, Residual};

/// The ranges of a sequence's chunks, with their indices. `None` means a single chunk.
pub(crate) fn chunk_ranges(
    seq_length: usize,
    chunk_length: Option<usize>,
) -> impl Iterator<Item = (u64, Range<usize>)> {
    let length = chunk_length
        .unwrap_or(seq_length)
        .clamp(1, seq_length.max(1));
    (0..seq_length)
        .step_by(length)
        .map(move |start| start..(start + length).min(seq_length))
        .enumerate()
        .map(|(number, range)| (number as u64, range))
}

/// Applies a position-wise function to a sequence, at most `chunk_length` positions at a time, and
/// concatenates the results. The function also gets the index of the chunk.
///
/// # Shapes
/// - x: `[batch_size, seq_length, d]`
/// - output: `[batch_size, seq_length, last dimension of the function's result]`
///
/// ```
/// use burn::tensor::{Int, Tensor};
/// use burn_flex::Flex;
///
/// let x = Tensor::<Flex, 1, Int>::arange(0..5, &Default::default()).float().reshape([1, 5, 1]);
/// let y = reformer_core::in_chunks(x, Some(2), |chunk, x| x * 10 + chunk as f32);
/// assert_eq!(y.into_data().to_vec::<f32>().unwrap(), [0.0, 10.0, 21.0, 31.0, 42.0]);
/// ```
pub fn in_chunks<B: Backend>(
    x: Tensor<B, 3>,
    chunk_length: Option<usize>,
    function: impl FnMut(u64, Tensor<B, 3>) -> Tensor<B, 3>,
) -> Tensor<B, 3> {
    Tensor::cat(parts(x, chunk_length, function), 1)
}

/// A sequence that arrives in chunks. Each is written in its place: keeping and concatenating them
/// would take twice the memory.
pub(crate) struct Filling<B: ReformerBackend> {
    seq_length: usize,
    filled: Option<Tensor<B, 3>>,
}

impl<B: ReformerBackend> Filling<B> {
    pub(crate) fn new(seq_length: usize) -> Self {
        Self {
            seq_length,
            filled: None,
        }
    }

    /// Writes the positions of a range.
    ///
    /// # Shapes
    /// - chunk: `[batch_size, length of the range, d]`
    pub(crate) fn put(&mut self, positions: Range<usize>, chunk: Tensor<B, 3>) {
        let [batch_size, _, d] = chunk.dims();
        if positions.len() == self.seq_length {
            self.filled = Some(chunk);
            return;
        }
        let filled = self.filled.take().unwrap_or_else(|| {
            let options = (&chunk.device(), chunk.dtype());
            Tensor::zeros([batch_size, self.seq_length, d], options)
        });
        // Not `slice_assign`, for which flex copies the whole sequence for each chunk.
        let filled = B::residual_at(filled, positions.start, chunk, Residual::Add);
        self.filled = Some(filled);
    }

    /// The whole sequence, `[batch_size, seq_length, d]`; `None` if there was no chunk.
    pub(crate) fn finish(self) -> Option<Tensor<B, 3>> {
        self.filled
    }
}

/// As [`in_chunks`], without concatenating the results.
pub(crate) fn parts<B: Backend>(
    x: Tensor<B, 3>,
    chunk_length: Option<usize>,
    mut function: impl FnMut(u64, Tensor<B, 3>) -> Tensor<B, 3>,
) -> Vec<Tensor<B, 3>> {
    let seq_length = x.dims()[1];
    if chunk_length.is_none_or(|length| length >= seq_length) {
        return vec![function(0, x)];
    }
    chunk_ranges(seq_length, chunk_length)
        .map(|(number, range)| function(number, x.clone().slice_dim(1, range)))
        .collect()
}
