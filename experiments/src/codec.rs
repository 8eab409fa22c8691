//! Converts text to tokens of a model, and tokens back to text as they are generated.

use std::path::Path;

use anyhow::{Context, Result, bail};
use reformer_datasets::translation::{SpecialTokens, Subwords};

/// Number of different bytes.
const BYTES: u32 = 256;
/// Ids before those of bytes in vocabularies with ids for padding and the end, as in enwik8's models.
const RESERVED: u32 = 2;
/// Tokens decoded together with a new one, since the space between pieces depends on them.
const OVERLAP: usize = 6;

/// The conversion between text and a model's tokens.
#[derive(Debug, Clone)]
pub enum Codec {
    /// Bytes, counted from this token up.
    Bytes(
        /// The token of byte 0.
        u32,
    ),
    /// Pieces of a SentencePiece model.
    Pieces(
        /// The pieces.
        Box<Subwords>,
    ),
}

impl Codec {
    /// The codec of a Hugging Face folder: its `spiece.model`, or bytes if the vocabulary is one of
    /// 256 bytes or of 256 bytes after two reserved tokens (`google/reformer-enwik8`).
    ///
    /// # Errors
    /// A file that cannot be read, or neither of these.
    pub fn of_folder(folder: &Path, vocab_size: usize) -> Result<Self> {
        let pieces = folder.join("spiece.model");
        if pieces.exists() {
            let special = SpecialTokens::default();
            let subwords = Subwords::open_sentencepiece(&pieces, &special)?;
            return Ok(Self::Pieces(Box::new(subwords)));
        }
        match u32::try_from(vocab_size) {
            Ok(BYTES) => Ok(Self::Bytes(0)),
            Ok(n) if n == BYTES + RESERVED => Ok(Self::Bytes(RESERVED)),
            _ => bail!(
                "`{}` has no spiece.model, and {vocab_size} tokens are not bytes (256, or 258 with \
                 two reserved ones): put the tokenizer's file there",
                folder.display()
            ),
        }
    }

    /// The tokens of a text.
    ///
    /// # Errors
    /// A text with characters that have no piece; bytes that are not UTF-8 never have one.
    pub fn encode(&self, text: impl AsRef<[u8]>) -> Result<Vec<u32>> {
        let text = text.as_ref();
        match self {
            Self::Bytes(first) => Ok(text.iter().map(|&byte| first + u32::from(byte)).collect()),
            Self::Pieces(subwords) => {
                let text = std::str::from_utf8(text);
                let text = text.context(
                    "the model's tokens are pieces of UTF-8, and this text is not UTF-8",
                )?;
                Ok(subwords.encode(text)?)
            }
        }
    }

    /// The token that ends a text, if there is one.
    pub fn end(&self) -> Option<u32> {
        match self {
            Self::Bytes(_) => None,
            Self::Pieces(subwords) => Some(subwords.eos()),
        }
    }

    /// Tokens of a vocabulary that are not text.
    pub fn no_text(&self, vocab_size: usize) -> Vec<u32> {
        let all = 0..vocab_size as u32;
        match self {
            Self::Bytes(first) => {
                let bytes = *first..first + BYTES;
                all.filter(|token| !bytes.contains(token)).collect()
            }
            Self::Pieces(subwords) => {
                let special = [subwords.pad(), subwords.bos()];
                all.filter(|token| special.contains(token)).collect()
            }
        }
    }

    /// The text of tokens.
    ///
    /// # Errors
    /// Pieces that cannot be joined.
    pub fn decode(&self, tokens: &[u32]) -> Result<Vec<u8>> {
        match self {
            Self::Bytes(first) => {
                let byte = |token: &u32| token.checked_sub(*first)?.try_into().ok();
                Ok(tokens.iter().filter_map(byte).collect())
            }
            Self::Pieces(subwords) => Ok(subwords.decode(tokens)?.into_bytes()),
        }
    }

    /// Decodes the tokens that follow a prompt.
    pub fn stream(&self, prompt: &[u32]) -> TextStream<'_> {
        let tokens = prompt[prompt.len().saturating_sub(OVERLAP)..].to_vec();
        TextStream {
            codec: self,
            n_told: tokens.len(),
            tokens,
        }
    }
}

/// Decodes tokens that arrive one by one.
#[derive(Debug)]
pub struct TextStream<'a> {
    codec: &'a Codec,
    tokens: Vec<u32>,
    /// Number of tokens whose text was returned already.
    n_told: usize,
}

impl TextStream<'_> {
    /// Takes the next token, and returns the text that no later token changes.
    ///
    /// # Errors
    /// Pieces that cannot be joined.
    pub fn push(&mut self, token: u32) -> Result<Vec<u8>> {
        if let Codec::Bytes(_) = self.codec {
            return self.codec.decode(&[token]);
        }
        // Whether a piece begins with a space depends on the ones before it.
        self.tokens.push(token);
        let before = self.codec.decode(&self.tokens[..self.n_told])?;
        let all = self.codec.decode(&self.tokens)?;
        let is_whole = !all.ends_with("\u{FFFD}".as_bytes());
        let Some(new) = all.strip_prefix(before.as_slice()).filter(|_| is_whole) else {
            return Ok(Vec::new());
        };
        let settled = self.tokens.len().saturating_sub(OVERLAP);
        self.tokens.drain(..settled);
        self.n_told = self.tokens.len();
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
        assert!(error.contains("no spiece.model, and 320 tokens"), "{error}");
        fs::write(folder.path().join("spiece.model"), "no model").unwrap();
        assert!(Codec::of_folder(folder.path(), 258).is_err());
    }

    #[test]
    fn pieces_arrive_as_the_text_that_they_are_together() {
        let text = "the cat sat on the mat, and the cat ate the rat – déjà vu 🐀 on the mat";
        let subwords = SubwordsConfig::new(280).train([text].into_iter()).unwrap();
        let codec = Codec::Pieces(Box::new(subwords));
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
}
