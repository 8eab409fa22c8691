//! Whole models: the [`Reformer`] stack, the models built on it, and the encoder-decoder
//! [`ReformerSeq2Seq`].

mod block;
mod config;
mod encoder;
mod limits;
mod lm;
mod loss;
mod reformer;
mod seq2seq;
mod stack_tape;
mod stepwise;
mod task_heads;
mod trainable;

pub use block::Block;
pub use config::ReformerConfig;
pub use encoder::{ReformerEncoder, ReformerEncoderConfig};
pub use lm::{ReformerLm, ReformerLmConfig};
pub use loss::LossOutput;
pub use reformer::{Recorded, Reformer};
pub use seq2seq::{
    Cross, CrossKind, Decoder, DecoderBlock, Encoder, ReformerSeq2Seq, ReformerSeq2SeqConfig,
    Seq2SeqInput, Stack,
};
pub use task_heads::{
    BestSpan, ClassificationHead, Labels, MaskingConfig, ReformerClassifier,
    ReformerClassifierConfig, ReformerQuestionAnswering, ReformerQuestionAnsweringConfig,
    SpanLogits,
};
pub use trainable::{Loss, Trainable};
