//! A tile: a block of queries of one head, the keys in their reach, and their masks.
//!
//! Matrices of weights are transposed, `[keys, queries]`: per-query values are then in lanes, so
//! masks, maxima and sums are plain vector arithmetic without shuffles, and the rows of keys and
//! values need no transposition.

use pulp::Simd;

use super::head::{Places, Rules};
use super::simd::{exp, padded};
use crate::kernels::KeyRule;
use crate::kernels::reference::{FORBIDDEN, SELF};

/// Position of an empty slot, and of a key that is never visible.
pub(super) const NOWHERE: u32 = u32::MAX;

/// A value that is neither a position of a sequence nor [`NOWHERE`].
const ALL_OTHERS: u32 = u32::MAX - 1;

/// Queries and keys of a tile, with their metadata.
#[derive(Default)]
pub(super) struct Tile {
    /// Positions of the queries, [`NOWHERE`] for empty slots; padded to lanes.
    pub(super) queries: Vec<u32>,
    /// Number of query slots, without padding to lanes.
    pub(super) n_queries: usize,
    /// Positions of the keys, without empty slots.
    pub(super) keys: Vec<u32>,
    /// Index of each key among the slots in reach.
    pub(super) key_slots: Vec<u32>,
    /// Number of slots in reach, including empty ones.
    pub(super) reach: usize,
    /// Last position that is visible to each query.
    last_visible: Vec<u32>,
    /// Positions of the keys, [`NOWHERE`] for padding.
    visible: Vec<u32>,
    /// Places and buckets of queries, `[n_rounds, queries]`, and of keys, `[keys, n_rounds]`, in the
    /// tile's own round first. Places of queries are shifted by [`Places::after`], so that one
    /// comparison checks the distance.
    query_places: [Vec<u32>; 2],
    key_places: [Vec<u32>; 2],
}

impl Tile {
    /// Starts a tile with the given queries; [`push_keys`](Self::push_keys) and
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

    /// Prepares the masks of queries and keys. Removes the keys of a tile without queries.
    pub(super) fn finish(&mut self, round: usize, rules: &Rules) {
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
        if let Some(places) = &rules.places {
            self.look_up(places, round);
        }
    }

    /// Lays out places and, if required, buckets in the order of the comparisons.
    fn look_up(&mut self, places: &Places, round: usize) {
        let (n_rounds, n_queries) = (places.n_rounds, self.queries.len());
        let kinds = self.query_places.iter_mut().zip(&mut self.key_places);
        let of_both = [(&places.places, places.after), (&places.buckets, 0)];
        for ((of_queries, of_keys), (of_positions, shift)) in kinds.zip(of_both) {
            if of_positions.is_empty() {
                continue;
            }
            // The own round first, then those before it, then those after it.
            let all_rounds = |position: u32| {
                let all = &of_positions[position as usize * n_rounds..][..n_rounds];
                let (before, own_and_after) = all.split_at(round);
                let (own, after) = own_and_after.split_at(1);
                own.iter().chain(before).chain(after)
            };
            of_keys.resize(n_rounds * self.keys.len(), 0);
            for (to, &key) in of_keys.chunks_exact_mut(n_rounds).zip(&self.keys) {
                for (to, place) in to.iter_mut().zip(all_rounds(key)) {
                    *to = *place;
                }
            }
            of_queries.clear();
            of_queries.resize(n_rounds * n_queries, 0);
            for (i, &query) in self.queries[..self.n_queries].iter().enumerate() {
                if query != NOWHERE {
                    for (round, place) in all_rounds(query).enumerate() {
                        of_queries[round * n_queries + i] = place + shift;
                    }
                }
            }
        }
    }

    /// Replaces logits by [`SELF`] and [`FORBIDDEN`] according to the rules.
    ///
    /// Logits are `[keys, queries]`, as are all matrices here.
    #[inline(always)]
    pub(super) fn mask<S: Simd>(&self, simd: S, rules: &Rules, logits: &mut [f32]) {
        match rules.keys {
            KeyRule::Across => self.mask_by::<S, false>(simd, rules, logits),
            KeyRule::SameBucket | KeyRule::Band(_) => self.mask_by::<S, true>(simd, rules, logits),
        }
    }

    #[inline(always)]
    fn mask_by<S: Simd, const NEAR: bool>(&self, simd: S, rules: &Rules, logits: &mut [f32]) {
        let (queries, _) = S::as_simd_u32s(&self.queries);
        let (last_visible, _) = S::as_simd_u32s(&self.last_visible);
        let near = Near::new(self, rules);
        let forbidden = simd.splat_f32s(FORBIDDEN);
        let itself = simd.splat_f32s(SELF);
        for (key, row) in logits.chunks_exact_mut(self.queries.len()).enumerate() {
            let own = simd.splat_u32s(self.own(rules, key));
            let visible = simd.splat_u32s(self.visible[key]);
            let (row, _) = S::as_mut_simd_f32s(row);
            for (lanes, logits) in row.iter_mut().enumerate() {
                let mut seen = simd.less_than_or_equal_u32s(visible, last_visible[lanes]);
                if NEAR && let Some(near) = &near {
                    seen = simd.and_m32s(seen, near.in_round::<S, true>(simd, 0, key, lanes));
                }
                let other = simd.select_f32s(seen, *logits, forbidden);
                let is_own = simd.equal_u32s(own, queries[lanes]);
                *logits = simd.select_f32s(is_own, itself, other);
            }
        }
    }

    /// The query whose logit with a key is replaced by [`SELF`].
    #[inline(always)]
    fn own(&self, rules: &Rules, key: usize) -> u32 {
        if rules.exclude_self {
            self.keys[key]
        } else {
            ALL_OTHERS
        }
    }

    /// Divides weights by `N_ij`, the number of rounds in which query `i` sees key `j`: the same as
    /// subtracting `log N_ij` from the logits. Divisors of zero weights do not matter.
    #[inline(always)]
    pub(super) fn divide_by_counts<S: Simd>(&self, simd: S, rules: &Rules, weights: &mut [f32]) {
        if !rules.places.as_ref().is_some_and(|places| places.count) {
            return;
        }
        match rules.keys {
            KeyRule::Across => self.divide_by::<S, false>(simd, rules, weights),
            KeyRule::SameBucket | KeyRule::Band(_) => {
                self.divide_by::<S, true>(simd, rules, weights);
            }
        }
    }

    #[inline(always)]
    fn divide_by<S: Simd, const BUCKETS: bool>(&self, simd: S, rules: &Rules, weights: &mut [f32]) {
        let Some(near) = Near::new(self, rules) else {
            return;
        };
        let (queries, _) = S::as_simd_u32s(&self.queries);
        let (zero, one) = (simd.splat_f32s(0.0), simd.splat_f32s(1.0));
        for (key, row) in weights.chunks_exact_mut(self.queries.len()).enumerate() {
            let own = simd.splat_u32s(self.own(rules, key));
            let (row, _) = S::as_mut_simd_f32s(row);
            for (lanes, weights) in row.iter_mut().enumerate() {
                let mut counts = one;
                for round in 1..near.n_rounds {
                    let near = near.in_round::<S, BUCKETS>(simd, round, key, lanes);
                    counts = simd.add_f32s(counts, simd.select_f32s(near, one, zero));
                }
                // `SELF` is independent of the original logit and is not divided.
                let is_own = simd.equal_u32s(own, queries[lanes]);
                let counts = simd.select_f32s(is_own, one, counts);
                *weights = simd.div_f32s(*weights, counts);
            }
        }
    }

    /// Replaces masked logits by `exp(logit - max)`; `max` is set to the largest of each query.
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

    /// Replaces masked logits by weights, given the two parts of each query's log-sum-exp. The
    /// larger part is subtracted first: see [`AttentionOutput`](crate::kernels::AttentionOutput).
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

    /// Turns gradients of weights into those of logits: `p (dp - D)`, and zero if the logit is a
    /// constant.
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
        for (key, (grads, weights)) in rows.enumerate() {
            let own = self.own(rules, key);
            let known = delta.iter().zip(&self.queries);
            for ((grad, weight), (delta, &query)) in grads.iter_mut().zip(weights).zip(known) {
                let of_logit = weight * (*grad - delta);
                *grad = if query == own { 0.0 } else { of_logit };
            }
        }
    }
}

/// Places and buckets of a tile, to be compared. Rounds are numbered from the tile's own one on.
struct Near<'a> {
    n_rounds: usize,
    n_queries: usize,
    width: u32,
    query_places: [&'a [u32]; 2],
    key_places: [&'a [u32]; 2],
}

impl<'a> Near<'a> {
    fn new(tile: &'a Tile, rules: &Rules) -> Option<Self> {
        let places = rules.places.as_ref()?;
        Some(Self {
            n_rounds: places.n_rounds,
            n_queries: tile.queries.len(),
            width: places.width,
            query_places: [&tile.query_places[0], &tile.query_places[1]],
            key_places: [&tile.key_places[0], &tile.key_places[1]],
        })
    }

    /// Whether queries see a key in a round, according to places and buckets.
    #[inline(always)]
    fn in_round<S: Simd, const BUCKETS: bool>(
        &self,
        simd: S,
        round: usize,
        key: usize,
        lanes: usize,
    ) -> S::m32s {
        let first = round * self.n_queries + lanes * S::U32_LANES;
        let of_key = key * self.n_rounds + round;
        let of_queries = |kind: usize| {
            let lanes = &self.query_places[kind][first..][..S::U32_LANES];
            S::as_simd_u32s(lanes).0[0]
        };
        let place = simd.splat_u32s(self.key_places[0][of_key]);
        let distance = simd.sub_u32s(of_queries(0), place);
        let near = simd.less_than_or_equal_u32s(distance, simd.splat_u32s(self.width));
        if !BUCKETS {
            return near;
        }
        let bucket = simd.splat_u32s(self.key_places[1][of_key]);
        simd.and_m32s(near, simd.equal_u32s(of_queries(1), bucket))
    }
}
