//! One layer of the decoder.

use burn::module::Module;
use burn::tensor::backend::Backend;
use burn::tensor::{Bool, Int, Tensor};

use crate::attention::{CrossAttention, CrossAttentionConfig};
use crate::kernels::ReformerBackend;
use crate::model::block::Block;
use crate::model::config::ReformerConfig;
use crate::norm::{LayerNorm, LayerNormConfig};
use crate::pass::{Pass, Source, dropout};
use crate::precision::{Precision, widen};
use crate::reversible::ReversibleBlock;

/// Purposes of the keys derived from the key of G.
const FEED_FORWARD: u64 = 0;
const CROSS: u64 = 1;

/// Cross-attention with its normalisation and dropout.
#[derive(Module, Debug)]
pub struct Cross<B: Backend> {
    /// Normalises the input that queries come from.
    pub norm: LayerNorm<B>,
    /// Attention to the source.
    pub attention: CrossAttention<B>,
    dropout: f64,
    #[module(skip)]
    precision: Precision,
}

impl<B: Backend> Cross<B> {
    fn new(config: &ReformerConfig, attention: CrossAttention<B>, device: &B::Device) -> Self {
        Self {
            norm: LayerNormConfig::new(config.d_model)
                .with_epsilon(config.norm_epsilon)
                .init(device),
            attention,
            dropout: config.dropout,
            precision: config.precision,
        }
    }
}

impl<B: ReformerBackend> Cross<B> {
    fn forward(&self, x: Tensor<B, 3>, source: &Source<B>, pass: &Pass<B>) -> Tensor<B, 3> {
        let source = Source {
            hidden: self.precision.lower(source.hidden.clone()),
            mask_pad: source.mask_pad.clone(),
        };
        let attended = self.by(x, |x| self.attention.forward(x, &source, &pass.fold(0)));
        dropout(attended, pass.dropout(self.dropout, 1))
    }

    /// Applies normalisation and precision around `attend`.
    fn by(
        &self,
        x: Tensor<B, 3>,
        attend: impl FnOnce(Tensor<B, 3>) -> Tensor<B, 3>,
    ) -> Tensor<B, 3> {
        widen(attend(self.precision.lower(self.norm.forward(x))))
    }
}

/// A block whose second function reads the source: `y1 = x1 + Attention(x2)`, `c = Cross(y1, source)`,
/// `y2 = x2 + c + FeedForward(y1 + c)`, each function with a normalisation before it.
///
/// A decoder layer has three residual functions for two streams. Cross-attention and feed-forward
/// share a stream because both are position-wise for a given source: G runs in chunks as it does
/// without a source, and F recomputes self-attention only. Trax alternates single functions between
/// the streams instead, so that the streams are swapped in every other layer; there, too, the
/// queries of cross-attention come from the output of self-attention.
///
/// Without cross-attention, F attends to the concatenated source and target, as Trax's Terraformer
/// and reformer_pytorch do. With LSH attention this is linear in both lengths. Local attention then
/// sees the target only.
#[derive(Module, Debug)]
pub struct DecoderBlock<B: Backend> {
    /// Self-attention and feed-forward.
    pub block: Block<B>,
    /// Cross-attention, unless self-attention includes the source.
    pub cross: Option<Cross<B>>,
}

impl<B: Backend> DecoderBlock<B> {
    pub(super) fn new(
        block: Block<B>,
        cross: Option<CrossAttentionConfig>,
        config: &ReformerConfig,
        device: &B::Device,
    ) -> Self {
        Self {
            block,
            cross: cross.map(|cross| Cross::new(config, cross.init(device), device)),
        }
    }
}

impl<B: Backend> DecoderBlock<B> {
    /// Whether self-attention attends to the concatenated source and target.
    pub(crate) fn is_concatenated(&self) -> bool {
        self.cross.is_none() && !self.block.attention.is_local()
    }
}

impl<B: ReformerBackend> DecoderBlock<B> {
    /// G in evaluation, with cross-attention, if there is any, computed by the caller.
    pub(super) fn g_by(
        &self,
        x: Tensor<B, 3>,
        attend: impl FnOnce(&CrossAttention<B>, Tensor<B, 3>) -> Tensor<B, 3>,
    ) -> Tensor<B, 3> {
        let of_source = |cross: &Cross<B>| cross.by(x.clone(), |x| attend(&cross.attention, x));
        self.g_beside(self.cross.as_ref().map(of_source), x, &Pass::eval())
    }

    /// G, given the result of cross-attention for `x`.
    fn g_beside(
        &self,
        of_source: Option<Tensor<B, 3>>,
        x: Tensor<B, 3>,
        pass: &Pass<B>,
    ) -> Tensor<B, 3> {
        let pass = pass.fold(FEED_FORWARD);
        match of_source {
            Some(of_source) => of_source.clone() + widen(self.block.g(x + of_source, &pass)),
            None => self.block.g(x, &pass),
        }
    }
}

impl<B: ReformerBackend> ReversibleBlock<B> for DecoderBlock<B> {
    fn f(&self, x: Tensor<B, 3>, pass: &Pass<B>) -> (Tensor<B, 3>, Option<Tensor<B, 4, Int>>) {
        if !self.is_concatenated() {
            return self.block.f(x, pass);
        }
        let source = source_of(pass);
        let [_, source_length, _] = source.hidden.dims();
        let [_, target_length, _] = x.dims();
        let target = self.block.attention_norm.forward(x);
        let both = Tensor::cat(vec![source.hidden.clone(), target], 1);
        let mask_pad = joint_mask(source, pass.mask_pad(), target_length);
        let attended = self
            .block
            .attend(both, &pass.clone().with_mask_pad(mask_pad));
        let of_target = source_length..source_length + target_length;
        (attended.output.slice_dim(1, of_target), attended.buckets)
    }

    fn g(&self, x: Tensor<B, 3>, pass: &Pass<B>) -> Tensor<B, 3> {
        let of_source =
            |cross: &Cross<B>| cross.forward(x.clone(), source_of(pass), &pass.fold(CROSS));
        self.g_beside(self.cross.as_ref().map(of_source), x, pass)
    }

    fn g_chunk_length(&self, _batch_size: usize) -> Option<usize> {
        // Cross-attention may use random numbers per chunk.
        self.block.ff_chunk_length()
    }
}

fn source_of<B: Backend>(pass: &Pass<B>) -> &Source<B> {
    pass.source()
        .expect("a decoder's pass has the source: see `Pass::with_source`")
}

/// Padding mask of the concatenated source and target; `None` if neither has a mask.
fn joint_mask<B: Backend>(
    source: &Source<B>,
    target: Option<&Tensor<B, 2, Bool>>,
    target_length: usize,
) -> Option<Tensor<B, 2, Bool>> {
    if source.mask_pad.is_none() && target.is_none() {
        return None;
    }
    let [batch_size, source_length, _] = source.hidden.dims();
    let device = source.hidden.device();
    let or_none = |mask: Option<&Tensor<B, 2, Bool>>, length| match mask {
        Some(mask) => mask.clone(),
        None => Tensor::<B, 2, Int>::zeros([batch_size, length], &device).equal_elem(1),
    };
    let masks = [
        or_none(source.mask_pad.as_ref(), source_length),
        or_none(target, target_length),
    ];
    Some(Tensor::cat(masks.to_vec(), 1))
}
