//! Full attention: every slice of queries with every slice of keys that it may see.

use burn::tensor::Tensor;

use super::attention::{self, HeadTiles, Padding};
use super::head::{Rules, Tiles};
use super::host::Host;
use super::tile::Tile;
use crate::kernels::{
    AttentionGradients, AttentionOutput, KEYS_AT_ONCE, KeyRule, Masking, Qkv,
    reference::slice_length,
};
use crate::random::{Dropout, Key};

/// Number of queries in a tile.
const QUERIES: usize = 64;

/// See [`ReformerBackend::full_attention`](crate::kernels::ReformerBackend::full_attention).
pub(in crate::kernels) fn full_attention<B: Host>(
    qkv: Qkv<B>,
    masking: &Masking<B>,
) -> AttentionOutput<B> {
    let all = All::new(&qkv, masking);
    attention::forward(qkv, &all)
}

/// See [`ReformerBackend::full_attention_backward`](crate::kernels::ReformerBackend::full_attention_backward).
pub(in crate::kernels) fn full_attention_backward<B: Host>(
    qkv: Qkv<B>,
    masking: &Masking<B>,
    output: AttentionOutput<B>,
    grad: Tensor<B, 4>,
) -> AttentionGradients<B> {
    let all = All::new(&qkv, masking);
    attention::backward(qkv, &all, output, grad)
}

/// All heads of a batch.
struct All {
    causal: bool,
    exclude_self: bool,
    dropout: Option<(f64, Key)>,
    padding: Option<Padding>,
    n_heads: usize,
    seq_length: usize,
    n_keys: usize,
    /// First query and first key of each tile; tiles with the same queries are adjacent.
    tiles: Vec<[usize; 2]>,
}

impl All {
    fn new<B: Host>(qkv: &Qkv<B>, masking: &Masking<B>) -> Self {
        let [_, n_heads, seq_length, n_keys, ..] = qkv.sizes();
        let keys = |query: usize| {
            let end = match masking.causal {
                true => n_keys.min(query + QUERIES),
                false => n_keys,
            };
            (0..end).step_by(KEYS_AT_ONCE).map(move |key| [query, key])
        };
        Self {
            causal: masking.causal,
            exclude_self: masking.exclude_self,
            dropout: masking.dropout,
            padding: masking.mask_pad.as_ref().map(Padding::new),
            n_heads,
            seq_length,
            n_keys,
            tiles: (0..seq_length).step_by(QUERIES).flat_map(keys).collect(),
        }
    }
}

impl HeadTiles for All {
    type Tiles<'a> = AllHead<'a>;

    fn head(&self, number: usize) -> AllHead<'_> {
        let batch = number / self.n_heads;
        AllHead {
            all: self,
            number,
            rules: Rules {
                causal: self.causal,
                exclude_self: self.exclude_self,
                keys: KeyRule::Across,
                padded: self.padding.as_ref().map(|padding| padding.of(batch)),
                places: None,
            },
        }
    }
}

/// One head.
struct AllHead<'a> {
    all: &'a All,
    number: usize,
    rules: Rules<'a>,
}

impl Tiles for AllHead<'_> {
    fn rules(&self) -> &Rules<'_> {
        &self.rules
    }

    fn n_tiles(&self) -> usize {
        self.all.tiles.len()
    }

    fn upcoming(&self, _number: usize) -> impl Iterator<Item = u32> {
        core::iter::empty()
    }

    fn place(&self, number: usize, tile: &mut Tile) {
        let [query, key] = self.all.tiles[number];
        let positions = |start: usize, length: usize, end: usize| {
            start as u32..(start + length).min(end) as u32
        };
        tile.start(positions(query, QUERIES, self.all.seq_length));
        tile.push_keys(positions(key, KEYS_AT_ONCE, self.all.n_keys));
        tile.finish(0, &self.rules);
    }

    /// The same numbering of factors as in the reference: by slices of queries, over keys up to the
    /// last one that a slice sees.
    fn dropout(&self, number: usize, _tile: &Tile, query: usize) -> Option<(Dropout, usize)> {
        let (rate, key) = self.all.dropout?;
        let [first_query, first_key] = self.all.tiles[number];
        let query = first_query + query;
        let length = slice_length(self.all.seq_length, self.all.n_keys);
        let (slice, in_slice) = (query / length, query % length);
        let end = self.all.seq_length.min((slice + 1) * length);
        let n_queries = end - slice * length;
        let n_keys = if self.all.causal {
            end
        } else {
            self.all.n_keys
        };
        let row = self.number * n_queries + in_slice;
        let dropout = Dropout::new(key.fold(slice as u64), rate);
        Some((dropout, row * n_keys + first_key))
    }
}
