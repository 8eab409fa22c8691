//! What attention to a source remembers of it.

use burn::tensor::Tensor;
use burn::tensor::backend::Backend;

use super::reach::sees;
use super::rows::KeysValues;
use crate::attention::CrossAttention;
use crate::kernels::{ReformerBackend, Seen};

/// Keys and values of the sources of a batch for one layer: computed once, and never written.
#[derive(Debug, Clone)]
pub(in crate::generation) struct CrossCache<B: Backend> {
    rows: KeysValues<B>,
    /// What each sequence sees: its source but the padding.
    seen: Vec<Seen>,
    /// Which source each sequence has.
    sources: Vec<usize>,
}

impl<B: ReformerBackend> CrossCache<B> {
    /// Remembers sources of which so many positions are real.
    ///
    /// # Shapes
    /// - sources: `[batch_size, source_length, d_model]`, as attention is given them
    pub(in crate::generation) fn new(
        attention: &CrossAttention<B>,
        sources: Tensor<B, 3>,
        real: &[usize],
    ) -> Self {
        let [_, source_length, _] = sources.dims();
        let [k, v] = attention.keys_values(sources);
        Self {
            rows: KeysValues::new(k, v, source_length),
            seen: real
                .iter()
                .map(|&real| sees(0, source_length, &(real..source_length)))
                .collect(),
            sources: (0..real.len()).collect(),
        }
    }

    /// Attends from a single position of each sequence.
    ///
    /// # Shapes
    /// - x, output: `[batch_size, 1, d_model]`
    pub(in crate::generation) fn step(
        &self,
        attention: &CrossAttention<B>,
        x: Tensor<B, 3>,
    ) -> Tensor<B, 3> {
        let queries = attention.heads.queries(x);
        let output = B::newest_attention(queries, self.rows.both(), &self.seen, false);
        attention.heads.join(output)
    }

    /// Goes on with these sequences. Those of one source are equal here, so nothing is copied as
    /// long as each place keeps its source.
    pub(in crate::generation) fn select(&mut self, rows: &[usize]) {
        let sources: Vec<usize> = rows.iter().map(|&row| self.sources[row]).collect();
        if sources == self.sources {
            return;
        }
        self.sources = sources;
        self.seen = rows.iter().map(|&row| self.seen[row].clone()).collect();
        self.rows.select(rows);
    }

    /// Memory that it takes.
    pub(in crate::generation) fn bytes(&self) -> usize {
        self.rows.bytes()
    }
}
