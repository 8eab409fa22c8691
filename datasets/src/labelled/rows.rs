//! Labelled sequences as token numbers.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// The first token of every sequence.
pub const BEGIN: u16 = 256;
/// The token between a question and its text.
pub const SEPARATOR: u16 = 257;

/// Sequences of tokens, each with the same number of targets: one class, or the first and last
/// position of an answer. Clones share them.
#[derive(Clone)]
pub struct LabelledRows {
    shared: Arc<Shared>,
}

struct Shared {
    tokens: Vec<u16>,
    /// The end of each row in `tokens`.
    ends: Vec<usize>,
    targets: Vec<i32>,
    n_targets: usize,
    vocab_size: usize,
}

/// Collects rows with `N` targets each.
pub(crate) struct RowsBuilder<const N: usize>(Shared);

impl<const N: usize> RowsBuilder<N> {
    /// No rows so far, of tokens below `vocab_size`.
    pub(crate) fn new(vocab_size: usize) -> Self {
        Self(Shared {
            tokens: Vec::new(),
            ends: Vec::new(),
            targets: Vec::new(),
            n_targets: N,
            vocab_size,
        })
    }

    /// Adds a row, which must have a token.
    pub(crate) fn push(&mut self, tokens: impl IntoIterator<Item = u16>, targets: [i32; N]) {
        let before = self.0.tokens.len();
        self.0.tokens.extend(tokens);
        assert!(self.0.tokens.len() > before, "a row has a token");
        self.0.ends.push(self.0.tokens.len());
        self.0.targets.extend(targets);
    }

    pub(crate) fn build(self) -> LabelledRows {
        LabelledRows {
            shared: Arc::new(self.0),
        }
    }
}

impl fmt::Debug for LabelledRows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LabelledRows")
            .field("len", &self.len())
            .field("n_targets", &self.n_targets())
            .field("vocab_size", &self.vocab_size())
            .finish_non_exhaustive()
    }
}

impl LabelledRows {
    /// Rows of tokens below `vocab_size`, each with its targets, negative where there is none.
    ///
    /// # Panics
    /// When a row has no token.
    pub fn new<const N: usize>(
        vocab_size: usize,
        rows: impl IntoIterator<Item = (Vec<u16>, [i32; N])>,
    ) -> Self {
        let mut builder = RowsBuilder::new(vocab_size);
        for (tokens, targets) in rows {
            builder.push(tokens, targets);
        }
        builder.build()
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.shared.ends.len()
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.shared.ends.is_empty()
    }

    /// Number of tokens in all rows.
    pub fn n_tokens(&self) -> usize {
        self.shared.tokens.len()
    }

    /// Number of targets of a row.
    pub fn n_targets(&self) -> usize {
        self.shared.n_targets
    }

    /// Size of the vocabulary: tokens are below it.
    pub fn vocab_size(&self) -> usize {
        self.shared.vocab_size
    }

    /// Tokens of a row.
    ///
    /// # Panics
    /// When there is no row of this number.
    pub fn tokens(&self, row: usize) -> &[u16] {
        &self.shared.tokens[self.range(row)]
    }

    /// Targets of a row.
    ///
    /// # Panics
    /// When there is no row of this number.
    pub fn targets(&self, row: usize) -> &[i32] {
        let n_targets = self.n_targets();
        &self.shared.targets[row * n_targets..][..n_targets]
    }

    fn range(&self, row: usize) -> Range<usize> {
        let start = match row {
            0 => 0,
            row => self.shared.ends[row - 1],
        };
        start..self.shared.ends[row]
    }
}

/// The bytes of a text as tokens.
pub(super) fn bytes(text: &str) -> impl Iterator<Item = u16> {
    text.bytes().map(u16::from)
}
