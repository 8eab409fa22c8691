//! A tile: a block of queries of one head, the keys in their reach, and their masks.
//!
//! Matrices of weights are transposed, `[keys, queries]`: per-query values are then in lanes, so
//! masks, maxima and sums are plain vector arithmetic without shuffles, and the rows of keys and
//! values need no transposition.

use pulp::Simd;

use super::head::{Places, Rules};
use super::simd::{exp_f32s, padded};
use crate::kernels::KeyRule;
use crate::kernels::reference::{FORBIDDEN, SELF};

/// Position of an empty slot, and of a key that is never visible.
pub(super) const NOWHERE: u32 = u32::MAX;

/// A value that is neither a position of a sequence nor [`NOWHERE`].
const ALL_OTHERS: u32 = u32::MAX - 1;

/// Compiles a block for each kind of rules, with two constants: whether keys have to be near in the tile's own round, and
/// whether weights are divided by the number of rounds.
macro_rules! for_rules {
    ($rules:expr, $near:ident, $count:ident => $block:block) => {
        let count = $rules.places.as_ref().is_some_and(|places| places.count);
        match ($rules.keys, count) {
            (KeyRule::Across, false) => for_rules!(false, false, $near, $count, $block),
            (KeyRule::Across, true) => for_rules!(false, true, $near, $count, $block),
            (_, false) => for_rules!(true, false, $near, $count, $block),
            (_, true) => for_rules!(true, true, $near, $count, $block),
        }
    };
    ($is_near:literal, $counts:literal, $near:ident, $count:ident, $block:block) => {{
        const $near: bool = $is_near;
        const $count: bool = $counts;
        $block
    }};
}

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
    /// Its hash round.
    round: usize,
    /// Places and buckets of queries, `[n_rounds, queries]`, and of keys, `[keys, n_rounds]`. Places of queries are
    /// shifted by [`Places::after`], so that one comparison checks the distance.
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
        self.round = round;
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
            self.look_up(places);
        }
    }

    /// Lays out places and, if required, buckets in the order of the comparisons.
    fn look_up(&mut self, places: &Places) {
        let (n_rounds, n_queries) = (places.n_rounds, self.queries.len());
        let kinds = self.query_places.iter_mut().zip(&mut self.key_places);
        let of_both = [(&places.places, places.after), (&places.buckets, 0)];
        for ((of_queries, of_keys), (of_positions, shift)) in kinds.zip(of_both) {
            if of_positions.is_empty() {
                continue;
            }
            let rounds = |position: u32| &of_positions[position as usize * n_rounds..][..n_rounds];
            of_keys.resize(n_rounds * self.keys.len(), 0);
            for (to, &key) in of_keys.chunks_exact_mut(n_rounds).zip(&self.keys) {
                // A loop, since a copy would call `memcpy` for each key.
                for (to, place) in to.iter_mut().zip(rounds(key)) {
                    *to = *place;
                }
            }
            of_queries.clear();
            of_queries.resize(n_rounds * n_queries, 0);
            for (i, &query) in self.queries[..self.n_queries].iter().enumerate() {
                if query != NOWHERE {
                    for (round, place) in rounds(query).iter().enumerate() {
                        of_queries[round * n_queries + i] = place + shift;
                    }
                }
            }
        }
    }

    /// Masks logits, `[keys, queries]`, and replaces them by weights `exp(logit - max) / N`, where `max` is set to
    /// the largest logit of each query and `sums` to the sum of its weights.
    #[inline(always)]
    pub(super) fn softmax<S: Simd>(
        &self,
        simd: S,
        rules: &Rules,
        logits: &mut [f32],
        max: &mut Vec<f32>,
        sums: &mut Vec<f32>,
    ) {
        max.resize(self.queries.len(), 0.0);
        sums.resize(self.queries.len(), 0.0);
        let (logits, _) = S::as_mut_simd_f32s(logits);
        let (max, _) = S::as_mut_simd_f32s(max);
        let (sums, _) = S::as_mut_simd_f32s(sums);
        let n = max.len();
        for_rules!(rules, NEAR, COUNT => {
            for register in 0..n {
                let queries = Queries::<S, NEAR, COUNT>::new(simd, self, rules, register);
                let mut largest = simd.splat_f32s(f32::NEG_INFINITY);
                for (key, row) in logits.chunks_exact_mut(n).enumerate() {
                    let masked = queries.masked(key, row[register]);
                    let larger = simd.less_than_f32s(largest, masked);
                    largest = simd.select_f32s(larger, masked, largest);
                    row[register] = masked;
                }
                let mut sum = simd.splat_f32s(0.0);
                for (key, row) in logits.chunks_exact_mut(n).enumerate() {
                    let weights = exp_f32s(simd, simd.sub_f32s(row[register], largest));
                    let weights = queries.divided(key, weights);
                    sum = simd.add_f32s(sum, weights);
                    row[register] = weights;
                }
                (max[register], sums[register]) = (largest, sum);
            }
        });
    }

    /// Masks logits, `[keys, queries]`, and replaces them by weights, given the two parts of each query's
    /// log-sum-exp. The larger part is subtracted first: see
    /// [`AttentionOutput`](crate::kernels::AttentionOutput).
    #[inline(always)]
    pub(super) fn weights<S: Simd>(
        &self,
        simd: S,
        rules: &Rules,
        logits: &mut [f32],
        [max, log_sum]: [&[f32]; 2],
    ) {
        let (logits, _) = S::as_mut_simd_f32s(logits);
        let (max, _) = S::as_simd_f32s(max);
        let (log_sum, _) = S::as_simd_f32s(log_sum);
        let n = max.len();
        for_rules!(rules, NEAR, COUNT => {
            for register in 0..n {
                let queries = Queries::<S, NEAR, COUNT>::new(simd, self, rules, register);
                let (max, log_sum) = (max[register], log_sum[register]);
                for (key, row) in logits.chunks_exact_mut(n).enumerate() {
                    let below = simd.sub_f32s(queries.masked(key, row[register]), max);
                    let weights = exp_f32s(simd, simd.sub_f32s(below, log_sum));
                    row[register] = queries.divided(key, weights);
                }
            }
        });
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

/// The queries of a register, and how they see keys. For the constants, see `for_rules`.
struct Queries<'a, S: Simd, const NEAR: bool, const COUNT: bool> {
    simd: S,
    tile: &'a Tile,
    rules: &'a Rules<'a>,
    /// Number of the register, and of all registers of queries.
    register: usize,
    n_registers: usize,
    positions: S::u32s,
    last_visible: S::u32s,
    n_rounds: usize,
    width: S::u32s,
}

impl<'a, S: Simd, const NEAR: bool, const COUNT: bool> Queries<'a, S, NEAR, COUNT> {
    #[inline(always)]
    fn new(simd: S, tile: &'a Tile, rules: &'a Rules<'a>, register: usize) -> Self {
        let places = rules.places.as_ref();
        let (positions, _) = S::as_simd_u32s(&tile.queries);
        Self {
            simd,
            tile,
            rules,
            register,
            n_registers: positions.len(),
            positions: positions[register],
            last_visible: S::as_simd_u32s(&tile.last_visible).0[register],
            n_rounds: places.map_or(0, |places| places.n_rounds),
            width: simd.splat_u32s(places.map_or(0, |places| places.width)),
        }
    }

    /// The logits of a key, or [`SELF`] or [`FORBIDDEN`] according to the rules.
    #[inline(always)]
    fn masked(&self, key: usize, logits: S::f32s) -> S::f32s {
        let simd = self.simd;
        let visible = simd.splat_u32s(self.tile.visible[key]);
        let mut seen = simd.less_than_or_equal_u32s(visible, self.last_visible);
        if NEAR {
            seen = simd.and_m32s(seen, self.near(self.tile.round, key));
        }
        let other = simd.select_f32s(seen, logits, simd.splat_f32s(FORBIDDEN));
        simd.select_f32s(self.is_own(key), simd.splat_f32s(SELF), other)
    }

    /// Weights divided by `N_ij`, the number of rounds in which query `i` sees key `j`: the same as
    /// subtracting `log N_ij` from the logits. Divisors of zero weights do not matter.
    #[inline(always)]
    fn divided(&self, key: usize, weights: S::f32s) -> S::f32s {
        if !COUNT {
            return weights;
        }
        let simd = self.simd;
        let (zero, one) = (simd.splat_f32s(0.0), simd.splat_f32s(1.0));
        let mut counts = one;
        let own = self.tile.round;
        for others in [0..own, own + 1..self.n_rounds] {
            for round in others {
                let near = self.near(round, key);
                counts = simd.add_f32s(counts, simd.select_f32s(near, one, zero));
            }
        }
        // `SELF` is independent of the original logit and is not divided.
        let counts = simd.select_f32s(self.is_own(key), one, counts);
        simd.div_f32s(weights, counts)
    }

    /// Whether a key is a query's own, whose logit is replaced by [`SELF`].
    #[inline(always)]
    fn is_own(&self, key: usize) -> S::m32s {
        let own = self.simd.splat_u32s(self.tile.own(self.rules, key));
        self.simd.equal_u32s(own, self.positions)
    }

    /// Whether queries see a key in a round, according to places and, with `NEAR`, buckets.
    #[inline(always)]
    fn near(&self, round: usize, key: usize) -> S::m32s {
        let simd = self.simd;
        let of_queries = round * self.n_registers + self.register;
        let of_key = key * self.n_rounds + round;
        let (places, _) = S::as_simd_u32s(&self.tile.query_places[0]);
        let place = simd.splat_u32s(self.tile.key_places[0][of_key]);
        let distance = simd.sub_u32s(places[of_queries], place);
        let near = simd.less_than_or_equal_u32s(distance, self.width);
        if !NEAR {
            return near;
        }
        let (buckets, _) = S::as_simd_u32s(&self.tile.query_places[1]);
        let bucket = simd.splat_u32s(self.tile.key_places[1][of_key]);
        simd.and_m32s(near, simd.equal_u32s(buckets[of_queries], bucket))
    }
}
