//! Choosing the next token from logits.

use anyhow::{Result, bail};
use reformer_core::Key;

/// Draws tokens from softmax distributions.
///
/// ```
/// use experiments::sampling::Sampler;
///
/// let mut greedy = Sampler::new(0.0, None, 0).unwrap(); // temperature, top_k, seed
/// assert_eq!(greedy.sample(&[0.1, 2.0, -1.0]), 1);
/// ```
#[derive(Debug, Clone)]
pub struct Sampler {
    temperature: f64,
    top_k: Option<usize>,
    key: Key,
    drawn: u64,
}

impl Sampler {
    /// A sampler whose choices follow from the seed. Logits are divided by the temperature, 0
    /// takes the largest; with `top_k` only so many of the largest are drawn from.
    ///
    /// # Errors
    /// A temperature that is no number from 0 up, or a `top_k` of 0.
    pub fn new(temperature: f64, top_k: Option<usize>, seed: u64) -> Result<Self> {
        if !(temperature.is_finite() && temperature >= 0.0) {
            bail!("the temperature is {temperature}, but it must be a number from 0 up: use 0.8");
        }
        if top_k == Some(0) {
            bail!("top-k is 0, but one token must be left to choose: use at least 1");
        }
        Ok(Self {
            temperature,
            top_k,
            key: Key::new(seed),
            drawn: 0,
        })
    }

    /// The index of a token.
    ///
    /// # Panics
    /// If there are no logits.
    pub fn sample(&mut self, logits: &[f32]) -> usize {
        assert!(!logits.is_empty(), "there must be a token to choose");
        let mut order: Vec<usize> = (0..logits.len()).collect();
        order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]));
        if self.temperature == 0.0 {
            return order[0];
        }
        order.truncate(self.top_k.unwrap_or(usize::MAX));
        let largest = f64::from(logits[order[0]]);
        let weight =
            |&token: &usize| ((f64::from(logits[token]) - largest) / self.temperature).exp();
        let weights: Vec<f64> = order.iter().map(weight).collect();
        let mut left = self.uniform() * weights.iter().sum::<f64>();
        for (token, weight) in order.iter().zip(&weights) {
            left -= weight;
            if left < 0.0 {
                return *token;
            }
        }
        order[0] // Rounding can leave a rest.
    }

    /// The next number in `[0, 1)`.
    fn uniform(&mut self) -> f64 {
        let [high, low, ..] = self.key.bits(self.drawn);
        self.drawn += 1;
        let bits = u64::from(high) << 21 | u64::from(low) >> 11;
        bits as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOGITS: [f32; 4] = [0.0, 3f32, 1.0, 2.0];

    fn draws(temperature: f64, top_k: Option<usize>, seed: u64, n: usize) -> Vec<usize> {
        let mut sampler = Sampler::new(temperature, top_k, seed).unwrap();
        (0..n).map(|_| sampler.sample(&LOGITS)).collect()
    }

    #[test]
    fn frequencies_are_those_of_the_softmax() {
        let n = 100_000;
        let draws = draws(2.0, None, 1, n);
        let sum: f64 = LOGITS.iter().map(|l| f64::from(l / 2.0).exp()).sum();
        for (token, logit) in LOGITS.iter().enumerate() {
            let expected = f64::from(logit / 2.0).exp() / sum;
            let found = draws.iter().filter(|&&t| t == token).count() as f64 / n as f64;
            assert!(
                (found - expected).abs() < 0.01,
                "{token}: {found} {expected}"
            );
        }
    }

    #[test]
    fn no_temperature_takes_the_largest_and_so_does_a_choice_of_one() {
        assert!(draws(0.0, None, 1, 100).iter().all(|&token| token == 1));
        assert!(draws(5.0, Some(1), 1, 100).iter().all(|&token| token == 1));
    }

    #[test]
    fn top_k_leaves_the_others_out_and_may_exceed_the_vocabulary() {
        let two = draws(10.0, Some(2), 1, 1000);
        assert!(two.iter().all(|token| [1, 3].contains(token)));
        assert!(two.contains(&3));
        assert_eq!(draws(1.0, Some(99), 4, 100), draws(1.0, None, 4, 100));
    }

    #[test]
    fn same_seed_draws_the_same_and_another_seed_does_not() {
        assert_eq!(draws(1.0, None, 7, 50), draws(1.0, None, 7, 50));
        assert_ne!(draws(1.0, None, 7, 50), draws(1.0, None, 8, 50));
    }

    #[test]
    fn impossible_settings_are_refused() {
        for temperature in [-1.0, f64::NAN, f64::INFINITY] {
            assert!(Sampler::new(temperature, None, 0).is_err());
        }
        assert!(Sampler::new(1.0, Some(0), 0).is_err());
    }
}
