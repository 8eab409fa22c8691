//! Kernels that merge the results of attention rounds.
//!
//! Results are separate for each round: `[1, n_rounds * n_heads, length, d]`, for a range of the
//! batch's heads. Rounds are merged in single precision, and the results written in the requested
//! type, in a layout where the heads of a position are adjacent.

use burn_cubecl::cubecl;
use burn_cubecl::cubecl::calculate_cube_count_elemwise;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::{CubeRuntime, tensor::CubeTensor};

use super::common::{UNITS, over_lanes, total};
use super::device::{offsets, width};
use super::rows::{Row, dims, row_at};

/// Launch of a kernel with a unit for each vector of the merged rows.
struct Launch {
    cubes: CubeCount,
    units: CubeDim,
    offsets: AddressType,
    /// Number of merged rows, and of vectors in a row.
    n_rows: usize,
    columns: usize,
    /// Number of elements in a vector.
    width: usize,
    /// Types of the separate rows and of the merged ones.
    dtypes: [StorageType; 2],
}

impl Launch {
    fn new<R: CubeRuntime>(
        values: &CubeTensor<R>,
        output: &CubeTensor<R>,
        n_rounds: usize,
    ) -> Self {
        let [_, n, length, d] = dims(values);
        let width = width(&[values, output]);
        let (n_rows, columns) = (n / n_rounds * length, d / width);
        let units = CubeDim::new_1d(UNITS);
        Self {
            cubes: calculate_cube_count_elemwise(&values.client, n_rows * columns, units),
            units,
            offsets: offsets(&[values, output]),
            n_rows,
            columns,
            width,
            dtypes: [values.dtype.into(), output.dtype.into()],
        }
    }
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
    let client = values.client.clone();
    let launch = Launch::new(&values, output, n_rounds);
    join::launch(
        &client,
        launch.cubes,
        launch.units,
        launch.offsets,
        launch.width,
        values.into_tensor_arg(),
        maxima.into_tensor_arg(),
        sums.into_tensor_arg(),
        output.clone().into_tensor_arg(),
        max.clone().into_tensor_arg(),
        log_sums.clone().into_tensor_arg(),
        first_head as u32,
        launch.n_rows,
        n_rounds,
        launch.columns,
        launch.width,
        launch.dtypes,
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
    let client = values.client.clone();
    let launch = Launch::new(&values, output, n_rounds);
    add::launch(
        &client,
        launch.cubes,
        launch.units,
        launch.offsets,
        launch.width,
        values.into_tensor_arg(),
        output.clone().into_tensor_arg(),
        first_head as u32,
        launch.n_rows,
        n_rounds,
        launch.columns,
        launch.width,
        launch.dtypes,
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
