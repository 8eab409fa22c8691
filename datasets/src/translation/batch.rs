//! Pairs as tensors.

use burn::tensor::backend::Backend;
use burn::tensor::{Bool, Int, Tensor, TensorData};

use crate::sequences::IGNORED;
use crate::translation::pairs::TokenPairs;

/// A batch for a translation model: each row has a source, and its target as decoder input and as
/// prediction target.
///
/// Rows are padded at their end to the length of the longest row.
///
/// # Shapes
/// - source, source_mask_pad: `[batch_size, source_length]`
/// - inputs, targets, input_mask_pad: `[batch_size, target_length]`
#[derive(Clone, Debug)]
pub struct PairBatch<B: Backend> {
    /// The encoder's input: the source, the end token, padding.
    pub source: Tensor<B, 2, Int>,
    /// True where the source is padding.
    pub source_mask_pad: Tensor<B, 2, Bool>,
    /// The decoder's input: the begin token, the target, padding.
    pub inputs: Tensor<B, 2, Int>,
    /// The prediction targets: the target, the end token, and [`IGNORED`] at padding.
    pub targets: Tensor<B, 2, Int>,
    /// True where the inputs are padding.
    pub input_mask_pad: Tensor<B, 2, Bool>,
    /// Number of the pair in each row.
    pub pairs: Vec<usize>,
    /// Number of the batch, counted from the start of the run (in an evaluation: from its start).
    pub step: u64,
}

/// The rows of a [`PairBatch`] in memory.
#[derive(Debug)]
pub struct HostPairs {
    source: Padded,
    inputs: Padded,
    targets: Padded,
    pairs: Vec<usize>,
}

impl HostPairs {
    pub(super) fn read(all: &TokenPairs, pairs: Vec<usize>) -> Self {
        let [pad, bos, eos] = all.special().map(|piece| piece as i32);
        let rows = |row_of: &dyn Fn(usize) -> Vec<i32>, pad| {
            let rows = pairs.iter().map(|&pair| row_of(pair)).collect();
            Padded::new(rows, pad)
        };
        let source = |pair| numbers(all.get(pair).0, None, Some(eos));
        let inputs = |pair| numbers(all.get(pair).1, Some(bos), None);
        let targets = |pair| numbers(all.get(pair).1, None, Some(eos));
        Self {
            source: rows(&source, pad),
            inputs: rows(&inputs, pad),
            targets: rows(&targets, IGNORED),
            pairs,
        }
    }

    pub(super) fn into_batch<B: Backend>(self, step: u64, device: &B::Device) -> PairBatch<B> {
        let (source, source_mask_pad) = self.source.into_tensors(device);
        let (inputs, input_mask_pad) = self.inputs.into_tensors(device);
        let (targets, _) = self.targets.into_tensors(device);
        PairBatch {
            source,
            source_mask_pad,
            inputs,
            targets,
            input_mask_pad,
            pairs: self.pairs,
            step,
        }
    }
}

/// Pieces with optional tokens before and after them.
fn numbers(pieces: &[u32], before: Option<i32>, after: Option<i32>) -> Vec<i32> {
    let pieces = pieces.iter().map(|&piece| piece as i32);
    before.into_iter().chain(pieces).chain(after).collect()
}

/// Rows, padded to one length.
#[derive(Debug)]
struct Padded {
    elements: Vec<i32>,
    is_padding: Vec<bool>,
    shape: [usize; 2],
}

impl Padded {
    fn new(rows: Vec<Vec<i32>>, padding: i32) -> Self {
        let length = rows.iter().map(Vec::len).max().unwrap_or(0);
        let shape = [rows.len(), length];
        let mut elements = Vec::with_capacity(rows.len() * length);
        let mut is_padding = Vec::with_capacity(rows.len() * length);
        for row in rows {
            is_padding.extend((0..length).map(|i| i >= row.len()));
            elements.extend(row);
            elements.resize(is_padding.len(), padding);
        }
        Self {
            elements,
            is_padding,
            shape,
        }
    }

    fn into_tensors<B: Backend>(
        self,
        device: &B::Device,
    ) -> (Tensor<B, 2, Int>, Tensor<B, 2, Bool>) {
        let elements = TensorData::new(self.elements, self.shape);
        let is_padding = TensorData::new(self.is_padding, self.shape);
        (
            Tensor::from_data(elements, device),
            Tensor::from_data(is_padding, device),
        )
    }
}
