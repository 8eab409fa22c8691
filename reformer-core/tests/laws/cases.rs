//! Inputs and rules that attention is tested with.

use crate::common::{integers, normal};
use burn::tensor::backend::Backend;
use burn::tensor::{Bool, Int, Tensor};
use reformer_core::kernels::{
    Duplicates, KeyRule, Keys, Qkv, ReformerBackend, SlotLayout, Slots, TileShape, TiledAttention,
};

pub(crate) const SHAPE: [usize; 4] = [2, 2, 37, 5]; // batch_size, n_heads, seq_length, d_head
pub(crate) const N_BUCKETS: usize = 6;

/// Data of an attention, with some padding or none.
pub(crate) struct Inputs<B: Backend> {
    pub(crate) qkv: [Tensor<B, 4>; 3],
    pub(crate) buckets: Tensor<B, 4, Int>,
    pub(crate) mask_pad: Option<Tensor<B, 2, Bool>>,
}

/// Inputs of a shape, `[batch_size, n_heads, seq_length, d_head]`. Values are wider by 2.
pub(crate) fn inputs<B: Backend>(shape: [usize; 4], n_rounds: usize, padded: bool) -> Inputs<B> {
    let [batch_size, n_heads, seq_length, d_head] = shape;
    let q = normal(1, shape);
    let k = normal(2, shape);
    let v = normal(3, [batch_size, n_heads, seq_length, d_head + 2]);
    let buckets = integers(
        4,
        [batch_size, n_heads, n_rounds, seq_length],
        N_BUCKETS as u32,
    );
    let mask_pad = padded.then(|| {
        let positions = Tensor::<B, 1, Int>::arange(0..seq_length as i64, &Default::default());
        let end = positions.greater_equal_elem(seq_length as i64 - 7);
        let row = |batch| match batch {
            0 => end.zeros_like().reshape([1, seq_length]),
            _ => end.clone().reshape([1, seq_length]),
        };
        Tensor::cat((0..batch_size).map(row).collect(), 0)
    });
    Inputs {
        qkv: [q, k, v],
        buckets,
        mask_pad,
    }
}

/// Every rule there is: a name, the layout of slots and the rules.
pub(crate) fn cases() -> Vec<(String, SlotLayout, TiledAttention)> {
    let mut cases = Vec::new();
    for causal in [true, false] {
        for duplicates in [Duplicates::Exact, Duplicates::Keep] {
            for exclude_self in [true, false] {
                let after = usize::from(!causal);
                let mut case = |layout, keys, before, after, length| {
                    let tile = TileShape {
                        length,
                        before,
                        after,
                        wrap: false,
                    };
                    let rules = TiledAttention {
                        tile,
                        keys,
                        duplicates,
                        causal,
                        exclude_self,
                        dropout: None,
                    };
                    cases.push((format!("{rules:?}"), layout, rules));
                };
                case(SlotLayout::Dense(4), KeyRule::Across, 1, after, 4);
                case(SlotLayout::Dense(5), KeyRule::Across, 2, 0, 5);
                case(SlotLayout::Dense(4), KeyRule::SameBucket, 1, after, 4);
                case(
                    SlotLayout::BucketAligned(2),
                    KeyRule::Band(4),
                    2,
                    2 * after,
                    2,
                );
                case(SlotLayout::BucketAligned(3), KeyRule::Band(3), 1, after, 3);
            }
        }
    }
    cases
}

/// Rows of real positions: what a padded query gets is nobody's concern.
pub(crate) fn real_rows<B: Backend>(values: Vec<f64>, inputs: &Inputs<B>) -> Vec<f64> {
    let [_, n_heads, seq_length, _] = inputs.qkv[0].dims();
    let Some(mask) = &inputs.mask_pad else {
        return values;
    };
    let padded: Vec<bool> = mask.clone().into_data().iter::<bool>().collect();
    let width = values.len() / (padded.len() * n_heads);
    values
        .chunks(width)
        .enumerate()
        .filter(|(row, _)| {
            let batch = row / (n_heads * seq_length);
            !padded[batch * seq_length + row % seq_length]
        })
        .flat_map(|(_, row)| row.to_vec())
        .collect()
}

/// Keys as they are.
pub(crate) fn own_keys<B: Backend>([q, k, v]: [Tensor<B, 4>; 3]) -> Qkv<B> {
    let keys = Keys::Own(k);
    Qkv { q, keys, v }
}

/// Where positions stand.
pub(crate) fn slots<B: ReformerBackend>(inputs: &Inputs<B>, layout: SlotLayout) -> Slots<B> {
    B::bucket_sort(inputs.buckets.clone(), N_BUCKETS, layout).with_padding(inputs.mask_pad.clone())
}
