//! What most programs need of this crate, besides `burn::prelude`.
//!
//! ```
//! use burn_flex::Flex;
//! use reformer_core::burn::prelude::*;
//! use reformer_core::prelude::*;
//!
//! let stack = ReformerConfig::new(256, 32, 2); // vocabulary, d_model, layers
//! let model = ReformerLmConfig::new(stack).init::<Flex>(&Default::default());
//! let tokens = Tensor::<Flex, 2, Int>::zeros([1, 100], &Default::default());
//! assert_eq!(model.forward(tokens, &Pass::eval()).dims(), [1, 100, 256]);
//! ```

pub use crate::attention::{
    Attended, Attention, AttentionKind, AttentionLayer, FullAttention, FullAttentionConfig,
    HeadsConfig, LocalAttention, LocalAttentionConfig, LocalConfig, LshAttention,
    LshAttentionConfig, LshConfig, TrainAttentionLayer,
};
pub use crate::feed_forward::{Activation, FeedForward, FeedForwardConfig};
pub use crate::kernels::{ReformerBackend, TrainBackend};
pub use crate::model::{
    Labels, Loss, LossOutput, Reformer, ReformerClassifier, ReformerClassifierConfig,
    ReformerConfig, ReformerEncoder, ReformerEncoderConfig, ReformerLm, ReformerLmConfig,
    ReformerQuestionAnswering, ReformerQuestionAnsweringConfig, ReformerSeq2Seq,
    ReformerSeq2SeqConfig, Trainable,
};
pub use crate::position::PositionConfig;
pub use crate::reversible::{Mode, ReversibleBlock, Tape};
pub use crate::{ConfigError, Key, Pass, Precision};
