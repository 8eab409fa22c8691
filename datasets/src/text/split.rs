//! Texts as tokens, and the part of one for one purpose.

use std::fmt;
use std::ops::Range;
use std::path::Path;

use crate::error::DatasetError;
use crate::holdout::SplitName;
use crate::text::corpus::ByteCorpus;
use crate::text::folder::FolderCorpus;

/// A text as a row of tokens: bytes, or the ids of a vocabulary. Clones share the tokens.
pub trait Corpus: Clone + fmt::Debug + Send + Sync + 'static {
    /// The name of a token in messages.
    const TOKEN: &'static str;

    /// The path it was read from, or the name it was given.
    fn name(&self) -> &str;

    /// Number of tokens.
    fn n_tokens(&self) -> usize;

    /// Size of the vocabulary: all tokens are below it.
    fn vocab_size(&self) -> usize;

    /// Writes the tokens from number `start` on, as many as the row has.
    ///
    /// # Shapes
    /// - row: `[n]`
    ///
    /// # Panics
    /// When there are fewer tokens.
    fn write(&self, start: usize, row: &mut [i32]);
}

/// The parts of a text: three contiguous ones of a corpus, which together are the whole of it, or
/// those that its files are.
#[derive(Clone, Debug)]
pub struct Splits<C = ByteCorpus> {
    /// About the first 90 %.
    pub train: Split<C>,
    /// About the next 5 %.
    pub valid: Split<C>,
    /// The rest.
    pub test: Split<C>,
}

impl<C: Corpus> Splits<C> {
    /// The parts of a corpus, in order: about 90 % of its tokens for training, 5 % for validation
    /// and the rest for the test. The two borders are at 90 % and 95 % of the length, rounded down.
    pub(crate) fn of(corpus: &C) -> Self {
        Self::at(corpus, borders(corpus.n_tokens()))
    }

    /// The parts of a corpus, in order, with these ends of the parts for training and validation.
    pub(crate) fn at(corpus: &C, [train_end, valid_end]: [usize; 2]) -> Self {
        let part = |name, range| Split::new(corpus.clone(), name, range);
        Self {
            train: part(SplitName::Train, 0..train_end),
            valid: part(SplitName::Valid, train_end..valid_end),
            test: part(SplitName::Test, valid_end..corpus.n_tokens()),
        }
    }

    /// Two corpora, one to train on and one to validate on. The test split is empty.
    pub(crate) fn of_two(train: C, valid: C) -> Self {
        let n_valid = valid.n_tokens();
        Self {
            train: Split::whole(train, SplitName::Train),
            test: Split::new(valid.clone(), SplitName::Test, n_valid..n_valid),
            valid: Split::whole(valid, SplitName::Valid),
        }
    }
}

/// The ends of the training and validation parts in a corpus of `len` tokens.
fn borders(len: usize) -> [usize; 2] {
    // Whole hundreds, then the rest: a product with the whole length could overflow.
    [90, 95].map(|percent| len / 100 * percent + len % 100 * percent / 100)
}

impl Splits {
    /// The parts of a text, or of a folder of texts, split by file. Default: those of the sample.
    ///
    /// # Errors
    /// Those of [`ByteCorpus::open`], [`FolderCorpus::open`] and [`FolderCorpus::split_by_file`].
    pub fn open(path: Option<&Path>) -> Result<Self, DatasetError> {
        match path {
            Some(path) if path.is_dir() => FolderCorpus::open(path)?.split_by_file(),
            Some(path) => Ok(ByteCorpus::open(path)?.split()),
            None => Ok(ByteCorpus::sample().split()),
        }
    }
}

/// A contiguous part of a corpus, which may be empty. Clones share the tokens.
#[derive(Clone, Debug)]
pub struct Split<C = ByteCorpus> {
    corpus: C,
    name: SplitName,
    range: Range<usize>,
}

impl<C: Corpus> Split<C> {
    pub(crate) fn new(corpus: C, name: SplitName, range: Range<usize>) -> Self {
        Self {
            corpus,
            name,
            range,
        }
    }

    /// All tokens of a corpus.
    pub(crate) fn whole(corpus: C, name: SplitName) -> Self {
        let n_tokens = corpus.n_tokens();
        Self::new(corpus, name, 0..n_tokens)
    }

    /// The purpose of the split.
    pub fn name(&self) -> SplitName {
        self.name
    }

    /// The corpus that contains it.
    pub fn corpus(&self) -> &C {
        &self.corpus
    }

    /// Its tokens' positions in the corpus.
    pub fn range(&self) -> Range<usize> {
        self.range.clone()
    }

    /// Number of tokens.
    pub fn len(&self) -> usize {
        self.range.len()
    }

    /// Whether it has no tokens, as the later splits of a corpus below 20 tokens may.
    pub fn is_empty(&self) -> bool {
        self.range.is_empty()
    }

    /// The same part of the corpus in another form with as many tokens.
    pub(crate) fn map<D: Corpus>(self, map: impl FnOnce(C) -> D) -> Split<D> {
        Split::new(map(self.corpus), self.name, self.range)
    }
}

impl Split {
    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.corpus.as_bytes()[self.range()]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_print_in_lower_case() {
        let names = [SplitName::Train, SplitName::Valid, SplitName::Test];
        assert_eq!(names.map(|n| n.to_string()), ["train", "valid", "test"]);
    }

    proptest! {
        #[test]
        fn splits_in_order_are_the_corpus(bytes in prop::collection::vec(any::<u8>(), 1..2_000)) {
            let corpus = ByteCorpus::from_bytes("any", bytes.clone())?;
            let Splits { train, valid, test } = corpus.split();
            let joined = [train.as_bytes(), valid.as_bytes(), test.as_bytes()].concat();
            prop_assert_eq!(joined, bytes);
            prop_assert_eq!(train.range().end, valid.range().start);
            prop_assert_eq!(valid.range().end, test.range().start);
        }

        #[test]
        fn splits_are_within_a_byte_of_their_shares(len in 1_usize..5_000) {
            let Splits { train, valid, test } = ByteCorpus::from_bytes("any", vec![0; len])?.split();
            // In hundredths of a byte, so that the comparison is exact.
            for (split, percent) in [(train, 90), (valid, 5), (test, 5)] {
                prop_assert!((split.len() * 100).abs_diff(len * percent) < 100, "{split:?}");
            }
        }
    }

    #[test]
    fn borders_of_enwik8_are_the_customary_ones() {
        assert_eq!(borders(100_000_000), [90_000_000, 95_000_000]);
    }

    #[test]
    fn borders_round_down_and_never_overflow() {
        assert_eq!(borders(1), [0, 0]);
        assert_eq!(borders(19), [17, 18]);
        assert_eq!(borders(1_115_394), [1_003_854, 1_059_624]);
        let [train_end, valid_end] = borders(usize::MAX);
        assert!(train_end < valid_end && valid_end < usize::MAX);
    }
}
