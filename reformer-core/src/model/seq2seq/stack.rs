//! Encoder or decoder stack of an encoder-decoder.

use burn::module::{AutodiffModule, Module, ModuleDisplay};
use burn::nn::Embedding;
use burn::tensor::backend::Backend;
use burn::tensor::{Int, Tensor};

use super::block::DecoderBlock;
use crate::kernels::{ReformerBackend, TrainBackend};
use crate::model::block::Block;
use crate::model::config::ReformerConfig;
use crate::model::reformer::purpose;
use crate::model::stack_tape::{StackGradients, StackTape, embed};
use crate::norm::{LayerNorm, LayerNormConfig};
use crate::pass::{Pass, dropout};
use crate::position::Position;
use crate::reversible::{GradientSum, Mode, ReversibleBlock, forward};

/// The stack that reads the source.
pub type Encoder<B> = Stack<B, Block<B>>;

/// The stack that reads the target and the source.
pub type Decoder<B> = Stack<B, DecoderBlock<B>>;

/// Encoder or decoder: positions, reversible blocks, and a normalisation of the mean of both
/// streams.
#[derive(Module, Debug)]
pub struct Stack<B: Backend, M: Module<B>> {
    /// Position information.
    pub position: Position<B>,
    /// One block for each layer.
    pub blocks: Vec<M>,
    /// Final normalisation of the mean of both streams.
    pub norm: LayerNorm<B>,
    dropout: f64,
}

impl<B: Backend, M: Module<B>> Stack<B, M> {
    pub(super) fn new(blocks: Vec<M>, config: &ReformerConfig, device: &B::Device) -> Self {
        Self {
            position: config.position.init(config.d_model, device),
            blocks,
            norm: LayerNormConfig::new(config.d_model)
                .with_epsilon(config.norm_epsilon)
                .init(device),
            dropout: config.dropout,
        }
    }
}

impl<B: ReformerBackend, M: ReversibleBlock<B>> Stack<B, M> {
    /// Both streams after the last block: `[batch_size, seq_length, d_model]` each.
    pub(super) fn streams(
        &self,
        embedding: &Embedding<B>,
        tokens: Tensor<B, 2, Int>,
        pass: &Pass<B>,
        mode: Mode,
    ) -> [Tensor<B, 3>; 2] {
        let x = self.embed(embedding, tokens, pass);
        let of_blocks = pass.fold(purpose::BLOCKS);
        forward(&self.blocks, [x.clone(), x], &of_blocks, mode, |_| {})
    }

    /// Embeddings of tokens and positions, the initial value of both streams.
    pub(super) fn embed(
        &self,
        embedding: &Embedding<B>,
        tokens: Tensor<B, 2, Int>,
        pass: &Pass<B>,
    ) -> Tensor<B, 3> {
        let x = embed(embedding, &self.position, tokens);
        dropout(x, pass.dropout(self.dropout, purpose::EMBEDDINGS))
    }

    /// The final normalisation of the mean of both streams.
    pub(super) fn normalize(&self, mean: Tensor<B, 3>, pass: &Pass<B>) -> Tensor<B, 3> {
        let hidden = self.norm.forward(mean);
        dropout(hidden, pass.dropout(self.dropout, purpose::OUTPUT))
    }
}

impl<A, M> Stack<A, M>
where
    A: TrainBackend,
    M: ReversibleBlock<A> + AutodiffModule<A> + ModuleDisplay,
    M::InnerModule: ReversibleBlock<A::InnerBackend> + ModuleDisplay,
{
    /// Both streams after the last block, and their tape.
    pub(super) fn record(
        &self,
        embedding: &Embedding<A>,
        tokens: Tensor<A, 2, Int>,
        pass: Pass<A>,
        mode: Mode,
    ) -> (StackTape<A>, [Tensor<A::InnerBackend, 3>; 2]) {
        let inside = self.valid();
        let x = inside.embed(&embedding.valid(), tokens.clone().inner(), &pass.inner());
        let of_blocks = pass.fold(purpose::BLOCKS);
        StackTape::record(&inside.blocks, tokens, x, [pass, of_blocks], mode)
    }

    /// Backward from the gradient of the mean of both streams to blocks and embeddings.
    pub(super) fn backward(
        &self,
        tape: StackTape<A>,
        embedding: &Embedding<A>,
        gradient: Tensor<A::InnerBackend, 3>,
        sum: &mut GradientSum,
    ) -> StackGradients<A::InnerBackend> {
        let half = gradient * 0.5;
        let embed = |tokens, pass: &Pass<A>| self.embed(embedding, tokens, pass);
        let parameters = (self.position.clone(), embedding.clone());
        tape.backward(&self.blocks, embed, &parameters, [half.clone(), half], sum)
    }
}
