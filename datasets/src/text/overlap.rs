//! Overlapping windows, so that every token is predicted from enough context.

use crate::error::{DatasetError, SizeError};
use crate::sequences::{IGNORED, Sequences};
use crate::text::corpus::ByteCorpus;
use crate::text::split::{Corpus, Split};
use crate::text::windows::Windows;

/// A split in windows that overlap by `context_length` tokens: every token but the first is
/// predicted exactly once, and, except in the first window, from at least `context_length` tokens.
///
/// Where windows overlap, the later one has [`IGNORED`] targets. The last window ends with the
/// split's last token, so it may overlap more.
///
/// # Example
///
/// ```
/// use reformer_datasets::{ByteCorpus, OverlappingWindows, Sequences, SplitName};
///
/// # fn main() -> Result<(), reformer_datasets::DatasetError> {
/// let eight = ByteCorpus::from_bytes("eight", [0, 1, 2, 3, 4, 5, 6, 7])?;
/// let split = eight.whole_as(SplitName::Valid);
/// let windows = OverlappingWindows::new(&split, 4, 2)?;
/// assert_eq!(windows.n_sequences(), Some(3));
/// let read = |number| {
///     let (mut tokens, mut targets) = ([0; 4], [0; 4]);
///     windows.read(number, &mut tokens, &mut targets);
///     (tokens, targets)
/// };
/// assert_eq!(read(0), ([0, 1, 2, 3], [1, 2, 3, 4]));
/// assert_eq!(read(1), ([2, 3, 4, 5], [-1, -1, 5, 6]));
/// assert_eq!(read(2), ([3, 4, 5, 6], [-1, -1, -1, 7]));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct OverlappingWindows<C = ByteCorpus> {
    windows: Windows<C>,
    context_length: usize,
}

impl<C: Corpus> OverlappingWindows<C> {
    /// Cuts the split.
    ///
    /// # Errors
    /// Those of [`Windows::new`], or [`ContextTooLong`](SizeError::ContextTooLong) when
    /// `context_length` is not below `window_length`.
    pub fn new(
        split: &Split<C>,
        window_length: usize,
        context_length: usize,
    ) -> Result<Self, DatasetError> {
        let windows = Windows::new(split, window_length)?;
        if context_length >= window_length {
            return Err(SizeError::ContextTooLong {
                context_length,
                window_length,
            }
            .into());
        }
        Ok(Self {
            windows,
            context_length,
        })
    }

    /// Distance of the starts of two successive windows, except for the last one.
    fn stride(&self) -> usize {
        self.windows.window_length() - self.context_length
    }

    /// The start of the last window.
    fn last_start(&self) -> usize {
        self.windows.split().len() - 1 - self.windows.window_length()
    }
}

impl<C: Corpus> Sequences for OverlappingWindows<C> {
    fn seq_length(&self) -> usize {
        self.windows.window_length()
    }

    fn vocab_size(&self) -> usize {
        self.windows.vocab_size()
    }

    fn n_sequences(&self) -> Option<usize> {
        Some(1 + self.last_start().div_ceil(self.stride()))
    }

    fn read(&self, number: u64, tokens: &mut [i32], targets: &mut [i32]) {
        let regular_start = number as usize * self.stride();
        let start = regular_start.min(self.last_start());
        self.windows.starting_at(start).write(tokens, targets);
        if number > 0 {
            let seen = regular_start + self.context_length - start;
            targets[..seen].fill(IGNORED);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::text::{ByteCorpus, SplitName};

    #[test]
    fn context_as_long_as_the_window_is_refused() {
        let split = ByteCorpus::sample().split().valid;
        let error = OverlappingWindows::new(&split, 64, 64).expect_err("no target is left");
        assert_eq!(
            error.to_string(),
            "a context of 64 leaves no target in windows of 64: choose at most 63"
        );
    }

    proptest! {
        #[test]
        fn every_byte_but_the_first_is_a_target_once(
            len in 2_usize..250,
            window_length in 1_usize..50,
            context_length in 0_usize..50,
        ) {
            prop_assume!(window_length < len && context_length < window_length);
            let bytes: Vec<u8> = (0..len as u8).collect();
            let split = ByteCorpus::from_bytes("any", bytes)?.whole_as(SplitName::Test);
            let windows = OverlappingWindows::new(&split, window_length, context_length)?;
            let mut counted: Vec<i32> = Vec::new();
            for number in 0..windows.n_sequences().expect("they end") as u64 {
                let mut tokens = vec![0; window_length];
                let mut targets = vec![0; window_length];
                windows.read(number, &mut tokens, &mut targets);
                let new = targets.iter().filter(|&&target| target != IGNORED);
                prop_assert!(new.clone().count() > 0, "no window is in vain");
                if number > 0 {
                    prop_assert!(targets[..context_length].iter().all(|&target| target == IGNORED));
                }
                counted.extend(new);
            }
            prop_assert_eq!(counted, (1..len as i32).collect::<Vec<_>>());
        }
    }
}
