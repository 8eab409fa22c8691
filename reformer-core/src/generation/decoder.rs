//! A language model that generates one token at a time.

use burn::config::Config;
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;

use super::beam::StepDecoder;
use super::cache::{LayerCache, Lengths};
use super::error::GenerationError;
use super::host::{self, Limits};
use super::logits::Logits;
use crate::kernels::ReformerBackend;
use crate::model::ReformerLm;

/// Configuration of an [`LmDecoder`] or a [`Seq2SeqDecoder`](super::Seq2SeqDecoder).
#[derive(Config, Debug, PartialEq, Eq)]
pub struct DecodingConfig {
    /// Replaces the length of the sequence, from the first token to the last, where settings depend
    /// on it; see [`Pass::with_context`](crate::Pass::with_context). Usually the length of the
    /// training sequences.
    pub context: usize,
    /// Capacity of the cache in tokens per sequence. Default: the context.
    pub max_length: Option<usize>,
}

impl DecodingConfig {
    pub(super) fn lengths(&self) -> Lengths {
        Lengths {
            context: self.context,
            max: self.max_length.unwrap_or(self.context),
        }
    }
}

/// Continues sequences with a [`ReformerLm`]: prompts are read at once, then one token at a time
/// with a cache.
///
/// The cost of a token depends on the number of visible keys (window times rounds in LSH
/// attention), not on the length of the preceding sequence.
///
/// # Equality with reading a whole sequence at once
///
/// Under [`Window::Bucket`](crate::attention::Window), with local and with full attention, the
/// logits equal those of [`ReformerLm::forward`] on the whole sequence with the same
/// [context](crate::Pass::with_context). They are equal bit for bit on the CPU backends, however
/// prompts and batches are split, and up to rounding on others. The context decides once whether
/// attention is [exact](crate::attention::ExactUpTo).
///
/// Under [`Window::Chunk`](crate::attention::Window) they differ, since the keys that a position
/// sees depend on later positions. In each round, the newest position then sees its own chunk and
/// the neighbouring ones of the sequence so far, sorted by bucket. This is as in Hugging Face, but
/// with fixed rotations and for all sequences of a batch. With
/// [`wrap_rounds`](crate::attention::LshConfig::wrap_rounds) a round wraps to its own other end.
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
    limits: Limits,
}

impl<'a, B: ReformerBackend> LmDecoder<'a, B> {
    /// Reads prompts and returns the logits of the token after each.
    ///
    /// Prompts of equal length are read together, others one after another.
    ///
    /// # Errors
    /// No prompts, an empty one or one that is too long, tokens outside of the vocabulary, and a
    /// model that is not causal.
    pub fn prefill(
        model: &'a ReformerLm<B>,
        prompts: &[Vec<u32>],
        config: &DecodingConfig,
    ) -> Result<(Self, Logits), GenerationError> {
        let lengths = config.lengths();
        let limits = Limits {
            vocab_size: model.reformer.vocab_size,
            positions: model.reformer.position.max_length(),
            room: lengths.max,
        };
        check(model, prompts, &limits)?;
        let length = prompts[0].len();
        let groups: Vec<&[Vec<u32>]> = match prompts.iter().all(|prompt| prompt.len() == length) {
            true => vec![prompts],
            false => prompts.chunks(1).collect(),
        };
        let device = model.output.weight.device();
        let mut logits = Vec::new();
        let mut caches: Vec<Vec<LayerCache<B>>> =
            model.reformer.blocks.iter().map(|_| Vec::new()).collect();
        for group in groups {
            let tokens = host::tokens::<B>(&group.concat(), group.len(), &device);
            let hidden = model.reformer.last_hidden(tokens, |number, x| {
                let attention = &model.reformer.blocks[number].attention;
                let (output, cache) = LayerCache::prefill(attention, x, lengths);
                caches[number].push(cache);
                output
            });
            logits.push(model.logits(hidden));
        }
        let joined = caches
            .into_iter()
            .map(|parts| LayerCache::join(parts).expect("a group at least"));
        let decoder = Self {
            model,
            layers: joined.collect(),
            lengths: prompts.iter().map(Vec::len).collect(),
            limits,
        };
        Ok((decoder, host::logits(Tensor::cat(logits, 0))?))
    }

    /// Number of tokens read in each sequence.
    pub fn lengths(&self) -> &[usize] {
        &self.lengths
    }

    /// Memory of the cache, in bytes. It grows with the sequences up to their [maximum
    /// length](DecodingConfig::max_length) with LSH and full attention; local attention only keeps
    /// the positions in its reach.
    pub fn memory_bytes(&self) -> usize {
        self.layers.iter().map(LayerCache::bytes).sum()
    }

    /// The same before anything is read: an estimate for sequences of the maximum length, from above.
    pub fn estimated_bytes(
        model: &ReformerLm<B>,
        n_sequences: usize,
        config: &DecodingConfig,
    ) -> usize {
        let blocks = model.reformer.blocks.iter();
        let layers = blocks
            .map(|block| LayerCache::bytes_of_sequence(&block.attention, config.lengths()))
            .fold(0, usize::saturating_add);
        layers.saturating_mul(n_sequences)
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
        self.limits.check_tokens(next)?;
        let longest = self.lengths.iter().max().map_or(0, |longest| longest + 1);
        self.limits.check_length(longest)?;
        let (model, positions) = (self.model, &self.lengths);
        let tokens = host::tokens::<B>(next, next.len(), &model.output.weight.device());
        let layers = &mut self.layers;
        let logits = B::among_threads(|| {
            let hidden = model.reformer.forward_at(tokens, positions, |number, x| {
                let attention = &model.reformer.blocks[number].attention;
                layers[number].step(attention, x, positions)
            });
            model.logits(hidden)
        });
        let logits = host::logits(logits)?;
        self.lengths.iter_mut().for_each(|length| *length += 1);
        Ok(logits)
    }
}

fn check<B: Backend>(
    model: &ReformerLm<B>,
    prompts: &[Vec<u32>],
    limits: &Limits,
) -> Result<(), GenerationError> {
    let is_causal = |block: &crate::model::Block<B>| block.attention.is_causal();
    if !model.reformer.blocks.iter().all(is_causal) {
        return Err(GenerationError::NotCausal);
    }
    if prompts.is_empty() {
        return Err(GenerationError::NoPrompts);
    }
    let mut prompts = prompts.iter().enumerate();
    prompts.try_for_each(|(number, prompt)| limits.check_prompt(number, prompt))
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
            sinusoidal: false,
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
            let decoding = DecodingConfig::new(4096).with_max_length(Some(n));
            let estimated = LmDecoder::estimated_bytes(&model, 3, &decoding);
            let (mut decoder, _) = LmDecoder::prefill(&model, &[vec![1; n]], &decoding).unwrap();
            let bytes = decoder.memory_bytes();
            decoder.select(&[0; 3]).unwrap();
            let of_three = decoder.memory_bytes();
            match kind {
                AttentionKind::Lsh => assert!(of_three <= estimated && estimated < 2 * of_three),
                _ => assert_eq!(of_three, estimated),
            }
            bytes
        };
        // Keys and values: 8 features of 4 bytes each.
        assert_eq!(bytes(AttentionKind::Full, 1000), 2 * 8 * 4 * 1000);
        assert_eq!(bytes(AttentionKind::Local, 100), 2 * 8 * 4 * 100);
        assert_eq!(bytes(AttentionKind::Local, 1000), 2 * 8 * 4 * 128);
        assert!(bytes(AttentionKind::Lsh, 1000) > 2 * 8 * 4 * 1000);
    }
}
