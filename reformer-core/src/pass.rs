//! Per-call context of a layer: randomness, padding, buckets to reuse, source, context length.

use burn::tensor::backend::{AutodiffBackend, Backend};
use burn::tensor::{Bool, Int, Tensor};

use crate::kernels::ReformerBackend;
use crate::random::Key;

/// The source of a decoder: hidden states of another sequence.
#[derive(Debug, Clone)]
pub struct Source<B: Backend> {
    /// `[batch_size, source_length, d_model]`.
    pub hidden: Tensor<B, 3>,
    /// True where a position is padding: `[batch_size, source_length]`. Padding is never attended
    /// to.
    pub mask_pad: Option<Tensor<B, 2, Bool>>,
}

impl<B: Backend> Source<B> {
    /// The same on an autodiff backend.
    pub fn from_inner<I: Backend>(inner: Source<I>) -> Self
    where
        B: AutodiffBackend<InnerBackend = I>,
    {
        Self {
            hidden: Tensor::from_inner(inner.hidden),
            mask_pad: inner.mask_pad.map(Tensor::from_inner),
        }
    }

    /// The same on the inner backend.
    pub fn inner(self) -> Source<B::InnerBackend>
    where
        B: AutodiffBackend,
    {
        Source {
            hidden: self.hidden.inner(),
            mask_pad: self.mask_pad.map(Tensor::inner),
        }
    }
}

/// Everything besides input and weights that a layer's output depends on: the key of its
/// randomness, the padding, buckets to reuse, and the source of a decoder.
///
/// Layers have no random state and keep nothing between calls. Equal passes give equal results,
/// which allows a reversible stack to recompute them.
///
/// ```
/// use burn_flex::Flex;
/// use reformer_core::{Key, Pass};
///
/// let evaluation = Pass::<Flex>::eval(); // no dropout, fixed rotations
/// let training = Pass::<Flex>::train(Key::new(42).fold(1000)); // step 1000 of the run with seed 42
/// assert!(evaluation.key().is_none());
/// assert!(training.key().is_some());
/// ```
#[derive(Debug, Clone)]
pub struct Pass<B: Backend> {
    key: Option<Key>,
    part: u64,
    mask_pad: Option<Tensor<B, 2, Bool>>,
    buckets: Option<Tensor<B, 4, Int>>,
    source: Option<Source<B>>,
    context: Option<usize>,
}

impl<B: Backend> Pass<B> {
    /// Evaluation: no dropout, and the hash rotations of the module.
    pub fn eval() -> Self {
        Self {
            key: None,
            part: 0,
            mask_pad: None,
            buckets: None,
            source: None,
            context: None,
        }
    }

    /// Training with the randomness of `key`, usually a seed folded with the step.
    pub fn train(key: Key) -> Self {
        Self {
            key: Some(key),
            ..Self::eval()
        }
    }

    /// The pass of part `n` of a batch that is computed in parts: they share the hash rotations,
    /// but each part has its own dropout masks.
    pub fn with_part(mut self, n: u64) -> Self {
        self.part = n;
        self
    }

    /// Sets the padding: true where a position is not part of the sequence,
    /// `[batch_size, seq_length]`. Padding is never attended to.
    pub fn with_mask_pad(mut self, mask_pad: Option<Tensor<B, 2, Bool>>) -> Self {
        self.mask_pad = mask_pad;
        self
    }

    /// Buckets for LSH attention to reuse instead of hashing:
    /// `[batch_size, n_heads, n_rounds, seq_length]`, as returned by the forward pass that is recomputed.
    pub fn with_buckets(mut self, buckets: Option<Tensor<B, 4, Int>>) -> Self {
        self.buckets = buckets;
        self
    }

    /// Sets the source that the layers of a decoder attend to.
    pub fn with_source(mut self, source: Option<Source<B>>) -> Self {
        self.source = source;
        self
    }

    /// Replaces the length of the sequence in settings that depend on it: the number of automatic
    /// buckets and, under [`Window::Bucket`](crate::attention::Window), whether LSH attention is
    /// exact. Default: the length of the sequence. With the same context, a prefix gives the same
    /// results as in the whole sequence.
    pub fn with_context(mut self, context: Option<usize>) -> Self {
        self.context = context;
        self
    }

    /// The `n`-th derived pass: the same padding, source and context, with another key.
    pub fn fold(&self, n: u64) -> Self {
        Self {
            key: self.key.map(|key| key.fold(n)),
            part: self.part,
            mask_pad: self.mask_pad.clone(),
            buckets: None,
            source: self.source.clone(),
            context: self.context,
        }
    }

    /// The same pass on an autodiff backend.
    pub fn from_inner<I: Backend>(inner: &Pass<I>) -> Self
    where
        B: AutodiffBackend<InnerBackend = I>,
    {
        Self {
            key: inner.key,
            part: inner.part,
            mask_pad: inner.mask_pad.clone().map(Tensor::from_inner),
            buckets: inner.buckets.clone().map(Tensor::from_inner),
            source: inner.source.clone().map(Source::from_inner),
            context: inner.context,
        }
    }

    /// The same pass on the inner backend.
    pub fn inner(&self) -> Pass<B::InnerBackend>
    where
        B: AutodiffBackend,
    {
        Pass {
            key: self.key,
            part: self.part,
            mask_pad: self.mask_pad.clone().map(Tensor::inner),
            buckets: self.buckets.clone().map(Tensor::inner),
            source: self.source.clone().map(Source::inner),
            context: self.context,
        }
    }

    /// The key of the randomness, in training.
    pub fn key(&self) -> Option<Key> {
        self.key
    }

    /// True where a position is padding.
    pub fn mask_pad(&self) -> Option<&Tensor<B, 2, Bool>> {
        self.mask_pad.as_ref()
    }

    /// The length that replaces the sequence's, if any.
    pub fn context(&self) -> Option<usize> {
        self.context
    }

    /// Buckets to reuse.
    pub fn buckets(&self) -> Option<&Tensor<B, 4, Int>> {
        self.buckets.as_ref()
    }

    /// The source that the layers of a decoder attend to.
    pub fn source(&self) -> Option<&Source<B>> {
        self.source.as_ref()
    }

    /// Rate and key of a dropout, if this pass applies it. `purpose` distinguishes the dropouts of
    /// one layer.
    pub(crate) fn dropout(&self, rate: f64, purpose: u64) -> Option<(f64, Key)> {
        let key = self.key.filter(|_| rate > 0.0)?.fold(purpose);
        let key = match self.part {
            0 => key,
            part => key.fold(part),
        };
        Some((rate, key))
    }
}

/// Applies dropout to a tensor with counter-based factors.
pub(crate) fn dropout<B: ReformerBackend, const D: usize>(
    tensor: Tensor<B, D>,
    dropout: Option<(f64, Key)>,
) -> Tensor<B, D> {
    match dropout {
        Some((rate, key)) => {
            let factors = B::dropout_factors(tensor.dims(), rate, key, &tensor.device());
            let factors = factors.cast(tensor.dtype());
            tensor * factors
        }
        None => tensor,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn_flex::Flex;

    #[test]
    fn parts_share_rotations_and_not_dropout() {
        let pass = Pass::<Flex>::train(Key::new(3));
        let [first, second] = [0, 1].map(|part| pass.clone().with_part(part).fold(5));
        assert_eq!(first.key(), second.key());
        assert_eq!(first.dropout(0.1, 2), pass.fold(5).dropout(0.1, 2));
        assert_ne!(first.dropout(0.1, 2), second.dropout(0.1, 2));
    }
}
