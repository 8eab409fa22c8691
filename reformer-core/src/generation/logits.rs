//! Logits on the host, where the next token is sampled.

/// Logits of the next token of several sequences.
///
/// ```
/// use reformer_core::generation::Logits;
///
/// let logits = Logits::new(vec![0.5, 1.0, 2.0, 0.0], 2);
/// assert_eq!(logits.n_rows(), 2);
/// assert_eq!(logits.row(1), [2.0, 0.0]);
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Logits {
    values: Vec<f32>,
    vocab_size: usize,
}

impl Logits {
    /// Creates logits from `[sequences, vocab_size]` in row-major order.
    ///
    /// # Panics
    /// If `vocab_size` is zero or does not divide the number of values.
    pub fn new(values: Vec<f32>, vocab_size: usize) -> Self {
        assert!(
            vocab_size > 0 && values.len().is_multiple_of(vocab_size),
            "{} logits are no rows of {vocab_size}",
            values.len()
        );
        Self { values, vocab_size }
    }

    /// Number of sequences.
    pub fn n_rows(&self) -> usize {
        self.values.len() / self.vocab_size
    }

    /// Number of different tokens.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// Logits of one sequence: `[vocab_size]`.
    ///
    /// # Panics
    /// If there is no such sequence.
    pub fn row(&self, number: usize) -> &[f32] {
        &self.values[number * self.vocab_size..][..self.vocab_size]
    }

    /// The rows of all sequences, in order.
    pub fn rows(&self) -> impl Iterator<Item = &[f32]> {
        self.values.chunks_exact(self.vocab_size)
    }
}

/// Logarithms of the softmax of logits, in `f64`.
pub(super) fn log_softmax(logits: &[f32]) -> Vec<f64> {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let below = |&logit: &f32| f64::from(logit) - f64::from(max);
    let log_sum = logits.iter().map(|l| below(l).exp()).sum::<f64>().ln();
    logits.iter().map(|logit| below(logit) - log_sum).collect()
}
