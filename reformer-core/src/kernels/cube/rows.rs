//! Kernels on single positions of a head: preparation for attention.

use burn::tensor::DType;
use burn_cubecl::cubecl;
use burn_cubecl::cubecl::calculate_cube_count_elemwise;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::{CubeRuntime, tensor::CubeTensor};

use super::common::{LANES, UNITS, over_lanes, total};
use super::device::{empty, offsets, side_by_side, width};
use super::strided::{Strided, strided};
use crate::kernels::KEY_EPSILON;

/// Distribution of a row over units.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Row {
    /// Number of elements in a row, and vector width of loads.
    pub(super) d: usize,
    pub(super) width: usize,
    /// Number of units per row: a power of two.
    pub(super) lanes: u32,
}

impl Row {
    pub(super) fn new<R: CubeRuntime>(d: usize, tensors: &[&CubeTensor<R>]) -> Self {
        let width = width(tensors);
        Self {
            d,
            width,
            lanes: (d.div_ceil(width) as u32).next_power_of_two().min(LANES),
        }
    }

    pub(super) fn columns(self) -> usize {
        self.d / self.width
    }

    /// Number of vectors of a row per unit.
    pub(super) fn parts(self) -> usize {
        self.columns().div_ceil(self.lanes as usize)
    }

    /// Number of rows per cube.
    pub(super) fn teams(self) -> usize {
        (UNITS / self.lanes) as usize
    }

    /// A grid with `lanes` units for each row.
    pub(super) fn grid<R: CubeRuntime>(
        self,
        client: &ComputeClient<R>,
        n_rows: usize,
    ) -> (CubeCount, CubeDim) {
        let units = CubeDim::new_2d(self.lanes, self.teams() as u32);
        let n = n_rows * self.lanes as usize;
        (calculate_cube_count_elemwise(client, n, units), units)
    }
}

/// Shape of a four-dimensional tensor.
pub(super) fn dims<R: CubeRuntime>(tensor: &CubeTensor<R>) -> [usize; 4] {
    tensor.meta.shape().dims()
}

/// Dot product of the same row of two tensors, by the units that share it. All units of the cube must call it.
#[cube]
fn product<A: Float, B: Float, N: Size>(
    a: &Strided<Vector<A, N>>,
    b: &Strided<Vector<B, N>>,
    row: usize,
    #[comptime] shape: Row,
) -> f32 {
    let mut shared = SharedMemory::<f32>::new(comptime![UNITS as usize]);
    let width = comptime![shape.width];
    let (of_a, of_b) = (a.row_from(0, row), b.row_from(0, row));
    let mut sum = Vector::<f32, N>::new(0.0);
    #[unroll]
    for part in 0..comptime![shape.parts()] {
        let column = part * comptime![shape.lanes as usize] + UNIT_POS_X as usize;
        if column < comptime![shape.columns()] {
            let a = Vector::<f32, N>::cast_from(a.vectors[of_a + column]);
            sum += a * Vector::<f32, N>::cast_from(b.vectors[of_b + column]);
        }
    }
    over_lanes(total(sum, width), &mut shared, comptime![shape.lanes])
}

#[cube(launch, address_type = "dynamic")]
fn divide<F: Float, N: Size>(
    q: &Strided<Vector<F, N>>,
    divisors: &mut Array<f32>,
    epsilon: f32,
    scale: f32,
    #[comptime] shape: Row,
    #[define(F)] _dtype: StorageType,
) {
    let row = CUBE_POS * comptime![shape.teams()] + UNIT_POS_Y as usize;
    // Units without a row use the last one.
    let from = min(row, divisors.len() - 1);
    let mean_square = product(q, q, from, shape) / comptime![shape.d as f32];
    if row < divisors.len() && UNIT_POS_X == 0 {
        divisors[row] = (mean_square + epsilon).sqrt() * scale;
    }
}

/// Divisors that turn queries into keys of a given length: `[batch_size, n_heads, seq_length]`. The
/// features of a row must be contiguous.
pub(super) fn divisors<R: CubeRuntime>(q: &CubeTensor<R>, length: f64) -> CubeTensor<R> {
    let [batch_size, n_heads, seq_length, d_head] = dims(q);
    let divisors = empty(q, [batch_size, n_heads, seq_length], DType::F32);
    let shape = Row::new(d_head, &[q]);
    let (grid, units) = shape.grid(&q.client, batch_size * n_heads * seq_length);
    divide::launch(
        &q.client,
        grid,
        units,
        offsets(&[q]),
        shape.width,
        strided(q.clone(), shape.width),
        divisors.clone().into_array_arg(),
        KEY_EPSILON as f32,
        ((d_head as f64).sqrt() / length) as f32,
        shape,
        q.dtype.into(),
    );
    divisors
}

#[cube(launch, address_type = "dynamic")]
fn gather_statistics<O: Float, F: Float, N: Size>(
    output: &Strided<Vector<O, N>>,
    grad: &Strided<Vector<F, N>>,
    max: &Array<f32>,
    log_sum: &Array<f32>,
    statistics: &mut Array<f32>,
    #[comptime] shape: Row,
    #[define(O, F)] _dtypes: [StorageType; 2],
) {
    let row = CUBE_POS * comptime![shape.teams()] + UNIT_POS_Y as usize;
    let delta = product(output, grad, min(row, max.len() - 1), shape);
    if row < max.len() && UNIT_POS_X == 0 {
        statistics[row * 3] = max[row];
        statistics[row * 3 + 1] = log_sum[row];
        statistics[row * 3 + 2] = delta;
    }
}

/// Per-query inputs of backward: the two parts of the log-sum-exp, and the dot product of gradient
/// and output: `[batch_size, n_heads, seq_length, 3]`.
pub(super) fn statistics<R: CubeRuntime>(
    output: &CubeTensor<R>,
    grad: &CubeTensor<R>,
    max: CubeTensor<R>,
    log_sum: CubeTensor<R>,
) -> CubeTensor<R> {
    let [batch_size, n_heads, seq_length, d_v] = dims(output);
    let [output, grad] = [output, grad].map(|rows| side_by_side(rows.clone()));
    let statistics = empty(&output, [batch_size, n_heads, seq_length, 3], DType::F32);
    let shape = Row::new(d_v, &[&output, &grad]);
    let client = output.client.clone();
    let (grid, units) = shape.grid(&client, batch_size * n_heads * seq_length);
    let dtypes = [output.dtype.into(), grad.dtype.into()];
    gather_statistics::launch(
        &client,
        grid,
        units,
        offsets(&[&output, &grad]),
        shape.width,
        strided(output, shape.width),
        strided(grad, shape.width),
        max.into_array_arg(),
        log_sum.into_array_arg(),
        statistics.clone().into_array_arg(),
        shape,
        dtypes,
    );
    statistics
}
