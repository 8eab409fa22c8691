//! Products with weights, directly on the memory of tensors.

use burn::tensor::{DType, Tensor, bf16};
use rayon::prelude::*;

use super::element::{Element, with_element};
use super::gemm::{self, Start};
use super::host::{Floats, Host, tensor};
use super::matrix::{Matrix, rows_of_batch};
use super::pairs::Pair;
use super::row::Onto;
use super::simd::vectorized;
use super::singles::{fresh_product, rows_product};
use crate::kernels::{LinearGradients, LinearParents};

/// See [`ReformerBackend::linear_layer`](crate::kernels::ReformerBackend::linear_layer).
pub(in crate::kernels) fn linear_layer<B: Host>(
    x: Tensor<B, 3>,
    weight: Tensor<B, 2>,
    bias: Option<Tensor<B, 1>>,
) -> Tensor<B, 3> {
    if Pair::serves(x.dtype()) {
        return with_element!(weight.dtype(), W => linear_of_pairs::<B, W>(x, weight, bias));
    }
    let [batch_size, seq_length, _] = x.dims();
    let (device, dtype) = (x.device(), x.dtype());
    let (x, weight) = (rows_of_batch(x), Floats::as_it_lies(weight));
    let weight = Matrix::of(&weight);
    let (n_rows, d_out) = (batch_size * seq_length, weight.shape[1]);
    let (mut output, onto) = match bias {
        Some(bias) => (
            Floats::<B, 1>::row_major(bias).slice()[..d_out].repeat(n_rows),
            Onto::Sum,
        ),
        None => (vec![0.0; n_rows * d_out], Onto::Nothing),
    };
    rows_product(&mut output, Matrix::of_batch(&x), weight, onto);
    tensor(output, [batch_size, seq_length, d_out], dtype, &device)
}

/// The same for inputs in `bf16`.
fn linear_of_pairs<B: Host, W: Element>(
    x: Tensor<B, 3>,
    weight: Tensor<B, 2>,
    bias: Option<Tensor<B, 1>>,
) -> Tensor<B, 3> {
    let [batch_size, seq_length, _] = x.dims();
    let (device, dtype, d_out) = (x.device(), x.dtype(), weight.dims()[1]);
    let (x, weight) = (
        rows_of_batch::<B, bf16>(x),
        Floats::<B, 2, W>::as_it_lies(weight),
    );
    let bias = bias.map(Floats::<B, 1>::row_major);
    let start = match &bias {
        Some(bias) => Start::Row(&bias.slice()[..d_out]),
        None => Start::Zero,
    };
    let mut output = vec![bf16::default(); batch_size * seq_length * d_out];
    let (x, weight) = (Matrix::of_batch(&x), Matrix::of(&weight));
    gemm::product::<Pair, _, _, _>(&mut output, x, weight, start);
    tensor(output, [batch_size, seq_length, d_out], dtype, &device)
}

/// See [`ReformerBackend::linear_layer_backward`](crate::kernels::ReformerBackend::linear_layer_backward).
pub(in crate::kernels) fn linear_layer_backward<B: Host>(
    x: Tensor<B, 3>,
    weight: Tensor<B, 2>,
    grad: Tensor<B, 3>,
    wanted: LinearParents,
    dtype: DType,
) -> LinearGradients<B> {
    let of = backward(x, weight, grad, wanted);
    LinearGradients {
        x: of.x,
        weight: of.weight.map(|weight| weight.cast(dtype)),
        bias: of.bias.map(|bias| bias.cast(dtype)),
    }
}

/// Gradients of parameters are in `f32`.
fn backward<B: Host>(
    x: Tensor<B, 3>,
    weight: Tensor<B, 2>,
    grad: Tensor<B, 3>,
    wanted: LinearParents,
) -> LinearGradients<B> {
    if Pair::serves(grad.dtype()) {
        let dtype = weight.dtype();
        return with_element!(dtype, W => backward_of_pairs::<B, W>(x, weight, grad, wanted));
    }
    let (shape, weight_shape) = (x.dims(), weight.dims());
    let (device, dtype) = (x.device(), grad.dtype());
    let (x, weight) = (rows_of_batch(x), Floats::as_it_lies(weight));
    let grad = rows_of_batch(grad);
    let (x, weight, grad) = (
        Matrix::of_batch(&x),
        Matrix::of(&weight),
        Matrix::of_batch(&grad),
    );
    let x_grad = || {
        let x_grad = fresh_product(grad, weight.transposed());
        tensor(x_grad, shape, dtype, &device)
    };
    let weight_grad = || fresh_product(x.transposed(), grad);
    LinearGradients {
        x: wanted.x.then(x_grad),
        weight: wanted
            .weight
            .then(|| tensor(weight_grad(), weight_shape, DType::F32, &device)),
        bias: wanted
            .bias
            .then(|| tensor(column_sums(grad), [weight_shape[1]], DType::F32, &device)),
    }
}

/// The same for gradients in `bf16`.
fn backward_of_pairs<B: Host, W: Element>(
    x: Tensor<B, 3>,
    weight: Tensor<B, 2>,
    grad: Tensor<B, 3>,
    wanted: LinearParents,
) -> LinearGradients<B> {
    let (shape, weight_shape) = (x.dims(), weight.dims());
    let (device, dtype) = (x.device(), grad.dtype());
    let (x, grad) = (rows_of_batch::<B, bf16>(x), rows_of_batch::<B, bf16>(grad));
    let weight = Floats::<B, 2, W>::as_it_lies(weight);
    let (x, weight, grad) = (
        Matrix::of_batch(&x),
        Matrix::of(&weight),
        Matrix::of_batch(&grad),
    );
    let x_grad = || {
        let mut output = vec![bf16::default(); shape.iter().product()];
        gemm::product::<Pair, _, _, _>(&mut output, grad, weight.transposed(), Start::Zero);
        tensor(output, shape, dtype, &device)
    };
    let weight_grad = || {
        let mut output = vec![0.0f32; weight_shape.iter().product()];
        gemm::product::<Pair, _, _, _>(&mut output, x.transposed(), grad, Start::Zero);
        tensor(output, weight_shape, DType::F32, &device)
    };
    LinearGradients {
        x: wanted.x.then(x_grad),
        weight: wanted.weight.then(weight_grad),
        bias: wanted
            .bias
            .then(|| tensor(column_sums(grad), [weight_shape[1]], DType::F32, &device)),
    }
}

/// Number of rows that one thread sums.
const ROWS_AT_ONCE: usize = 256;

/// The sum of the rows: by blocks, added in order, so that it does not depend on the threads.
fn column_sums<E: Element>(matrix: Matrix<E>) -> Vec<f32> {
    let [n_rows, d] = matrix.shape;
    let blocks: Vec<Vec<f32>> = (0..n_rows.div_ceil(ROWS_AT_ONCE))
        .into_par_iter()
        .map(|block| {
            let first = block * ROWS_AT_ONCE;
            let mut sums = vec![0.0; d];
            vectorized(
                #[inline(always)]
                || {
                    for number in first..n_rows.min(first + ROWS_AT_ONCE) {
                        add(&mut sums, matrix.row(number));
                    }
                },
            );
            sums
        })
        .collect();
    let mut sums = vec![0.0; d];
    blocks.iter().for_each(|block| add(&mut sums, block));
    sums
}

/// Adds `terms` to `sums` element by element.
#[inline(always)]
pub(super) fn add<E: Element>(sums: &mut [f32], terms: &[E]) {
    for (sum, term) in sums.iter_mut().zip(terms) {
        *sum += term.wide();
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{check, numbers, on_both_backends};
    use crate::kernels::{ReformerBackend, reference};
    use burn::tensor::Tensor;
    use burn_autodiff::Autodiff;

    on_both_backends!(
        kernel_is_the_reference
        strided_inputs_are_taken_as_they_lie
        one_row_gives_what_it_gives_among_others
    );

    /// Sums in `f32` of numbers in half precision, rounded once: those of the reference in `f32` but for
    /// that rounding.
    #[cfg(feature = "flex")]
    #[test]
    fn half_precision_is_rounded_once() {
        use crate::kernels::LinearParents;
        use burn::tensor::DType;

        type B = burn_flex::Flex;
        let (d_in, d_out) = (70, 33);
        let x = numbers::<B>(2 * 50 * d_in, 1).reshape([2, 50, d_in]);
        let weight = numbers::<B>(d_in * d_out, 2).reshape([d_in, d_out]);
        let grad = numbers::<B>(2 * 50 * d_out, 3).reshape([2, 50, d_out]);
        let bias = numbers::<B>(d_out, 4);
        for (dtype, rounding) in [(DType::BF16, 1.0 / 256.0), (DType::F16, 1.0 / 2048.0)] {
            let [x, grad] = [x.clone(), grad.clone()].map(|tensor| tensor.cast(dtype));
            let weight = weight.clone().cast(dtype);
            let single = |tensor: Tensor<B, 3>| tensor.cast(DType::F32);
            let wide = weight.clone().cast(DType::F32);
            let all = LinearParents {
                x: true,
                weight: true,
                bias: true,
            };
            let found = B::linear_layer(x.clone(), weight.clone(), Some(bias.clone()));
            let expected =
                reference::linear_layer(single(x.clone()), wide.clone(), Some(bias.clone()));
            assert_eq!(found.dtype(), dtype);
            let gradients =
                B::linear_layer_backward(x.clone(), weight, grad.clone(), all, DType::F32);
            let of =
                reference::linear_layer_backward(single(x), wide, single(grad), all, DType::F32);
            let pairs = [
                (found.flatten::<1>(0, 2), expected.flatten::<1>(0, 2)),
                (
                    gradients.x.unwrap().flatten(0, 2),
                    of.x.unwrap().flatten(0, 2),
                ),
                (
                    gradients.weight.unwrap().flatten(0, 1),
                    of.weight.unwrap().flatten(0, 1),
                ),
                (gradients.bias.unwrap(), of.bias.unwrap()),
            ];
            for (number, (found, expected)) in pairs.into_iter().enumerate() {
                // Gradients of parameters are not rounded.
                let rounding = if number < 2 { rounding } else { 1e-6 };
                let expected: Vec<f64> = expected.into_data().iter().collect();
                for (found, expected) in found.into_data().iter::<f64>().zip(expected) {
                    let allowed = rounding * expected.abs() + 3e-4;
                    assert!(
                        (found - expected).abs() <= allowed,
                        "{dtype:?}, {number}: {found} instead of {expected}"
                    );
                }
            }
        }
    }

    fn kernel_is_the_reference<B: ReformerBackend>() {
        // The last case is large enough for threads and has more terms than one block of a sum.
        for [batch_size, seq_length, d_in, d_out] in [
            [1, 1, 1, 1],
            [2, 5, 7, 3],
            [3, 1, 16, 9],
            [2, 130, 96, 61],
            [1, 1100, 65, 70],
        ] {
            let sizes = [batch_size * seq_length * d_in, d_in * d_out, d_out];
            let apply = |[x, weight, bias]: &[Tensor<Autodiff<B>, 1>; 3], kernel: bool| {
                let x = x.clone().reshape([batch_size, seq_length, d_in]);
                let weight = weight.clone().reshape([d_in, d_out]);
                let linear = if kernel {
                    Autodiff::<B>::linear_layer
                } else {
                    reference::linear_layer
                };
                let with_bias = linear(x.clone(), weight.clone(), Some(bias.clone()));
                (with_bias + linear(x, weight, None) * 0.5).flatten(0, 2)
            };
            check::<B>(
                &sizes,
                |inputs| apply(inputs.as_array().expect("three"), true),
                |inputs| apply(inputs.as_array().expect("three"), false),
            );
        }
    }

    fn one_row_gives_what_it_gives_among_others<B: ReformerBackend>() {
        let bits = |tensor: Tensor<B, 3>| -> Vec<u32> {
            tensor.into_data().iter::<f32>().map(f32::to_bits).collect()
        };
        for [d_in, d_out] in [
            [3, 2],
            [16, 70],
            [65, 33],
            [256, 300],
            [600, 40],
            [1100, 129],
        ] {
            let x = numbers::<B>(200 * d_in, 1).reshape([1, 200, d_in]);
            let row_major = numbers::<B>(d_in * d_out, 2).reshape([d_in, d_out]);
            let copied = row_major.clone().transpose().into_data();
            let column_major = Tensor::<B, 2>::from_data(copied, &Default::default()).transpose();
            let bias = Some(numbers::<B>(d_out, 3));
            for (weight, bias) in [
                (row_major.clone(), None),
                (row_major.clone(), bias.clone()),
                (column_major.clone(), None),
                (column_major, bias),
            ] {
                let rows = |range: core::ops::Range<usize>| {
                    let x = x.clone().slice_dim(1, range);
                    bits(B::linear_layer(x, weight.clone(), bias.clone()))
                };
                let as_it_lies = bits(B::linear_layer(x.clone(), row_major.clone(), bias.clone()));
                let all = rows(0..200);
                assert!(all == as_it_lies, "{d_in} x {d_out} in either order");
                for (start, n) in [(0, 1), (77, 1), (50, 2), (3, 5), (100, 16), (9, 65)] {
                    let expected = &all[start * d_out..(start + n) * d_out];
                    let found = rows(start..start + n);
                    assert!(found == expected, "{n} rows of {d_in} x {d_out}");
                }
            }
        }
    }

    /// A slice of features, also with a slice of positions, and a transposed input; transposed weights.
    fn strided_inputs_are_taken_as_they_lie<B: ReformerBackend>() {
        let apply = |inputs: &[Tensor<Autodiff<B>, 1>], kernel: bool| {
            let linear = if kernel {
                Autodiff::<B>::linear_layer
            } else {
                reference::linear_layer
            };
            let x = inputs[0].clone().reshape([2, 9, 12]);
            let weight = inputs[1].clone().reshape([5, 9]).transpose();
            let views = [
                x.clone().slice_dim(2, 2..11),
                x.clone().slice_dim(1, 3..8).slice_dim(2, 1..10),
                x.swap_dims(1, 2),
            ];
            let outputs = views.map(|x| linear(x, weight.clone(), None));
            Tensor::cat(outputs.to_vec(), 1).flatten(0, 2)
        };
        check::<B>(
            &[216, 45],
            |inputs| apply(inputs, true),
            |inputs| apply(inputs, false),
        );
    }

    #[test]
    #[should_panic(expected = "weight [4, 2] and bias Some([3]) does not fit an input [1, 2, 4]")]
    fn what_does_not_fit_is_refused() {
        type B = burn_flex::Flex;
        let device = Default::default();
        let bias = Tensor::<B, 1>::zeros([3], &device);
        B::linear_layer(
            Tensor::zeros([1, 2, 4], &device),
            Tensor::zeros([4, 2], &device),
            Some(bias),
        );
    }
}
