//! Multi-query associative recall (Arora et al., 2023, "Zoology", section 3).

use burn::config::Config;

use crate::error::{DatasetError, check, unless_zero};
use crate::sequences::random::{below, keyed_rng};
use crate::sequences::{IGNORED, Sequences};

/// Configuration of [`AssociativeRecall`].
#[derive(Config, Debug)]
pub struct AssociativeRecallConfig {
    /// Tokens of a sequence. Even, and at least 4.
    #[config(default = 1024)]
    pub seq_length: usize,
    /// Pairs of a key and a value in a sequence. 1 to `seq_length / 4`.
    #[config(default = 64)]
    pub n_pairs: usize,
    /// Minimum number of pairs of a sequence, if it varies: each sequence then has this many times
    /// a power of two, up to `n_pairs`, each number equally likely. Sequences with few pairs are
    /// where learning begins: their few values can be guessed before any key is found.
    pub fewest_pairs: Option<usize>,
    /// Number of questions of a sequence, which ask for all pairs equally often: `n_pairs` or more,
    /// and together with the pairs at most `seq_length / 2`. Default: one for each pair.
    pub n_questions: Option<usize>,
    /// If given, all questions are in the last `asked_in` tokens and all pairs before them: even,
    /// from `2 * n_questions` to `seq_length - 2 * n_pairs`.
    pub asked_in: Option<usize>,
    /// Number of different keys. At least `n_pairs`, since the keys of a sequence differ.
    #[config(default = 4096)]
    pub n_keys: usize,
    /// Number of different values, each equally likely. At least 1.
    #[config(default = 64)]
    pub n_values: usize,
    /// Seed of all sequences. Use another one for evaluation.
    #[config(default = 0)]
    pub seed: u64,
}

impl AssociativeRecallConfig {
    /// Creates the task.
    ///
    /// # Errors
    /// [`Setting`](crate::SizeError::Setting) for a number that is not allowed.
    pub fn init(&self) -> Result<AssociativeRecall, DatasetError> {
        let Self {
            seq_length,
            n_pairs,
            n_keys,
            n_values,
            fewest_pairs,
            n_questions,
            asked_in,
            ..
        } = *self;
        check(
            seq_length >= 4 && seq_length.is_multiple_of(2),
            "seq_length",
            seq_length,
            "even and at least 4",
            "1024",
        )?;
        let slots = seq_length / 2;
        check(
            (1..=slots / 2).contains(&n_pairs),
            "n_pairs",
            n_pairs,
            "1 to a quarter of the length",
            unless_zero(n_pairs, "fewer pairs or longer sequences"),
        )?;
        let fewest = fewest_pairs.unwrap_or(n_pairs);
        check(
            (1..=n_pairs).contains(&fewest),
            "fewest_pairs",
            fewest,
            "1 to the number of pairs",
            unless_zero(fewest, "fewer"),
        )?;
        let n_questions = n_questions.unwrap_or(n_pairs);
        check(
            (n_pairs..=slots - n_pairs).contains(&n_questions),
            "n_questions",
            n_questions,
            "from n_pairs to seq_length / 2 - n_pairs",
            "n_pairs",
        )?;
        if let Some(asked_in) = asked_in {
            check(
                asked_in.is_multiple_of(2)
                    && (n_questions..=slots - n_pairs).contains(&(asked_in / 2)),
                "asked_in",
                asked_in,
                "even, from 2 * n_questions to seq_length - 2 * n_pairs",
                "2 * n_questions",
            )?;
        }
        let most = i32::MAX as usize / 4;
        check(
            (n_pairs..=most).contains(&n_keys),
            "n_keys",
            n_keys,
            "at least the number of pairs, and at most 536870911",
            match n_keys > most {
                true => "fewer",
                false => "as many as there are pairs, or more",
            },
        )?;
        check(
            (1..=most).contains(&n_values),
            "n_values",
            n_values,
            "1 to 536870911",
            "64",
        )?;
        Ok(AssociativeRecall {
            config: self.clone(),
        })
    }
}

/// Sequences of pairs and of questions for them, at random distances: the model has to predict the
/// value that belongs to a key.
///
/// A pair is written *value, key*, a question *key, value*, so that a question and its pair share
/// the key itself: attention with shared queries and keys can find it, where a pair in the usual
/// order would have to be found by the token before it. Filler tokens (0) fill the rest. Only
/// values of questions count.
///
/// Token 0 is the filler, `1..=n_values` are values, and keys follow: a model can later be trained
/// with more keys. Sequence `i` of a seed is always the same.
///
/// # Example
///
/// ```
/// use reformer_datasets::Sequences;
/// use reformer_datasets::recall::AssociativeRecallConfig;
///
/// # fn main() -> Result<(), reformer_datasets::DatasetError> {
/// let task = AssociativeRecallConfig::new().with_seq_length(16).with_n_pairs(2).init()?;
/// let (mut tokens, mut targets) = ([0; 16], [0; 16]);
/// task.read(5, &mut tokens, &mut targets);
/// let asked: Vec<usize> = (0..16).filter(|&i| targets[i] >= 0).collect();
/// assert_eq!(asked.len(), 2);
/// for i in asked {
///     // The value precedes the earlier one of two equal keys.
///     let pair = tokens.iter().position(|&token| token == tokens[i]).unwrap();
///     assert!(pair < i && tokens[pair - 1] == targets[i]);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct AssociativeRecall {
    config: AssociativeRecallConfig,
}

impl Sequences for AssociativeRecall {
    fn seq_length(&self) -> usize {
        self.config.seq_length
    }

    /// Keys, values and the filler token.
    fn vocab_size(&self) -> usize {
        1 + self.config.n_keys + self.config.n_values
    }

    fn n_sequences(&self) -> Option<usize> {
        None
    }

    fn read(&self, number: u64, tokens: &mut [i32], targets: &mut [i32]) {
        let AssociativeRecallConfig {
            n_pairs,
            n_keys,
            n_values,
            fewest_pairs,
            seed,
            ..
        } = self.config;
        let mut rng = keyed_rng(b"associativerecal", seed, number);
        tokens.fill(0);
        targets.fill(IGNORED);
        let mut below = |bound| below(&mut rng, bound);
        let n_pairs = match fewest_pairs {
            Some(fewest) => fewest << below((n_pairs / fewest).ilog2() as usize + 1),
            None => n_pairs,
        };
        let slots = self.slots(n_pairs, &mut below);
        let keys = distinct(n_pairs, n_keys, &mut below);
        for ((pair, questions), key) in slots.into_iter().zip(keys) {
            let key = (1 + n_values + key) as i32;
            let value = (1 + below(n_values)) as i32;
            tokens[2 * pair..][..2].copy_from_slice(&[value, key]);
            for question in questions {
                tokens[2 * question..][..2].copy_from_slice(&[key, value]);
                targets[2 * question] = value;
            }
        }
    }
}

impl AssociativeRecall {
    /// Positions of each pair and its questions, in units of two tokens.
    fn slots(
        &self,
        n_pairs: usize,
        mut below: impl FnMut(usize) -> usize,
    ) -> Vec<(usize, Vec<usize>)> {
        let n_slots = self.config.seq_length / 2;
        let n_questions = self.config.n_questions.unwrap_or(n_pairs);
        // If the questions are not a multiple of the pairs, the first pairs get one more.
        let times = |pair| n_questions / n_pairs + usize::from(pair < n_questions % n_pairs);
        let (mut pairs, mut questions) = match self.config.asked_in {
            None => {
                let slots = distinct(n_pairs + n_questions, n_slots, &mut below);
                (Vec::new(), slots.into_iter())
            }
            Some(asked_in) => {
                let first = n_slots - asked_in / 2;
                let pairs = distinct(n_pairs, first, &mut below);
                let mut questions = distinct(n_questions, asked_in / 2, &mut below);
                questions.iter_mut().for_each(|slot| *slot += first);
                (pairs, questions.into_iter())
            }
        };
        pairs.reverse();
        let slots_of = |pair| match pairs.pop() {
            Some(slot) => (slot, questions.by_ref().take(times(pair)).collect()),
            None => {
                let mut slots: Vec<usize> = questions.by_ref().take(times(pair) + 1).collect();
                slots.sort_unstable();
                (slots[0], slots.split_off(1))
            }
        };
        (0..n_pairs).map(slots_of).collect()
    }
}

/// `n` different numbers below a bound, in random order, uniformly chosen: the beginning of a
/// Fisher-Yates shuffle that stores only the swapped elements.
pub(super) fn distinct(
    n: usize,
    bound: usize,
    mut below: impl FnMut(usize) -> usize,
) -> Vec<usize> {
    let mut moved = std::collections::HashMap::new();
    (0..n)
        .map(|i| {
            let other = i + below(bound - i);
            let at = |index: usize| moved.get(&index).copied().unwrap_or(index);
            let (here, there) = (at(i), at(other));
            moved.insert(other, here);
            there
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tokens and targets of a sequence, and the positions of its questions, each with the first one of the same key.
    fn read(
        config: AssociativeRecallConfig,
        number: u64,
    ) -> (Vec<i32>, Vec<i32>, Vec<(usize, usize)>) {
        let task = config.init().unwrap();
        let [mut tokens, mut targets] = [0; 2].map(|zero| vec![zero; task.seq_length()]);
        task.read(number, &mut tokens, &mut targets);
        let first = |i: usize| tokens.iter().position(|&token| token == tokens[i]).unwrap();
        let asked = (0..tokens.len()).filter(|&i| targets[i] >= 0);
        let asked = asked.map(|i| (i, first(i))).collect();
        (tokens, targets, asked)
    }

    #[test]
    fn every_pair_is_asked_for_once_and_after_it_occurred() {
        let config = AssociativeRecallConfig::new()
            .with_seq_length(400)
            .with_n_pairs(100);
        for number in [0, 1, u64::MAX] {
            let (tokens, targets, asked) = read(config.clone(), number);
            // All slots are used.
            assert!(tokens.iter().all(|&token| token > 0));
            assert_eq!(asked.len(), 100);
            for (i, pair) in asked {
                let positions: Vec<usize> = (0..400).filter(|&j| tokens[j] == tokens[i]).collect();
                assert_eq!(positions, [pair, i]);
                assert_eq!(tokens[pair - 1], targets[i]);
                assert_eq!(tokens[i + 1], targets[i]);
                assert!((1..=64).contains(&targets[i]));
            }
        }
    }

    #[test]
    fn sequences_differ_in_their_pairs_if_wanted() {
        let config = AssociativeRecallConfig::new()
            .with_n_pairs(64)
            .with_fewest_pairs(Some(8));
        let mut seen = [0; 4];
        for number in 0..200 {
            let (_, _, asked) = read(config.clone(), number);
            let which = [8, 16, 32, 64].iter().position(|&n| n == asked.len());
            seen[which.expect("a number of pairs that is not allowed")] += 1;
        }
        assert!(seen.iter().all(|n| (30..70).contains(n)), "{seen:?}");
    }

    #[test]
    fn pairs_are_asked_for_equally_often() {
        for asked_in in [None, Some(600)] {
            let config = AssociativeRecallConfig::new()
                .with_n_questions(Some(160))
                .with_asked_in(asked_in);
            let (tokens, targets, asked) = read(config, 11);
            assert_eq!(asked.len(), 160);
            let mut times = std::collections::HashMap::<i32, usize>::new();
            for (i, pair) in asked {
                *times.entry(tokens[i]).or_default() += 1;
                assert!(pair < i && tokens[pair - 1] == targets[i] && targets[pair] == IGNORED);
            }
            let count = |n| times.values().filter(|&&times| times == n).count();
            assert_eq!([times.len(), count(2), count(3)], [64, 32, 32]);
        }
    }

    #[test]
    fn questions_are_at_the_end_if_wanted() {
        let config = AssociativeRecallConfig::new()
            .with_seq_length(4096)
            .with_asked_in(Some(256));
        let (tokens, targets, asked) = read(config, 3);
        assert_eq!(asked.len(), 64);
        let mut nearest = usize::MAX;
        for (i, pair) in asked {
            assert!(i >= 4096 - 256);
            assert!(pair < 4096 - 256 && tokens[pair - 1] == targets[i]);
            nearest = nearest.min(i - pair);
        }
        assert!(nearest < 600, "{nearest}");
    }

    #[test]
    fn distances_are_of_all_sizes() {
        let config = AssociativeRecallConfig::new();
        let mut distances = Vec::new();
        for number in 0..40 {
            let (_, _, asked) = read(config.clone(), number);
            distances.extend(asked.into_iter().map(|(i, pair)| i - pair));
        }
        // Two random positions of 512 are a third of them apart on average.
        let mean = distances.iter().sum::<usize>() as f64 / distances.len() as f64;
        assert!((mean - 1024.0 / 3.0).abs() < 15.0, "{mean}");
        assert!(distances.iter().any(|&d| d < 32) && distances.iter().any(|&d| d > 800));
    }

    #[test]
    fn a_sequence_follows_from_seed_and_number() {
        let config = |seed| AssociativeRecallConfig::new().with_seed(seed);
        assert_eq!(read(config(3), 17), read(config(3), 17));
        assert_ne!(read(config(3), 17), read(config(3), 18));
        assert_ne!(read(config(3), 17), read(config(4), 17));
    }

    #[test]
    fn settings_that_cannot_be_are_named() {
        let config = AssociativeRecallConfig::new;
        for (config, setting) in [
            (config().with_seq_length(7), "seq_length is 7"),
            (
                config().with_n_pairs(257),
                "n_pairs is 257, and must be 1 to a quarter of the length: choose fewer",
            ),
            (
                config().with_n_pairs(0),
                "n_pairs is 0, and must be 1 to a quarter of the length: choose 1 or more",
            ),
            (config().with_n_keys(63), "n_keys is 63"),
            (
                config().with_n_keys(1 << 30),
                "n_keys is 1073741824, and must be at least the number of pairs, and at most 536870911: choose fewer",
            ),
            (config().with_n_values(0), "n_values is 0"),
            (config().with_fewest_pairs(Some(65)), "fewest_pairs is 65"),
            (
                config().with_fewest_pairs(Some(0)),
                "fewest_pairs is 0, and must be 1 to the number of pairs: choose 1 or more",
            ),
            (config().with_n_questions(Some(63)), "n_questions is 63"),
            (config().with_n_questions(Some(449)), "n_questions is 449"),
            (config().with_asked_in(Some(126)), "asked_in is 126"),
            (config().with_asked_in(Some(129)), "asked_in is 129"),
            (config().with_asked_in(Some(898)), "asked_in is 898"),
        ] {
            let message = config.init().unwrap_err().to_string();
            assert!(message.starts_with(setting), "{message}");
        }
    }
}
