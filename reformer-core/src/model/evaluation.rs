//! Evaluation block by block: with attention left to a cache, or looked at on the way.

use burn::tensor::{Int, Tensor};

use super::block::Block;
use super::reformer::Reformer;
use super::streams::{embed_at, side_by_side};
use crate::attention::{Attention, InspectedHead, LshAttention, LshProbe};
use crate::kernels::ReformerBackend;
use crate::pass::Pass;
use crate::reversible::{ReversibleBlock, add_residuals, forward};

impl<B: ReformerBackend> Reformer<B> {
    /// What hashing does to each LSH layer, from the first one up, on the hidden states that it
    /// sees in evaluation; see [`LshAttention::probe`](crate::attention::LshAttention::probe).
    ///
    /// # Shapes
    /// - tokens: `[batch_size, seq_length]`
    ///
    /// # Panics
    /// If the sequence is longer than the positions allow.
    pub fn probe(&self, tokens: Tensor<B, 2, Int>) -> Vec<LshProbe<B>> {
        let mut probes = Vec::new();
        self.visit_lsh(tokens, &Pass::eval(), |attention, x, pass| {
            probes.push(attention.probe(x, pass));
        });
        probes
    }

    /// What each head of each LSH layer, from the first one up, does to a sequence in evaluation:
    /// buckets and weights of every position; see
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
        let is_lsh = |(number, block): (usize, &Block<B>)| {
            matches!(block.attention, Attention::Lsh(_)).then_some(number)
        };
        let mut numbers = self.blocks.iter().enumerate().filter_map(is_lsh);
        self.visit_lsh(tokens, pass, |attention, x, pass| {
            let number = numbers.next().expect("as many as there are");
            inspected.push((number, attention.inspect(x, pass)));
        });
        inspected
    }

    /// Hands out each LSH layer with what it attends to in evaluation.
    fn visit_lsh(
        &self,
        tokens: Tensor<B, 2, Int>,
        pass: &Pass<B>,
        mut visit: impl FnMut(&LshAttention<B>, Tensor<B, 3>, &Pass<B>),
    ) {
        self.visit_attention(tokens, pass, |_, attention, x| {
            if let Attention::Lsh(attention) = attention {
                visit(attention, x, pass);
            }
        });
    }

    /// Hands out the attention of each block, by its number, with its normalised input in
    /// evaluation: for those who want to see what it is computed of.
    ///
    /// # Shapes
    /// - tokens: `[batch_size, seq_length]`
    /// - input that is handed out: `[batch_size, seq_length, d_model]`
    ///
    /// # Panics
    /// If the sequence is longer than the positions allow.
    pub fn visit_attention(
        &self,
        tokens: Tensor<B, 2, Int>,
        pass: &Pass<B>,
        mut visit: impl FnMut(usize, &Attention<B>, Tensor<B, 3>),
    ) {
        let x = self.mode().on_grid(self.embed(tokens, pass));
        let mut streams = [x.clone(), x];
        for (number, block) in self.blocks.iter().enumerate() {
            let input = block.attention_norm.forward(streams[1].clone());
            visit(number, &block.attention, input);
            // One block at a time: in evaluation the number of a block has no influence.
            let block = core::slice::from_ref(block);
            streams = forward(block, streams, pass, self.mode(), |_| {});
        }
    }

    /// Hidden states of a single token of each sequence in evaluation, with attention left to the
    /// caller: it is given the number of the block and its normalised input.
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

    /// The streams after the last of all positions in evaluation, with attention left to the caller.
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
