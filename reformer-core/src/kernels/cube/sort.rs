//! Stable counting sort of positions by bucket, without synchronisation with the host.
//!
//! A round is cut into segments, and a cube processes each of them twice. The first sweep counts
//! the positions of each bucket. Sums over segments and buckets then give the slot of a segment's
//! first position of each bucket, and the second sweep assigns the slots. A cube proceeds in
//! stretches of as many positions as a word has bits, within which a unit finds the rank of its
//! position by comparisons instead of atomics, so the order is deterministic. Buckets are read in
//! the type of the hashing kernel or the tape, and no tensor is initialised beforehand: four
//! launches for any input.

use burn::tensor::{DType, Element};
use burn_cubecl::cubecl;
use burn_cubecl::cubecl::calculate_cube_count_elemwise;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::{CubeRuntime, tensor::CubeTensor};

use super::common::{UNITS, cube_y};
use super::device::{Cube, Ints, empty, grid, offsets};
use crate::kernels::{SlotLayout, Slots};

/// Units of a cube in a sweep: one for each position of a stretch, and for each bit of a word.
const STRETCH: u32 = u32::BITS;

/// Minimum length of a segment.
const SHORTEST: usize = 256;

/// Segments whose counts are read together.
const TOGETHER: usize = 8;

/// Marks a unit without a position.
const NOBODY: u32 = u32::MAX;

/// A slot without a position.
const EMPTY: i64 = -1;

/// Lengths of a launch: all tensors are contiguous.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
struct Lengths {
    seq_length: u32,
    n_slots: u32,
    n_buckets: u32,
    n_segments: u32,
    segment_length: u32,
}

/// The bucket of a position in a round, or [`NOBODY`] beyond the end: the hash bucket or, in a local
/// round before the hash rounds, the first bucket. Padding is in the last bucket in both cases.
#[cube]
fn bucket_at<K: Int>(
    hashed: &Array<K>,
    row: u32,
    position: u32,
    end: u32,
    lengths: &Lengths,
    #[comptime] rounds: Rounds,
) -> u32 {
    let mut bucket = NOBODY.runtime();
    if position < end {
        let mut from = row;
        let mut is_local = false.runtime();
        if comptime![rounds.local] {
            let round = row % rounds.n;
            is_local = round == 0;
            from = row / rounds.n * comptime![rounds.n - 1] + max(round, 1u32.runtime()) - 1;
        }
        let of_row = from as usize * lengths.seq_length as usize;
        let given = u32::cast_from(hashed[of_row + position as usize]);
        // Out of range only by a bug of the caller; clamped to avoid invalid memory accesses.
        bucket = min(given, lengths.n_buckets - 1);
        if is_local && bucket + 1 < lengths.n_buckets {
            bucket = 0u32.runtime();
        }
    }
    bucket
}

/// Processes the segment of a cube. `next` counts the positions of every bucket so far:
/// `[n_rows, n_segments, n_buckets]`; `starts` are the first slots of buckets:
/// `[n_rows, n_buckets]`. The first sweep counts from zero, marks all slots as empty, and writes
/// `buckets` if they are kept; the second one assigns positions to slots.
#[cube(launch, address_type = "dynamic")]
fn walk<K: Int, I: Int>(
    hashed: &Array<K>,
    next: &mut Array<u32>,
    starts: &Array<u32>,
    order: &mut Array<I>,
    slot_of: &mut Array<I>,
    buckets: &mut Array<I>,
    lengths: &Lengths,
    #[comptime] rounds: Rounds,
    #[comptime] place: bool,
    #[define(K, I)] _dtypes: [StorageType; 2],
) {
    let row = CUBE_POS_X;
    let segment = cube_y();
    let (n_segments, n_buckets) = (lengths.n_segments, lengths.n_buckets);
    let (seq_length, n_slots) = (lengths.seq_length, lengths.n_slots);
    if segment >= n_segments {
        terminate!();
    }
    let own = (row * n_segments + segment) as usize * n_buckets as usize;
    let of_row = row as usize * seq_length as usize;
    let of_order = row as usize * n_slots as usize;
    let begin = segment * lengths.segment_length;
    let end = min(seq_length, begin + lengths.segment_length);
    let mut stretch = SharedMemory::<u32>::new(comptime![STRETCH as usize]);
    if !place {
        for bucket in range_stepped(UNIT_POS, n_buckets, STRETCH) {
            next[own + bucket as usize] = 0u32.runtime();
        }
        for slot in range_stepped(segment * STRETCH + UNIT_POS, n_slots, n_segments * STRETCH) {
            order[of_order + slot as usize] = I::from_int(EMPTY);
        }
        sync_storage();
    }

    let mut bucket = bucket_at(hashed, row, begin + UNIT_POS, end, lengths, rounds);
    for first in range_stepped(begin, end, STRETCH) {
        let position = first + UNIT_POS;
        // Read ahead, since the next stretch waits for the counters of this one.
        let following = bucket_at(hashed, row, position + STRETCH, end, lengths, rounds);
        stretch[UNIT_POS as usize] = bucket;
        sync_cube();
        // Units with the same bucket, as bits.
        let mut equal = 0u32.runtime();
        #[unroll]
        for other in 0..STRETCH {
            if stretch[other as usize] == bucket {
                equal |= comptime![1u32 << other];
            }
        }
        let earlier = equal & ((1u32 << UNIT_POS) - 1);
        let mut before = 0u32.runtime();
        let mut start = 0u32.runtime();
        if bucket != NOBODY {
            before = next[own + bucket as usize] + earlier.count_ones();
            if place {
                start = starts[(row * n_buckets + bucket) as usize];
            }
        }
        // All units have read the old counter; the last unit of each bucket now writes the new one.
        sync_cube();
        sync_storage();
        if bucket != NOBODY {
            if equal >> UNIT_POS == 1 {
                next[own + bucket as usize] = before + 1;
            }
            if place {
                let slot = start + before;
                order[of_order + slot as usize] = I::cast_from(position);
                slot_of[of_row + position as usize] = I::cast_from(slot);
            } else if comptime![rounds.keep] {
                buckets[of_row + position as usize] = I::cast_from(bucket);
            }
        }
        bucket = following;
        sync_storage();
    }
}

/// Replaces the counts of segments by sums over the previous segments, and computes totals.
#[cube(launch, address_type = "dynamic")]
fn sum_segments(
    next: &mut Array<u32>,
    totals: &mut Array<u32>,
    n_segments: usize,
    n_buckets: usize,
) {
    if ABSOLUTE_POS < totals.len() {
        let row = ABSOLUTE_POS / n_buckets;
        let first = row * n_segments * n_buckets + ABSOLUTE_POS % n_buckets;
        let mut counts = Array::<u32>::new(TOGETHER);
        let mut sum = 0u32.runtime();
        for segment in range_stepped(0, n_segments, TOGETHER) {
            // Reads do not wait for each other, nor for the writes.
            #[unroll]
            for i in 0..TOGETHER {
                let from = min(segment + i, n_segments - 1);
                counts[i] = next[first + from * n_buckets];
            }
            #[unroll]
            for i in 0..TOGETHER {
                if segment + i < n_segments {
                    next[first + (segment + i) * n_buckets] = sum;
                    sum += counts[i];
                }
            }
        }
        totals[ABSOLUTE_POS] = sum;
    }
}

/// Turns bucket sizes into the first slots of buckets, with one cube for each row.
#[cube(launch, address_type = "dynamic")]
fn begin_buckets(totals: &mut Array<u32>, n_buckets: u32, #[comptime] align: u32) {
    let of_row = CUBE_POS_X as usize * n_buckets as usize;
    let each = n_buckets.div_ceil(UNITS);
    let first = UNIT_POS * each;
    let end = min(n_buckets, first + each);
    let mut sums = SharedMemory::<u32>::new(comptime![UNITS as usize]);
    let mut own = 0u32.runtime();
    for bucket in first..end {
        own += totals[of_row + bucket as usize].div_ceil(align) * align;
    }
    // Sums over twice as many units at each step.
    let mut sum = own;
    #[unroll]
    for step in 0..comptime![UNITS.ilog2()] {
        let apart = comptime![1u32 << step];
        sync_cube();
        sums[UNIT_POS as usize] = sum;
        sync_cube();
        if UNIT_POS >= apart {
            sum += sums[(UNIT_POS - apart) as usize];
        }
    }
    let mut start = sum - own;
    for bucket in first..end {
        let size = totals[of_row + bucket as usize];
        totals[of_row + bucket as usize] = start;
        start += size.div_ceil(align) * align;
    }
}

/// The rounds to sort.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Rounds {
    n: u32,
    /// Whether the first one is a local round: see [`bucket_at`].
    local: bool,
    /// Whether buckets are written, because they differ from the input in values or type.
    keep: bool,
}

/// Result of sorting.
pub(super) struct Sorted<R: CubeRuntime> {
    /// `[batch_size, n_heads, n_rounds, n_slots]`.
    pub(super) order: CubeTensor<R>,
    /// `[batch_size, n_heads, n_rounds, seq_length]`.
    slot_of: CubeTensor<R>,
    /// The same shape, in the same type.
    buckets: CubeTensor<R>,
    /// The first slots of buckets, as `u32`: `[batch_size * n_heads * n_rounds, n_buckets]`.
    pub(super) starts: CubeTensor<R>,
}

/// See [`ReformerBackend::sort_rounds`](crate::kernels::ReformerBackend::sort_rounds) and
/// [`bucket_sort`](crate::kernels::ReformerBackend::bucket_sort). The number of slots is the
/// maximum for any bucket sizes, since the host does not know them.
pub(in crate::kernels) fn sort_rounds<B: Cube>(
    buckets: Ints<B, 4>,
    n_buckets: usize,
    layout: SlotLayout,
    local: bool,
) -> Slots<B> {
    let sorted = sort::<B>(buckets, n_buckets, layout, local);
    Slots {
        order: B::of_ints(sorted.order),
        slot_of: B::of_ints(sorted.slot_of),
        buckets: B::of_ints(sorted.buckets),
        mask_pad: None,
    }
}

/// The same, including the first slots of buckets.
pub(super) fn sort<B: Cube>(
    hashed: Ints<B, 4>,
    n_buckets: usize,
    layout: SlotLayout,
    local: bool,
) -> Sorted<B::Runtime> {
    let [batch_size, n_heads, n_hashed, seq_length] = hashed.dims();
    let n_rounds = n_hashed + usize::from(local);
    let n_rows = batch_size * n_heads * n_rounds;
    let (align, n_slots) = match layout {
        SlotLayout::Dense(length) => (1, seq_length.next_multiple_of(length)),
        SlotLayout::BucketAligned(length) => {
            let most = seq_length + n_buckets.min(seq_length) * (length - 1);
            (length, most / length * length)
        }
    };
    let ints = <B::IntElem as Element>::dtype();
    let hashed = into_contiguous(B::ints(hashed));
    let rounds = Rounds {
        n: n_rounds as u32,
        local,
        keep: local || hashed.dtype != ints,
    };
    let of_positions = || empty(&hashed, [batch_size, n_heads, n_rounds, seq_length], ints);
    let order = empty(&hashed, [batch_size, n_heads, n_rounds, n_slots], ints);
    let slot_of = of_positions();
    // The kernel needs an argument even if it does not write buckets.
    let written = match rounds.keep {
        true => of_positions(),
        false => empty(&hashed, [1, 1, 1, 1], ints),
    };

    // At most as many counters as positions, or those of a single segment.
    let segment_length = n_buckets.next_multiple_of(SHORTEST);
    let n_segments = seq_length.div_ceil(segment_length);
    let client = hashed.client.clone();
    let next = empty(&hashed, [n_rows, n_segments, n_buckets], DType::U32);
    let starts = empty(&hashed, [n_rows, n_buckets], DType::U32);
    let units = CubeDim::new_1d(UNITS);
    let walk = |place| {
        walk::launch(
            &client,
            grid(&client, n_rows, n_segments),
            CubeDim::new_1d(STRETCH),
            offsets(&[&hashed, &next, &order]),
            hashed.clone().into_array_arg(),
            next.clone().into_array_arg(),
            starts.clone().into_array_arg(),
            order.clone().into_array_arg(),
            slot_of.clone().into_array_arg(),
            written.clone().into_array_arg(),
            LengthsLaunch::new(
                seq_length as u32,
                n_slots as u32,
                n_buckets as u32,
                n_segments as u32,
                segment_length as u32,
            ),
            rounds,
            place,
            [hashed.dtype.into(), ints.into()],
        );
    };
    walk(false);
    sum_segments::launch(
        &client,
        calculate_cube_count_elemwise(&client, n_rows * n_buckets, units),
        units,
        offsets(&[&next]),
        next.clone().into_array_arg(),
        starts.clone().into_array_arg(),
        n_segments,
        n_buckets,
    );
    begin_buckets::launch(
        &client,
        CubeCount::Static(n_rows as u32, 1, 1),
        units,
        offsets(&[&starts]),
        starts.clone().into_array_arg(),
        n_buckets as u32,
        align as u32,
    );
    walk(true);
    Sorted {
        order,
        slot_of,
        buckets: if rounds.keep { written } else { hashed },
        starts,
    }
}
