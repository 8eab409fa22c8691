//! The models that a run can train.

use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::backend::Backend;
use burn::tensor::{Int, Tensor};
use reformer_core::kernels::{ReformerBackend, TrainBackend};
use reformer_core::model::{
    LmLoss, Reformer, ReformerClassifier, ReformerClassifierConfig, ReformerConfig, ReformerLm,
    ReformerLmConfig, ReformerQuestionAnswering, ReformerQuestionAnsweringConfig, ReformerSeq2Seq,
    ReformerSeq2SeqConfig, Seq2SeqInput,
};
use reformer_core::{ConfigError, Pass};
use reformer_datasets::translation::PairBatch;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};

use crate::data::batch::Batch;
use crate::error::TrainError;

/// Configuration of a model, written like that of the model itself. The kind follows from a setting that only
/// one kind has: the cross-attention of the decoder (`cross`), the number of classes (`n_classes`) or
/// the maximum answer length (`max_answer_length`).
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum ModelConfig {
    /// A language model.
    Lm(ReformerLmConfig),
    /// An encoder-decoder.
    Seq2Seq(ReformerSeq2SeqConfig),
    /// A classifier of texts.
    Classifier(ReformerClassifierConfig),
    /// A question answering model, which marks answer spans.
    QuestionAnswering(ReformerQuestionAnsweringConfig),
}

impl<'de> Deserialize<'de> for ModelConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = serde_json::Value::deserialize(deserializer)?;
        let has = |setting: &str| value.get(setting).is_some();
        let config = if has("cross") {
            serde_json::from_value(value).map(Self::Seq2Seq)
        } else if has("n_classes") {
            serde_json::from_value(value).map(Self::Classifier)
        } else if has("max_answer_length") {
            serde_json::from_value(value).map(Self::QuestionAnswering)
        } else {
            serde_json::from_value(value).map(Self::Lm)
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

impl From<ReformerClassifierConfig> for ModelConfig {
    fn from(config: ReformerClassifierConfig) -> Self {
        Self::Classifier(config)
    }
}

impl From<ReformerQuestionAnsweringConfig> for ModelConfig {
    fn from(config: ReformerQuestionAnsweringConfig) -> Self {
        Self::QuestionAnswering(config)
    }
}

/// Names of the kinds of models.
mod name {
    pub(crate) const LM: &str = "a language model";
    pub(crate) const SEQ2SEQ: &str = "an encoder-decoder";
    pub(crate) const CLASSIFIER: &str = "a classifier";
    pub(crate) const QUESTION_ANSWERING: &str = "a model that answers questions";
}

impl ModelConfig {
    /// The name of this kind of model, with an article.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Lm(_) => name::LM,
            Self::Seq2Seq(_) => name::SEQ2SEQ,
            Self::Classifier(_) => name::CLASSIFIER,
            Self::QuestionAnswering(_) => name::QUESTION_ANSWERING,
        }
    }

    /// The stack, or the settings that both stacks share.
    pub fn reformer(&self) -> &ReformerConfig {
        match self {
            Self::Lm(config) => &config.reformer,
            Self::Seq2Seq(config) => &config.reformer,
            Self::Classifier(config) => &config.reformer,
            Self::QuestionAnswering(config) => &config.reformer,
        }
    }

    /// The same, mutable.
    pub fn reformer_mut(&mut self) -> &mut ReformerConfig {
        match self {
            Self::Lm(config) => &mut config.reformer,
            Self::Seq2Seq(config) => &mut config.reformer,
            Self::Classifier(config) => &mut config.reformer,
            Self::QuestionAnswering(config) => &mut config.reformer,
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
            Self::Classifier(config) => config.validate(),
            Self::QuestionAnswering(config) => config.validate(),
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
            Self::Classifier(config) => Model::Classifier(config.init(device)),
            Self::QuestionAnswering(config) => Model::QuestionAnswering(config.init(device)),
        }
    }
}

/// A model that a run trains.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant)] // There is only one such value, and boxes are not modules.
pub enum Model<B: Backend> {
    /// A language model.
    Lm(ReformerLm<B>),
    /// An encoder-decoder.
    Seq2Seq(ReformerSeq2Seq<B>),
    /// A classifier of texts.
    Classifier(ReformerClassifier<B>),
    /// A question answering model, which marks answer spans.
    QuestionAnswering(ReformerQuestionAnswering<B>),
}

impl<B: Backend> Model<B> {
    /// The name of this kind of model, with an article.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Lm(_) => name::LM,
            Self::Seq2Seq(_) => name::SEQ2SEQ,
            Self::Classifier(_) => name::CLASSIFIER,
            Self::QuestionAnswering(_) => name::QUESTION_ANSWERING,
        }
    }

    /// The language model.
    ///
    /// # Errors
    /// [`TrainError::OtherModel`] if it is of another kind.
    pub fn into_lm(self) -> Result<ReformerLm<B>, TrainError> {
        match self {
            Self::Lm(model) => Ok(model),
            other => Err(other.instead_of(name::LM)),
        }
    }

    /// The encoder-decoder.
    ///
    /// # Errors
    /// [`TrainError::OtherModel`] if it is of another kind.
    pub fn into_seq2seq(self) -> Result<ReformerSeq2Seq<B>, TrainError> {
        match self {
            Self::Seq2Seq(model) => Ok(model),
            other => Err(other.instead_of(name::SEQ2SEQ)),
        }
    }

    /// The classifier.
    ///
    /// # Errors
    /// [`TrainError::OtherModel`] if it is of another kind.
    pub fn into_classifier(self) -> Result<ReformerClassifier<B>, TrainError> {
        match self {
            Self::Classifier(model) => Ok(model),
            other => Err(other.instead_of(name::CLASSIFIER)),
        }
    }

    /// The question answering model.
    ///
    /// # Errors
    /// [`TrainError::OtherModel`] if it is of another kind.
    pub fn into_question_answering(self) -> Result<ReformerQuestionAnswering<B>, TrainError> {
        match self {
            Self::QuestionAnswering(model) => Ok(model),
            other => Err(other.instead_of(name::QUESTION_ANSWERING)),
        }
    }

    fn instead_of(&self, wanted: &'static str) -> TrainError {
        let found = self.name();
        TrainError::OtherModel { found, wanted }
    }

    /// The stack, if the model has a single one.
    pub(crate) fn reformer(&self) -> Option<&Reformer<B>> {
        match self {
            Self::Lm(model) => Some(&model.reformer),
            Self::Classifier(model) => Some(&model.reformer),
            Self::QuestionAnswering(model) => Some(&model.reformer),
            Self::Seq2Seq(_) => None,
        }
    }
}

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
            (model, Batch::Labelled(batch)) => model.head_logits(&batch, pass).loss(&batch.targets),
            _ => panic!("{ANOTHER}"),
        }
    }
}

impl<A: TrainBackend> Model<A> {
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
            (model, Batch::Labelled(batch)) => model.head_gradients(batch, pass, scale),
            _ => panic!("{ANOTHER}"),
        }
    }
}

/// Panic message; the data of a run is checked against its model before it begins.
pub(crate) const ANOTHER: &str = "a batch is for another kind of model";
