//! What an attention layer remembers of the positions before the newest one.

mod hashed;
mod rows;

use burn::tensor::Tensor;
use burn::tensor::backend::Backend;

use self::hashed::Hashed;
use self::rows::KeysValues;
use crate::attention::{Attention, LocalConfig, LshAttention, Window};
use crate::kernels::{KEYS_AT_ONCE, Qkv, ReformerBackend, Seen};
use crate::pass::Pass;

/// Keys and values of one attention layer for the sequences of a batch, and where to look among
/// them.
///
/// A token costs as much as it sees: the window of every hash round, or the chunks in reach of a
/// local layer, which remembers no more than those. Full attention sees everything.
#[derive(Debug, Clone)]
pub(super) struct LayerCache<B: Backend> {
    rows: KeysValues<B>,
    reach: Reach<B>,
    context: usize,
}

/// Which positions the newest one sees.
#[derive(Debug, Clone)]
enum Reach<B: Backend> {
    /// All of them.
    All,
    /// Those in the last chunks. Rows are used in turn.
    Chunks(LocalConfig),
    /// Those that hashing finds.
    Hashed(Hashed<B>),
}

impl<B: ReformerBackend> LayerCache<B> {
    /// Attends among the first positions of sequences, and remembers them. The cache has room for
    /// `max_length` positions.
    ///
    /// # Shapes
    /// - x, output: `[batch_size, seq_length, d_model]`
    pub(super) fn prefill(
        attention: &Attention<B>,
        x: Tensor<B, 3>,
        context: usize,
        max_length: usize,
    ) -> (Tensor<B, 3>, Self) {
        let pass = Pass::eval().with_context(Some(context));
        let queries = attention.heads().queries(x.clone());
        let most = match attention {
            Attention::Local(attention) => max_length.min(remembered(&attention.local)),
            Attention::Lsh(_) | Attention::Full(_) => max_length,
        };
        let mut rows = None;
        let show = |qkv: &Qkv<B>| {
            rows = Some(KeysValues::new(B::key_rows(qkv), qkv.v.clone(), most));
        };
        let (output, reach) = match attention {
            Attention::Full(attention) => {
                let attended = attention.attend(queries, x, &pass, show);
                (attended.output, Reach::All)
            }
            Attention::Local(attention) => {
                let attended = attention.attend(queries, x, &pass, show);
                (attended.output, Reach::Chunks(attention.local.clone()))
            }
            Attention::Lsh(attention) => {
                let attended = attention.attend(queries.clone(), x, &pass, show);
                let is_exact = attention
                    .config
                    .lsh
                    .is_exact_in(context, Some(context), true);
                let reach = if is_exact {
                    Reach::All
                } else {
                    let factors = attention.config.lsh.factors_in(context, None);
                    let buckets = attended
                        .buckets
                        .unwrap_or_else(|| attention.buckets(queries, &factors, &pass));
                    Reach::Hashed(Hashed::new(attention, factors, buckets))
                };
                (attended.output, reach)
            }
        };
        let cache = Self {
            rows: rows.expect("every kind of attention shows them"),
            reach,
            context,
        };
        (output, cache)
    }

    /// Attends from the next position of each sequence, and remembers it.
    ///
    /// # Shapes
    /// - x, output: `[batch_size, 1, d_model]`
    /// - positions: `[batch_size]`
    pub(super) fn step(
        &mut self,
        attention: &Attention<B>,
        x: Tensor<B, 3>,
        positions: &[usize],
    ) -> Tensor<B, 3> {
        let heads = attention.heads();
        let queries = heads.queries(x.clone());
        let seen = self.advance(attention, queries.clone(), positions);
        let qkv = heads.queries_keys_values_at(queries, x, positions);
        let rows: Vec<usize> = match &self.reach {
            Reach::Chunks(local) => positions.iter().map(|p| p % remembered(local)).collect(),
            Reach::All | Reach::Hashed(_) => positions.to_vec(),
        };
        self.rows.write(&rows, B::key_rows(&qkv), qkv.v);
        let output = B::newest_attention(qkv.q, self.rows.both(), &seen, heads.share_qk());
        heads.join(output)
    }

    /// Which rows the next position of each sequence sees, or each of its heads.
    fn advance(
        &mut self,
        attention: &Attention<B>,
        queries: Tensor<B, 4>,
        positions: &[usize],
    ) -> Vec<Seen> {
        let all = |&position: &usize| sees_all(position);
        match (&mut self.reach, attention) {
            (Reach::All, _) => positions.iter().map(all).collect(),
            (Reach::Chunks(local), _) => {
                let chunks = |&position: &usize| sees_chunks(local, position);
                positions.iter().map(chunks).collect()
            }
            (Reach::Hashed(hashed), Attention::Lsh(attention)) => {
                let [_, n_heads, ..] = queries.dims();
                let mut seen = hashed.advance(queries, positions);
                for (seen, &position) in seen.chunks_exact_mut(n_heads).zip(positions) {
                    if is_exact_at(attention, position, self.context) {
                        seen.fill(sees_all(position));
                    }
                }
                seen
            }
            (Reach::Hashed(_), _) => unreachable!("only LSH attention hashes"),
        }
    }

    /// Goes on with these sequences.
    pub(super) fn select(&mut self, rows: &[usize]) {
        self.rows.select(rows);
        if let Reach::Hashed(hashed) = &mut self.reach {
            hashed.select(rows);
        }
    }

    /// The caches of one layer as that of a batch.
    pub(super) fn join(caches: Vec<Self>) -> Option<Self> {
        let (mut rows, mut hashed) = (Vec::new(), Vec::new());
        let mut reach = None;
        let mut context = 0;
        for cache in caches {
            rows.push(cache.rows);
            context = cache.context;
            match cache.reach {
                Reach::Hashed(part) => hashed.push(part),
                other => reach = Some(other),
            }
        }
        Some(Self {
            rows: KeysValues::join(rows),
            reach: Hashed::join(hashed).map(Reach::Hashed).or(reach)?,
            context,
        })
    }

    /// Memory that it takes.
    pub(super) fn bytes(&self) -> usize {
        let hashed = match &self.reach {
            Reach::Hashed(hashed) => hashed.bytes(),
            Reach::All | Reach::Chunks(_) => 0,
        };
        self.rows.bytes() + hashed
    }
}

/// Whether a layer that hashes its context sees everything from a position: a prefix that Hugging
/// Face does not cut into chunks yet.
fn is_exact_at<B: Backend>(attention: &LshAttention<B>, position: usize, context: usize) -> bool {
    let lsh = &attention.config.lsh;
    matches!(lsh.window, Window::Chunk { .. }) && lsh.is_exact_in(position + 1, Some(context), true)
}

/// Positions that a local layer has to remember.
fn remembered(local: &LocalConfig) -> usize {
    (local.before + 1) * local.chunk_length
}

/// All positions, in parts as full attention takes them.
fn sees_all(position: usize) -> Seen {
    let mut seen = Seen {
        own: position as u32,
        keys: (0..=position as u32).collect(),
        ..Seen::default()
    };
    seen.ends = (KEYS_AT_ONCE..=position).step_by(KEYS_AT_ONCE).collect();
    seen.end_part();
    seen
}

/// The position's own chunk and those before it.
fn sees_chunks(local: &LocalConfig, position: usize) -> Seen {
    let chunk = position / local.chunk_length;
    let first = chunk.saturating_sub(local.before) * local.chunk_length;
    let row = |position: usize| (position % remembered(local)) as u32;
    let mut seen = Seen {
        own: row(position),
        keys: (first..=position).map(row).collect(),
        ..Seen::default()
    };
    seen.end_part();
    seen
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attention::{Buckets, HeadsConfig, LshAttentionConfig, LshConfig};
    use crate::kernels::Duplicates;
    use burn::tensor::{Distribution, TensorData};
    use burn_flex::Flex;

    const LENGTH: usize = 60;
    const CHUNK: usize = 6;

    /// What the newest of the first positions sees in a round, found by sorting all of them anew:
    /// in Hugging Face's words, its chunk of the sorted prefix and those before it.
    fn sorted_and_cut(buckets: &[i64], config: &LshConfig) -> Vec<usize> {
        let Window::Chunk {
            before,
            after,
            within_bucket,
        } = config.window
        else {
            panic!("windows of chunks");
        };
        let n = buckets.len();
        let mut order: Vec<usize> = (0..n).collect();
        order.sort_by_key(|&position| (buckets[position], position));
        let place = order
            .iter()
            .position(|&position| position == n - 1)
            .unwrap() as i64;
        let chunk = CHUNK as i64;
        let start = (place / chunk - before as i64) * chunk;
        let places = start..start + chunk * (before + 1 + after) as i64;
        places
            .filter(|place| config.wrap_rounds || (0..n as i64).contains(place))
            .map(|place| order[place.rem_euclid(n as i64) as usize])
            .filter(|&key| !within_bucket || buckets[key] == buckets[n - 1])
            .collect()
    }

    /// Attention of the newest position by its definition.
    fn attend(q: &[Vec<f64>], v: &[Vec<f64>], rounds: &[Vec<usize>], once: bool) -> Vec<f64> {
        let own = q.len() - 1;
        let dot = |a: &[f64], b: &[f64]| -> f64 { a.iter().zip(b).map(|(a, b)| a * b).sum() };
        let all = || rounds.iter().flatten().copied();
        let weight = |key: usize| {
            let n_rounds = rounds.iter().filter(|round| round.contains(&key)).count();
            let logit = dot(&q[own], &q[key]) / dot(&q[key], &q[key]).sqrt();
            let weight = if key == own { 0.0 } else { logit.exp() };
            if once {
                weight / n_rounds as f64
            } else {
                weight
            }
        };
        let sum: f64 = all().map(weight).sum();
        if sum == 0.0 {
            return v[own].clone();
        }
        let feature = |i: usize| all().map(|key| weight(key) * v[key][i]).sum::<f64>() / sum;
        (0..v[0].len()).map(feature).collect()
    }

    fn rows(heads: &Tensor<Flex, 4>, batch: usize, head: usize) -> Vec<Vec<f64>> {
        let d = heads.dims()[3];
        let part = heads.clone().slice([batch..batch + 1, head..head + 1]);
        let values: Vec<f64> = part.into_data().iter::<f64>().collect();
        values.chunks(d).map(<[f64]>::to_vec).collect()
    }

    #[test]
    fn newest_sees_its_chunk_of_the_sorted_prefix_in_every_sequence() {
        let device = Default::default();
        let window = |before, after, within_bucket| {
            let window = Window::Chunk {
                before,
                after,
                within_bucket,
            };
            LshConfig::new()
                .with_window(window)
                .with_chunk_length(CHUNK)
                .with_n_buckets(Buckets::Count(8))
                .with_n_rounds(3)
        };
        let like_hugging_face = window(1, 0, false)
            .with_duplicates(Duplicates::Keep)
            .with_wrap_rounds(true);
        for lsh in [like_hugging_face, window(1, 0, false), window(0, 1, true)] {
            let heads = HeadsConfig::new(8, 2);
            let layer = LshAttentionConfig::new(heads, lsh.clone()).init::<Flex>(&device);
            let layer = Attention::Lsh(layer);
            let Attention::Lsh(attention) = &layer else {
                unreachable!()
            };
            let x =
                Tensor::<Flex, 3>::random([2, LENGTH, 8], Distribution::Normal(0.0, 2.0), &device);
            let queries = attention.heads.queries(x.clone());
            let values = attention
                .heads
                .queries_keys_values(queries.clone(), x.clone())
                .v;
            let buckets = attention.buckets(queries.clone(), &[8], &Pass::eval());
            let buckets: Vec<i64> = buckets.into_data().iter::<i64>().collect();

            let prompt = 40;
            let begun = x.clone().slice_dim(1, 0..prompt);
            let (_, mut cache) = LayerCache::prefill(&layer, begun, LENGTH, LENGTH);
            for at in prompt..LENGTH {
                let found = cache.step(&layer, x.clone().slice_dim(1, at..at + 1), &[at, at]);
                let mut expected = Vec::new();
                for (batch, head) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
                    let [q, v] = [&queries, &values].map(|t| rows(t, batch, head)[..=at].to_vec());
                    let of_head = &buckets[(batch * 2 + head) * 3 * LENGTH..][..3 * LENGTH];
                    let seen: Vec<Vec<usize>> = of_head
                        .chunks(LENGTH)
                        .map(|round| sorted_and_cut(&round[..=at], &lsh))
                        .collect();
                    let once = lsh.duplicates == Duplicates::Exact;
                    expected.extend(attend(&q, &v, &seen, once).iter().map(|&x| x as f32));
                }
                let expected = TensorData::new(expected, [2, 2, 1, 4]);
                let expected = attention.heads.join(Tensor::from_data(expected, &device));
                let difference = (found - expected).abs().max().into_scalar();
                assert!(difference < 1e-4, "{difference} at {at}: {lsh:?}");
            }
        }
    }

    #[test]
    fn a_local_layer_remembers_what_is_in_reach() {
        let local = LocalConfig::new().with_chunk_length(4).with_before(1);
        assert_eq!(remembered(&local), 8);
        let seen = sees_chunks(&local, 9);
        assert_eq!(
            (seen.own, seen.keys, seen.ends),
            (1, vec![4, 5, 6, 7, 0, 1], vec![6])
        );
        assert_eq!(sees_chunks(&local, 2).keys, [0, 1, 2]);
    }

    #[test]
    fn full_attention_is_taken_in_parts() {
        assert_eq!(sees_all(0).ends, [1]);
        assert_eq!(sees_all(127).ends, [128]);
        assert_eq!(sees_all(128).ends, [128, 129]);
        assert_eq!(sees_all(300).keys.len(), 301);
    }
}
