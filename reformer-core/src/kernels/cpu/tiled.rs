//! Tiled attention: the tiles of a sorted sequence, one round after another.

use burn::tensor::Tensor;

use super::attention::{self, HeadTiles, Padding};
use super::head::{Places, Rules, Tiles};
use super::host::{Host, integers};
use super::tile::{NOWHERE, Tile};
use crate::kernels::{AttentionGradients, AttentionOutput, KeyRule, Qkv, Slots, TiledAttention};
use crate::random::Dropout;

/// See [`ReformerBackend::tiled_attention`](crate::kernels::ReformerBackend::tiled_attention).
pub(in crate::kernels) fn tiled_attention<B: Host>(
    qkv: Qkv<B>,
    slots: &Slots<B>,
    rules: &TiledAttention,
) -> AttentionOutput<B> {
    attention::forward(qkv, &Sorted::new(slots, rules))
}

/// See [`ReformerBackend::tiled_attention_backward`](crate::kernels::ReformerBackend::tiled_attention_backward).
pub(in crate::kernels) fn tiled_attention_backward<B: Host>(
    qkv: Qkv<B>,
    slots: &Slots<B>,
    rules: &TiledAttention,
    output: AttentionOutput<B>,
    grad: Tensor<B, 4>,
) -> AttentionGradients<B> {
    attention::backward(qkv, &Sorted::new(slots, rules), output, grad)
}

/// Slots and buckets of the positions of all heads.
struct Sorted<'a> {
    rules: &'a TiledAttention,
    /// `[heads in the batch, n_rounds, n_slots]`, [`NOWHERE`] in empty slots
    order: Vec<i32>,
    /// `[heads in the batch, n_rounds, seq_length]` each
    slot_of: Vec<i32>,
    buckets: Vec<i32>,
    padding: Option<Padding>,
    n_heads: usize,
    n_rounds: usize,
    n_slots: usize,
    seq_length: usize,
}

impl<'a> Sorted<'a> {
    fn new<B: Host>(slots: &Slots<B>, rules: &'a TiledAttention) -> Self {
        let [_, n_heads, n_rounds, n_slots] = slots.order.dims();
        let asks = |needed: bool, tensor| match needed {
            true => integers(tensor),
            false => Vec::new(),
        };
        let counts = rules.counts_rounds(n_rounds);
        Self {
            rules,
            order: integers(&slots.order),
            slot_of: asks(counts || rules.keys != KeyRule::Across, &slots.slot_of),
            buckets: asks(rules.keys != KeyRule::Across, &slots.buckets),
            padding: slots.mask_pad.as_ref().map(Padding::new),
            n_heads,
            n_rounds,
            n_slots,
            seq_length: slots.slot_of.dims()[3],
        }
    }

    /// Places and buckets of a head's positions, if the rules need them.
    fn places(&self, head: usize) -> Option<Places> {
        let count = self.rules.counts_rounds(self.n_rounds);
        if !count && self.rules.keys == KeyRule::Across {
            return None;
        }
        let [unit, after, width] = self.rules.nearness();
        Some(Places {
            n_rounds: self.n_rounds,
            places: self.by_position(&self.slot_of, head, |slot| slot / unit as u32),
            buckets: self.by_position(&self.buckets, head, |bucket| bucket),
            after: after as u32,
            width: width as u32,
            count,
        })
    }

    /// Transposes `[n_rounds, seq_length]` of a head to `[seq_length, n_rounds]`; empty if the input is.
    fn by_position(&self, all: &[i32], head: usize, of: impl Fn(u32) -> u32) -> Vec<u32> {
        if all.is_empty() {
            return Vec::new();
        }
        let size = self.n_rounds * self.seq_length;
        let mut numbers = vec![0; size];
        let rounds = all[head * size..][..size].chunks_exact(self.seq_length);
        for (round, row) in rounds.enumerate() {
            let places = numbers[round..].iter_mut().step_by(self.n_rounds);
            for (number, &value) in places.zip(row) {
                *number = of(value as u32);
            }
        }
        numbers
    }
}

impl HeadTiles for Sorted<'_> {
    type Tiles<'a>
        = SortedHead<'a>
    where
        Self: 'a;

    fn head(&self, number: usize) -> SortedHead<'_> {
        let size = self.n_rounds * self.n_slots;
        let batch = number / self.n_heads;
        SortedHead {
            sorted: self,
            number,
            order: &self.order[number * size..][..size],
            rules: Rules {
                causal: self.rules.causal,
                exclude_self: self.rules.exclude_self,
                keys: self.rules.keys,
                padded: self.padding.as_ref().map(|padding| padding.of(batch)),
                places: self.places(number),
            },
        }
    }
}

/// The tiles of a head, in the order of rounds.
struct SortedHead<'a> {
    sorted: &'a Sorted<'a>,
    number: usize,
    /// `[n_rounds, n_slots]`
    order: &'a [i32],
    rules: Rules<'a>,
}

impl SortedHead<'_> {
    /// Number of tiles in a round.
    fn in_round(&self) -> usize {
        self.sorted.n_slots / self.sorted.rules.tile.length
    }

    /// Positions in the slots of a tile; tiles are numbered across rounds.
    fn positions(&self, tile: usize) -> impl Iterator<Item = u32> {
        let length = self.sorted.rules.tile.length;
        let slots = &self.order[tile * length..][..length];
        // -1 marks an empty slot and becomes `NOWHERE`.
        slots.iter().map(|&position| position as u32)
    }
}

impl Tiles for SortedHead<'_> {
    fn rules(&self) -> &Rules<'_> {
        &self.rules
    }

    fn n_tiles(&self) -> usize {
        self.sorted.n_rounds * self.in_round()
    }

    fn upcoming(&self, number: usize) -> impl Iterator<Item = u32> {
        let tile = number + 1 + self.sorted.rules.tile.after;
        let exists = tile < self.n_tiles();
        exists.then(|| self.positions(tile)).into_iter().flatten()
    }

    fn place(&self, number: usize, tile: &mut Tile) {
        let shape = self.sorted.rules.tile;
        let in_round = self.in_round();
        let round = number / in_round;
        tile.start(self.positions(number));
        for offset in 0..shape.reach() {
            let wanted = (number + offset) as i64 - shape.before as i64;
            let others = if shape.wrap { self.n_tiles() } else { in_round } as i64;
            let first = if shape.wrap { 0 } else { round * in_round } as i64;
            let in_reach = (wanted - first).rem_euclid(others) + first;
            if shape.wrap || in_reach == wanted {
                tile.push_keys(self.positions(in_reach as usize));
            } else {
                tile.push_keys(core::iter::repeat_n(NOWHERE, shape.length));
            }
        }
        tile.finish(round, &self.rules);
    }

    fn dropout(&self, number: usize, tile: &Tile, query: usize) -> Option<(Dropout, usize)> {
        let (rate, key) = self.sorted.rules.dropout?;
        let (round, in_round) = (number / self.in_round(), number % self.in_round());
        let tiles_before = self.number * self.in_round() + in_round;
        let queries_before = tiles_before * self.sorted.rules.tile.length + query;
        let dropout = Dropout::new(key.fold(round as u64), rate);
        Some((dropout, queries_before * tile.reach))
    }
}
