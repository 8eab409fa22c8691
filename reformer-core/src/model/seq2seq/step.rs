//! Evaluation one position at a time, with attention from a cache.

use burn::tensor::{Int, Tensor};

use super::ReformerSeq2Seq;
use crate::attention::CrossAttention;
use crate::kernels::ReformerBackend;
use crate::model::stack_tape::{embed_at, mean};
use crate::pass::Pass;
use crate::reversible::add_residuals;

impl<B: ReformerBackend> ReformerSeq2Seq<B> {
    /// Encoded sources in the form that the decoder's attention takes.
    ///
    /// # Shapes
    /// - hidden, output: `[batch_size, source_length, d_model]`
    pub(crate) fn source_for_attention(&self, hidden: Tensor<B, 3>) -> Tensor<B, 3> {
        self.precision.lower(hidden)
    }

    /// Logits after a single token of each target, with both attentions computed by the caller from
    /// the block's number and its normalised input.
    ///
    /// # Shapes
    /// - tokens: `[batch_size, 1]`, positions: `[batch_size]`
    /// - output: `[batch_size, 1, vocab_size]`
    pub(crate) fn decode_at(
        &self,
        tokens: Tensor<B, 2, Int>,
        positions: &[usize],
        mut attend: impl FnMut(usize, Tensor<B, 3>) -> Tensor<B, 3>,
        mut attend_to_source: impl FnMut(usize, &CrossAttention<B>, Tensor<B, 3>) -> Tensor<B, 3>,
    ) -> Tensor<B, 3> {
        let x = embed_at(&self.embedding, &self.decoder.position, tokens, positions);
        let x = self.mode.on_grid(x);
        let mut streams = [x.clone(), x];
        for (number, block) in self.decoder.blocks.iter().enumerate() {
            let f = |x| block.block.f_by(x, |x| attend(number, x));
            let g = |_, x| block.g_by(x, |cross, x| attend_to_source(number, cross, x));
            streams = add_residuals(streams, self.mode, f, None, g);
        }
        self.logits(mean(streams), 0, &Pass::eval())
    }
}
