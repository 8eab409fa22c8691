//! The part of a corpus for one purpose.

use std::fmt;
use std::ops::Range;
use std::path::Path;

use crate::error::DatasetError;
use crate::text::corpus::ByteCorpus;
use crate::text::folder::FolderCorpus;

/// The purpose of a split.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SplitName {
    /// To train the model.
    Train,
    /// To choose among models and for early stopping.
    Valid,
    /// To measure the chosen model, once.
    Test,
}

impl fmt::Display for SplitName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Train => "train",
            Self::Valid => "valid",
            Self::Test => "test",
        })
    }
}

/// The three contiguous parts of a corpus, which together are the whole of it.
#[derive(Clone, Debug)]
pub struct Splits {
    /// About the first 90 %.
    pub train: Split,
    /// About the next 5 %.
    pub valid: Split,
    /// The rest.
    pub test: Split,
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

/// A contiguous part of a corpus, which may be empty. Clones share the bytes.
#[derive(Clone, Debug)]
pub struct Split {
    corpus: ByteCorpus,
    name: SplitName,
    range: Range<usize>,
}

impl Split {
    pub(crate) fn new(corpus: ByteCorpus, name: SplitName, range: Range<usize>) -> Self {
        Self {
            corpus,
            name,
            range,
        }
    }

    /// The purpose of the split.
    pub fn name(&self) -> SplitName {
        self.name
    }

    /// The corpus that contains it.
    pub fn corpus(&self) -> &ByteCorpus {
        &self.corpus
    }

    /// Its bytes' positions in the corpus.
    pub fn range(&self) -> Range<usize> {
        self.range.clone()
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.corpus.as_bytes()[self.range()]
    }

    /// Number of bytes.
    pub fn len(&self) -> usize {
        self.range.len()
    }

    /// Whether it has no bytes, as the later splits of a corpus below 20 bytes may.
    pub fn is_empty(&self) -> bool {
        self.range.is_empty()
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
}
