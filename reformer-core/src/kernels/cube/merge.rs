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
use super::rows::{Row, dims};
use super::strided::{Strided, strided};

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
    values: &Array<Vector<V, N>>,
    maxima: &Array<f32>,
    sums: &Array<f32>,
    output: &mut Strided<Vector<O, N>>,
    max_of: &mut Array<f32>,
    log_sums: &mut Array<f32>,
    first_head: u32,
    n_rows: usize,
    n_rounds: usize,
    #[comptime] columns: usize,
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
    let to = output.row_from(first_head, row) + column;
    output.vectors[to] = Vector::cast_from(value / Vector::new(sum));
    if column == 0 {
        let to = first_head as usize * output.length + row;
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
        values.into_array_arg(),
        maxima.into_array_arg(),
        sums.into_array_arg(),
        strided(output.clone(), launch.width),
        max.clone().into_array_arg(),
        log_sums.clone().into_array_arg(),
        first_head as u32,
        launch.n_rows,
        n_rounds,
        launch.columns,
        launch.dtypes,
    );
}

/// Sum of a vector over rounds, which are `apart` elements from each other.
#[cube]
fn over_rounds<V: Float, N: Size>(
    from: &Array<Vector<V, N>>,
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
    values: &Array<Vector<V, N>>,
    output: &mut Strided<Vector<F, N>>,
    first_head: u32,
    n_rows: usize,
    n_rounds: usize,
    #[comptime] columns: usize,
    #[define(V, F)] _dtypes: [StorageType; 2],
) {
    let row = ABSOLUTE_POS / columns;
    if row >= n_rows {
        terminate!();
    }
    let sum = over_rounds(values, ABSOLUTE_POS, n_rows * columns, n_rounds);
    let to = output.row_from(first_head, row) + ABSOLUTE_POS % columns;
    output.vectors[to] = Vector::cast_from(sum);
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
        values.into_array_arg(),
        strided(output.clone(), launch.width),
        first_head as u32,
        launch.n_rows,
        n_rounds,
        launch.columns,
        launch.dtypes,
    );
}

#[cube(launch, address_type = "dynamic")]
fn hand_on<F: Float, V: Float, N: Size>(
    q: &Strided<Vector<F, N>>,
    divisors: &Array<f32>,
    dq: &Array<Vector<V, N>>,
    dk: &Array<Vector<V, N>>,
    output: &mut Strided<Vector<F, N>>,
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
    let of_q = q.row_from(first_head, from);
    let divisor = Vector::<f32, N>::new(divisors[first_head as usize * q.length + from]);
    let mut shared = SharedMemory::<f32>::new(comptime![UNITS as usize]);
    let mut keys = Array::<Vector<f32, N>>::new(parts);
    let mut of_keys = Array::<Vector<f32, N>>::new(parts);
    let mut sum = Vector::<f32, N>::new(0.0);
    #[unroll]
    for part in 0..parts {
        let column = part * comptime![lanes as usize] + UNIT_POS_X as usize;
        if column < columns {
            let key = Vector::<f32, N>::cast_from(q.vectors[of_q + column]) / divisor;
            let of_key = over_rounds(dk, from * columns + column, n_rows * columns, n_rounds);
            sum += key * of_key;
            keys[part] = key;
            of_keys[part] = of_key;
        }
    }
    let along = over_lanes(total(sum, width), &mut shared, lanes) / square;
    if row < n_rows {
        let to = output.row_from(first_head, row);
        #[unroll]
        for part in 0..parts {
            let column = part * comptime![lanes as usize] + UNIT_POS_X as usize;
            if column < columns {
                let of_query = over_rounds(dq, row * columns + column, n_rows * columns, n_rounds);
                let across = of_keys[part] - keys[part] * Vector::new(along);
                output.vectors[to + column] = Vector::cast_from(of_query + across / divisor);
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
        strided(q.clone(), shape.width),
        divisors.clone().into_array_arg(),
        dq.into_array_arg(),
        dk.into_array_arg(),
        strided(output.clone(), shape.width),
        (length * length) as f32,
        first_head as u32,
        n_rows,
        n_rounds,
        shape,
        dtypes,
    );
}
