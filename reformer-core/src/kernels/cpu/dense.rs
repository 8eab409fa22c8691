//! Products with weights, directly on the memory of tensors.

use core::ops::Range;

use burn::tensor::Tensor;
use rayon::prelude::*;

use super::host::{Floats, Host, tensor};
use super::row::{Onto, row_product};
use crate::kernels::layers::{check_linear, check_linear_backward};
use crate::kernels::{LinearGradients, LinearParents};

/// A matrix in memory, with strides.
#[derive(Clone, Copy)]
pub(super) struct Matrix<'a> {
    memory: &'a [f32],
    shape: [usize; 2],
    strides: [usize; 2],
}

impl<'a> Matrix<'a> {
    fn of<B: Host>(floats: &'a Floats<B, 2>) -> Self {
        let strides = floats.strides();
        Self {
            memory: floats.slice(),
            shape: floats.shape(),
            strides: [strides[0], strides[1]],
        }
    }

    /// All rows of a batch of sequences as one matrix; see [`rows_of_batch`].
    pub(super) fn of_batch<B: Host>(floats: &'a Floats<B, 3>) -> Self {
        let [batch_size, seq_length, d] = floats.shape();
        Self {
            memory: floats.slice(),
            shape: [batch_size * seq_length, d],
            strides: [floats.strides()[usize::from(seq_length > 1)], 1],
        }
    }

    pub(super) fn width(&self) -> usize {
        self.shape[1]
    }

    /// A row of a matrix [of a batch](Self::of_batch).
    #[inline(always)]
    pub(super) fn row(&self, number: usize) -> &'a [f32] {
        &self.memory[number * self.strides[0]..][..self.shape[1]]
    }

    /// A range of columns.
    fn columns(&self, range: Range<usize>) -> Self {
        Self {
            memory: &self.memory[(range.start * self.strides[1]).min(self.memory.len())..],
            shape: [self.shape[0], range.len()],
            strides: self.strides,
        }
    }

    /// A range of rows.
    fn rows(&self, range: Range<usize>) -> Self {
        let start = range.start * self.strides[0];
        Self {
            memory: &self.memory[start.min(self.memory.len())..],
            shape: [range.len(), self.shape[1]],
            strides: self.strides,
        }
    }

    fn transposed(self) -> Self {
        let ([rows, columns], [row, column]) = (self.shape, self.strides);
        Self {
            memory: self.memory,
            shape: [columns, rows],
            strides: [column, row],
        }
    }

    fn is_in_memory(&self) -> bool {
        let last: usize = self
            .shape
            .iter()
            .zip(self.strides)
            .map(|(&size, stride)| (size - 1) * stride)
            .sum();
        last < self.memory.len()
    }
}

/// Takes a batch of sequences whose rows are slices at a constant distance; copies it otherwise.
pub(super) fn rows_of_batch<B: Host>(tensor: Tensor<B, 3>) -> Floats<B, 3> {
    Floats::lent(tensor, |&[batch_size, seq_length, d], strides| {
        let apart = batch_size == 1 || seq_length == 1 || strides[0] == seq_length * strides[1];
        apart && (d == 1 || strides[2] == 1)
    })
}

/// `output = a b` or `output += a b`, with `output` row-major, on all threads.
///
/// The crate `gemm` distributes rows and columns over threads, never the terms of a sum, so the
/// result does not depend on the number of threads.
fn product(output: &mut [f32], a: Matrix, b: Matrix, onto: Onto) {
    let ([m, k], [inner, n]) = (a.shape, b.shape);
    assert_eq!(k, inner, "a product of {m} x {k} and {inner} x {n}");
    assert_eq!(output.len(), m * n, "output of {m} x {n}");
    if m == 0 || n == 0 || k == 0 {
        // Empty sums: the output is already zero, or stays unchanged.
        return;
    }
    assert!(
        a.is_in_memory() && b.is_in_memory(),
        "{m} x {k}, {k} x {n}: outside of memory"
    );
    let alpha = if onto == Onto::Sum { 1.0 } else { 0.0 };
    // SAFETY: the assertions above show that every element reached by sizes and strides is inside
    // its slice, strides and sizes of slices fit an `isize`, and `output` is borrowed exclusively.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            output.as_mut_ptr(),
            1,
            n as isize,
            onto == Onto::Sum,
            a.memory.as_ptr(),
            a.strides[1] as isize,
            a.strides[0] as isize,
            b.memory.as_ptr(),
            b.strides[1] as isize,
            b.strides[0] as isize,
            alpha,
            1.0,
            false,
            false,
            false,
            gemm::Parallelism::Rayon(0),
        );
    }
}

/// Number of results up to which `gemm` sums contiguous terms in another order.
const FEW: usize = 16 * 16;
/// Maximum number of terms in one chain of additions.
const TERMS: usize = 512;

/// `output = x weight` or `output += x weight` for the rows of a batch. The result of a row does
/// not depend on the number of rows or on the layout of the weight, to the last bit.
///
/// A single token thus gives the same result as among others. The crate `gemm` sums each element in
/// the order of its terms, but splits long sums depending on the shape of the whole product. It
/// also has other code paths for a single row, and for few results with contiguous terms. So sums
/// are split here depending on their length alone, a single row has its own kernel, and few rows
/// are laid out such that only one code path applies.
fn rows_product(output: &mut [f32], x: Matrix, weight: Matrix, mut onto: Onto) {
    let ([n_rows, k], [_, d_out]) = (x.shape, weight.shape);
    // Parts of equal length, which avoids the code paths of `gemm` for one or two terms.
    let length = k.div_ceil(k.div_ceil(TERMS).max(1)).max(1);
    let is_row_major = weight.strides[1] == 1;
    let spread = (!is_row_major && (n_rows == 1 || n_rows * d_out <= FEW)).then(|| spread(x));
    let x = match &spread {
        Some(memory) => Matrix {
            memory,
            strides: [2 * k, 2],
            ..x
        },
        None => x,
    };
    for start in (0..k).step_by(length) {
        let terms = start..k.min(start + length);
        let (x, weight) = (x.columns(terms.clone()), weight.rows(terms));
        if n_rows == 1 && d_out > 1 && length > 2 && is_row_major {
            row_product(output, x.row(0), weight.memory, weight.strides[0], onto);
        } else {
            product(output, x, weight, onto);
        }
        onto = Onto::Sum;
    }
}

/// Copies rows with a gap after each number, so that terms are not contiguous.
fn spread(x: Matrix) -> Vec<f32> {
    let rows = (0..x.shape[0]).flat_map(|number| x.row(number));
    rows.flat_map(|&number| [number, 0.0]).collect()
}

/// See [`ReformerBackend::linear_layer`](crate::kernels::ReformerBackend::linear_layer).
pub(in crate::kernels) fn linear<B: Host>(
    x: Tensor<B, 3>,
    weight: Tensor<B, 2>,
    bias: Option<Tensor<B, 1>>,
) -> Tensor<B, 3> {
    check_linear(x.dims(), weight.dims(), bias.as_ref().map(Tensor::dims));
    let [batch_size, seq_length, _] = x.dims();
    let device = x.device();
    let dtype = x.dtype();
    let (x, weight) = (rows_of_batch(x), Floats::as_it_lies(weight.cast(dtype)));
    let weight = Matrix::of(&weight);
    let (n_rows, d_out) = (batch_size * seq_length, weight.shape[1]);
    let (mut output, onto) = match bias {
        Some(bias) => (
            Floats::row_major(bias.cast(dtype)).slice()[..d_out].repeat(n_rows),
            Onto::Sum,
        ),
        None => (vec![0.0; n_rows * d_out], Onto::Nothing),
    };
    rows_product(&mut output, Matrix::of_batch(&x), weight, onto);
    tensor(output, [batch_size, seq_length, d_out], &device)
}

/// See [`ReformerBackend::linear_layer_backward`](crate::kernels::ReformerBackend::linear_layer_backward).
pub(in crate::kernels) fn linear_backward<B: Host>(
    x: Tensor<B, 3>,
    weight: Tensor<B, 2>,
    grad: Tensor<B, 3>,
    wanted: LinearParents,
) -> LinearGradients<B> {
    let (shape, weight_shape) = (x.dims(), weight.dims());
    check_linear_backward(shape, weight_shape, grad.dims());
    let device = x.device();
    let (x, weight) = (rows_of_batch(x), Floats::as_it_lies(weight));
    let grad = rows_of_batch(grad);
    let (x, weight, grad) = (
        Matrix::of_batch(&x),
        Matrix::of(&weight),
        Matrix::of_batch(&grad),
    );
    let fresh = |a: Matrix, b: Matrix| {
        let mut output = vec![0.0; a.shape[0] * b.shape[1]];
        product(&mut output, a, b, Onto::Nothing);
        output
    };
    LinearGradients {
        x: wanted
            .x
            .then(|| tensor(fresh(grad, weight.transposed()), shape, &device)),
        weight: wanted
            .weight
            .then(|| tensor(fresh(x.transposed(), grad), weight_shape, &device)),
        bias: wanted
            .bias
            .then(|| tensor(column_sums(grad), [weight_shape[1]], &device)),
    }
}

/// Number of rows that one thread sums.
const ROWS_AT_ONCE: usize = 256;

/// The sum of the rows: by blocks, added in order, so that it does not depend on the threads.
fn column_sums(matrix: Matrix) -> Vec<f32> {
    let [n_rows, d] = matrix.shape;
    let blocks: Vec<Vec<f32>> = (0..n_rows.div_ceil(ROWS_AT_ONCE))
        .into_par_iter()
        .map(|block| {
            let first = block * ROWS_AT_ONCE;
            let mut sums = vec![0.0; d];
            (first..n_rows.min(first + ROWS_AT_ONCE))
                .for_each(|number| add(&mut sums, matrix.row(number)));
            sums
        })
        .collect();
    let mut sums = vec![0.0; d];
    blocks.iter().for_each(|block| add(&mut sums, block));
    sums
}

/// Adds `terms` to `sums` element by element.
pub(super) fn add(sums: &mut [f32], terms: &[f32]) {
    for (sum, term) in sums.iter_mut().zip(terms) {
        *sum += term;
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
                    reference::linear
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
                reference::linear
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
