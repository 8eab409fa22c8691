//! Texts with masked bytes, which the model is to predict.

use std::sync::Arc;

use reformer_core::Key;
use reformer_core::model::MaskingConfig;
use reformer_datasets::Sequences;

/// Child of a seed that no training step uses.
const MASKS: u64 = u64::MAX;

/// Purpose of masks: those of a validation are always the same, those of a training never repeat.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Purpose {
    Train,
    Validate,
}

/// Other sequences with tokens masked. The masks of a sequence depend on the seed and its number.
#[derive(Debug)]
pub(crate) struct Masked {
    sequences: Arc<dyn Sequences>,
    masking: MaskingConfig,
    key: Key,
}

impl Masked {
    pub(crate) fn new(
        sequences: Arc<dyn Sequences>,
        masking: &MaskingConfig,
        seed: u64,
        purpose: Purpose,
    ) -> Self {
        Self {
            sequences,
            masking: masking.clone(),
            key: Key::new(seed).fold(MASKS).fold(purpose as u64),
        }
    }
}

impl Sequences for Masked {
    fn seq_length(&self) -> usize {
        self.sequences.seq_length()
    }

    fn vocab_size(&self) -> usize {
        self.masking.vocab_size
    }

    fn n_sequences(&self) -> Option<usize> {
        self.sequences.n_sequences()
    }

    fn read(&self, number: u64, tokens: &mut [i32], targets: &mut [i32]) {
        self.sequences.read(number, tokens, targets);
        let shown = tokens.iter().map(|&token| i64::from(token));
        let (shown, hidden) = self.masking.hide_tokens(shown, self.key.fold(number));
        for (row, numbers) in [(tokens, shown), (targets, hidden)] {
            for (place, number) in row.iter_mut().zip(numbers) {
                *place = number as i32;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use reformer_datasets::{ByteCorpus, Windows};

    #[test]
    fn masks_are_drawn_for_each_window_and_purpose() {
        let split = ByteCorpus::sample().split().valid;
        let windows = Arc::new(Windows::new(&split, 200).unwrap());
        let masking = MaskingConfig::new(257, 256);
        let read = |seed, purpose, number| {
            let masked = Masked::new(windows.clone(), &masking, seed, purpose);
            let (mut tokens, mut targets) = ([0; 200], [0; 200]);
            masked.read(number, &mut tokens, &mut targets);
            (tokens, targets)
        };
        let (tokens, targets) = read(3, Purpose::Validate, 7);
        let (mut text, mut next) = ([0; 200], [0; 200]);
        windows.read(7, &mut text, &mut next);
        for ((token, target), byte) in tokens.into_iter().zip(targets).zip(text) {
            assert_eq!(if target < 0 { token } else { target }, byte);
        }
        let n_hidden = targets.iter().filter(|target| **target >= 0).count();
        assert!((10..60).contains(&n_hidden), "{n_hidden}");
        assert_eq!(read(3, Purpose::Validate, 7), (tokens, targets));
        let places = |targets: [i32; 200]| targets.map(|target| target >= 0);
        for (_, others) in [
            read(4, Purpose::Validate, 7),
            read(3, Purpose::Train, 7),
            read(3, Purpose::Validate, 8),
        ] {
            assert_ne!(places(others), places(targets));
        }
    }
}
