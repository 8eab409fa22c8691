//! The configuration of a model that a program makes itself.

use reformer_core::ConfigError;
use reformer_core::model::ReformerConfig;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Configuration of a model of a program's own, for [`ModelConfig::Own`](crate::ModelConfig::Own): what a run
/// has to know, and all else as the program wants it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OwnModelConfig {
    /// Its name.
    pub name: String,
    /// Number of different tokens that it reads.
    pub vocab_size: usize,
    /// The stack, if the model has a [`Reformer`](reformer_core::model::Reformer). The run then checks its
    /// settings, measures it, and scales the loss if its precision requires that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reformer: Option<ReformerConfig>,
    /// All other settings.
    pub settings: Value,
}

impl OwnModelConfig {
    /// A model with these settings.
    ///
    /// # Panics
    /// If the settings cannot be written as JSON.
    pub fn new(name: impl Into<String>, vocab_size: usize, settings: &impl Serialize) -> Self {
        let settings = serde_json::to_value(settings);
        Self {
            name: name.into(),
            vocab_size,
            reformer: None,
            settings: settings.unwrap_or_else(|error| panic!("settings are plain data: {error}")),
        }
    }

    /// The same with a stack.
    pub fn with_reformer(mut self, reformer: ReformerConfig) -> Self {
        self.reformer = Some(reformer);
        self
    }

    /// The settings as they were given.
    ///
    /// # Errors
    /// Settings of another model.
    pub fn settings<C: DeserializeOwned>(&self) -> Result<C, ConfigError> {
        C::deserialize(&self.settings).map_err(|error| {
            ConfigError::new(
                "model.settings",
                &self.settings,
                format!("they are not those of this model: {error}"),
                "open the run with the program that made it",
            )
        })
    }

    /// Checks what the run knows of the model.
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        let n = self.vocab_size;
        let refused = |value: usize, limit: String| {
            Err(ConfigError::new("vocab_size", value, limit, "raise it"))
        };
        match &self.reformer {
            _ if n == 0 => refused(n, "it must be at least 1".to_owned()),
            Some(stack) if stack.vocab_size < n => {
                refused(stack.vocab_size, format!("the model reads {n} tokens"))
            }
            Some(stack) => stack.validate(),
            None => Ok(()),
        }
    }
}
