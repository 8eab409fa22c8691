//! Generates text with a trained model.

use std::ops::ControlFlow;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use burn::tensor::{Tensor, TensorData};
use reformer_core::attention::InspectedHead;
use reformer_core::generation::{
    BeamConfig, DecodingConfig, GenerationError, Hypothesis, LmDecoder, Logits, SamplerConfig,
    StepDecoder, StopStrings, beam_search, generate,
};
use reformer_core::huggingface;
use reformer_core::kernels::ReformerBackend;
use reformer_core::model::ReformerLm;
use reformer_core::{Key, Pass};
use reformer_train::{TrainConfig, check_finite, load_model};

use crate::inference::codec::Codec;

pub use crate::inference::request::{BeamResult, Cost, GenerationRequest};

/// A model that continues texts.
#[derive(Debug)]
pub struct TextModel<B: ReformerBackend> {
    model: ReformerLm<B>,
    codec: Codec,
    /// Context length of the training, if it is known.
    window_length: Option<usize>,
}

impl<B: ReformerBackend> TextModel<B> {
    /// Opens the folder of a run, or one of Hugging Face.
    ///
    /// # Errors
    /// A folder that is neither, a model that is not of text, files that cannot be read, or weights that are not finite.
    pub fn open(folder: &Path, device: &B::Device) -> Result<Self> {
        if huggingface::head(folder).is_some() {
            let (model, config) = huggingface::load::<B>(folder, device)?;
            check_finite(folder, &model)?;
            let codec = Codec::of_folder(folder, config.reformer.vocab_size)?;
            return Ok(Self {
                model,
                codec,
                window_length: None,
            });
        }
        let (model, config) = load_model::<B>(folder, device)?;
        let model = model.into_lm()?;
        if !config.continues_texts() {
            bail!(
                "the model in `{}` does not continue texts",
                folder.display()
            );
        }
        Ok(Self::of_run(
            model,
            Codec::of_run(folder, &config)?,
            &config,
        ))
    }

    /// The model of a run on texts, and the conversion of texts to its tokens.
    pub fn of_run(model: ReformerLm<B>, codec: Codec, config: &TrainConfig) -> Self {
        Self {
            model,
            codec,
            window_length: Some(config.window_length),
        }
    }

    /// The conversion between text and its tokens.
    pub fn codec(&self) -> &Codec {
        &self.codec
    }

    /// The model.
    pub fn model(&self) -> &ReformerLm<B> {
        &self.model
    }

    /// Passes what follows the prompts to `take` as it is generated: the number of the continuation,
    /// counted through all samples of the first prompt and then on, and a piece of its text.
    ///
    /// A text ends before a stop string and with the token that ends texts.
    ///
    /// # Errors
    /// A request that cannot be fulfilled, such as one without samples, or an error of `take`.
    pub fn write_on(
        &self,
        wish: &GenerationRequest,
        mut take: impl FnMut(usize, &[u8]) -> Result<()>,
    ) -> Result<Cost> {
        if wish.n_samples == 0 {
            bail!("0 continuations are too few: ask for at least 1");
        }
        let start = Instant::now();
        let never = self.codec.no_text(self.model.reformer.vocab_size);
        let prompts = self.encode(&wish.prompts)?;
        let rows: Vec<usize> = (0..prompts.len())
            .flat_map(|prompt| std::iter::repeat_n(prompt, wish.n_samples))
            .collect();
        let mut samplers = Vec::new();
        for (number, &prompt) in (0..).zip(&rows) {
            let sampler = wish.sampler.init(Key::new(wish.seed).fold(number))?;
            let mut sampler = sampler.without(never.iter().copied());
            sampler.observe(&prompts[prompt]);
            samplers.push(sampler);
        }
        let (mut decoder, first) = self.read(&prompts, wish.n_tokens)?;
        let first_seconds = start.elapsed().as_secs_f64();
        let n_read = decoder.lengths().iter().max().copied().unwrap_or(0);
        decoder.select(&rows)?;
        let of_rows: Vec<f32> = rows
            .iter()
            .flat_map(|&row| first.row(row))
            .copied()
            .collect();
        let first = Logits::new(of_rows, first.vocab_size());
        let mut texts: Vec<_> = rows
            .iter()
            .map(|&row| {
                (
                    self.codec.stream(&prompts[row]),
                    StopStrings::new(wish.stop.clone()),
                )
            })
            .collect();
        let n_tokens = wish.n_tokens;
        let mut n_written = vec![0; rows.len()];
        generate(
            &mut decoder,
            first,
            &mut samplers,
            n_tokens,
            |row, token| {
                n_written[row] += 1;
                let (stream, stop) = &mut texts[row];
                if self.codec.end() == Some(token) {
                    return Ok(ControlFlow::Break(()));
                }
                let text = stop.push(&stream.push(token)?);
                take(row, &text)?;
                Ok::<_, anyhow::Error>(match stop.is_stopped() {
                    true => ControlFlow::Break(()),
                    false => ControlFlow::Continue(()),
                })
            },
        )?;
        for (row, (_, stop)) in texts.iter_mut().enumerate() {
            take(row, &stop.finish())?;
        }
        Ok(Cost {
            n_read,
            first_seconds,
            n_written: n_written.into_iter().max().unwrap_or(0),
            other_seconds: start.elapsed().as_secs_f64() - first_seconds,
            cache_bytes: decoder.memory_bytes(),
        })
    }

    /// A short generated text, to show the progress of a training.
    ///
    /// # Errors
    /// No tokens, or a model whose weights are not finite.
    pub fn sample(&self, n_tokens: usize, seed: u64) -> Result<String> {
        let sampler = SamplerConfig::new().with_temperature(0.8);
        let mut bytes = Vec::with_capacity(n_tokens);
        let wish = GenerationRequest::new(self.codec.beginning(), n_tokens, sampler, seed);
        self.write_on(&wish, |_, text| {
            bytes.extend_from_slice(text);
            Ok(())
        })?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The best continuations of each prompt, by beam search.
    ///
    /// # Errors
    /// A request that cannot be fulfilled.
    pub fn search(
        &self,
        prompts: &[Vec<u8>],
        n_tokens: usize,
        config: &BeamConfig,
    ) -> Result<Vec<Vec<BeamResult>>> {
        if n_tokens == 0 {
            return Err(GenerationError::NoTokens.into());
        }
        config.validate()?;
        let config = config.clone().with_end(self.codec.end());
        let prompts = self.encode(prompts)?;
        let (mut decoder, first) = self.read(&prompts, n_tokens)?;
        let lengths = vec![n_tokens; prompts.len()];
        let found = beam_search(&mut decoder, &first, &lengths, &config)?;
        let of_prompt = |(prompt, found): (&Vec<u32>, Vec<_>)| {
            let text = |hypothesis: Hypothesis| {
                let mut stream = self.codec.stream(prompt);
                let mut text = Vec::new();
                for token in hypothesis.tokens {
                    text.extend(stream.push(token)?);
                }
                let score = hypothesis.score;
                Ok(BeamResult { text, score })
            };
            found.into_iter().map(text).collect::<Result<Vec<_>>>()
        };
        prompts.iter().zip(found).map(of_prompt).collect()
    }

    /// Buckets, weights and coverage of each LSH layer for some tokens, with the number of its block.
    ///
    /// # Errors
    /// Tokens that are not in the vocabulary, or more than the model has positions for.
    pub fn inspect(&self, tokens: &[u32]) -> Result<Vec<(usize, Vec<InspectedHead>)>> {
        let stack = &self.model.reformer;
        let vocab_size = stack.vocab_size;
        if let Some(&token) = tokens.iter().find(|&&token| token as usize >= vocab_size) {
            return Err(GenerationError::Token { token, vocab_size }.into());
        }
        if let Some(limit) = stack
            .position
            .max_length()
            .filter(|&max| tokens.len() > max)
        {
            bail!(
                "{} tokens are more than the {limit} that the model has positions for: ask for fewer",
                tokens.len()
            );
        }
        let numbers: Vec<i32> = tokens.iter().map(|&token| token as i32).collect();
        let data = TensorData::new(numbers, [1, tokens.len()]);
        let tokens = Tensor::from_data(data, &self.model.output.weight.device());
        let pass = Pass::eval().with_context(self.window_length);
        Ok(stack.inspect(tokens, &pass))
    }

    fn encode(&self, prompts: &[Vec<u8>]) -> Result<Vec<Vec<u32>>> {
        let encoded = (1..).zip(prompts).map(|(number, prompt)| {
            let tokens = self.codec.encode(prompt);
            let mut tokens = tokens.with_context(|| format!("prompt {number}"))?;
            if tokens.is_empty() && !prompt.is_empty() {
                // Some tokenizers leave out spaces and line ends: a new text begins after the end of another.
                tokens.extend(self.codec.end());
            }
            Ok(tokens)
        });
        encoded.collect()
    }

    /// Reads prompts, with room for `n_tokens` after each. Settings that follow from a length use that of the
    /// training or, for Hugging Face models, the final length as Hugging Face does.
    fn read(
        &self,
        prompts: &[Vec<u32>],
        n_tokens: usize,
    ) -> Result<(LmDecoder<'_, B>, Logits), GenerationError> {
        let longest = prompts.iter().map(Vec::len).max().unwrap_or(0);
        // The last generated token is not read.
        let length = longest + n_tokens.saturating_sub(1);
        if let Some(limit) = self
            .model
            .reformer
            .position
            .max_length()
            .filter(|&max| length > max)
        {
            let what = "the model has positions for";
            return Err(GenerationError::TooLong {
                length,
                limit,
                what,
            });
        }
        let context = self.window_length.unwrap_or(length);
        let config = DecodingConfig::new(context).with_max_length(Some(length));
        LmDecoder::prefill(&self.model, prompts, &config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn_flex::Flex;
    use reformer_core::model::{ReformerConfig, ReformerLmConfig};
    use reformer_train::DataConfig;

    fn model() -> TextModel<Flex> {
        let device = Default::default();
        let model = ReformerLmConfig::new(ReformerConfig::new(256, 16, 2));
        let config = TrainConfig::new(model.into(), DataConfig::Sample).with_window_length(24);
        let model = config.model.init(&device).into_lm().unwrap();
        TextModel::of_run(model, Codec::of_bytes(&config.data), &config)
    }

    fn wish(prompt: &str, n_tokens: usize, seed: u64) -> GenerationRequest {
        GenerationRequest::new(prompt, n_tokens, SamplerConfig::new(), seed)
    }

    fn written(model: &TextModel<Flex>, wish: &GenerationRequest) -> Result<Vec<Vec<u8>>> {
        let mut texts = vec![Vec::new(); wish.prompts.len() * wish.n_samples];
        model.write_on(wish, |row, text| {
            texts[row].extend_from_slice(text);
            Ok(())
        })?;
        Ok(texts)
    }

    #[test]
    fn same_seed_gives_the_same_text_beyond_the_window() {
        let model = model();
        let text = |seed| written(&model, &wish("ROMEO:", 40, seed)).unwrap();
        assert_eq!(text(3)[0].len(), 40);
        assert_eq!(text(3), text(3));
        assert_ne!(text(3), text(4));
    }

    #[test]
    fn samples_of_several_prompts_come_in_order_and_the_first_is_as_alone() {
        let model = model();
        let mut wish = wish("ROMEO:", 10, 1);
        let alone = written(&model, &wish).unwrap();
        wish.prompts.push(b"A".to_vec());
        wish.n_samples = 3;
        let all = written(&model, &wish).unwrap();
        assert_eq!(all.len(), 6);
        assert_eq!(all[0], alone[0]);
        assert_ne!(all[1], all[0]);
    }

    #[test]
    fn text_ends_before_a_stop_string() {
        let model = model();
        let mut wish = wish("ROMEO:", 40, 3);
        let whole = written(&model, &wish).unwrap().remove(0);
        // Any byte will do that is a character by itself.
        let stop = whole.iter().find(|byte| byte.is_ascii()).copied().unwrap();
        wish.stop = vec![char::from(stop).to_string()];
        let text = written(&model, &wish).unwrap().remove(0);
        let place = whole.iter().position(|&byte| byte == stop).unwrap();
        assert_eq!(text, whole[..place]);
    }

    #[test]
    fn search_gives_as_many_as_the_beam_is_wide_and_the_best_first() {
        let config = BeamConfig::new().with_beam_size(3);
        let prompts = [b"ROMEO:".to_vec(), b"B".to_vec()];
        let found = model().search(&prompts, 8, &config).unwrap();
        for found in found {
            assert_eq!(found.len(), 3);
            assert!(found.is_sorted_by(|a, b| a.score >= b.score));
            assert!(found.iter().all(|found| found.text.len() == 8));
        }
    }

    #[test]
    fn impossible_wishes_are_refused() {
        let model = model();
        let refused = |wish: &GenerationRequest| written(&model, wish).unwrap_err().to_string();
        assert!(refused(&wish("", 1, 0)).starts_with("prompt 1 is empty"));
        assert!(refused(&wish("x", 0, 0)).starts_with("0 tokens"));
        let cold = SamplerConfig::new().with_temperature(-1.0);
        assert!(
            refused(&GenerationRequest::new("x", 1, cold, 0)).starts_with("`temperature` is -1")
        );
        let search = model.search(&[b"x".to_vec()], 0, &BeamConfig::new());
        assert!(search.unwrap_err().to_string().starts_with("0 tokens"));
    }
}
