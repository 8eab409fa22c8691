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

/// Logits for sampling. None may be NaN or plus infinity, and in each row one must be finite: huge but
/// finite weights can give infinities only, of which no token can be chosen.
///
/// # Shapes
/// - logits: `[batch_size, 1, vocab_size]`
pub(super) fn logits<B: Backend>(logits: Tensor<B, 3>) -> Result<Logits, GenerationError> {
    let [.., vocab_size] = logits.dims();
    let logits: Vec<f32> = logits.into_data().iter::<f32>().collect();
    let is_usable = |row: &[f32]| {
        let is_wrong = |logit: &f32| logit.is_nan() || *logit == f32::INFINITY;
        !row.iter().any(is_wrong) && row.iter().any(|logit| logit.is_finite())
    };
    if !logits.chunks(vocab_size).all(is_usable) {
        return Err(GenerationError::NotFinite);
    }
    Ok(Logits::new(logits, vocab_size))
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn_flex::Flex;

    #[test]
    fn logits_of_which_none_can_be_chosen_are_an_error() {
        let of = |row: [f32; 3]| {
            let rows = [[0.0, 1.0, f32::NEG_INFINITY], row];
            logits(Tensor::<Flex, 2>::from_floats(rows, &Default::default()).unsqueeze_dim(1))
        };
        let infinite = f32::NEG_INFINITY;
        assert!(of([1.0, infinite, infinite]).is_ok());
        for row in [
            [infinite; 3],
            [f32::INFINITY, 0.0, 1.0],
            [0.0, f32::NAN, 1.0],
        ] {
            assert!(
                matches!(of(row), Err(GenerationError::NotFinite)),
                "{row:?}"
            );
        }
    }
}
