//! Evaluation of Hugging Face's language models on texts.

use std::path::Path;
use std::sync::Arc;

use reformer_core::ConfigError;
use reformer_core::generation::GenerationError;
use reformer_core::huggingface::{self, Head};
use reformer_core::kernels::ReformerBackend;
use reformer_core::model::{ReformerLm, ReformerLmConfig};
use reformer_datasets::{ByteCorpus, Sequences};

use super::codec::Codec;
use super::error::InferenceError;
use crate::config::TrainConfig;
use crate::data::{DataConfig, open_text};
use crate::evaluation::Evaluation;
use crate::run::check_finite;
use crate::task::model::Model;

/// Tokens that are computed at a time, unless a window has more: those of a step by default.
const TOKENS_AT_ONCE: usize = 8 * 512;
/// Largest number of tokens of a window, and of bytes that become tokens at once; more would fit in no memory.
const MOST_TOKENS: usize = 1 << 24;

/// Opens the language model of a Hugging Face folder, and a file or a folder of files as its text, which becomes tokens as
/// in generation. Windows have `length` tokens, or else as many as the model has positions for, or the text tokens.
///
/// # Errors
/// A model that does not predict the next token, a text that it cannot read or that fills no window, and files that cannot
/// be read.
pub fn open_hugging_face<B: ReformerBackend>(
    folder: &Path,
    text: &Path,
    length: Option<usize>,
    device: &B::Device,
) -> Result<Evaluation<B>, InferenceError> {
    let (model, config) = causal::<B>(folder, device)?;
    let stack = &config.reformer;
    let vocab_size = stack.vocab_size;
    let codec = Codec::of_folder(folder, vocab_size)?;
    let tokens = Tokens::of(open_text(text)?, &codec, vocab_size)
        .map_err(InferenceError::of(format!("`{}`", text.display())))?;
    let most = stack.position.max_length().unwrap_or(MOST_TOKENS);
    let length = window_length(&tokens, length, most.min(MOST_TOKENS), text)?;
    let bytes_per_token = tokens.bytes_per_token();
    let report = tokens.text.report().with_count(tokens.len(), "tokens");
    let windows = Windows {
        tokens,
        length,
        vocab_size,
    };
    let config = TrainConfig::new(config.into(), DataConfig::File(text.to_owned()))
        .with_window_length(length)
        .with_batch_size((TOKENS_AT_ONCE / length).max(1));
    let (model, windows) = (Model::Lm(model), Arc::new(windows));
    Ok(Evaluation::of_model(
        model,
        config,
        windows,
        report,
        bytes_per_token,
    )?)
}

/// The model of a folder, if it predicts the next token.
fn causal<B: ReformerBackend>(
    folder: &Path,
    device: &B::Device,
) -> Result<(ReformerLm<B>, ReformerLmConfig), InferenceError> {
    let refused = |reason| {
        let path = folder.to_owned();
        Err(InferenceError::NotMeasurable { path, reason })
    };
    if huggingface::head(folder) != Some(Head::Lm) {
        return refused("has another head: only language models are measured");
    }
    let (model, config) = huggingface::load::<B>(folder, device)?;
    check_finite(folder, &model)?;
    match config.reformer.causal {
        true => Ok((model, config)),
        false => refused("is not causal: it sees the tokens that it would have to predict"),
    }
}

/// The number of tokens of a window, which predicts as many.
fn window_length(
    tokens: &Tokens,
    length: Option<usize>,
    most: usize,
    text: &Path,
) -> Result<usize, InferenceError> {
    let refused = |length, law: &str, remedy| {
        let error = ConfigError::new("length", length, law, remedy);
        Err(InferenceError::from(error))
    };
    match length {
        Some(0) => return refused(0, "it must be at least 1", "raise it"),
        Some(length) if length > most => {
            return refused(length, &format!("it can be at most {most}"), "lower it");
        }
        _ => {}
    }
    // The first token is not predicted.
    let n_targets = tokens.len().saturating_sub(1);
    let length = length.unwrap_or(most.min(n_targets)).max(1);
    match length > n_targets {
        true => Err(InferenceError::ShortText {
            path: text.to_owned(),
            n_tokens: tokens.len(),
            length,
        }),
        false => Ok(length),
    }
}

/// A text as tokens.
#[derive(Debug)]
struct Tokens {
    text: ByteCorpus,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    /// Each byte is a token, counted from this one up.
    Bytes(u32),
    /// The ids of a tokenizer.
    Ids(Vec<u32>),
}

impl Tokens {
    fn of(text: ByteCorpus, codec: &Codec, vocab_size: usize) -> Result<Self, InferenceError> {
        let kind = match codec {
            // Not copied as ids: the text can be larger than memory.
            Codec::Bytes { first, .. } => Kind::Bytes(*first),
            _ if text.len() > MOST_TOKENS => {
                return Err(InferenceError::LargeText {
                    n_bytes: text.len(),
                    limit: MOST_TOKENS,
                });
            }
            _ => {
                let ids = codec.encode(text.as_bytes())?;
                if let Some(&token) = ids.iter().find(|&&token| token as usize >= vocab_size) {
                    return Err(GenerationError::Token { token, vocab_size }.into());
                }
                Kind::Ids(ids)
            }
        };
        Ok(Self { text, kind })
    }

    fn len(&self) -> usize {
        match &self.kind {
            Kind::Bytes(_) => self.text.len(),
            Kind::Ids(ids) => ids.len(),
        }
    }

    fn get(&self, index: usize) -> u32 {
        match &self.kind {
            Kind::Bytes(first) => first + u32::from(self.text.as_bytes()[index]),
            Kind::Ids(ids) => ids[index],
        }
    }

    /// Bytes of the text per token; `None` if tokens are bytes.
    fn bytes_per_token(&self) -> Option<f64> {
        match &self.kind {
            Kind::Bytes(_) => None,
            Kind::Ids(ids) => Some(self.text.len() as f64 / ids.len().max(1) as f64),
        }
    }
}

/// Adjacent windows of a text. Tokens at its end that fill no window are left out, as in the evaluations of a run.
#[derive(Debug)]
struct Windows {
    tokens: Tokens,
    length: usize,
    vocab_size: usize,
}

impl Sequences for Windows {
    fn seq_length(&self) -> usize {
        self.length
    }

    fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    fn n_sequences(&self) -> Option<usize> {
        Some(self.tokens.len().saturating_sub(1) / self.length)
    }

    fn read(&self, number: u64, tokens: &mut [i32], targets: &mut [i32]) {
        let start = number as usize * self.length;
        for (row, start) in [(tokens, start), (targets, start + 1)] {
            for (index, token) in (start..).zip(row) {
                *token = self.tokens.get(index) as i32;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BYTES: Codec = Codec::Bytes {
        first: 2,
        end: None,
    };

    fn bytes(text: &str) -> Tokens {
        let text = ByteCorpus::from_bytes("text", text.as_bytes().to_vec()).unwrap();
        Tokens::of(text, &BYTES, 258).unwrap()
    }

    #[test]
    fn windows_lie_side_by_side_in_the_ids_of_generation() {
        let windows = Windows {
            tokens: bytes("abcdefgh"),
            length: 3,
            vocab_size: 258,
        };
        assert_eq!(windows.n_sequences(), Some(2));
        let (mut tokens, mut targets) = ([0; 3], [0; 3]);
        windows.read(1, &mut tokens, &mut targets);
        let ids = |text: &str| BYTES.encode(text).unwrap();
        assert_eq!(tokens.map(|token| token as u32)[..], ids("def"));
        assert_eq!(targets.map(|token| token as u32)[..], ids("efg"));
    }

    #[test]
    fn length_is_that_of_the_model_the_text_or_the_flag() {
        let of = |text: &str, length| window_length(&bytes(text), length, 6, Path::new("a.txt"));
        let refused = |text: &str, length| of(text, length).unwrap_err().to_string();
        assert_eq!(of("abcdefgh", None).unwrap(), 6);
        assert_eq!(of("abcd", None).unwrap(), 3);
        assert_eq!(of("abcd", Some(2)).unwrap(), 2);
        assert!(refused("abcd", Some(7)).starts_with("`length` is 7, but it can be at most 6"));
        assert!(refused("abcd", Some(0)).starts_with("`length` is 0"));
        assert_eq!(
            refused("abcd", Some(4)),
            "`a.txt` has 4 tokens, but a window of 4 needs 5: choose a longer text, or lower `length`"
        );
        assert_eq!(
            refused("a", None),
            "`a.txt` has 1 tokens, but a window of 1 needs 2: choose a longer text"
        );
    }
}
