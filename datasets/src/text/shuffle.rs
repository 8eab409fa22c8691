//! The endless stream of shuffled windows for training.

use crate::error::DatasetError;
use crate::sequences::Sequences;
use crate::sequences::permutations::Permutations;
use crate::text::corpus::ByteCorpus;
use crate::text::split::{Corpus, Split};
use crate::text::windows::{Window, Windows};

/// Endless passes over a split, each with its own phase and its own order.
///
/// Every pass has the same number of windows, so that sample `s` is window `s % n_windows` of pass
/// `s / n_windows`. For `n` tokens and windows of `w`, that number is `n / w - 1`, or 1 where this
/// is 0; the remaining tokens, `n - 1 - n_windows * w`, are the largest phase, with which the last
/// target is the last token. From `2 * w` tokens on there are at least `w` phases, so a token can
/// be anywhere in a window.
#[derive(Debug)]
pub struct ShuffledWindows<C = ByteCorpus> {
    windows: Windows<C>,
    permutations: Permutations,
}

impl<C: Corpus> ShuffledWindows<C> {
    /// The stream of a seed.
    ///
    /// # Errors
    /// Those of [`Windows::new`].
    pub(crate) fn new(
        split: &Split<C>,
        window_length: usize,
        seed: u64,
    ) -> Result<Self, DatasetError> {
        let windows = Windows::new(split, window_length)?;
        let (n_windows, max_phase) = pass_shape(split.len(), window_length);
        Ok(Self {
            windows,
            permutations: Permutations::new(seed, n_windows, max_phase),
        })
    }

    /// The sample of this number; repeated calls return the same.
    fn sample(&self, number: u64) -> Window<C> {
        let sample = self.permutations.sample(number);
        self.windows
            .starting_at(sample.phase + sample.item * self.windows.window_length())
    }
}

/// Windows in each pass, and the largest phase.
fn pass_shape(len: usize, window_length: usize) -> (usize, usize) {
    let n_windows = (len / window_length).saturating_sub(1).max(1);
    (n_windows, len - 1 - n_windows * window_length)
}

impl<C: Corpus> Sequences for ShuffledWindows<C> {
    fn seq_length(&self) -> usize {
        self.windows.window_length()
    }

    fn vocab_size(&self) -> usize {
        self.windows.vocab_size()
    }

    fn n_sequences(&self) -> Option<usize> {
        None
    }

    fn read(&self, number: u64, tokens: &mut [i32], targets: &mut [i32]) {
        self.sample(number).write(tokens, targets);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;
    use crate::text::{ByteCorpus, SplitName};

    fn stream(
        len: usize,
        window_length: usize,
        seed: u64,
    ) -> Result<ShuffledWindows, DatasetError> {
        let split = ByteCorpus::from_bytes("any", vec![0; len])?.whole_as(SplitName::Train);
        ShuffledWindows::new(&split, window_length, seed)
    }

    fn starts(stream: &ShuffledWindows, pass: u64) -> Vec<usize> {
        let window_length = stream.windows.window_length();
        let (n_windows, _) = pass_shape(stream.windows.split().len(), window_length);
        let n_windows = n_windows as u64;
        (pass * n_windows..(pass + 1) * n_windows)
            .map(|number| stream.sample(number).start())
            .collect()
    }

    #[test]
    fn a_seed_means_these_windows_for_ever() -> Result<(), DatasetError> {
        let stream = stream(103, 10, 2020)?;
        // From a second implementation of ChaCha8, Lemire's method and the shuffle, in another
        // language.
        assert_eq!(starts(&stream, 0), [31, 51, 61, 11, 21, 41, 71, 81, 91]);
        assert_eq!(starts(&stream, 1), [84, 4, 44, 14, 64, 74, 24, 54, 34]);
        Ok(())
    }

    #[test]
    fn number_of_windows_is_as_documented() {
        // Bytes, window length, windows of a pass, largest phase.
        for (len, window_length, n_windows, max_phase) in [
            (2, 1, 1, 0),
            (3, 1, 2, 0),
            (11, 10, 1, 0),
            (19, 10, 1, 8),
            (20, 10, 1, 9),
            (29, 10, 1, 18),
            (30, 10, 2, 9),
            (103, 10, 9, 12),
        ] {
            assert_eq!(
                pass_shape(len, window_length),
                (n_windows, max_phase),
                "{len} bytes in windows of {window_length}"
            );
        }
    }

    #[test]
    fn seeds_and_passes_differ() -> Result<(), DatasetError> {
        let (one, other) = (stream(1_000, 7, 3)?, stream(1_000, 7, 4)?);
        let all = [
            starts(&one, 0),
            starts(&one, 1),
            starts(&other, 0),
            starts(&other, 1),
        ];
        assert_eq!(all.iter().collect::<HashSet<_>>().len(), 4, "{all:?}");
        Ok(())
    }

    proptest! {
        #[test]
        fn a_pass_has_each_of_its_windows_once_and_no_byte_twice(
            window_length in 1_usize..60,
            more in 1_usize..2_000,
            seed: u64,
            pass in 0_u64..1_000_000,
        ) {
            let len = window_length + more;
            let stream = stream(len, window_length, seed)?;
            let mut starts = starts(&stream, pass);
            starts.sort_unstable();
            let phase = starts[0];
            prop_assert!(phase <= pass_shape(len, window_length).1);
            for (i, start) in starts.into_iter().enumerate() {
                prop_assert_eq!(start, phase + i * window_length);
                // The last target is a byte of the split.
                prop_assert!(start + window_length < len);
            }
        }
    }
}
