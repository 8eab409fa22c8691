//! Linear layers with Burn's matrix products: a bias is added in place, and gradients of parameters
//! are written in the requested type.

use burn::tensor::DType;
use burn_cubecl::cubecl;
use burn_cubecl::cubecl::calculate_cube_count_elemwise;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::kernel::matmul::{MatmulStrategy, matmul};

use super::common::{UNITS, row_at};
use super::device::{Cube, Floats, offsets, side_by_side, width};
use super::sums::sum_of_rows;
use crate::kernels::layers::check_linear_backward;
use crate::kernels::{LinearGradients, LinearParents};

#[cube(launch, address_type = "dynamic")]
fn add_bias<F: Float, N: Size>(
    x: &mut Tensor<Vector<F, N>>,
    bias: &Array<Vector<f32, N>>,
    n_units: usize,
    #[comptime] columns: usize,
    #[comptime] width: usize,
    #[define(F)] _dtype: StorageType,
) {
    if ABSOLUTE_POS >= n_units {
        terminate!();
    }
    let column = ABSOLUTE_POS % columns;
    let at = row_at(x, ABSOLUTE_POS / columns) / width + column;
    x[at] = Vector::cast_from(Vector::<f32, N>::cast_from(x[at]) + bias[column]);
}

/// Adds a bias in `f32` to every row of a product, in place; the product must not be shared.
pub(in crate::kernels) fn plus_bias<B: Cube>(
    product: Floats<B, 3>,
    bias: Floats<B, 1>,
) -> Floats<B, 3> {
    let [batch_size, seq_length, d] = product.dims();
    assert_eq!(bias.dims(), [d], "bias of {:?}", product.dims());
    let product = side_by_side(B::floats(product));
    let width = width(&[&product]);
    let n_units = batch_size * seq_length * d / width;
    let units = CubeDim::new_1d(UNITS);
    add_bias::launch(
        &product.client,
        calculate_cube_count_elemwise(&product.client, n_units, units),
        units,
        offsets(&[&product]),
        width,
        product.clone().into_tensor_arg(),
        B::floats(bias).into_array_arg(),
        n_units,
        d / width,
        width,
        product.dtype.into(),
    );
    B::of_floats(product)
}

/// See [`ReformerBackend::linear_layer_backward_as`](crate::kernels::ReformerBackend::linear_layer_backward_as).
pub(in crate::kernels) fn linear_layer_backward<B: Cube>(
    x: Floats<B, 3>,
    weight: Floats<B, 2>,
    grad: Floats<B, 3>,
    wanted: LinearParents,
    dtype: DType,
) -> LinearGradients<B> {
    check_linear_backward(x.dims(), weight.dims(), grad.dims());
    let [batch_size, seq_length, d_in] = x.dims();
    let d_out = grad.dims()[2];
    let n_rows = batch_size * seq_length;
    LinearGradients {
        x: wanted
            .x
            .then(|| grad.clone().matmul(weight.transpose().unsqueeze())),
        weight: wanted.weight.then(|| {
            let x = x.reshape([n_rows, d_in]).transpose();
            product(x, grad.clone().reshape([n_rows, d_out]), dtype)
        }),
        bias: wanted.bias.then(|| sum_of_rows(grad, dtype)),
    }
}

/// A matrix product, accumulated in single precision and rounded once to `dtype`.
fn product<B: Cube>(a: Floats<B, 2>, b: Floats<B, 2>, dtype: DType) -> Floats<B, 2> {
    let product = matmul(
        B::floats(a),
        B::floats(b),
        None,
        MatmulStrategy::default(),
        dtype,
    );
    B::of_floats(product.expect("Burn multiplies these types itself"))
}
