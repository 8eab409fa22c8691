//! A model that continues texts.

use std::ops::ControlFlow;
use std::path::Path;
use std::time::Instant;

use burn::tensor::{Tensor, TensorData};
use reformer_core::attention::InspectedHead;
use reformer_core::generation::{
    BeamConfig, DecodingConfig, GenerationError, Hypothesis, LmDecoder, Logits, Sampler,
    SamplerConfig, StepDecoder, StopStrings, beam_search, generate,
};
use reformer_core::huggingface;
use reformer_core::kernels::ReformerBackend;
use reformer_core::model::ReformerLm;
use reformer_core::{Key, Pass};

use super::codec::Codec;
use super::error::InferenceError;
use super::request::{BeamResult, Cost, GenerationRequest};
use crate::config::TrainConfig;
use crate::run::{check_finite, load_model};

/// A model that continues texts.
#[derive(Debug)]
pub struct TextModel<B: ReformerBackend> {
    model: ReformerLm<B>,
    codec: Codec,
    /// Context length of the training, if it is known.
    window_length: Option<usize>,
}

impl<B: ReformerBackend> TextModel<B> {
    /// Opens the folder of a run, finished or not, or one of Hugging Face.
    ///
    /// # Errors
    /// A folder that is neither, a model that is not of text, files that cannot be read, or weights that are not finite.
    pub fn open(folder: &Path, device: &B::Device) -> Result<Self, InferenceError> {
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
            let path = folder.to_owned();
            return Err(InferenceError::NotOfText { path });
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

    /// The continuations that are asked for: all samples of the first prompt, then those of the next one. Bytes that
    /// are not UTF-8 become U+FFFD.
    ///
    /// # Errors
    /// A request that cannot be fulfilled, such as one without samples.
    pub fn generate(&self, request: &GenerationRequest) -> Result<Vec<String>, InferenceError> {
        let mut texts: Vec<Vec<u8>> = vec![Vec::new(); request.n_texts()?];
        self.stream(request, |row, text| {
            texts[row].extend_from_slice(text);
            Ok::<_, InferenceError>(())
        })?;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ok(texts.into_iter().map(text).collect())
    }

    /// The same piece by piece: `take` gets the number of a continuation, counted as in [`generate`](Self::generate), and
    /// the bytes that follow those before. A piece may end within a character, which
    /// [`Utf8Writer`](super::Utf8Writer) waits for.
    ///
    /// A text ends before a stop string and with the token that ends texts.
    ///
    /// # Errors
    /// A request that cannot be fulfilled, such as one without samples, or an error of `take`.
    pub fn stream<E>(
        &self,
        request: &GenerationRequest,
        mut take: impl FnMut(usize, &[u8]) -> Result<(), E>,
    ) -> Result<Cost, E>
    where
        E: From<InferenceError> + From<GenerationError>,
    {
        request.n_texts()?;
        let start = Instant::now();
        let prompts = self.encode(&request.prompts)?;
        let rows: Vec<usize> = (0..prompts.len())
            .flat_map(|prompt| std::iter::repeat_n(prompt, request.n_samples))
            .collect();
        let mut samplers = self.samplers(request, &prompts, &rows)?;
        let (mut decoder, first) = self.read(&prompts, request.n_tokens)?;
        let first_seconds = start.elapsed().as_secs_f64();
        let n_read = decoder.lengths().iter().max().copied().unwrap_or(0);
        decoder.select(&rows)?;
        let of_rows = rows.iter().flat_map(|&row| first.row(row)).copied();
        let first = Logits::new(of_rows.collect::<Vec<f32>>(), first.vocab_size());
        let text = |&row: &usize| {
            let stop = StopStrings::new(request.stop.clone());
            (self.codec.stream(&prompts[row]), stop)
        };
        let mut texts: Vec<_> = rows.iter().map(text).collect();
        let n_tokens = request.n_tokens;
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
                Ok::<_, E>(match stop.is_stopped() {
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

    /// A sampler for each continuation, of the prompts with these indices.
    fn samplers(
        &self,
        request: &GenerationRequest,
        prompts: &[Vec<u32>],
        rows: &[usize],
    ) -> Result<Vec<Sampler>, InferenceError> {
        let never = self.codec.no_text(self.model.reformer.vocab_size);
        let samplers = (0..).zip(rows).map(|(number, &prompt)| {
            let sampler = request.sampler.init(Key::new(request.seed).fold(number))?;
            let mut sampler = sampler.without(never.iter().copied());
            sampler.observe(&prompts[prompt]);
            Ok(sampler)
        });
        samplers.collect()
    }

    /// A short generated text, to show the progress of a training.
    ///
    /// # Errors
    /// No tokens, or a model whose weights are not finite.
    pub fn sample(&self, n_tokens: usize, seed: u64) -> Result<String, InferenceError> {
        let sampler = SamplerConfig::new().with_temperature(0.8);
        let beginning = self.codec.beginning();
        let request = GenerationRequest::new(beginning, n_tokens, sampler, seed);
        Ok(self.generate(&request)?.remove(0))
    }

    /// The best continuations of each prompt by beam search, at most `n_tokens` long: as many as there are hypotheses,
    /// the best first.
    ///
    /// # Errors
    /// No tokens, no hypotheses, or a prompt that the model cannot read.
    pub fn search(
        &self,
        prompts: &[Vec<u8>],
        n_tokens: usize,
        config: &BeamConfig,
    ) -> Result<Vec<Vec<BeamResult>>, InferenceError> {
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
            found.into_iter().map(text).collect()
        };
        prompts.iter().zip(found).map(of_prompt).collect()
    }

    /// Buckets, weights and coverage of each LSH layer for some tokens, with the number of its block.
    ///
    /// # Errors
    /// Tokens that are not in the vocabulary, or more than the model has positions for.
    pub fn inspect(
        &self,
        tokens: &[u32],
    ) -> Result<Vec<(usize, Vec<InspectedHead>)>, GenerationError> {
        let stack = &self.model.reformer;
        let vocab_size = stack.vocab_size;
        if let Some(&token) = tokens.iter().find(|&&token| token as usize >= vocab_size) {
            return Err(GenerationError::Token { token, vocab_size });
        }
        self.check_length(tokens.len())?;
        let numbers: Vec<i32> = tokens.iter().map(|&token| token as i32).collect();
        let data = TensorData::new(numbers, [1, tokens.len()]);
        let tokens = Tensor::from_data(data, &self.model.output.weight.device());
        let pass = Pass::eval().with_context(self.window_length);
        Ok(stack.inspect(tokens, &pass))
    }

    fn encode(&self, prompts: &[Vec<u8>]) -> Result<Vec<Vec<u32>>, InferenceError> {
        let encoded = (1..).zip(prompts).map(|(number, prompt)| {
            let tokens = self.codec.encode(prompt);
            let mut tokens = tokens.map_err(InferenceError::of(format!("prompt {number}")))?;
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
        self.check_length(length)?;
        LmDecoder::prefill(&self.model, prompts, &self.decoding(length))
    }

    fn decoding(&self, length: usize) -> DecodingConfig {
        let context = self.window_length.unwrap_or(length);
        DecodingConfig::new(context).with_max_length(Some(length))
    }

    /// Estimated memory of the cache, in bytes, when `n_texts` texts at a time have `length` tokens each, with their
    /// prompts.
    pub fn cache_bytes(&self, n_texts: usize, length: usize) -> usize {
        LmDecoder::estimated_bytes(&self.model, n_texts, &self.decoding(length))
    }

    /// Refuses more tokens than the model has positions for.
    fn check_length(&self, length: usize) -> Result<(), GenerationError> {
        match self.model.reformer.position.max_length() {
            Some(limit) if length > limit => Err(GenerationError::TooLong {
                length,
                limit,
                what: "the model has positions for",
            }),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
