//! Attention inside tiles of a sorted sequence, one hash round after another.

use burn::tensor::backend::Backend;
use burn::tensor::{BasicOps, Bool, IndexingUpdateOp, Int, Tensor};

use super::Accumulator;
use super::keys::{key_rows, through_keys};
use super::tile::Tile;
use crate::kernels::{
    AttentionGradients, AttentionOutput, KeyRule, Qkv, ReformerBackend, Slots, TileShape,
    TiledAttention,
};
use crate::precision::widen;

/// See [`ReformerBackend::tiled_attention`].
pub fn tiled_attention<B: ReformerBackend>(
    qkv: Qkv<B>,
    slots: &Slots<B>,
    rules: &TiledAttention,
) -> AttentionOutput<B> {
    slots.check(&qkv, rules);
    let (k, Qkv { q, v, .. }) = (key_rows(&qkv), qkv);
    let mut state: Option<Accumulator<B>> = None;
    let n_rounds = slots.n_rounds();
    for round in 0..n_rounds {
        let round = Round::new(slots, rules, round);
        let (output, lse) = round.tile(&q, &k, &v).forward();
        state = Some(Accumulator::add(
            state,
            round.to_positions(output),
            round.to_positions(lse),
        ));
    }
    let mut attended = state.expect("a round at least").finish();
    if rules.rounds_like_the_peers(n_rounds) {
        attended = attended.rounded_like_the_peers();
    }
    attended.output = attended.output.cast(v.dtype());
    attended
}

/// See [`ReformerBackend::tiled_attention_backward`].
pub fn tiled_attention_backward<B: ReformerBackend>(
    qkv: Qkv<B>,
    slots: &Slots<B>,
    rules: &TiledAttention,
    output: AttentionOutput<B>,
    grad: Tensor<B, 4>,
) -> AttentionGradients<B> {
    slots.check(&qkv, rules);
    let (q, k, v) = (&qkv.q, &key_rows(&qkv), &qkv.v);
    let delta = (widen(output.output) * widen(grad.clone())).sum_dim(3);
    let [mut dq, mut dk, mut dv] = [q, k, v].map(|tensor| widen(tensor.zeros_like()));
    for round in 0..slots.n_rounds() {
        let round = Round::new(slots, rules, round);
        let grads = round.tile(q, k, v).backward(
            round.queries(&grad) * round.occupied().cast(grad.dtype()),
            round.queries(&output.max),
            round.queries(&output.log_sum),
            round.queries(&delta) * round.occupied(),
        );
        dq = dq + round.to_positions(grads.q);
        dk = round.add_to_keys(dk, grads.k);
        dv = round.add_to_keys(dv, grads.v);
    }
    through_keys(qkv, [dq, dk, dv])
}

/// One hash round: the positions in its slots, and the positions that its tiles reach.
struct Round<'a, B: Backend> {
    slots: &'a Slots<B>,
    rules: &'a TiledAttention,
    number: usize,
    n_tiles: usize,
    /// Position in each slot, -1 where empty: `[batch_size, n_heads, n_slots]`.
    own: Tensor<B, 3, Int>,
    /// The same with the neighbouring tiles on both ends:
    /// `[batch_size, n_heads, (before + n_tiles + after) * length]`.
    reach: Tensor<B, 3, Int>,
}

impl<'a, B: ReformerBackend> Round<'a, B> {
    fn new(slots: &'a Slots<B>, rules: &'a TiledAttention, number: usize) -> Self {
        let [batch_size, n_heads, _, n_slots] = slots.order.dims();
        let own = slots
            .order
            .clone()
            .slice_dim(2, number..number + 1)
            .reshape([batch_size, n_heads, n_slots]);
        Self {
            reach: reach(&slots.order, &own, number, rules.tile),
            n_tiles: n_slots / rules.tile.length,
            own,
            slots,
            rules,
            number,
        }
    }

    /// Inputs of the softmax of this round.
    fn tile(&self, q: &Tensor<B, 4>, k: &Tensor<B, 4>, v: &Tensor<B, 4>) -> Tile<B> {
        let rules = self.rules;
        let n_rounds = self.slots.n_rounds();
        let correct = rules.counts_rounds(n_rounds);
        let own = self.by_query(self.own.clone());
        Tile {
            q: self.queries(q),
            k: self.in_reach(self.rows(k, &self.reach)),
            v: self.in_reach(self.rows(v, &self.reach)),
            forbidden: Some(self.forbidden(&own)),
            itself: rules.exclude_self.then(|| {
                let keys = self.by_key(self.reach.clone());
                let shape = self.mask_shape();
                keys.expand(shape).equal(own.expand(shape))
            }),
            log_count: correct.then(|| self.log_count()),
            dropout: rules.dropout.map(|(rate, key)| {
                let key = key.fold(self.number as u64);
                B::dropout_factors(self.mask_shape(), rate, key, &q.device())
            }),
        }
    }

    /// `[batch_size, n_heads, n_tiles, queries in a tile, keys in reach]`
    fn mask_shape(&self) -> [usize; 5] {
        let [batch_size, n_heads, _] = self.own.dims();
        let TileShape { length, .. } = self.rules.tile;
        let keys = self.rules.tile.reach() * length;
        [batch_size, n_heads, self.n_tiles, length, keys]
    }

    /// Masked keys: later ones, padding, empty slots, other buckets.
    fn forbidden(&self, own: &Tensor<B, 5, Int>) -> Tensor<B, 5, Bool> {
        let shape = self.mask_shape();
        let seq_length = self.slots.slot_of.dims()[3] as i64;
        // Keys that are never visible get a position beyond the end, so one comparison is enough.
        let mut hidden = self.reach.clone().lower_elem(0);
        if let Some(mask_pad) = &self.slots.mask_pad {
            let [batch_size, n_heads, n_slots] = self.reach.dims();
            let mask_pad = mask_pad.clone().int().unsqueeze_dim::<3>(1).expand([
                batch_size,
                n_heads,
                seq_length as usize,
            ]);
            let padded = mask_pad.gather(2, self.reach.clone().clamp_min(0));
            hidden = hidden.bool_or(padded.reshape([batch_size, n_heads, n_slots]).bool());
        }
        let keys = self.by_key(self.reach.clone().mask_fill(hidden, seq_length));
        let mut forbidden = if self.rules.causal {
            keys.expand(shape).greater(own.clone().expand(shape))
        } else {
            keys.greater_equal_elem(seq_length).expand(shape)
        };
        if self.rules.keys != KeyRule::Across {
            let (of_query, of_key) = self.pairs(&self.slots.buckets, self.number);
            forbidden = forbidden.bool_or(of_query.not_equal(of_key));
        }
        if let KeyRule::Band(band) = self.rules.keys {
            let (of_query, of_key) = self.pairs(&self.slots.slot_of, self.number);
            forbidden = forbidden.bool_or((of_query - of_key).abs().greater_elem(band as i64));
        }
        forbidden
    }

    /// `log N_ij`: the number of rounds in which the query sees the key, at least one.
    fn log_count(&self) -> Tensor<B, 5> {
        let TileShape {
            length,
            before,
            after,
            ..
        } = self.rules.tile;
        let tile_of = self.slots.slot_of.clone().div_scalar(length as i64);
        let n_rounds = self.slots.n_rounds();
        let mut count: Option<Tensor<B, 5, Int>> = None;
        for round in 0..n_rounds {
            let mut seen = if let KeyRule::Band(band) = self.rules.keys {
                let (of_query, of_key) = self.pairs(&self.slots.slot_of, round);
                (of_query - of_key).abs().lower_equal_elem(band as i64)
            } else {
                // -after <= distance <= before, as one comparison.
                let (of_query, of_key) = self.pairs(&tile_of, round);
                let distance = (of_query - of_key) * 2 - (before as i64 - after as i64);
                distance.abs().lower_equal_elem((before + after) as i64)
            };
            if self.rules.keys != KeyRule::Across {
                let (of_query, of_key) = self.pairs(&self.slots.buckets, round);
                seen = seen.bool_and(of_query.equal(of_key));
            }
            count = Some(match count {
                Some(count) => count + seen.int(),
                None => seen.int(),
            });
        }
        let count = count.expect("a round at least");
        count.clamp_min(1).float().log()
    }

    /// A per-position number of a round, for the queries and the keys of all tiles.
    fn pairs(
        &self,
        of_position: &Tensor<B, 4, Int>,
        round: usize,
    ) -> (Tensor<B, 5, Int>, Tensor<B, 5, Int>) {
        let [batch_size, n_heads, _, seq_length] = of_position.dims();
        let row = of_position
            .clone()
            .slice_dim(2, round..round + 1)
            .reshape([batch_size, n_heads, seq_length]);
        let at =
            |positions: &Tensor<B, 3, Int>| row.clone().gather(2, positions.clone().clamp_min(0));
        let shape = self.mask_shape();
        (
            self.by_query(at(&self.own)).expand(shape),
            self.by_key(at(&self.reach)).expand(shape),
        )
    }

    /// `[batch_size, n_heads, n_slots]` -> `[batch_size, n_heads, n_tiles, length, 1]`
    fn by_query(&self, slots: Tensor<B, 3, Int>) -> Tensor<B, 5, Int> {
        let [batch_size, n_heads, n_tiles, length, _] = self.mask_shape();
        slots.reshape([batch_size, n_heads, n_tiles, length, 1])
    }

    /// `[batch_size, n_heads, slots in reach]` -> `[batch_size, n_heads, n_tiles, 1, keys]`
    fn by_key(&self, slots: Tensor<B, 3, Int>) -> Tensor<B, 5, Int> {
        let [batch_size, n_heads, n_slots] = slots.dims();
        self.in_reach(slots.reshape([batch_size, n_heads, n_slots, 1]))
            .swap_dims(3, 4)
    }

    /// Joins each tile with its neighbouring tiles:
    /// `[batch_size, n_heads, slots in reach, d]` -> `[batch_size, n_heads, n_tiles, keys, d]`.
    fn in_reach<K: BasicOps<B>>(&self, slots: Tensor<B, 4, K>) -> Tensor<B, 5, K> {
        let [batch_size, n_heads, n_slots, d] = slots.dims();
        let length = self.rules.tile.length;
        let tiles = slots.reshape([batch_size, n_heads, n_slots / length, length, d]);
        let neighbours = (0..self.rules.tile.reach())
            .map(|offset| tiles.clone().slice_dim(2, offset..offset + self.n_tiles))
            .collect();
        Tensor::cat(neighbours, 3)
    }

    /// Rows of a tensor for the queries: `[batch_size, n_heads, n_tiles, length, d]`.
    fn queries(&self, tensor: &Tensor<B, 4>) -> Tensor<B, 5> {
        let [batch_size, n_heads, n_tiles, length, _] = self.mask_shape();
        let d = tensor.dims()[3];
        self.rows(tensor, &self.own)
            .reshape([batch_size, n_heads, n_tiles, length, d])
    }

    /// 1 in slots that hold a position, 0 in empty ones.
    fn occupied(&self) -> Tensor<B, 5> {
        self.by_query(self.own.clone())
            .greater_equal_elem(0)
            .float()
    }

    /// Rows of a tensor at the given positions; empty slots get row 0.
    fn rows(&self, tensor: &Tensor<B, 4>, positions: &Tensor<B, 3, Int>) -> Tensor<B, 4> {
        let [batch_size, n_heads, seq_length, d] = tensor.dims();
        let n_slots = positions.dims()[2];
        tensor
            .clone()
            .reshape([batch_size * n_heads * seq_length, d])
            .select(0, flat(positions.clone().clamp_min(0), seq_length))
            .reshape([batch_size, n_heads, n_slots, d])
    }

    /// Back from slots to positions:
    /// `[batch_size, n_heads, n_tiles, length, d]` -> `[batch_size, n_heads, seq_length, d]`.
    fn to_positions(&self, slots: Tensor<B, 5>) -> Tensor<B, 4> {
        let [batch_size, n_heads, n_tiles, length, d] = slots.dims();
        let seq_length = self.slots.slot_of.dims()[3];
        let slot_of = self
            .slots
            .slot_of
            .clone()
            .slice_dim(2, self.number..self.number + 1)
            .reshape([batch_size, n_heads, seq_length]);
        slots
            .reshape([batch_size * n_heads * n_tiles * length, d])
            .select(0, flat(slot_of, n_tiles * length))
            .reshape([batch_size, n_heads, seq_length, d])
    }

    /// Adds the gradients of the keys of all tiles to the positions of the keys.
    fn add_to_keys(&self, sum: Tensor<B, 4>, grads: Tensor<B, 5>) -> Tensor<B, 4> {
        let [batch_size, n_heads, n_slots] = self.reach.dims();
        let [_, _, seq_length, d] = sum.dims();
        let length = self.rules.tile.length;
        let reach = self.rules.tile.reach();
        let mut tiles = Tensor::zeros(
            [batch_size, n_heads, n_slots / length, length, d],
            &sum.device(),
        );
        for offset in 0..reach {
            let range = [
                0..batch_size,
                0..n_heads,
                offset..offset + self.n_tiles,
                0..length,
                0..d,
            ];
            let part = grads
                .clone()
                .slice_dim(3, offset * length..(offset + 1) * length);
            let present = tiles.clone().slice(range.clone());
            tiles = tiles.slice_assign(range, present + part);
        }
        // Empty slots carry zeros, so it does not matter that they land in row 0.
        sum.reshape([batch_size * n_heads * seq_length, d])
            .select_assign(
                0,
                flat(self.reach.clone().clamp_min(0), seq_length),
                tiles.reshape([batch_size * n_heads * n_slots, d]),
                IndexingUpdateOp::Add,
            )
            .reshape([batch_size, n_heads, seq_length, d])
    }
}

/// Row numbers in `[batch_size * n_heads * seq_length, _]` for positions
/// `[batch_size, n_heads, n]`.
fn flat<B: Backend>(positions: Tensor<B, 3, Int>, seq_length: usize) -> Tensor<B, 1, Int> {
    let [batch_size, n_heads, n] = positions.dims();
    let first = Tensor::<B, 1, Int>::arange(0..(batch_size * n_heads) as i64, &positions.device())
        .mul_scalar(seq_length as i64)
        .reshape([batch_size, n_heads, 1]);
    (positions + first).reshape([batch_size * n_heads * n])
}

/// The slots of a round with neighbouring tiles on both ends: those of the adjacent rounds if the
/// shape wraps, otherwise empty ones.
fn reach<B: Backend>(
    order: &Tensor<B, 4, Int>,
    own: &Tensor<B, 3, Int>,
    number: usize,
    tile: TileShape,
) -> Tensor<B, 3, Int> {
    let [batch_size, n_heads, n_rounds, n_slots] = order.dims();
    let n_tiles = n_slots / tile.length;
    let total = (n_rounds * n_tiles) as i64;
    let outside = |offset: i64| {
        if !tile.wrap {
            let shape = [batch_size, n_heads, tile.length];
            return Tensor::full(shape, -1, &order.device());
        }
        let wanted = (number * n_tiles) as i64 + offset;
        let start = wanted.rem_euclid(total) as usize * tile.length;
        order
            .clone()
            .reshape([batch_size, n_heads, n_rounds * n_slots])
            .slice_dim(2, start..start + tile.length)
    };
    let before = (1..=tile.before as i64).rev().map(|back| outside(-back));
    let after = (0..tile.after as i64).map(|ahead| outside(n_tiles as i64 + ahead));
    let parts = before.chain([own.clone()]).chain(after).collect::<Vec<_>>();
    Tensor::cat(parts, 2)
}
