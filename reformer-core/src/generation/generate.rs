//! Generation of one token at a time.

use core::ops::ControlFlow;

use super::beam::StepDecoder;
use super::error::GenerationError;
use super::logits::Logits;
use super::sampling::Sampler;

/// Continues sequences with tokens sampled from their logits.
///
/// `decoder` has read the prompts, and `first` are its logits after them; each sequence has its own
/// sampler. At most `n_tokens` are generated for each. `take` is called with the index of the
/// sequence and the token, and returns whether that sequence continues; a finished one takes no
/// more time. The result of a sequence does not depend on the others.
///
/// ```
/// use core::ops::ControlFlow;
/// use burn_flex::Flex;
/// use reformer_core::Key;
/// use reformer_core::generation::{
///     DecodingConfig, GenerationError, LmDecoder, SamplerConfig, generate,
/// };
/// use reformer_core::model::{ReformerConfig, ReformerLmConfig};
///
/// let config = ReformerLmConfig::new(ReformerConfig::new(256, 32, 2));
/// let model = config.init::<Flex>(&Default::default());
/// let prompt = b"To be".map(u32::from).to_vec();
/// let (mut decoder, first) = LmDecoder::prefill(&model, &[prompt], &DecodingConfig::new(100))?;
///
/// let sampler = SamplerConfig::new().with_temperature(0.8).init(Key::new(42))?;
/// let mut bytes = Vec::new();
/// generate(&mut decoder, first, &mut [sampler], 20, |_, token| {
///     bytes.push(token as u8);
///     Ok::<_, GenerationError>(ControlFlow::Continue(()))
/// })?;
/// assert_eq!(bytes.len(), 20);
/// # Ok::<(), GenerationError>(())
/// ```
///
/// # Errors
/// Those of the decoder and of `take`, and [`GenerationError::NoTokens`].
///
/// # Panics
/// If there is not one sampler for each sequence.
pub fn generate<D, E>(
    decoder: &mut D,
    first: Logits,
    samplers: &mut [Sampler],
    n_tokens: usize,
    mut take: impl FnMut(usize, u32) -> Result<ControlFlow<()>, E>,
) -> Result<(), E>
where
    D: StepDecoder,
    E: From<D::Error> + From<GenerationError>,
{
    assert_eq!(
        first.n_rows(),
        samplers.len(),
        "a sampler for each sequence"
    );
    if n_tokens == 0 {
        return Err(GenerationError::NoTokens.into());
    }
    let mut sequences: Vec<usize> = (0..samplers.len()).collect();
    let mut logits = first;
    for left in (0..n_tokens).rev() {
        let (mut rows, mut tokens) = (Vec::new(), Vec::new());
        for (row, &sequence) in sequences.iter().enumerate() {
            let token = samplers[sequence].sample(logits.row(row));
            if take(sequence, token)?.is_continue() {
                rows.push(row);
                tokens.push(token);
            }
        }
        if left == 0 || rows.is_empty() {
            break;
        }
        if rows.len() < sequences.len() {
            decoder.select(&rows)?;
            sequences = rows.iter().map(|&row| sequences[row]).collect();
        }
        logits = decoder.step(&tokens)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generation::{DecodingConfig, LmDecoder, SamplerConfig};
    use crate::model::{ReformerConfig, ReformerLm, ReformerLmConfig};
    use crate::random::Key;
    use burn_flex::Flex;

    fn model() -> ReformerLm<Flex> {
        ReformerLmConfig::new(ReformerConfig::new(7, 16, 2)).init(&Default::default())
    }

    /// Continues prompts; a sequence ends with token 3.
    fn continued(model: &ReformerLm<Flex>, prompts: &[(u64, Vec<u32>)]) -> Vec<Vec<u32>> {
        let config = DecodingConfig::new(200);
        let (seeds, prompts): (Vec<u64>, Vec<Vec<u32>>) = prompts.iter().cloned().unzip();
        let (mut decoder, first) = LmDecoder::prefill(model, &prompts, &config).unwrap();
        let sampler = |seed| SamplerConfig::new().init(Key::new(seed)).unwrap();
        let mut samplers: Vec<Sampler> = seeds.into_iter().map(sampler).collect();
        let mut found = vec![Vec::new(); prompts.len()];
        generate(&mut decoder, first, &mut samplers, 40, |row, token| {
            found[row].push(token);
            let flow = match token {
                3 => ControlFlow::Break(()),
                _ => ControlFlow::Continue(()),
            };
            Ok::<_, GenerationError>(flow)
        })
        .unwrap();
        found
    }

    #[test]
    fn sequences_of_a_batch_do_not_depend_on_each_other() {
        let model = model();
        let prompts: Vec<(u64, Vec<u32>)> = (0..5)
            .map(|row| (row, vec![row as u32; 1 + row as usize]))
            .collect();
        let together = continued(&model, &prompts);
        for (together, prompt) in together.iter().zip(&prompts) {
            assert_eq!(
                &continued(&model, std::slice::from_ref(prompt))[0],
                together
            );
            assert!(together.len() == 40 || together.last() == Some(&3));
        }
        let lengths: Vec<usize> = together.iter().map(Vec::len).collect();
        assert!(
            lengths.iter().any(|n| *n != lengths[0]),
            "they end in different places"
        );
    }

    #[test]
    fn no_tokens_are_refused() {
        let model = model();
        let config = DecodingConfig::new(8);
        let (mut decoder, first) = LmDecoder::prefill(&model, &[vec![1]], &config).unwrap();
        let mut samplers = [SamplerConfig::greedy().init(Key::new(0)).unwrap()];
        let take = |_, _| Ok::<_, GenerationError>(ControlFlow::Continue(()));
        let error = generate(&mut decoder, first, &mut samplers, 0, take).unwrap_err();
        assert_eq!(error, GenerationError::NoTokens);
    }
}
