//! Using a trained model: continuing sequences.
//!
//! [`beam_search`] follows several continuations at a time, with any [`StepDecoder`].

mod beam;
mod logits;

pub use beam::{BeamConfig, Hypothesis, StepDecoder, beam_search};
pub use logits::Logits;
