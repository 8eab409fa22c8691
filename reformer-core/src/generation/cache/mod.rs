//! Cache of an attention layer for the positions before the newest one.

mod hashed;
mod rows;
mod source;
mod visible_rows;

use core::ops::Range;

use burn::tensor::Tensor;
use burn::tensor::backend::Backend;

use self::rows::KeysValues;
pub(super) use self::source::CrossCache;
use self::visible_rows::VisibleRows;
use crate::attention::{Attention, ProjectedAttention};
use crate::kernels::{Qkv, ReformerBackend};
use crate::pass::Pass;

/// Maximum length of sequences, and the length that replaces theirs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lengths {
    /// See [`Pass::with_context`].
    pub(super) context: usize,
    /// Capacity in positions.
    pub(super) max: usize,
}

/// Keys and values of one attention layer for the sequences of a batch, and which of them are
/// visible.
///
/// The cost of a token depends on the visible keys: the window of every hash round, or the chunks
/// in reach of a local layer, which caches only those. In full attention all keys are visible.
#[derive(Debug, Clone)]
pub(super) struct LayerCache<B: Backend> {
    rows: KeysValues<B>,
    visible: VisibleRows<B>,
    /// Masked rows between a source and the sequence's own first row, where the range ends: the
    /// padding of the source. Empty without a source.
    padding: Vec<Range<usize>>,
}

impl<B: ReformerBackend> LayerCache<B> {
    /// An empty cache for as many sequences as there are sources.
    ///
    /// # Shapes
    /// - sources: `[batch_size, source_length, d_model]`, the input of attention
    pub(super) fn empty(
        attention: &Attention<B>,
        sources: &Tensor<B, 3>,
        lengths: Lengths,
    ) -> Self {
        let [batch_size, ..] = sources.dims();
        let visible = VisibleRows::new(attention, lengths.context, batch_size);
        Self {
            rows: KeysValues::empty(attention.heads(), sources, visible.most(lengths.max)),
            visible,
            padding: vec![0..0; batch_size],
        }
    }

    /// Caches sources, `real` positions of each without padding, as the beginnings of the
    /// sequences. `lengths` do not include them.
    ///
    /// # Shapes
    /// - sources: `[batch_size, source_length, d_model]`, the input of attention
    pub(super) fn of_sources(
        attention: &Attention<B>,
        sources: Tensor<B, 3>,
        real: &[usize],
        lengths: Lengths,
    ) -> Self {
        let [batch_size, source_length, _] = sources.dims();
        let heads = attention.heads();
        let queries = heads.queries(sources.clone());
        let qkv = heads.queries_keys_values(queries.clone(), sources);
        let mut visible = VisibleRows::new(attention, source_length + lengths.context, batch_size);
        visible.read(attention.hashed_queries(queries, &qkv.q), None, real);
        let most = visible.most(source_length + lengths.max);
        Self {
            rows: KeysValues::new(B::key_rows(&qkv), qkv.v, most),
            visible,
            padding: real.iter().map(|&real| real..source_length).collect(),
        }
    }

    /// Attention among the first positions of sequences, which are added to a new cache.
    ///
    /// # Shapes
    /// - x, output: `[batch_size, seq_length, d_model]`
    pub(super) fn prefill(
        attention: &Attention<B>,
        x: Tensor<B, 3>,
        lengths: Lengths,
    ) -> (Tensor<B, 3>, Self) {
        let [batch_size, seq_length, _] = x.dims();
        let pass = Pass::eval().with_context(Some(lengths.context));
        let queries = attention.heads().queries(x.clone());
        let mut visible = VisibleRows::new(attention, lengths.context, batch_size);
        let mut shown = None;
        let show = |qkv: &Qkv<B>| {
            let (k, v) = (B::key_rows(qkv), qkv.v.clone());
            shown = Some((
                KeysValues::new(k, v, visible.most(lengths.max)),
                qkv.q.clone(),
            ));
        };
        let attended = attention.attend(queries.clone(), x, &pass, show);
        let (rows, rotated) = shown.expect("every kind of attention shows them");
        let hashed = attention.hashed_queries(queries, &rotated);
        visible.read(hashed, attended.buckets, &vec![seq_length; batch_size]);
        let cache = Self {
            rows,
            visible,
            padding: vec![0..0; batch_size],
        };
        (attended.output, cache)
    }

    /// Attention from the next position of each sequence, which is added to the cache.
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
        let after = |(position, padding): (&usize, &Range<usize>)| padding.end + position;
        let places: Vec<usize> = positions.iter().zip(&self.padding).map(after).collect();
        let qkv = heads.queries_keys_values_at(queries.clone(), x, positions);
        let hashed = attention.hashed_queries(queries, &qkv.q);
        let visible = self.visible.advance(hashed, &places, &self.padding);
        let rows: Vec<usize> = places
            .iter()
            .map(|&place| self.visible.row(place))
            .collect();
        self.rows.write(&rows, B::key_rows(&qkv), qkv.v);
        let output = B::decode_attention(qkv.q, self.rows.both(), &visible, heads.share_qk());
        heads.join(output)
    }

    /// Continues with these sequences.
    pub(super) fn select(&mut self, rows: &[usize]) {
        self.rows.select(rows);
        self.visible.select(rows);
        self.padding = rows.iter().map(|&row| self.padding[row].clone()).collect();
    }

    /// Joins the caches of one layer into that of a batch.
    pub(super) fn join(caches: Vec<Self>) -> Option<Self> {
        let (mut rows, mut all_visible, mut padding) = (Vec::new(), Vec::new(), Vec::new());
        for cache in caches {
            rows.push(cache.rows);
            all_visible.push(cache.visible);
            padding.extend(cache.padding);
        }
        Some(Self {
            rows: KeysValues::join(rows),
            visible: VisibleRows::join(all_visible)?,
            padding,
        })
    }

    /// Memory that a sequence of the maximum length takes at most, in bytes.
    pub(super) fn bytes_of_sequence(attention: &Attention<B>, lengths: Lengths) -> usize {
        let a_row = KeysValues::bytes_of_row(attention.heads());
        let (n_rows, of_buckets) = VisibleRows::of_sequence(attention, lengths);
        n_rows.saturating_mul(a_row).saturating_add(of_buckets)
    }

    /// Memory in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.rows.bytes() + self.visible.bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attention::{Buckets, HeadsConfig, LshAttentionConfig, LshConfig, Window};
    use crate::kernels::Duplicates;
    use burn::tensor::{Distribution, TensorData};
    use burn_flex::Flex;

    const LENGTH: usize = 60;
    const CHUNK: usize = 6;

    /// The keys that the newest position sees in a round, by sorting all positions again: as in
    /// Hugging Face, its chunk of the sorted prefix and the preceding ones.
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

    /// Attention of the newest position, computed from the definition.
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
                .with_local_round(false)
        };
        let like_hugging_face = window(1, 0, false)
            .with_duplicates(Duplicates::Keep)
            .with_wrap_rounds(true);
        for lsh in [
            like_hugging_face,
            window(1, 0, false),
            window(0, 1, true),
            window(1, 0, false).with_local_round(true),
        ] {
            let heads = HeadsConfig::new(8, 2);
            let layer = LshAttentionConfig::new(heads, lsh.clone()).init::<Flex>(&device);
            let layer = Attention::Lsh(layer);
            let attention = layer.lsh().expect("made above");
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
            let lengths = Lengths {
                context: LENGTH,
                max: LENGTH,
            };
            let begun = x.clone().slice_dim(1, 0..prompt);
            let (_, mut cache) = LayerCache::prefill(&layer, begun, lengths);
            for at in prompt..LENGTH {
                let found = cache.step(&layer, x.clone().slice_dim(1, at..at + 1), &[at, at]);
                let mut expected = Vec::new();
                for (batch, head) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
                    let [q, v] = [&queries, &values].map(|t| rows(t, batch, head)[..=at].to_vec());
                    let of_head = &buckets[(batch * 2 + head) * 3 * LENGTH..][..3 * LENGTH];
                    let local = lsh.local_round.then_some(&[0; LENGTH][..]);
                    let rounds = local.into_iter().chain(of_head.chunks(LENGTH));
                    let seen: Vec<Vec<usize>> = rounds
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
}
