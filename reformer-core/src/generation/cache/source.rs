//! Cache of cross-attention for the source.

use burn::tensor::Tensor;
use burn::tensor::backend::Backend;

use super::rows::KeysValues;
use super::visible_rows::sees;
use crate::attention::CrossAttention;
use crate::kernels::{ReformerBackend, VisibleKeys};

/// Keys and values of the sources of a batch for one layer: computed once, never changed.
#[derive(Debug, Clone)]
pub(in crate::generation) struct CrossCache<B: Backend> {
    rows: KeysValues<B>,
    /// Visible keys of each sequence: its source without the padding.
    visible: Vec<VisibleKeys>,
    /// Index of each sequence's source.
    sources: Vec<usize>,
}

impl<B: ReformerBackend> CrossCache<B> {
    /// Caches sources, `real` positions of each without padding.
    ///
    /// # Shapes
    /// - sources: `[batch_size, source_length, d_model]`, the input of attention
    pub(in crate::generation) fn new(
        attention: &CrossAttention<B>,
        sources: Tensor<B, 3>,
        real: &[usize],
    ) -> Self {
        let [_, source_length, _] = sources.dims();
        let [k, v] = attention.keys_values(sources);
        Self {
            rows: KeysValues::new(k, v, source_length),
            visible: real
                .iter()
                .map(|&real| sees(0, source_length, &(real..source_length)))
                .collect(),
            sources: (0..real.len()).collect(),
        }
    }

    /// Attention from a single position of each sequence.
    ///
    /// # Shapes
    /// - x, output: `[batch_size, 1, d_model]`
    pub(in crate::generation) fn step(
        &self,
        attention: &CrossAttention<B>,
        x: Tensor<B, 3>,
    ) -> Tensor<B, 3> {
        let queries = attention.heads.queries(x);
        let output = B::decode_attention(queries, self.rows.both(), &self.visible, false);
        attention.heads.join(output)
    }

    /// Continues with these sequences. Sequences with the same source share its cache, so nothing
    /// is copied if each row keeps its source.
    pub(in crate::generation) fn select(&mut self, rows: &[usize]) {
        let sources: Vec<usize> = rows.iter().map(|&row| self.sources[row]).collect();
        if sources == self.sources {
            return;
        }
        self.sources = sources;
        self.visible = rows.iter().map(|&row| self.visible[row].clone()).collect();
        self.rows.select(rows);
    }

    /// Memory that a source takes at most, in bytes.
    pub(in crate::generation) fn bytes_of_source(
        attention: &CrossAttention<B>,
        source_length: usize,
    ) -> usize {
        source_length.saturating_mul(KeysValues::bytes_of_row(&attention.heads))
    }

    /// Memory in bytes.
    pub(in crate::generation) fn bytes(&self) -> usize {
        self.rows.bytes()
    }
}
