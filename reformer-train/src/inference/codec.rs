//! Text as tokens of a model, and tokens as text while they are generated.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use reformer_core::ConfigError;
use reformer_core::huggingface::first_byte;
use reformer_datasets::tokens::Tokenizer;

use super::error::InferenceError;
use crate::config::TrainConfig;
use crate::data::DataConfig;
use crate::data::tokens::{TokenizerConfig, load_tokenizer};

/// Number of different bytes.
const BYTES: u32 = 256;
/// Tokens decoded together with a new one, since the space between pieces depends on them.
const OVERLAP: usize = 6;
/// Tokens that a character can be divided into: those of its bytes.
const MOST_OF_CHARACTER: usize = 4;

/// The conversion between text and a model's tokens.
#[derive(Debug, Clone)]
pub enum Codec {
    /// Bytes.
    Bytes {
        /// The token of byte 0, from which the others are counted.
        first: u32,
        /// The token that ends a text, if there is one.
        end: Option<u32>,
    },
    /// Entries of a tokenizer's vocabulary.
    Pieces(
        /// The tokenizer.
        Arc<Tokenizer>,
    ),
    /// Ids of an unknown tokenizer, as decimal numbers.
    Numbers,
}

impl Codec {
    /// The codec of a run on texts: bytes, or its tokenizer.
    ///
    /// # Errors
    /// A tokenizer that is missing or damaged.
    pub fn of_run(folder: &Path, config: &TrainConfig) -> Result<Self, InferenceError> {
        Ok(match load_tokenizer(folder, &config.data)? {
            Some(tokenizer) => Self::Pieces(Arc::new(tokenizer)),
            None if matches!(config.data, DataConfig::Ids(_)) => Self::Numbers,
            None => Self::of_bytes(&config.data),
        })
    }

    /// The codec of the run in which a process takes part without its folder: its configuration names the tokenizer's file.
    ///
    /// # Errors
    /// A tokenizer that this process cannot read.
    pub fn of_member(config: &TrainConfig) -> Result<Self, InferenceError> {
        let file = match &config.data {
            DataConfig::Tokenized(tokenized) => match &tokenized.tokenizer {
                TokenizerConfig::File(path) => path,
                TokenizerConfig::Bpe { vocab_size } => {
                    let law = "a process without the run's folder needs the file of the tokenizer";
                    let (field, value) = ("data.tokenizer", format!("bpe:{vocab_size}"));
                    return Err(ConfigError::new(field, value, law, "name it").into());
                }
            },
            DataConfig::Ids(ids) => match &ids.tokenizer {
                Some(path) => path,
                None => return Ok(Self::Numbers),
            },
            data => return Ok(Self::of_bytes(data)),
        };
        Ok(Self::Pieces(Arc::new(Tokenizer::open(file)?)))
    }

    /// The codec of data whose tokens are bytes. After each text of a column is a byte 0.
    pub fn of_bytes(data: &DataConfig) -> Self {
        let end = matches!(data, DataConfig::Column(_)).then_some(0);
        Self::Bytes { first: 0, end }
    }

    /// The codec of a Hugging Face folder: its `spiece.model` or `tokenizer.json`, or bytes if the vocabulary is one of
    /// 256 bytes or of 256 bytes after two reserved tokens (`google/reformer-enwik8`).
    ///
    /// # Errors
    /// A file that cannot be read, or neither of these.
    pub fn of_folder(folder: &Path, vocab_size: usize) -> Result<Self, InferenceError> {
        if let Some(tokenizer) = tokenizer_file(folder) {
            return Ok(Self::Pieces(Arc::new(Tokenizer::open(tokenizer)?)));
        }
        match first_byte(vocab_size) {
            Some(first) => Ok(Self::Bytes { first, end: None }),
            None => Err(InferenceError::NoTokenizer {
                path: folder.to_owned(),
                vocab_size,
            }),
        }
    }

    /// The tokens of a text.
    ///
    /// # Errors
    /// A text with characters that have no piece; bytes that are not UTF-8 never have one.
    pub fn encode(&self, text: impl AsRef<[u8]>) -> Result<Vec<u32>, InferenceError> {
        let text = text.as_ref();
        match self {
            Self::Bytes { first, .. } => {
                Ok(text.iter().map(|&byte| first + u32::from(byte)).collect())
            }
            Self::Pieces(tokenizer) => Ok(tokenizer.encode(str::from_utf8(text)?)?),
            Self::Numbers => numbers(&String::from_utf8_lossy(text)),
        }
    }

    /// The token that ends a text, if there is one.
    pub fn end(&self) -> Option<u32> {
        match self {
            Self::Bytes { end, .. } => *end,
            Self::Numbers => None,
            Self::Pieces(tokenizer) => tokenizer.end(),
        }
    }

    /// A text to begin with where none is given.
    pub fn beginning(&self) -> &'static str {
        match self {
            Self::Bytes { .. } => "\n",
            // Not every tokenizer has a token for a line break.
            Self::Pieces(_) => {
                let has_tokens = |text: &&str| self.encode(text).is_ok_and(|ids| !ids.is_empty());
                ["\n", ".", "a"].into_iter().find(has_tokens).unwrap_or("a")
            }
            Self::Numbers => "0",
        }
    }

    /// Tokens of a vocabulary that are not text.
    pub fn no_text(&self, vocab_size: usize) -> Vec<u32> {
        let all = 0..vocab_size as u32;
        match self {
            Self::Bytes { first, .. } => {
                let bytes = *first..first + BYTES;
                all.filter(|token| !bytes.contains(token)).collect()
            }
            Self::Pieces(tokenizer) => {
                let is_text = |token: &u32| {
                    let is_entry = (*token as usize) < tokenizer.vocab_size();
                    is_entry && tokenizer.special().binary_search(token).is_err()
                };
                let end = tokenizer.end();
                all.filter(|token| !is_text(token) && Some(*token) != end)
                    .collect()
            }
            Self::Numbers => Vec::new(),
        }
    }

    /// The text of tokens.
    ///
    /// # Errors
    /// Pieces that cannot be joined.
    pub fn decode(&self, tokens: &[u32]) -> Result<Vec<u8>, InferenceError> {
        match self {
            Self::Bytes { first, .. } => {
                let byte = |token: &u32| token.checked_sub(*first)?.try_into().ok();
                Ok(tokens.iter().filter_map(byte).collect())
            }
            Self::Pieces(tokenizer) => Ok(tokenizer.decode(tokens)?.into_bytes()),
            Self::Numbers => {
                let numbers = tokens.iter().map(u32::to_string);
                Ok(numbers.collect::<Vec<_>>().join(" ").into_bytes())
            }
        }
    }

    /// Decodes the tokens that follow a prompt.
    pub fn stream(&self, prompt: &[u32]) -> TextStream<'_> {
        let tokens = prompt[prompt.len().saturating_sub(OVERLAP)..].to_vec();
        TextStream {
            codec: self,
            n_written: tokens.len(),
            tokens,
        }
    }
}

/// The file of the tokenizer in a Hugging Face folder.
pub fn tokenizer_file(folder: &Path) -> Option<PathBuf> {
    let files = ["spiece.model", "tokenizer.json"].map(|name| folder.join(name));
    files.into_iter().find(|file| file.exists())
}

/// Numbers between spaces, commas or line ends.
fn numbers(text: &str) -> Result<Vec<u32>, InferenceError> {
    let words = text.split(|c: char| c.is_whitespace() || c == ',');
    let number = |word: &str| {
        word.parse().map_err(|source| InferenceError::NotAnId {
            text: word.to_owned(),
            source,
        })
    };
    words.filter(|word| !word.is_empty()).map(number).collect()
}

/// Decodes tokens that arrive one by one.
#[derive(Debug)]
pub struct TextStream<'a> {
    codec: &'a Codec,
    tokens: Vec<u32>,
    /// Number of tokens whose text was returned already.
    n_written: usize,
}

impl TextStream<'_> {
    /// Takes the next token, and returns the text that no later token changes.
    ///
    /// # Errors
    /// Pieces that cannot be joined.
    pub fn push(&mut self, token: u32) -> Result<Vec<u8>, InferenceError> {
        match self.codec {
            Codec::Bytes { .. } => return self.codec.decode(&[token]),
            Codec::Numbers => return Ok(format!(" {token}").into_bytes()),
            Codec::Pieces(_) => {}
        }
        // Whether a piece begins with a space depends on the ones before it.
        self.tokens.push(token);
        let before = self.codec.decode(&self.tokens[..self.n_written])?;
        let all = self.codec.decode(&self.tokens)?;
        let n_new = self.tokens.len() - self.n_written;
        let is_whole = !all.ends_with("\u{FFFD}".as_bytes()) || n_new > MOST_OF_CHARACTER;
        let Some(new) = all.strip_prefix(before.as_slice()).filter(|_| is_whole) else {
            return Ok(Vec::new());
        };
        let settled = self.tokens.len().saturating_sub(OVERLAP);
        self.tokens.drain(..settled);
        self.n_written = self.tokens.len();
        Ok(new.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use reformer_datasets::translation::SubwordsConfig;
    use std::fs;

    #[test]
    fn bytes_follow_what_is_reserved() {
        let folder = tempfile::tempdir().unwrap();
        let codec = Codec::of_folder(folder.path(), 258).unwrap();
        let tokens = codec.encode("Aé").unwrap();
        assert_eq!(tokens, [67, 197, 171]);
        assert_eq!(
            codec.decode(&[0, 67, 197, 171, 1]).unwrap(),
            "Aé".as_bytes()
        );
        assert_eq!(codec.no_text(258), [0, 1]);
        assert!(
            Codec::of_folder(folder.path(), 256)
                .unwrap()
                .no_text(256)
                .is_empty()
        );
        let error = Codec::of_folder(folder.path(), 320)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("no spiece.model or tokenizer.json, and 320 tokens"),
            "{error}"
        );
        fs::write(folder.path().join("spiece.model"), "no model").unwrap();
        assert!(Codec::of_folder(folder.path(), 258).is_err());
    }

    #[test]
    fn pieces_arrive_as_the_text_that_they_are_together() {
        let text = "the cat sat on the mat, and the cat ate the rat – déjà vu 🐀 on the mat";
        let subwords = SubwordsConfig::new(280).train([text].into_iter()).unwrap();
        let codec = Codec::Pieces(Arc::new(subwords.into()));
        let tokens = codec.encode(text).unwrap();
        for prompt in [1, 5, 20] {
            let mut stream = codec.stream(&tokens[..prompt]);
            let mut found = codec.decode(&tokens[..prompt]).unwrap();
            for &token in &tokens[prompt..] {
                found.extend(stream.push(token).unwrap());
            }
            assert_eq!(String::from_utf8_lossy(&found), text, "prompt of {prompt}");
        }
    }

    #[test]
    fn bytes_that_never_are_a_character_are_not_held_back_for_ever() {
        let subwords = SubwordsConfig::new(259).with_prefix_space(false);
        let tokenizer = Tokenizer::from(subwords.train(["é"].into_iter()).unwrap());
        let second_byte = tokenizer.encode("é").unwrap()[1];
        let codec = Codec::Pieces(Arc::new(tokenizer));
        let mut stream = codec.stream(&[]);
        let mut found = Vec::new();
        for _ in 0..40 {
            found.extend(stream.push(second_byte).unwrap());
            assert!(stream.tokens.len() <= OVERLAP + MOST_OF_CHARACTER + 1);
        }
        assert!(String::from_utf8(found).unwrap().contains('\u{FFFD}'));
    }

    #[test]
    fn tokens_that_are_no_text_are_the_special_ones_and_those_beyond_the_vocabulary() {
        let subwords = SubwordsConfig::new(259).train(["a"].into_iter()).unwrap();
        let (pad, bos) = (subwords.pad(), subwords.bos());
        let codec = Codec::Pieces(Arc::new(subwords.into()));
        assert_eq!(codec.no_text(261), [pad, bos, 259, 260]);
    }

    #[test]
    fn ids_without_a_tokenizer_are_numbers() {
        let codec = Codec::Numbers;
        assert_eq!(codec.encode(" 5,6\n 70000").unwrap(), [5, 6, 70_000]);
        assert_eq!(codec.decode(&[5, 6]).unwrap(), b"5 6");
        assert_eq!(codec.stream(&[5]).push(6).unwrap(), b" 6");
        let error = codec.encode("ROMEO:").unwrap_err().to_string();
        assert!(
            error.starts_with("`ROMEO:` is not the number of a token"),
            "{error}"
        );
    }
}
