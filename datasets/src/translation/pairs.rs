//! A parallel text as token numbers.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use rayon::prelude::*;

use crate::error::DatasetError;
use crate::tokens::Subwords;
use crate::translation::text::ParallelText;

/// Pairs of a source and a target as numbers of pieces. Clones share them.
#[derive(Clone)]
pub struct TokenPairs {
    shared: Arc<Shared>,
}

struct Shared {
    /// Source and target of the first pair, source and target of the next...
    pieces: Vec<u32>,
    /// The end of each of them in `pieces`.
    ends: Vec<usize>,
    /// Numbers of the padding, begin and end tokens.
    special: [u32; 3],
    vocab_size: usize,
}

impl fmt::Debug for TokenPairs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenPairs")
            .field("len", &self.len())
            .field("vocab_size", &self.vocab_size())
            .finish_non_exhaustive()
    }
}

impl TokenPairs {
    /// Encodes all pairs of a text, on all cores. They keep their numbers.
    ///
    /// # Errors
    /// Those of [`Subwords::encode`].
    pub fn encode(text: &ParallelText, subwords: &Subwords) -> Result<Self, DatasetError> {
        let encoded = (0..text.len())
            .into_par_iter()
            .map(|index| {
                let (source, target) = text.get(index).expect("there are as many");
                Ok([subwords.encode(source)?, subwords.encode(target)?])
            })
            .collect::<Result<Vec<[Vec<u32>; 2]>, DatasetError>>()?;
        let mut pieces = Vec::new();
        let mut ends = Vec::with_capacity(2 * encoded.len());
        for sentence in encoded.into_iter().flatten() {
            pieces.extend(sentence);
            ends.push(pieces.len());
        }
        Ok(Self {
            shared: Arc::new(Shared {
                pieces,
                ends,
                special: [subwords.pad(), subwords.bos(), subwords.eos()],
                vocab_size: subwords.vocab_size(),
            }),
        })
    }

    /// Number of pairs.
    pub fn len(&self) -> usize {
        self.shared.ends.len() / 2
    }

    /// Whether there are no pairs.
    pub fn is_empty(&self) -> bool {
        self.shared.ends.is_empty()
    }

    /// Number of pieces in all sources and targets.
    pub fn n_pieces(&self) -> usize {
        self.shared.pieces.len()
    }

    /// Size of the joint vocabulary.
    pub fn vocab_size(&self) -> usize {
        self.shared.vocab_size
    }

    /// Source and target of a pair, without special tokens.
    ///
    /// # Panics
    /// When there is no pair of this number.
    pub fn get(&self, index: usize) -> (&[u32], &[u32]) {
        let pieces = |range: Range<usize>| &self.shared.pieces[range];
        let ends = &self.shared.ends;
        let start = if index == 0 { 0 } else { ends[2 * index - 1] };
        let (middle, end) = (ends[2 * index], ends[2 * index + 1]);
        (pieces(start..middle), pieces(middle..end))
    }

    /// Length of the longer side in a batch: its pieces and the end token.
    pub(super) fn padded_length(&self, index: usize) -> usize {
        let (source, target) = self.get(index);
        source.len().max(target.len()) + 1
    }

    /// Numbers of the padding, begin and end tokens.
    pub(super) fn special(&self) -> [u32; 3] {
        self.shared.special
    }
}
