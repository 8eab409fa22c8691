//! Predictions of a masked language model, as text.

use burn::tensor::Tensor;
use reformer_core::Pass;
use reformer_core::kernels::ReformerBackend;
use reformer_core::model::{MaskingConfig, ReformerLm};
use reformer_datasets::LmBatch;

/// Character shown for a hidden byte.
const HIDDEN: u8 = b'_';

/// A text with hidden bytes, and the model's predictions for them.
#[derive(Debug, Clone, PartialEq)]
pub struct Filled {
    /// The input of the model, with `_` for hidden bytes.
    pub shown: String,
    /// The input, with predictions in place of hidden bytes.
    pub filled: String,
    /// The original text.
    pub text: String,
}

impl Filled {
    /// Predictions for the first `n_bytes` of the first text of a batch, whose tokens are bytes.
    pub fn first_of<B: ReformerBackend>(
        model: &ReformerLm<B>,
        masking: &MaskingConfig,
        batch: LmBatch<B>,
        n_bytes: usize,
    ) -> Self {
        let first = batch.tokens.slice_dim(0, 0..1);
        let logits = model.forward(first.clone(), &Pass::eval());
        let guesses: Vec<i64> = numbers(logits.argmax(2).squeeze_dim::<2>(2));
        let (tokens, targets) = (numbers(first), numbers(batch.targets.slice_dim(0, 0..1)));
        let places = tokens.into_iter().zip(targets).zip(guesses).take(n_bytes);
        let (mut shown, mut filled, mut text) = (vec![], vec![], vec![]);
        for ((token, target), guess) in places {
            let is_hidden = token == masking.mask_token as i64;
            shown.push(if is_hidden { HIDDEN } else { token as u8 });
            filled.push(if target < 0 {
                token as u8
            } else {
                u8::try_from(guess).unwrap_or(HIDDEN)
            });
            text.push(if target < 0 {
                token as u8
            } else {
                target as u8
            });
        }
        let [shown, filled, text] =
            [shown, filled, text].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        Self {
            shown,
            filled,
            text,
        }
    }
}

fn numbers<B: ReformerBackend>(tensor: Tensor<B, 2, burn::tensor::Int>) -> Vec<i64> {
    tensor.into_data().iter::<i64>().collect()
}
