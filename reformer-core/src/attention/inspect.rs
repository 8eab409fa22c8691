//! Which keys single positions see, and with which weights.

use burn::tensor::backend::Backend;
use burn::tensor::{Int, Tensor};

use super::{LshAttention, ProjectedAttention};
use crate::kernels::{Duplicates, KeyRule, ReformerBackend, Slots, TiledAttention};
use crate::pass::Pass;

/// Buckets, coverage and attention weights of one head of an LSH layer, for each position.
#[derive(Debug, Clone, PartialEq)]
pub struct InspectedHead {
    /// Bucket of each position in each round: `[n_rounds][seq_length]`. Without rounds if the layer
    /// uses exact attention at this length.
    pub buckets: Vec<Vec<u32>>,
    /// Share of a query's softmax mass in full attention that falls on keys it sees: `[seq_length]`.
    pub coverage: Vec<f32>,
    /// Keys that each position attends to with their weights, which sum to 1, largest first:
    /// `[seq_length]`.
    pub weights: Vec<Vec<(usize, f32)>>,
}

impl<B: ReformerBackend> LshAttention<B> {
    /// Inspects a single sequence in evaluation. Takes the time of full attention and memory for
    /// every visible key: meant for short sequences that are displayed.
    ///
    /// [Wrapping](super::LshConfig::wrap_rounds) of chunks is ignored, as in
    /// [`probe`](Self::probe).
    ///
    /// # Shapes
    /// - x: `[1, seq_length, d_model]`
    ///
    /// # Panics
    /// If there is more than one sequence, or if some of it is padding.
    pub fn inspect(&self, x: Tensor<B, 3>, pass: &Pass<B>) -> Vec<InspectedHead> {
        assert!(
            x.dims()[0] == 1 && pass.mask_pad().is_none(),
            "one sequence as it is"
        );
        let probe = self.probe(x.clone(), pass);
        let coverage = floats(probe.coverage);
        let queries = self.heads.queries(x.clone());
        let [_, n_heads, seq_length, d] = queries.dims();
        let causal = self.config.heads.causal;
        let qkv = self.heads.queries_keys_values(queries.clone(), x);
        let routing = probe
            .buckets
            .is_some()
            .then(|| self.route(self.hashed_queries(queries, &qkv.q), pass, None));
        let seen = routing.map(|routing| Visibility::new(&routing.slots, routing.rules));
        let (k, q) = (floats(B::key_rows(&qkv)), floats(qkv.q));
        (0..n_heads)
            .map(|head| {
                let rows = head * seq_length * d..(head + 1) * seq_length * d;
                let (q, k) = (&q[rows.clone()], &k[rows]);
                let weights = (0..seq_length).map(|query| {
                    let keys = match &seen {
                        Some(seen) => seen.keys(head, query),
                        None if causal => (0..query).map(|key| (key, 1)).collect(),
                        None => (0..seq_length)
                            .filter(|key| *key != query)
                            .map(|key| (key, 1))
                            .collect(),
                    };
                    let logit = |key: usize| dot(&q[query * d..][..d], &k[key * d..][..d]);
                    softmax(query, &keys, logit)
                });
                InspectedHead {
                    buckets: seen.as_ref().map_or_else(Vec::new, |seen| {
                        let local = usize::from(self.config.lsh.local_round);
                        seen.buckets(head).split_off(local)
                    }),
                    coverage: coverage[head * seq_length..][..seq_length].to_vec(),
                    weights: weights.collect(),
                }
            })
            .collect()
    }
}

fn floats<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> Vec<f32> {
    tensor.into_data().iter::<f32>().collect()
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter()
        .zip(b)
        .map(|(a, b)| f64::from(*a) * f64::from(*b))
        .sum()
}

/// Weights of keys with their multiplicities, largest first. A query without any visible key sees
/// itself.
fn softmax(
    query: usize,
    keys: &[(usize, usize)],
    logit: impl Fn(usize) -> f64,
) -> Vec<(usize, f32)> {
    if keys.is_empty() {
        return vec![(query, 1.0)];
    }
    let logits: Vec<f64> = keys.iter().map(|&(key, _)| logit(key)).collect();
    let max = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let weights = logits
        .iter()
        .zip(keys)
        .map(|(logit, (_, n))| *n as f64 * (logit - max).exp());
    let weights: Vec<f64> = weights.collect();
    let sum: f64 = weights.iter().sum();
    let mut weights: Vec<(usize, f32)> = keys
        .iter()
        .zip(weights)
        .map(|(&(key, _), weight)| (key, (weight / sum) as f32))
        .collect();
    weights.sort_by(|a, b| b.1.total_cmp(&a.1));
    weights
}

/// Visibility of keys, on the host.
struct Visibility {
    rules: TiledAttention,
    /// `[n_heads, n_rounds, n_slots]`
    order: Vec<i64>,
    /// `[n_heads, n_rounds, seq_length]` each
    slot_of: Vec<i64>,
    buckets: Vec<i64>,
    n_rounds: usize,
    n_slots: usize,
    seq_length: usize,
}

impl Visibility {
    fn new<B: Backend>(slots: &Slots<B>, rules: TiledAttention) -> Self {
        let integers = |tensor: &Tensor<B, 4, Int>| tensor.to_data().iter::<i64>().collect();
        let [_, _, n_rounds, n_slots] = slots.order.dims();
        Self {
            rules,
            order: integers(&slots.order),
            slot_of: integers(&slots.slot_of),
            buckets: integers(&slots.buckets),
            n_rounds,
            n_slots,
            seq_length: slots.slot_of.dims()[3],
        }
    }

    fn buckets(&self, head: usize) -> Vec<Vec<u32>> {
        let size = self.n_rounds * self.seq_length;
        let rounds = self.buckets[head * size..][..size].chunks_exact(self.seq_length);
        rounds
            .map(|round| round.iter().map(|&bucket| bucket as u32).collect())
            .collect()
    }

    /// The keys that a query sees, with their multiplicities.
    fn keys(&self, head: usize, query: usize) -> Vec<(usize, usize)> {
        let mut keys = Vec::new();
        for round in head * self.n_rounds..(head + 1) * self.n_rounds {
            keys.extend(self.in_round(round, query));
        }
        keys.sort_unstable();
        let groups = keys.chunk_by(|a, b| a == b);
        let counted = groups.map(|same| match self.rules.duplicates {
            Duplicates::Exact => (same[0], 1),
            Duplicates::Keep => (same[0], same.len()),
        });
        counted.collect()
    }

    fn in_round(&self, round: usize, query: usize) -> impl Iterator<Item = usize> {
        let tile = self.rules.tile;
        let order = &self.order[round * self.n_slots..][..self.n_slots];
        let of_round = round * self.seq_length;
        let own_slot = self.slot_of[of_round + query] as usize;
        let own_tile = own_slot / tile.length;
        let first = own_tile.saturating_sub(tile.before) * tile.length;
        let end = self.n_slots.min((own_tile + 1 + tile.after) * tile.length);
        let bucket = move |position: usize| self.buckets[of_round + position];
        (first..end).filter_map(move |slot| {
            let key = usize::try_from(order[slot]).ok()?;
            let is_seen = match self.rules.keys {
                KeyRule::Across => true,
                KeyRule::SameBucket => bucket(key) == bucket(query),
                KeyRule::Band(band) => {
                    bucket(key) == bucket(query) && slot.abs_diff(own_slot) <= band
                }
            };
            let allowed = key != query && (key < query || !self.rules.causal);
            (is_seen && allowed).then_some(key)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attention::{
        Buckets, ExactUpTo, HeadsConfig, LshAttentionConfig, LshConfig, Window,
    };
    use burn::tensor::{Distribution, TensorData, Tolerance};
    use burn_flex::Flex;

    const LENGTH: usize = 50;

    fn lsh(window: Window) -> LshConfig {
        LshConfig::new()
            .with_n_rounds(3)
            .with_n_buckets(Buckets::Count(6))
            .with_chunk_length(6)
            .with_window(window)
            .with_exact_up_to(ExactUpTo::Never)
    }

    /// Checks that the weights applied to the values give the layer's output.
    #[track_caller]
    fn check(lsh: LshConfig, causal: bool) -> Vec<InspectedHead> {
        let device = Default::default();
        let heads = HeadsConfig::new(8, 2)
            .with_causal(causal)
            .with_rotary_base(Some(1e4));
        let layer = LshAttentionConfig::new(heads, lsh).init::<Flex>(&device);
        let x = Tensor::<Flex, 3>::random([1, LENGTH, 8], Distribution::Normal(0.0, 2.0), &device);
        let pass = Pass::eval();
        let inspected = layer.inspect(x.clone(), &pass);
        let queries = layer.heads.queries(x.clone());
        let values = floats(layer.heads.queries_keys_values(queries, x.clone()).v);
        let mut output = Vec::new();
        for (head, values) in inspected.iter().zip(values.chunks(LENGTH * 4)) {
            for weights in &head.weights {
                let sum: f32 = weights.iter().map(|(_, weight)| weight).sum();
                assert!((sum - 1.0).abs() < 1e-5, "{sum}");
                assert!(weights.is_sorted_by(|a, b| a.1 >= b.1));
                let feature = |i: usize| -> f32 {
                    weights
                        .iter()
                        .map(|&(key, weight)| weight * values[key * 4 + i])
                        .sum()
                };
                output.extend((0..4).map(feature));
            }
        }
        let output = TensorData::new(output, [1, 2, LENGTH, 4]);
        let output = layer.heads.join(Tensor::from_data(output, &device));
        let expected = layer.forward(x, &pass).output;
        output
            .into_data()
            .assert_approx_eq::<f32>(&expected.into_data(), Tolerance::absolute(1e-4));
        inspected
    }

    #[test]
    fn weights_are_those_that_the_layer_attends_with() {
        let chunk = |before, after, within_bucket| Window::Chunk {
            before,
            after,
            within_bucket,
        };
        for causal in [true, false] {
            check(lsh(Window::Bucket { len: 4 }), causal);
            check(lsh(chunk(1, 0, false)), causal);
            check(lsh(chunk(1, 1, true)), causal);
            check(
                lsh(chunk(1, 0, false)).with_duplicates(Duplicates::Keep),
                causal,
            );
            let exact = lsh(Window::Bucket { len: 4 }).with_exact_up_to(ExactUpTo::Length(LENGTH));
            let inspected = check(exact, causal);
            assert!(inspected[1].buckets.is_empty());
            assert!(inspected[1].coverage.iter().all(|&share| share == 1.0));
        }
    }

    #[test]
    fn who_attends_shares_a_bucket() {
        let hashed = lsh(Window::Bucket { len: 4 }).with_local_round(false);
        let inspected = check(hashed, true);
        for head in &inspected {
            assert_eq!((head.buckets.len(), head.buckets[0].len()), (3, LENGTH));
            for (query, weights) in head.weights.iter().enumerate() {
                for &(key, _) in weights {
                    let share = |round: &Vec<u32>| round[key] == round[query];
                    assert!(head.buckets.iter().any(share), "{query} sees {key}");
                }
            }
        }
    }
}
