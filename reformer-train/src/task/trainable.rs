//! The loss of a model of this library on its kind of batch.

use burn::optim::GradientsParams;
use burn::tensor::backend::Backend;
use burn::tensor::{Int, Tensor};
use reformer_core::Pass;
use reformer_core::kernels::{ReformerBackend, TrainBackend};
use reformer_core::model::{Labels, Loss, LossOutput, Seq2SeqInput, Trainable};
use reformer_datasets::translation::PairBatch;

use crate::data::batch::Batch;
use crate::task::model::{ANOTHER, Model};
use crate::task::task_heads::column;

/// The model's input for a batch of pairs, and the targets.
fn read<B: Backend>(batch: PairBatch<B>) -> (Seq2SeqInput<B>, Tensor<B, 2, Int>) {
    let input = Seq2SeqInput {
        source: batch.source,
        source_mask_pad: Some(batch.source_mask_pad),
        inputs: batch.inputs,
        input_mask_pad: Some(batch.input_mask_pad),
    };
    (input, batch.targets)
}

/// Evaluates an expression with the model of this kind, and with batch and pass as that model takes them.
macro_rules! of_kind {
    ($any:expr, $batch:ident, $pass:ident, |$model:ident| $result:expr) => {
        match ($any, $batch) {
            (Model::Lm($model), Batch::Tokens(tokens)) => {
                let $batch = (tokens.tokens, tokens.targets);
                $result
            }
            (Model::Seq2Seq($model), Batch::Pairs(pairs)) => {
                let $batch = read(pairs);
                $result
            }
            (Model::Classifier($model), Batch::Labelled(rows)) => {
                let $pass = $pass.with_mask_pad(Some(rows.mask_pad));
                let $batch = (rows.tokens, Labels::Class(column(&rows.targets, 0)));
                $result
            }
            (Model::QuestionAnswering($model), Batch::Labelled(rows)) => {
                let $pass = $pass.with_mask_pad(Some(rows.mask_pad));
                let span = [0, 1].map(|end| column(&rows.targets, end));
                let $batch = (rows.tokens, span);
                $result
            }
            _ => panic!("{ANOTHER}"),
        }
    };
}

/// Panics if a batch is not for this kind of model.
impl<B: ReformerBackend> Loss<B> for Model<B> {
    type Batch = Batch<B>;

    fn loss(&self, batch: Batch<B>, pass: &Pass<B>) -> LossOutput<B> {
        let pass = pass.clone();
        of_kind!(self, batch, pass, |model| model.loss(batch, &pass))
    }
}

/// The same.
impl<B: TrainBackend> Trainable<B> for Model<B> {
    fn scaled_gradients(
        &self,
        batch: Batch<B>,
        pass: Pass<B>,
        scale: f64,
    ) -> (LossOutput<B::InnerBackend>, GradientsParams) {
        of_kind!(self, batch, pass, |model| {
            model.scaled_gradients(batch, pass, scale)
        })
    }
}
