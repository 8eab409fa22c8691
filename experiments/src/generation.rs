//! Continuing a text.

use anyhow::{Result, bail};
use burn::tensor::{Int, Tensor, TensorData};
use reformer_core::Pass;
use reformer_core::kernels::ReformerBackend;
use reformer_core::model::ReformerLm;
use reformer_train::TrainConfig;

use crate::sampling::Sampler;

/// Different bytes; a model may have more tokens, which are never drawn.
const BYTES: usize = 256;

/// A model that continues texts, byte by byte.
///
/// The whole text is read again for each byte. The model sees as many of the last bytes as the
/// windows that it was trained on had.
#[derive(Debug)]
pub struct Generator<B: ReformerBackend> {
    model: ReformerLm<B>,
    window_length: usize,
    device: B::Device,
}

impl<B: ReformerBackend> Generator<B> {
    /// Makes a generator of a model and the configuration of its run.
    pub fn new(model: ReformerLm<B>, config: &TrainConfig, device: B::Device) -> Self {
        Self {
            model,
            window_length: config.window_length,
            device,
        }
    }

    /// Hands the `n_bytes` that follow a prompt to `output`, one by one.
    ///
    /// # Errors
    /// An empty prompt or one longer than the model can see, no bytes to generate, or an error of
    /// `output`.
    pub fn generate(
        &self,
        prompt: &[u8],
        n_bytes: usize,
        sampler: &mut Sampler,
        mut output: impl FnMut(u8) -> Result<()>,
    ) -> Result<()> {
        self.check(prompt, n_bytes)?;
        let mut text = prompt.to_vec();
        for _ in 0..n_bytes {
            let seen = &text[text.len().saturating_sub(self.window_length)..];
            let byte = sampler.sample(&self.logits(seen)?) as u8;
            text.push(byte);
            output(byte)?;
        }
        Ok(())
    }

    /// A short text of its own, to show how far a model is.
    ///
    /// # Errors
    /// Those of [`generate`](Self::generate).
    pub fn sample(&self, n_bytes: usize, seed: u64) -> Result<String> {
        let mut sampler = Sampler::new(0.8, None, seed)?;
        let mut bytes = Vec::with_capacity(n_bytes);
        self.generate(b"\n", n_bytes, &mut sampler, |byte| {
            bytes.push(byte);
            Ok(())
        })?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Checks what is going to be asked of [`generate`](Self::generate).
    ///
    /// # Errors
    /// An empty prompt or one longer than the model can see, or no bytes to generate.
    pub fn check(&self, prompt: &[u8], n_bytes: usize) -> Result<()> {
        if prompt.is_empty() {
            bail!("the prompt is empty, and a model continues something: give at least 1 byte");
        }
        if n_bytes == 0 {
            bail!("0 tokens were asked for: ask for at least 1");
        }
        if prompt.len() > self.window_length {
            bail!(
                "the prompt has {} bytes, but the model sees {} at a time: shorten it",
                prompt.len(),
                self.window_length
            );
        }
        Ok(())
    }

    /// Logits of the byte after these.
    fn logits(&self, bytes: &[u8]) -> Result<Vec<f32>> {
        let length = bytes.len();
        let tokens: Vec<i32> = bytes.iter().copied().map(i32::from).collect();
        let tokens =
            Tensor::<B, 2, Int>::from_data(TensorData::new(tokens, [1, length]), &self.device);
        let pass = Pass::eval();
        // Only the last position's logits are wanted.
        let hidden = self.model.reformer.forward(tokens, &pass);
        let last = hidden.slice_dim(1, length - 1..length);
        let logits = self.model.output.forward(last).into_data();
        let logits: Vec<f32> = logits.iter::<f32>().take(BYTES).collect();
        if logits.iter().any(|logit| logit.is_nan()) {
            bail!(
                "the model's weights are not finite: its training diverged, lower the learning rate"
            );
        }
        Ok(logits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn_flex::Flex;
    use reformer_core::model::{ReformerConfig, ReformerLmConfig};
    use reformer_train::DataConfig;

    fn generator() -> Generator<Flex> {
        let device = Default::default();
        let model = ReformerLmConfig::new(ReformerConfig::new(256, 16, 2));
        let config = TrainConfig::new(model, DataConfig::Sample).with_window_length(24);
        Generator::new(config.model.init(&device), &config, device)
    }

    fn generate(
        generator: &Generator<Flex>,
        prompt: &[u8],
        n: usize,
        seed: u64,
    ) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let mut sampler = Sampler::new(1.0, None, seed)?;
        generator.generate(prompt, n, &mut sampler, |byte| {
            bytes.push(byte);
            Ok(())
        })?;
        Ok(bytes)
    }

    #[test]
    fn same_seed_gives_the_same_text_beyond_the_window() {
        let generator = generator();
        let text = generate(&generator, b"ROMEO:", 40, 3).unwrap();
        assert_eq!(text.len(), 40);
        assert_eq!(generate(&generator, b"ROMEO:", 40, 3).unwrap(), text);
        assert_ne!(generate(&generator, b"ROMEO:", 40, 4).unwrap(), text);
    }

    #[test]
    fn impossible_wishes_are_refused() {
        let generator = generator();
        let refused =
            |prompt: &[u8], n| generate(&generator, prompt, n, 0).unwrap_err().to_string();
        assert!(refused(b"", 1).contains("empty"));
        assert!(refused(b"x", 0).starts_with("0 tokens"));
        assert!(refused(&[b'x'; 25], 1).contains("has 25 bytes, but the model sees 24"));
    }
}
