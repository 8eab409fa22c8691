//! Converts texts to tokens of a model with a task head.

use std::path::Path;

use burn::data::dataloader::DataLoader;
use reformer_core::kernels::ReformerBackend;
use reformer_datasets::EvalLoaderConfig;
use reformer_datasets::labelled::{LabelledBatch, LabelledRows};

use super::codec::Codec;
use super::error::InferenceError;

/// A conversion of texts to tokens.
#[derive(Debug)]
pub(super) enum Reading {
    /// As in the training of a run: bytes after a begin token, at most this many tokens in all.
    Run(usize),
    /// As Hugging Face does it, at most as many tokens as the model has positions.
    HuggingFace { codec: Codec, max_length: usize },
}

impl Reading {
    /// The conversion of a Hugging Face folder.
    ///
    /// # Errors
    /// A vocabulary that is not known.
    pub(super) fn of_folder(
        folder: &Path,
        vocab_size: usize,
        max_length: Option<usize>,
    ) -> Result<Self, InferenceError> {
        Ok(Self::HuggingFace {
            codec: Codec::of_folder(folder, vocab_size)?,
            max_length: max_length.unwrap_or(usize::MAX),
        })
    }

    /// Whether texts that are read together are longer than the model reads.
    pub(super) fn is_cut(&self, texts: &[&str]) -> bool {
        match self {
            Self::Run(max_length) => {
                let with_token = |text: &&str| text.len() + 1;
                texts.iter().map(with_token).sum::<usize>() > *max_length
            }
            Self::HuggingFace { codec, max_length } => {
                let length = |text: &&str| codec.encode(text).map_or(0, |tokens| tokens.len());
                texts.iter().map(length).sum::<usize>() > *max_length
            }
        }
    }
}

/// The tokens of a text, at most `most`.
///
/// # Errors
/// A text with characters that have no piece, or a vocabulary that is too large.
pub(super) fn tokens(codec: &Codec, text: &str, most: usize) -> Result<Vec<u16>, InferenceError> {
    let tokens = codec.encode(text)?.into_iter().take(most);
    let small = |token| u16::try_from(token).map_err(|_| InferenceError::LargeToken { token });
    tokens.map(small).collect()
}

/// All rows as one batch; none if there are no rows.
pub(super) fn one_batch<B: ReformerBackend>(
    rows: &LabelledRows,
    device: &B::Device,
) -> Result<Option<LabelledBatch<B>>, InferenceError> {
    if rows.is_empty() {
        return Ok(None);
    }
    let loader = EvalLoaderConfig::new(1, rows.len()).init_labelled::<B>(rows, device)?;
    Ok(DataLoader::iter(&loader).next())
}
