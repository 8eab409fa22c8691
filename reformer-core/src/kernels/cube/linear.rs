//! Linear layers: by the [kernel for such products](product), which adds a bias before it rounds, or by
//! Burn's matrix products, to which a bias is added in place. Gradients of parameters are written in
//! the requested type.

use burn::tensor::DType;
use burn_cubecl::cubecl;
use burn_cubecl::cubecl::calculate_cube_count_elemwise;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::kernel::matmul::{MatmulStrategy, matmul};

use super::common::UNITS;
use super::device::{
    Cube, Floats, is_large, is_own, offsets, room_for_rounds, side_by_side, width,
};
use super::product::{self, product};
use super::strided::{Strided, strided};
use super::sums::{sum_of_rows, sum_rows};
use crate::kernels::{LinearGradients, LinearParents, reference};

#[cube(launch, address_type = "dynamic")]
fn add_bias<F: Float, N: Size>(
    x: &mut Strided<Vector<F, N>>,
    bias: &Array<Vector<f32, N>>,
    n_units: usize,
    #[comptime] columns: usize,
    #[define(F)] _dtype: StorageType,
) {
    if ABSOLUTE_POS >= n_units {
        terminate!();
    }
    let column = ABSOLUTE_POS % columns;
    let at = x.row(ABSOLUTE_POS / columns) + column;
    x.vectors[at] = Vector::cast_from(Vector::<f32, N>::cast_from(x.vectors[at]) + bias[column]);
}

/// See [`ReformerBackend::linear_layer`](crate::kernels::ReformerBackend::linear_layer).
pub(in crate::kernels) fn linear_layer<B: Cube>(
    x: Floats<B, 3>,
    weight: Floats<B, 2>,
    bias: Option<Floats<B, 1>>,
) -> Floats<B, 3> {
    let weight = weight.cast(x.dtype());
    if let Some(output) = flat_product(x.clone(), weight.clone(), bias.clone()) {
        return output;
    }
    let product = reference::linear_layer(x, weight, None);
    match bias {
        Some(bias) => plus_bias(product, bias),
        None => product,
    }
}

/// `x matrix + bias` by the [kernel for such shapes](product), if it serves these.
fn flat_product<B: Cube>(
    x: Floats<B, 3>,
    matrix: Floats<B, 2>,
    bias: Option<Floats<B, 1>>,
) -> Option<Floats<B, 3>> {
    // Asked before rows of a batch are put beside each other, which may copy them.
    if !product::serves(&B::floats(x.clone())) {
        return None;
    }
    let [batch_size, seq_length, d] = x.dims();
    let d_out = matrix.dims()[1];
    let dtype = x.dtype();
    let rows: Floats<B, 2> = x.reshape([batch_size * seq_length, d]);
    let bias = bias.map(B::floats);
    let output = product(B::floats(rows), B::floats(matrix), bias, 1, dtype)?;
    Some(B::of_floats::<3>(output).reshape([batch_size, seq_length, d_out]))
}

/// Adds a bias in `f32` to every row of a product, in place; the product must not be shared.
fn plus_bias<B: Cube>(product: Floats<B, 3>, bias: Floats<B, 1>) -> Floats<B, 3> {
    let [batch_size, seq_length, d] = product.dims();
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
        strided(product.clone(), width),
        B::floats(bias).into_array_arg(),
        n_units,
        d / width,
        product.dtype.into(),
    );
    B::of_floats(product)
}

/// See [`ReformerBackend::linear_layer_backward`](crate::kernels::ReformerBackend::linear_layer_backward).
pub(in crate::kernels) fn linear_layer_backward<B: Cube>(
    x: Floats<B, 3>,
    weight: Floats<B, 2>,
    grad: Floats<B, 3>,
    wanted: LinearParents,
    dtype: DType,
) -> LinearGradients<B> {
    let weight_of = |x: Floats<B, 3>| gradient_of_weight(x, grad.clone(), dtype);
    let of_weight = wanted.weight.then(|| weight_of(x));
    let of_bias = wanted.bias.then(|| sum_of_rows(grad.clone(), dtype));
    LinearGradients {
        // Last, since it may take the memory of the gradient of the output.
        x: wanted.x.then(|| gradient_of_input(grad, weight)),
        weight: of_weight,
        bias: of_bias,
    }
}

/// `grad weight^T`.
fn gradient_of_input<B: Cube>(grad: Floats<B, 3>, weight: Floats<B, 2>) -> Floats<B, 3> {
    let [batch_size, seq_length, d] = grad.dims();
    let is_square = weight.dims() == [d, d];
    let matrix = weight.transpose();
    let grad = B::floats(grad);
    let n_rows = batch_size * seq_length;
    let bytes_of_row = d * grad.dtype.size();
    if is_square && is_large(&grad.client, n_rows * bytes_of_row) && is_own(&grad) {
        let at_once = room_for_rounds(&grad.client) / bytes_of_row;
        let rows = B::of_floats::<3>(grad).reshape([n_rows, d]);
        return in_place(rows, &matrix, at_once.max(1)).reshape([batch_size, seq_length, d]);
    }
    times(B::of_floats(grad), &matrix)
}

/// `rows matrix`.
fn times<B: Cube>(rows: Floats<B, 3>, matrix: &Floats<B, 2>) -> Floats<B, 3> {
    match flat_product(rows.clone(), matrix.clone(), None) {
        Some(product) => product,
        None => rows.matmul(matrix.clone().unsqueeze()),
    }
}

/// `rows matrix` with a square matrix, in the memory of the rows, some of them `at_once`: a long sequence
/// has no room for one more.
fn in_place<B: Cube>(
    mut rows: Floats<B, 2>,
    matrix: &Floats<B, 2>,
    at_once: usize,
) -> Floats<B, 2> {
    let [n_rows, d] = rows.dims();
    for start in (0..n_rows).step_by(at_once) {
        let some = [start..(start + at_once).min(n_rows), 0..d];
        let products = times(rows.clone().slice(some.clone()).unsqueeze(), matrix);
        rows = rows.slice_assign(some, products.squeeze_dim(0));
    }
    rows
}

/// Elements of the results of all parts of a product: 256 blocks of 128 by 128, which occupy any GPU.
const ELEMENTS_OF_PARTS: usize = 256 * 128 * 128;

/// Minimum number of rows in a part.
const ROWS_OF_PART: usize = 1024;

/// Number of equal parts in which the rows of a product are summed. The gradient of a weight is a small
/// matrix with sums over all positions, and a product has few cubes if it has few elements.
fn parts_of(n_rows: usize, n_elements: usize) -> usize {
    let most = (ELEMENTS_OF_PARTS / n_elements).min(n_rows / ROWS_OF_PART);
    let powers = core::iter::successors(Some(1), |parts| Some(parts * 2));
    let fits = powers.take_while(|parts| *parts <= most && n_rows.is_multiple_of(*parts));
    fits.last().unwrap_or(1)
}

/// `x^T grad` over all positions, accumulated in single precision and rounded once to `dtype`:
/// `[d_in, d_out]`.
fn gradient_of_weight<B: Cube>(x: Floats<B, 3>, grad: Floats<B, 3>, dtype: DType) -> Floats<B, 2> {
    let [batch_size, seq_length, d_in] = x.dims();
    let d_out = grad.dims()[2];
    let n_rows = batch_size * seq_length;
    let n_elements = d_in * d_out;
    let parts = parts_of(n_rows, n_elements);
    let of_parts = if parts == 1 { dtype } else { DType::F32 };
    let ours = product::serves(&B::floats(x.clone())).then(|| {
        let flat = |rows: Floats<B, 3>, d| -> Floats<B, 2> { rows.reshape([n_rows, d]) };
        let (left, right) = (flat(x.clone(), d_in).transpose(), flat(grad.clone(), d_out));
        product(B::floats(left), B::floats(right), None, parts, of_parts)
    });
    let products = ours.flatten().unwrap_or_else(|| {
        let in_parts = |rows: Floats<B, 3>, d| rows.reshape([parts, n_rows / parts, d]);
        let products = matmul(
            B::floats(in_parts(x, d_in).transpose()),
            B::floats(in_parts(grad, d_out)),
            None,
            MatmulStrategy::default(),
            of_parts,
        );
        products.expect("Burn multiplies these types itself")
    });
    let products: Floats<B, 3> = B::of_floats(products);
    if parts == 1 {
        return products.reshape([d_in, d_out]);
    }
    let rows = B::floats(products.reshape([1, parts, n_elements]));
    B::of_floats::<3>(sum_rows(&rows, dtype)).reshape([d_in, d_out])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_with_few_elements_have_parts() {
        assert_eq!(parts_of(65_536, 512 * 512), 16);
        assert_eq!(parts_of(65_536, 512 * 2048), 4);
        assert_eq!(parts_of(65_536, 4096 * 1024), 1);
        assert_eq!(parts_of(65_535, 512 * 512), 1);
        assert_eq!(parts_of(4096, 256 * 256), 4);
        assert_eq!(parts_of(1, 4), 1);
    }
}
