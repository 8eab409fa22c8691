//! Kernels that look at one position at a time: what attention needs before and after it.

use burn::tensor::DType;
use burn_cubecl::cubecl;
use burn_cubecl::cubecl::calculate_cube_count_elemwise;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::{CubeRuntime, tensor::CubeTensor};

use super::common::{UNITS, four_of, head_at, sum_of};
use super::device::{empty, offsets, width};
use crate::kernels::KEY_EPSILON;

/// Where row number `ABSOLUTE_POS` of `[batch_size, n_heads, length, d]` begins.
#[cube]
fn own_row<F: Float>(tensor: &Tensor<F>) -> usize {
    let length = tensor.shape(2);
    let head = (ABSOLUTE_POS / length) as u32;
    head_at(tensor, head) + ABSOLUTE_POS % length * tensor.stride(2)
}

/// Product of two rows.
#[cube]
fn product<A: Float, B: Float>(
    a: &Tensor<A>,
    row_a: usize,
    b: &Tensor<B>,
    row_b: usize,
    #[comptime] d: u32,
) -> f32 {
    let mut sum = 0.0f32.runtime();
    for part in 0..comptime![d.div_ceil(4)] {
        let first = 4 * part;
        sum += sum_of(four_of(a, row_a, first, d) * four_of(b, row_b, first, d));
    }
    sum
}

/// Launches a kernel with a unit for each row.
fn grid_of<R: CubeRuntime>(client: &ComputeClient<R>, n_rows: usize) -> (CubeCount, CubeDim) {
    let units = CubeDim::new_1d(UNITS);
    (calculate_cube_count_elemwise(client, n_rows, units), units)
}

/// Shape of a tensor of four dimensions.
pub(super) fn dims<R: CubeRuntime>(tensor: &CubeTensor<R>) -> [usize; 4] {
    tensor.meta.shape().dims()
}

#[cube(launch, address_type = "dynamic")]
fn divide<F: Float>(
    q: &Tensor<F>,
    divisors: &mut Tensor<f32>,
    epsilon: f32,
    scale: f32,
    #[comptime] d: u32,
    #[define(F)] _dtype: StorageType,
) {
    if ABSOLUTE_POS < divisors.len() {
        let row = own_row(q);
        let mean_square = product(q, row, q, row, d) / comptime![d as f32];
        divisors[ABSOLUTE_POS] = (mean_square + epsilon).sqrt() * scale;
    }
}

/// What queries are divided by to become keys of a length: `[batch_size, n_heads, seq_length]`.
pub(super) fn divisors<R: CubeRuntime>(q: &CubeTensor<R>, length: f64) -> CubeTensor<R> {
    let [batch_size, n_heads, seq_length, d_head] = dims(q);
    let divisors = empty(q, [batch_size, n_heads, seq_length], DType::F32);
    let (grid, units) = grid_of(&q.client, batch_size * n_heads * seq_length);
    divide::launch(
        &q.client,
        grid,
        units,
        offsets(&[q]),
        q.clone().into_tensor_arg(),
        divisors.clone().into_tensor_arg(),
        KEY_EPSILON as f32,
        ((d_head as f64).sqrt() / length) as f32,
        d_head as u32,
        q.dtype.into(),
    );
    divisors
}

/// A unit divides four neighbouring numbers of a row; the first one of a row takes its logarithm.
#[cube(launch, address_type = "dynamic")]
fn normalise<O: Float, N: Size>(
    sums_of_values: &Tensor<Vector<f32, N>>,
    sums: &Tensor<f32>,
    output: &mut Tensor<Vector<O, N>>,
    log_sums: &mut Tensor<f32>,
    n_units: usize,
    #[comptime] d: usize,
    #[comptime] width: usize,
    #[define(O)] _dtype: StorageType,
) {
    if ABSOLUTE_POS >= n_units {
        terminate!();
    }
    // Rows lie one after another as `[batch_size, seq_length, n_heads, d]`.
    let columns = comptime![d / width];
    let row = ABSOLUTE_POS / columns;
    let n_heads = output.shape(1);
    let length = output.shape(2);
    let position = row / n_heads;
    let head = position / length * n_heads + row % n_heads;
    let sum = sums[head * length + position % length];
    output[ABSOLUTE_POS] = Vector::cast_from(sums_of_values[ABSOLUTE_POS] / Vector::new(sum));
    if ABSOLUTE_POS == row * columns {
        log_sums[head * length + position % length] = sum.ln();
    }
}

/// Divides rows by the sums of their weights, and takes the logarithm of those. `output` holds `f32`,
/// with the heads of a position side by side; what comes of it lies alike, in the given type.
pub(super) fn finish<R: CubeRuntime>(
    output: CubeTensor<R>,
    sums: CubeTensor<R>,
    dtype: DType,
) -> [CubeTensor<R>; 2] {
    let [batch_size, n_heads, seq_length, d] = dims(&output);
    let mut finished = empty(&output, [batch_size, seq_length, n_heads, d], dtype);
    finished.meta.swap(1, 2);
    let log_sums = empty(&sums, dims(&sums), DType::F32);
    let width = width(&[&output]);
    let n_units = batch_size * n_heads * seq_length * d / width;
    let client = output.client.clone();
    let units = CubeDim::new_1d(UNITS);
    normalise::launch(
        &client,
        calculate_cube_count_elemwise(&client, n_units, units),
        units,
        offsets(&[&output]),
        width,
        output.into_tensor_arg(),
        sums.into_tensor_arg(),
        finished.clone().into_tensor_arg(),
        log_sums.clone().into_tensor_arg(),
        n_units,
        d,
        width,
        dtype.into(),
    );
    [finished, log_sums]
}

#[cube(launch, address_type = "dynamic")]
fn gather_statistics<F: Float>(
    output: &Tensor<F>,
    grad: &Tensor<F>,
    max: &Tensor<f32>,
    log_sum: &Tensor<f32>,
    statistics: &mut Tensor<f32>,
    #[comptime] d: u32,
    #[define(F)] _dtype: StorageType,
) {
    if ABSOLUTE_POS < max.len() {
        let delta = product(output, own_row(output), grad, own_row(grad), d);
        statistics[ABSOLUTE_POS * 3] = max[ABSOLUTE_POS];
        statistics[ABSOLUTE_POS * 3 + 1] = log_sum[ABSOLUTE_POS];
        statistics[ABSOLUTE_POS * 3 + 2] = delta;
    }
}

/// What backward knows of a query: the two parts of its log-sum-exp, and the product of gradient
/// and output: `[batch_size, n_heads, seq_length, 3]`.
pub(super) fn statistics<R: CubeRuntime>(
    output: CubeTensor<R>,
    grad: &CubeTensor<R>,
    max: CubeTensor<R>,
    log_sum: CubeTensor<R>,
) -> CubeTensor<R> {
    let [batch_size, n_heads, seq_length, d_v] = dims(&output);
    let statistics = empty(&output, [batch_size, n_heads, seq_length, 3], DType::F32);
    let (grid, units) = grid_of(&output.client, batch_size * n_heads * seq_length);
    let client = output.client.clone();
    let dtype = output.dtype;
    gather_statistics::launch(
        &client,
        grid,
        units,
        offsets(&[&output, grad]),
        output.into_tensor_arg(),
        grad.clone().into_tensor_arg(),
        max.into_tensor_arg(),
        log_sum.into_tensor_arg(),
        statistics.clone().into_tensor_arg(),
        d_v as u32,
        dtype.into(),
    );
    statistics
}

#[cube(launch, address_type = "dynamic")]
fn hand_on<F: Float>(
    q: &Tensor<F>,
    divisors: &Tensor<f32>,
    dk: &Tensor<f32>,
    dq: &Tensor<f32>,
    output: &mut Tensor<F>,
    square: f32,
    #[comptime] d: u32,
    #[define(F)] _dtype: StorageType,
) {
    if ABSOLUTE_POS < divisors.len() {
        let divisor = divisors[ABSOLUTE_POS];
        let (of_q, of_dk) = (own_row(q), own_row(dk));
        let along = product(q, of_q, dk, of_dk, d) / divisor / square;
        for i in 0..comptime![d as usize] {
            let k = f32::cast_from(q[of_q + i * q.stride(3)]) / divisor;
            // Gradients of queries and keys lie alike, and so does the output.
            let gradient = dq[of_dk + i] + (dk[of_dk + i] - k * along) / divisor;
            output[of_dk + i] = F::cast_from(gradient);
        }
    }
}

/// Gradients of queries with those of keys that are queries of a length, in the type of the queries.
pub(super) fn through_keys<R: CubeRuntime>(
    q: &CubeTensor<R>,
    divisors: CubeTensor<R>,
    length: f64,
    dk: CubeTensor<R>,
    dq: CubeTensor<R>,
) -> CubeTensor<R> {
    let [batch_size, n_heads, seq_length, d_head] = dims(q);
    let mut output = empty(q, [batch_size, seq_length, n_heads, d_head], q.dtype);
    output.meta.swap(1, 2);
    let (grid, units) = grid_of(&q.client, batch_size * n_heads * seq_length);
    hand_on::launch(
        &q.client,
        grid,
        units,
        offsets(&[q, &dq]),
        q.clone().into_tensor_arg(),
        divisors.into_tensor_arg(),
        dk.into_tensor_arg(),
        dq.into_tensor_arg(),
        output.clone().into_tensor_arg(),
        (length * length) as f32,
        d_head as u32,
        q.dtype.into(),
    );
    output
}
