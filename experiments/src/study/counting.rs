//! Baselines that count tokens: tables of which token follows which.

use std::collections::HashMap;

use burn::tensor::backend::{AutodiffBackend, Backend};
use reformer_train::{Batch, Run, TrainError};

use super::DataKind;

/// Largest number of training batches that are counted: about as many as some minutes of training have.
const MOST_BATCHES: usize = 5_000;

/// A table of the tokens that follow a context, the tokens at some distances before them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Counting {
    /// Its label in tables.
    pub(super) label: &'static str,
    /// Distances from the predicted token back to those of the context.
    pub(super) distances: &'static [usize],
}

/// The tables that are useful baselines for a kind of data.
pub(super) fn tables(data: DataKind) -> &'static [Counting] {
    match data {
        DataKind::Text => &[
            Counting {
                label: "counts of pairs",
                distances: &[1],
            },
            Counting {
                label: "counts of triples",
                distances: &[1, 2],
            },
        ],
        // A pixel has three colours.
        DataKind::Images => &[Counting {
            label: "counts by the left pixel",
            distances: &[3],
        }],
        DataKind::Duplication | DataKind::Pairs => &[],
        DataKind::Passages => &[Counting {
            label: "counts of pairs",
            distances: &[1],
        }],
    }
}

impl Counting {
    /// Bits per token on the validation data of a run, counted on its training batches.
    pub(super) fn bits<B: AutodiffBackend>(
        &self,
        run: &Run,
        device: &B::Device,
    ) -> Result<f64, TrainError> {
        let orders = 0..=self.distances.len();
        let mut orders: Vec<Order> = orders.map(|_| Order::default()).collect();
        run.each_train_batch::<B>(device, MOST_BATCHES, |batch| {
            self.each(batch, |context, target| {
                for (n, order) in orders.iter_mut().enumerate() {
                    order.add(&context[..n], target);
                }
            });
        })?;
        let vocab_size = run.config().model.vocab_size();
        let (mut bits, mut n) = (0.0, 0.0);
        run.each_valid_batch::<B::InnerBackend>(device, |batch| {
            self.each(batch, |context, target| {
                let mut probability = 1.0 / vocab_size as f64;
                for (n, order) in orders.iter().enumerate() {
                    probability = order.probability(&context[..n], target, probability);
                }
                bits -= probability.log2();
                n += 1.0;
            });
        })?;
        Ok(bits / n)
    }

    /// Passes every target to `take`, with its context; tokens before the sequence are 0.
    fn each<B: Backend>(&self, batch: Batch<B>, mut take: impl FnMut(&[i32], i32)) {
        let Batch::Tokens(batch) = batch else {
            return;
        };
        let [_, seq_length] = batch.tokens.dims();
        let tokens: Vec<i32> = batch.tokens.into_data().iter::<i32>().collect();
        let targets: Vec<i32> = batch.targets.into_data().iter::<i32>().collect();
        let rows = tokens.chunks(seq_length).zip(targets.chunks(seq_length));
        let mut context = vec![0; self.distances.len()];
        for (tokens, targets) in rows {
            for (place, &target) in targets
                .iter()
                .enumerate()
                .filter(|(_, target)| **target >= 0)
            {
                for (token, distance) in context.iter_mut().zip(self.distances) {
                    // The token at this position precedes its target.
                    let at = (place + 1).checked_sub(*distance);
                    *token = at.map_or(0, |at| tokens[at]);
                }
                take(&context, target);
            }
        }
    }
}

/// Counts of each token after each context, and of all tokens after it.
#[derive(Debug, Default)]
struct Order {
    counts: HashMap<(Vec<i32>, i32), u32>,
    contexts: HashMap<Vec<i32>, (u32, u32)>,
}

impl Order {
    fn add(&mut self, context: &[i32], target: i32) {
        let count = self.counts.entry((context.to_vec(), target)).or_default();
        *count += 1;
        let (total, different) = self.contexts.entry(context.to_vec()).or_default();
        *total += 1;
        *different += u32::from(*count == 1);
    }

    /// Witten-Bell smoothing (1991): the shorter context's probability has the weight of the number of distinct
    /// tokens.
    fn probability(&self, context: &[i32], target: i32, shorter: f64) -> f64 {
        let Some(&(total, different)) = self.contexts.get(context) else {
            return shorter;
        };
        let count = self.counts.get(&(context.to_vec(), target)).copied();
        let (total, different) = (f64::from(total), f64::from(different));
        (f64::from(count.unwrap_or(0)) + different * shorter) / (total + different)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_followed_is_probable_and_all_adds_up() {
        let mut order = Order::default();
        for (context, target) in [(1, 2), (1, 2), (1, 3), (4, 2)] {
            order.add(&[context], target);
        }
        let of = |context: i32| -> Vec<f64> {
            (0..5)
                .map(|target| order.probability(&[context], target, 0.2))
                .collect()
        };
        // Two of three times, two distinct tokens: (2 + 2 x 0.2) / 5.
        assert!((of(1)[2] - 0.48).abs() < 1e-12);
        for context in [1, 4, 0] {
            assert!((of(context).iter().sum::<f64>() - 1.0).abs() < 1e-12);
        }
        assert_eq!(of(0), [0.2; 5]);
    }
}
