//! Layer normalisation.

use burn::tensor::{DType, Tensor};
use rayon::prelude::*;

use super::dense::add;
use super::element::{Element, widened, with_element};
use super::host::{Floats, Host, tensor};
use super::matrix::{Matrix, rows_of_batch};
use super::residual::row_major;
use super::simd::{dot, sum, vectorized};
use crate::kernels::LayerNormGradients;

/// Number of rows per thread task.
const ROWS_AT_ONCE: usize = 128;

/// See [`ReformerBackend::layer_normalization`](crate::kernels::ReformerBackend::layer_normalization).
pub(in crate::kernels) fn layer_normalization<B: Host>(
    x: Tensor<B, 3>,
    gamma: Tensor<B, 1>,
    beta: Tensor<B, 1>,
    epsilon: f64,
    dtype: DType,
) -> Tensor<B, 3> {
    let (shape, device) = (x.dims(), x.device());
    let d = shape[2];
    let (x, gamma, beta) = (
        rows_of_batch(x),
        Floats::row_major(gamma),
        Floats::row_major(beta),
    );
    let (x, gamma, beta) = (Matrix::of_batch(&x), gamma.slice(), beta.slice());
    with_element!(dtype, E => {
        let mut output = vec![E::default(); shape.iter().product()];
        normalize(&mut output, x, [&gamma[..d], &beta[..d]], epsilon as f32);
        tensor(output, shape, dtype, &device)
    })
}

fn normalize<E: Element>(
    output: &mut [E],
    x: Matrix<f32>,
    [gamma, beta]: [&[f32]; 2],
    epsilon: f32,
) {
    let d = gamma.len();
    let blocks = output.par_chunks_mut(ROWS_AT_ONCE * d).enumerate();
    blocks.for_each(|(block, output)| {
        vectorized(
            #[inline(always)]
            || {
                for (number, output) in (block * ROWS_AT_ONCE..).zip(output.chunks_exact_mut(d)) {
                    let x = x.row(number);
                    let [mean, scale] = moments(x, epsilon);
                    for (((output, x), gamma), beta) in
                        output.iter_mut().zip(x).zip(gamma).zip(beta)
                    {
                        *output = E::narrow((x - mean) * scale * gamma + beta);
                    }
                }
            },
        );
    });
}

/// See [`ReformerBackend::layer_normalization_backward`](crate::kernels::ReformerBackend::layer_normalization_backward).
///
/// Sums over rows are computed by blocks, added in order, so that they do not depend on the threads.
pub(in crate::kernels) fn layer_normalization_backward<B: Host>(
    x: Tensor<B, 3>,
    gamma: Tensor<B, 1>,
    epsilon: f64,
    grad: Tensor<B, 3>,
    sum: Option<Tensor<B, 3>>,
) -> LayerNormGradients<B> {
    let (shape, device) = (x.dims(), x.device());
    let types = [x.dtype(), gamma.dtype()];
    let adds = sum.is_some();
    let mut dx = match sum {
        Some(sum) => row_major(sum),
        None => vec![0.0; shape.iter().product()],
    };
    let (x, gamma) = (rows_of_batch(x), Floats::row_major(gamma));
    let (x, gamma) = (Matrix::of_batch(&x), &gamma.slice()[..shape[2]]);
    with_element!(grad.dtype(), E => {
        let grad = rows_of_batch::<B, E>(grad);
        let grad = Matrix::of_batch(&grad);
        let sums = backward((&mut dx, adds), x, grad, gamma, epsilon as f32);
        LayerNormGradients {
            x: tensor(dx, shape, types[0], &device),
            gamma: tensor(sums.gamma, [shape[2]], types[1], &device),
            beta: tensor(sums.beta, [shape[2]], types[1], &device),
        }
    })
}

/// Gradients of the parameters. That of the input is written to `dx`, or added to it.
fn backward<E: Element>(
    (dx, adds): (&mut [f32], bool),
    x: Matrix<f32>,
    grad: Matrix<E>,
    gamma: &[f32],
    epsilon: f32,
) -> Sums {
    let d = x.shape[1];
    let blocks = dx.par_chunks_mut(ROWS_AT_ONCE * d).enumerate();
    let sums: Vec<Sums> = blocks
        .map(|(block, dx)| {
            let mut sums = Sums::new(d);
            vectorized(
                #[inline(always)]
                || {
                    let (mut row, mut wide) = (Row::new(d), Vec::new());
                    for (number, dx) in (block * ROWS_AT_ONCE..).zip(dx.chunks_exact_mut(d)) {
                        let grad = widened(&mut wide, grad.row(number));
                        let from = [x.row(number), grad, gamma];
                        row.backward((dx, adds), from, epsilon, &mut sums);
                    }
                },
            );
            sums
        })
        .collect();
    let mut total = Sums::new(d);
    for sums in &sums {
        add(&mut total.gamma, &sums.gamma);
        add(&mut total.beta, &sums.beta);
    }
    total
}

/// The mean, and the inverse of the standard deviation.
#[inline(always)]
fn moments(x: &[f32], epsilon: f32) -> [f32; 2] {
    let d = x.len() as f32;
    let mean = sum(x, |x| x) / d;
    let variance = sum(x, |x| (x - mean) * (x - mean)) / d;
    [mean, 1.0 / (variance + epsilon).sqrt()]
}

/// Gradients of the parameters.
struct Sums {
    gamma: Vec<f32>,
    beta: Vec<f32>,
}

impl Sums {
    fn new(d: usize) -> Self {
        Self {
            gamma: vec![0.0; d],
            beta: vec![0.0; d],
        }
    }
}

/// Buffers for the backward of a row.
struct Row {
    normalized: Vec<f32>,
    /// Gradient of `normalized`.
    of_normalized: Vec<f32>,
}

impl Row {
    fn new(d: usize) -> Self {
        Self {
            normalized: vec![0.0; d],
            of_normalized: vec![0.0; d],
        }
    }

    /// The same formula as in the reference.
    #[inline(always)]
    fn backward(
        &mut self,
        (dx, adds): (&mut [f32], bool),
        [x, grad, gamma]: [&[f32]; 3],
        epsilon: f32,
        sums: &mut Sums,
    ) {
        let d = x.len() as f32;
        let [mean, scale] = moments(x, epsilon);
        for (normalized, x) in self.normalized.iter_mut().zip(x) {
            *normalized = (x - mean) * scale;
        }
        for ((of, grad), gamma) in self.of_normalized.iter_mut().zip(grad).zip(gamma) {
            *of = grad * gamma;
        }
        for ((sum, grad), normalized) in sums.gamma.iter_mut().zip(grad).zip(&self.normalized) {
            *sum += grad * normalized;
        }
        add(&mut sums.beta, grad);
        let of_mean = sum(&self.of_normalized, |x| x) / d;
        let along = dot(&self.of_normalized, &self.normalized) / d;
        let factors = self.of_normalized.iter().zip(&self.normalized);
        let values = factors.map(|(of, normalized)| (of - of_mean - normalized * along) * scale);
        if adds {
            dx.iter_mut()
                .zip(values)
                .for_each(|(dx, value)| *dx += value);
        } else {
            dx.iter_mut()
                .zip(values)
                .for_each(|(dx, value)| *dx = value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{check, on_both_backends};
    use crate::kernels::{ReformerBackend, reference};
    use burn::tensor::{DType, Tensor};
    use burn_autodiff::Autodiff;

    on_both_backends!(kernel_is_the_reference);

    fn kernel_is_the_reference<B: ReformerBackend>() {
        for shape @ [batch_size, seq_length, d] in [[1, 1, 4], [2, 9, 21], [3, 150, 64]] {
            let sizes = [batch_size * seq_length * (d + 3), d, d];
            let apply = |inputs: &[Tensor<Autodiff<B>, 1>], kernel: bool| {
                let norm = if kernel {
                    Autodiff::<B>::layer_normalization
                } else {
                    reference::layer_normalization
                };
                // Rows are slices of wider rows.
                let x = inputs[0].clone().reshape([batch_size, seq_length, d + 3]);
                let x = x.slice_dim(2, 2..d + 2) + 1.0;
                let (gamma, beta) = (inputs[1].clone(), inputs[2].clone());
                norm(x, gamma, beta, 1e-6, DType::F32).reshape([-1])
            };
            assert_eq!(shape[2], d);
            check::<B>(
                &sizes,
                |inputs| apply(inputs, true),
                |inputs| apply(inputs, false),
            );
        }
    }

    #[test]
    #[should_panic(expected = "parameters [[3], [4]] do not fit a norm of [1, 2, 4]")]
    fn what_does_not_fit_is_refused() {
        type B = burn_flex::Flex;
        let device = Default::default();
        B::layer_normalization(
            Tensor::zeros([1, 2, 4], &device),
            Tensor::zeros([3], &device),
            Tensor::zeros([4], &device),
            1e-6,
            DType::F32,
        );
    }
}
