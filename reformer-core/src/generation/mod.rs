//! Using a trained model: continuing sequences.
//!
//! [`beam_search`] follows several continuations at a time, with any [`StepDecoder`]; [`translate`]
//! does so with an encoder-decoder.

mod beam;
mod error;
mod logits;
mod seq2seq;

pub use beam::{BeamConfig, Hypothesis, StepDecoder, beam_search};
pub use error::GenerationError;
pub use logits::Logits;
pub use seq2seq::{Seq2SeqDecoder, translate};
