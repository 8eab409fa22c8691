//! Stable counting sort of positions by bucket.

use burn::tensor::backend::Backend;
use burn::tensor::{Int, Tensor, TensorData};

use rayon::prelude::*;

use crate::kernels::{SlotLayout, Slots};

/// Marks an empty slot.
const EMPTY: i32 = -1;

/// See [`ReformerBackend::bucket_sort`](crate::kernels::ReformerBackend::bucket_sort).
///
/// Runs on the host: Burn's own sort is not stable, and on every backend of 0.21 it also reads the
/// tensor back. Rounds of heads are distributed over threads.
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
    let on_host: Vec<i32> = buckets
        .to_data()
        .convert::<i32>()
        .into_vec()
        .expect("it was converted");

    let rows = on_host.par_chunks_exact(seq_length.max(1));
    let starts: Vec<Starts> = rows
        .clone()
        .map(|row| Starts::new(row, n_buckets, layout))
        .collect();
    let n_slots = starts.iter().map(|row| row.n_slots).max().unwrap_or(0);
    let mut order = vec![EMPTY; starts.len() * n_slots];
    let mut slot_of = vec![0; on_host.len()];
    order
        .par_chunks_exact_mut(n_slots.max(1))
        .zip(slot_of.par_chunks_exact_mut(seq_length.max(1)))
        .zip(rows.zip(starts))
        .for_each(|((order, slot_of), (row, starts))| starts.place(row, order, slot_of));
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

/// Buckets with a local round before them, in which all positions share the first bucket; padding
/// stays in the last one.
///
/// # Shapes
/// - buckets: `[batch_size, n_heads, n_rounds, seq_length]`
/// - output: `[batch_size, n_heads, 1 + n_rounds, seq_length]`
pub fn with_local_round<B: Backend>(
    buckets: Tensor<B, 4, Int>,
    n_buckets: usize,
) -> Tensor<B, 4, Int> {
    let last = n_buckets as i64 - 1;
    let first = buckets.clone().slice_dim(2, 0..1);
    let is_padding = first.clone().equal_elem(last);
    let local = first.zeros_like().mask_fill(is_padding, last);
    Tensor::cat(vec![local, buckets], 2)
}

/// Start of each bucket in one round of one head.
struct Starts {
    /// First slot of each bucket.
    slots: Vec<usize>,
    /// Number of slots up to the end of the last used tile.
    n_slots: usize,
}

impl Starts {
    fn new(buckets: &[i32], n_buckets: usize, layout: SlotLayout) -> Self {
        let mut counts = vec![0; n_buckets];
        for &bucket in buckets {
            let count = usize::try_from(bucket)
                .ok()
                .and_then(|bucket| counts.get_mut(bucket));
            *count.unwrap_or_else(|| panic!("bucket {bucket} is not in 0..{n_buckets}")) += 1;
        }
        let (tile_length, align) = match layout {
            SlotLayout::Dense(length) => (length, 1),
            SlotLayout::BucketAligned(length) => (length, length),
        };
        let mut end = 0usize;
        let slots = counts
            .iter()
            .map(|count| {
                let start = end;
                end = start + usize::next_multiple_of(*count, align);
                start
            })
            .collect();
        Self {
            slots,
            n_slots: end.next_multiple_of(tile_length),
        }
    }

    /// Assigns every position to the next slot of its bucket.
    fn place(self, buckets: &[i32], order: &mut [i32], slot_of: &mut [i32]) {
        let mut next = self.slots;
        for (position, (&bucket, slot_of)) in (0..).zip(buckets.iter().zip(slot_of)) {
            let next = &mut next[bucket as usize];
            order[*next] = position;
            *slot_of = *next as i32;
            *next += 1;
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

    #[test]
    #[should_panic(expected = "bucket 4 is not in 0..4")]
    fn bucket_beyond_the_last_is_refused() {
        sort([3, 0, 4, 1, 0, 3, 1], SlotLayout::Dense(4));
    }

    #[test]
    #[should_panic(expected = "bucket -1 is not in 0..4")]
    fn bucket_below_zero_is_refused() {
        sort([3, 0, -1, 1, 0, 3, 1], SlotLayout::Dense(4));
    }
}
