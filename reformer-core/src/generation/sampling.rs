//! Sampling of the next token from logits.

use burn::config::Config;

use crate::error::ConfigError;
use crate::random::Key;

/// Sampling settings, applied in the order of the fields.
#[derive(Config, Debug, PartialEq)]
pub struct SamplerConfig {
    /// Makes tokens that occurred before less probable (Keskar et al., 2019): their positive logits
    /// are divided by it, negative ones multiplied. 1 has no effect.
    #[config(default = 1.0)]
    pub repetition_penalty: f64,
    /// Divisor of the logits: 0 takes the most probable token, 1 samples from the model's distribution.
    #[config(default = 1.0)]
    pub temperature: f64,
    /// Samples from this many most probable tokens only.
    pub top_k: Option<usize>,
    /// Samples only from the smallest set of most probable tokens whose total probability reaches
    /// this value (Holtzman et al., 2020).
    pub top_p: Option<f64>,
    /// Samples only from tokens with at least this share of the highest probability.
    pub min_p: Option<f64>,
}

impl SamplerConfig {
    /// Greedy decoding: always the most probable token.
    pub fn greedy() -> Self {
        Self::new().with_temperature(0.0)
    }

    /// Checks every setting.
    ///
    /// # Errors
    /// The first setting that cannot work.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let number = |field, value: f64, is_good: bool, law, remedy| match is_good {
            true => Ok(()),
            false => Err(ConfigError::new(field, value, law, remedy)),
        };
        number(
            "repetition_penalty",
            self.repetition_penalty,
            self.repetition_penalty.is_finite() && self.repetition_penalty > 0.0,
            "it must be a number above 0",
            "use 1.2, or 1 to switch it off",
        )?;
        number(
            "temperature",
            self.temperature,
            self.temperature.is_finite() && self.temperature >= 0.0,
            "it must be a number from 0 up",
            "use 0.8",
        )?;
        if let Some(top_k) = self.top_k {
            ConfigError::at_least_one("top_k", top_k)?;
        }
        for (field, share) in [("top_p", self.top_p), ("min_p", self.min_p)] {
            if let Some(share) = share {
                let is_good = share > 0.0 && share <= 1.0;
                number(
                    field,
                    share,
                    is_good,
                    "it must be a share in (0, 1]",
                    "use 0.9 for top_p, 0.05 for min_p",
                )?;
            }
        }
        Ok(())
    }

    /// A sampler whose choices are determined by the key.
    ///
    /// # Errors
    /// A setting that cannot work.
    pub fn init(&self, key: Key) -> Result<Sampler, ConfigError> {
        self.validate()?;
        Ok(Sampler {
            config: self.clone(),
            key,
            drawn: 0,
            seen: Vec::new(),
            banned: Vec::new(),
        })
    }
}

/// Samples the tokens of one sequence, one after another.
///
/// ```
/// use reformer_core::Key;
/// use reformer_core::generation::SamplerConfig;
///
/// let mut greedy = SamplerConfig::greedy().init(Key::new(0))?;
/// assert_eq!(greedy.sample(&[0.1, 2.0, -1.0]), 1);
///
/// // Each sequence of a batch has a key of its own, so that none depends on the others.
/// let config = SamplerConfig::new().with_temperature(0.8).with_top_p(Some(0.95));
/// let samplers: Vec<_> = (0..4).map(|row| config.init(Key::new(42).fold(row))).collect();
/// # Ok::<(), reformer_core::ConfigError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Sampler {
    config: SamplerConfig,
    key: Key,
    drawn: u64,
    /// Whether each token has occurred, for tokens up to the largest one so far.
    seen: Vec<bool>,
    banned: Vec<u32>,
}

impl Sampler {
    /// The same sampler, with these tokens excluded.
    pub fn without(mut self, tokens: impl IntoIterator<Item = u32>) -> Self {
        self.banned.extend(tokens);
        self
    }

    /// Registers tokens that were not sampled here, such as a prompt, for the repetition penalty.
    pub fn observe(&mut self, tokens: &[u32]) {
        for &token in tokens {
            let token = token as usize;
            if self.seen.len() <= token {
                self.seen.resize(token + 1, false);
            }
            self.seen[token] = true;
        }
    }

    /// Samples the next token.
    ///
    /// # Panics
    /// If there are no logits, or all tokens are excluded.
    pub fn sample(&mut self, logits: &[f32]) -> u32 {
        let logits = self.adjusted(logits);
        let mut order: Vec<usize> = (0..logits.len())
            .filter(|&token| logits[token] > f64::NEG_INFINITY)
            .collect();
        assert!(!order.is_empty(), "there must be a token to choose");
        order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]));
        let token = if self.config.temperature == 0.0 {
            order[0]
        } else {
            self.draw(&logits, &order)
        };
        let token = token as u32;
        self.observe(&[token]);
        token
    }

    /// Logits after the repetition penalty and the exclusion of tokens.
    fn adjusted(&self, logits: &[f32]) -> Vec<f64> {
        let mut logits: Vec<f64> = logits.iter().copied().map(f64::from).collect();
        let penalty = self.config.repetition_penalty;
        for (logit, _) in logits.iter_mut().zip(&self.seen).filter(|(_, seen)| **seen) {
            *logit = if *logit > 0.0 {
                *logit / penalty
            } else {
                *logit * penalty
            };
        }
        for &token in &self.banned {
            if let Some(logit) = logits.get_mut(token as usize) {
                *logit = f64::NEG_INFINITY;
            }
        }
        logits
    }

    /// Samples from `order`, tokens sorted by probability, highest first.
    fn draw(&mut self, logits: &[f64], order: &[usize]) -> usize {
        let weight = |&token: &usize| {
            let below = logits[token] - logits[order[0]];
            (below / self.config.temperature).exp()
        };
        let mut weights: Vec<f64> = order.iter().map(weight).collect();
        weights.truncate(self.config.top_k.unwrap_or(usize::MAX));
        if let Some(top_p) = self.config.top_p {
            weights.truncate(nucleus(&weights, top_p));
        }
        if let Some(min_p) = self.config.min_p {
            // Weights are relative to the largest, which is 1.
            weights.truncate(weights.partition_point(|weight| *weight >= min_p));
        }
        let mut left = self.uniform() * weights.iter().sum::<f64>();
        for (token, weight) in order.iter().zip(&weights) {
            left -= weight;
            if left < 0.0 {
                return *token;
            }
        }
        order[0] // Rounding can leave a small positive remainder.
    }

    /// The next random number in `[0, 1)`.
    fn uniform(&mut self) -> f64 {
        let [high, low, ..] = self.key.bits(self.drawn);
        self.drawn += 1;
        let bits = u64::from(high) << 21 | u64::from(low) >> 11;
        bits as f64 / (1u64 << 53) as f64
    }
}

/// How many weights, largest first, are needed to reach a share of their sum.
fn nucleus(weights: &[f64], share: f64) -> usize {
    let wanted = share * weights.iter().sum::<f64>();
    let mut sum = 0.0;
    let reaches = |weight: &f64| {
        sum += weight;
        sum >= wanted
    };
    weights
        .iter()
        .position(reaches)
        .map_or(weights.len(), |last| last + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOGITS: [f32; 4] = [0.0, 3.0, 1.0, 2.0];

    fn draws(config: &SamplerConfig, seed: u64, n: usize) -> Vec<u32> {
        // A fresh sampler for each draw, without a history.
        let sampler = config.init(Key::new(seed)).unwrap();
        (0..n as u64)
            .map(|drawn| {
                Sampler {
                    drawn,
                    ..sampler.clone()
                }
                .sample(&LOGITS)
            })
            .collect()
    }

    /// Compares the frequencies of tokens with a distribution.
    #[track_caller]
    fn check(config: &SamplerConfig, expected: [f64; 4]) {
        let n = 50_000;
        let draws = draws(config, 1, n);
        for (token, expected) in (0..).zip(expected) {
            let found = draws.iter().filter(|&&t| t == token).count() as f64 / n as f64;
            assert!(
                (found - expected).abs() < 0.01,
                "{token}: {found}, not {expected}"
            );
        }
    }

    /// Softmax of the given logits; `None` entries are excluded.
    fn softmax(logits: [Option<f64>; 4]) -> [f64; 4] {
        let weights = logits.map(|logit| logit.map_or(0.0, f64::exp));
        let sum: f64 = weights.iter().sum();
        weights.map(|weight| weight / sum)
    }

    #[test]
    fn frequencies_are_those_of_the_softmax() {
        let all = |scale: f64| softmax(LOGITS.map(|logit| Some(f64::from(logit) / scale)));
        check(&SamplerConfig::new(), all(1.0));
        check(&SamplerConfig::new().with_temperature(2.0), all(2.0));
    }

    #[test]
    fn only_the_allowed_are_drawn_and_with_the_right_shares() {
        // The full distribution has shares 0.03, 0.64, 0.09, 0.24.
        let config = SamplerConfig::new;
        let two = softmax([None, Some(3.0), None, Some(2.0)]);
        let three = softmax([None, Some(3.0), Some(1.0), Some(2.0)]);
        check(&config().with_top_k(Some(2)), two);
        check(
            &config().with_top_k(Some(99)),
            softmax(LOGITS.map(|l| Some(f64::from(l)))),
        );
        check(&config().with_top_p(Some(0.8)), two);
        check(&config().with_top_p(Some(0.9)), three);
        check(&config().with_top_p(Some(1e-9)), [0.0, 1.0, 0.0, 0.0]);
        check(&config().with_min_p(Some(0.2)), two);
        check(&config().with_min_p(Some(0.1)), three);
        // Of the two remaining tokens, the first has 0.73.
        check(
            &config().with_top_k(Some(2)).with_top_p(Some(0.7)),
            [0.0, 1.0, 0.0, 0.0],
        );
    }

    #[test]
    fn repeated_tokens_become_less_probable() {
        let config = SamplerConfig::greedy().with_repetition_penalty(2.0);
        let mut sampler = config.init(Key::new(0)).unwrap();
        // 3 becomes 1.5, then 2 becomes 1; 1 and 1.5 remain.
        assert_eq!([(); 3].map(|()| sampler.sample(&LOGITS)), [1, 3, 1]);
        let mut sampler = config.init(Key::new(0)).unwrap();
        sampler.observe(&[1, 9]);
        assert_eq!(sampler.sample(&[-1.0, -0.6]), 0, "-0.6 becomes -1.2");
    }

    #[test]
    fn banned_tokens_never_come() {
        let sampler = SamplerConfig::greedy().init(Key::new(0)).unwrap();
        assert_eq!(sampler.without([1, 3, 77]).sample(&LOGITS), 2);
    }

    #[test]
    fn same_seed_draws_the_same_and_another_seed_does_not() {
        let config = SamplerConfig::new();
        assert_eq!(draws(&config, 7, 50), draws(&config, 7, 50));
        assert_ne!(draws(&config, 7, 50), draws(&config, 8, 50));
    }

    #[test]
    fn impossible_settings_are_refused() {
        let config = SamplerConfig::new;
        let refused = |config: SamplerConfig, message: &str| {
            let error = config.init(Key::new(0)).unwrap_err().to_string();
            assert!(error.starts_with(message), "{error}");
        };
        for temperature in [-1.0, f64::NAN, f64::INFINITY] {
            refused(config().with_temperature(temperature), "`temperature` is");
        }
        refused(
            config().with_repetition_penalty(0.0),
            "`repetition_penalty` is 0",
        );
        refused(config().with_top_k(Some(0)), "`top_k` is 0");
        refused(config().with_top_p(Some(1.5)), "`top_p` is 1.5");
        refused(config().with_min_p(Some(0.0)), "`min_p` is 0");
    }
}
