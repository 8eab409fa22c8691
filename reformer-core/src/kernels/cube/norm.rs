//! Layer normalisation: a row is read once, kept in registers, and written in the requested type.

use burn::tensor::DType;
use burn_cubecl::cubecl;
use burn_cubecl::cubecl::calculate_cube_count_elemwise;
use burn_cubecl::cubecl::prelude::*;

use super::common::{LANES, TEAMS, UNITS, over_lanes, over_teams, total};
use super::device::{Cube, Floats, empty, is_own, offsets, side_by_side, width};
use super::strided::{Strided, strided};
use super::sums::{sum_rows, units};
use crate::kernels::LayerNormGradients;

/// Maximum number of cubes in backward: each writes a row of partial sums.
const MOST_CUBES: usize = 264;

/// Loads the unit's elements of a row.
#[cube]
fn read<F: Float, N: Size>(
    from: &Strided<Vector<F, N>>,
    row: usize,
    #[comptime] d: usize,
    #[comptime] width: usize,
) -> Array<Vector<f32, N>> {
    let columns = comptime![d / width];
    let parts = comptime![columns.div_ceil(LANES as usize)];
    let first = from.row(row);
    let mut values = Array::<Vector<f32, N>>::new(parts);
    #[unroll]
    for part in 0..parts {
        let column = part * comptime![LANES as usize] + UNIT_POS_X as usize;
        let mut value = Vector::<f32, N>::new(0.0);
        if column < columns {
            value = Vector::<f32, N>::cast_from(from.vectors[first + column]);
        }
        values[part] = value;
    }
    values
}

/// Subtracts the mean of a row and returns the inverse of the deviation.
#[cube]
fn center<N: Size>(
    values: &mut Array<Vector<f32, N>>,
    shared: &mut SharedMemory<f32>,
    epsilon: f32,
    #[comptime] d: usize,
    #[comptime] width: usize,
) -> f32 {
    let columns = comptime![d / width];
    let parts = comptime![columns.div_ceil(LANES as usize)];
    let mut sum = Vector::<f32, N>::new(0.0);
    #[unroll]
    for part in 0..parts {
        sum += values[part];
    }
    let mean = over_lanes(total(sum, width), shared, LANES) / comptime![d as f32];
    let mut squares = Vector::<f32, N>::new(0.0);
    #[unroll]
    for part in 0..parts {
        let column = part * comptime![LANES as usize] + UNIT_POS_X as usize;
        if column < columns {
            let value = values[part] - Vector::new(mean);
            values[part] = value;
            squares += value * value;
        }
    }
    let variance = over_lanes(total(squares, width), shared, LANES) / comptime![d as f32];
    1.0 / (variance + epsilon).sqrt()
}

#[cube(launch, address_type = "dynamic")]
fn normalise<O: Float, N: Size>(
    x: &Strided<Vector<f32, N>>,
    gamma: &Array<Vector<f32, N>>,
    beta: &Array<Vector<f32, N>>,
    output: &mut Array<Vector<O, N>>,
    epsilon: f32,
    n_rows: usize,
    #[comptime] d: usize,
    #[comptime] width: usize,
    #[define(O)] _dtype: StorageType,
) {
    let columns = comptime![d / width];
    let parts = comptime![columns.div_ceil(LANES as usize)];
    let mut shared = SharedMemory::<f32>::new(comptime![UNITS as usize]);
    let row = CUBE_POS * comptime![TEAMS as usize] + UNIT_POS_Y as usize;
    // Teams without a row use the last one.
    let mut values = read(x, min(row, n_rows - 1), d, width);
    let scale = center(&mut values, &mut shared, epsilon, d, width);
    if row < n_rows {
        #[unroll]
        for part in 0..parts {
            let column = part * comptime![LANES as usize] + UNIT_POS_X as usize;
            if column < columns {
                let value = values[part] * Vector::new(scale) * gamma[column] + beta[column];
                output[row * columns + column] = Vector::cast_from(value);
            }
        }
    }
}

/// See [`ReformerBackend::layer_normalization`](crate::kernels::ReformerBackend::layer_normalization).
pub(in crate::kernels) fn layer_normalization<B: Cube>(
    x: Floats<B, 3>,
    gamma: Floats<B, 1>,
    beta: Floats<B, 1>,
    epsilon: f64,
    dtype: DType,
) -> Floats<B, 3> {
    let shape = x.dims();
    let [batch_size, seq_length, d] = shape;
    let x = side_by_side(B::floats(x));
    let output = empty(&x, shape, dtype);
    let n_rows = batch_size * seq_length;
    if n_rows == 0 {
        return B::of_floats(output);
    }
    let width = width(&[&x]);
    let client = x.client.clone();
    normalise::launch(
        &client,
        calculate_cube_count_elemwise(&client, n_rows * LANES as usize, units()),
        units(),
        offsets(&[&x]),
        width,
        strided(x, width),
        B::floats(gamma).into_array_arg(),
        B::floats(beta).into_array_arg(),
        output.clone().into_array_arg(),
        epsilon as f32,
        n_rows,
        d,
        width,
        dtype.into(),
    );
    B::of_floats(output)
}

/// A cube processes strided rows and writes its sums for gamma and beta next to each other. The gradient
/// of the input is added to the one `before`, if `adds`; it may be written to the same place.
#[cube(launch, address_type = "dynamic")]
fn differentiate<G: Float, N: Size>(
    x: &Strided<Vector<f32, N>>,
    gamma: &Array<Vector<f32, N>>,
    grad: &Strided<Vector<G, N>>,
    before: &Strided<Vector<f32, N>>,
    dx: &mut Array<Vector<f32, N>>,
    sums: &mut Array<Vector<f32, N>>,
    epsilon: f32,
    n_rows: usize,
    n_cubes: usize,
    #[comptime] d: usize,
    #[comptime] width: usize,
    #[comptime] adds: bool,
    #[define(G)] _dtype: StorageType,
) {
    if CUBE_POS >= n_cubes {
        terminate!();
    }
    let columns = comptime![d / width];
    let parts = comptime![columns.div_ceil(LANES as usize)];
    let teams = comptime![TEAMS as usize];
    let mut shared = SharedMemory::<f32>::new(comptime![UNITS as usize]);
    let mut of_gamma = Array::<Vector<f32, N>>::new(parts);
    let mut of_beta = Array::<Vector<f32, N>>::new(parts);
    #[unroll]
    for part in 0..parts {
        of_gamma[part] = Vector::new(0.0);
        of_beta[part] = Vector::new(0.0);
    }
    for first in range_stepped(CUBE_POS * teams, n_rows, n_cubes * teams) {
        let row = first + UNIT_POS_Y as usize;
        let is_row = row < n_rows;
        // Teams without a row use the last one.
        let from = min(row, n_rows - 1);
        // Both at once, before units wait for each other.
        let mut normalized = read(x, from, d, width);
        let mut grads = read(grad, from, d, width);
        let scale = center(&mut normalized, &mut shared, epsilon, d, width);
        let mut sum = Vector::<f32, N>::new(0.0);
        let mut along = Vector::<f32, N>::new(0.0);
        #[unroll]
        for part in 0..parts {
            let column = part * comptime![LANES as usize] + UNIT_POS_X as usize;
            if column < columns {
                let n = normalized[part] * Vector::new(scale);
                let g = grads[part];
                if is_row {
                    of_gamma[part] += g * n;
                    of_beta[part] += g;
                }
                let g = g * gamma[column];
                sum += g;
                along += g * n;
                normalized[part] = n;
                grads[part] = g;
            }
        }
        let mean = over_lanes(total(sum, width), &mut shared, LANES) / comptime![d as f32];
        let along = over_lanes(total(along, width), &mut shared, LANES) / comptime![d as f32];
        if is_row {
            let of_row = before.row(row);
            #[unroll]
            for part in 0..parts {
                let column = part * comptime![LANES as usize] + UNIT_POS_X as usize;
                if column < columns {
                    let centered =
                        grads[part] - Vector::new(mean) - normalized[part] * Vector::new(along);
                    let mut value = centered * Vector::new(scale);
                    if adds {
                        value += before.vectors[of_row + column];
                    }
                    dx[row * columns + column] = value;
                }
            }
        }
    }
    let mut shared = SharedMemory::<Vector<f32, N>>::new(comptime![UNITS as usize]);
    #[unroll]
    for part in 0..parts {
        let column = part * comptime![LANES as usize] + UNIT_POS_X as usize;
        let gamma_sum = over_teams(of_gamma[part], &mut shared);
        let beta_sum = over_teams(of_beta[part], &mut shared);
        if UNIT_POS_Y == 0 && column < columns {
            sums[CUBE_POS * 2 * columns + column] = gamma_sum;
            sums[CUBE_POS * 2 * columns + columns + column] = beta_sum;
        }
    }
}

/// Number of `before` among the tensors of [`differentiate`].
const BEFORE: usize = 3;

/// See [`ReformerBackend::layer_normalization_backward`](crate::kernels::ReformerBackend::layer_normalization_backward).
pub(in crate::kernels) fn layer_normalization_backward<B: Cube>(
    x: Floats<B, 3>,
    gamma: Floats<B, 1>,
    epsilon: f64,
    grad: Floats<B, 3>,
    sum: Option<Floats<B, 3>>,
) -> LayerNormGradients<B> {
    let shape = x.dims();
    let [batch_size, seq_length, d] = shape;
    let (x, grad) = (side_by_side(B::floats(x)), side_by_side(B::floats(grad)));
    let n_rows = batch_size * seq_length;
    let n_cubes = n_rows.div_ceil(TEAMS as usize).clamp(1, MOST_CUBES);
    let adds = sum.is_some();
    let before = sum.map_or_else(|| x.clone(), |sum| side_by_side(B::floats(sum)));
    let in_place = adds && is_own(&before) && before.is_contiguous();
    let dx = match in_place {
        true => before.clone(),
        false => empty(&x, shape, DType::F32),
    };
    let sums = empty(&x, [1, n_cubes, 2 * d], DType::F32);
    let width = width(&[&x, &grad, &before]);
    let client = x.client.clone();
    let dtype = grad.dtype;
    let written = match in_place {
        true => before.as_tensor_alias(BEFORE).into_array_arg(),
        false => dx.clone().into_array_arg(),
    };
    differentiate::launch(
        &client,
        calculate_cube_count_elemwise(&client, n_cubes * UNITS as usize, units()),
        units(),
        offsets(&[&x, &grad, &before]),
        width,
        strided(x, width),
        B::floats(gamma).into_array_arg(),
        strided(grad, width),
        strided(before, width),
        written,
        sums.clone().into_array_arg(),
        epsilon as f32,
        n_rows,
        n_cubes,
        d,
        width,
        adds,
        dtype.into(),
    );
    let sums = B::of_floats::<3>(sum_rows(&sums, DType::F32)).reshape([2 * d]);
    LayerNormGradients {
        x: B::of_floats(dx),
        gamma: sums.clone().slice_dim(0, 0..d),
        beta: sums.slice_dim(0, d..2 * d),
    }
}
