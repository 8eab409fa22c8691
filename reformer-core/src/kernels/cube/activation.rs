//! Activation functions of the feed-forward layer, with the bias of its first projection.

use burn::tensor::DType;
use burn_cubecl::cubecl;
use burn_cubecl::cubecl::calculate_cube_count_elemwise;
use burn_cubecl::cubecl::prelude::*;

use super::common::{LANES, TEAMS, UNITS, over_teams};
use super::device::{Cube, Floats, empty, offsets, side_by_side, width};
use super::strided::{Strided, strided};
use super::sums::{blocks_of_columns, segments_of, sum_rows, units};
use crate::kernels::Activation;

/// `sqrt(8 / pi)`, which expresses the hyperbolic tangent in GELU's approximation as a sigmoid.
const GELU_TANH: f32 = 1.595_769;

/// Factor of the cube in the same approximation.
const GELU_CUBE: f32 = 0.044_715;

/// `1 / sqrt(2 pi)`.
const DENSITY: f32 = 0.398_942_3;

#[cube]
fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (0.0 - x).exp())
}

/// Half of `1 + erf(x / sqrt(2))`: the cumulative standard normal distribution at `x`.
#[cube]
fn share_below(x: f32) -> f32 {
    (Erf::erf(x * comptime![core::f32::consts::FRAC_1_SQRT_2]) + 1.0) * 0.5
}

#[cube]
fn value(x: f32, #[comptime] activation: Activation) -> f32 {
    if comptime![activation == Activation::Relu] {
        max(x, 0.0f32.runtime())
    } else if comptime![activation == Activation::Gelu] {
        x * share_below(x)
    } else if comptime![activation == Activation::GeluTanh] {
        x * sigmoid((x * x * comptime![GELU_CUBE] + 1.0) * x * comptime![GELU_TANH])
    } else if comptime![activation == Activation::Silu] {
        x * sigmoid(x)
    } else if comptime![activation == Activation::Tanh] {
        x.tanh()
    } else {
        sigmoid(x)
    }
}

#[cube]
fn slope(x: f32, #[comptime] activation: Activation) -> f32 {
    if comptime![activation == Activation::Relu] {
        select(x > 0.0, 1.0f32.runtime(), 0.0f32.runtime())
    } else if comptime![activation == Activation::Gelu] {
        let density = (x * x * -0.5).exp() * comptime![DENSITY];
        share_below(x) + x * density
    } else if comptime![activation == Activation::GeluTanh] {
        let square = x * x;
        let s = sigmoid((square * comptime![GELU_CUBE] + 1.0) * x * comptime![GELU_TANH]);
        let along = (square * comptime![3.0 * GELU_CUBE] + 1.0) * comptime![GELU_TANH];
        s + x * along * s * (1.0 - s)
    } else if comptime![activation == Activation::Silu] {
        let s = sigmoid(x);
        s * (x * (1.0 - s) + 1.0)
    } else if comptime![activation == Activation::Tanh] {
        let t = x.tanh();
        1.0 - t * t
    } else {
        let s = sigmoid(x);
        s * (1.0 - s)
    }
}

/// Loads a vector of inputs and adds the bias.
#[cube]
fn input<F: Float, N: Size>(
    x: &Strided<Vector<F, N>>,
    at: usize,
    bias: &Array<Vector<f32, N>>,
    column: usize,
    #[comptime] biased: bool,
) -> Vector<f32, N> {
    let mut input = Vector::<f32, N>::cast_from(x.vectors[at]);
    if biased {
        input += bias[column];
    }
    input
}

#[cube(launch, address_type = "dynamic")]
fn activate<F: Float, N: Size>(
    x: &Strided<Vector<F, N>>,
    bias: &Array<Vector<f32, N>>,
    output: &mut Array<Vector<F, N>>,
    n_units: usize,
    #[comptime] biased: bool,
    #[comptime] activation: Activation,
    #[comptime] d: usize,
    #[comptime] width: usize,
    #[define(F)] _dtype: StorageType,
) {
    if ABSOLUTE_POS >= n_units {
        terminate!();
    }
    let columns = comptime![d / width];
    let column = ABSOLUTE_POS % columns;
    let at = x.row(ABSOLUTE_POS / columns) + column;
    let input = input(x, at, bias, column, biased);
    let mut y = Vector::<f32, N>::empty();
    #[unroll]
    for i in 0..width {
        y[i] = value(input[i], activation);
    }
    output[ABSOLUTE_POS] = Vector::cast_from(y);
}

/// See [`ReformerBackend::activation`](crate::kernels::ReformerBackend::activation).
pub(in crate::kernels) fn activation<B: Cube>(
    x: Floats<B, 3>,
    activation: Activation,
) -> Floats<B, 3> {
    activated(x, None, activation)
}

/// See [`ReformerBackend::biased_activation`](crate::kernels::ReformerBackend::biased_activation).
pub(in crate::kernels) fn biased_activation<B: Cube>(
    x: Floats<B, 3>,
    bias: Floats<B, 1>,
    activation: Activation,
) -> Floats<B, 3> {
    activated(x, Some(bias), activation)
}

fn activated<B: Cube>(
    x: Floats<B, 3>,
    bias: Option<Floats<B, 1>>,
    activation: Activation,
) -> Floats<B, 3> {
    let shape = x.dims();
    let d = shape[2];
    let x = side_by_side(B::floats(x));
    let output = empty(&x, shape, x.dtype);
    let width = width(&[&x]);
    let n_units = shape.iter().product::<usize>() / width;
    let biased = bias.is_some();
    let bias = bias.map_or_else(|| empty(&x, [width], DType::F32), B::floats);
    let units = CubeDim::new_1d(UNITS);
    let client = x.client.clone();
    let dtype = x.dtype;
    activate::launch(
        &client,
        calculate_cube_count_elemwise(&client, n_units, units),
        units,
        offsets(&[&x]),
        width,
        strided(x, width),
        bias.into_array_arg(),
        output.clone().into_array_arg(),
        n_units,
        biased,
        activation,
        d,
        width,
        dtype.into(),
    );
    B::of_floats(output)
}

/// A cube has a block of columns and strided rows, as in [`sum_rows`], so that it can sum the
/// gradient of the bias.
#[cube(launch, address_type = "dynamic")]
fn differentiate<F: Float, N: Size>(
    x: &Strided<Vector<F, N>>,
    bias: &Array<Vector<f32, N>>,
    grad: &Strided<Vector<F, N>>,
    dx: &mut Array<Vector<F, N>>,
    sums: &mut Array<Vector<f32, N>>,
    n_rows: usize,
    #[comptime] biased: bool,
    #[comptime] activation: Activation,
    #[comptime] d: usize,
    #[comptime] width: usize,
    #[define(F)] _dtype: StorageType,
) {
    let columns = comptime![d / width];
    let column = (CUBE_POS_X * LANES + UNIT_POS_X) as usize;
    let mut shared = SharedMemory::<Vector<f32, N>>::new(comptime![UNITS as usize]);
    let mut sum = Vector::<f32, N>::new(0.0);
    if column < columns {
        for row in range_stepped(
            (CUBE_POS_Y * TEAMS + UNIT_POS_Y) as usize,
            n_rows,
            (CUBE_COUNT_Y * TEAMS) as usize,
        ) {
            // The same row of both, by one division.
            let (batch, position) = (row / x.length, row % x.length);
            let of_x = x.at(batch, position) + column;
            let of_grad = grad.at(batch, position) + column;
            let input = input(x, of_x, bias, column, biased);
            let grad = Vector::<f32, N>::cast_from(grad.vectors[of_grad]);
            let mut along = Vector::<f32, N>::empty();
            #[unroll]
            for i in 0..width {
                along[i] = grad[i] * slope(input[i], activation);
            }
            sum += along;
            dx[row * columns + column] = Vector::cast_from(along);
        }
    }
    if biased {
        let sum = over_teams(sum, &mut shared);
        if UNIT_POS_Y == 0 && column < columns {
            sums[CUBE_POS_Y as usize * columns + column] = sum;
        }
    }
}

/// See [`ReformerBackend::activation_backward`](crate::kernels::ReformerBackend::activation_backward).
pub(in crate::kernels) fn activation_backward<B: Cube>(
    x: Floats<B, 3>,
    activation: Activation,
    grad: Floats<B, 3>,
) -> Floats<B, 3> {
    differentiated(x, None, activation, grad).0
}

/// See [`ReformerBackend::biased_activation_backward`](crate::kernels::ReformerBackend::biased_activation_backward).
pub(in crate::kernels) fn biased_activation_backward<B: Cube>(
    x: Floats<B, 3>,
    bias: Floats<B, 1>,
    activation: Activation,
    grad: Floats<B, 3>,
) -> (Floats<B, 3>, Floats<B, 1>) {
    match differentiated(x, Some(bias), activation, grad) {
        (x, Some(bias)) => (x, bias),
        (_, None) => unreachable!("there is a bias"),
    }
}

/// Gradients of the input and of the bias.
fn differentiated<B: Cube>(
    x: Floats<B, 3>,
    bias: Option<Floats<B, 1>>,
    activation: Activation,
    grad: Floats<B, 3>,
) -> (Floats<B, 3>, Option<Floats<B, 1>>) {
    let shape = x.dims();
    assert_eq!(shape, grad.dims(), "gradient of an activation of {shape:?}");
    let [batch_size, seq_length, d] = shape;
    let (x, grad) = (side_by_side(B::floats(x)), side_by_side(B::floats(grad)));
    let n_rows = batch_size * seq_length;
    let segments = segments_of(n_rows);
    let dx = empty(&x, shape, x.dtype);
    let width = width(&[&x, &grad]);
    let biased = bias.is_some();
    let bias = bias.map_or_else(|| empty(&x, [width], DType::F32), B::floats);
    let rows = if biased { segments } else { 1 };
    let sums = empty(&x, [1, rows, if biased { d } else { width }], DType::F32);
    let client = x.client.clone();
    let dtype = x.dtype;
    differentiate::launch(
        &client,
        CubeCount::Static(blocks_of_columns(d, width), segments as u32, 1),
        units(),
        offsets(&[&x, &grad]),
        width,
        strided(x, width),
        bias.into_array_arg(),
        strided(grad, width),
        dx.clone().into_array_arg(),
        sums.clone().into_array_arg(),
        n_rows,
        biased,
        activation,
        d,
        width,
        dtype.into(),
    );
    let of_bias = biased.then(|| B::of_floats::<3>(sum_rows(&sums, DType::F32)).reshape([d]));
    (B::of_floats(dx), of_bias)
}
