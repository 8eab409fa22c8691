//! The stack of every model: embeddings, reversible blocks, a final normalisation.

use burn::module::{AutodiffModule, Initializer, Module};
use burn::nn::{Embedding, EmbeddingConfig};
use burn::optim::GradientsParams;
use burn::tensor::backend::{AutodiffBackend, Backend};
use burn::tensor::{Int, Tensor};

use super::block::Block;
use super::config::ReformerConfig;
use super::stack_tape::{StackTape, embed, halves, side_by_side};
use crate::attention::{Attention, AttentionLayer, Heads, TrainAttentionLayer};
use crate::error::ConfigError;
use crate::kernels::{ReformerBackend, TrainBackend};
use crate::norm::{LayerNorm, LayerNormConfig};
use crate::pass::{Pass, dropout};
use crate::position::Position;
use crate::precision::Precision;
use crate::reversible::{GradientSum, Mode, forward};

/// Purposes of the keys derived from the key of a pass.
pub(super) mod purpose {
    pub(in crate::model) const EMBEDDINGS: u64 = 0;
    pub(in crate::model) const BLOCKS: u64 = 1;
    pub(in crate::model) const OUTPUT: u64 = 2;
}

/// Maps tokens to hidden states. `L` is the attention layer of the blocks.
#[derive(Module, Debug)]
pub struct Reformer<B: Backend, L = Attention<B>> {
    /// Token embeddings.
    pub embedding: Embedding<B>,
    /// Position information.
    pub position: Position<B>,
    /// Blocks of attention and feed-forward.
    pub blocks: Vec<Block<B, L>>,
    /// Final normalisation of both streams, concatenated.
    pub norm: LayerNorm<B>,
    /// Number of different tokens.
    pub vocab_size: usize,
    dropout: f64,
    #[module(skip)]
    mode: Mode,
    #[module(skip)]
    precision: Precision,
}

impl<B: Backend, L> Reformer<B, L> {
    pub(super) fn new(
        blocks: Vec<Block<B, L>>,
        config: &ReformerConfig,
        device: &B::Device,
    ) -> Self {
        Self {
            embedding: EmbeddingConfig::new(config.vocab_size, config.d_model)
                .with_initializer(Initializer::Normal {
                    mean: 0.0,
                    std: config.embedding_std,
                })
                .init(device),
            position: config.position.init(config.d_model, device),
            blocks,
            norm: LayerNormConfig::new(2 * config.d_model)
                .with_epsilon(config.norm_epsilon)
                .init(device),
            vocab_size: config.vocab_size,
            dropout: config.dropout,
            mode: config.mode,
            precision: config.precision,
        }
    }

    /// The same weights with another mode of training.
    pub fn with_mode(mut self, mode: Mode) -> Self {
        self.mode = mode;
        self
    }

    /// How the backward pass obtains activations.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Floating-point type of the blocks.
    pub fn precision(&self) -> Precision {
        self.precision
    }
}

impl<B: Backend> Reformer<B> {
    /// The same weights with differently configured attention: for example trained with hashing and
    /// evaluated exactly, or with more rounds (paper, table 2). The rest of the configuration is ignored.
    ///
    /// # Errors
    /// Attention whose projections have other shapes.
    pub fn with_attention(
        mut self,
        config: &ReformerConfig,
        device: &B::Device,
    ) -> Result<Self, ConfigError> {
        config.validate()?;
        let kinds: Vec<_> = config.kinds().collect();
        for (number, block) in self.blocks.iter_mut().enumerate() {
            let kind = kinds[number % kinds.len()];
            let other = config.attention::<B>(number, kind, device);
            let shape = |heads: &Heads<B>| {
                let width = heads.query.weight.dims();
                (width, heads.n_heads, heads.key.is_none())
            };
            let mut heads = block.attention.heads().clone();
            if shape(&heads) != shape(other.heads()) {
                return Err(ConfigError::new(
                    "layers",
                    format!("{kind:?} in block {number}"),
                    "it has other projections than these weights",
                    "keep d_model, the heads, and whether queries and keys are shared",
                ));
            }
            heads.logit_scale = other.heads().logit_scale;
            heads.query_length = other.heads().query_length;
            heads.rotary_base = other.heads().rotary_base;
            block.attention = other.with_heads(heads);
        }
        Ok(self)
    }
}

impl<B: ReformerBackend> Reformer<B> {
    /// Fixes the hash rotations of all LSH layers, from the first one on; see
    /// [`LshAttention::with_rotations`](crate::attention::LshAttention::with_rotations).
    ///
    /// # Shapes
    /// - each: `[n_heads, d_head, n_rounds, sum(factors) / 2]`
    ///
    /// # Errors
    /// A number of rotations that differs from that of LSH layers, or rotations of the wrong shape.
    pub fn with_rotations(mut self, rotations: Vec<Tensor<B, 4>>) -> Result<Self, ConfigError> {
        let is_lsh = |block: &&Block<B>| block.attention.lsh().is_some();
        let n_layers = self.blocks.iter().filter(is_lsh).count();
        if rotations.len() != n_layers {
            return Err(ConfigError::new(
                "rotations",
                format!("{} tensors", rotations.len()),
                format!("the model has {n_layers} LSH layers"),
                "give one for each",
            ));
        }
        let mut rotations = rotations.into_iter();
        let mut blocks = Vec::with_capacity(self.blocks.len());
        for mut block in self.blocks {
            if let Attention::Lsh(attention) = block.attention {
                let rotations = rotations.next().expect("counted above");
                block.attention = Attention::Lsh(attention.with_rotations(rotations)?);
            }
            blocks.push(block);
        }
        self.blocks = blocks;
        Ok(self)
    }
}

impl<B: ReformerBackend, L: AttentionLayer<B>> Reformer<B, L> {
    /// Hidden states of tokens. On an autodiff backend the graph keeps every activation, whatever
    /// the mode; train with [`record`](Self::record).
    ///
    /// # Shapes
    /// - tokens: `[batch_size, seq_length]`
    /// - output: `[batch_size, seq_length, 2 * d_model]`
    ///
    /// # Panics
    /// If the sequence is longer than the positions allow.
    pub fn forward(&self, tokens: Tensor<B, 2, Int>, pass: &Pass<B>) -> Tensor<B, 3> {
        let streams = side_by_side(self.streams(tokens, pass));
        self.normalize(streams, &Self::output_pass(pass))
    }

    /// The buckets of tokens in each LSH layer, from the first one on: each
    /// `[batch_size, n_heads, n_rounds, seq_length]`. Padding has an additional last bucket. Layers
    /// with exact attention at this length have no buckets.
    ///
    /// # Shapes
    /// - tokens: `[batch_size, seq_length]`
    pub fn buckets(&self, tokens: Tensor<B, 2, Int>, pass: &Pass<B>) -> Vec<Tensor<B, 4, Int>> {
        let x = self.embed(tokens, pass);
        let blocks = pass.fold(purpose::BLOCKS);
        let mut buckets = Vec::new();
        forward(&self.blocks, [x.clone(), x], &blocks, self.mode, |layer| {
            buckets.extend(layer);
        });
        buckets
    }

    /// Both streams before the final normalisation: `[batch_size, seq_length, d_model]` each.
    pub(super) fn streams(&self, tokens: Tensor<B, 2, Int>, pass: &Pass<B>) -> [Tensor<B, 3>; 2] {
        let x = self.embed(tokens, pass);
        let blocks = pass.fold(purpose::BLOCKS);
        let streams = [x.clone(), x];
        forward(&self.blocks, streams, &blocks, self.mode, |_| {})
    }

    /// Embeddings of tokens and positions, the initial value of both streams.
    pub(super) fn embed(&self, tokens: Tensor<B, 2, Int>, pass: &Pass<B>) -> Tensor<B, 3> {
        let x = embed(&self.embedding, &self.position, tokens);
        dropout(x, pass.dropout(self.dropout, purpose::EMBEDDINGS))
    }

    /// The pass for everything after the blocks.
    pub(super) fn output_pass(pass: &Pass<B>) -> Pass<B> {
        pass.fold(purpose::OUTPUT)
    }

    /// The final normalisation, for all positions or a chunk of them.
    pub(super) fn normalize(&self, streams: Tensor<B, 3>, pass: &Pass<B>) -> Tensor<B, 3> {
        let hidden = self.norm.forward(streams);
        dropout(hidden, pass.dropout(self.dropout, 0))
    }

    /// The same in the type of the output projection.
    pub(super) fn normalize_lowered(&self, streams: Tensor<B, 3>, pass: &Pass<B>) -> Tensor<B, 3> {
        if self.draws_at_output(pass) {
            // Dropout factors need more digits than half precision has.
            return self.precision.lower(self.normalize(streams, pass));
        }
        let dtype = self.precision.dtype().unwrap_or(streams.dtype());
        self.norm.forward_as(streams, dtype)
    }

    /// Whether dropout is applied after the blocks.
    pub(super) fn draws_at_output(&self, pass: &Pass<B>) -> bool {
        pass.dropout(self.dropout, 0).is_some()
    }
}

/// A recorded forward pass, ready for backward.
///
/// Returned by [`Reformer::record`]. The caller computes a loss from [`hidden`](Self::hidden) as with
/// any Burn module, calls `backward` on it, and passes the result to [`backward`](Self::backward).
pub struct Recorded<A: AutodiffBackend> {
    /// Hidden states: `[batch_size, seq_length, 2 * d_model]`.
    pub hidden: Tensor<A, 3>,
    /// The streams that `hidden` was computed from, and their tape. `None` in plain mode, where
    /// `hidden` has the graph of the whole model.
    tape: Option<(Tensor<A, 3>, StackTape<A>)>,
}

impl<A: TrainBackend, L: TrainAttentionLayer<A>> Reformer<A, L> {
    /// Runs forward for training, with the memory of the [mode](Self::mode).
    ///
    /// ```
    /// use burn::optim::GradientsParams;
    /// use burn::tensor::{Int, Tensor};
    /// use burn_autodiff::Autodiff;
    /// use burn_flex::Flex;
    /// use reformer_core::{Key, Pass, model::ReformerConfig};
    ///
    /// type B = Autodiff<Flex>;
    /// let device = Default::default();
    /// let model = ReformerConfig::new(256, 32, 2).init::<B>(&device);
    /// let tokens = Tensor::<B, 2, Int>::zeros([1, 100], &device);
    ///
    /// let recorded = model.record(tokens, Pass::train(Key::new(1)));
    /// let loss = recorded.hidden.clone().square().mean(); // any loss, from any head
    /// let gradients: GradientsParams = recorded.backward(&model, &mut loss.backward());
    /// assert!(gradients.len() > 0);
    /// ```
    ///
    /// # Shapes
    /// - tokens: `[batch_size, seq_length]`
    pub fn record(&self, tokens: Tensor<A, 2, Int>, pass: Pass<A>) -> Recorded<A> {
        if !self.mode.is_recomputed() {
            return Recorded {
                hidden: self.forward(tokens, &pass),
                tape: None,
            };
        }
        let output = Self::output_pass(&pass);
        let (tape, streams) = self.record_streams(tokens, pass);
        let leaf = Tensor::from_inner(side_by_side(streams)).require_grad();
        Recorded {
            hidden: self.normalize(leaf.clone(), &output),
            tape: Some((leaf, tape)),
        }
    }

    /// Both streams before the final normalisation, and their tape.
    pub(super) fn record_streams(
        &self,
        tokens: Tensor<A, 2, Int>,
        pass: Pass<A>,
    ) -> (StackTape<A>, [Tensor<A::InnerBackend, 3>; 2]) {
        let inside = self.valid();
        let x = inside.embed(tokens.clone().inner(), &pass.inner());
        let of_blocks = pass.fold(purpose::BLOCKS);
        StackTape::record(&inside.blocks, tokens, x, [pass, of_blocks], self.mode)
    }

    /// Backward from the gradients of both streams to blocks and embeddings. Returns the drift.
    pub(super) fn backward(
        &self,
        tape: StackTape<A>,
        gradients: [Tensor<A::InnerBackend, 3>; 2],
        sum: &mut GradientSum,
    ) -> Tensor<A::InnerBackend, 1> {
        let embed = |tokens, pass: &Pass<A>| self.embed(tokens, pass);
        let arrived = tape.backward(&self.blocks, embed, self, gradients, sum);
        arrived.drift
    }
}

impl<A: TrainBackend> Recorded<A> {
    /// Gradients of the model's parameters, from those of a loss computed from
    /// [`hidden`](Self::hidden). Gradients of other modules stay in `gradients`.
    pub fn backward<L: TrainAttentionLayer<A>>(
        self,
        model: &Reformer<A, L>,
        gradients: &mut A::Gradients,
    ) -> GradientsParams {
        let mut sum = GradientSum::new();
        self.add_gradients(model, gradients, &mut sum);
        sum.into_params()
    }

    /// As [`backward`](Self::backward), added to a sum. Returns the drift, unless the graph was kept.
    pub(super) fn add_gradients<L: TrainAttentionLayer<A>>(
        self,
        model: &Reformer<A, L>,
        gradients: &mut A::Gradients,
        sum: &mut GradientSum,
    ) -> Option<Tensor<A::InnerBackend, 1>> {
        sum.add(gradients, model);
        let (leaf, tape) = self.tape?;
        let gradient = leaf.grad_remove(gradients)?;
        Some(model.backward(tape, halves(gradient), sum))
    }
}
