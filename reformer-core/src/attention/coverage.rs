//! How much of full attention's softmax mass hashing covers.

use burn::tensor::backend::Backend;
use burn::tensor::{Int, Tensor};

use super::{LshAttention, ProjectedAttention};
use crate::kernels::{
    AttentionOutput, Duplicates, Masking, ReformerBackend, TileShape, TiledAttention,
};
use crate::pass::Pass;

/// Result of [`LshAttention::probe`].
#[derive(Debug, Clone)]
pub struct LshCoverage<B: Backend> {
    /// Share of a query's softmax mass in full attention that is on keys it sees in some round:
    /// `[batch_size, n_heads, seq_length]`, in `0..=1`.
    pub coverage: Tensor<B, 3>,
    /// Buckets of the queries: `[batch_size, n_heads, n_rounds, seq_length]`. `None` if the layer
    /// uses exact attention at this length.
    pub buckets: Option<Tensor<B, 4, Int>>,
    /// Number of buckets in a round, without the additional one for padding.
    pub n_buckets: usize,
}

impl<B: ReformerBackend> LshAttention<B> {
    /// Compares the keys that each query sees with full attention under the same rules: the key is
    /// the normalised query, and a position sees itself only if it sees no other key. Takes the
    /// time of full attention and the memory of its slices.
    ///
    /// Both attentions are one softmax each. If duplicate keys count once, the softmax denominator
    /// of LSH attention is a partial sum of that of full attention. Coverage is the ratio of the
    /// denominators, so the attention kernels compute it too.
    /// [Wrapping](super::LshConfig::wrap_rounds) of chunks is ignored: keys that the first chunk of
    /// a round sees in another round do not count.
    ///
    /// ```
    /// use burn::tensor::{Distribution, Tensor};
    /// use burn_flex::Flex;
    /// use reformer_core::Pass;
    /// use reformer_core::attention::{HeadsConfig, LshAttentionConfig, LshConfig};
    ///
    /// let device = Default::default();
    /// let config = LshAttentionConfig::new(HeadsConfig::new(32, 2), LshConfig::new());
    /// let attention = config.init::<Flex>(&device);
    ///
    /// let x = Tensor::random([1, 500, 32], Distribution::Default, &device);
    /// let coverage = attention.probe(x, &Pass::eval()).coverage;
    /// assert_eq!(coverage.dims(), [1, 2, 500]);
    /// let mean = coverage.mean().into_scalar();
    /// assert!(mean > 0.2 && mean < 1.0);
    /// ```
    ///
    /// # Shapes
    /// - x: `[batch_size, seq_length, d_model]`
    pub fn probe(&self, x: Tensor<B, 3>, pass: &Pass<B>) -> LshCoverage<B> {
        let queries = self.heads.queries(x.clone());
        let [batch_size, n_heads, seq_length, _] = queries.dims();
        let shape = [batch_size, n_heads, seq_length];
        let lsh = &self.config.lsh;
        if lsh.is_exact_in(seq_length, pass.context(), self.config.heads.causal) {
            return LshCoverage {
                coverage: Tensor::ones(shape, &queries.device()),
                buckets: None,
                n_buckets: lsh.factors_in(seq_length, pass.context()).iter().product(),
            };
        }

        let qkv = self.heads.queries_keys_values(queries.clone(), x);
        let routing = self.route(self.hashed_queries(queries, &qkv.q), pass, None);
        let rules = TiledAttention {
            duplicates: Duplicates::Exact,
            tile: TileShape {
                wrap: false,
                ..routing.rules.tile
            },
            ..routing.rules
        };
        let masking = Masking {
            causal: rules.causal,
            exclude_self: true,
            dropout: None,
            mask_pad: pass.mask_pad().cloned(),
        };
        let seen = B::tiled_attention(qkv.clone(), &routing.slots, &rules);
        let all = B::full_attention(qkv, &masking);
        LshCoverage {
            coverage: ratio(seen, all).reshape(shape),
            n_buckets: routing.n_buckets,
            buckets: Some(routing.into_buckets()),
        }
    }
}

/// Ratio of the denominators of two softmaxes: `[batch_size, n_heads, seq_length, 1]`.
fn ratio<B: Backend>(part: AttentionOutput<B>, whole: AttentionOutput<B>) -> Tensor<B, 4> {
    let log_ratio = (part.max - whole.max) + (part.log_sum - whole.log_sum);
    // Above 1 by rounding, and for a query that sees only itself, once in every round.
    log_ratio.exp().clamp_max(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attention::{
        Buckets, ExactUpTo, HeadsConfig, LshAttentionConfig, LshConfig, Window,
    };
    use burn::tensor::Distribution;
    use burn_flex::Flex;

    const LENGTH: usize = 45;
    const CHUNK: usize = 6;

    fn lsh(window: Window, n_rounds: usize) -> LshConfig {
        LshConfig::new()
            .with_n_rounds(n_rounds)
            .with_local_round(false)
            .with_n_buckets(Buckets::Count(6))
            .with_chunk_length(CHUNK)
            .with_window(window)
            .with_exact_up_to(ExactUpTo::Never)
    }

    fn layer(lsh: LshConfig, causal: bool) -> (LshAttention<Flex>, Tensor<Flex, 3>) {
        let device = Default::default();
        let heads = HeadsConfig::new(8, 2).with_causal(causal);
        let attention = LshAttentionConfig::new(heads, lsh).init(&device);
        let x = Tensor::random([2, LENGTH, 8], Distribution::Normal(0.0, 2.0), &device);
        (attention, x)
    }

    fn numbers<const D: usize>(tensor: Tensor<Flex, D>) -> Vec<f64> {
        tensor.into_data().iter::<f64>().collect()
    }

    /// Whether a query sees a key, from the buckets of a round and the definition of the window.
    fn sees(buckets: &[i64], window: Window, query: usize, key: usize) -> bool {
        let rank = |position: usize| {
            let own = (buckets[position], position);
            (0..buckets.len())
                .filter(|&other| (buckets[other], other) < own)
                .count()
        };
        let same_bucket = buckets[query] == buckets[key];
        match window {
            Window::Chunk {
                before,
                after,
                within_bucket,
            } => {
                let (of_query, of_key) = (rank(query) / CHUNK, rank(key) / CHUNK);
                let near = of_query <= of_key + before && of_key <= of_query + after;
                near && (same_bucket || !within_bucket)
            }
            Window::Bucket { len } => same_bucket && rank(query).abs_diff(rank(key)) <= len,
        }
    }

    /// Coverage by its definition, from the whole attention matrix of a head.
    fn expected(q: &[f64], d: usize, rounds: &[&[i64]], window: Window, causal: bool) -> Vec<f64> {
        let row = |i: usize| &q[i * d..(i + 1) * d];
        let dot = |a: &[f64], b: &[f64]| -> f64 { a.iter().zip(b).map(|(a, b)| a * b).sum() };
        let of_query = |i: usize| {
            let keys = (0..LENGTH).filter(|&j| j != i && (j < i || !causal));
            let (mut seen, mut all) = (0.0, 0.0);
            for j in keys {
                let weight = (dot(row(i), row(j)) / dot(row(j), row(j)).sqrt()).exp();
                all += weight;
                if rounds.iter().any(|round| sees(round, window, i, j)) {
                    seen += weight;
                }
            }
            if all == 0.0 { 1.0 } else { seen / all }
        };
        (0..LENGTH).map(of_query).collect()
    }

    #[test]
    fn coverage_is_that_of_the_whole_matrix() {
        let chunk = |before, after, within_bucket| Window::Chunk {
            before,
            after,
            within_bucket,
        };
        for (window, n_rounds, causal, local) in [
            (chunk(1, 0, true), 1, true, false),
            (chunk(1, 0, false), 3, true, false),
            (chunk(1, 0, false), 1, true, true),
            (chunk(1, 1, false), 2, false, false),
            (Window::Bucket { len: 3 }, 1, true, false),
            (Window::Bucket { len: 4 }, 3, true, true),
            (Window::Bucket { len: 2 }, 2, false, false),
            (Window::Bucket { len: 2 }, 2, false, true),
        ] {
            let lsh = lsh(window, n_rounds).with_local_round(local);
            let (attention, x) = layer(lsh, causal);
            let queries = attention.heads.queries(x.clone());
            let [_, _, _, d] = queries.dims();
            let probe = attention.probe(x, &Pass::eval());
            let buckets = probe.buckets.unwrap().into_data();
            let buckets: Vec<i64> = buckets.iter::<i64>().collect();
            let found = numbers(probe.coverage);
            let queries = numbers(queries);
            let heads = queries
                .chunks(LENGTH * d)
                .zip(buckets.chunks(n_rounds * LENGTH));
            let expected = heads.flat_map(|(q, hashed)| {
                let everywhere = local.then_some(&[0; LENGTH][..]);
                let rounds: Vec<&[i64]> = everywhere
                    .into_iter()
                    .chain(hashed.chunks(LENGTH))
                    .collect();
                expected(q, d, &rounds, window, causal)
            });
            let largest = found
                .iter()
                .zip(expected)
                .map(|(found, expected)| (found - expected).abs())
                .fold(0.0, f64::max);
            assert!(largest < 1e-4, "{window:?}, {n_rounds} rounds: {largest}");
        }
    }

    #[test]
    fn exact_layers_cover_everything() {
        let window = Window::Bucket { len: 4 };
        let exact = lsh(window, 1).with_exact_up_to(ExactUpTo::Length(LENGTH));
        let (attention, x) = layer(exact, true);
        let probe = attention.probe(x, &Pass::eval());
        assert!(probe.buckets.is_none());
        assert!(numbers(probe.coverage).iter().all(|&share| share == 1.0));
    }

    #[test]
    fn window_of_everything_covers_everything() {
        // Sorted by bucket, an earlier key may be placed after its query: both sides are needed.
        let everything = Window::Chunk {
            before: LENGTH,
            after: LENGTH,
            within_bucket: false,
        };
        let (attention, x) = layer(lsh(everything, 2), true);
        let coverage = numbers(attention.probe(x, &Pass::eval()).coverage);
        assert!(coverage.iter().all(|share| (0.9999..=1.0).contains(share)));
    }

    #[test]
    fn coverage_grows_with_rounds() {
        let mean = |n_rounds| {
            Flex::seed(&Default::default(), 5);
            let (attention, x) = layer(lsh(Window::Bucket { len: 4 }, n_rounds), true);
            let coverage = attention.probe(x, &Pass::eval()).coverage;
            coverage.mean().into_scalar()
        };
        let means = [1, 2, 4, 8].map(mean);
        assert!(
            means.is_sorted_by(|fewer, more| fewer + 0.01 < *more),
            "{means:?}"
        );
    }

    #[test]
    fn wrapped_rounds_and_kept_duplicates_are_probed_too() {
        let window = Window::Chunk {
            before: 1,
            after: 0,
            within_bucket: false,
        };
        let peers = lsh(window, 2)
            .with_duplicates(Duplicates::Keep)
            .with_wrap_rounds(true);
        let (attention, x) = layer(peers, true);
        let coverage = numbers(attention.probe(x, &Pass::eval()).coverage);
        assert!(coverage.iter().all(|&share| (0.0..=1.0).contains(&share)));
    }
}
