//! The joint vocabulary of two languages.

use std::path::Path;

use burn::config::Config;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::models::unigram::{Unigram, UnigramTrainer};
use tokenizers::models::{ModelWrapper, TrainerWrapper};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, Tokenizer as Library};

use crate::error::{DatasetError, SizeError};
use crate::tokens::Tokenizer;

/// The algorithm that chooses the pieces of a vocabulary.
#[derive(Config, Debug, Copy, PartialEq, Eq)]
pub enum SubwordAlgorithm {
    /// Byte pair encoding: merges the most frequent neighbours, starting from bytes.
    Bpe,
    /// A unigram language model: starts with many pieces, and drops those with the smallest effect
    /// on the loss.
    Unigram,
}

/// Configuration for training [`Subwords`].
#[derive(Config, Debug)]
pub struct SubwordsConfig {
    /// Pieces of the vocabulary, including three special ones; about 32,000 for WMT14. At least
    /// 259: one for each byte and the special ones.
    pub vocab_size: usize,
    /// The training algorithm.
    #[config(default = "SubwordAlgorithm::Bpe")]
    pub algorithm: SubwordAlgorithm,
    /// Whether a word at the start of a text has the same pieces as after a space. Decoding then
    /// takes away a space at the start; without it, decoding is the inverse of encoding for every
    /// text.
    #[config(default = true)]
    pub prefix_space: bool,
}

impl SubwordsConfig {
    const MIN_VOCAB_SIZE: usize = 256 + 3;

    /// Trains a vocabulary on sentences. It is smaller than requested if they have fewer pieces.
    ///
    /// Pieces consist of bytes, so nothing is unknown and decoding is the inverse of encoding. A
    /// piece does not cross a word border. The numbers 0, 1 and 2 are padding, begin and end.
    ///
    /// Byte pairs are the same for the same sentences; a unigram model can differ in pieces of
    /// equal score. Train once, and [`save`](Subwords::save).
    ///
    /// # Errors
    /// [`Setting`](SizeError::Setting) for a vocabulary below 259, or
    /// [`Tokenizer`](DatasetError::Tokenizer) when there are too few sentences.
    pub fn train<S: AsRef<str> + Send>(
        &self,
        sentences: impl Iterator<Item = S> + Send,
    ) -> Result<Subwords, DatasetError> {
        if self.vocab_size < Self::MIN_VOCAB_SIZE {
            return Err(SizeError::Setting {
                setting: "vocab_size",
                value: self.vocab_size,
                limit: "at least 259",
                way_out: "about 32000, or fewer for less text",
            }
            .into());
        }
        let special = SpecialTokens::default();
        let (model, mut trainer) = self.model(&special)?;
        let mut tokenizer = Library::new(model);
        let bytes = ByteLevel::default().add_prefix_space(self.prefix_space);
        tokenizer
            .with_pre_tokenizer(Some(bytes))
            .with_decoder(Some(bytes));
        tokenizer
            .train(&mut trainer, sentences)
            .map_err(DatasetError::tokenizer("could not be trained"))?;
        Subwords::new(Tokenizer::new(tokenizer)?, &special)
    }

    fn model(
        &self,
        special: &SpecialTokens,
    ) -> Result<(ModelWrapper, TrainerWrapper), DatasetError> {
        let added = special.added().to_vec();
        let alphabet = ByteLevel::alphabet();
        Ok(match self.algorithm {
            SubwordAlgorithm::Bpe => {
                let trainer = BpeTrainer::builder()
                    .show_progress(false)
                    .vocab_size(self.vocab_size)
                    .special_tokens(added)
                    .initial_alphabet(alphabet.into_iter().collect())
                    .build();
                (BPE::default().into(), trainer.into())
            }
            SubwordAlgorithm::Unigram => {
                let trainer = UnigramTrainer::builder()
                    .show_progress(false)
                    .vocab_size(self.vocab_size as u32)
                    .special_tokens(added)
                    .initial_alphabet(alphabet)
                    .build()
                    .map_err(|error| {
                        DatasetError::tokenizer("could not be trained")(error.into())
                    })?;
                (Unigram::default().into(), trainer.into())
            }
        })
    }
}

/// The names of a vocabulary's special pieces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpecialTokens {
    /// Padding; `<pad>` by default.
    pub pad: String,
    /// The begin token before a target; `<s>` by default.
    pub bos: String,
    /// The end token after source and target; `</s>` by default.
    pub eos: String,
}

impl Default for SpecialTokens {
    fn default() -> Self {
        let [pad, bos, eos] = ["<pad>", "<s>", "</s>"].map(str::to_owned);
        Self { pad, bos, eos }
    }
}

impl SpecialTokens {
    fn names(&self) -> [String; 3] {
        [self.pad.clone(), self.bos.clone(), self.eos.clone()]
    }

    fn added(&self) -> [AddedToken; 3] {
        self.names().map(|name| AddedToken::from(name, true))
    }
}

/// Sentences as numbers of pieces, and back.
///
/// # Example
///
/// ```
/// use reformer_datasets::translation::{SpecialTokens, Subwords, SubwordsConfig};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let sentences = ["the cat sat on the mat", "die Katze saß auf der Matte"];
/// let subwords = SubwordsConfig::new(280).train(sentences.iter())?;
/// let numbers = subwords.encode("the Katze ☃")?;
/// assert_eq!(subwords.decode(&numbers)?, "the Katze ☃");
///
/// let file = tempfile::NamedTempFile::new()?;
/// subwords.save(file.path())?;
/// let loaded = Subwords::open(file.path(), &SpecialTokens::default())?;
/// assert_eq!(loaded.encode("the Katze ☃")?, numbers);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Subwords {
    tokenizer: Tokenizer,
    /// Numbers of the padding, begin and end tokens.
    special: [u32; 3],
}

impl Subwords {
    /// Loads a `tokenizer.json` of Hugging Face's tokenizers, written by [`save`](Self::save) or
    /// another program.
    ///
    /// # Errors
    /// [`NotFound`](DatasetError::NotFound), [`Unreadable`](DatasetError::Unreadable),
    /// [`Directory`](DatasetError::Directory), [`Malformed`](DatasetError::Malformed), or
    /// [`Tokenizer`](DatasetError::Tokenizer) when it does not have these special tokens.
    pub fn open(path: impl AsRef<Path>, special: &SpecialTokens) -> Result<Self, DatasetError> {
        Self::new(Tokenizer::open_json(path.as_ref())?, special)
    }

    /// Loads a `.model` file of SentencePiece, unigram or byte pairs. Missing special tokens, in
    /// most files the padding, are added at the end.
    ///
    /// The name of a special token in a sentence is encoded as that token.
    ///
    /// # Errors
    /// [`NotFound`](DatasetError::NotFound), [`Unreadable`](DatasetError::Unreadable),
    /// [`Directory`](DatasetError::Directory), or [`Malformed`](DatasetError::Malformed), also for
    /// another algorithm.
    pub fn open_sentencepiece(
        path: impl AsRef<Path>,
        special: &SpecialTokens,
    ) -> Result<Self, DatasetError> {
        let tokenizer = Tokenizer::open_sentencepiece(path.as_ref(), &special.added())?;
        Self::new(tokenizer, special)
    }

    fn new(tokenizer: Tokenizer, special: &SpecialTokens) -> Result<Self, DatasetError> {
        let number = |name: String| {
            tokenizer.id(&name).ok_or_else(|| {
                let what = "lacks a requested special token";
                DatasetError::tokenizer(what)(format!("there is no `{name}`").into())
            })
        };
        let [pad, bos, eos] = special.names();
        let special = [number(pad)?, number(bos)?, number(eos)?];
        Ok(Self { tokenizer, special })
    }

    /// Writes a `tokenizer.json`.
    ///
    /// # Errors
    /// [`Unwritable`](DatasetError::Unwritable).
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), DatasetError> {
        self.tokenizer.save(path)
    }

    /// Size of the vocabulary, including special tokens.
    pub fn vocab_size(&self) -> usize {
        self.tokenizer.vocab_size()
    }

    /// Number of the padding token.
    pub fn pad(&self) -> u32 {
        self.special[0]
    }

    /// Number of the begin token of targets.
    pub fn bos(&self) -> u32 {
        self.special[1]
    }

    /// Number of the end token of sources and targets.
    pub fn eos(&self) -> u32 {
        self.special[2]
    }

    /// The pieces of a sentence, without special tokens.
    ///
    /// # Errors
    /// [`Tokenizer`](DatasetError::Tokenizer) for a loaded vocabulary that does not know a
    /// character.
    pub fn encode(&self, sentence: &str) -> Result<Vec<u32>, DatasetError> {
        self.tokenizer.encode(sentence)
    }

    /// The sentence of some pieces, as text. Special tokens, and numbers beyond the vocabulary, are
    /// left out.
    ///
    /// # Errors
    /// [`Tokenizer`](DatasetError::Tokenizer) for a loaded vocabulary that cannot put them
    /// together.
    pub fn decode(&self, pieces: &[u32]) -> Result<String, DatasetError> {
        self.tokenizer.decode(pieces)
    }
}

impl From<Subwords> for Tokenizer {
    fn from(subwords: Subwords) -> Self {
        subwords.tokenizer
    }
}
