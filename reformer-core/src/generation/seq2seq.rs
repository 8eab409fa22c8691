//! A decoder that reads one token after another, beside a source.

use burn::tensor::backend::Backend;
use burn::tensor::{Bool, Int, Tensor, TensorData};

use super::beam::{BeamConfig, Hypothesis, StepDecoder, beam_search};
use super::error::GenerationError;
use super::logits::Logits;
use crate::kernels::ReformerBackend;
use crate::model::ReformerSeq2Seq;
use crate::pass::{Pass, Source};

/// Writes targets with a [`ReformerSeq2Seq`], one token after another.
///
/// A step computes the target so far once more, with the kernels of training, so its logits are
/// those of [`ReformerSeq2Seq::decode`]; the source is encoded once.
#[derive(Debug, Clone)]
pub struct Seq2SeqDecoder<'a, B: ReformerBackend> {
    model: &'a ReformerSeq2Seq<B>,
    source: Source<B>,
    /// What was read in each row.
    targets: Vec<Vec<u32>>,
}

impl<'a, B: ReformerBackend> Seq2SeqDecoder<'a, B> {
    /// Encodes sources of any lengths, a row each.
    ///
    /// # Errors
    /// No sources, an empty one, one that is longer than the positions, or tokens outside of the
    /// vocabulary.
    pub fn new(
        model: &'a ReformerSeq2Seq<B>,
        sources: &[Vec<u32>],
    ) -> Result<Self, GenerationError> {
        if sources.is_empty() {
            return Err(GenerationError::NoPrompts);
        }
        for (number, source) in sources.iter().enumerate() {
            if source.is_empty() {
                return Err(GenerationError::EmptyPrompt { number });
            }
            check_tokens(model, source)?;
            check_length(source.len(), model.encoder.position.max_length())?;
        }
        let (tokens, mask_pad) = padded(sources, &model.embedding.weight.device());
        Ok(Self {
            model,
            source: model.encode(tokens, mask_pad, &Pass::eval()),
            targets: vec![Vec::new(); sources.len()],
        })
    }
}

impl<B: ReformerBackend> StepDecoder for Seq2SeqDecoder<'_, B> {
    type Error = GenerationError;

    fn select(&mut self, rows: &[usize]) -> Result<(), GenerationError> {
        if rows.iter().copied().eq(0..self.targets.len()) {
            return Ok(());
        }
        self.targets = rows.iter().map(|&row| self.targets[row].clone()).collect();
        let rows: Vec<i32> = rows.iter().map(|&row| row as i32).collect();
        let device = self.source.hidden.device();
        let rows = Tensor::<B, 1, Int>::from_ints(rows.as_slice(), &device);
        let mask_pad = self.source.mask_pad.take();
        self.source = Source {
            hidden: self.source.hidden.clone().select(0, rows.clone()),
            // Backends select rows of numbers.
            mask_pad: mask_pad.map(|mask| mask.int().select(0, rows).equal_elem(1)),
        };
        Ok(())
    }

    fn step(&mut self, tokens: &[u32]) -> Result<Logits, GenerationError> {
        assert_eq!(tokens.len(), self.targets.len(), "a token for each row");
        check_tokens(self.model, tokens)?;
        for (target, token) in self.targets.iter_mut().zip(tokens) {
            target.push(*token);
        }
        let length = self.targets[0].len();
        check_length(length, self.model.decoder.position.max_length())?;
        let (inputs, _) = padded(&self.targets, &self.source.hidden.device());
        let source = self.source.clone();
        let logits = self
            .model
            .decode_last(source, inputs, &Pass::eval())
            .into_data();
        let logits: Vec<f32> = logits.iter::<f32>().collect();
        if logits.iter().any(|logit| logit.is_nan()) {
            return Err(GenerationError::NotFinite);
        }
        Ok(Logits::new(logits, self.model.vocab_size()))
    }
}

/// The best targets of some sources, each of at most so many tokens, the end included: for each
/// source as many as the beam is wide, the best first. A beam of 1 without length penalty takes the
/// most probable token each time.
///
/// `begin` is what the decoder reads first.
///
/// ```
/// use burn_flex::Flex;
/// use reformer_core::generation::{BeamConfig, translate};
/// use reformer_core::model::{ReformerConfig, ReformerSeq2SeqConfig};
///
/// let config = ReformerSeq2SeqConfig::new(ReformerConfig::new(50, 32, 2));
/// let model = config.init::<Flex>(&Default::default());
/// let sources = [vec![7, 8, 9, 3], vec![11, 3]]; // of any lengths
/// let beam = BeamConfig::new().with_end(Some(3));
/// let found = translate(&model, &sources, 2, &[10, 5], &beam)?;
/// assert!(found[0][0].tokens.len() <= 10);
/// # Ok::<(), reformer_core::generation::GenerationError>(())
/// ```
///
/// # Errors
/// Sources that cannot be read, see [`Seq2SeqDecoder::new`], targets that become longer than the
/// positions, and settings that cannot work.
///
/// # Panics
/// If `max_tokens` has not one entry for each source.
pub fn translate<B: ReformerBackend>(
    model: &ReformerSeq2Seq<B>,
    sources: &[Vec<u32>],
    begin: u32,
    max_tokens: &[usize],
    beam: &BeamConfig,
) -> Result<Vec<Vec<Hypothesis>>, GenerationError> {
    beam.validate()?;
    let mut decoder = Seq2SeqDecoder::new(model, sources)?;
    let first = decoder.step(&vec![begin; sources.len()])?;
    beam_search(&mut decoder, &first, max_tokens, beam)
}

/// Rows of one length, and where they are padding, if they are anywhere.
fn padded<B: Backend>(
    rows: &[Vec<u32>],
    device: &B::Device,
) -> (Tensor<B, 2, Int>, Option<Tensor<B, 2, Bool>>) {
    let length = rows.iter().map(Vec::len).max().unwrap_or(0);
    let shape = [rows.len(), length];
    let at = |row: &Vec<u32>, place: usize| row.get(place).map_or(0, |&token| token as i32);
    let places = || {
        rows.iter()
            .flat_map(|row| (0..length).map(move |p| (row, p)))
    };
    let tokens: Vec<i32> = places().map(|(row, place)| at(row, place)).collect();
    let is_padding: Vec<bool> = places().map(|(row, place)| place >= row.len()).collect();
    let has_padding = is_padding.contains(&true);
    let mask = TensorData::new(is_padding, shape);
    (
        Tensor::from_data(TensorData::new(tokens, shape), device),
        has_padding.then(|| Tensor::from_data(mask, device)),
    )
}

fn check_tokens<B: Backend>(
    model: &ReformerSeq2Seq<B>,
    tokens: &[u32],
) -> Result<(), GenerationError> {
    let vocab_size = model.vocab_size();
    match tokens.iter().find(|&&token| token as usize >= vocab_size) {
        Some(&token) => Err(GenerationError::Token { token, vocab_size }),
        None => Ok(()),
    }
}

fn check_length(length: usize, limit: Option<usize>) -> Result<(), GenerationError> {
    match limit.filter(|&limit| length > limit) {
        Some(limit) => Err(GenerationError::TooLong {
            length,
            limit,
            what: "the model has positions for",
        }),
        None => Ok(()),
    }
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
            });
        let config = ReformerSeq2SeqConfig::new(reformer).with_cross(cross);
        config.init(&Default::default())
    }

    fn sources() -> Vec<Vec<u32>> {
        vec![vec![3, 4, 5, 6, 7, 2], vec![9, 2], vec![8, 8, 8, 2]]
    }

    /// Log-probability of a target and its end, by one pass through the whole model.
    fn log_prob(model: &ReformerSeq2Seq<Flex>, source: &[u32], target: &[u32]) -> f64 {
        let row = |tokens: Vec<u32>| padded::<Flex>(&[tokens], &Default::default()).0;
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
            let found = translate(&model, &sources(), BEGIN, &[12, 12, 12], &beam).unwrap();
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
            // Neighbours in the batch, and padding, change nothing.
            for (number, source) in sources().into_iter().enumerate() {
                let alone = translate(&model, &[source], BEGIN, &[12], &beam).unwrap();
                let tokens = |found: &[Hypothesis]| found[0].tokens.clone();
                assert_eq!(tokens(&alone[0]), tokens(&found[number]));
            }
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
            translate(&model, &sources(), BEGIN, &[9, 9, 9], &beam).unwrap()
        };
        for (source, found) in sources().iter().zip(search(1)) {
            let mut greedy = Vec::new();
            let mut decoder = Seq2SeqDecoder::new(&model, std::slice::from_ref(source)).unwrap();
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
            translate(&model, sources, BEGIN, &max_tokens, &beam)
                .unwrap_err()
                .to_string()
        };
        assert!(refused(&[]).contains("no prompts"));
        assert!(refused(&[vec![3], vec![]]).contains("prompt 2 is empty"));
        assert!(refused(&[vec![11]]).contains("token 11"));
        assert!(refused(&[vec![3; 21]]).contains("21 tokens are more than the 20"));
    }
}
