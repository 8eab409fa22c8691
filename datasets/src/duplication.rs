//! The synthetic task of the paper: a text that has to be repeated.

use burn::config::Config;

use crate::error::{DatasetError, SizeError};
use crate::sequences::random::{below, keyed_rng};
use crate::sequences::{IGNORED, Sequences, write_shifted};

/// Configuration of the [`Duplication`] task; by default that of the paper, section 5: `w` of 511
/// symbols out of 127.
#[derive(Config, Debug)]
pub struct DuplicationConfig {
    /// Tokens of a sequence `0w0w`. Even, and at least 4.
    #[config(default = 1024)]
    pub seq_length: usize,
    /// Symbols of `w`: 1 to `n_symbols`, each equally likely. At least 1.
    #[config(default = 127)]
    pub n_symbols: usize,
    /// Seed of all sequences. Use another one for evaluation.
    #[config(default = 0)]
    pub seed: u64,
}

impl DuplicationConfig {
    /// Creates the task.
    ///
    /// # Errors
    /// [`Setting`](SizeError::Setting) for a length that is odd or below 4, or a number of symbols
    /// that is 0 or beyond 2^31 - 1.
    pub fn init(&self) -> Result<Duplication, DatasetError> {
        let setting = |setting, value, limit, way_out| SizeError::Setting {
            setting,
            value,
            limit,
            way_out,
        };
        let &Self {
            seq_length,
            n_symbols,
            seed,
        } = self;
        if seq_length < 4 || !seq_length.is_multiple_of(2) {
            let (limit, way_out) = ("even and at least 4", "twice the length of 0w");
            return Err(setting("seq_length", seq_length, limit, way_out).into());
        }
        if n_symbols == 0 || i32::try_from(n_symbols).is_err() {
            let (limit, way_out) = ("1 to 2147483647", "127 as in the paper");
            return Err(setting("n_symbols", n_symbols, limit, way_out).into());
        }
        Ok(Duplication {
            seq_length,
            n_symbols,
            seed,
        })
    }
}

/// Endless sequences `0w0w`: `w` are random symbols, and the model has to predict its repetition.
///
/// Only the targets of the second half count, since the first cannot be predicted; a model that
/// solves the task has a loss of 0 and an accuracy of 1 there. From each symbol of the repetition,
/// attention has to find the position half a sequence earlier. This makes it a test of hashing
/// (Kitaev et al., 2020, figure 4 and table 2).
///
/// Sequence `i` of a seed is always the same.
///
/// # Example
///
/// ```
/// use reformer_datasets::{DuplicationConfig, Sequences};
///
/// # fn main() -> Result<(), reformer_datasets::DatasetError> {
/// let task = DuplicationConfig::new().with_seq_length(8).with_n_symbols(9).init()?;
/// let (mut tokens, mut targets) = ([0; 8], [0; 8]);
/// task.read(5, &mut tokens, &mut targets);
/// // A start token, then 0w0w without its last symbol.
/// let w = [tokens[2], tokens[3], tokens[4]];
/// assert_eq!(tokens, [0, 0, w[0], w[1], w[2], 0, w[0], w[1]]);
/// assert_eq!(targets, [-1, -1, -1, -1, 0, w[0], w[1], w[2]]);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Duplication {
    seq_length: usize,
    n_symbols: usize,
    seed: u64,
}

impl Sequences for Duplication {
    fn seq_length(&self) -> usize {
        self.seq_length
    }

    /// The symbols and 0.
    fn vocab_size(&self) -> usize {
        self.n_symbols + 1
    }

    fn n_sequences(&self) -> Option<usize> {
        None
    }

    fn read(&self, number: u64, tokens: &mut [i32], targets: &mut [i32]) {
        let mut rng = keyed_rng(b"duplication 0w0w", self.seed, number);
        let n_half = self.seq_length / 2;
        let mut half = vec![0; n_half];
        half[1..].fill_with(|| 1 + below(&mut rng, self.n_symbols) as i32);
        write_shifted(half.iter().chain(&half).copied(), tokens, targets);
        targets[..n_half].fill(IGNORED);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn read(task: &Duplication, number: u64) -> (Vec<i32>, Vec<i32>) {
        let mut tokens = vec![0; task.seq_length()];
        let mut targets = vec![0; task.seq_length()];
        task.read(number, &mut tokens, &mut targets);
        (tokens, targets)
    }

    #[test]
    fn default_is_the_task_of_the_paper() -> Result<(), DatasetError> {
        let task = DuplicationConfig::new().init()?;
        assert_eq!((task.seq_length(), task.vocab_size()), (1_024, 128));
        for number in [0, 1, u64::MAX] {
            let (tokens, targets) = read(&task, number);
            assert_eq!(targets[..512], [IGNORED; 512]);
            assert_eq!(tokens[..2], [0, 0]);
            assert!(tokens[2..513].iter().all(|token| (1..128).contains(token)));
            assert_eq!(targets[512], 0);
            assert_eq!(targets[513..], tokens[2..513]);
            assert_eq!(tokens[513..], targets[512..1_023]);
        }
        Ok(())
    }

    #[test]
    fn a_sequence_follows_from_seed_and_number() -> Result<(), DatasetError> {
        let task = |seed| DuplicationConfig::new().with_seed(seed).init();
        assert_eq!(read(&task(3)?, 17), read(&task(3)?, 17));
        assert_ne!(read(&task(3)?, 17), read(&task(3)?, 18));
        assert_ne!(read(&task(3)?, 17), read(&task(4)?, 17));
        Ok(())
    }

    #[test]
    fn symbols_are_equally_likely() -> Result<(), DatasetError> {
        let task = DuplicationConfig::new()
            .with_seq_length(2_002)
            .with_n_symbols(5)
            .init()?;
        let mut counts = BTreeMap::<i32, usize>::new();
        for number in 0..10 {
            for symbol in &read(&task, number).0[2..1_002] {
                *counts.entry(*symbol).or_default() += 1;
            }
        }
        // 10,000 symbols: each of the 5 is expected 2,000 times, with a standard deviation of 40.
        assert_eq!(counts.keys().copied().collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
        assert!(counts.values().all(|count| count.abs_diff(2_000) < 5 * 40));
        Ok(())
    }

    #[test]
    fn settings_that_cannot_be_are_named() {
        let error = |config: DuplicationConfig| {
            let error = config.init().expect_err("a setting cannot be");
            error.to_string()
        };
        let config = DuplicationConfig::new;
        for length in [0, 2, 7] {
            assert_eq!(
                error(config().with_seq_length(length)),
                format!(
                    "seq_length is {length}, and must be even and at least 4: choose twice the length of 0w"
                )
            );
        }
        assert_eq!(
            error(config().with_n_symbols(0)),
            "n_symbols is 0, and must be 1 to 2147483647: choose 127 as in the paper"
        );
    }
}
