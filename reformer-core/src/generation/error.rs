//! Why a model cannot go on.

use thiserror::Error;

use crate::error::ConfigError;

/// Why a sequence cannot be continued. Each message is one line with the value, the limit and the
/// way out.
#[derive(Debug, Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum GenerationError {
    /// There is nothing to continue.
    #[error("there are no prompts: give at least one")]
    NoPrompts,
    /// A prompt without tokens.
    #[error("prompt {} is empty, and a model continues something: give at least 1 token", number + 1)]
    EmptyPrompt {
        /// Which one, from 0 up.
        number: usize,
    },
    /// Nothing was asked for.
    #[error("0 tokens were asked for: ask for at least 1")]
    NoTokens,
    /// A token that the model does not know.
    #[error(
        "token {token} is outside of the vocabulary of {vocab_size}: the tokenizer must be that of the model"
    )]
    Token {
        /// The token.
        token: u32,
        /// Number of different tokens.
        vocab_size: usize,
    },
    /// More tokens than there are positions, or than there is room for.
    #[error(
        "{length} tokens are more than the {limit} that {what}: shorten the prompt or ask for fewer"
    )]
    TooLong {
        /// Tokens that there would be.
        length: usize,
        /// Tokens that there can be.
        limit: usize,
        /// What sets the limit.
        what: &'static str,
    },
    /// A model in which positions see later ones.
    #[error("the model is not causal: a model that sees both sides cannot continue anything")]
    NotCausal,
    /// Logits that are no numbers.
    #[error("the model's weights are not finite: its training diverged, lower the learning rate")]
    NotFinite,
    /// A setting that cannot work.
    #[error(transparent)]
    Config(#[from] ConfigError),
}
