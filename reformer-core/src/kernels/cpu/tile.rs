//! A tile: some queries of one head, the keys in their reach, and the rules between them.
//!
//! Matrices of weights lie transposed, `[keys, queries]`: what is known of a query then stands in
//! lanes, so that masks, maxima and sums are plain vector arithmetic without any shuffling, and
//! the rows of keys and values need no transposing.

use super::head::Rules;
use super::simd::{LANES, exp, padded};
use crate::kernels::KeyRule;
use crate::kernels::reference::{FORBIDDEN, SELF};

/// Position of a slot that holds none, and of a key that nobody may see.
pub(super) const NOWHERE: u32 = u32::MAX;

/// Which positions meet in a tile, and what is known of them.
#[derive(Default)]
pub(super) struct Tile {
    /// Positions of the queries, [`NOWHERE`] where there is none: padded to lanes.
    pub(super) queries: Vec<u32>,
    /// Slots of queries, without what pads them.
    pub(super) n_queries: usize,
    /// Positions of the keys. Empty slots are left out.
    pub(super) keys: Vec<u32>,
    /// Number of each key among the slots in reach.
    pub(super) key_slots: Vec<u32>,
    /// Slots in reach, those without a key included.
    pub(super) reach: usize,
    /// Hash round, for the rules about buckets.
    round: usize,
    /// Last position that each query may see.
    last_visible: Vec<u32>,
    /// Positions of the keys, [`NOWHERE`] for padding.
    visible: Vec<u32>,
    /// Places and buckets of queries, `[n_rounds, queries]`, and of keys, `[keys, n_rounds]`.
    query_places: [Vec<u32>; 2],
    key_places: [Vec<u32>; 2],
}

impl Tile {
    /// Begins a tile of the given queries; [`push_keys`](Self::push_keys) and
    /// [`finish`](Self::finish) follow.
    pub(super) fn start(&mut self, queries: impl Iterator<Item = u32>) {
        self.queries.clear();
        self.queries.extend(queries);
        let is_real = |query: &u32| *query != NOWHERE;
        self.n_queries = self
            .queries
            .iter()
            .rposition(is_real)
            .map_or(0, |last| last + 1);
        self.queries.truncate(self.n_queries);
        self.queries.resize(padded(self.n_queries), NOWHERE);
        self.keys.clear();
        self.key_slots.clear();
        self.reach = 0;
    }

    /// Adds slots to the reach of the tile.
    pub(super) fn push_keys(&mut self, slots: impl Iterator<Item = u32>) {
        for position in slots {
            if position != NOWHERE {
                self.keys.push(position);
                self.key_slots.push(self.reach as u32);
            }
            self.reach += 1;
        }
    }

    /// Looks up what the rules ask about queries and keys. A tile without queries loses its keys.
    pub(super) fn finish(&mut self, round: usize, rules: &Rules) {
        self.round = round;
        if self.n_queries == 0 {
            self.keys.clear();
            return;
        }
        self.last_visible.clear();
        self.last_visible
            .extend(self.queries.iter().map(|&query| match rules.causal {
                true => query,
                false => NOWHERE - 1,
            }));
        self.visible.clear();
        self.visible
            .extend(self.keys.iter().map(|&key| match rules.padded {
                Some(padded) if padded[key as usize] => NOWHERE,
                _ => key,
            }));
        let Some(places) = &rules.places else {
            return;
        };
        let n_rounds = places.n_rounds;
        let kinds = self.query_places.iter_mut().zip(&mut self.key_places);
        for ((of_queries, of_keys), of_positions) in kinds.zip([&places.places, &places.buckets]) {
            let all_rounds =
                |position: u32| &of_positions[position as usize * n_rounds..][..n_rounds];
            of_keys.clear();
            for &key in &self.keys {
                of_keys.extend_from_slice(all_rounds(key));
            }
            of_queries.clear();
            of_queries.resize(n_rounds * self.queries.len(), 0);
            for (i, &query) in self.queries.iter().enumerate() {
                if query != NOWHERE {
                    for (round, place) in all_rounds(query).iter().enumerate() {
                        of_queries[round * self.queries.len() + i] = *place;
                    }
                }
            }
        }
    }

    /// Replaces logits by [`SELF`] and [`FORBIDDEN`] where the rules say so.
    ///
    /// Logits are `[keys, queries]`, as are all matrices here.
    #[inline(always)]
    pub(super) fn mask(&self, rules: &Rules, logits: &mut [f32]) {
        match rules.keys {
            KeyRule::Across => self.mask_by::<false>(rules, logits),
            KeyRule::SameBucket | KeyRule::Band(_) => self.mask_by::<true>(rules, logits),
        }
    }

    #[inline(always)]
    fn mask_by<const NEAR: bool>(&self, rules: &Rules, logits: &mut [f32]) {
        let (queries, _) = self.queries.as_chunks::<LANES>();
        let (last_visible, _) = self.last_visible.as_chunks::<LANES>();
        let itself = if rules.exclude_self { SELF } else { FORBIDDEN };
        for (key, row) in logits.chunks_exact_mut(self.queries.len()).enumerate() {
            let position = self.keys[key];
            let own = if rules.exclude_self {
                position
            } else {
                NOWHERE
            };
            let visible = self.visible[key];
            let (row, _) = row.as_chunks_mut::<LANES>();
            for (lanes, row) in row.iter_mut().enumerate() {
                let near = match NEAR {
                    true => self.near(rules, self.round, key, lanes),
                    false => [true; LANES],
                };
                let (queries, last_visible) = (&queries[lanes], &last_visible[lanes]);
                for i in 0..LANES {
                    let seen = (visible <= last_visible[i]) & near[i];
                    let other = if seen { row[i] } else { FORBIDDEN };
                    row[i] = if queries[i] == own { itself } else { other };
                }
            }
        }
    }

    /// Whether some queries would see a key in a round, as far as places and buckets go.
    #[inline(always)]
    fn near(&self, rules: &Rules, round: usize, key: usize, lanes: usize) -> [bool; LANES] {
        let Some(places) = &rules.places else {
            return [true; LANES];
        };
        let of = |kind: usize| {
            let row = &self.query_places[kind][round * self.queries.len()..];
            let (row, _) = row.as_chunks::<LANES>();
            (
                &row[lanes],
                self.key_places[kind][key * places.n_rounds + round],
            )
        };
        let ((query_place, place), (query_bucket, bucket)) = (of(0), of(1));
        core::array::from_fn(|i| {
            let distance = query_place[i]
                .wrapping_sub(place)
                .wrapping_add(places.after);
            (distance <= places.width) & (query_bucket[i] == bucket)
        })
    }

    /// Divides weights by `N_ij`, the number of rounds in which query `i` sees key `j`: what
    /// taking `log N_ij` off the logits amounts to. Zero weights may be divided by anything.
    #[inline(always)]
    pub(super) fn divide_by_counts(&self, rules: &Rules, weights: &mut [f32]) {
        let Some(places) = rules.places.as_ref().filter(|places| places.count) else {
            return;
        };
        let (queries, _) = self.queries.as_chunks::<LANES>();
        for (key, row) in weights.chunks_exact_mut(self.queries.len()).enumerate() {
            let own = if rules.exclude_self {
                self.keys[key]
            } else {
                NOWHERE
            };
            let (row, _) = row.as_chunks_mut::<LANES>();
            for (lanes, row) in row.iter_mut().enumerate() {
                let mut counts = [1.0; LANES];
                for round in (0..places.n_rounds).filter(|round| *round != self.round) {
                    let near = self.near(rules, round, key, lanes);
                    for i in 0..LANES {
                        counts[i] += if near[i] { 1.0 } else { 0.0 };
                    }
                }
                for i in 0..LANES {
                    // `SELF` stands for whatever the logit was.
                    row[i] /= if queries[lanes][i] == own {
                        1.0
                    } else {
                        counts[i]
                    };
                }
            }
        }
    }

    /// Turns masked logits into `exp(logit - max)`, where `max` ends as the largest of each query.
    #[inline(always)]
    pub(super) fn exp_below_max(&self, logits: &mut [f32], max: &mut Vec<f32>) {
        let n = self.queries.len();
        max.clear();
        max.resize(n, f32::NEG_INFINITY);
        for row in logits.chunks_exact(n) {
            for (max, &logit) in max.iter_mut().zip(row) {
                *max = if logit > *max { logit } else { *max };
            }
        }
        for row in logits.chunks_exact_mut(n) {
            for (logit, &max) in row.iter_mut().zip(max.iter()) {
                *logit = exp(*logit - max);
            }
        }
    }

    /// Turns masked logits into weights, given the two parts of each query's log-sum-exp. The
    /// larger part goes first: see [`AttentionOutput`](crate::kernels::AttentionOutput).
    #[inline(always)]
    pub(super) fn exp_below(&self, logits: &mut [f32], [max, log_sum]: [&[f32]; 2]) {
        for row in logits.chunks_exact_mut(self.queries.len()) {
            for ((logit, &max), &log_sum) in row.iter_mut().zip(max).zip(log_sum) {
                *logit = exp((*logit - max) - log_sum);
            }
        }
    }

    /// Sum over the keys for each query.
    #[inline(always)]
    pub(super) fn sum_over_keys(&self, weights: &[f32], sums: &mut Vec<f32>) {
        let n = self.queries.len();
        sums.clear();
        sums.resize(n, 0.0);
        for row in weights.chunks_exact(n) {
            for (sum, weight) in sums.iter_mut().zip(row) {
                *sum += weight;
            }
        }
    }

    /// From gradients of weights to those of logits: `p (dp - D)`, and nothing where the logit is
    /// a constant.
    #[inline(always)]
    pub(super) fn grad_logits(
        &self,
        rules: &Rules,
        grad_weights: &mut [f32],
        weights: &[f32],
        delta: &[f32],
    ) {
        let n = self.queries.len();
        let rows = grad_weights
            .chunks_exact_mut(n)
            .zip(weights.chunks_exact(n));
        for ((grads, weights), &key) in rows.zip(&self.keys) {
            let own = if rules.exclude_self { key } else { NOWHERE };
            let known = delta.iter().zip(&self.queries);
            for ((grad, weight), (delta, &query)) in grads.iter_mut().zip(weights).zip(known) {
                let of_logit = weight * (*grad - delta);
                *grad = if query == own { 0.0 } else { of_logit };
            }
        }
    }
}
