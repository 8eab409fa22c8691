//! The common interface of data for language models.

pub(crate) mod permutations;
pub(crate) mod random;

use std::fmt;
use std::sync::Arc;

use crate::sequences::permutations::Permutations;

/// The target of a position that does not count: the model's loss ignores negative targets.
pub const IGNORED: i32 = -1;

/// The token before the first token of a whole sequence, since the model predicts that one too.
///
/// It is a token of the vocabulary, as in the paper's experiments, so images need no 257th token.
pub const START_TOKEN: i32 = 0;

/// Numbered sequences of one length, each a row of tokens and the same number of targets.
///
/// Bytes of a text, images and synthetic tasks are all such sequences, so one trainer supports all
/// of them: [`TrainLoaderConfig::init_sequences`](crate::TrainLoaderConfig::init_sequences) and
/// [`EvalLoaderConfig::init_sequences`](crate::EvalLoaderConfig::init_sequences).
///
/// Reading cannot fail: problems of data are detected when it is opened. A sequence is
/// a function of its number alone, so it can be read by any thread, in any order and repeatedly.
///
/// # Example
///
/// ```
/// use reformer_datasets::{EvalLoaderConfig, Sequences};
/// use burn::data::dataloader::DataLoader;
/// use burn_flex::Flex;
/// use std::sync::Arc;
///
/// /// Counts upwards from the sequence's number.
/// #[derive(Debug)]
/// struct Counting;
///
/// impl Sequences for Counting {
///     fn seq_length(&self) -> usize { 4 }
///     fn vocab_size(&self) -> usize { 100 }
///     fn n_sequences(&self) -> Option<usize> { Some(90) }
///     fn read(&self, number: u64, tokens: &mut [i32], targets: &mut [i32]) {
///         for i in 0..4 {
///             tokens[i] = number as i32 + i as i32;
///             targets[i] = tokens[i] + 1;
///         }
///     }
/// }
///
/// # fn main() -> Result<(), reformer_datasets::DatasetError> {
/// let loader = EvalLoaderConfig::new(4, 2)
///     .init_sequences::<Flex>(Arc::new(Counting), &Default::default())?;
/// let second = loader.iter().nth(1).expect("there are 45 batches");
/// let tokens: Vec<i64> = second.tokens.to_data().iter().collect();
/// assert_eq!(tokens, [2, 3, 4, 5, 3, 4, 5, 6]);
/// # Ok(())
/// # }
/// ```
pub trait Sequences: fmt::Debug + Send + Sync {
    /// Number of tokens of a sequence, and of its targets.
    fn seq_length(&self) -> usize;

    /// Size of the vocabulary: tokens are below it, and so are the targets that count.
    fn vocab_size(&self) -> usize;

    /// Number of sequences; `None` when they are endless.
    fn n_sequences(&self) -> Option<usize>;

    /// Writes a sequence. A target is the token that follows at its position, or [`IGNORED`].
    ///
    /// # Shapes
    /// - tokens, targets: `[seq_length]`
    ///
    /// # Panics
    /// When there is no sequence of this number, or when the rows have another length.
    fn read(&self, number: u64, tokens: &mut [i32], targets: &mut [i32]);
}

/// Writes a sequence that is predicted from its first token on: the tokens are the
/// targets shifted by one position, after [`START_TOKEN`].
pub(crate) fn write_shifted(
    sequence: impl Iterator<Item = i32>,
    tokens: &mut [i32],
    targets: &mut [i32],
) {
    let (first, rest) = tokens.split_first_mut().expect("a sequence has tokens");
    *first = START_TOKEN;
    for (target, token) in targets.iter_mut().zip(sequence) {
        *target = token;
    }
    rest.copy_from_slice(&targets[..rest.len()]);
}

/// Endless passes over finite sequences, each pass in a new order, drawn from the seed and
/// the number of the pass.
#[derive(Debug)]
pub struct Shuffled {
    sequences: Arc<dyn Sequences>,
    permutations: Permutations,
}

impl Shuffled {
    /// The passes of a seed; `None` when there are no sequences, or when they are endless.
    pub fn new(sequences: Arc<dyn Sequences>, seed: u64) -> Option<Self> {
        let n_sequences = sequences.n_sequences().filter(|&n| n > 0)?;
        Some(Self {
            sequences,
            permutations: Permutations::new(seed, n_sequences, 0),
        })
    }
}

impl Sequences for Shuffled {
    fn seq_length(&self) -> usize {
        self.sequences.seq_length()
    }

    fn vocab_size(&self) -> usize {
        self.sequences.vocab_size()
    }

    fn n_sequences(&self) -> Option<usize> {
        None
    }

    fn read(&self, number: u64, tokens: &mut [i32], targets: &mut [i32]) {
        let item = self.permutations.sample(number).item;
        self.sequences.read(item as u64, tokens, targets);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ten sequences of one token.
    #[derive(Debug)]
    struct Ten(Option<usize>);

    impl Sequences for Ten {
        fn seq_length(&self) -> usize {
            1
        }
        fn vocab_size(&self) -> usize {
            10
        }
        fn n_sequences(&self) -> Option<usize> {
            self.0
        }
        fn read(&self, number: u64, tokens: &mut [i32], targets: &mut [i32]) {
            tokens[0] = number as i32;
            targets[0] = IGNORED;
        }
    }

    #[test]
    fn every_pass_has_each_sequence_once_in_its_own_order() {
        let shuffled = Shuffled::new(Arc::new(Ten(Some(10))), 3).expect("there are sequences");
        let pass = |number: u64| -> Vec<i32> {
            let read = |i| {
                let (mut token, mut target) = ([0], [0]);
                shuffled.read(number * 10 + i, &mut token, &mut target);
                token[0]
            };
            (0..10).map(read).collect()
        };
        let (first, second) = (pass(0), pass(1));
        assert_ne!(first, second);
        for mut pass in [first, second, pass(1_000_000)] {
            pass.sort_unstable();
            assert_eq!(pass, (0..10).collect::<Vec<_>>());
        }
    }

    #[test]
    fn neither_nothing_nor_the_endless_is_shuffled() {
        assert!(Shuffled::new(Arc::new(Ten(Some(0))), 3).is_none());
        assert!(Shuffled::new(Arc::new(Ten(None)), 3).is_none());
    }

    #[test]
    fn shifted_tokens_start_with_the_start_token() {
        let (mut tokens, mut targets) = ([9; 4], [9; 4]);
        write_shifted([5, 6, 7, 8].into_iter(), &mut tokens, &mut targets);
        assert_eq!((tokens, targets), ([0, 5, 6, 7], [5, 6, 7, 8]));
    }
}
