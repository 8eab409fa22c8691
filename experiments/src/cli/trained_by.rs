//! Which program trains which configuration.

use reformer_train::{DataConfig, ModelConfig, TrainConfig};

/// The name of the program that trains a configuration; none for models and data that another crate's program makes.
pub(crate) fn program_of(config: &TrainConfig) -> Option<&'static str> {
    match (&config.model, &config.data) {
        (ModelConfig::Own(_), _) | (_, DataConfig::Own(_)) => None,
        _ if config.masking.is_some() => Some("train_masked"),
        (ModelConfig::Seq2Seq(_), _) => Some("train_translation"),
        (ModelConfig::Classifier(_), _) => Some("train_classifier"),
        (ModelConfig::QuestionAnswering(_), _) => Some("train_qa"),
        (ModelConfig::Lm(_), DataConfig::Images { .. }) => Some("train_images"),
        (ModelConfig::Lm(_), DataConfig::Duplication { .. }) => Some("train_duplication"),
        (
            ModelConfig::Lm(_),
            DataConfig::AssociativeRecall { .. }
            | DataConfig::ReturningPassages { .. }
            | DataConfig::Needles { .. },
        ) => Some("train_recall"),
        (ModelConfig::Lm(_), _) => Some("train_text"),
    }
}
