//! Beam search: the most probable continuations as a whole, with several hypotheses at a time.

mod search;

use burn::config::Config;

use self::search::Search;
use super::logits::Logits;
use crate::error::ConfigError;

/// A model that reads one token at a time: a language model with its cache, or a decoder with an
/// encoder's output and its cache.
///
/// It keeps a state for each row; a row is a sequence.
pub trait StepDecoder {
    /// Error of a step.
    type Error;

    /// Replaces row `i` of the state by a copy of the previous row `rows[i]`. Rows that are not
    /// listed are dropped; rows that are listed twice are duplicated.
    ///
    /// # Errors
    /// If the state cannot be copied.
    fn select(&mut self, rows: &[usize]) -> Result<(), Self::Error>;

    /// Reads one more token in each row and returns the logits of the token after it.
    ///
    /// # Errors
    /// Tokens that cannot be read, such as one beyond the model's positions.
    fn step(&mut self, tokens: &[u32]) -> Result<Logits, Self::Error>;
}

/// Maximum number of hypotheses per sequence.
const MOST_HYPOTHESES: usize = 1024;

/// Settings of [`beam_search`].
#[derive(Config, Debug, PartialEq)]
pub struct BeamConfig {
    /// Number of hypotheses per sequence, at most 1,024.
    #[config(default = 4)]
    pub beam_size: usize,
    /// The token that ends a sequence. Default: none, so that only the length ends it.
    pub end: Option<u32>,
    /// Exponent `alpha` of the length penalty (Wu et al., 2016): the score of a hypothesis is its
    /// log-probability over `((5 + length) / 6)^alpha`. 0 compares plain probabilities.
    #[config(default = 0.6)]
    pub length_penalty: f64,
}

impl BeamConfig {
    /// Checks every setting.
    ///
    /// # Errors
    /// A beam size of 0 or above the limit, or a penalty that is negative or not finite.
    pub fn validate(&self) -> Result<(), ConfigError> {
        ConfigError::at_least_one("beam_size", self.beam_size)?;
        if self.beam_size > MOST_HYPOTHESES {
            return Err(ConfigError::new(
                "beam_size",
                self.beam_size,
                format!("a search follows {MOST_HYPOTHESES} hypotheses at most"),
                "lower it",
            ));
        }
        if !(self.length_penalty.is_finite() && self.length_penalty >= 0.0) {
            return Err(ConfigError::new(
                "length_penalty",
                self.length_penalty,
                "it must be a number from 0 up",
                "use 0.6, or 0 to switch it off",
            ));
        }
        Ok(())
    }

    /// Divisor of a log-probability; `length` includes the end token.
    fn penalty(&self, length: usize) -> f64 {
        ((5.0 + length as f64) / 6.0).powf(self.length_penalty)
    }
}

/// A continuation found by [`beam_search`].
#[derive(Debug, Clone, PartialEq)]
pub struct Hypothesis {
    /// Its tokens, without the end token.
    pub tokens: Vec<u32>,
    /// Log-probability, including that of the end token.
    pub log_prob: f64,
    /// Log-probability divided by the length penalty.
    pub score: f64,
    /// Whether it has the end token. Otherwise it has the maximum length.
    pub is_ended: bool,
}

/// The best continuations of several sequences.
///
/// `decoder` has read the prompts, one per row, and `first` are its logits after them. `max_tokens`
/// is the maximum length of each continuation, including the end token. The result has the best
/// continuations of each sequence, best first, as many as the beam size. Ties are resolved in
/// favour of the better hypothesis, then of the smaller token.
///
/// ```
/// use reformer_core::generation::{BeamConfig, Logits, StepDecoder, beam_search};
///
/// /// After a token follows the next one, or the one after that half as often.
/// struct Counter;
///
/// impl Counter {
///     fn logits(token: u32) -> impl Iterator<Item = f32> {
///         (0..5).map(move |next| match next - token as i32 {
///             1 => 0.0,
///             2 => -(2f32.ln()),
///             _ => f32::NEG_INFINITY,
///         })
///     }
/// }
///
/// impl StepDecoder for Counter {
///     type Error = std::convert::Infallible;
///
///     fn select(&mut self, _rows: &[usize]) -> Result<(), Self::Error> {
///         Ok(()) // The last token is all there is to know.
///     }
///
///     fn step(&mut self, tokens: &[u32]) -> Result<Logits, Self::Error> {
///         Ok(Logits::new(tokens.iter().flat_map(|&t| Counter::logits(t)).collect(), 5))
///     }
/// }
///
/// let first = Counter.step(&[0]).unwrap();
/// let config = BeamConfig::new().with_end(Some(4)).with_length_penalty(0.0);
/// let found = beam_search(&mut Counter, &first, &[10], &config).unwrap();
/// assert_eq!(found[0][0].tokens, [1, 2, 3]); // 2/3 * 2/3 * 2/3, and the others are less
/// ```
///
/// # Errors
/// Those of the decoder.
///
/// # Panics
/// If the configuration is not [valid](BeamConfig::validate), or `first` and `max_tokens` do not
/// have one entry per sequence.
pub fn beam_search<D: StepDecoder>(
    decoder: &mut D,
    first: &Logits,
    max_tokens: &[usize],
    config: &BeamConfig,
) -> Result<Vec<Vec<Hypothesis>>, D::Error> {
    if let Err(error) = config.validate() {
        panic!("{error}");
    }
    assert_eq!(first.n_rows(), max_tokens.len(), "a length for each row");
    let mut searches: Vec<Search> = max_tokens
        .iter()
        .enumerate()
        .map(|(row, &max_tokens)| Search::new(row, max_tokens, config))
        .collect();
    let mut logits = first.clone();
    loop {
        let (mut rows, mut tokens) = (Vec::new(), Vec::new());
        for search in &mut searches {
            search.advance(&logits);
            // Rows of the next step are in the order of `rows`.
            for live in &mut search.live {
                tokens.push(*live.tokens.last().expect("it was advanced"));
                rows.push(std::mem::replace(&mut live.row, rows.len()));
            }
        }
        if rows.is_empty() {
            return Ok(searches.into_iter().map(|search| search.ended).collect());
        }
        decoder.select(&rows)?;
        logits = decoder.step(&tokens)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generation::logits::log_softmax;
    use crate::random::Key;
    use core::convert::Infallible;

    const VOCABULARY: u32 = 4;
    const END: u32 = 3;

    /// Logits that depend on all tokens so far and on the prompt.
    struct Random {
        rows: Vec<Vec<u32>>,
        steps: usize,
    }

    impl Random {
        fn new(n: u32) -> (Self, Logits) {
            let rows: Vec<Vec<u32>> = (0..n).map(|beginning| vec![100 + beginning]).collect();
            let first = rows.iter().flat_map(|row| Self::logits(row)).collect();
            (
                Self { rows, steps: 0 },
                Logits::new(first, VOCABULARY as usize),
            )
        }

        fn logits(tokens: &[u32]) -> Vec<f32> {
            let key = tokens
                .iter()
                .fold(Key::new(9), |key, &token| key.fold(u64::from(token)));
            let bits = key.bits(0);
            bits.iter().map(|&b| b as f32 / 1e9).collect()
        }
    }

    impl StepDecoder for Random {
        type Error = Infallible;

        fn select(&mut self, rows: &[usize]) -> Result<(), Infallible> {
            self.rows = rows.iter().map(|&row| self.rows[row].clone()).collect();
            Ok(())
        }

        fn step(&mut self, tokens: &[u32]) -> Result<Logits, Infallible> {
            self.steps += 1;
            for (row, token) in self.rows.iter_mut().zip(tokens) {
                row.push(*token);
            }
            let logits = self.rows.iter().flat_map(|row| Self::logits(row)).collect();
            Ok(Logits::new(logits, VOCABULARY as usize))
        }
    }

    /// Every continuation of at most `left` tokens.
    fn all(prefix: &[u32], left: usize, log_prob: f64, config: &BeamConfig) -> Vec<Hypothesis> {
        let mut found = Vec::new();
        for (token, of_token) in (0..).zip(log_softmax(&Random::logits(prefix))) {
            let log_prob = log_prob + of_token;
            let is_ended = token == END;
            if is_ended || left == 1 {
                let mut tokens = prefix[1..].to_vec();
                let length = tokens.len() + 1;
                if !is_ended {
                    tokens.push(token);
                }
                found.push(Hypothesis {
                    tokens,
                    log_prob,
                    score: log_prob / config.penalty(length),
                    is_ended,
                });
            } else {
                found.extend(all(
                    &[prefix, &[token]].concat(),
                    left - 1,
                    log_prob,
                    config,
                ));
            }
        }
        found.sort_by(|a, b| b.score.total_cmp(&a.score));
        found
    }

    #[test]
    fn wide_beam_finds_the_best_of_all() {
        for length_penalty in [0.0, 0.6, 2.0] {
            let config = BeamConfig::new()
                .with_beam_size(300)
                .with_end(Some(END))
                .with_length_penalty(length_penalty);
            let (mut decoder, first) = Random::new(1);
            let found = beam_search(&mut decoder, &first, &[4], &config).unwrap();
            assert_eq!(found[0], all(&[100], 4, 0.0, &config));
        }
    }

    #[test]
    fn beam_stops_when_nothing_can_be_better() {
        let config = BeamConfig::new().with_beam_size(3).with_end(Some(END));
        let search = |max_tokens| {
            let (mut decoder, first) = Random::new(1);
            let found = beam_search(&mut decoder, &first, &[max_tokens], &config).unwrap();
            (found, decoder.steps)
        };
        let (found, steps) = search(200);
        assert!(steps < 150, "{steps} steps");
        assert_eq!(found[0].len(), 3);
        assert!(found[0].iter().all(|hypothesis| hypothesis.is_ended));
        // A higher length limit gives the same result.
        let (again, more_steps) = search(400);
        assert_eq!(again, found);
        assert!(more_steps >= steps);
    }

    #[test]
    fn beam_of_one_is_greedy() {
        for end in [None, Some(END)] {
            greedy_until(end);
        }
    }

    fn greedy_until(end: Option<u32>) {
        let config = BeamConfig::new()
            .with_beam_size(1)
            .with_length_penalty(0.0)
            .with_end(end);
        let (mut decoder, first) = Random::new(1);
        let found = beam_search(&mut decoder, &first, &[12], &config).unwrap();
        let (mut greedy, mut is_ended) = (vec![100], false);
        while greedy.len() < 13 && !is_ended {
            let logits = Random::logits(&greedy);
            let best =
                (0..VOCABULARY).max_by(|&a, &b| logits[a as usize].total_cmp(&logits[b as usize]));
            is_ended = best == end;
            greedy.extend(best.filter(|_| !is_ended));
        }
        assert_eq!(found[0][0].tokens, greedy[1..]);
        assert_eq!(found[0][0].is_ended, is_ended);
    }

    #[test]
    fn sequences_of_a_batch_do_not_touch() {
        let config = BeamConfig::new().with_end(Some(END));
        let lengths = [7, 0, 1, 30];
        let (mut decoder, first) = Random::new(4);
        let together = beam_search(&mut decoder, &first, &lengths, &config).unwrap();
        for (row, length) in lengths.into_iter().enumerate() {
            let (mut decoder, first) = Random::new(4);
            decoder.select(&[row]).unwrap();
            let first = Logits::new(first.row(row).to_vec(), VOCABULARY as usize);
            let alone = beam_search(&mut decoder, &first, &[length], &config).unwrap();
            assert_eq!(together[row], alone[0], "row {row}");
        }
        assert!(together[1].is_empty());
    }

    #[test]
    fn impossible_settings_are_refused() {
        for beam_size in [0, 1025, usize::MAX] {
            let config = BeamConfig::new().with_beam_size(beam_size);
            assert!(config.validate().is_err(), "{beam_size}");
        }
        for penalty in [-0.1, f64::NAN, f64::INFINITY] {
            let config = BeamConfig::new().with_length_penalty(penalty);
            assert!(config.validate().is_err());
        }
    }
}
