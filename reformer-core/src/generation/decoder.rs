//! A language model that reads one token after another.

use burn::config::Config;
use burn::tensor::backend::Backend;
use burn::tensor::{Int, Tensor, TensorData};

use super::beam::StepDecoder;
use super::cache::LayerCache;
use super::error::GenerationError;
use super::logits::Logits;
use crate::kernels::ReformerBackend;
use crate::model::ReformerLm;

/// Configuration of an [`LmDecoder`].
#[derive(Config, Debug, PartialEq, Eq)]
pub struct DecodingConfig {
    /// The length that decides what depends on the length, from the first token to the last; see
    /// [`Pass::with_context`](crate::Pass::with_context). Usually that of the sequences that the
    /// model was trained on.
    pub context: usize,
    /// Tokens of a sequence that the cache has room for. Default: the context.
    pub max_length: Option<usize>,
}

/// Continues sequences with a [`ReformerLm`]: prompts are read at once, then one token after another
/// from a cache.
///
/// Reading a token costs what it sees (window times rounds in LSH attention) and not the length of
/// what came before.
///
/// # The same as reading everything at once
///
/// Under [`Window::Bucket`](crate::attention::Window), with local and with full attention the logits
/// are those of [`ReformerLm::forward`] on the whole sequence with the same
/// [context](crate::Pass::with_context): on the CPU backends bit for bit, however prompts and
/// batches are cut, on others up to rounding. Whether attention is
/// [exact](crate::attention::ExactUpTo) is decided once, by the context.
///
/// Under [`Window::Chunk`](crate::attention::Window) there is no such law, for what a position sees
/// depends on later ones. The newest position then sees its own chunk of the sorted sequence so far
/// and the neighbouring ones, in each round, as in Hugging Face, but with rotations that stay and in
/// every sequence of a batch. With
/// [`wrap_rounds`](crate::attention::LshConfig::wrap_rounds) a round goes on at its own other end.
///
/// ```
/// use burn_flex::Flex;
/// use reformer_core::generation::{DecodingConfig, LmDecoder, StepDecoder};
/// use reformer_core::model::{ReformerConfig, ReformerLmConfig};
///
/// let config = ReformerLmConfig::new(ReformerConfig::new(256, 32, 2));
/// let model = config.init::<Flex>(&Default::default());
/// let prompts = [b"To be".map(u32::from).to_vec(), vec![65]]; // of any lengths
/// let (mut decoder, logits) = LmDecoder::prefill(&model, &prompts, &DecodingConfig::new(100))?;
/// assert_eq!((logits.n_rows(), logits.vocab_size()), (2, 256));
/// let logits = decoder.step(&[44, 66])?;
/// assert_eq!(logits.n_rows(), 2);
/// assert_eq!(decoder.lengths(), [6, 2]);
/// # Ok::<(), reformer_core::generation::GenerationError>(())
/// ```
#[derive(Debug, Clone)]
pub struct LmDecoder<'a, B: ReformerBackend> {
    model: &'a ReformerLm<B>,
    layers: Vec<LayerCache<B>>,
    lengths: Vec<usize>,
    max_length: usize,
}

impl<'a, B: ReformerBackend> LmDecoder<'a, B> {
    /// Reads prompts, and gives the logits of the token after each.
    ///
    /// Prompts of one length are read together, others one after another.
    ///
    /// # Errors
    /// No prompts, an empty one or one that is too long, tokens outside of the vocabulary, and a
    /// model that is not causal.
    pub fn prefill(
        model: &'a ReformerLm<B>,
        prompts: &[Vec<u32>],
        config: &DecodingConfig,
    ) -> Result<(Self, Logits), GenerationError> {
        let max_length = config.max_length.unwrap_or(config.context);
        check(model, prompts, max_length)?;
        let length = prompts[0].len();
        let groups: Vec<&[Vec<u32>]> = match prompts.iter().all(|prompt| prompt.len() == length) {
            true => vec![prompts],
            false => prompts.chunks(1).collect(),
        };
        let mut logits = Vec::new();
        let mut caches: Vec<Vec<LayerCache<B>>> =
            model.reformer.blocks.iter().map(|_| Vec::new()).collect();
        for group in groups {
            let tokens = tokens::<B>(group.concat(), group.len(), &device(model));
            let hidden = model.reformer.last_hidden(tokens, |number, x| {
                let attention = &model.reformer.blocks[number].attention;
                let (output, cache) = LayerCache::prefill(attention, x, config.context, max_length);
                caches[number].push(cache);
                output
            });
            logits.extend(values(model.logits(hidden)));
        }
        let joined = caches
            .into_iter()
            .map(|parts| LayerCache::join(parts).expect("a group at least"));
        let decoder = Self {
            model,
            layers: joined.collect(),
            lengths: prompts.iter().map(Vec::len).collect(),
            max_length,
        };
        Ok((decoder, decoder_logits(logits, model)?))
    }

    /// Tokens read in each sequence.
    pub fn lengths(&self) -> &[usize] {
        &self.lengths
    }

    /// Memory of the cache, in bytes. It grows with the sequences, up to their
    /// [greatest length](DecodingConfig::max_length), with LSH and with full attention; local
    /// attention remembers what is in its reach.
    pub fn memory_bytes(&self) -> usize {
        self.layers.iter().map(LayerCache::bytes).sum()
    }
}

impl<B: ReformerBackend> StepDecoder for LmDecoder<'_, B> {
    type Error = GenerationError;

    fn select(&mut self, rows: &[usize]) -> Result<(), GenerationError> {
        if rows.iter().copied().eq(0..self.lengths.len()) {
            return Ok(());
        }
        self.layers.iter_mut().for_each(|layer| layer.select(rows));
        self.lengths = rows.iter().map(|&row| self.lengths[row]).collect();
        Ok(())
    }

    fn step(&mut self, next: &[u32]) -> Result<Logits, GenerationError> {
        assert_eq!(next.len(), self.lengths.len(), "a token for each sequence");
        check_tokens(self.model, next)?;
        let longest = self.lengths.iter().max().map_or(0, |longest| longest + 1);
        check_length(self.model, longest, self.max_length)?;
        let (model, positions) = (self.model, &self.lengths);
        let tokens = tokens::<B>(next.to_vec(), next.len(), &device(model));
        let layers = &mut self.layers;
        let hidden = model.reformer.forward_at(tokens, positions, |number, x| {
            let attention = &model.reformer.blocks[number].attention;
            layers[number].step(attention, x, positions)
        });
        let logits = values(model.logits(hidden));
        self.lengths.iter_mut().for_each(|length| *length += 1);
        decoder_logits(logits, model)
    }
}

/// Logits that can be chosen from.
fn decoder_logits<B: Backend>(
    logits: Vec<f32>,
    model: &ReformerLm<B>,
) -> Result<Logits, GenerationError> {
    if logits.iter().any(|logit| logit.is_nan()) {
        return Err(GenerationError::NotFinite);
    }
    Ok(Logits::new(logits, model.reformer.vocab_size))
}

fn values<B: Backend>(logits: Tensor<B, 3>) -> Vec<f32> {
    logits.into_data().iter::<f32>().collect()
}

fn device<B: Backend>(model: &ReformerLm<B>) -> B::Device {
    model.output.weight.device()
}

/// Tokens of some sequences of one length.
fn tokens<B: Backend>(tokens: Vec<u32>, n: usize, device: &B::Device) -> Tensor<B, 2, Int> {
    let tokens: Vec<i32> = tokens.into_iter().map(|token| token as i32).collect();
    let shape = [n, tokens.len() / n];
    Tensor::from_data(TensorData::new(tokens, shape), device)
}

fn check<B: Backend>(
    model: &ReformerLm<B>,
    prompts: &[Vec<u32>],
    max_length: usize,
) -> Result<(), GenerationError> {
    let is_causal = |block: &crate::model::Block<B>| block.attention.is_causal();
    if !model.reformer.blocks.iter().all(is_causal) {
        return Err(GenerationError::NotCausal);
    }
    if prompts.is_empty() {
        return Err(GenerationError::NoPrompts);
    }
    for (number, prompt) in prompts.iter().enumerate() {
        if prompt.is_empty() {
            return Err(GenerationError::EmptyPrompt { number });
        }
        check_length(model, prompt.len(), max_length)?;
        check_tokens(model, prompt)?;
    }
    Ok(())
}

fn check_tokens<B: Backend>(model: &ReformerLm<B>, tokens: &[u32]) -> Result<(), GenerationError> {
    let vocab_size = model.reformer.vocab_size;
    match tokens.iter().find(|&&token| token as usize >= vocab_size) {
        Some(&token) => Err(GenerationError::Token { token, vocab_size }),
        None => Ok(()),
    }
}

fn check_length<B: Backend>(
    model: &ReformerLm<B>,
    length: usize,
    max_length: usize,
) -> Result<(), GenerationError> {
    let positions = model.reformer.position.max_length();
    if let Some(limit) = positions.filter(|&limit| length > limit) {
        let what = "the model has positions for";
        return Err(GenerationError::TooLong {
            length,
            limit,
            what,
        });
    }
    if length > max_length {
        return Err(GenerationError::TooLong {
            length,
            limit: max_length,
            what: "the cache was made for",
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attention::AttentionKind;
    use crate::model::{ReformerConfig, ReformerLmConfig};
    use crate::position::PositionConfig;
    use burn_flex::Flex;

    fn config() -> ReformerConfig {
        let position = PositionConfig::Learned {
            max_length: 9,
            std: 1.0,
        };
        ReformerConfig::new(5, 8, 1)
            .with_n_heads(2)
            .with_position(position)
    }

    fn model(config: ReformerConfig) -> ReformerLm<Flex> {
        ReformerLmConfig::new(config).init(&Default::default())
    }

    fn refused(prompts: &[Vec<u32>]) -> String {
        let config = DecodingConfig::new(8).with_max_length(Some(12));
        let model = model(self::config());
        LmDecoder::prefill(&model, prompts, &config)
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn impossible_wishes_are_refused() {
        assert!(refused(&[]).starts_with("there are no prompts"));
        assert!(refused(&[vec![1], vec![]]).starts_with("prompt 2 is empty"));
        assert!(refused(&[vec![1, 5]]).starts_with("token 5 is outside of the vocabulary of 5"));
        let too_long = refused(&[vec![1; 10]]);
        assert!(too_long.starts_with("10 tokens are more than the 9 that the model has positions"));

        let bidirectional = model(config().with_causal(false));
        let error = LmDecoder::prefill(&bidirectional, &[vec![1]], &DecodingConfig::new(8));
        assert_eq!(error.unwrap_err(), GenerationError::NotCausal);
    }

    #[test]
    fn a_sequence_ends_where_its_cache_does_and_is_as_it_was() {
        let model = model(config());
        let config = DecodingConfig::new(3);
        let (mut decoder, _) = LmDecoder::prefill(&model, &[vec![1, 2]], &config).unwrap();
        decoder.step(&[3]).unwrap();
        let error = decoder.step(&[4]).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("4 tokens are more than the 3"),
            "{error}"
        );
        assert!(matches!(
            decoder.step(&[5]),
            Err(GenerationError::Token { token: 5, .. })
        ));
        assert_eq!(decoder.lengths(), [3]);
    }

    #[test]
    fn memory_is_that_of_what_can_be_seen() {
        let bytes = |kind, n: usize| {
            let config = ReformerConfig::new(5, 8, 1)
                .with_layers(vec![kind])
                .with_n_heads(2);
            let model = model(config);
            let decoding = DecodingConfig::new(4096);
            let (decoder, _) = LmDecoder::prefill(&model, &[vec![1; n]], &decoding).unwrap();
            decoder.memory_bytes()
        };
        // Keys and values of 8 features of 4 bytes.
        assert_eq!(bytes(AttentionKind::Full, 1000), 2 * 8 * 4 * 1000);
        assert_eq!(bytes(AttentionKind::Local, 100), 2 * 8 * 4 * 100);
        assert_eq!(bytes(AttentionKind::Local, 1000), 2 * 8 * 4 * 128);
        assert!(bytes(AttentionKind::Lsh, 1000) > 2 * 8 * 4 * 1000);
    }
}
