//! Generation with a trained model.
//!
//! - [`LmDecoder`] reads prompts and then one token at a time, with a cache.
//! - [`generate`] draws tokens with a [`Sampler`], [`StopStrings`] end a text.
//! - [`Seq2SeqDecoder`] does the same for targets of sources, which it encodes once.
//! - [`beam_search`] follows several continuations at a time, with any [`StepDecoder`];
//!   [`translate`] does so with an encoder-decoder.

mod beam;
mod cache;
mod decoder;
mod error;
mod generate;
mod host;
mod logits;
mod sampling;
mod seq2seq;
mod stop;

pub use beam::{BeamConfig, Hypothesis, StepDecoder, beam_search};
pub use decoder::{DecodingConfig, LmDecoder};
pub use error::GenerationError;
pub use generate::generate;
pub use logits::Logits;
pub use sampling::{Sampler, SamplerConfig};
pub use seq2seq::{Seq2SeqDecoder, translate};
pub use stop::StopStrings;
