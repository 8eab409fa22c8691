//! Angular hashing: projections are compared as they are computed, without being stored.
//!
//! A unit has a block of projections in registers, of a few positions on a few columns of the
//! rotations, so that each number that it loads serves several products. Rotations are packed
//! first, such that what a cube reads of them at a time lies side by side.

use burn::tensor::DType;
use burn_cubecl::cubecl;
use burn_cubecl::cubecl::calculate_cube_count_elemwise;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::{CubeRuntime, tensor::CubeTensor};

use super::common::{Four, UNITS};
use super::device::{Cube, Floats, Ints, cubes, empty, offsets, side_by_side, width};
use super::strided::{Strided, strided};

/// Columns of a block.
const COLUMNS: u32 = 8;

/// Maximum number of positions of a unit, and of units that share them, each with other rounds.
const MOST_SHARING: u32 = 4;

/// Positions per cube: as many as units.
const POSITIONS: u32 = 64;

/// Maximum number of features that a cube holds at a time: 12 KiB with those of the rotations.
const MOST_FEATURES: u32 = 32;

/// How a cube is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Cut {
    d_head: u32,
    /// Features that a cube holds at a time, and how often it does; zeros fill the last time.
    features: u32,
    times: u32,
    /// Positions of a unit, and units with the same positions (a team).
    sharing: u32,
    /// Vector width for reading positions.
    width: u32,
}

impl Cut {
    fn new(d_head: usize, n_rounds: usize, width: usize) -> Self {
        let (d_head, width) = (d_head as u32, width as u32);
        let times = d_head.div_ceil(MOST_FEATURES);
        Self {
            d_head,
            features: (d_head / width).div_ceil(times) * width,
            times,
            sharing: (n_rounds as u32).next_power_of_two().min(MOST_SHARING),
            width,
        }
    }

    fn teams(self) -> u32 {
        POSITIONS / self.sharing
    }

    /// Vectors of four rotation elements that a cube holds at a time.
    fn fours(self) -> u32 {
        self.features * self.sharing * COLUMNS / 4
    }
}

/// Number of blocks that cover the projections of all factors.
fn blocks_of(factors: &[usize]) -> usize {
    let blocks = |factor: &usize| (factor / 2).div_ceil(COLUMNS as usize);
    factors.iter().map(blocks).sum()
}

/// Orders rotations `[n_heads, d_head, n_rounds, n_projections]` as `[n_heads, n_rounds / sharing,
/// blocks, times * features, sharing, COLUMNS]`. A block has columns of one factor; the last one is
/// repeated where there are too few, which never changes which of equals comes first. So is the
/// last round.
#[cube(launch, address_type = "dynamic")]
fn pack<F: Float>(
    rotations: &Strided<F>,
    packed: &mut Array<f32>,
    factors: Sequence<u32>,
    blocks: u32,
    #[comptime] cut: Cut,
    #[define(F)] _dtype: StorageType,
) {
    if ABSOLUTE_POS >= packed.len() {
        terminate!();
    }
    let features = comptime![cut.times * cut.features];
    let n_rounds = rotations.length as u32;
    let at = ABSOLUTE_POS as u32;
    let (column, at) = (at % COLUMNS, at / COLUMNS);
    let (unit, at) = (at % cut.sharing, at / cut.sharing);
    let (feature, at) = (at % features, at / features);
    let (block, at) = (at % blocks, at / blocks);
    let turns = n_rounds.div_ceil(cut.sharing);
    let round = min(at % turns * cut.sharing + unit, n_rounds - 1);

    let mut projection = 0u32.runtime();
    let mut start = 0u32.runtime();
    let mut first = 0u32.runtime();
    #[unroll]
    for number in 0..factors.len() {
        let half = *factors.index(number) / 2;
        if block >= first {
            projection = start + min((block - first) * COLUMNS + column, half - 1);
        }
        first += half.div_ceil(COLUMNS);
        start += half;
    }
    let from = rotations.at((at / turns) as usize, round as usize)
        + min(feature, cut.d_head - 1) as usize * rotations.of_head
        + projection as usize;
    let mut element = f32::cast_from(rotations.vectors[from]);
    if feature >= cut.d_head {
        element = 0.0;
    }
    packed[ABSOLUTE_POS] = element;
}

/// Loads features of the cube's positions: for each feature, the positions of a team side by side.
#[cube]
fn load<V: Float, W: Size, N: Size>(
    vectors: &Strided<Vector<V, W>>,
    shared: &mut SharedMemory<Vector<f32, N>>,
    of_head: usize,
    first: u32,
    time: u32,
    #[comptime] cut: Cut,
) {
    let last = vectors.length as u32 - 1;
    let (columns, teams) = comptime![(cut.features / cut.width, cut.teams())];
    for job in range_stepped(UNIT_POS, columns * teams, POSITIONS) {
        let own = job % columns;
        let team = job / columns;
        let column = time * columns + own;
        let mut rows = Array::<Vector<f32, W>>::new(comptime![cut.sharing as usize]);
        #[unroll]
        for i in 0..cut.sharing {
            // Positions beyond the end are replaced by the last one.
            let position = min(first + team * cut.sharing + i, last) as usize;
            let row = of_head + position * vectors.of_position;
            let mut elements = Vector::<f32, W>::new(0.0);
            if column < comptime![cut.d_head / cut.width] {
                elements = Vector::cast_from(vectors.vectors[row + column as usize]);
            }
            rows[i as usize] = elements;
        }
        #[unroll]
        for feature in 0..cut.width {
            let mut across = Vector::<f32, N>::empty();
            #[unroll]
            for i in 0..cut.sharing {
                across[i as usize] = rows[i as usize][feature as usize];
            }
            shared[((own * cut.width + feature) * teams + team) as usize] = across;
        }
    }
}

/// The units of a team have the same positions, and every `sharing`-th round each. `n_heads` counts
/// those of the whole batch, `n_rotated` those with rotations of their own.
#[cube(launch, address_type = "dynamic")]
fn largest<V: Float, I: Int, W: Size, N: Size>(
    vectors: &Strided<Vector<V, W>>,
    rotations: &Array<Four>,
    buckets: &mut Array<I>,
    factors: Sequence<u32>,
    n_heads: u32,
    n_rounds: u32,
    n_rotated: u32,
    blocks: u32,
    #[comptime] cut: Cut,
    #[define(V, I)] _dtypes: [StorageType; 2],
) {
    let seq_length = vectors.length as u32;
    let cubes = seq_length.div_ceil(POSITIONS);
    // Heads one after the other: cubes that run together share rotations in the cache.
    let head = CUBE_POS as u32 / cubes;
    if head >= n_heads {
        terminate!();
    }
    let first = CUBE_POS as u32 % cubes * POSITIONS;
    let of_vectors = vectors.head(head);
    let (teams, fours) = comptime![(cut.teams(), cut.fours())];
    let mut x_shared =
        SharedMemory::<Vector<f32, N>>::new(comptime![(cut.features * teams) as usize]);
    let mut shared = SharedMemory::<Four>::new(comptime![fours as usize]);

    let sharing = comptime![cut.sharing as usize];
    let turns = n_rounds.div_ceil(cut.sharing);
    let mut part_at = head % n_rotated * turns * blocks * comptime![cut.times] * fours;
    for turn in 0..turns {
        let mut bucket = Array::<u32>::new(sharing);
        #[unroll]
        for i in 0..sharing {
            bucket[i] = 0u32.runtime();
        }
        let mut weight = 1u32.runtime();
        #[unroll]
        for number in 0..factors.len() {
            let half = *factors.index(number) / 2;
            let mut largest = Array::<f32>::new(sharing);
            let mut largest_at = Array::<u32>::new(sharing);
            let mut smallest = Array::<f32>::new(sharing);
            let mut smallest_at = Array::<u32>::new(sharing);
            #[unroll]
            for i in 0..sharing {
                largest[i] = f32::min_value();
                largest_at[i] = 0u32.runtime();
                smallest[i] = f32::max_value();
                smallest_at[i] = 0u32.runtime();
            }
            for part in range_stepped(0, half, COLUMNS) {
                let mut sums = Array::<Vector<f32, N>>::new(comptime![COLUMNS as usize]);
                #[unroll]
                for column in 0..COLUMNS {
                    sums[column as usize] = Vector::new(0.0);
                }
                for time in 0..cut.times {
                    sync_cube();
                    load(vectors, &mut x_shared, of_vectors, first, time, cut);
                    for i in range_stepped(UNIT_POS, fours, POSITIONS) {
                        shared[i as usize] = rotations[(part_at + i) as usize];
                    }
                    part_at += fours;
                    sync_cube();
                    for feature in 0..cut.features {
                        let x = x_shared[(feature * teams + UNIT_POS_Y) as usize];
                        let own = (feature * cut.sharing + UNIT_POS_X) * comptime![COLUMNS / 4];
                        #[unroll]
                        for four in 0..comptime![COLUMNS / 4] {
                            let elements = shared[(own + four) as usize];
                            #[unroll]
                            for i in 0..4u32 {
                                sums[(four * 4 + i) as usize] +=
                                    x * Vector::new(elements[i as usize]);
                            }
                        }
                    }
                }
                #[unroll]
                for column in 0..COLUMNS {
                    #[unroll]
                    for i in 0..sharing {
                        let value = sums[column as usize][i];
                        // The first one of equals.
                        if value > largest[i] {
                            largest[i] = value;
                            largest_at[i] = part + column;
                        }
                        if value < smallest[i] {
                            smallest[i] = value;
                            smallest_at[i] = part + column;
                        }
                    }
                }
            }
            #[unroll]
            for i in 0..sharing {
                let mut digit = largest_at[i];
                if -smallest[i] > largest[i] {
                    digit = half + smallest_at[i];
                }
                bucket[i] += digit * weight;
            }
            weight *= 2 * half;
        }
        let round = turn * cut.sharing + UNIT_POS_X;
        let to = (head * n_rounds + round) as usize * seq_length as usize;
        #[unroll]
        for i in 0..sharing {
            let position = first + UNIT_POS_Y * cut.sharing + i as u32;
            if round < n_rounds && position < seq_length {
                buckets[to + position as usize] = I::cast_from(bucket[i]);
            }
        }
    }
}

/// See [`pack`]. The projections of a round must be contiguous.
fn packed<R: CubeRuntime>(rotations: CubeTensor<R>, factors: &[usize], cut: Cut) -> CubeTensor<R> {
    let [n_heads, _, n_rounds, _] = rotations.meta.shape().dims();
    let turns = n_rounds.div_ceil(cut.sharing as usize);
    let blocks = blocks_of(factors);
    let part = (cut.times * cut.fours() * 4) as usize;
    let packed = empty(&rotations, [n_heads, turns, blocks, part], DType::F32);
    let client = rotations.client.clone();
    let units = CubeDim::new_1d(UNITS);
    let dtype = rotations.dtype;
    pack::launch(
        &client,
        calculate_cube_count_elemwise(&client, n_heads * turns * blocks * part, units),
        units,
        offsets(&[&rotations, &packed]),
        strided(rotations, 1),
        packed.clone().into_array_arg(),
        factors.iter().map(|factor| *factor as u32).collect(),
        blocks as u32,
        cut,
        dtype.into(),
    );
    packed
}

/// See [`ReformerBackend::hash`](crate::kernels::ReformerBackend::hash).
pub(in crate::kernels) fn hash<B: Cube>(
    vectors: Floats<B, 4>,
    rotations: Floats<B, 4>,
    factors: &[usize],
) -> Ints<B, 4> {
    let [batch_size, n_heads, seq_length, d_head] = vectors.dims();
    let [n_rotated, _, n_rounds, _] = rotations.dims();
    let ints = <B::IntElem as burn::tensor::Element>::dtype();
    let vectors = side_by_side(B::floats(vectors));
    let buckets = empty(&vectors, [batch_size, n_heads, n_rounds, seq_length], ints);
    let cut = Cut::new(d_head, n_rounds, width(&[&vectors]));
    let rotations = packed(side_by_side(B::floats(rotations)), factors, cut);
    let client = vectors.client.clone();
    let dtypes = [vectors.dtype.into(), ints.into()];
    let n_cubes = seq_length.div_ceil(POSITIONS as usize);
    largest::launch(
        &client,
        cubes(&client, batch_size * n_heads * n_cubes),
        CubeDim::new_2d(cut.sharing, cut.teams()),
        offsets(&[&vectors, &rotations, &buckets]),
        cut.width as usize,
        cut.sharing as usize,
        strided(vectors, cut.width as usize),
        rotations.into_array_arg(),
        buckets.clone().into_array_arg(),
        factors.iter().map(|factor| *factor as u32).collect(),
        (batch_size * n_heads) as u32,
        n_rounds as u32,
        n_rotated as u32,
        blocks_of(factors) as u32,
        cut,
        dtypes,
    );
    B::of_ints(buckets)
}
