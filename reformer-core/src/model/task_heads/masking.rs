//! Masking of tokens for masked language modelling (Devlin et al., 2019).

use burn::config::Config;
use burn::tensor::backend::Backend;
use burn::tensor::{Int, Tensor, TensorData};

use crate::error::ConfigError;
use crate::model::limits;
use crate::random::Key;

/// Target of a token that is not predicted.
const IGNORED: i64 = -1;

/// Which tokens are masked, and how.
///
/// ```
/// use burn::tensor::{Int, Tensor};
/// use burn_autodiff::Autodiff;
/// use burn_flex::Flex;
/// use reformer_core::model::{MaskingConfig, ReformerConfig, ReformerLmConfig, Trainable};
/// use reformer_core::{Key, Pass};
///
/// let device = Default::default();
/// // 256 bytes, and token 256 for what is hidden.
/// let stack = ReformerConfig::new(257, 32, 2).with_causal(false);
/// let model = ReformerLmConfig::new(stack).init::<Autodiff<Flex>>(&device);
/// let masking = MaskingConfig::new(257, 256);
///
/// let key = Key::new(42).fold(0); // seed 42, step 0
/// let text = Tensor::<_, 2, Int>::ones([2, 100], &device);
/// let (tokens, targets) = masking.hide(text, key.fold(0));
/// let (loss, gradients) = model.gradients((tokens, targets), Pass::train(key.fold(1)));
/// # assert!(loss.loss.into_scalar() > 0.0 && gradients.len() > 0);
/// ```
#[derive(Config, Debug, PartialEq)]
pub struct MaskingConfig {
    /// Number of different tokens.
    pub vocab_size: usize,
    /// The token that replaces masked ones.
    pub mask_token: usize,
    /// Share of tokens to predict.
    #[config(default = 0.15)]
    pub share: f64,
    /// Share of the predicted tokens that are replaced by the mask token.
    #[config(default = 0.8)]
    pub masked: f64,
    /// Share of the predicted tokens that are replaced by a random token. The others are unchanged.
    #[config(default = 0.1)]
    pub replaced: f64,
    /// Tokens besides the mask token that are neither predicted nor drawn: padding, begin and end.
    #[config(default = "vec![]")]
    pub special: Vec<usize>,
}

impl MaskingConfig {
    /// Checks every setting.
    ///
    /// # Errors
    /// The first setting that cannot work.
    pub fn validate(&self) -> Result<(), ConfigError> {
        ConfigError::at_most("vocab_size", self.vocab_size, limits::MAX_WIDTH)?;
        for token in self.special.iter().chain([&self.mask_token]) {
            if *token >= self.vocab_size {
                return Err(ConfigError::new(
                    "mask_token or special",
                    token,
                    format!("there are {} tokens, counted from 0", self.vocab_size),
                    "name one of them or raise `vocab_size`",
                ));
            }
        }
        let shares = [
            self.share,
            self.masked,
            self.replaced,
            self.masked + self.replaced,
        ];
        for share in shares {
            if !(0.0..=1.0).contains(&share) {
                return Err(ConfigError::new(
                    "share, masked or replaced",
                    share,
                    "a share lies in [0, 1], and so does the sum of the last two",
                    "use 0.15, 0.8 and 0.1",
                ));
            }
        }
        if self.ordinary().next().is_none() {
            return Err(ConfigError::new(
                "special",
                format!("{:?}", self.special),
                "some token must be ordinary",
                "leave one out",
            ));
        }
        Ok(())
    }

    /// Tokens that may be predicted and drawn.
    fn ordinary(&self) -> impl Iterator<Item = usize> {
        (0..self.vocab_size).filter(|token| !self.is_special(*token))
    }

    fn is_special(&self, token: usize) -> bool {
        token == self.mask_token || self.special.contains(&token)
    }

    /// Masked tokens and their targets: the original token where it is to be predicted, a negative
    /// number elsewhere. The result for a token depends on the key and on its index in the batch.
    ///
    /// # Shapes
    /// - tokens, both outputs: `[batch_size, seq_length]`
    ///
    /// # Panics
    /// If the configuration is not [valid](Self::validate).
    pub fn hide<B: Backend>(
        &self,
        tokens: Tensor<B, 2, Int>,
        key: Key,
    ) -> (Tensor<B, 2, Int>, Tensor<B, 2, Int>) {
        let (shape, device) = (tokens.dims(), tokens.device());
        let (inputs, targets) = self.hide_tokens(tokens.into_data().iter::<i64>(), key);
        let tensor = |values| Tensor::from_data(TensorData::new(values, shape), &device);
        (tensor(inputs), tensor(targets))
    }

    /// As [`hide`](Self::hide), for tokens in host memory.
    ///
    /// # Panics
    /// If the configuration is not [valid](Self::validate).
    pub fn hide_tokens(&self, tokens: impl Iterator<Item = i64>, key: Key) -> (Vec<i64>, Vec<i64>) {
        if let Err(error) = self.validate() {
            panic!("{error}");
        }
        let ordinary: Vec<usize> = self.ordinary().collect();
        (0..)
            .zip(tokens)
            .map(|(place, token)| {
                let [chosen, how, which, _] = key.bits(place);
                if self.is_special(token as usize) || share(chosen) >= self.share {
                    return (token, IGNORED);
                }
                let how = share(how);
                let shown = if how < self.masked {
                    self.mask_token as i64
                } else if how < self.masked + self.replaced {
                    ordinary[(share(which) * ordinary.len() as f64) as usize] as i64
                } else {
                    token
                };
                (shown, token)
            })
            .unzip()
    }
}

/// Random bits as a number in `[0, 1)`.
fn share(bits: u32) -> f64 {
    f64::from(bits) / 2f64.powi(32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn_flex::Flex;

    const MASK: i64 = 9;
    const PADDING: i64 = 0;

    fn config() -> MaskingConfig {
        MaskingConfig::new(10, MASK as usize).with_special(vec![PADDING as usize])
    }

    /// The tokens 0 to 8, repeated.
    fn tokens() -> Tensor<Flex, 2, Int> {
        let tokens = Tensor::<Flex, 1, Int>::arange(0..90_000, &Default::default());
        tokens.remainder_scalar(9).reshape([9, 10_000])
    }

    fn numbers(tensor: Tensor<Flex, 2, Int>) -> Vec<i64> {
        tensor.into_data().iter::<i64>().collect()
    }

    #[test]
    fn shares_are_those_of_the_configuration() {
        let (inputs, targets) = config().hide(tokens(), Key::new(3));
        let (inputs, targets, tokens) = (numbers(inputs), numbers(targets), numbers(tokens()));
        let mut counts = [0.0; 4]; // chosen, masked, replaced by another one, kept
        for ((input, target), token) in inputs.into_iter().zip(targets).zip(tokens) {
            if target == IGNORED {
                assert_eq!(input, token, "what is not predicted is shown");
                continue;
            }
            assert_eq!(target, token);
            assert_ne!(token, PADDING);
            assert_ne!(input, PADDING);
            counts[0] += 1.0;
            let kind = match input {
                MASK => 1,
                input if input != token => 2,
                _ => 3,
            };
            counts[kind] += 1.0;
        }
        let [chosen, masked, replaced, kept] = counts;
        assert!((chosen / 80_000.0 - 0.15f64).abs() < 0.005, "{chosen}");
        assert!((masked / chosen - 0.8f64).abs() < 0.01, "{masked}");
        // One of eight random tokens equals the original one.
        assert!((replaced / chosen - 0.1 * 7.0 / 8.0f64).abs() < 0.01);
        assert!((kept / chosen - 0.1 - 0.1 / 8.0f64).abs() < 0.01);
    }

    #[test]
    fn same_key_hides_the_same() {
        let hidden = |seed| {
            let (inputs, targets) = config().hide(tokens(), Key::new(seed));
            (numbers(inputs), numbers(targets))
        };
        assert_eq!(hidden(1), hidden(1));
        assert_ne!(hidden(1).1, hidden(2).1);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let refused = |config: MaskingConfig, value: &str| {
            assert_eq!(config.validate().unwrap_err().value, value);
        };
        refused(MaskingConfig::new(10, 10), "10");
        refused(config().with_special(vec![11]), "11");
        refused(config().with_share(1.5), "1.5");
        refused(config().with_replaced(0.3), "1.1");
        refused(MaskingConfig::new(2, 1).with_special(vec![0]), "[0]");
    }
}
