//! Errors of generation.

use thiserror::Error;

use crate::error::ConfigError;

/// Why a sequence cannot be continued. Each message is one line with the value, the limit and a
/// remedy.
#[derive(Debug, Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum GenerationError {
    /// There are no prompts.
    #[error("there are no prompts: give at least one")]
    NoPrompts,
    /// A prompt without tokens.
    #[error("prompt {} is empty: give at least one token", number + 1)]
    EmptyPrompt {
        /// Index of the prompt, from 0.
        number: usize,
    },
    /// No tokens were requested.
    #[error("0 tokens were asked for: ask for at least 1")]
    NoTokens,
    /// A token outside of the vocabulary.
    #[error(
        "token {token} is outside of the vocabulary of {vocab_size}: the tokenizer must be that of the model"
    )]
    Token {
        /// The token.
        token: u32,
        /// Number of different tokens.
        vocab_size: usize,
    },
    /// More tokens than the model has positions for, or than the cache can hold.
    #[error(
        "{length} tokens are more than the {limit} that {what}: shorten the prompt or ask for fewer"
    )]
    TooLong {
        /// Requested number of tokens.
        length: usize,
        /// Maximum number of tokens.
        limit: usize,
        /// Source of the limit.
        what: &'static str,
    },
    /// The model is not causal.
    #[error("the model sees both directions and cannot generate text: use a causal one")]
    NotCausal,
    /// Logits that contain NaN, or of which none is finite.
    #[error("the model's logits are not finite: its training diverged, lower the learning rate")]
    NotFinite,
    /// A setting that cannot work.
    #[error(transparent)]
    Config(#[from] ConfigError),
}
