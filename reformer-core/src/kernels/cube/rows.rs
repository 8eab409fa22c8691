//! Kernels that look at one position at a time: what attention needs before and after it.

use burn::tensor::DType;
use burn_cubecl::cubecl;
use burn_cubecl::cubecl::calculate_cube_count_elemwise;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::{CubeRuntime, tensor::CubeTensor};

use super::common::{UNITS, four_of, head_at, sum_of};
use super::device::{empty, offsets};
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

#[cube(launch, address_type = "dynamic")]
fn normalise(output: &mut Tensor<f32>, sums: &mut Tensor<f32>) {
    if ABSOLUTE_POS < sums.len() {
        let length = output.shape(2);
        let n_heads = output.shape(1);
        let head = ABSOLUTE_POS / length;
        let row = head / n_heads * output.stride(0)
            + head % n_heads * output.stride(1)
            + ABSOLUTE_POS % length * output.stride(2);
        let sum = sums[ABSOLUTE_POS];
        for i in 0..output.shape(3) {
            output[row + i] /= sum;
        }
        sums[ABSOLUTE_POS] = sum.ln();
    }
}

/// Divides rows by the sums of their weights, and takes the logarithm of those.
pub(super) fn finish<R: CubeRuntime>(output: &CubeTensor<R>, sums: &CubeTensor<R>) {
    let [batch_size, n_heads, seq_length, _] = dims(output);
    let (grid, units) = grid_of(&output.client, batch_size * n_heads * seq_length);
    normalise::launch(
        &output.client,
        grid,
        units,
        offsets(&[output]),
        output.clone().into_tensor_arg(),
        sums.clone().into_tensor_arg(),
    );
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
    dq: &mut Tensor<f32>,
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
            // Gradients of queries and keys lie alike.
            dq[of_dk + i] += (dk[of_dk + i] - k * along) / divisor;
        }
    }
}

/// Adds the gradients of keys that are queries of a length to those of the queries.
pub(super) fn through_keys<R: CubeRuntime>(
    q: &CubeTensor<R>,
    divisors: CubeTensor<R>,
    length: f64,
    dk: CubeTensor<R>,
    dq: &CubeTensor<R>,
) {
    let [batch_size, n_heads, seq_length, d_head] = dims(q);
    let (grid, units) = grid_of(&q.client, batch_size * n_heads * seq_length);
    hand_on::launch(
        &q.client,
        grid,
        units,
        offsets(&[q, dq]),
        q.clone().into_tensor_arg(),
        divisors.into_tensor_arg(),
        dk.into_tensor_arg(),
        dq.clone().into_tensor_arg(),
        (length * length) as f32,
        d_head as u32,
        q.dtype.into(),
    );
}
