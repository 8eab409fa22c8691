//! A decoder that generates one token at a time, given a source.

use burn::tensor::backend::Backend;
use burn::tensor::{Bool, Tensor, TensorData};

use super::beam::{BeamConfig, Hypothesis, StepDecoder, beam_search};
use super::cache::{CrossCache, LayerCache};
use super::decoder::DecodingConfig;
use super::error::GenerationError;
use super::host::{self, Limits};
use super::logits::Logits;
use crate::kernels::ReformerBackend;
use crate::model::ReformerSeq2Seq;
use crate::pass::Pass;

/// Generates targets with a [`ReformerSeq2Seq`], one token at a time, with caches: those of the
/// target grow by a position per token, those of the source are computed once.
///
/// # Equality with reading a whole target at once
///
/// As [`LmDecoder`](super::LmDecoder) equals the model on a whole sequence, so this equals
/// [`ReformerSeq2Seq::decode`] with the same [context](crate::Pass::with_context), on the
/// [encoded](ReformerSeq2Seq::encode) sources of the same batch in [`Pass::eval`]: bit for bit on the CPU
/// backends, up to rounding on others. Under [`Window::Bucket`](crate::attention::Window) that includes LSH
/// attention over the concatenated source and target
/// ([`CrossKind::Concatenated`](crate::model::CrossKind)), whose context is that of the targets plus the
/// length of the longest source. It does not hold under [`Window::Chunk`](crate::attention::Window), where
/// later tokens change the keys that earlier ones see.
///
/// ```
/// use burn_flex::Flex;
/// use reformer_core::generation::{DecodingConfig, Seq2SeqDecoder, StepDecoder};
/// use reformer_core::model::{ReformerConfig, ReformerSeq2SeqConfig};
///
/// let config = ReformerSeq2SeqConfig::new(ReformerConfig::new(50, 32, 2));
/// let model = config.init::<Flex>(&Default::default());
/// let sources = [vec![7, 8, 9, 3], vec![11, 3]]; // of any lengths
/// let mut decoder = Seq2SeqDecoder::new(&model, &sources, &DecodingConfig::new(20))?;
/// let logits = decoder.step(&[2, 2])?; // a token for the beginning
/// assert_eq!((logits.n_rows(), logits.vocab_size()), (2, 50));
/// # Ok::<(), reformer_core::generation::GenerationError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Seq2SeqDecoder<'a, B: ReformerBackend> {
    model: &'a ReformerSeq2Seq<B>,
    /// Self-attention of each block.
    layers: Vec<LayerCache<B>>,
    /// Cross-attention of each block that has it.
    cross: Vec<Option<CrossCache<B>>>,
    /// Number of tokens read in each row.
    lengths: Vec<usize>,
    limits: Limits,
}

impl<'a, B: ReformerBackend> Seq2SeqDecoder<'a, B> {
    /// Encodes sources of any lengths, one per row. `config` applies to the targets, including the
    /// start token.
    ///
    /// # Errors
    /// No sources, an empty one, one that is longer than the positions, or tokens outside of the
    /// vocabulary.
    pub fn new(
        model: &'a ReformerSeq2Seq<B>,
        sources: &[Vec<u32>],
        config: &DecodingConfig,
    ) -> Result<Self, GenerationError> {
        let of_sources = Limits {
            vocab_size: model.vocab_size(),
            positions: model.encoder.position.max_length(),
            room: usize::MAX,
        };
        if sources.is_empty() {
            return Err(GenerationError::NoPrompts);
        }
        for (number, source) in sources.iter().enumerate() {
            of_sources.check_prompt(number, source)?;
        }
        let device = model.embedding.weight.device();
        let (padded, mask_pad) = padded(sources, &device);
        let tokens = host::tokens(&padded, sources.len(), &device);
        let hidden = model.encode(tokens, mask_pad, &Pass::eval()).hidden;
        let hidden = model.source_for_attention(hidden);

        let (lengths, real) = (config.lengths(), sources.iter().map(Vec::len));
        let real: Vec<usize> = real.collect();
        let blocks = || model.decoder.blocks.iter();
        let layers = blocks().map(|block| {
            let attention = &block.block.attention;
            match block.is_concatenated() {
                true => LayerCache::of_sources(attention, hidden.clone(), &real, lengths),
                false => LayerCache::empty(attention, &hidden, lengths),
            }
        });
        let cross = blocks().map(|block| {
            let cross = block.cross.as_ref()?;
            Some(CrossCache::new(&cross.attention, hidden.clone(), &real))
        });
        Ok(Self {
            model,
            layers: layers.collect(),
            cross: cross.collect(),
            lengths: vec![0; sources.len()],
            limits: Limits {
                positions: model.decoder.position.max_length(),
                room: lengths.max,
                ..of_sources
            },
        })
    }

    /// Memory of the caches, in bytes: keys and values of the sources and of the targets so far.
    pub fn memory_bytes(&self) -> usize {
        let of_targets: usize = self.layers.iter().map(LayerCache::bytes).sum();
        let of_sources: usize = self.cross.iter().flatten().map(CrossCache::bytes).sum();
        of_targets + of_sources
    }

    /// The same before anything is read: an estimate from above, for targets of the maximum length whose sources have
    /// `source_length` tokens each.
    pub fn estimated_bytes(
        model: &ReformerSeq2Seq<B>,
        n_targets: usize,
        source_length: usize,
        config: &DecodingConfig,
    ) -> usize {
        let blocks = model.decoder.blocks.iter();
        let of_blocks = blocks.map(|block| {
            let mut lengths = config.lengths();
            if block.is_concatenated() {
                lengths.context += source_length;
                lengths.max += source_length;
            }
            let cross = block.cross.as_ref();
            let of_source =
                cross.map(|cross| CrossCache::bytes_of_source(&cross.attention, source_length));
            LayerCache::bytes_of_sequence(&block.block.attention, lengths)
                .saturating_add(of_source.unwrap_or(0))
        });
        let of_target = of_blocks.fold(0, usize::saturating_add);
        of_target.saturating_mul(n_targets)
    }
}

impl<B: ReformerBackend> StepDecoder for Seq2SeqDecoder<'_, B> {
    type Error = GenerationError;

    fn select(&mut self, rows: &[usize]) -> Result<(), GenerationError> {
        if rows.iter().copied().eq(0..self.lengths.len()) {
            return Ok(());
        }
        self.layers.iter_mut().for_each(|layer| layer.select(rows));
        let cross = self.cross.iter_mut().flatten();
        cross.for_each(|cross| cross.select(rows));
        self.lengths = rows.iter().map(|&row| self.lengths[row]).collect();
        Ok(())
    }

    fn step(&mut self, tokens: &[u32]) -> Result<Logits, GenerationError> {
        assert_eq!(tokens.len(), self.lengths.len(), "a token for each row");
        self.limits.check_tokens(tokens)?;
        let longest = self.lengths.iter().max().map_or(0, |longest| longest + 1);
        self.limits.check_length(longest)?;
        let (model, positions) = (self.model, &self.lengths);
        let device = model.embedding.weight.device();
        let tokens = host::tokens(tokens, tokens.len(), &device);
        let (layers, cross) = (&mut self.layers, &self.cross);
        let attend = |number: usize, x| {
            let attention = &model.decoder.blocks[number].block.attention;
            layers[number].step(attention, x, positions)
        };
        let attend_to_source = |number: usize, attention: &_, x| {
            let cache = cross[number].as_ref();
            cache
                .expect("one for each such attention")
                .step(attention, x)
        };
        let step = || model.decode_at(tokens, positions, attend, attend_to_source);
        let logits = host::logits(B::among_threads(step))?;
        self.lengths.iter_mut().for_each(|length| *length += 1);
        Ok(logits)
    }
}

/// The best targets of a decoder's sources, with at most `max_tokens` tokens each, including the
/// end token. For each source it returns as many as the beam size, best first. A beam of 1 without
/// length penalty is greedy decoding.
///
/// `begin` is the start token of the targets.
///
/// ```
/// use burn_flex::Flex;
/// use reformer_core::generation::{BeamConfig, DecodingConfig, Seq2SeqDecoder, translate};
/// use reformer_core::model::{ReformerConfig, ReformerSeq2SeqConfig};
///
/// let config = ReformerSeq2SeqConfig::new(ReformerConfig::new(50, 32, 2));
/// let model = config.init::<Flex>(&Default::default());
/// let sources = [vec![7, 8, 9, 3], vec![11, 3]];
/// let mut decoder = Seq2SeqDecoder::new(&model, &sources, &DecodingConfig::new(10))?;
/// let beam = BeamConfig::new().with_end(Some(3));
/// let found = translate(&mut decoder, 2, &[10, 5], &beam)?;
/// assert!(found[0][0].tokens.len() <= 10);
/// # Ok::<(), reformer_core::generation::GenerationError>(())
/// ```
///
/// # Errors
/// Targets that exceed the positions or the cache, and settings that cannot work.
///
/// # Panics
/// If `max_tokens` does not have one entry per source.
pub fn translate<B: ReformerBackend>(
    decoder: &mut Seq2SeqDecoder<B>,
    begin: u32,
    max_tokens: &[usize],
    beam: &BeamConfig,
) -> Result<Vec<Vec<Hypothesis>>, GenerationError> {
    beam.validate()?;
    let first = decoder.step(&vec![begin; decoder.lengths.len()])?;
    beam_search(decoder, &first, max_tokens, beam)
}

/// Pads rows to the length of the longest one; the mask is `None` if no row has padding.
fn padded<B: Backend>(
    rows: &[Vec<u32>],
    device: &B::Device,
) -> (Vec<u32>, Option<Tensor<B, 2, Bool>>) {
    let length = rows.iter().map(Vec::len).max().unwrap_or(0);
    let (mut tokens, mut is_padding) = (Vec::new(), Vec::new());
    for (number, row) in (1..).zip(rows) {
        tokens.extend_from_slice(row);
        is_padding.resize(tokens.len(), false);
        tokens.resize(number * length, 0);
        is_padding.resize(number * length, true);
    }
    let mask = is_padding.contains(&true).then(|| {
        let mask = TensorData::new(is_padding, [rows.len(), length]);
        Tensor::from_data(mask, device)
    });
    (tokens, mask)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attention::AttentionKind;
    use crate::model::{CrossKind, ReformerConfig, ReformerSeq2SeqConfig};
    use crate::position::PositionConfig;
    use burn_flex::Flex;

    const BEGIN: u32 = 1;
    const END: u32 = 2;

    fn model(cross: CrossKind) -> ReformerSeq2Seq<Flex> {
        let reformer = ReformerConfig::new(11, 16, 2)
            .with_n_heads(2)
            .with_layers(vec![AttentionKind::Full])
            .with_embedding_std(1.0)
            .with_position(PositionConfig::Learned {
                max_length: 20,
                std: 1.0,
                sinusoidal: false,
            });
        let config = ReformerSeq2SeqConfig::new(reformer).with_cross(cross);
        config.init(&Default::default())
    }

    fn sources() -> Vec<Vec<u32>> {
        vec![vec![3, 4, 5, 6, 7, 2], vec![9, 2], vec![8, 8, 8, 2]]
    }

    fn best(
        model: &ReformerSeq2Seq<Flex>,
        sources: &[Vec<u32>],
        max_tokens: &[usize],
        beam: &BeamConfig,
    ) -> Result<Vec<Vec<Hypothesis>>, GenerationError> {
        let config = DecodingConfig::new(30);
        let mut decoder = Seq2SeqDecoder::new(model, sources, &config)?;
        translate(&mut decoder, BEGIN, max_tokens, beam)
    }

    /// Log-probability of a target with its end token, from one pass through the whole model.
    fn log_prob(model: &ReformerSeq2Seq<Flex>, source: &[u32], target: &[u32]) -> f64 {
        let row = |tokens: Vec<u32>| host::tokens::<Flex>(&tokens, 1, &Default::default());
        let read = [&[BEGIN], target].concat();
        let (source, length) = (row(source.to_vec()), read.len());
        let encoded = model.encode(source, None, &Pass::eval());
        let logits = model.decode(encoded, row(read), None, &Pass::eval());
        let logits = logits.into_data().iter::<f32>().collect::<Vec<f32>>();
        let targets = target.iter().copied().chain([END]);
        let rows = logits.chunks(11).zip(targets).take(length);
        rows.map(|(row, token)| super::super::logits::log_softmax(row)[token as usize])
            .sum()
    }

    #[test]
    fn hypotheses_have_the_probability_that_the_model_gives_them() {
        for cross in [CrossKind::Full, CrossKind::Concatenated] {
            let model = model(cross);
            let beam = BeamConfig::new().with_end(Some(END));
            let found = best(&model, &sources(), &[12, 12, 12], &beam).unwrap();
            for (source, hypotheses) in sources().iter().zip(&found) {
                assert_eq!(hypotheses.len(), 4);
                for hypothesis in hypotheses.iter().filter(|h| h.is_ended) {
                    let expected = log_prob(&model, source, &hypothesis.tokens);
                    assert!(
                        (hypothesis.log_prob - expected).abs() < 1e-4,
                        "{hypothesis:?}"
                    );
                }
            }
            // Other sequences in the batch, and padding, have no effect.
            for (number, source) in sources().into_iter().enumerate() {
                let alone = best(&model, &[source], &[12], &beam).unwrap();
                let tokens = |found: &[Hypothesis]| found[0].tokens.clone();
                assert_eq!(tokens(&alone[0]), tokens(&found[number]));
            }
        }
    }

    #[test]
    fn memory_is_what_was_estimated() {
        for cross in [CrossKind::Full, CrossKind::Concatenated] {
            let model = model(cross);
            let config = DecodingConfig::new(10);
            let sources = vec![vec![3, 4, 5, 6, 7, 2]; 3];
            let mut decoder = Seq2SeqDecoder::new(&model, &sources, &config).unwrap();
            decoder.step(&[BEGIN; 3]).unwrap();
            let estimated = Seq2SeqDecoder::estimated_bytes(&model, 3, 6, &config);
            assert_eq!(decoder.memory_bytes(), estimated);
        }
    }

    #[test]
    fn beam_of_one_is_greedy_and_a_wider_one_is_no_worse() {
        let model = model(CrossKind::Full);
        let search = |beam_size| {
            let beam = BeamConfig::new()
                .with_beam_size(beam_size)
                .with_length_penalty(0.0)
                .with_end(Some(END));
            best(&model, &sources(), &[9, 9, 9], &beam).unwrap()
        };
        for (source, found) in sources().iter().zip(search(1)) {
            let mut greedy = Vec::new();
            let source = std::slice::from_ref(source);
            let config = DecodingConfig::new(9);
            let mut decoder = Seq2SeqDecoder::new(&model, source, &config).unwrap();
            let mut next = BEGIN;
            while greedy.len() < 9 {
                let logits = decoder.step(&[next]).unwrap();
                let row = logits.row(0);
                next = (0..11).max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap() as u32;
                if next == END {
                    break;
                }
                greedy.push(next);
            }
            assert_eq!(found[0].tokens, greedy);
        }
        for (wide, narrow) in search(40).iter().zip(search(1)) {
            assert!(wide[0].log_prob >= narrow[0].log_prob - 1e-6);
        }
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let model = model(CrossKind::Full);
        let refused = |sources: &[Vec<u32>]| {
            let beam = BeamConfig::new().with_end(Some(END));
            let max_tokens = vec![30; sources.len()];
            best(&model, sources, &max_tokens, &beam)
                .unwrap_err()
                .to_string()
        };
        assert!(refused(&[]).contains("no prompts"));
        assert!(refused(&[vec![3], vec![]]).contains("prompt 2 is empty"));
        assert!(refused(&[vec![11]]).contains("token 11"));
        assert!(refused(&[vec![3; 21]]).contains("21 tokens are more than the 20"));

        let config = DecodingConfig::new(2);
        let mut decoder = Seq2SeqDecoder::new(&model, &sources(), &config).unwrap();
        decoder.step(&[BEGIN; 3]).unwrap();
        let unknown = decoder.step(&[3, 11, 3]).unwrap_err();
        assert!(unknown.to_string().contains("token 11"));
        decoder.step(&[3; 3]).unwrap();
        let error = decoder.step(&[3; 3]).unwrap_err().to_string();
        assert!(error.contains("3 tokens are more than the 2 that the cache"));
    }
}
