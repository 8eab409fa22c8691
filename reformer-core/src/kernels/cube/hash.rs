//! Angular hashing: projections are compared as they are computed, without being stored.

use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;

use super::common::{Four, cube_y, four_of, head_at, sum_of};
use super::device::{Cube, Floats, Ints, empty, grid, offsets};

/// Positions per cube, one for each unit.
const POSITIONS: u32 = 64;

/// Vectors of four rotation elements that a cube holds at a time: 8 KiB.
const SHARED: u32 = 512;

/// A unit keeps a vector in registers and searches for the largest of its projections.
#[cube(launch, address_type = "dynamic")]
fn largest<V: Float, F: Float, I: Int>(
    vectors: &Tensor<V>,
    rotations: &Tensor<F>,
    buckets: &mut Tensor<I>,
    factors: Sequence<u32>,
    #[comptime] d_head: u32,
    #[define(V, F, I)] _dtypes: [StorageType; 3],
) {
    let head = CUBE_POS_X;
    let seq_length = vectors.shape(2) as u32;
    let first = cube_y() * POSITIONS;
    if first >= seq_length {
        terminate!();
    }
    let position = first + UNIT_POS;
    let fours = comptime![d_head.div_ceil(4)];
    let at_once = comptime![Ord::max(1, SHARED / fours)];
    let mut shared = SharedMemory::<Four>::new(comptime![(at_once * fours) as usize]);
    let mut vector = Array::<Four>::new(comptime![fours as usize]);
    // Units without a position use the last one.
    let row = head_at(vectors, head) + min(position, seq_length - 1) as usize * vectors.stride(2);
    #[unroll]
    for i in 0..fours {
        vector[i as usize] = four_of(vectors, row, 4 * i, d_head);
    }

    let of_head = (head % rotations.shape(0) as u32) as usize * rotations.stride(0);
    let n_rounds = rotations.shape(2) as u32;
    for round in 0..n_rounds {
        let of_round = of_head + round as usize * rotations.stride(2);
        let mut bucket = 0u32.runtime();
        let mut weight = 1u32.runtime();
        let mut start = 0u32.runtime();
        #[unroll]
        for number in 0..factors.len() {
            let half = *factors.index(number) / 2;
            let mut largest = f32::min_value();
            let mut largest_at = 0u32.runtime();
            let mut smallest = f32::max_value();
            let mut smallest_at = 0u32.runtime();
            for part in range_stepped(0, half, at_once) {
                let n = min(at_once.runtime(), half - part);
                sync_cube();
                for i in range_stepped(UNIT_POS, n * fours, POSITIONS) {
                    let projection = start + part + i / fours;
                    let column = of_round + projection as usize * rotations.stride(3);
                    shared[i as usize] = down(rotations, column, 4 * (i % fours), d_head);
                }
                sync_cube();
                for projection in 0..n {
                    let mut sums = Four::new(0.0);
                    #[unroll]
                    for i in 0..fours {
                        sums += vector[i as usize] * shared[(projection * fours + i) as usize];
                    }
                    let value = sum_of(sums);
                    // The first one of equals.
                    if value > largest {
                        largest = value;
                        largest_at = part + projection;
                    }
                    if value < smallest {
                        smallest = value;
                        smallest_at = part + projection;
                    }
                }
            }
            let mut digit = largest_at;
            if -smallest > largest {
                digit = half + smallest_at;
            }
            bucket += digit * weight;
            weight *= 2 * half;
            start += half;
        }
        if position < seq_length {
            let row = (head * n_rounds + round) as usize * seq_length as usize;
            buckets[row + position as usize] = I::cast_from(bucket);
        }
    }
}

/// Four consecutive elements along the second dimension of `[n_heads, d_head, n_rounds, n_projections]`.
#[cube]
fn down<F: Float>(
    rotations: &Tensor<F>,
    column: usize,
    first: u32,
    #[comptime] d_head: u32,
) -> Four {
    let mut four = Four::empty();
    #[unroll]
    for i in 0..4u32 {
        four[i as usize] = if first + i < d_head {
            f32::cast_from(rotations[column + (first + i) as usize * rotations.stride(1)])
        } else {
            0.0f32.runtime()
        };
    }
    four
}

/// See [`ReformerBackend::hash`](crate::kernels::ReformerBackend::hash).
pub(in crate::kernels) fn hash<B: Cube>(
    vectors: Floats<B, 4>,
    rotations: Floats<B, 4>,
    factors: &[usize],
) -> Ints<B, 4> {
    let [batch_size, n_heads, seq_length, d_head] = vectors.dims();
    let n_rounds = rotations.dims()[2];
    let ints = <B::IntElem as burn::tensor::Element>::dtype();
    let (vectors, rotations) = (B::floats(vectors), B::floats(rotations));
    let buckets = empty(&vectors, [batch_size, n_heads, n_rounds, seq_length], ints);
    let client = vectors.client.clone();
    let dtypes = [vectors.dtype.into(), rotations.dtype.into(), ints.into()];
    let y = seq_length.div_ceil(POSITIONS as usize);
    largest::launch(
        &client,
        grid(&client, batch_size * n_heads, y),
        CubeDim::new_1d(POSITIONS),
        offsets(&[&vectors, &rotations, &buckets]),
        vectors.into_tensor_arg(),
        rotations.into_tensor_arg(),
        buckets.clone().into_tensor_arg(),
        factors.iter().map(|factor| *factor as u32).collect(),
        d_head as u32,
        dtypes,
    );
    B::of_ints(buckets)
}
