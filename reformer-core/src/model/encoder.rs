//! The bidirectional encoder.

use burn::config::Config;
use burn::module::Module;
use burn::tensor::backend::Backend;
use burn::tensor::{Bool, Int, Tensor};

use super::config::ReformerConfig;
use super::reformer::{Recorded, Reformer};
use crate::attention::{Attention, AttentionLayer, TrainAttentionLayer};
use crate::error::ConfigError;
use crate::kernels::{ReformerBackend, TrainBackend};
use crate::pass::Pass;

/// Settings of a [`ReformerEncoder`].
#[derive(Config, Debug, PartialEq)]
pub struct ReformerEncoderConfig {
    /// The stack. It is never causal, whatever its configuration says.
    pub reformer: ReformerConfig,
}

impl ReformerEncoderConfig {
    /// Checks every setting.
    ///
    /// # Errors
    /// The first setting that cannot work.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.reformer.clone().with_causal(false).validate()
    }

    /// Initialises an encoder.
    ///
    /// # Panics
    /// If the configuration is not [valid](Self::validate).
    pub fn init<B: Backend>(&self, device: &B::Device) -> ReformerEncoder<B> {
        ReformerEncoder {
            reformer: self.reformer.clone().with_causal(false).init(device),
        }
    }

    /// Initialises an encoder with [attention layers of your own](ReformerConfig::init_with).
    ///
    /// # Panics
    /// If the configuration is not [valid](Self::validate).
    pub fn init_with<B: Backend, L: Module<B>>(
        &self,
        device: &B::Device,
        attention: impl FnMut(usize) -> L,
    ) -> ReformerEncoder<B, L> {
        let reformer = self.reformer.clone().with_causal(false);
        ReformerEncoder {
            reformer: reformer.init_with(device, attention),
        }
    }
}

/// A [`Reformer`] in which every position sees both directions: hidden states for classifiers,
/// taggers, retrieval.
///
/// ```
/// use burn::tensor::{Int, Tensor};
/// use burn_flex::Flex;
/// use reformer_core::model::{ReformerConfig, ReformerEncoderConfig};
///
/// let device = Default::default();
/// let stack = ReformerConfig::new(256, 32, 2); // vocabulary, d_model, layers
/// let encoder = ReformerEncoderConfig::new(stack).init::<Flex>(&device);
/// let tokens = Tensor::<Flex, 2, Int>::zeros([2, 77], &device);
/// assert_eq!(encoder.forward(tokens, None).dims(), [2, 77, 64]);
/// ```
#[derive(Module, Debug)]
pub struct ReformerEncoder<B: Backend, L = Attention<B>> {
    /// The stack.
    pub reformer: Reformer<B, L>,
}

impl<B: ReformerBackend, L: AttentionLayer<B>> ReformerEncoder<B, L> {
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

impl<A: TrainBackend, L: TrainAttentionLayer<A>> ReformerEncoder<A, L> {
    /// Runs forward for training; see [`Reformer::record`].
    ///
    /// # Shapes
    /// - tokens: `[batch_size, seq_length]`
    pub fn record(&self, tokens: Tensor<A, 2, Int>, pass: Pass<A>) -> Recorded<A> {
        self.reformer.record(tokens, pass)
    }
}
