//! Outputs of task heads for the sequences of a batch.

use burn::tensor::backend::Backend;
use burn::tensor::{Int, Tensor};
use reformer_core::Pass;
use reformer_core::kernels::ReformerBackend;
use reformer_core::model::{Labels, LossOutput, SpanLogits};
use reformer_datasets::labelled::LabelledBatch;

use crate::task::model::{ANOTHER, Model};

/// Outputs of a task head for the sequences of a batch.
#[derive(Debug, Clone)]
pub enum HeadLogits<B: Backend> {
    /// Logits of classes: `[batch_size, n_classes]`.
    Classes(Tensor<B, 2>),
    /// Logits of the start and end of answers; masked at padding.
    Spans(SpanLogits<B>),
}

impl<B: Backend> HeadLogits<B> {
    /// Mean loss of targets.
    ///
    /// # Shapes
    /// - targets: `[batch_size, n_targets]`, one for a class and two for an answer
    pub fn loss(self, targets: &Tensor<B, 2, Int>) -> LossOutput<B> {
        match self {
            Self::Classes(logits) => Labels::Class(column(targets, 0)).loss(logits),
            Self::Spans(logits) => logits.loss(column(targets, 0), column(targets, 1)),
        }
    }
}

/// One target of each row: `[batch_size]`.
pub(super) fn column<B: Backend>(targets: &Tensor<B, 2, Int>, number: usize) -> Tensor<B, 1, Int> {
    let column = targets.clone().slice_dim(1, number..number + 1);
    column.squeeze_dim(1)
}

impl<B: ReformerBackend> Model<B> {
    /// The outputs of the task head for a batch.
    ///
    /// # Panics
    /// If the model has no head.
    pub fn head_logits(&self, batch: &LabelledBatch<B>, pass: &Pass<B>) -> HeadLogits<B> {
        let mask_pad = Some(batch.mask_pad.clone());
        let pass = pass.clone().with_mask_pad(mask_pad.clone());
        let tokens = batch.tokens.clone();
        match self {
            Self::Classifier(model) => HeadLogits::Classes(model.forward(tokens, &pass)),
            Self::QuestionAnswering(model) => {
                let logits = model.forward(tokens, &pass);
                HeadLogits::Spans(logits.without_padding(mask_pad))
            }
            Self::Lm(_) | Self::Seq2Seq(_) => panic!("{ANOTHER}"),
        }
    }
}
