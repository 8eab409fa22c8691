//! Errors of models that take and give text.

use std::io;
use std::num::ParseIntError;
use std::path::PathBuf;
use std::str::Utf8Error;

use reformer_core::ConfigError;
use reformer_core::generation::GenerationError;
use reformer_core::huggingface::HuggingFaceError;
use reformer_datasets::{DatasetError, shown};
use thiserror::Error;

use crate::error::TrainError;

/// Most texts that are continued at a time.
pub(super) const MOST_ROWS: usize = 1 << 16;

/// Why a trained model cannot be used on a text. Each message is one line, with the way out; its causes are
/// [sources](std::error::Error::source).
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum InferenceError {
    /// A folder whose model cannot be used.
    #[error(transparent)]
    Model(#[from] TrainError),

    /// A request that the model cannot fulfil.
    #[error(transparent)]
    Generation(#[from] GenerationError),

    /// A tokenizer that cannot be read, or that does not know a character.
    #[error(transparent)]
    Data(#[from] DatasetError),

    /// A setting that cannot work.
    #[error(transparent)]
    Config(#[from] ConfigError),

    /// A model whose tokens are not those of a text.
    #[error(
        "the model in `{}` does not continue texts: name one that was trained to predict the next token of a text",
        path.display()
    )]
    NotOfText {
        /// Its folder.
        path: PathBuf,
    },

    /// More continuations than any memory holds.
    #[error(
        "{0} continuations are asked for, but there can be at most {MOST_ROWS}: ask for fewer at a time"
    )]
    TooManyRows(usize),

    /// A Hugging Face folder without the file of its tokenizer.
    #[error(
        "`{}` has no spiece.model or tokenizer.json, and {vocab_size} tokens are not bytes (256, or 258 with \
         two reserved ones): put the tokenizer's file there",
        path.display()
    )]
    NoTokenizer {
        /// The folder.
        path: PathBuf,
        /// Number of different tokens of its model.
        vocab_size: usize,
    },

    /// Bytes for a model whose tokens are pieces of characters.
    #[error("the model's tokens are pieces of UTF-8, and this text is not UTF-8: convert it first")]
    NotUtf8(#[from] Utf8Error),

    /// A word for a model whose tokens are ids without a tokenizer.
    #[error(
        "`{}` is not the number of a token: this model was trained on ids without their tokenizer, so give \
         ids, such as `464 3290`, or train one with the tokenizer",
        shown(text)
    )]
    NotAnId {
        /// The word.
        text: String,
        /// Why it is not a number.
        #[source]
        source: ParseIntError,
    },

    /// A token that is too large for the rows of a classifier or a model that answers questions.
    #[error(
        "token {token} is above {}, the largest that is read: use a tokenizer of at most 65,536 entries",
        u16::MAX
    )]
    LargeToken {
        /// The token.
        token: u32,
    },

    /// A text that cannot become tokens.
    #[error("{what} cannot be read")]
    Text {
        /// Which one, such as `prompt 1` or the name of a file.
        what: String,
        /// The reason.
        #[source]
        source: Box<InferenceError>,
    },

    /// No continuations were requested.
    #[error("0 continuations are too few: ask for at least 1")]
    NoSamples,

    /// A sentence that is longer than a model translates.
    #[error(
        "{n_pieces} pieces, end token included, are more than the {limit} that the model has positions for: split \
         the sentence"
    )]
    LongSentence {
        /// Its number of pieces.
        n_pieces: usize,
        /// The largest number.
        limit: usize,
    },

    /// A text without tokens, to be classified or asked about.
    #[error("a text is empty, so there is nothing to read: give at least 1 character")]
    EmptyText,

    /// A text in another form than that of the task on which a classifier was trained.
    #[error("the task `{task}` cannot read `{}`: {reason}", shown(text))]
    OtherForm {
        /// The task of the Long Range Arena.
        task: &'static str,
        /// The text.
        text: String,
        /// What is wrong with it.
        reason: String,
    },

    /// The names of classes in a Hugging Face folder.
    #[error(
        "the labels in `{}` cannot be read: `id2label` has to name each class by its number",
        path.display()
    )]
    Labels {
        /// The file.
        path: PathBuf,
        /// Why they cannot be read.
        #[source]
        source: io::Error,
    },

    /// A Hugging Face model that is not a causal language model.
    #[error("the model in `{}` {reason}", path.display())]
    NotMeasurable {
        /// Its folder.
        path: PathBuf,
        /// Its kind, and what is needed.
        reason: &'static str,
    },

    /// A text that is too long to be split into tokens at once.
    #[error("of {n_bytes} bytes at most {limit} can become tokens at once: measure a part of them")]
    LargeText {
        /// Its bytes.
        n_bytes: usize,
        /// The largest number.
        limit: usize,
    },

    /// A text that is shorter than a window.
    #[error(
        "`{}` has {n_tokens} tokens, but a window of {length} needs {}: choose a longer text{}",
        path.display(),
        length + 1,
        if *length > 1 { ", or lower `length`" } else { "" }
    )]
    ShortText {
        /// The file or folder.
        path: PathBuf,
        /// Its tokens.
        n_tokens: usize,
        /// Tokens of a window.
        length: usize,
    },
}

impl From<HuggingFaceError> for InferenceError {
    fn from(error: HuggingFaceError) -> Self {
        Self::Model(error.into())
    }
}

impl InferenceError {
    /// Names the text that an error is about.
    pub(super) fn of(what: impl Into<String>) -> impl FnOnce(Self) -> Self {
        move |source| Self::Text {
            what: what.into(),
            source: Box::new(source),
        }
    }
}
