//! A split, cut into windows.

use burn::data::dataset::Dataset;

use crate::error::{DatasetError, SizeError};
use crate::sequences::Sequences;
use crate::text::corpus::ByteCorpus;
use crate::text::split::{Corpus, Split};

/// A split, cut into adjacent windows: no two share an input.
///
/// Window `i` has the inputs `i * window_length .. (i + 1) * window_length` of the split and, as
/// targets, the token after each of them. A split of `n` tokens has `(n - 1) / window_length`
/// windows, rounded down; the rest at its end is not used.
///
/// As a Burn [`Dataset`] its items are [`Window`]s.
///
/// # Example
///
/// ```
/// use burn::data::dataset::Dataset;
/// use reformer_datasets::{ByteCorpus, Windows, SplitName};
///
/// # fn main() -> Result<(), reformer_datasets::DatasetError> {
/// let split = ByteCorpus::from_bytes("letters", *b"abcdefghi")?.whole_as(SplitName::Train);
/// let windows = Windows::new(&split, 3)?;
/// assert_eq!(windows.len(), 2);
/// let window = windows.get(1).expect("there are two");
/// assert_eq!(window.inputs(), b"def");
/// assert_eq!(window.targets(), b"efg");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Windows<C = ByteCorpus> {
    split: Split<C>,
    window_length: usize,
}

impl<C: Corpus> Windows<C> {
    /// Cuts the split from its first token on.
    ///
    /// # Errors
    /// [`ZeroWindowLength`](SizeError::ZeroWindowLength), or
    /// [`SplitTooShort`](SizeError::SplitTooShort) when the split has fewer than
    /// `window_length + 1` tokens.
    pub fn new(split: &Split<C>, window_length: usize) -> Result<Self, DatasetError> {
        if window_length == 0 {
            return Err(SizeError::ZeroWindowLength.into());
        }
        if split.len() <= window_length {
            return Err(SizeError::SplitTooShort {
                corpus: split.corpus().name().to_owned(),
                split: split.name(),
                token: C::TOKEN,
                tokens: split.len(),
                tokens_needed: window_length.saturating_add(1),
                window_length,
            }
            .into());
        }
        Ok(Self {
            split: split.clone(),
            window_length,
        })
    }

    /// The split that is cut.
    pub fn split(&self) -> &Split<C> {
        &self.split
    }

    /// Number of inputs, and of targets, of a window.
    pub fn window_length(&self) -> usize {
        self.window_length
    }

    /// The window whose first input is the split's token `start`.
    pub(crate) fn starting_at(&self, start: usize) -> Window<C> {
        Window {
            split: self.split.clone(),
            start,
            window_length: self.window_length,
        }
    }
}

impl<C: Corpus> Dataset<Window<C>> for Windows<C> {
    fn get(&self, index: usize) -> Option<Window<C>> {
        (index < self.len()).then(|| self.starting_at(index * self.window_length))
    }

    fn len(&self) -> usize {
        (self.split.len() - 1) / self.window_length
    }
}

impl<C: Corpus> Sequences for Windows<C> {
    fn seq_length(&self) -> usize {
        self.window_length
    }

    fn vocab_size(&self) -> usize {
        self.split.corpus().vocab_size()
    }

    fn n_sequences(&self) -> Option<usize> {
        Some(self.len())
    }

    fn read(&self, number: u64, tokens: &mut [i32], targets: &mut [i32]) {
        let window = self.get(number as usize).expect("a window of the split");
        window.write(tokens, targets);
    }
}

/// `window_length + 1` contiguous tokens of a split: inputs, and targets one token later.
#[derive(Clone, Debug)]
pub struct Window<C = ByteCorpus> {
    split: Split<C>,
    start: usize,
    window_length: usize,
}

impl<C: Corpus> Window<C> {
    /// Position in the split of the first input.
    pub fn start(&self) -> usize {
        self.start
    }

    /// Writes inputs and targets.
    pub(crate) fn write(&self, tokens: &mut [i32], targets: &mut [i32]) {
        let start = self.split.range().start + self.start;
        for (row, start) in [(tokens, start), (targets, start + 1)] {
            assert_eq!(
                row.len(),
                self.window_length,
                "a row has the window's length"
            );
            self.split.corpus().write(start, row);
        }
    }
}

impl Window {
    /// The first `window_length` bytes.
    pub fn inputs(&self) -> &[u8] {
        &self.split.as_bytes()[self.start..][..self.window_length]
    }

    /// The last `window_length` bytes: for each input, the byte that follows it in the split.
    pub fn targets(&self) -> &[u8] {
        &self.split.as_bytes()[self.start + 1..][..self.window_length]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::text::{ByteCorpus, SplitName};

    #[test]
    fn one_byte_more_than_the_window_is_enough_and_one_less_is_refused() -> Result<(), DatasetError>
    {
        let split = ByteCorpus::from_bytes("ten.txt", *b"0123456789")?.whole_as(SplitName::Test);
        let windows = Windows::new(&split, 9)?;
        assert_eq!(windows.len(), 1);
        let only = windows.get(0).expect("there is one");
        assert_eq!(
            (only.inputs(), only.targets()),
            (&b"012345678"[..], &b"123456789"[..])
        );

        let error = Windows::new(&split, 10).expect_err("11 bytes are needed");
        assert_eq!(
            error.to_string(),
            "the test split of `ten.txt` has 10 bytes, but one window of length 10 needs 11 (its inputs and \
             the byte after them): choose a shorter window or a larger file"
        );
        Ok(())
    }

    #[test]
    fn empty_split_and_longest_window_are_refused() -> Result<(), DatasetError> {
        let empty = ByteCorpus::from_bytes("one.txt", *b"0")?.split().train;
        for window_length in [1, usize::MAX] {
            let error = Windows::new(&empty, window_length).expect_err("there are no bytes");
            assert!(matches!(
                error,
                DatasetError::Size(SizeError::SplitTooShort { tokens: 0, .. })
            ));
        }
        Ok(())
    }

    #[test]
    fn window_of_no_bytes_is_refused() {
        let error = Windows::new(&ByteCorpus::sample().split().train, 0)
            .expect_err("a window has at least one input");
        assert_eq!(
            error.to_string(),
            "window_length is 0, and must be at least 1: choose the sequence length of the model"
        );
    }

    proptest! {
        #[test]
        fn windows_are_neighbours_inside_their_split(
            len in 40_usize..3_000,
            window_length in 1_usize..40,
        ) {
            let bytes: Vec<u8> = (0..len).map(|i| (i * 31 % 251) as u8).collect();
            let splits = ByteCorpus::from_bytes("any", bytes.clone())?.split();
            for split in [splits.train, splits.valid, splits.test] {
                if split.len() <= window_length {
                    prop_assert!(Windows::new(&split, window_length).is_err());
                    continue;
                }
                let windows = Windows::new(&split, window_length)?;
                let mut next = 0;
                for window in windows.iter() {
                    prop_assert_eq!(window.start(), next);
                    // Positions in the file: the last target must lie inside the split too.
                    let first = split.range().start + next;
                    prop_assert!(first + window_length < split.range().end);
                    prop_assert_eq!(window.inputs(), &bytes[first..first + window_length]);
                    prop_assert_eq!(window.targets(), &bytes[first + 1..=first + window_length]);
                    next += window_length;
                }
                prop_assert!(next + window_length >= split.len(), "one more window would fit");
                prop_assert!(windows.get(windows.len()).is_none());
            }
        }
    }
}
