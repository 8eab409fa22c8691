//! Requests to continue texts, and what comes back.

use reformer_core::generation::SamplerConfig;

use super::error::{InferenceError, MOST_ROWS};

/// A request to continue texts.
#[derive(Debug, Clone)]
pub struct GenerationRequest {
    /// The texts to continue, as bytes; none is empty.
    pub prompts: Vec<Vec<u8>>,
    /// Number of continuations of each prompt.
    pub n_samples: usize,
    /// Number of tokens of each continuation.
    pub n_tokens: usize,
    /// Settings of sampling.
    pub sampler: SamplerConfig,
    /// Seed of sampling.
    pub seed: u64,
    /// Strings before which a continuation ends.
    pub stop: Vec<String>,
}

impl GenerationRequest {
    /// A request for one continuation of one prompt.
    pub fn new(prompt: &str, n_tokens: usize, sampler: SamplerConfig, seed: u64) -> Self {
        Self {
            prompts: vec![prompt.as_bytes().to_vec()],
            n_samples: 1,
            n_tokens,
            sampler,
            seed,
            stop: Vec::new(),
        }
    }

    /// Number of all continuations.
    ///
    /// # Errors
    /// None, or more than any memory holds.
    pub fn n_texts(&self) -> Result<usize, InferenceError> {
        match self.prompts.len().saturating_mul(self.n_samples) {
            _ if self.n_samples == 0 => Err(InferenceError::NoSamples),
            n_texts if n_texts > MOST_ROWS => Err(InferenceError::TooManyRows(n_texts)),
            n_texts => Ok(n_texts),
        }
    }
}

/// Time and memory of a generation.
#[derive(Debug, Clone, Copy)]
pub struct Cost {
    /// Tokens of the longest prompt.
    pub n_read: usize,
    /// Seconds until the first token of all continuations was known.
    pub first_seconds: f64,
    /// Tokens of the longest continuation.
    pub n_written: usize,
    /// Seconds from the first token to the last one.
    pub other_seconds: f64,
    /// Bytes of the cache at the end.
    pub cache_bytes: usize,
}

/// A continuation found by beam search.
#[derive(Debug, Clone)]
pub struct BeamResult {
    /// Its text.
    pub text: Vec<u8>,
    /// Logarithm of its probability over the length penalty.
    pub score: f64,
}
