//! Work on rows of features: rotation by position, backward of layer normalisation.

use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use rayon::prelude::*;

use super::{floats, tensor};
use crate::kernels::{LayerNormGradients, Turn};
use crate::position::sin_cos;

/// See [`ReformerBackend::rotate`](crate::kernels::ReformerBackend::rotate).
pub(in crate::kernels) fn rotate<B: Backend>(
    heads: Tensor<B, 4>,
    base: f64,
    turn: Turn,
) -> Tensor<B, 4> {
    let shape @ [_, _, seq_length, d_head] = heads.dims();
    let device = heads.device();
    let half = d_head / 2;
    let [sin, cos] = sin_cos(seq_length, half, base);
    let sign = turn.sign();
    let mut values = floats(heads);
    values.par_chunks_mut(seq_length * d_head).for_each(|head| {
        for (row, (sin, cos)) in head
            .chunks_exact_mut(d_head)
            .zip(sin.chunks_exact(half).zip(cos.chunks_exact(half)))
        {
            let (first, second) = row.split_at_mut(half);
            for i in 0..half {
                let (x, y, sin) = (first[i], second[i], sign * sin[i]);
                first[i] = x * cos[i] - y * sin;
                second[i] = y * cos[i] + x * sin;
            }
        }
    });
    tensor(values, shape, &device)
}

/// Rows of features in a block of work.
const ROWS_AT_ONCE: usize = 512;

/// See [`ReformerBackend::layer_normalization_backward`](crate::kernels::ReformerBackend::layer_normalization_backward).
///
/// Sums over rows are taken block by block, and blocks in order: no number depends on the threads.
pub(in crate::kernels) fn layer_normalization_backward<B: Backend>(
    x: Tensor<B, 3>,
    gamma: Tensor<B, 1>,
    epsilon: f64,
    grad: Tensor<B, 3>,
) -> LayerNormGradients<B> {
    let shape @ [_, _, d] = x.dims();
    let device = x.device();
    let (x, gamma, grad) = (floats(x), floats(gamma), floats(grad));
    let mut dx = vec![0.0; x.len()];
    let block = ROWS_AT_ONCE * d;
    let sums: Vec<[Vec<f32>; 2]> = dx
        .par_chunks_mut(block)
        .zip(x.par_chunks(block).zip(grad.par_chunks(block)))
        .map(|(dx, (x, grad))| {
            let mut sums = [vec![0.0; d], vec![0.0; d]];
            let mut normalized = vec![0.0; d];
            let rows = x.chunks_exact(d).zip(grad.chunks_exact(d));
            for (dx, (x, grad)) in dx.chunks_exact_mut(d).zip(rows) {
                backward_row(
                    dx,
                    x,
                    grad,
                    &gamma,
                    epsilon as f32,
                    &mut normalized,
                    &mut sums,
                );
            }
            sums
        })
        .collect();
    let (mut dgamma, mut dbeta) = (vec![0.0; d], vec![0.0; d]);
    for [gamma, beta] in &sums {
        add(&mut dgamma, gamma);
        add(&mut dbeta, beta);
    }
    LayerNormGradients {
        x: tensor(dx, shape, &device),
        gamma: tensor(dgamma, [d], &device),
        beta: tensor(dbeta, [d], &device),
    }
}

fn backward_row(
    dx: &mut [f32],
    x: &[f32],
    grad: &[f32],
    gamma: &[f32],
    epsilon: f32,
    normalized: &mut [f32],
    [dgamma, dbeta]: &mut [Vec<f32>; 2],
) {
    let d = x.len() as f32;
    let mean = x.iter().sum::<f32>() / d;
    let variance = x.iter().map(|x| (x - mean) * (x - mean)).sum::<f32>() / d;
    let scale = 1.0 / (variance + epsilon).sqrt();
    let (mut of_mean, mut along) = (0.0, 0.0);
    for i in 0..x.len() {
        normalized[i] = (x[i] - mean) * scale;
        let of_normalized = grad[i] * gamma[i];
        of_mean += of_normalized;
        along += of_normalized * normalized[i];
        dgamma[i] += grad[i] * normalized[i];
        dbeta[i] += grad[i];
    }
    let (of_mean, along) = (of_mean / d, along / d);
    for i in 0..x.len() {
        dx[i] = (grad[i] * gamma[i] - of_mean - normalized[i] * along) * scale;
    }
}

fn add(sum: &mut [f32], part: &[f32]) {
    for (sum, part) in sum.iter_mut().zip(part) {
        *sum += part;
    }
}
