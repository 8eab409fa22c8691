//! Common parts of decoders: input limits, tokens as tensors, and logits on the host.

use burn::tensor::backend::Backend;
use burn::tensor::{Int, Tensor, TensorData};

use super::error::GenerationError;
use super::logits::Logits;

/// Limits of a decoder's input.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) vocab_size: usize,
    /// Number of positions of the model, if it is limited.
    pub(super) positions: Option<usize>,
    /// Number of positions that the cache can hold.
    pub(super) room: usize,
}

impl Limits {
    /// Checks the prompt with index `number`.
    pub(super) fn check_prompt(
        &self,
        number: usize,
        prompt: &[u32],
    ) -> Result<(), GenerationError> {
        if prompt.is_empty() {
            return Err(GenerationError::EmptyPrompt { number });
        }
        self.check_length(prompt.len())?;
        self.check_tokens(prompt)
    }

    pub(super) fn check_tokens(&self, tokens: &[u32]) -> Result<(), GenerationError> {
        let vocab_size = self.vocab_size;
        match tokens.iter().find(|&&token| token as usize >= vocab_size) {
            Some(&token) => Err(GenerationError::Token { token, vocab_size }),
            None => Ok(()),
        }
    }

    pub(super) fn check_length(&self, length: usize) -> Result<(), GenerationError> {
        let positions = self.positions.unwrap_or(usize::MAX);
        for (limit, what) in [
            (positions, "the model has positions for"),
            (self.room, "the cache was made for"),
        ] {
            if length > limit {
                return Err(GenerationError::TooLong {
                    length,
                    limit,
                    what,
                });
            }
        }
        Ok(())
    }
}

/// Tokens of `n` sequences of equal length, concatenated.
pub(super) fn tokens<B: Backend>(
    tokens: &[u32],
    n: usize,
    device: &B::Device,
) -> Tensor<B, 2, Int> {
    let shape = [n, tokens.len() / n];
    let tokens: Vec<i32> = tokens.iter().map(|&token| token as i32).collect();
    Tensor::from_data(TensorData::new(tokens, shape), device)
}

/// Logits for sampling, which must not contain NaN.
///
/// # Shapes
/// - logits: `[batch_size, 1, vocab_size]`
pub(super) fn logits<B: Backend>(logits: Tensor<B, 3>) -> Result<Logits, GenerationError> {
    let [.., vocab_size] = logits.dims();
    let logits: Vec<f32> = logits.into_data().iter::<f32>().collect();
    if logits.iter().any(|logit| logit.is_nan()) {
        return Err(GenerationError::NotFinite);
    }
    Ok(Logits::new(logits, vocab_size))
}
