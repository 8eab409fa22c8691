//! The share of a query's softmax that a selection of keys covers.

use serde::{Deserialize, Serialize};

use super::NEAR;
use super::head::HeadVectors;

/// The part of one query's softmax that was found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Recalled {
    /// Number of distinct keys found.
    pub(crate) keys: f64,
    /// Softmax mass on them.
    pub(crate) mass: f64,
    /// Softmax mass beyond the last [`NEAR`] keys on them.
    pub(crate) far: f64,
    /// All softmax mass beyond the last [`NEAR`] keys.
    pub(crate) far_of: f64,
    /// The largest mass beyond the last [`NEAR`] keys that as many keys can have.
    pub(crate) far_best: f64,
    /// Distance of the output to that of exact attention, relative to the norm of the latter.
    pub(crate) error: f64,
}

impl Recalled {
    /// Sums over the keys that are seen.
    pub(crate) fn new(
        head: &HeadVectors,
        weights: &[f64],
        seen: &[bool],
        sorted_far: &[f64],
    ) -> Self {
        let far_from = weights.len().saturating_sub(NEAR);
        let mass_in = |range: core::ops::Range<usize>| -> f64 {
            range.filter(|&key| seen[key]).map(|key| weights[key]).sum()
        };
        let keys = seen.iter().filter(|seen| **seen).count();
        let far = mass_in(0..far_from);
        let mass = far + mass_in(far_from..weights.len());
        Self {
            keys: keys as f64,
            mass,
            far,
            far_of: sorted_far.last().copied().unwrap_or(0.0),
            far_best: best(sorted_far, keys),
            error: error(head, weights, seen, mass),
        }
    }
}

/// Cumulative sums of the weights beyond the last [`NEAR`] keys, in descending order of weights.
pub(crate) fn sorted_far(weights: &[f64]) -> Vec<f64> {
    let mut far = weights[..weights.len().saturating_sub(NEAR)].to_vec();
    far.sort_by(|a, b| b.total_cmp(a));
    let mut sum = 0.0;
    for weight in &mut far {
        sum += *weight;
        *weight = sum;
    }
    far
}

/// Sum of the `keys` largest weights.
fn best(sorted_far: &[f64], keys: usize) -> f64 {
    match keys.min(sorted_far.len()) {
        0 => 0.0,
        keys => sorted_far[keys - 1],
    }
}

fn error(head: &HeadVectors, weights: &[f64], seen: &[bool], mass: f64) -> f64 {
    let mut exact = vec![0.0; head.d];
    let mut found = vec![0.0; head.d];
    for (key, &weight) in weights.iter().enumerate() {
        for ((exact, found), value) in exact
            .iter_mut()
            .zip(&mut found)
            .zip(head.row(&head.values, key))
        {
            let part = weight * f64::from(*value);
            *exact += part;
            if seen[key] {
                *found += part / mass.max(f64::MIN_POSITIVE);
            }
        }
    }
    let square = |x: f64| x * x;
    let distance: f64 = exact
        .iter()
        .zip(&found)
        .map(|(exact, found)| square(exact - found))
        .sum();
    let length: f64 = exact.iter().map(|&exact| square(exact)).sum();
    (distance / length.max(f64::MIN_POSITIVE)).sqrt()
}

/// Sums over several queries.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Sum {
    total: Recalled,
    n: f64,
}

impl Sum {
    /// Adds a query.
    pub(crate) fn add(&mut self, found: Recalled) {
        self.n += 1.0;
        let total = &mut self.total;
        total.keys += found.keys;
        total.mass += found.mass;
        total.far += found.far;
        total.far_of += found.far_of;
        total.far_best += found.far_best;
        total.error += found.error;
    }

    /// Adds the sums of other queries.
    pub(crate) fn join(&mut self, other: Self) {
        let n = self.n + other.n;
        self.add(other.total);
        self.n = n;
    }

    /// Mean number of keys.
    pub(crate) fn keys(&self) -> f64 {
        self.total.keys / self.n
    }

    /// Mean share of the softmax mass.
    pub(crate) fn mass(&self) -> f64 {
        self.total.mass / self.n
    }

    /// Mean share of the mass beyond the neighbours.
    pub(crate) fn far(&self) -> f64 {
        self.total.far / self.total.far_of
    }

    /// The largest possible share with as many keys.
    pub(crate) fn far_best(&self) -> f64 {
        self.total.far_best / self.total.far_of
    }

    /// Mean mass beyond the neighbours.
    pub(crate) fn far_of(&self) -> f64 {
        self.total.far_of / self.n
    }

    /// Mean relative error of the output.
    pub(crate) fn error(&self) -> f64 {
        self.total.error / self.n
    }
}
