//! Conversion between text and the ids of a vocabulary.

use std::path::Path;

use tokenizers::Tokenizer as Library;

use crate::error::DatasetError;
use crate::storage::{Bytes, unpacked, without_mark};
use crate::tokens::sentencepiece;

/// Names of the token that ends a text, in order of preference: those of GPT-2, of T5, Llama 2 and
/// [`Subwords`], of Llama 3 and of Gemma.
///
/// [`Subwords`]: crate::tokens::Subwords
const END_NAMES: [&str; 4] = ["<|endoftext|>", "</s>", "<|end_of_text|>", "<eos>"];

/// Largest size of a vocabulary, several times that of the largest ones in use: a model has an
/// embedding of each entry.
pub(crate) const MAX_VOCAB_SIZE: usize = 1 << 20;

/// Text as ids of a vocabulary, and back.
///
/// # Example
///
/// ```
/// use reformer_datasets::translation::SubwordsConfig;
/// use reformer_datasets::tokens::Tokenizer;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let text = "the cat sat on the mat\n";
/// let trained = SubwordsConfig::new(270).with_prefix_space(false).train([text].iter())?;
/// let tokenizer = Tokenizer::from(trained);
/// let ids = tokenizer.encode("the Katze ☃")?;
/// assert_eq!(tokenizer.decode(&ids)?, "the Katze ☃");
/// assert!(tokenizer.end().is_some());
///
/// let file = tempfile::NamedTempFile::new()?;
/// tokenizer.save(file.path())?;
/// assert_eq!(Tokenizer::open(file.path())?.encode("the Katze ☃")?, ids);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Tokenizer {
    library: Library,
    vocab_size: usize,
    /// Ids that are not text, in order.
    special: Vec<u32>,
    end: Option<u32>,
    /// Whether encoding adds a space before the first word, which decoding has to remove.
    adds_space: bool,
    /// Whether a piece after a space has to be encoded without it.
    drops_space: bool,
}

impl Tokenizer {
    /// Loads a `tokenizer.json` of Hugging Face's tokenizers, or a `.model` file of SentencePiece
    /// (unigram or byte pairs). The format is detected by the content.
    ///
    /// # Errors
    /// [`NotFound`](DatasetError::NotFound), [`Unreadable`](DatasetError::Unreadable),
    /// [`Directory`](DatasetError::Directory), [`Malformed`](DatasetError::Malformed), or
    /// [`Tokenizer`](DatasetError::Tokenizer) for more than 1,048,576 entries.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, DatasetError> {
        let path = path.as_ref();
        let bytes = without_mark(unpacked(path)?);
        let first = bytes.iter().find(|byte| !byte.is_ascii_whitespace());
        Self::new(match first {
            Some(b'{') => from_json(path, &bytes)?,
            _ => from_sentencepiece(path, &bytes)?,
        })
    }

    /// Loads a `tokenizer.json`.
    pub(crate) fn open_json(path: &Path) -> Result<Self, DatasetError> {
        Self::new(from_json(path, &without_mark(unpacked(path)?))?)
    }

    pub(crate) fn open_sentencepiece(
        path: &Path,
        special: &[tokenizers::AddedToken],
    ) -> Result<Self, DatasetError> {
        let mut library = from_sentencepiece(path, &unpacked(path)?)?;
        library.add_special_tokens(special);
        Self::new(library)
    }

    pub(crate) fn new(mut library: Library) -> Result<Self, DatasetError> {
        // A file can ask for both, for batches of short texts; here a text is whole, whatever its
        // length.
        library
            .with_truncation(None)
            .map_err(DatasetError::tokenizer("cannot be used"))?;
        library.with_padding(None);
        // A text that contains `<pad>` is about it, and is not padding.
        library.set_encode_special_tokens(true);
        let largest = library.get_vocab(true).into_values().max();
        let vocab_size = largest.map_or(0, |id| id as usize + 1);
        if !(1..=MAX_VOCAB_SIZE).contains(&vocab_size) {
            let reason = format!("its ids go up to {vocab_size}");
            let problem = "must have 1 to 1,048,576 entries";
            return Err(DatasetError::tokenizer(problem)(reason.into()));
        }
        let added = library.get_added_tokens_decoder();
        let mut special: Vec<u32> = added
            .into_iter()
            .filter_map(|(id, token)| token.special.then_some(id))
            .collect();
        special.sort_unstable();
        let mut ends = END_NAMES.iter();
        let end = ends.find_map(|name| library.token_to_id(name));
        let mut tokenizer = Self {
            vocab_size,
            special,
            end,
            adds_space: false,
            drops_space: false,
            library,
        };
        tokenizer.find_spaces();
        Ok(tokenizer)
    }

    /// Finds out by trying what it does with spaces at the start of a text.
    fn find_spaces(&mut self) {
        let ids = |text| self.encode(text).unwrap_or_default();
        let [a, ab, b, space_b] = ["a", "a b", "b", " b"].map(ids);
        let is_joined = |second: &Vec<u32>| [&a[..], second].concat() == ab;
        self.drops_space = !is_joined(&space_b) && is_joined(&b);
        self.adds_space = self.decode(&a).is_ok_and(|a| a == " a");
    }

    /// Whether a text that is encoded in pieces has to be without the space between two of them,
    /// which the tokenizer adds.
    pub(super) fn drops_space(&self) -> bool {
        self.drops_space
    }

    /// Writes a `tokenizer.json`.
    ///
    /// # Errors
    /// [`Unwritable`](DatasetError::Unwritable).
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), DatasetError> {
        let path = path.as_ref();
        let saved = self.library.save(path, false);
        saved.map_err(|error| DatasetError::Unwritable {
            path: path.to_owned(),
            reason: error.to_string(),
        })
    }

    /// Size of the vocabulary: all ids are below it.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// The id that ends a text: that of `<|endoftext|>`, `</s>`, `<|end_of_text|>` or `<eos>`, if
    /// there is one.
    pub fn end(&self) -> Option<u32> {
        self.end
    }

    /// Ids that are not text, such as padding, in order.
    pub fn special(&self) -> &[u32] {
        &self.special
    }

    /// The id of an entry.
    pub(crate) fn id(&self, name: &str) -> Option<u32> {
        self.library.token_to_id(name)
    }

    /// The ids of a text, without special ones.
    ///
    /// # Errors
    /// [`Tokenizer`](DatasetError::Tokenizer) for a vocabulary that does not know a character.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, DatasetError> {
        let encoding = self
            .library
            .encode_fast(text, false)
            .map_err(DatasetError::tokenizer("could not encode a text"))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The text of some ids. Special ones, and those beyond the vocabulary, are left out.
    ///
    /// # Errors
    /// [`Tokenizer`](DatasetError::Tokenizer) for a vocabulary that cannot put them together.
    pub fn decode(&self, ids: &[u32]) -> Result<String, DatasetError> {
        let text = self
            .library
            .decode(ids, true)
            .map_err(DatasetError::tokenizer("could not decode a text"))?;
        let rest = text.strip_prefix(' ').filter(|_| self.adds_space);
        Ok(rest.map(str::to_owned).unwrap_or(text))
    }
}

fn from_json(path: &Path, bytes: &Bytes) -> Result<Library, DatasetError> {
    let malformed =
        |error: tokenizers::Error| DatasetError::malformed(path, "a tokenizer.json", error);
    // Where the JSON of a decoder is damaged, the library panics.
    serde_json::from_slice::<serde_json::Value>(bytes).map_err(|error| malformed(error.into()))?;
    Library::from_bytes(&**bytes).map_err(malformed)
}

fn from_sentencepiece(path: &Path, bytes: &[u8]) -> Result<Library, DatasetError> {
    sentencepiece::tokenizer(bytes)
        .map_err(|found| DatasetError::malformed(path, "a model of SentencePiece", found))
}
