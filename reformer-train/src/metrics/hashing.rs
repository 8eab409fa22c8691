//! Metrics of hashing in a model: coverage of full attention, and how full buckets are.

use burn::tensor::backend::Backend;
use burn::tensor::{Int, Tensor};
use reformer_core::attention::LshCoverage;
use reformer_core::kernels::ReformerBackend;
use reformer_core::model::Reformer;

/// The metrics of one LSH layer, from [`probe_hashing`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LayerHashing {
    /// Number of the layer in the model, from 0.
    pub layer: usize,
    /// Share of the softmax mass of full attention that is on keys which a query sees in some
    /// round: the mean over queries, heads and sequences, in `0..=1`.
    pub coverage: f64,
    /// How queries are distributed over buckets. `None` where the layer computes exactly at this length.
    pub balance: Option<BucketBalance>,
}

/// How queries are distributed over the buckets of a round: means over rounds, heads and sequences.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BucketBalance {
    /// Entropy of the bucket distribution divided by that of a uniform one: 1 where all buckets are equally
    /// full, 0 where all queries are in one.
    pub entropy: f64,
    /// Share of queries in the fullest bucket.
    pub largest_share: f64,
}

/// Metrics of hashing in a model: means over its LSH layers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hashing {
    /// See [`LayerHashing::coverage`].
    pub coverage: f64,
    /// See [`LayerHashing::balance`]; over the layers that hash.
    pub balance: Option<BucketBalance>,
}

impl Hashing {
    /// The mean over layers; `None` if there are none.
    pub fn mean_of(layers: &[LayerHashing]) -> Option<Self> {
        let balances: Vec<BucketBalance> =
            layers.iter().filter_map(|layer| layer.balance).collect();
        (!layers.is_empty()).then(|| Self {
            coverage: mean(layers.iter().map(|layer| layer.coverage)),
            balance: (!balances.is_empty()).then(|| BucketBalance::mean_of(&balances)),
        })
    }
}

/// Measures every LSH layer of a model on the hidden states of evaluation mode. This takes
/// the time of full attention: use a short batch, and not in every step.
///
/// ```
/// use burn::tensor::{Distribution, Tensor};
/// use burn_flex::Flex;
/// use reformer_core::model::ReformerConfig;
/// use reformer_train::metrics::hashing::probe_hashing;
///
/// let device = Default::default();
/// let model = ReformerConfig::new(256, 32, 4).init::<Flex>(&device);
/// let bytes = Tensor::<Flex, 2>::random([1, 500], Distribution::Uniform(0.0, 256.0), &device);
/// for layer in probe_hashing(&model, bytes.int()) {
///     println!("layer {}: {:.1} % seen", layer.layer, 100.0 * layer.coverage);
/// }
/// ```
///
/// # Shapes
/// - tokens: `[batch_size, seq_length]`, without padding
///
/// # Panics
/// If the sequence is longer than the model's positions allow.
pub fn probe_hashing<B: ReformerBackend>(
    model: &Reformer<B>,
    tokens: Tensor<B, 2, Int>,
) -> Vec<LayerHashing> {
    let blocks = model.blocks.iter().enumerate();
    let lsh = blocks.filter(|(_, block)| block.attention.lsh().is_some());
    lsh.zip(model.probe(tokens))
        .map(|((layer, _), probe)| {
            let LshCoverage {
                coverage,
                buckets,
                n_buckets,
            } = probe;
            LayerHashing {
                layer,
                coverage: mean(coverage.into_data().iter::<f64>()),
                balance: buckets.map(|buckets| BucketBalance::new(buckets, n_buckets)),
            }
        })
        .collect()
}

impl BucketBalance {
    /// The balance of the buckets of queries.
    ///
    /// # Shapes
    /// - buckets: `[batch_size, n_heads, n_rounds, seq_length]`, values in `0..n_buckets`
    ///
    /// # Panics
    /// If a bucket is not in `0..n_buckets`, like the bucket of padding.
    pub fn new<B: Backend>(buckets: Tensor<B, 4, Int>, n_buckets: usize) -> Self {
        let [_, _, _, seq_length] = buckets.dims();
        let buckets: Vec<i64> = buckets.into_data().iter::<i64>().collect();
        let rounds: Vec<Self> = buckets
            .chunks(seq_length.max(1))
            .map(|round| Self::of_round(round, n_buckets))
            .collect();
        Self::mean_of(&rounds)
    }

    fn mean_of(several: &[Self]) -> Self {
        Self {
            entropy: mean(several.iter().map(|one| one.entropy)),
            largest_share: mean(several.iter().map(|one| one.largest_share)),
        }
    }

    fn of_round(buckets: &[i64], n_buckets: usize) -> Self {
        let mut counts = vec![0usize; n_buckets];
        for &bucket in buckets {
            counts[bucket as usize] += 1;
        }
        let shares = counts.iter().map(|&n| n as f64 / buckets.len() as f64);
        let entropy: f64 = shares
            .clone()
            .filter(|&share| share > 0.0)
            .map(|share| -share * share.ln())
            .sum();
        Self {
            // With one bucket, the uniform entropy is 0.
            entropy: if n_buckets > 1 {
                entropy / (n_buckets as f64).ln()
            } else {
                1.0
            },
            largest_share: shares.fold(0.0, f64::max),
        }
    }
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, n) = values.fold((0.0, 0.0), |(sum, n), value| (sum + value, n + 1.0));
    sum / n
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn_flex::Flex;
    use reformer_core::attention::{AttentionKind, Buckets, ExactUpTo, LshConfig, Window};
    use reformer_core::model::ReformerConfig;

    const LENGTH: usize = 48;

    fn tokens() -> Tensor<Flex, 2, Int> {
        let tokens = Tensor::<Flex, 1, Int>::arange(0..LENGTH as i64, &Default::default());
        (tokens * 7).remainder_scalar(31).unsqueeze()
    }

    fn probe(lsh: LshConfig) -> Vec<LayerHashing> {
        let config = ReformerConfig::new(31, 16, 3)
            .with_n_heads(2)
            .with_lsh(lsh)
            .with_layers(vec![
                AttentionKind::Lsh,
                AttentionKind::Local,
                AttentionKind::Lsh,
            ]);
        probe_hashing(&config.init::<Flex>(&Default::default()), tokens())
    }

    fn lsh(n_rounds: usize) -> LshConfig {
        LshConfig::new()
            .with_n_rounds(n_rounds)
            .with_n_buckets(Buckets::Count(4))
            .with_window(Window::Bucket { len: 4 })
            .with_exact_up_to(ExactUpTo::Never)
    }

    fn balance(buckets: [i32; 8], n_buckets: usize) -> BucketBalance {
        let buckets = Tensor::<Flex, 1, Int>::from_ints(buckets, &Default::default());
        BucketBalance::new(buckets.reshape([1, 1, 2, 4]), n_buckets)
    }

    #[test]
    fn lsh_layers_are_probed_and_named() {
        let layers = probe(lsh(2));
        let numbers: Vec<usize> = layers.iter().map(|layer| layer.layer).collect();
        assert_eq!(numbers, [0, 2]);
        for layer in layers {
            assert!(layer.coverage > 0.05 && layer.coverage < 1.0, "{layer:?}");
            let balance = layer.balance.unwrap();
            assert!(balance.entropy > 0.3 && balance.entropy <= 1.0, "{layer:?}");
            assert!(balance.largest_share >= 0.25, "{layer:?}");
        }
    }

    #[test]
    fn means_leave_out_what_does_not_hash() {
        let layer = |coverage, balance| LayerHashing {
            layer: 0,
            coverage,
            balance,
        };
        let even = balance([0, 1, 2, 3, 3, 2, 1, 0], 4);
        let mean = Hashing::mean_of(&[layer(0.5, Some(even)), layer(1.0, None)]);
        let expected = Hashing {
            coverage: 0.75,
            balance: Some(even),
        };
        assert_eq!(mean, Some(expected));
        assert_eq!(Hashing::mean_of(&[]), None);
    }

    #[test]
    fn exact_layers_see_everything_and_have_no_buckets() {
        for layer in probe(lsh(1).with_exact_up_to(ExactUpTo::Length(LENGTH))) {
            assert_eq!(layer.coverage, 1.0);
            assert_eq!(layer.balance, None);
        }
    }

    #[test]
    fn equally_full_buckets_are_balanced() {
        let even = balance([0, 1, 2, 3, 3, 2, 1, 0], 4);
        assert!((even.entropy - 1.0).abs() < 1e-12);
        assert_eq!(even.largest_share, 0.25);
    }

    #[test]
    fn one_full_bucket_is_not() {
        let one = balance([2; 8], 4);
        assert_eq!((one.entropy, one.largest_share), (0.0, 1.0));
    }

    #[test]
    fn rounds_are_averaged() {
        // Two of four buckets in one round, all in one bucket in the other.
        let balance = balance([0, 0, 1, 1, 3, 3, 3, 3], 4);
        assert!((balance.entropy - 0.25).abs() < 1e-12);
        assert_eq!(balance.largest_share, 0.75);
    }
}
