//! What counting gives: tables of which token follows which, as baselines of trained models.

use std::collections::HashMap;

use burn::tensor::backend::{AutodiffBackend, Backend};
use reformer_train::{Batch, Run, TrainError};

use super::DataKind;

/// Most training batches that are counted: those of some minutes of training.
const MOST_BATCHES: usize = 5_000;

/// A table of what follows the tokens at some distances before it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Counting {
    /// Its name for people.
    pub(super) label: &'static str,
    /// Distances from the predicted token back to those that it is predicted from.
    pub(super) distances: &'static [usize],
}

/// Tables that are worth comparing with on data of a kind.
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
        // Three colours a pixel.
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
    /// Bits a token on the validation data of a run, counted on the batches that it trains on.
    ///
    /// # Errors
    /// Settings that no data loader allows.
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
        let vocab_size = run.config().model.reformer().vocab_size;
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

    /// Hands out every target with the tokens that it is predicted from; those before the sequence are 0.
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
                    // The token at a place is the one before its target.
                    let at = (place + 1).checked_sub(*distance);
                    *token = at.map_or(0, |at| tokens[at]);
                }
                take(&context, target);
            }
        }
    }
}

/// How often each token followed a context, and how often any did.
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

    /// Smoothed by what a shorter context says (Witten and Bell, 1991): as much as there were different
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
        // Twice of three times, and two different tokens: (2 + 2 x 0.2) / 5.
        assert!((of(1)[2] - 0.48).abs() < 1e-12);
        for context in [1, 4, 0] {
            assert!((of(context).iter().sum::<f64>() - 1.0).abs() < 1e-12);
        }
        assert_eq!(of(0), [0.2; 5]);
    }
}
