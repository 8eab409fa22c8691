//! The bidirectional encoder.

use burn::module::Module;
use burn::tensor::backend::{AutodiffBackend, Backend};
use burn::tensor::{Bool, Int, Tensor};

use super::config::ReformerConfig;
use super::reformer::{Recorded, Reformer};
use crate::kernels::ReformerBackend;
use crate::pass::Pass;

/// A [`Reformer`] in which every position sees both directions: hidden states for classifiers,
/// taggers, retrieval.
///
/// ```
/// use burn::tensor::{Int, Tensor};
/// use burn_flex::Flex;
/// use reformer_core::{Pass, model::{ReformerConfig, ReformerEncoder}};
///
/// let device = Default::default();
/// let encoder = ReformerEncoder::<Flex>::new(&ReformerConfig::new(256, 32, 2), &device);
/// let tokens = Tensor::<Flex, 2, Int>::zeros([2, 77], &device);
/// assert_eq!(encoder.forward(tokens, None).dims(), [2, 77, 64]);
/// ```
#[derive(Module, Debug)]
pub struct ReformerEncoder<B: Backend> {
    /// The stack.
    pub reformer: Reformer<B>,
}

impl<B: Backend> ReformerEncoder<B> {
    /// Initialises an encoder. It is never causal, whatever the configuration says.
    ///
    /// # Panics
    /// If the configuration is not [valid](ReformerConfig::validate).
    pub fn new(config: &ReformerConfig, device: &B::Device) -> Self {
        Self {
            reformer: config.clone().with_causal(false).init(device),
        }
    }
}

impl<B: ReformerBackend> ReformerEncoder<B> {
    /// Hidden states of tokens, without dropout.
    ///
    /// # Shapes
    /// - tokens: `[batch_size, seq_length]`
    /// - mask_pad: `[batch_size, seq_length]`, true where a position is padding
    /// - output: `[batch_size, seq_length, 2 * d_model]`
    pub fn forward(
        &self,
        tokens: Tensor<B, 2, Int>,
        mask_pad: Option<Tensor<B, 2, Bool>>,
    ) -> Tensor<B, 3> {
        self.reformer
            .forward(tokens, &Pass::eval().with_mask_pad(mask_pad))
    }
}

impl<A> ReformerEncoder<A>
where
    A: AutodiffBackend + ReformerBackend,
    A::InnerBackend: ReformerBackend,
{
    /// Runs forward for training; see [`Reformer::record`].
    ///
    /// # Shapes
    /// - tokens: `[batch_size, seq_length]`
    pub fn record(&self, tokens: Tensor<A, 2, Int>, pass: Pass<A>) -> Recorded<A> {
        self.reformer.record(tokens, pass)
    }
}
