//! Repeated passages.

use burn::config::Config;

use crate::error::{DatasetError, check};
use crate::sequences::random::{below, keyed_rng};
use crate::sequences::{IGNORED, Sequences, write_shifted};

/// Configuration of [`ReturningPassages`].
#[derive(Config, Debug)]
pub struct ReturningPassagesConfig {
    /// Tokens of a sequence. At least 2.
    #[config(default = 1024)]
    pub seq_length: usize,
    /// Symbols of a passage: 1 to `n_symbols`, each equally likely. At least 1.
    #[config(default = 128)]
    pub n_symbols: usize,
    /// Number of passages in a row before they are repeated. At least 1.
    #[config(default = 3)]
    pub n_passages: usize,
    /// Minimum length of a passage. At least 1.
    #[config(default = 40)]
    pub shortest: usize,
    /// Maximum length of a passage. At least `shortest`.
    #[config(default = 100)]
    pub longest: usize,
    /// Whether passages are repeated from the last symbol to the first. The next symbol then is the
    /// one before the equal one, as in pairs whose value precedes the key: attention with shared
    /// queries and keys can learn it, where the usual order has to be found by the symbol before.
    #[config(default = false)]
    pub backwards: bool,
    /// Seed of all sequences. Use another one for evaluation.
    #[config(default = 0)]
    pub seed: u64,
}

impl ReturningPassagesConfig {
    /// Creates the task.
    ///
    /// # Errors
    /// [`Setting`](crate::SizeError::Setting) for a number that is not allowed.
    pub fn init(&self) -> Result<ReturningPassages, DatasetError> {
        let least = |least: usize, setting, value: usize, limit| {
            check(value >= least, setting, value, limit, "a larger one")
        };
        least(2, "seq_length", self.seq_length, "at least 2")?;
        check(
            (1..i32::MAX as usize).contains(&self.n_symbols),
            "n_symbols",
            self.n_symbols,
            "1 to 2147483646",
            "128",
        )?;
        least(1, "n_passages", self.n_passages, "at least 1")?;
        least(1, "shortest", self.shortest, "at least 1")?;
        least(
            self.shortest,
            "longest",
            self.longest,
            "at least the shortest",
        )?;
        Ok(ReturningPassages {
            config: self.clone(),
        })
    }
}

/// Some passages of random symbols, then their repetition, then others: half of all symbols can be
/// predicted, and only from their previous occurrence.
///
/// Passages have random lengths, so neither a position nor a distance shows where that is. The
/// repetition counts, except for its first symbol, which cannot be predicted. (Backwards, that one
/// is next to its equal, and distances begin there.) Sequence `i` of a seed is always the same one.
///
/// # Example
///
/// ```
/// use reformer_datasets::Sequences;
/// use reformer_datasets::recall::ReturningPassagesConfig;
///
/// # fn main() -> Result<(), reformer_datasets::DatasetError> {
/// let task = ReturningPassagesConfig::new()
///     .with_seq_length(8)
///     .with_n_passages(2)
///     .with_shortest(2)
///     .with_longest(2)
///     .init()?;
/// let (mut tokens, mut targets) = ([0; 8], [0; 8]);
/// task.read(5, &mut tokens, &mut targets);
/// // A start token, then two passages of two symbols, which return.
/// let passages = [tokens[1], tokens[2], tokens[3], tokens[4]];
/// assert_eq!(targets[..5], [-1; 5]);
/// assert_eq!(targets[5..], passages[1..]);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct ReturningPassages {
    config: ReturningPassagesConfig,
}

impl Sequences for ReturningPassages {
    fn seq_length(&self) -> usize {
        self.config.seq_length
    }

    /// The symbols and the start token.
    fn vocab_size(&self) -> usize {
        1 + self.config.n_symbols
    }

    fn n_sequences(&self) -> Option<usize> {
        None
    }

    fn read(&self, number: u64, tokens: &mut [i32], targets: &mut [i32]) {
        let config = &self.config;
        let mut rng = keyed_rng(b"passages returns", config.seed, number);
        let mut symbols = Vec::with_capacity(config.seq_length);
        let mut returns = Vec::new();
        while symbols.len() < config.seq_length {
            let start = symbols.len();
            for _ in 0..config.n_passages {
                let length =
                    config.shortest + below(&mut rng, config.longest - config.shortest + 1);
                // Not longer than the part of it that is read.
                let length = length.min(config.seq_length);
                symbols.extend((0..length).map(|_| 1 + below(&mut rng, config.n_symbols) as i32));
                if symbols.len() - start >= config.seq_length {
                    break;
                }
            }
            let end = symbols.len();
            symbols.extend_from_within(start..end);
            if config.backwards {
                symbols[end..].reverse();
            }
            returns.push(end + 1..symbols.len());
        }
        write_shifted(symbols.into_iter(), tokens, targets);
        let counts = |position: &usize| returns.iter().any(|range| range.contains(position));
        for position in (0..targets.len()).filter(|position| !counts(position)) {
            targets[position] = IGNORED;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(config: ReturningPassagesConfig, number: u64) -> (Vec<i32>, Vec<i32>) {
        let task = config.init().unwrap();
        let mut tokens = vec![0; task.seq_length()];
        let mut targets = vec![0; task.seq_length()];
        task.read(number, &mut tokens, &mut targets);
        (tokens, targets)
    }

    #[test]
    fn what_returns_occurred_before_at_distances_that_vary() {
        let mut distances = Vec::new();
        for number in [0, 1, u64::MAX] {
            let (tokens, targets) = read(ReturningPassagesConfig::new(), number);
            let counted: Vec<usize> = (0..1024).filter(|&i| targets[i] != IGNORED).collect();
            assert!((350..=512).contains(&counted.len()), "{}", counted.len());
            for group in counted.chunk_by(|a, b| a + 1 == *b) {
                // The first distance at which all symbols of a group occurred before.
                let (first, last) = (group[0], group[group.len() - 1]);
                let occurred = |distance: &usize| {
                    *distance <= first
                        && (first - 1..=last).all(|i| {
                            i + 1 > *distance
                                && tokens[i + 1 - distance]
                                    == if i + 1 < 1024 {
                                        tokens[i + 1]
                                    } else {
                                        targets[i]
                                    }
                        })
                };
                let distance = (1..=first).find(occurred).expect("it occurred before");
                assert!((120..=300).contains(&distance), "{distance}");
                distances.push(distance);
            }
        }
        distances.dedup();
        assert!(distances.len() > 3, "{distances:?}");
    }

    #[test]
    fn backwards_the_next_symbol_precedes_the_equal_one() {
        // With 2^30 symbols, nearly all of a group differ.
        let config = ReturningPassagesConfig::new()
            .with_n_symbols(1 << 30)
            .with_backwards(true);
        let (tokens, targets) = read(config, 7);
        let counted: Vec<usize> = (0..1024).filter(|&i| targets[i] != IGNORED).collect();
        assert!((350..=512).contains(&counted.len()), "{}", counted.len());
        for i in counted {
            let equal = tokens.iter().position(|&token| token == tokens[i]).unwrap();
            assert_eq!(tokens[equal - 1], targets[i]);
        }
    }

    #[test]
    fn a_sequence_follows_from_seed_and_number() {
        let config = |seed| ReturningPassagesConfig::new().with_seed(seed);
        assert_eq!(read(config(3), 17), read(config(3), 17));
        assert_ne!(read(config(3), 17), read(config(3), 18));
        assert_ne!(read(config(3), 17), read(config(4), 17));
    }

    #[test]
    fn settings_that_cannot_be_are_named() {
        let config = ReturningPassagesConfig::new;
        for (config, setting) in [
            (config().with_seq_length(1), "seq_length is 1"),
            (config().with_n_symbols(0), "n_symbols is 0"),
            (config().with_n_passages(0), "n_passages is 0"),
            (config().with_shortest(0), "shortest is 0"),
            (config().with_longest(39), "longest is 39"),
        ] {
            let message = config.init().unwrap_err().to_string();
            assert!(message.starts_with(setting), "{message}");
        }
    }
}
