//! Stable counting sort of positions by bucket, without a look from the host.
//!
//! A round is cut into segments, and a cube walks over each of them twice. The first walk counts
//! how often each bucket comes; sums over segments and buckets then tell where a segment puts its
//! first position of a bucket, and the second walk puts them there. Within the stretch of a
//! segment that a cube looks at, a unit finds the rank of its position by comparing: nothing is
//! added by atomics, so the order is the same every time.

use burn::tensor::DType;
use burn_cubecl::cubecl;
use burn_cubecl::cubecl::calculate_cube_count_elemwise;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::{CubeRuntime, tensor::CubeTensor};

use super::common::{UNITS, cube_y};
use super::device::{Cube, Ints, empty, grid, offsets};
use crate::kernels::{SlotLayout, Slots};

/// Where there is no position.
const NOBODY: u32 = u32::MAX;

/// Walks over the segment of a cube. `next` holds what every bucket has had so far:
/// `[n_rows, n_segments, n_buckets]`; `starts` where buckets begin: `[n_rows, n_buckets]`.
#[cube(launch, address_type = "dynamic")]
fn walk<I: Int>(
    buckets: &Tensor<I>,
    next: &mut Tensor<u32>,
    starts: &Tensor<u32>,
    order: &mut Tensor<I>,
    slot_of: &mut Tensor<I>,
    seq_length: u32,
    n_slots: u32,
    segment_length: u32,
    #[comptime] place: bool,
    #[define(I)] _dtype: StorageType,
) {
    let row = CUBE_POS_X;
    let segment = cube_y();
    let n_segments = next.shape(1) as u32;
    if segment >= n_segments {
        terminate!();
    }
    let n_buckets = next.shape(2) as u32;
    let own = (row * n_segments + segment) as usize * n_buckets as usize;
    let of_row = row as usize * seq_length as usize;
    let end = min(seq_length, (segment + 1) * segment_length);
    let mut stretch = SharedMemory::<u32>::new(comptime![UNITS as usize]);

    for first in range_stepped(segment * segment_length, end, UNITS) {
        let position = first + UNIT_POS;
        let mut bucket = NOBODY.runtime();
        if position < end {
            let given = u32::cast_from(buckets[of_row + position as usize]);
            // Out of range only by a bug of the caller; memory must stay whole.
            bucket = min(given, n_buckets - 1);
        }
        stretch[UNIT_POS as usize] = bucket;
        sync_cube();
        let mut rank = 0u32.runtime();
        let mut later = 0u32.runtime();
        for other in 0..UNITS {
            if stretch[other as usize] == bucket {
                if other < UNIT_POS {
                    rank += 1;
                } else {
                    later += 1;
                }
            }
        }
        let mut before = 0u32.runtime();
        if bucket != NOBODY {
            before = next[own + bucket as usize] + rank;
        }
        // Everybody has read what was before; the last one of a bucket writes what is then.
        sync_cube();
        sync_storage();
        if bucket != NOBODY {
            if later == 1 {
                next[own + bucket as usize] = before + 1;
            }
            if place {
                let slot = starts[(row * n_buckets + bucket) as usize] + before;
                order[row as usize * n_slots as usize + slot as usize] = I::cast_from(position);
                slot_of[of_row + position as usize] = I::cast_from(slot);
            }
        }
        sync_storage();
    }
}

/// From counts of segments to those of all segments before, and the sum over all of them.
#[cube(launch, address_type = "dynamic")]
fn sum_segments(next: &mut Tensor<u32>, totals: &mut Tensor<u32>) {
    if ABSOLUTE_POS < totals.len() {
        let n_buckets = next.shape(2);
        let n_segments = next.shape(1);
        let row = ABSOLUTE_POS / n_buckets;
        let bucket = ABSOLUTE_POS % n_buckets;
        let mut sum = 0u32.runtime();
        for segment in 0..n_segments {
            let place = (row * n_segments + segment) * n_buckets + bucket;
            let count = next[place];
            next[place] = sum;
            sum += count;
        }
        totals[ABSOLUTE_POS] = sum;
    }
}

/// From the sizes of buckets to the slots in which they begin, a cube for each row.
#[cube(launch, address_type = "dynamic")]
fn begin_buckets(totals: &mut Tensor<u32>, #[comptime] align: u32) {
    let n_buckets = totals.shape(1) as u32;
    let of_row = CUBE_POS_X as usize * n_buckets as usize;
    let each = n_buckets.div_ceil(UNITS);
    let first = UNIT_POS * each;
    let end = min(n_buckets, first + each);
    let mut sums = SharedMemory::<u32>::new(comptime![UNITS as usize]);
    let mut sum = 0u32.runtime();
    for bucket in first..end {
        sum += totals[of_row + bucket as usize].div_ceil(align) * align;
    }
    sums[UNIT_POS as usize] = sum;
    sync_cube();
    let mut start = 0u32.runtime();
    for unit in 0..UNIT_POS {
        start += sums[unit as usize];
    }
    for bucket in first..end {
        let size = totals[of_row + bucket as usize].div_ceil(align) * align;
        totals[of_row + bucket as usize] = start;
        start += size;
    }
}

/// What sorting gives.
pub(super) struct Sorted<R: CubeRuntime> {
    /// `[batch_size, n_heads, n_rounds, n_slots]`.
    pub(super) order: CubeTensor<R>,
    /// `[batch_size, n_heads, n_rounds, seq_length]`.
    pub(super) slot_of: CubeTensor<R>,
    /// The slots in which buckets begin, as `u32`: `[batch_size * n_heads * n_rounds, n_buckets]`.
    pub(super) starts: CubeTensor<R>,
}

/// See [`ReformerBackend::bucket_sort`](crate::kernels::ReformerBackend::bucket_sort). The number
/// of slots is the largest that buckets of any sizes could need, since the host does not see them.
pub(in crate::kernels) fn bucket_sort<B: Cube>(
    buckets: Ints<B, 4>,
    n_buckets: usize,
    layout: SlotLayout,
) -> Slots<B> {
    let Sorted { order, slot_of, .. } = sort::<B>(buckets.clone(), n_buckets, layout);
    Slots {
        order: B::of_ints(order),
        slot_of: B::of_ints(slot_of),
        buckets,
        mask_pad: None,
    }
}

/// The same, with where buckets begin.
pub(super) fn sort<B: Cube>(
    buckets: Ints<B, 4>,
    n_buckets: usize,
    layout: SlotLayout,
) -> Sorted<B::Runtime> {
    let shape @ [batch_size, n_heads, n_rounds, seq_length] = buckets.dims();
    let n_rows = batch_size * n_heads * n_rounds;
    let (align, n_slots) = match layout {
        SlotLayout::Dense(length) => (1, seq_length.next_multiple_of(length)),
        SlotLayout::BucketAligned(length) => {
            let most = seq_length + n_buckets.min(seq_length) * (length - 1);
            (length, most / length * length)
        }
    };
    // Rows of a tensor that is made with its shape may begin at addresses that suit the device.
    let device = buckets.device();
    let filled = |n, value, dtype| Ints::<B, 1>::full([n], value, (&device, dtype));
    let order = filled(n_rows * n_slots, -1, buckets.dtype());
    let order = B::ints(order.reshape([batch_size, n_heads, n_rounds, n_slots]));
    let keys = into_contiguous(B::ints(buckets));
    let slot_of = empty(&keys, shape, keys.dtype);

    // As many counters as there are positions, or as few as one segment needs.
    let segment_length = n_buckets.next_multiple_of(UNITS as usize);
    let n_segments = seq_length.div_ceil(segment_length);
    let client = keys.client.clone();
    let next = filled(n_rows * n_segments * n_buckets, 0, DType::U32);
    let next = B::ints(next.reshape([n_rows, n_segments, n_buckets]));
    let starts = empty(&keys, [n_rows, n_buckets], DType::U32);
    let units = CubeDim::new_1d(UNITS);
    let walk = |place| {
        walk::launch(
            &client,
            grid(&client, n_rows, n_segments),
            units,
            offsets(&[&keys, &next, &order]),
            keys.clone().into_tensor_arg(),
            next.clone().into_tensor_arg(),
            starts.clone().into_tensor_arg(),
            order.clone().into_tensor_arg(),
            slot_of.clone().into_tensor_arg(),
            seq_length as u32,
            n_slots as u32,
            segment_length as u32,
            place,
            keys.dtype.into(),
        );
    };
    walk(false);
    sum_segments::launch(
        &client,
        calculate_cube_count_elemwise(&client, n_rows * n_buckets, units),
        units,
        offsets(&[&next]),
        next.clone().into_tensor_arg(),
        starts.clone().into_tensor_arg(),
    );
    begin_buckets::launch(
        &client,
        CubeCount::Static(n_rows as u32, 1, 1),
        units,
        offsets(&[&starts]),
        starts.clone().into_tensor_arg(),
        align as u32,
    );
    walk(true);
    Sorted {
        order,
        slot_of,
        starts,
    }
}
