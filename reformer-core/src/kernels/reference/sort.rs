//! Stable counting sort of positions by bucket.

use burn::tensor::backend::Backend;
use burn::tensor::{Int, Tensor, TensorData};

use crate::kernels::{SlotLayout, Slots};

/// Marks a slot that holds no position.
const EMPTY: i32 = -1;

/// See [`ReformerBackend::bucket_sort`](crate::kernels::ReformerBackend::bucket_sort).
///
/// Runs on the host: Burn's own sort is not stable, and it too reads the tensor back on every
/// backend of 0.21.
///
/// # Panics
/// If a bucket is not in `0..n_buckets`.
pub fn bucket_sort<B: Backend>(
    buckets: Tensor<B, 4, Int>,
    n_buckets: usize,
    layout: SlotLayout,
) -> Slots<B> {
    let shape @ [batch_size, n_heads, n_rounds, seq_length] = buckets.dims();
    let device = buckets.device();
    let on_host: Vec<usize> = buckets
        .to_data()
        .iter::<i64>()
        .map(|bucket| bucket as usize)
        .collect();

    let rows: Vec<SortedRow> = on_host
        .chunks_exact(seq_length)
        .map(|row| SortedRow::new(row, n_buckets, layout))
        .collect();
    let n_slots = rows.iter().map(|row| row.n_slots).max().unwrap_or(0);

    let mut order = vec![EMPTY; rows.len() * n_slots];
    let mut slot_of = Vec::with_capacity(on_host.len());
    for (row, order) in rows.iter().zip(order.chunks_exact_mut(n_slots)) {
        for (position, &slot) in row.slot_of.iter().enumerate() {
            order[slot] = position as i32;
            slot_of.push(slot as i32);
        }
    }
    Slots {
        order: Tensor::from_data(
            TensorData::new(order, [batch_size, n_heads, n_rounds, n_slots]),
            &device,
        ),
        slot_of: Tensor::from_data(TensorData::new(slot_of, shape), &device),
        buckets,
        mask_pad: None,
    }
}

/// One round of one head.
struct SortedRow {
    slot_of: Vec<usize>,
    /// Slots up to the end of the last tile in use.
    n_slots: usize,
}

impl SortedRow {
    fn new(buckets: &[usize], n_buckets: usize, layout: SlotLayout) -> Self {
        let mut counts = vec![0; n_buckets];
        for &bucket in buckets {
            counts[bucket] += 1;
        }
        let (tile_length, align) = match layout {
            SlotLayout::Dense(length) => (length, 1),
            SlotLayout::BucketAligned(length) => (length, length),
        };
        let mut end = 0usize;
        let mut next_slot: Vec<usize> = counts
            .iter()
            .map(|count| {
                let start = end;
                end = start + usize::next_multiple_of(*count, align);
                start
            })
            .collect();
        let slot_of = buckets
            .iter()
            .map(|&bucket| {
                let slot = next_slot[bucket];
                next_slot[bucket] += 1;
                slot
            })
            .collect();
        Self {
            slot_of,
            n_slots: end.next_multiple_of(tile_length),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn_flex::Flex;

    fn sort(buckets: [i32; 7], layout: SlotLayout) -> (Vec<i32>, Vec<i32>) {
        let buckets = Tensor::<Flex, 1, Int>::from_ints(buckets, &Default::default());
        let slots = bucket_sort(buckets.reshape([1, 1, 1, 7]), 4, layout);
        let list = |tensor: Tensor<Flex, 4, Int>| tensor.into_data().iter::<i32>().collect();
        (list(slots.order), list(slots.slot_of))
    }

    #[test]
    fn dense_order_is_by_bucket_then_position() {
        let (order, slot_of) = sort([3, 0, 3, 1, 0, 3, 1], SlotLayout::Dense(4));
        assert_eq!(order, [1, 4, 3, 6, 0, 2, 5, -1]);
        assert_eq!(slot_of, [4, 0, 5, 2, 1, 6, 3]);
    }

    #[test]
    fn aligned_buckets_begin_with_a_tile() {
        let (order, slot_of) = sort([3, 0, 3, 1, 0, 3, 1], SlotLayout::BucketAligned(2));
        assert_eq!(order, [1, 4, 3, 6, 0, 2, 5, -1]);
        assert_eq!(slot_of, [4, 0, 5, 2, 1, 6, 3]);
        let (order, _) = sort([3, 0, 3, 1, 0, 3, 1], SlotLayout::BucketAligned(3));
        assert_eq!(order, [1, 4, -1, 3, 6, -1, 0, 2, 5]);
    }

    #[test]
    fn rows_of_different_need_share_a_length() {
        let buckets = Tensor::<Flex, 1, Int>::from_ints([0, 0, 0, 1, 2, 3], &Default::default());
        let slots = bucket_sort(
            buckets.reshape([2, 1, 1, 3]),
            4,
            SlotLayout::BucketAligned(2),
        );
        assert_eq!(slots.order.dims(), [2, 1, 1, 6]);
        let order: Vec<i32> = slots.order.into_data().iter::<i32>().collect();
        assert_eq!(order, [0, 1, 2, -1, -1, -1, 0, -1, 1, -1, 2, -1]);
    }
}
