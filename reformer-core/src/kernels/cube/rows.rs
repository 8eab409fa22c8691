//! Kernels on single positions of a head: preparation for attention and processing of its results.
//!
//! Results of attention are separate for each round: `[1, n_rounds * n_heads, length, d]`, for a range of
//! the batch's heads. Kernels here merge the rounds in single precision and write the results in the
//! requested type, in a layout where the heads of a position are adjacent.

use burn::tensor::DType;
use burn_cubecl::cubecl;
use burn_cubecl::cubecl::calculate_cube_count_elemwise;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::{CubeRuntime, tensor::CubeTensor};

use super::common::{LANES, UNITS, head_at, over_lanes, total};
use super::device::{empty, offsets, side_by_side, width};
use crate::kernels::KEY_EPSILON;

/// Distribution of a row over units.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Row {
    /// Number of elements in a row, and vector width of loads.
    d: usize,
    width: usize,
    /// Number of units per row: a power of two.
    lanes: u32,
}

impl Row {
    fn new<R: CubeRuntime>(d: usize, tensors: &[&CubeTensor<R>]) -> Self {
        let width = width(tensors);
        Self {
            d,
            width,
            lanes: (d.div_ceil(width) as u32).next_power_of_two().min(LANES),
        }
    }

    fn columns(self) -> usize {
        self.d / self.width
    }

    /// Number of vectors of a row per unit.
    fn parts(self) -> usize {
        self.columns().div_ceil(self.lanes as usize)
    }

    /// Number of rows per cube.
    fn teams(self) -> usize {
        (UNITS / self.lanes) as usize
    }

    /// A grid with `lanes` units for each row.
    fn grid<R: CubeRuntime>(
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

/// Offset of row number `row` in `[batch_size, n_heads, length, d]`, counted from `first_head` on.
#[cube]
fn row_at<E: CubePrimitive>(tensor: &Tensor<E>, first_head: u32, row: usize) -> usize {
    let length = tensor.shape(2);
    let head = first_head + (row / length) as u32;
    head_at(tensor, head) + row % length * tensor.stride(2)
}

/// Dot product of the same row of two tensors, by the units that share it. All units of the cube must call it.
#[cube]
fn product<A: Float, B: Float, N: Size>(
    a: &Tensor<Vector<A, N>>,
    b: &Tensor<Vector<B, N>>,
    row: usize,
    #[comptime] shape: Row,
) -> f32 {
    let mut shared = SharedMemory::<f32>::new(comptime![UNITS as usize]);
    let width = comptime![shape.width];
    let (of_a, of_b) = (row_at(a, 0, row) / width, row_at(b, 0, row) / width);
    let mut sum = Vector::<f32, N>::new(0.0);
    #[unroll]
    for part in 0..comptime![shape.parts()] {
        let column = part * comptime![shape.lanes as usize] + UNIT_POS_X as usize;
        if column < comptime![shape.columns()] {
            let a = Vector::<f32, N>::cast_from(a[of_a + column]);
            sum += a * Vector::<f32, N>::cast_from(b[of_b + column]);
        }
    }
    over_lanes(total(sum, width), &mut shared, comptime![shape.lanes])
}

#[cube(launch, address_type = "dynamic")]
fn divide<F: Float, N: Size>(
    q: &Tensor<Vector<F, N>>,
    divisors: &mut Tensor<f32>,
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
        q.clone().into_tensor_arg(),
        divisors.clone().into_tensor_arg(),
        KEY_EPSILON as f32,
        ((d_head as f64).sqrt() / length) as f32,
        shape,
        q.dtype.into(),
    );
    divisors
}

#[cube(launch, address_type = "dynamic")]
fn gather_statistics<O: Float, F: Float, N: Size>(
    output: &Tensor<Vector<O, N>>,
    grad: &Tensor<Vector<F, N>>,
    max: &Tensor<f32>,
    log_sum: &Tensor<f32>,
    statistics: &mut Tensor<f32>,
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
    output: CubeTensor<R>,
    grad: &CubeTensor<R>,
    max: CubeTensor<R>,
    log_sum: CubeTensor<R>,
) -> CubeTensor<R> {
    let [batch_size, n_heads, seq_length, d_v] = dims(&output);
    let (output, grad) = (side_by_side(output), side_by_side(grad.clone()));
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
        output.into_tensor_arg(),
        grad.into_tensor_arg(),
        max.into_tensor_arg(),
        log_sum.into_tensor_arg(),
        statistics.clone().into_tensor_arg(),
        shape,
        dtypes,
    );
    statistics
}

/// A unit merges a vector of a row; the first unit of a row also merges its statistics.
#[cube(launch, address_type = "dynamic")]
fn join<V: Float, O: Float, N: Size>(
    values: &Tensor<Vector<V, N>>,
    maxima: &Tensor<f32>,
    sums: &Tensor<f32>,
    output: &mut Tensor<Vector<O, N>>,
    max_of: &mut Tensor<f32>,
    log_sums: &mut Tensor<f32>,
    first_head: u32,
    n_rows: usize,
    n_rounds: usize,
    #[comptime] columns: usize,
    #[comptime] width: usize,
    #[define(V, O)] _dtypes: [StorageType; 2],
) {
    let row = ABSOLUTE_POS / columns;
    if row >= n_rows {
        terminate!();
    }
    let column = ABSOLUTE_POS % columns;
    let mut largest = maxima[row];
    for round in 1..n_rounds {
        largest = max(largest, maxima[round * n_rows + row]);
    }
    let mut sum = 0.0f32.runtime();
    let mut value = Vector::<f32, N>::new(0.0);
    for round in 0..n_rounds {
        let of_round = round * n_rows + row;
        let share = (maxima[of_round] - largest).exp();
        sum += sums[of_round] * share;
        let of_value = Vector::<f32, N>::cast_from(values[of_round * columns + column]);
        value += of_value * Vector::new(share);
    }
    let to = row_at(output, first_head, row) / width + column;
    output[to] = Vector::cast_from(value / Vector::new(sum));
    if column == 0 {
        let to = first_head as usize * output.shape(2) + row;
        max_of[to] = largest;
        log_sums[to] = sum.ln();
    }
}

/// Merges the softmax of rounds for heads from `first_head` on: `values` are weighted by
/// exponentials of logits less the maximum of the round, and `sums` are the sums of these weights.
/// Writes the output, the largest maximum and the log-sum of the rounds relative to it.
pub(super) fn join_rounds<R: CubeRuntime>(
    [values, maxima, sums]: [CubeTensor<R>; 3],
    [output, max, log_sums]: &[CubeTensor<R>; 3],
    (first_head, n_rounds): (usize, usize),
) {
    let [_, n, length, d] = dims(&values);
    let width = width(&[&values, output]);
    let n_rows = n / n_rounds * length;
    let client = values.client.clone();
    let units = CubeDim::new_1d(UNITS);
    let dtypes = [values.dtype.into(), output.dtype.into()];
    join::launch(
        &client,
        calculate_cube_count_elemwise(&client, n_rows * d / width, units),
        units,
        offsets(&[&values, output]),
        width,
        values.into_tensor_arg(),
        maxima.into_tensor_arg(),
        sums.into_tensor_arg(),
        output.clone().into_tensor_arg(),
        max.clone().into_tensor_arg(),
        log_sums.clone().into_tensor_arg(),
        first_head as u32,
        n_rows,
        n_rounds,
        d / width,
        width,
        dtypes,
    );
}

/// Sum of a vector over rounds, which are `apart` elements from each other.
#[cube]
fn over_rounds<V: Float, N: Size>(
    from: &Tensor<Vector<V, N>>,
    at: usize,
    apart: usize,
    n_rounds: usize,
) -> Vector<f32, N> {
    let mut sum = Vector::<f32, N>::cast_from(from[at]);
    for round in 1..n_rounds {
        sum += Vector::<f32, N>::cast_from(from[at + round * apart]);
    }
    sum
}

#[cube(launch, address_type = "dynamic")]
fn add<V: Float, F: Float, N: Size>(
    values: &Tensor<Vector<V, N>>,
    output: &mut Tensor<Vector<F, N>>,
    first_head: u32,
    n_rows: usize,
    n_rounds: usize,
    #[comptime] columns: usize,
    #[comptime] width: usize,
    #[define(V, F)] _dtypes: [StorageType; 2],
) {
    let row = ABSOLUTE_POS / columns;
    if row >= n_rows {
        terminate!();
    }
    let sum = over_rounds(values, ABSOLUTE_POS, n_rows * columns, n_rounds);
    let to = row_at(output, first_head, row) / width + ABSOLUTE_POS % columns;
    output[to] = Vector::cast_from(sum);
}

/// Sums gradients over rounds for heads from `first_head` on, and writes them to `output`.
pub(super) fn add_rounds<R: CubeRuntime>(
    values: CubeTensor<R>,
    output: &CubeTensor<R>,
    (first_head, n_rounds): (usize, usize),
) {
    let [_, n, length, d] = dims(&values);
    let width = width(&[&values, output]);
    let n_rows = n / n_rounds * length;
    let client = values.client.clone();
    let units = CubeDim::new_1d(UNITS);
    let dtypes = [values.dtype.into(), output.dtype.into()];
    add::launch(
        &client,
        calculate_cube_count_elemwise(&client, n_rows * d / width, units),
        units,
        offsets(&[&values, output]),
        width,
        values.into_tensor_arg(),
        output.clone().into_tensor_arg(),
        first_head as u32,
        n_rows,
        n_rounds,
        d / width,
        width,
        dtypes,
    );
}

#[cube(launch, address_type = "dynamic")]
fn hand_on<F: Float, V: Float, N: Size>(
    q: &Tensor<Vector<F, N>>,
    divisors: &Tensor<f32>,
    dq: &Tensor<Vector<V, N>>,
    dk: &Tensor<Vector<V, N>>,
    output: &mut Tensor<Vector<F, N>>,
    square: f32,
    first_head: u32,
    n_rows: usize,
    n_rounds: usize,
    #[comptime] shape: Row,
    #[define(F, V)] _dtypes: [StorageType; 2],
) {
    let (columns, width) = comptime![(shape.columns(), shape.width)];
    let (lanes, parts) = comptime![(shape.lanes, shape.parts())];
    let row = CUBE_POS * comptime![shape.teams()] + UNIT_POS_Y as usize;
    // Units without a row use the last one.
    let from = min(row, n_rows - 1);
    let of_q = row_at(q, first_head, from) / width;
    let divisor = Vector::<f32, N>::new(divisors[first_head as usize * q.shape(2) + from]);
    let mut shared = SharedMemory::<f32>::new(comptime![UNITS as usize]);
    let mut keys = Array::<Vector<f32, N>>::new(parts);
    let mut of_keys = Array::<Vector<f32, N>>::new(parts);
    let mut sum = Vector::<f32, N>::new(0.0);
    #[unroll]
    for part in 0..parts {
        let column = part * comptime![lanes as usize] + UNIT_POS_X as usize;
        if column < columns {
            let key = Vector::<f32, N>::cast_from(q[of_q + column]) / divisor;
            let of_key = over_rounds(dk, from * columns + column, n_rows * columns, n_rounds);
            sum += key * of_key;
            keys[part] = key;
            of_keys[part] = of_key;
        }
    }
    let along = over_lanes(total(sum, width), &mut shared, lanes) / square;
    if row < n_rows {
        let to = row_at(output, first_head, row) / width;
        #[unroll]
        for part in 0..parts {
            let column = part * comptime![lanes as usize] + UNIT_POS_X as usize;
            if column < columns {
                let of_query = over_rounds(dq, row * columns + column, n_rows * columns, n_rounds);
                let across = of_keys[part] - keys[part] * Vector::new(along);
                output[to + column] = Vector::cast_from(of_query + across / divisor);
            }
        }
    }
}

/// Sums gradients of queries, and of keys that are queries scaled to `length`, over rounds for
/// heads from `first_head` on. Writes the gradient of queries, including the part through keys, to
/// `output`. The features of a row of `q` must be contiguous.
pub(super) fn through_keys<R: CubeRuntime>(
    [q, divisors]: [&CubeTensor<R>; 2],
    length: f64,
    [dq, dk]: [CubeTensor<R>; 2],
    output: &CubeTensor<R>,
    (first_head, n_rounds): (usize, usize),
) {
    let [_, n, seq_length, d_head] = dims(&dq);
    let shape = Row::new(d_head, &[q, &dq, output]);
    let n_rows = n / n_rounds * seq_length;
    let (grid, units) = shape.grid(&q.client, n_rows);
    let dtypes = [q.dtype.into(), dq.dtype.into()];
    hand_on::launch(
        &q.client,
        grid,
        units,
        offsets(&[q, &dq, output]),
        shape.width,
        q.clone().into_tensor_arg(),
        divisors.clone().into_tensor_arg(),
        dq.into_tensor_arg(),
        dk.into_tensor_arg(),
        output.clone().into_tensor_arg(),
        (length * length) as f32,
        first_head as u32,
        n_rows,
        n_rounds,
        shape,
        dtypes,
    );
}
