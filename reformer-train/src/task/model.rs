//! The models that a run can train.

use burn::module::Module;
use burn::tensor::backend::Backend;
use reformer_core::model::{
    Reformer, ReformerClassifier, ReformerClassifierConfig, ReformerConfig, ReformerLm,
    ReformerLmConfig, ReformerQuestionAnswering, ReformerQuestionAnsweringConfig, ReformerSeq2Seq,
    ReformerSeq2SeqConfig,
};
use reformer_core::{ConfigError, Precision};
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use crate::error::TrainError;
use crate::task::own_config::OwnModelConfig;

/// Configuration of a model, written with its kind: `{"kind": "lm", "reformer": {..}, ..}`. Files of older
/// versions have no kind. It then follows from a setting that only one kind has: the cross-attention of the
/// decoder (`cross`), the number of classes (`n_classes`) or the maximum answer length (`max_answer_length`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", remote = "Self")]
pub enum ModelConfig {
    /// A language model.
    Lm(ReformerLmConfig),
    /// An encoder-decoder.
    #[serde(rename = "seq2seq")]
    Seq2Seq(ReformerSeq2SeqConfig),
    /// A classifier of texts.
    Classifier(ReformerClassifierConfig),
    /// A question answering model, which marks answer spans.
    QuestionAnswering(ReformerQuestionAnsweringConfig),
    /// A model of a program's own.
    Own(OwnModelConfig),
}

impl Serialize for ModelConfig {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Self::serialize(self, serializer)
    }
}

impl<'de> Deserialize<'de> for ModelConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut value = Value::deserialize(deserializer)?;
        add_kind(&mut value);
        let config = Self::deserialize(&value).map_err(D::Error::custom)?;
        match config.unknown_setting(&value) {
            Some(setting) => Err(D::Error::custom(format!(
                "`model.{setting}` is not a setting of {}: remove it, or change `model.kind`",
                config.name()
            ))),
            None => Ok(config),
        }
    }
}

/// Adds the kind to a model's configuration that an older version wrote.
fn add_kind(config: &mut Value) {
    let Some(settings) = config.as_object_mut() else {
        return;
    };
    let kinds = [
        ("cross", "seq2seq"),
        ("n_classes", "classifier"),
        ("max_answer_length", "question_answering"),
    ];
    let is_it = |(setting, _): &&(&str, &str)| settings.contains_key(*setting);
    let kind = kinds.iter().find(is_it).map_or("lm", |(_, kind)| kind);
    settings.entry("kind").or_insert_with(|| kind.into());
}

macro_rules! from {
    ($($kind:ident: $config:ty),*) => {
        $(impl From<$config> for ModelConfig {
            fn from(config: $config) -> Self {
                Self::$kind(config)
            }
        })*
    };
}

from! {
    Lm: ReformerLmConfig,
    Seq2Seq: ReformerSeq2SeqConfig,
    Classifier: ReformerClassifierConfig,
    QuestionAnswering: ReformerQuestionAnsweringConfig,
    Own: OwnModelConfig
}

/// Names of the kinds of models.
mod name {
    pub(crate) const LM: &str = "a language model";
    pub(crate) const SEQ2SEQ: &str = "an encoder-decoder";
    pub(crate) const CLASSIFIER: &str = "a classifier";
    pub(crate) const QUESTION_ANSWERING: &str = "a model that answers questions";
    pub(crate) const OWN: &str = "a model of a program's own";
}

impl ModelConfig {
    /// The first of some settings in JSON that this kind does not have, if there is one.
    fn unknown_setting<'a>(&self, settings: &'a Value) -> Option<&'a str> {
        let known = serde_json::to_value(self).ok()?;
        let mut settings = settings.as_object()?.iter();
        let is_unknown = |(name, value): &(&String, &Value)| {
            !value.is_null() && known.get(name.as_str()).is_none()
        };
        settings.find(is_unknown).map(|(name, _)| name.as_str())
    }

    /// A model with one layer, of the kind that settings in JSON name or imply; of an unknown kind, a language model.
    pub(crate) fn smallest(settings: &Value) -> Self {
        let mut settings = settings.clone();
        add_kind(&mut settings);
        let reformer = ReformerConfig::new(1, 1, 1);
        match settings.get("kind").and_then(Value::as_str) {
            Some("seq2seq") => ReformerSeq2SeqConfig::new(reformer).into(),
            Some("classifier") => ReformerClassifierConfig::new(reformer, 1).into(),
            Some("question_answering") => ReformerQuestionAnsweringConfig::new(reformer).into(),
            Some("own") => OwnModelConfig::new("", 1, &Value::Null).into(),
            _ => ReformerLmConfig::new(reformer).into(),
        }
    }

    /// The name of this kind of model, with an article.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Lm(_) => name::LM,
            Self::Seq2Seq(_) => name::SEQ2SEQ,
            Self::Classifier(_) => name::CLASSIFIER,
            Self::QuestionAnswering(_) => name::QUESTION_ANSWERING,
            Self::Own(_) => name::OWN,
        }
    }

    /// The stack, or the settings that both stacks share; `None` for a model of a program's own without one.
    pub fn stack(&self) -> Option<&ReformerConfig> {
        match self {
            Self::Lm(config) => Some(&config.reformer),
            Self::Seq2Seq(config) => Some(&config.reformer),
            Self::Classifier(config) => Some(&config.reformer),
            Self::QuestionAnswering(config) => Some(&config.reformer),
            Self::Own(config) => config.reformer.as_ref(),
        }
    }

    /// The same for models that have one.
    ///
    /// # Panics
    /// If there is no stack.
    pub fn reformer(&self) -> &ReformerConfig {
        self.stack().unwrap_or_else(|| panic!("{NO_STACK}"))
    }

    /// The same, mutable.
    ///
    /// # Panics
    /// If there is no stack.
    pub fn reformer_mut(&mut self) -> &mut ReformerConfig {
        match self {
            Self::Lm(config) => &mut config.reformer,
            Self::Seq2Seq(config) => &mut config.reformer,
            Self::Classifier(config) => &mut config.reformer,
            Self::QuestionAnswering(config) => &mut config.reformer,
            Self::Own(config) => config.reformer.as_mut().expect(NO_STACK),
        }
    }

    /// The configuration of a model of a program's own.
    ///
    /// # Errors
    /// [`TrainError::OtherModel`] if it is one of this library's.
    pub fn own(&self) -> Result<&OwnModelConfig, TrainError> {
        match self {
            Self::Own(config) => Ok(config),
            other => Err(TrainError::OtherModel {
                found: other.name(),
                wanted: name::OWN,
            }),
        }
    }

    /// Number of different tokens that the model reads.
    pub fn vocab_size(&self) -> usize {
        match self {
            Self::Own(config) => config.vocab_size,
            other => other.reformer().vocab_size,
        }
    }

    /// Number of positions of the model, if it is limited.
    pub(crate) fn max_length(&self) -> Option<usize> {
        self.stack()?.position.max_length()
    }

    /// The precision inside of the stack; that of the weights without one.
    pub(crate) fn precision(&self) -> Precision {
        let stack = self.stack();
        stack.map_or(Precision::Full, |stack| stack.precision)
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
            Self::Own(config) => config.validate(),
        }
    }

    /// Initialises the model.
    ///
    /// # Panics
    /// If the configuration is not [valid](Self::validate), or of a model of a program's own.
    pub fn init<B: Backend>(&self, device: &B::Device) -> Model<B> {
        match self {
            Self::Lm(config) => Model::Lm(config.init(device)),
            Self::Seq2Seq(config) => Model::Seq2Seq(config.init(device)),
            Self::Classifier(config) => Model::Classifier(config.init(device)),
            Self::QuestionAnswering(config) => Model::QuestionAnswering(config.init(device)),
            Self::Own(_) => panic!("only its program initialises {}", name::OWN),
        }
    }
}

/// A model of this library, which a run trains.
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
    /// Initialises the model of a configuration.
    ///
    /// # Errors
    /// [`TrainError::OtherModel`] if it is that of a program's own.
    pub(crate) fn of_library(config: &ModelConfig, device: &B::Device) -> Result<Self, TrainError> {
        match config {
            ModelConfig::Own(_) => Err(TrainError::OtherModel {
                found: name::OWN,
                wanted: "one of the library's models",
            }),
            config => Ok(config.init(device)),
        }
    }

    /// The name of this kind of model, with an article.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Lm(_) => name::LM,
            Self::Seq2Seq(_) => name::SEQ2SEQ,
            Self::Classifier(_) => name::CLASSIFIER,
            Self::QuestionAnswering(_) => name::QUESTION_ANSWERING,
        }
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

/// Defines a method for each kind of model that returns the model.
macro_rules! into_kind {
    ($($doc:literal $method:ident: $kind:ident($model:ident), $name:expr;)+) => {
        impl<B: Backend> Model<B> {
            $(
                #[doc = $doc]
                ///
                /// # Errors
                /// [`TrainError::OtherModel`] if it is of another kind.
                pub fn $method(self) -> Result<$model<B>, TrainError> {
                    match self {
                        Self::$kind(model) => Ok(model),
                        other => Err(TrainError::OtherModel {
                            found: other.name(),
                            wanted: $name,
                        }),
                    }
                }
            )+
        }
    };
}

into_kind! {
    "The language model." into_lm: Lm(ReformerLm), name::LM;
    "The encoder-decoder." into_seq2seq: Seq2Seq(ReformerSeq2Seq), name::SEQ2SEQ;
    "The classifier." into_classifier: Classifier(ReformerClassifier), name::CLASSIFIER;
    "The question answering model."
    into_question_answering: QuestionAnswering(ReformerQuestionAnswering), name::QUESTION_ANSWERING;
}

/// Panic message; the data of a run is checked against its model before it begins.
pub(crate) const ANOTHER: &str = "a batch is for another kind of model";
/// Panic message of [`ModelConfig::reformer`].
const NO_STACK: &str = "only a model of a program's own can be without a stack";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_contradict_the_kind_are_named() {
        let reformer = ReformerConfig::new(256, 32, 2);
        let lm = ModelConfig::from(ReformerLmConfig::new(reformer.clone()));
        let classifier = ModelConfig::from(ReformerClassifierConfig::new(reformer, 3));
        let mut json = serde_json::to_value(&lm).unwrap();
        let read = |json: &Value| serde_json::from_value::<ModelConfig>(json.clone());
        assert_eq!(read(&json).unwrap(), lm);
        json["n_classes"] = 3.into();
        let error = read(&json).unwrap_err();
        assert_eq!(
            error.to_string(),
            "`model.n_classes` is not a setting of a language model: remove it, or change `model.kind`"
        );

        let mut older = serde_json::to_value(&classifier).unwrap();
        let fields = older.as_object_mut().unwrap();
        fields.remove("kind").unwrap();
        assert_eq!(read(&older).unwrap(), classifier);
        older["labels"] = 3.into();
        let error = read(&older).unwrap_err().to_string();
        assert!(
            error.starts_with("`model.labels` is not a setting of a classifier"),
            "{error}"
        );
    }
}
