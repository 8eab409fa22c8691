//! Working on a long sequence piece by piece.

use core::ops::Range;

use burn::tensor::Tensor;
use burn::tensor::backend::Backend;

/// The ranges of a sequence's chunks, numbered. `None` is one chunk.
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
/// joins the results. The function also gets the number of the chunk.
///
/// # Shapes
/// - x: `[batch_size, seq_length, d]`
/// - output: `[batch_size, seq_length, whatever the function gives]`
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

/// As [`in_chunks`], with the results left apart.
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
