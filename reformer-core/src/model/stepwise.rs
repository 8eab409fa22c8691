//! Evaluation block by block: with attention from a cache, or with access to attention inputs.

use burn::tensor::{Int, Tensor};

use super::block::Block;
use super::reformer::Reformer;
use super::stack_tape::{embed_at, side_by_side};
use crate::attention::{AttentionLayer, InspectedHead, LshAttention, LshCoverage};
use crate::kernels::ReformerBackend;
use crate::pass::Pass;
use crate::reversible::{ReversibleBlock, add_residuals, forward};

impl<B: ReformerBackend> Reformer<B> {
    /// Measures the hashing of each LSH layer, from the first one on, on its hidden states in
    /// evaluation; see [`LshAttention::probe`](crate::attention::LshAttention::probe).
    ///
    /// # Shapes
    /// - tokens: `[batch_size, seq_length]`
    ///
    /// # Panics
    /// If the sequence is longer than the positions allow.
    pub fn probe(&self, tokens: Tensor<B, 2, Int>) -> Vec<LshCoverage<B>> {
        let mut probes = Vec::new();
        self.visit_lsh(tokens, &Pass::eval(), |attention, x, pass| {
            probes.push(attention.probe(x, pass));
        });
        probes
    }

    /// Buckets and attention weights of every position in each head of each LSH layer, from the
    /// first one on, in evaluation; see
    /// [`LshAttention::inspect`](crate::attention::LshAttention::inspect).
    ///
    /// # Shapes
    /// - tokens: `[1, seq_length]`
    ///
    /// # Panics
    /// If there is more than one sequence, or it is longer than the positions allow.
    pub fn inspect(
        &self,
        tokens: Tensor<B, 2, Int>,
        pass: &Pass<B>,
    ) -> Vec<(usize, Vec<InspectedHead>)> {
        let mut inspected = Vec::new();
        let is_lsh = |(number, block): (usize, &Block<B>)| block.attention.lsh().map(|_| number);
        let mut numbers = self.blocks.iter().enumerate().filter_map(is_lsh);
        self.visit_lsh(tokens, pass, |attention, x, pass| {
            let number = numbers.next().expect("as many as there are");
            inspected.push((number, attention.inspect(x, pass)));
        });
        inspected
    }

    /// Calls `visit` with each LSH layer and its input in evaluation.
    fn visit_lsh(
        &self,
        tokens: Tensor<B, 2, Int>,
        pass: &Pass<B>,
        mut visit: impl FnMut(&LshAttention<B>, Tensor<B, 3>, &Pass<B>),
    ) {
        self.visit_attention(tokens, pass, |_, attention, x| {
            if let Some(attention) = attention.lsh() {
                visit(attention, x, pass);
            }
        });
    }
}

impl<B: ReformerBackend, L: AttentionLayer<B>> Reformer<B, L> {
    /// Calls `visit` with each block's number, its attention layer and its normalised input in
    /// evaluation, for inspection of attention.
    ///
    /// # Shapes
    /// - tokens: `[batch_size, seq_length]`
    /// - input passed to `visit`: `[batch_size, seq_length, d_model]`
    ///
    /// # Panics
    /// If the sequence is longer than the positions allow.
    pub fn visit_attention(
        &self,
        tokens: Tensor<B, 2, Int>,
        pass: &Pass<B>,
        mut visit: impl FnMut(usize, &L, Tensor<B, 3>),
    ) {
        let x = self.mode().on_grid(self.embed(tokens, pass));
        let mut streams = [x.clone(), x];
        for (number, block) in self.blocks.iter().enumerate() {
            let input = block.attention_norm.forward(streams[1].clone());
            visit(number, &block.attention, input);
            // One block at a time: in evaluation the index of a block has no effect.
            let block = core::slice::from_ref(block);
            streams = forward(block, streams, pass, self.mode(), |_| {});
        }
    }

    /// Hidden states of a single token of each sequence in evaluation, with attention computed by
    /// the caller from the block's number and its normalised input.
    ///
    /// # Shapes
    /// - tokens: `[batch_size, 1]`, positions: `[batch_size]`
    /// - output: `[batch_size, 1, 2 * d_model]`
    pub(crate) fn forward_at(
        &self,
        tokens: Tensor<B, 2, Int>,
        positions: &[usize],
        attend: impl FnMut(usize, Tensor<B, 3>) -> Tensor<B, 3>,
    ) -> Tensor<B, 3> {
        let x = embed_at(&self.embedding, &self.position, tokens, positions);
        let streams = self.through_blocks(x, attend);
        self.normalize(side_by_side(streams), &Pass::eval())
    }

    /// Hidden states of the last position in evaluation, with attention computed by the caller.
    ///
    /// # Shapes
    /// - tokens: `[batch_size, seq_length]`
    /// - output: `[batch_size, 1, 2 * d_model]`
    pub(crate) fn last_hidden(
        &self,
        tokens: Tensor<B, 2, Int>,
        attend: impl FnMut(usize, Tensor<B, 3>) -> Tensor<B, 3>,
    ) -> Tensor<B, 3> {
        let [_, seq_length] = tokens.dims();
        let x = self.embed(tokens, &Pass::eval());
        let last = |stream: Tensor<B, 3>| stream.slice_dim(1, seq_length - 1..seq_length);
        let streams = self.through_blocks(x, attend).map(last);
        self.normalize(side_by_side(streams), &Pass::eval())
    }

    fn through_blocks(
        &self,
        x: Tensor<B, 3>,
        mut attend: impl FnMut(usize, Tensor<B, 3>) -> Tensor<B, 3>,
    ) -> [Tensor<B, 3>; 2] {
        let pass = Pass::eval();
        let x = self.mode().on_grid(x);
        let mut streams = [x.clone(), x];
        for (number, block) in self.blocks.iter().enumerate() {
            let f = |x| block.f_by(x, |x| attend(number, x));
            let g = |_, x| block.g(x, &pass);
            let chunk_length = block.g_chunk_length(streams[0].dims()[0]);
            streams = add_residuals(streams, self.mode(), f, chunk_length, g);
        }
        streams
    }
}
