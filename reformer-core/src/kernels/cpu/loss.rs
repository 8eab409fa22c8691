//! Cross-entropy of tokens, row by row, without storing log-probabilities.

use burn::tensor::{DType, Int, Tensor};
use rayon::prelude::*;

use super::host::{Host, integers, numbers, tensor};
use super::matrix::{Matrix, rows_of_batch};
use super::simd::{LANES, exp, sum, vectorized};
use crate::kernels::TokenLoss;

/// Number of rows per thread task.
const ROWS_AT_ONCE: usize = 64;

/// See [`ReformerBackend::token_loss`](crate::kernels::ReformerBackend::token_loss).
pub(in crate::kernels) fn token_loss<B: Host>(
    logits: Tensor<B, 3>,
    targets: Tensor<B, 2, Int>,
) -> TokenLoss<B> {
    let device = logits.device();
    let targets = checked(logits.dims(), &targets);
    let logits = rows_of_batch::<B, f32>(logits);
    let logits = Matrix::of_batch(&logits);
    // Blocks are added in order, so that the sum does not depend on the threads.
    let blocks: Vec<(f64, usize)> = targets
        .par_chunks(ROWS_AT_ONCE)
        .enumerate()
        .map(|(block, targets)| {
            vectorized(
                #[inline(always)]
                || {
                    let (mut nll, mut n_correct) = (0.0, 0);
                    for (number, &target) in (block * ROWS_AT_ONCE..).zip(targets) {
                        let Ok(target) = usize::try_from(target) else {
                            continue;
                        };
                        let row = logits.row(number);
                        let Softmax { max, sum } = Softmax::of(row);
                        nll += f64::from(sum.ln() - (row[target] - max));
                        let is_first = row[..target].iter().all(|&logit| logit < max);
                        n_correct += usize::from(row[target] == max && is_first);
                    }
                    (nll, n_correct)
                },
            )
        })
        .collect();
    let nll: f64 = blocks.iter().map(|(nll, _)| nll).sum();
    let n_correct: usize = blocks.iter().map(|(_, n_correct)| n_correct).sum();
    TokenLoss {
        nll: tensor(vec![nll as f32], [1], DType::F32, &device),
        n_correct: tensor(vec![n_correct as f32], [1], DType::F32, &device),
    }
}

/// See [`ReformerBackend::token_loss_backward`](crate::kernels::ReformerBackend::token_loss_backward).
pub(in crate::kernels) fn token_loss_backward<B: Host>(
    logits: Tensor<B, 3>,
    targets: Tensor<B, 2, Int>,
    grad: Tensor<B, 1>,
) -> Tensor<B, 3> {
    let (shape, dtype, device) = (logits.dims(), logits.dtype(), logits.device());
    let vocab_size = shape[2];
    let grad = numbers::<f32, B, 1>(grad)[0];
    let targets = checked(shape, &targets);
    let logits = rows_of_batch::<B, f32>(logits);
    let logits = Matrix::of_batch(&logits);
    let mut gradient = vec![0.0; shape.iter().product()];
    let blocks = gradient.par_chunks_mut(ROWS_AT_ONCE * vocab_size);
    let blocks = blocks.zip(targets.par_chunks(ROWS_AT_ONCE)).enumerate();
    blocks.for_each(|(block, (gradient, targets))| {
        vectorized(
            #[inline(always)]
            || {
                let rows = gradient.chunks_exact_mut(vocab_size).zip(targets);
                for (number, (gradient, &target)) in (block * ROWS_AT_ONCE..).zip(rows) {
                    let Ok(target) = usize::try_from(target) else {
                        continue;
                    };
                    let row = logits.row(number);
                    let Softmax { max, sum } = Softmax::of(row);
                    let scale = grad / sum;
                    for (gradient, logit) in gradient.iter_mut().zip(row) {
                        *gradient = exp(logit - max) * scale;
                    }
                    gradient[target] -= grad;
                }
            },
        );
    });
    tensor(gradient, shape, dtype, &device)
}

/// The targets of all rows, checked.
fn checked<B: Host>(logits: [usize; 3], targets: &Tensor<B, 2, Int>) -> Vec<i32> {
    let [batch_size, seq_length, vocab_size] = logits;
    assert_eq!(
        targets.dims(),
        [batch_size, seq_length],
        "targets for logits {logits:?}"
    );
    let targets = integers(targets);
    for &target in &targets {
        assert!(
            target < vocab_size as i32,
            "target {target} is not among the {vocab_size} tokens that have logits"
        );
    }
    targets
}

/// The maximum of a row, and the sum of `exp(x - max)`.
struct Softmax {
    max: f32,
    sum: f32,
}

impl Softmax {
    #[inline(always)]
    fn of(row: &[f32]) -> Self {
        let (whole, rest) = row.as_chunks::<LANES>();
        let mut largest = [f32::NEG_INFINITY; LANES];
        for x in whole {
            for i in 0..LANES {
                largest[i] = if x[i] > largest[i] { x[i] } else { largest[i] };
            }
        }
        let max = largest
            .iter()
            .chain(rest)
            .fold(f32::NEG_INFINITY, |max, &x| if x > max { x } else { max });
        let sum = sum(
            row,
            #[inline(always)]
            |x| exp(x - max),
        );
        Self { max, sum }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{check, numbers, on_both_backends};
    use crate::kernels::{ReformerBackend, TokenLoss, reference};
    use burn::tensor::{Int, Tensor, TensorData};
    use burn_autodiff::Autodiff;

    on_both_backends!(kernel_is_the_reference);

    fn targets<B: ReformerBackend>(
        [batch_size, seq_length, vocab_size]: [usize; 3],
    ) -> Tensor<B, 2, Int> {
        let values: Vec<i32> = (0..batch_size * seq_length)
            .map(|at| (at * 7 % (vocab_size + 1)) as i32 - 1)
            .collect();
        let data = TensorData::new(values, [batch_size, seq_length]);
        Tensor::from_data(data, &Default::default())
    }

    fn kernel_is_the_reference<B: ReformerBackend>() {
        for shape in [[1, 1, 2], [2, 5, 7], [2, 70, 33]] {
            let apply = |inputs: &[Tensor<Autodiff<B>, 1>], kernel: bool| {
                let loss = if kernel {
                    Autodiff::<B>::token_loss
                } else {
                    reference::token_loss
                };
                // Logits of a slice of each sequence.
                let logits = (inputs[0].clone() * 3.0).reshape([shape[0], shape[1] + 2, shape[2]]);
                let logits = logits.slice_dim(1, 1..shape[1] + 1);
                let TokenLoss { nll, n_correct } = loss(logits, targets(shape));
                Tensor::cat(vec![nll, n_correct], 0)
            };
            check::<B>(
                &[shape[0] * (shape[1] + 2) * shape[2]],
                |inputs| apply(inputs, true),
                |inputs| apply(inputs, false),
            );
            let logits = || numbers::<B>(shape.iter().product(), 5).reshape(shape);
            let grad = || numbers::<B>(1, 6);
            let found = B::token_loss_backward(logits(), targets(shape), grad());
            let expected = reference::token_loss_backward(logits(), targets(shape), grad());
            super::super::testing::assert_close(&found.into_data(), &expected.into_data(), 0);
        }
    }

    #[test]
    #[should_panic(expected = "target 5 is not among the 5 tokens that have logits")]
    fn target_without_a_logit_is_refused() {
        type B = burn_flex::Flex;
        let device = Default::default();
        let targets = Tensor::<B, 2, Int>::from_ints([[4, 5]], &device);
        B::token_loss(Tensor::zeros([1, 2, 5], &device), targets);
    }
}
