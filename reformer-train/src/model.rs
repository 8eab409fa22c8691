//! The models that a run can train, and their batches.

use core::ops::Range;

use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::backend::{AutodiffBackend, Backend};
use burn::tensor::{Int, Tensor};
use reformer_core::kernels::ReformerBackend;
use reformer_core::model::{
    LmLoss, ReformerConfig, ReformerLm, ReformerLmConfig, ReformerSeq2Seq, ReformerSeq2SeqConfig,
    Seq2SeqInput,
};
use reformer_core::{ConfigError, Pass};
use reformer_datasets::LmBatch;
use reformer_datasets::translation::PairBatch;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};

use crate::error::TrainError;

/// Configuration of a model, written as that of the model itself: an encoder-decoder is one that says
/// how its decoder looks at the source (`cross`).
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum ModelConfig {
    /// A language model.
    Lm(ReformerLmConfig),
    /// An encoder-decoder.
    Seq2Seq(ReformerSeq2SeqConfig),
}

impl<'de> Deserialize<'de> for ModelConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = serde_json::Value::deserialize(deserializer)?;
        let config = match value.get("cross").is_some() {
            true => serde_json::from_value(value).map(Self::Seq2Seq),
            false => serde_json::from_value(value).map(Self::Lm),
        };
        config.map_err(D::Error::custom)
    }
}

impl From<ReformerLmConfig> for ModelConfig {
    fn from(config: ReformerLmConfig) -> Self {
        Self::Lm(config)
    }
}

impl From<ReformerSeq2SeqConfig> for ModelConfig {
    fn from(config: ReformerSeq2SeqConfig) -> Self {
        Self::Seq2Seq(config)
    }
}

impl ModelConfig {
    /// The stack, or what both stacks have in common.
    pub fn reformer(&self) -> &ReformerConfig {
        match self {
            Self::Lm(config) => &config.reformer,
            Self::Seq2Seq(config) => &config.reformer,
        }
    }

    /// The same, to be changed.
    pub fn reformer_mut(&mut self) -> &mut ReformerConfig {
        match self {
            Self::Lm(config) => &mut config.reformer,
            Self::Seq2Seq(config) => &mut config.reformer,
        }
    }

    /// Checks every setting.
    ///
    /// # Errors
    /// The first setting that cannot work.
    pub fn validate(&self) -> Result<(), ConfigError> {
        match self {
            Self::Lm(config) => config.validate(),
            Self::Seq2Seq(config) => config.validate(),
        }
    }

    /// Initialises the model.
    ///
    /// # Panics
    /// If the configuration is not [valid](Self::validate).
    pub fn init<B: Backend>(&self, device: &B::Device) -> Model<B> {
        match self {
            Self::Lm(config) => Model::Lm(config.init(device)),
            Self::Seq2Seq(config) => Model::Seq2Seq(config.init(device)),
        }
    }
}

/// A model that a run trains.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant)] // There is one, and boxes are no modules.
pub enum Model<B: Backend> {
    /// A language model.
    Lm(ReformerLm<B>),
    /// An encoder-decoder.
    Seq2Seq(ReformerSeq2Seq<B>),
}

impl<B: Backend> Model<B> {
    /// The language model.
    ///
    /// # Errors
    /// [`TrainError::OtherModel`] if it is an encoder-decoder.
    pub fn into_lm(self) -> Result<ReformerLm<B>, TrainError> {
        match self {
            Self::Lm(model) => Ok(model),
            Self::Seq2Seq(_) => Err(TrainError::OtherModel {
                found: "an encoder-decoder",
                wanted: "a language model",
            }),
        }
    }

    /// The encoder-decoder.
    ///
    /// # Errors
    /// [`TrainError::OtherModel`] if it is a language model.
    pub fn into_seq2seq(self) -> Result<ReformerSeq2Seq<B>, TrainError> {
        match self {
            Self::Seq2Seq(model) => Ok(model),
            Self::Lm(_) => Err(TrainError::OtherModel {
                found: "a language model",
                wanted: "an encoder-decoder",
            }),
        }
    }
}

/// What a training step learns from.
#[derive(Debug, Clone)]
pub enum Batch<B: Backend> {
    /// For a language model.
    Tokens(LmBatch<B>),
    /// For an encoder-decoder.
    Pairs(PairBatch<B>),
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

impl<B: Backend> Batch<B> {
    /// Number of the batch, counted from the start of the run (in an evaluation: from its start).
    pub fn step(&self) -> u64 {
        match self {
            Self::Tokens(batch) => batch.step,
            Self::Pairs(batch) => batch.step,
        }
    }

    /// What is to be predicted, below zero where nothing is: `[batch_size, target_length]`.
    pub fn targets(&self) -> &Tensor<B, 2, Int> {
        match self {
            Self::Tokens(batch) => &batch.targets,
            Self::Pairs(batch) => &batch.targets,
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
        }
    }
}

/// What the model reads of a batch of pairs, and what it is to predict.
fn read<B: Backend>(batch: PairBatch<B>) -> (Seq2SeqInput<B>, Tensor<B, 2, Int>) {
    let input = Seq2SeqInput {
        source: batch.source,
        source_mask_pad: Some(batch.source_mask_pad),
        inputs: batch.inputs,
        input_mask_pad: Some(batch.input_mask_pad),
    };
    (input, batch.targets)
}

impl<B: ReformerBackend> Model<B> {
    /// Mean loss of a batch, without gradients.
    ///
    /// # Panics
    /// If the batch is not for this model.
    pub fn loss(&self, batch: Batch<B>, pass: &Pass<B>) -> LmLoss<B> {
        match (self, batch) {
            (Self::Lm(model), Batch::Tokens(batch)) => {
                model.loss(batch.tokens, batch.targets, pass)
            }
            (Self::Seq2Seq(model), Batch::Pairs(batch)) => {
                let (input, targets) = read(batch);
                model.loss(input, targets, pass)
            }
            _ => panic!("{ANOTHER}"),
        }
    }
}

impl<A> Model<A>
where
    A: AutodiffBackend + ReformerBackend,
    A::InnerBackend: ReformerBackend,
{
    /// Mean loss of a batch, and the gradients of all parameters, multiplied by `scale`.
    ///
    /// # Panics
    /// If the batch is not for this model.
    pub fn scaled_gradients(
        &self,
        batch: Batch<A>,
        pass: Pass<A>,
        scale: f64,
    ) -> (LmLoss<A::InnerBackend>, GradientsParams) {
        match (self, batch) {
            (Self::Lm(model), Batch::Tokens(batch)) => {
                model.scaled_gradients(batch.tokens, batch.targets, pass, scale)
            }
            (Self::Seq2Seq(model), Batch::Pairs(batch)) => {
                let (input, targets) = read(batch);
                model.scaled_gradients(input, targets, pass, scale)
            }
            _ => panic!("{ANOTHER}"),
        }
    }
}

/// The data of a run is checked against its model before it begins.
const ANOTHER: &str = "a batch is for another kind of model";
