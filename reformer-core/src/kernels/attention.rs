//! Types of an attention call: sizes and rules as values, data as tensors.

use burn::config::Config;
use burn::tensor::backend::Backend;
use burn::tensor::{Bool, Int, Tensor};

use crate::random::Key;

/// How a key that a query sees in several hash rounds is counted.
#[derive(Config, Debug, Copy, PartialEq, Eq)]
pub enum Duplicates {
    /// Once: `log N_ij` is subtracted from each of its logits (paper, appendix A, equation 16),
    /// where `N_ij` is the number of rounds in which query `i` sees key `j`. With enough rounds the
    /// result is full attention.
    Exact,
    /// Once per round in which it is seen, as in Hugging Face, trax (from 2020 on) and reformer_pytorch.
    Keep,
}

/// Which keys in reach of its tile a query sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyRule {
    /// All of them.
    Across,
    /// Those in the query's own bucket.
    SameBucket,
    /// Those in the query's own bucket, at most this many slots away.
    Band(usize),
}

/// How the slots of a round are cut into tiles, and which tiles a query can reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TileShape {
    /// Slots in a tile.
    pub length: usize,
    /// Number of preceding tiles whose keys are in reach.
    pub before: usize,
    /// Number of following tiles whose keys are in reach.
    pub after: usize,
    /// Whether the first tile of a round reaches the last one of the previous round (and the first
    /// round the last), as in the peers. Otherwise rounds are separate. Only together with
    /// [`KeyRule::Across`] and [`Duplicates::Keep`].
    pub wrap: bool,
}

impl TileShape {
    /// Number of tiles whose keys a query can reach, including its own.
    pub fn reach(&self) -> usize {
        self.before + 1 + self.after
    }
}

/// How sorted positions are laid out in slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SlotLayout {
    /// Contiguous: only the end of the last tile is empty. The argument is the tile length. The
    /// start of a bucket depends on the sizes of the buckets before it.
    Dense(usize),
    /// Every bucket begins with a new tile, so its slots depend on that bucket alone. What a query
    /// computes, including the order of additions, then depends on earlier positions only.
    BucketAligned(usize),
}

/// Source of the keys.
#[derive(Debug, Clone)]
pub enum Keys<B: Backend> {
    /// Separate rows, scaled for the logits: `[batch_size, n_heads, n_keys, d_head]`. `n_keys` is
    /// `seq_length`, except in attention to another sequence.
    Own(Tensor<B, 4>),
    /// The queries, scaled to this length (shared query and key; paper, section 2).
    UnitQueries(f64),
}

/// Added to the mean square of a key before it is divided by its length.
pub(crate) const KEY_EPSILON: f64 = 1e-6;

/// Inputs of an attention kernel.
#[derive(Debug, Clone)]
pub struct Qkv<B: Backend> {
    /// `[batch_size, n_heads, seq_length, d_head]`.
    pub q: Tensor<B, 4>,
    /// Keys, in the same number as values.
    pub keys: Keys<B>,
    /// `[batch_size, n_heads, n_keys, d_v]`.
    pub v: Tensor<B, 4>,
}

impl<B: Backend> Qkv<B> {
    /// `[batch_size, n_heads, seq_length, n_keys, d_head, d_v]`
    ///
    /// # Panics
    /// If the shapes do not match.
    pub(crate) fn sizes(&self) -> [usize; 6] {
        let q @ [batch_size, n_heads, seq_length, d_head] = self.q.dims();
        let k = match &self.keys {
            Keys::Own(k) => k.dims(),
            Keys::UnitQueries(_) => q,
        };
        let n_keys = k[2];
        assert_eq!(
            [batch_size, n_heads, n_keys, d_head],
            k,
            "queries of shape {q:?} do not fit keys of shape {k:?}"
        );
        let v @ [.., d_v] = self.v.dims();
        assert_eq!(
            v[..3],
            k[..3],
            "keys of shape {k:?} do not fit values of shape {v:?}"
        );
        [batch_size, n_heads, seq_length, n_keys, d_head, d_v]
    }
}

/// Rules of [`tiled_attention`](super::ReformerBackend::tiled_attention).
///
/// In round `r`, `order` assigns the positions of the sequence to slots. Slots are cut into tiles
/// of `tile.length`; the unused end of the last tile stays empty. A query reaches the keys in its
/// own tile and the neighbouring ones, and sees those that `keys` and `causal` allow. It sees
/// itself only if it sees no other key (`exclude_self`). All rounds together are one softmax over
/// the occurrences of keys.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TiledAttention {
    /// Tiles of a round.
    pub tile: TileShape,
    /// Which keys in reach are seen.
    pub keys: KeyRule,
    /// How keys that are seen more than once count.
    pub duplicates: Duplicates,
    /// No position sees a later one.
    pub causal: bool,
    /// A position sees itself only if it sees no other key (shared query and key).
    pub exclude_self: bool,
    /// Rate and key of the dropout of attention weights.
    pub dropout: Option<(f64, Key)>,
}

impl TiledAttention {
    /// Whether weights are divided by the number of rounds in which a key is seen.
    pub(in crate::kernels) fn counts_rounds(&self, n_rounds: usize) -> bool {
        self.duplicates == Duplicates::Exact && n_rounds > 1
    }

    /// Whether the output is [rounded](AttentionOutput::rounded_like_the_peers).
    pub(in crate::kernels) fn rounds_like_the_peers(&self, n_rounds: usize) -> bool {
        self.tile.wrap && n_rounds > 1
    }

    /// Distance within which a query sees a key in a round: `[unit, after, width]`. In units of so
    /// many slots, `place of query - place of key + after` must be in `0..=width`.
    #[cfg(any(feature = "flex", feature = "ndarray", feature = "cube"))]
    pub(in crate::kernels) fn nearness(&self) -> [usize; 3] {
        let tile = self.tile;
        match self.keys {
            KeyRule::Band(band) => [1, band, 2 * band],
            KeyRule::Across | KeyRule::SameBucket => {
                [tile.length, tile.after, tile.before + tile.after]
            }
        }
    }
}

/// Assignment of positions to slots in each round.
///
/// `n_slots` is a multiple of the tile's length and at least `seq_length`.
#[derive(Debug, Clone)]
pub struct Slots<B: Backend> {
    /// Position in each slot, -1 in empty ones: `[batch_size, n_heads, n_rounds, n_slots]`.
    pub order: Tensor<B, 4, Int>,
    /// Slot of each position: `[batch_size, n_heads, n_rounds, seq_length]`.
    pub slot_of: Tensor<B, 4, Int>,
    /// Bucket of each position (not slot): `[batch_size, n_heads, n_rounds, seq_length]`. Only read
    /// if the key rule is about buckets.
    pub buckets: Tensor<B, 4, Int>,
    /// True where a position is padding: `[batch_size, seq_length]`. Padding is never a key.
    pub mask_pad: Option<Tensor<B, 2, Bool>>,
}

impl<B: Backend> Slots<B> {
    /// Number of hash rounds.
    pub(in crate::kernels) fn n_rounds(&self) -> usize {
        self.order.dims()[2]
    }

    /// Checks that these slots match a sequence and tiles.
    ///
    /// # Panics
    /// If the shapes do not match.
    pub(crate) fn check(&self, qkv: &Qkv<B>, rules: &TiledAttention) {
        let [batch_size, n_heads, seq_length, n_keys, ..] = qkv.sizes();
        let order @ [batch, heads, n_rounds, n_slots] = self.order.dims();
        let q = qkv.q.dims();
        assert_eq!(
            n_keys, seq_length,
            "tiles hold queries and keys of one sequence"
        );
        assert_eq!(
            [batch, heads],
            [batch_size, n_heads],
            "slots of shape {order:?} do not fit queries of shape {q:?}"
        );
        let length = rules.tile.length;
        assert!(
            n_slots >= seq_length && n_slots.is_multiple_of(length),
            "{n_slots} slots do not hold {seq_length} positions in tiles of {length}"
        );
        let wanted = [batch_size, n_heads, n_rounds, seq_length];
        for found in [self.slot_of.dims(), self.buckets.dims()] {
            assert_eq!(
                found, wanted,
                "slots of shape {order:?} on {seq_length} positions need slots and buckets of \
                 positions of shape {wanted:?}, not {found:?}"
            );
        }
        check_mask(&self.mask_pad, qkv);
        assert!(
            !rules.tile.wrap
                || (rules.keys == KeyRule::Across && rules.duplicates == Duplicates::Keep),
            "tiles that wrap cannot follow {:?} and {:?}",
            rules.keys,
            rules.duplicates
        );
    }

    /// A single round in natural order, which turns tiled attention into local attention.
    ///
    /// # Shapes
    /// - `shape` is `[batch_size, n_heads, seq_length]`
    pub fn natural(shape: [usize; 3], tile_length: usize, device: &B::Device) -> Self {
        let [batch_size, n_heads, seq_length] = shape;
        let n_slots = seq_length.next_multiple_of(tile_length);
        let slots = Tensor::<B, 1, Int>::arange(0..n_slots as i64, device);
        let empty = slots.clone().greater_equal_elem(seq_length as i64);
        let round = |row: Tensor<B, 1, Int>| {
            let [length] = row.dims();
            row.reshape([1, 1, 1, length])
                .expand([batch_size, n_heads, 1, length])
        };
        let slot_of = round(slots.clone().slice(0..seq_length));
        Self {
            order: round(slots.mask_fill(empty, -1)),
            buckets: slot_of.zeros_like(),
            slot_of,
            mask_pad: None,
        }
    }

    /// The same slots on a sequence with padding.
    pub fn with_padding(mut self, mask_pad: Option<Tensor<B, 2, Bool>>) -> Self {
        self.mask_pad = mask_pad;
        self
    }
}

/// Rules and mask of [`full_attention`](super::ReformerBackend::full_attention).
#[derive(Debug, Clone)]
pub struct Masking<B: Backend> {
    /// No position sees a later one.
    pub causal: bool,
    /// A position sees itself only if it sees no other key (shared query and key).
    pub exclude_self: bool,
    /// Rate and key of the dropout of attention weights.
    pub dropout: Option<(f64, Key)>,
    /// True where a key's position is padding: `[batch_size, n_keys]`. Padding is never a key.
    pub mask_pad: Option<Tensor<B, 2, Bool>>,
}

impl<B: Backend> Masking<B> {
    /// Checks that the mask matches the sequence, and that causality and `exclude_self` are used
    /// only if queries and keys belong to the same sequence.
    ///
    /// # Panics
    /// If the shapes do not match.
    pub(crate) fn check(&self, qkv: &Qkv<B>) {
        check_mask(&self.mask_pad, qkv);
        let [_, _, seq_length, n_keys, ..] = qkv.sizes();
        assert!(
            seq_length == n_keys || !(self.causal || self.exclude_self),
            "{seq_length} queries and {n_keys} keys have no positions in common"
        );
    }
}

fn check_mask<B: Backend>(mask_pad: &Option<Tensor<B, 2, Bool>>, qkv: &Qkv<B>) {
    let [batch_size, _, _, n_keys, ..] = qkv.sizes();
    let Some(mask_pad) = mask_pad else {
        return;
    };
    let (mask, wanted) = (mask_pad.dims(), [batch_size, n_keys]);
    assert_eq!(
        mask, wanted,
        "a mask of shape {mask:?} does not fit a sequence of shape {wanted:?}"
    );
}

/// Output of attention, with everything besides the inputs that the backward pass needs.
///
/// The log-sum-exp of a query's logits is kept as a sum of two numbers. If a query sees only
/// itself, the maximum is -100,000, where `f32` has steps of 1/128. With a single number, weights
/// from `exp(logit - lse)` would be wrong by up to 0.4 %, as they are in the peers.
#[derive(Debug, Clone)]
pub struct AttentionOutput<B: Backend> {
    /// `[batch_size, n_heads, seq_length, d_v]`.
    pub output: Tensor<B, 4>,
    /// Largest log-sum-exp of a single round: `[batch_size, n_heads, seq_length, 1]`.
    pub max: Tensor<B, 4>,
    /// Contribution of the other rounds: `[batch_size, n_heads, seq_length, 1]`.
    pub log_sum: Tensor<B, 4>,
    /// What backward need not compute again.
    pub prepared: Prepared<B>,
}

/// What the kernels of a GPU compute from the inputs of attention before both passes. The gradients are
/// the same without it, which is the default, and take longer. It must belong to the same inputs.
#[derive(Debug, Clone, Default)]
pub struct Prepared<B: Backend> {
    /// Divisors that turn queries into keys, if keys are queries: `[batch_size, n_heads, seq_length]`.
    pub divisors: Option<Tensor<B, 3>>,
    /// Numbers by which positions of a sorted sequence are compared, if the rules ask for that, as `i32`:
    /// `[batch_size, n_heads, seq_length, n_rounds]`.
    pub sort_keys: Option<Tensor<B, 4, Int>>,
}

impl<B: Backend> AttentionOutput<B> {
    /// The result of Hugging Face and trax, which keep the log-sum-exp over rounds as one number.
    ///
    /// It differs where a query sees only itself in every round: there the weights sum to 1 ±
    /// 0.004. Used with wrapped rounds, which exist to reproduce the peers' outputs.
    pub(crate) fn rounded_like_the_peers(self) -> Self {
        let lse = self.max.clone() + self.log_sum.clone();
        let log_sum = lse - self.max.clone();
        let factor = (self.log_sum - log_sum.clone()).exp();
        let dtype = self.output.dtype();
        Self {
            // Statistics are in single precision whatever the output is.
            output: (self.output.cast(factor.dtype()) * factor).cast(dtype),
            log_sum,
            ..self
        }
    }
}

/// Gradients of an attention kernel, in the shapes of its inputs.
#[derive(Debug, Clone)]
pub struct AttentionGradients<B: Backend> {
    /// Including the gradient through keys that are queries: `[batch_size, n_heads, seq_length, d_head]`.
    pub q: Tensor<B, 4>,
    /// Of separate keys: `[batch_size, n_heads, n_keys, d_head]`.
    pub k: Option<Tensor<B, 4>>,
    /// `[batch_size, n_heads, n_keys, d_v]`.
    pub v: Tensor<B, 4>,
}

/// Gradients of layer normalisation, in the shapes of its inputs.
#[derive(Debug, Clone)]
pub struct LayerNormGradients<B: Backend> {
    /// `[batch_size, seq_length, d]`.
    pub x: Tensor<B, 3>,
    /// `[d]`.
    pub gamma: Tensor<B, 1>,
    /// `[d]`.
    pub beta: Tensor<B, 1>,
}

/// Direction in which queries and keys are rotated by their positions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rotation {
    /// By the angle of the position.
    Apply,
    /// By the negative angle.
    Undo,
}

impl Rotation {
    /// The opposite direction.
    pub fn inverse(self) -> Self {
        match self {
            Self::Apply => Self::Undo,
            Self::Undo => Self::Apply,
        }
    }

    /// Factor of the sines.
    pub(crate) fn sign(self) -> f32 {
        match self {
            Self::Apply => 1.0,
            Self::Undo => -1.0,
        }
    }
}
