//! Products of matrices in half precision on tensor cores, with sums in single precision: for the
//! shapes of linear layers, which have many rows and few columns.
//!
//! A cube has a block of the result in registers. Blocks of the factors come to shared memory some
//! stages ahead, by copies that no unit waits for. Where a matrix does not consist of whole blocks, the last
//! ones begin earlier and compute some elements again, so that no kernel asks where a matrix ends.

use burn::tensor::DType;
use burn_cubecl::cubecl;
use burn_cubecl::cubecl::client::ComputeClient;
use burn_cubecl::cubecl::prelude::barrier::{Barrier, copy_async};
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::{CubeRuntime, tensor::CubeTensor};

use super::device::{empty, has_tensor_cores, offsets};
use super::matrices::{
    ALIGNMENT, EIGHT, Eight, HALF, OWN, PLANE, Pair, QUAD, SIDE, Tile, load, multiply_by, row_of,
    zeros,
};

/// A block of a factor in shared memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Block {
    /// Whether a row of the factor has what is summed over, as in `x` and `weight^T` of
    /// `x weight`; otherwise a row has what a sum is for.
    summed_in_row: bool,
    /// Number of rows or columns of the result.
    n: u32,
    /// Number of terms.
    depth: u32,
    units: u32,
}

impl Block {
    /// Number of rows in memory.
    fn rows(self) -> u32 {
        if self.summed_in_row {
            self.n
        } else {
            self.depth
        }
    }

    /// Elements of a row.
    fn columns(self) -> u32 {
        if self.summed_in_row {
            self.depth
        } else {
            self.n
        }
    }

    /// Vectors of a row.
    fn vectors(self) -> u32 {
        self.columns() / EIGHT
    }

    /// Vectors of a row in shared memory.
    fn row(self) -> u32 {
        row_of(self.columns()) / EIGHT
    }

    /// Rows that the units of a cube copy at a time.
    fn rows_at_once(self) -> u32 {
        self.units / self.vectors()
    }

    /// Vectors of shared memory.
    fn room(self) -> u32 {
        self.rows() * self.row()
    }

    /// How far a row or column of the result, and a term, is away in shared memory.
    fn offset(self, i: u32, term: u32) -> usize {
        let (row, column) = if self.summed_in_row {
            (i, term)
        } else {
            (term, i)
        };
        (row * self.row() + column / EIGHT) as usize
    }
}

/// How a product is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Plan {
    left: Block,
    right: Block,
    /// Rows and columns of the result that a plane has.
    of_plane: (u32, u32),
    stages: u32,
}

impl Plan {
    fn planes(self) -> (u32, u32) {
        (
            self.left.n / self.of_plane.0,
            self.right.n / self.of_plane.1,
        )
    }

    fn units(self) -> u32 {
        self.planes().0 * self.planes().1 * PLANE
    }
}

/// What a launch is told.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
pub(super) struct Sizes {
    /// Rows and columns of the result.
    rows: u32,
    columns: u32,
    /// Number of terms of a part.
    depth: u32,
    /// Distance of rows of the factors, in vectors.
    left_row: usize,
    right_row: usize,
}

/// The vectors of a unit in the blocks of a factor.
#[derive(CubeType, Clone, Copy)]
struct Source {
    /// Offset of its first vector in the first block.
    first: usize,
    /// Distances of its next vector, and of the next block.
    next: usize,
    next_block: usize,
    /// Offset of its first vector in shared memory.
    to: usize,
}

#[cube]
fn source(row: usize, first: u32, term: usize, #[comptime] block: Block) -> Source {
    let vectors = comptime![block.vectors()];
    let (of_row, of_column) = (UNIT_POS / vectors, UNIT_POS % vectors);
    let mut at = of_row as usize * row + of_column as usize;
    let mut next_block = row * comptime![block.depth as usize];
    if comptime![block.summed_in_row] {
        at += first as usize * row + term / comptime![EIGHT as usize];
        next_block = comptime![(block.depth / EIGHT) as usize].runtime();
    } else {
        at += term * row + (first / EIGHT) as usize;
    }
    Source {
        first: at,
        next: row * comptime![block.rows_at_once() as usize],
        next_block,
        to: (of_row * comptime![block.row()] + of_column) as usize,
    }
}

/// Begins to copy a block.
#[cube]
fn copy(
    factor: &Array<Eight>,
    from: &Source,
    to: &mut SharedMemory<Eight>,
    number: u32,
    #[comptime] stage: u32,
    #[comptime] block: Block,
) {
    let first = from.first + number as usize * from.next_block;
    #[unroll]
    for i in 0..comptime![block.rows() / block.rows_at_once()] {
        let at = first + i as usize * from.next;
        let skipped = comptime![stage * block.room() + i * block.rows_at_once() * block.row()];
        let to_at = from.to + comptime![skipped as usize];
        copy_async(
            &factor.slice(at, at + 1),
            &mut to.slice_mut(to_at, to_at + 1),
            4u32,
        );
    }
}

/// Offset of the unit's row for `ldmatrix` in a block whose first row or column of the result is
/// `first`: of the second of four matrices are the next rows or columns if `next_first`, otherwise the next terms.
#[cube]
fn row_in_block(first: u32, #[comptime] next_first: bool, #[comptime] block: Block) -> usize {
    let unit = UNIT_POS_X;
    let (near, far) = (unit / HALF % 2 * HALF, unit / SIDE * HALF);
    let (mut i, mut term) = (near, far);
    if comptime![!next_first] {
        i = far;
        term = near;
    }
    let (mut row, mut column) = (first + i, term);
    if comptime![!block.summed_in_row] {
        row = term;
        column = first + i;
    }
    ((row + unit % HALF) * comptime![block.row()] + column / EIGHT) as usize
}

/// `left right`, for each part of the terms.
#[cube(launch, explicit_define, address_type = "dynamic")]
fn multiply<F: Float, O: Float>(
    left: &Array<Eight>,
    right: &Array<Eight>,
    output: &mut Array<Pair<O>>,
    sizes: &Sizes,
    #[comptime] plan: Plan,
    #[define(F, O)] _dtypes: [StorageType; 2],
) {
    let (rows, columns) = comptime![(plan.left, plan.right)];
    let first_row = min(
        CUBE_POS_Y * comptime![rows.n],
        sizes.rows - comptime![rows.n],
    );
    let first_column = min(
        CUBE_POS_X * comptime![columns.n],
        sizes.columns - comptime![columns.n],
    );
    let first_term = CUBE_POS_Z as usize * sizes.depth as usize;
    let of_left = source(sizes.left_row, first_row, first_term, rows);
    let of_right = source(sizes.right_row, first_column, first_term, columns);
    let stages = comptime![plan.stages];
    let mut lefts = SharedMemory::<Eight>::new_aligned(
        comptime![(stages * rows.room()) as usize],
        comptime![ALIGNMENT],
    );
    let mut rights = SharedMemory::<Eight>::new_aligned(
        comptime![(stages * columns.room()) as usize],
        comptime![ALIGNMENT],
    );
    let mut copied = Sequence::<Shared<Barrier>>::new();
    #[unroll]
    for _ in 0..stages {
        copied.push(Barrier::shared(CUBE_DIM, UNIT_POS == 0));
    }
    let n_blocks = sizes.depth / comptime![rows.depth];
    #[unroll]
    for stage in 0..comptime![stages - 1] {
        if stage < n_blocks {
            copy(left, &of_left, &mut lefts, stage, stage, rows);
            copy(right, &of_right, &mut rights, stage, stage, columns);
        }
        arrive(copied.index(comptime![stage as usize]));
    }

    let plane = UNIT_POS_Y;
    let planes = comptime![plan.planes().1];
    let (of_rows, of_columns) = comptime![plan.of_plane];
    let (row_of_plane, column_of_plane) = (plane / planes * of_rows, plane % planes * of_columns);
    let at_left = row_in_block(row_of_plane, true, rows);
    let at_right = row_in_block(column_of_plane, false, columns);
    let mut sums = Sequence::<Sequence<Tile>>::new();
    #[unroll]
    for _ in 0..comptime![of_rows / SIDE] {
        sums.push(zeros(of_columns));
    }
    let mut phase = 0u32.runtime();
    for first in range_stepped(0, n_blocks, stages) {
        #[unroll]
        for stage in 0..stages {
            if first + stage < n_blocks {
                copied.index(comptime![stage as usize]).wait_parity(phase);
                // All units have what they need of the block before, whose room is the next one's.
                sync_cube();
                let ahead = comptime![(stage + stages - 1) % stages];
                let number = first + comptime![stage + stages - 1];
                if number < n_blocks {
                    copy(left, &of_left, &mut lefts, number, ahead, rows);
                    copy(right, &of_right, &mut rights, number, ahead, columns);
                }
                arrive(copied.index(comptime![ahead as usize]));
                add_products::<F>(&lefts, at_left, &rights, at_right, &mut sums, stage, plan);
            }
        }
        phase = 1 - phase;
    }
    let part = CUBE_POS_Z as usize * sizes.rows as usize;
    write::<O>(
        output,
        &sums,
        part + (first_row + row_of_plane) as usize,
        first_column + column_of_plane,
        sizes.columns,
        plan,
    );
}

/// Marks the unit's copies so far as those that a barrier waits for.
#[cube]
fn arrive(copied: &Shared<Barrier>) {
    copied.commit_copy_async();
    copied.arrive();
}

/// Adds the products of a stage.
#[cube]
fn add_products<F: Float>(
    lefts: &SharedMemory<Eight>,
    at_left: usize,
    rights: &SharedMemory<Eight>,
    at_right: usize,
    sums: &mut Sequence<Sequence<Tile>>,
    #[comptime] stage: u32,
    #[comptime] plan: Plan,
) {
    let (rows, columns) = comptime![(plan.left, plan.right)];
    let (of_rows, of_columns) = comptime![plan.of_plane];
    #[unroll]
    for step in 0..comptime![rows.depth / SIDE] {
        let mut factors = Sequence::<Array<Pair<F>>>::new();
        #[unroll]
        for i in 0..comptime![of_rows / SIDE] {
            let at = comptime![(stage * rows.room()) as usize + rows.offset(i * SIDE, step * SIDE)];
            factors.push(load::<F>(
                lefts,
                at_left + at,
                comptime![!rows.summed_in_row],
            ));
        }
        #[unroll]
        for j in 0..comptime![of_columns / SIDE] {
            let at = comptime![
                (stage * columns.room()) as usize + columns.offset(j * SIDE, step * SIDE)
            ];
            let by = load::<F>(rights, at_right + at, comptime![!columns.summed_in_row]);
            #[unroll]
            for i in 0..comptime![(of_rows / SIDE) as usize] {
                multiply_by::<F>(factors.index(i), &by, sums.index_mut(i), comptime![2 * j]);
            }
        }
    }
}

/// Writes the sums of a plane.
#[cube]
fn write<O: Float>(
    output: &mut Array<Pair<O>>,
    sums: &Sequence<Sequence<Tile>>,
    row: usize,
    column: u32,
    columns: u32,
    #[comptime] plan: Plan,
) {
    let stride = (columns / 2) as usize;
    let first =
        (row + (UNIT_POS_X / QUAD) as usize) * stride + (column / 2 + UNIT_POS_X % QUAD) as usize;
    #[unroll]
    for i in 0..comptime![plan.of_plane.0 / SIDE] {
        #[unroll]
        for own in 0..comptime![OWN] {
            let at = first + comptime![(i * SIDE + own * HALF) as usize] * stride;
            #[unroll]
            for tile in 0..comptime![(plan.of_plane.1 / HALF) as usize] {
                let of_tile = sums.index(comptime![i as usize]).index(tile);
                output[at + tile * comptime![(HALF / 2) as usize]] =
                    Pair::cast_from(of_tile[comptime![own as usize]]);
            }
        }
    }
}

/// A factor as it lies in memory: rows of vectors.
struct Factor<R: CubeRuntime> {
    tensor: CubeTensor<R>,
    /// Dimension of the factor whose elements lie side by side.
    beside: usize,
}

impl<R: CubeRuntime> Factor<R> {
    /// `None` if the rows do not consist of vectors.
    fn new(mut tensor: CubeTensor<R>) -> Option<Self> {
        let beside = tensor
            .meta
            .strides()
            .iter()
            .position(|stride| *stride == 1)?;
        if beside == 0 {
            tensor.meta.swap(0, 1);
        }
        let (row, first) = (
            tensor.meta.strides()[0],
            tensor.handle.offset_start.unwrap_or(0),
        );
        let width = EIGHT as usize;
        let aligned = row.is_multiple_of(width) && first.is_multiple_of(ALIGNMENT as u64);
        aligned.then_some(Self { tensor, beside })
    }
}

/// Rows or columns of a block, terms at a time.
const SIDE_OF_BLOCK: u32 = 128;
const DEPTH: u32 = 64;

/// `left right` as the sum of `parts` products with equal numbers of terms, `[parts, rows, columns]`, if the
/// device and the sizes suit these kernels. Factors may be transposed views.
pub(super) fn product<R: CubeRuntime>(
    left: CubeTensor<R>,
    right: CubeTensor<R>,
    parts: usize,
    dtype: DType,
) -> Option<CubeTensor<R>> {
    let [rows, terms] = left.meta.shape().dims();
    let [_, columns] = right.meta.shape().dims();
    let depth = terms / parts;
    let side = SIDE_OF_BLOCK as usize;
    if variant().is_some_and(|v| v.len() == 1) {
        return None;
    }
    let fits = rows >= side
        && columns >= side
        && columns.is_multiple_of(EIGHT as usize)
        && depth.is_multiple_of(DEPTH as usize)
        && depth > 0
        && left.dtype == right.dtype
        && right.dtype != DType::F32
        && left.client.properties().features.copy_async
        && has_tensor_cores(&left.client, left.dtype);
    if !fits {
        return None;
    }
    let (left, right) = (Factor::new(left)?, Factor::new(right)?);
    if left.beside == 0 && !rows.is_multiple_of(EIGHT as usize) {
        return None;
    }
    let plan = plan_of(&left.tensor.client, left.beside == 1, right.beside == 0);
    let output = empty(&left.tensor, [parts, rows, columns], dtype);
    launch(&plan, &left.tensor, &right.tensor, &output, depth);
    Some(output)
}

// TEMPORARY
fn variant() -> Option<Vec<u32>> {
    let v = std::env::var("PRODUCT").ok()?;
    Some(v.split(',').map(|n| n.parse().unwrap_or(0)).collect())
}

fn plan_of<R: CubeRuntime>(
    client: &ComputeClient<R>,
    left_summed_in_row: bool,
    right_summed_in_row: bool,
) -> Plan {
    let v = variant().unwrap_or(vec![SIDE_OF_BLOCK, SIDE_OF_BLOCK, DEPTH, 64, 64, 0]);
    let of_plane = (v[3], v[4]);
    let units = (v[0] / of_plane.0) * (v[1] / of_plane.1) * PLANE;
    let block = |summed_in_row, n| Block {
        summed_in_row,
        n,
        depth: v[2],
        units,
    };
    let (left, right) = (
        block(left_summed_in_row, v[0]),
        block(right_summed_in_row, v[1]),
    );
    let bytes = (left.room() + right.room()) as usize * ALIGNMENT;
    let room = client.properties().hardware.max_shared_memory_size;
    Plan {
        left,
        right,
        of_plane,
        // Two cubes share a multiprocessor, which has little more room than a cube may have.
        stages: if v[5] > 0 {
            v[5]
        } else if room >= 6 * bytes {
            3
        } else {
            2
        },
    }
}

fn launch<R: CubeRuntime>(
    plan: &Plan,
    left: &CubeTensor<R>,
    right: &CubeTensor<R>,
    output: &CubeTensor<R>,
    depth: usize,
) {
    let [parts, rows, columns] = output.meta.shape().dims();
    let count = CubeCount::Static(
        columns.div_ceil(plan.right.n as usize) as u32,
        rows.div_ceil(plan.left.n as usize) as u32,
        parts as u32,
    );
    multiply::launch::<AnyFloat, AnySum, R>(
        &left.client,
        count,
        CubeDim::new_2d(PLANE, plan.units() / PLANE),
        offsets(&[left, right, output]),
        left.clone().into_array_arg(),
        right.clone().into_array_arg(),
        output.clone().into_array_arg(),
        SizesLaunch::new(
            rows as u32,
            columns as u32,
            depth as u32,
            row_of_factor(left),
            row_of_factor(right),
        ),
        *plan,
        [left.dtype.into(), output.dtype.into()],
    );
}

/// Distance of rows, in vectors.
fn row_of_factor<R: CubeRuntime>(factor: &CubeTensor<R>) -> usize {
    factor.meta.strides()[0] / EIGHT as usize
}

/// Stand for the types of factors and results, which kernels get to know when they are compiled.
type AnyFloat = DynamicScalar<FactorMarker>;
type AnySum = DynamicScalar<SumMarker>;

struct FactorMarker;
struct SumMarker;
