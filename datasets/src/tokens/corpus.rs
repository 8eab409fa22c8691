//! The ids of a text.

use std::fmt;
use std::io::{self, BufWriter, Write};
use std::sync::Arc;

use crate::error::DatasetError;
use crate::report::ReadReport;
use crate::storage::{Bytes, Spool};
use crate::text::{ByteCorpus, Corpus, Split, SplitName, Splits};

/// Bytes of an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Width {
    One = 1,
    Two = 2,
    Four = 4,
}

impl Width {
    /// The smallest one for all ids of a vocabulary.
    pub(super) fn of(vocab_size: usize) -> Self {
        match vocab_size {
            0..=0x100 => Self::One,
            0x101..=0x1_0000 => Self::Two,
            _ => Self::Four,
        }
    }

    /// The ids in some bytes. What is left at the end is not read.
    pub(super) fn ids(self, bytes: &[u8]) -> impl Iterator<Item = u32> {
        bytes.chunks_exact(self as usize).map(|id| {
            let mut four = [0; 4];
            four[..id.len()].copy_from_slice(id);
            u32::from_le_bytes(four)
        })
    }
}

/// Tokens of a text: ids of a vocabulary. Clones share them.
///
/// They are kept in memory up to 256 MiB, and beyond that in a file in the system's temporary
/// folder, deleted with the corpus; an id takes one, two or four bytes, as the vocabulary needs. A
/// [`ByteCorpus`] is a corpus of 256 tokens.
///
/// # Example
///
/// ```
/// use reformer_datasets::tokens::TokenCorpus;
/// use reformer_datasets::{Sequences, SplitName, Windows};
///
/// # fn main() -> Result<(), reformer_datasets::DatasetError> {
/// let corpus = TokenCorpus::from_ids("ids", &[7, 300, 9, 50_000], 50_257)?;
/// let windows = Windows::new(&corpus.whole_as(SplitName::Train), 3)?;
/// let (mut tokens, mut targets) = ([0; 3], [0; 3]);
/// windows.read(0, &mut tokens, &mut targets);
/// assert_eq!((tokens, targets), ([7, 300, 9], [300, 9, 50_000]));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct TokenCorpus {
    shared: Arc<Shared>,
}

struct Shared {
    bytes: Bytes,
    width: Width,
    vocab_size: usize,
    text_bytes: Option<usize>,
    report: ReadReport,
}

impl fmt::Debug for TokenCorpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenCorpus")
            .field("name", &self.name())
            .field("len", &self.n_tokens())
            .field("vocab_size", &self.vocab_size())
            .finish()
    }
}

impl TokenCorpus {
    /// A corpus of ids in memory, with a name for messages and records.
    ///
    /// # Errors
    /// [`NoTokens`](DatasetError::NoTokens) without an id, or
    /// [`IdTooLarge`](DatasetError::IdTooLarge) for one that is not below `vocab_size`.
    pub fn from_ids(
        name: impl Into<String>,
        ids: &[u32],
        vocab_size: usize,
    ) -> Result<Self, DatasetError> {
        let name = name.into();
        if let Some(&id) = ids.iter().find(|&&id| id as usize >= vocab_size) {
            return Err(DatasetError::IdTooLarge {
                name,
                id: id.into(),
                limit: vocab_size,
            });
        }
        if ids.is_empty() {
            return Err(DatasetError::NoTokens { name });
        }
        let bytes: Vec<u8> = ids.iter().flat_map(|id| id.to_le_bytes()).collect();
        let report = ReadReport::new(name);
        Ok(Self::of(report, bytes.into(), Width::Four, vocab_size))
    }

    pub(super) fn of(report: ReadReport, bytes: Bytes, width: Width, vocab_size: usize) -> Self {
        Self {
            shared: Arc::new(Shared {
                bytes,
                width,
                vocab_size,
                text_bytes: None,
                report,
            }),
        }
    }

    /// The same, standing for this many bytes of text.
    pub(super) fn with_text_bytes(self, text_bytes: usize) -> Self {
        let shared = &*self.shared;
        Self {
            shared: Arc::new(Shared {
                bytes: shared.bytes.clone(),
                report: shared.report.clone(),
                text_bytes: Some(text_bytes),
                ..*shared
            }),
        }
    }

    /// What was read.
    pub fn report(&self) -> ReadReport {
        let report = self.shared.report.clone();
        report.with_count(self.n_tokens(), "tokens")
    }

    /// Number of bytes of text that the tokens represent; none for ids of an unknown tokenizer.
    pub fn text_bytes(&self) -> Option<usize> {
        self.shared.text_bytes
    }

    /// The ids from number `start` on.
    pub(super) fn ids_from(&self, start: usize) -> impl Iterator<Item = u32> {
        let Shared { bytes, width, .. } = &*self.shared;
        width.ids(&bytes[start * *width as usize..])
    }

    /// About 90 % of the tokens, in order, for training, 5 % for validation and the rest for the
    /// test, with borders as in [`ByteCorpus::split`].
    pub fn split(&self) -> Splits<Self> {
        Splits::of(self)
    }

    /// All tokens as one split, for data that is already split into files.
    pub fn whole_as(&self, name: SplitName) -> Split<Self> {
        Split::whole(self.clone(), name)
    }
}

impl Corpus for TokenCorpus {
    const TOKEN: &'static str = "token";

    fn name(&self) -> &str {
        &self.shared.report.name
    }

    fn n_tokens(&self) -> usize {
        self.shared.bytes.len() / self.shared.width as usize
    }

    fn vocab_size(&self) -> usize {
        self.shared.vocab_size
    }

    fn write(&self, start: usize, row: &mut [i32]) {
        assert!(start + row.len() <= self.n_tokens(), "there are as many");
        for (token, id) in row.iter_mut().zip(self.ids_from(start)) {
            *token = id as i32;
        }
    }
}

impl Split<TokenCorpus> {
    /// Bytes of text that a token of its corpus represents, on average; none for ids of an unknown
    /// tokenizer.
    pub fn bytes_per_token(&self) -> Option<f64> {
        let text_bytes = self.corpus().text_bytes().filter(|&bytes| bytes > 0)?;
        Some(text_bytes as f64 / self.corpus().n_tokens() as f64)
    }
}

impl From<ByteCorpus> for TokenCorpus {
    fn from(corpus: ByteCorpus) -> Self {
        Self {
            shared: Arc::new(Shared {
                bytes: corpus.bytes(),
                width: Width::One,
                vocab_size: corpus.vocab_size(),
                text_bytes: Some(corpus.len()),
                report: corpus.report(),
            }),
        }
    }
}

impl From<Split> for Split<TokenCorpus> {
    fn from(split: Split) -> Self {
        split.map(TokenCorpus::from)
    }
}

/// Collects ids whose number is not known in advance.
pub(super) struct Ids {
    spool: BufWriter<Spool>,
    width: Width,
}

impl Ids {
    /// Without ids so far, all of which will be of this vocabulary.
    pub(super) fn new(vocab_size: usize) -> Self {
        Self {
            spool: BufWriter::with_capacity(1 << 16, Spool::new()),
            width: Width::of(vocab_size),
        }
    }

    pub(super) fn push(&mut self, id: u32) -> io::Result<()> {
        let bytes = id.to_le_bytes();
        self.spool.write_all(&bytes[..self.width as usize])
    }

    /// The bytes of all ids, and how many each takes.
    pub(super) fn into_bytes(self) -> io::Result<(Bytes, Width)> {
        let spool = self.spool.into_inner();
        let spool = spool.map_err(io::IntoInnerError::into_error)?;
        Ok((spool.into_bytes()?, self.width))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_kept_in_as_many_bytes_as_their_vocabulary_needs()
    -> Result<(), Box<dyn std::error::Error>> {
        for (vocab_size, width) in [(256, 1), (257, 2), (65_536, 2), (65_537, 4)] {
            let last = vocab_size as u32 - 1;
            let mut ids = Ids::new(vocab_size);
            [0, last, 7].into_iter().try_for_each(|id| ids.push(id))?;
            let (bytes, found) = ids.into_bytes()?;
            assert_eq!((bytes.len(), found as usize), (3 * width, width));
            let corpus = TokenCorpus::of(ReadReport::new("ids"), bytes, found, vocab_size);
            let mut row = [0; 2];
            corpus.write(1, &mut row);
            assert_eq!(row, [last as i32, 7]);
            assert_eq!((corpus.n_tokens(), corpus.text_bytes()), (3, None));
        }
        Ok(())
    }

    #[test]
    fn bytes_are_tokens_of_one_byte() -> Result<(), DatasetError> {
        let splits = ByteCorpus::from_bytes("letters", *b"abcdefghijklmnopqrstu")?.split();
        let valid = Split::<TokenCorpus>::from(splits.test);
        assert_eq!((valid.len(), valid.bytes_per_token()), (2, Some(1.0)));
        let mut row = [0; 2];
        valid.corpus().write(valid.range().start, &mut row);
        assert_eq!(row, [b't', b'u'].map(i32::from));
        Ok(())
    }

    #[test]
    fn no_ids_and_too_large_ones_are_refused() {
        let none = TokenCorpus::from_ids("none", &[], 9).expect_err("no ids");
        assert!(none.to_string().contains("has 0 tokens"), "{none}");
        let large = TokenCorpus::from_ids("large", &[3, 9], 9).expect_err("9 is not an id");
        assert_eq!(
            large.to_string(),
            "`large` has the id 9, and ids must be below 9: give the size of its vocabulary, or name the tokenizer that \
             made it"
        );
    }
}
