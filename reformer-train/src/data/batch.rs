//! The batch of a training step.

use core::ops::Range;

use burn::tensor::backend::Backend;
use burn::tensor::{Int, Tensor};
use reformer_datasets::LmBatch;
use reformer_datasets::labelled::LabelledBatch;
use reformer_datasets::translation::PairBatch;

/// The batch of a training step.
#[derive(Debug, Clone)]
pub enum Batch<B: Backend> {
    /// For a language model.
    Tokens(LmBatch<B>),
    /// For an encoder-decoder.
    Pairs(PairBatch<B>),
    /// For a model with a head.
    Labelled(LabelledBatch<B>),
}

impl<B: Backend> From<LmBatch<B>> for Batch<B> {
    fn from(batch: LmBatch<B>) -> Self {
        Self::Tokens(batch)
    }
}

impl<B: Backend> From<PairBatch<B>> for Batch<B> {
    fn from(batch: PairBatch<B>) -> Self {
        Self::Pairs(batch)
    }
}

impl<B: Backend> From<LabelledBatch<B>> for Batch<B> {
    fn from(batch: LabelledBatch<B>) -> Self {
        Self::Labelled(batch)
    }
}

impl<B: Backend> Batch<B> {
    /// The batch of a language model.
    ///
    /// # Panics
    /// If it is for another kind of model.
    pub fn into_tokens(self) -> LmBatch<B> {
        match self {
            Self::Tokens(batch) => batch,
            _ => panic!("the data of this run is not for a model that reads tokens alone"),
        }
    }

    /// Number of the batch, counted from the start of the run (in an evaluation: from its start).
    pub fn step(&self) -> u64 {
        match self {
            Self::Tokens(batch) => batch.step,
            Self::Pairs(batch) => batch.step,
            Self::Labelled(batch) => batch.step,
        }
    }

    /// The targets, negative at positions without one: `[batch_size, target_length]`.
    pub fn targets(&self) -> &Tensor<B, 2, Int> {
        match self {
            Self::Tokens(batch) => &batch.targets,
            Self::Pairs(batch) => &batch.targets,
            Self::Labelled(batch) => &batch.targets,
        }
    }

    /// The same batch on another device.
    pub fn to_device(self, device: &B::Device) -> Self {
        match self {
            Self::Tokens(batch) => Self::Tokens(LmBatch {
                tokens: batch.tokens.to_device(device),
                targets: batch.targets.to_device(device),
                step: batch.step,
            }),
            Self::Pairs(batch) => Self::Pairs(PairBatch {
                source: batch.source.to_device(device),
                source_mask_pad: batch.source_mask_pad.to_device(device),
                inputs: batch.inputs.to_device(device),
                input_mask_pad: batch.input_mask_pad.to_device(device),
                targets: batch.targets.to_device(device),
                ..batch
            }),
            Self::Labelled(batch) => Self::Labelled(LabelledBatch {
                tokens: batch.tokens.to_device(device),
                mask_pad: batch.mask_pad.to_device(device),
                targets: batch.targets.to_device(device),
                ..batch
            }),
        }
    }

    /// Some rows of the batch.
    pub fn rows(&self, rows: Range<usize>) -> Self {
        macro_rules! rows {
            ($($tensor:expr),*) => { ($($tensor.clone().slice_dim(0, rows.clone())),*) };
        }
        match self {
            Self::Tokens(batch) => {
                let (tokens, targets) = rows!(batch.tokens, batch.targets);
                let step = batch.step;
                Self::Tokens(LmBatch {
                    tokens,
                    targets,
                    step,
                })
            }
            Self::Pairs(batch) => {
                let (source, source_mask_pad) = rows!(batch.source, batch.source_mask_pad);
                let (inputs, input_mask_pad) = rows!(batch.inputs, batch.input_mask_pad);
                Self::Pairs(PairBatch {
                    source,
                    source_mask_pad,
                    inputs,
                    input_mask_pad,
                    targets: rows!(batch.targets),
                    pairs: batch.pairs[rows].to_vec(),
                    step: batch.step,
                })
            }
            Self::Labelled(batch) => {
                let (tokens, mask_pad) = rows!(batch.tokens, batch.mask_pad);
                Self::Labelled(LabelledBatch {
                    tokens,
                    mask_pad,
                    targets: rows!(batch.targets),
                    rows: batch.rows[rows].to_vec(),
                    step: batch.step,
                })
            }
        }
    }
}
