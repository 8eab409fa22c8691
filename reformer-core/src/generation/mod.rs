//! Using a trained model: continuing sequences.
//!
//! [`LmDecoder`] reads prompts and then one token after another, with a cache. [`beam_search`]
//! follows several continuations at a time, with any [`StepDecoder`].

mod beam;
mod cache;
mod decoder;
mod error;
mod logits;

pub use beam::{BeamConfig, Hypothesis, StepDecoder, beam_search};
pub use decoder::{DecodingConfig, LmDecoder};
pub use error::GenerationError;
pub use logits::Logits;
