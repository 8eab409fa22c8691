//! Windows at random positions.

use crate::error::DatasetError;
use crate::sequences::Sequences;
use crate::sequences::passes::{below, keyed_rng};
use crate::text::corpus::ByteCorpus;
use crate::text::split::{Corpus, Split};
use crate::text::windows::Windows;

/// An endless stream of windows at random positions, drawn from the seed and the window's number.
///
/// Every position is equally likely, so two windows may overlap. The alternative, and what
/// [`TrainLoaderConfig::init`](crate::TrainLoaderConfig::init) reads, are passes in which every token occurs once; they keep
/// the order of a pass in memory, 8 bytes a window, while crops keep nothing, whatever the size of the data.
///
/// # Example
///
/// ```
/// use std::sync::Arc;
/// use burn_flex::Flex;
/// use reformer_datasets::{ByteCorpus, RandomCrops, TrainLoaderConfig};
///
/// # fn main() -> Result<(), reformer_datasets::DatasetError> {
/// let split = ByteCorpus::sample().split().train;
/// let crops = RandomCrops::new(&split, 65_536, 7)?;
/// let loader = TrainLoaderConfig::new(65_536, 2, 100)
///     .init_sequences::<Flex>(Arc::new(crops), &Default::default())?;
/// assert_eq!(loader.batch(99).tokens.dims(), [2, 65_536]);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct RandomCrops<C = ByteCorpus> {
    windows: Windows<C>,
    seed: u64,
}

impl<C: Corpus> RandomCrops<C> {
    /// The stream of a seed.
    ///
    /// # Errors
    ///
    /// Those of [`Windows::new`].
    pub fn new(split: &Split<C>, window_length: usize, seed: u64) -> Result<Self, DatasetError> {
        let windows = Windows::new(split, window_length)?;
        Ok(Self { windows, seed })
    }

    /// The start of a window in the split.
    fn start(&self, number: u64) -> usize {
        let n_places = self.windows.split().len() - self.windows.window_length();
        below(
            &mut keyed_rng(b"random crops....", self.seed, number),
            n_places,
        )
    }
}

impl<C: Corpus> Sequences for RandomCrops<C> {
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
        self.windows
            .starting_at(self.start(number))
            .write(tokens, targets);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::text::{ByteCorpus, SplitName};

    fn crops(seed: u64) -> Result<RandomCrops, DatasetError> {
        let bytes: Vec<u8> = (0..20).collect();
        let split = ByteCorpus::from_bytes("twenty", bytes)?.whole_as(SplitName::Train);
        RandomCrops::new(&split, 5, seed)
    }

    #[test]
    fn every_place_is_drawn_and_none_beyond_the_end() -> Result<(), DatasetError> {
        let crops = crops(1)?;
        let starts: HashSet<usize> = (0..500).map(|number| crops.start(number)).collect();
        // The last target of the last position is byte 19.
        assert_eq!(starts, (0..15).collect());
        Ok(())
    }

    #[test]
    fn a_crop_is_a_window_and_follows_from_seed_and_number() -> Result<(), DatasetError> {
        let read = |crops: &RandomCrops, number| {
            let (mut tokens, mut targets) = ([0; 5], [0; 5]);
            crops.read(number, &mut tokens, &mut targets);
            assert!((0..5).all(|i| tokens[i] == tokens[0] + i as i32));
            assert!((0..5).all(|i| targets[i] == tokens[i] + 1));
            tokens[0]
        };
        let row = |seed| -> Result<Vec<i32>, DatasetError> {
            let crops = crops(seed)?;
            Ok((0..30).map(|number| read(&crops, number)).collect())
        };
        assert_eq!(row(1)?, row(1)?);
        assert_ne!(row(1)?, row(2)?);
        Ok(())
    }
}
