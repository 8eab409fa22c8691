//! Residual connections.

use burn::tensor::{Tensor, TensorPrimitive};
use rayon::prelude::*;

use super::element::{Element, with_element};
use super::host::{self, Host, tensor};
use super::matrix::{Matrix, rows_of_batch};
use super::simd::vectorized;
use crate::kernels::Residual;

/// Number of rows per thread task.
const ROWS_AT_ONCE: usize = 64;

/// See [`ReformerBackend::residual`](crate::kernels::ReformerBackend::residual). In place if `x` is
/// not shared. Burn's operations would concatenate the chunks first, and iterate one element at a
/// time where they cannot work in place.
pub(in crate::kernels) fn residual<B: Host>(
    x: Tensor<B, 3>,
    parts: Vec<Tensor<B, 3>>,
    direction: Residual,
) -> Tensor<B, 3> {
    let (shape, dtype, device) = (x.dims(), x.dtype(), x.device());
    let mut values = row_major(x);
    let mut start = 0;
    for part in parts {
        let length = part.dims()[1];
        add_part(&mut values, shape, start, part, direction);
        start += length;
    }
    assert_eq!(start, shape[1], "positions of the residual of {shape:?}");
    tensor(values, shape, dtype, &device)
}

/// See [`ReformerBackend::residual_at`](crate::kernels::ReformerBackend::residual_at).
pub(in crate::kernels) fn residual_at<B: Host>(
    x: Tensor<B, 3>,
    start: usize,
    part: Tensor<B, 3>,
    direction: Residual,
) -> Tensor<B, 3> {
    let (shape, dtype, device) = (x.dims(), x.dtype(), x.device());
    let mut values = row_major(x);
    add_part(&mut values, shape, start, part, direction);
    tensor(values, shape, dtype, &device)
}

fn add_part<B: Host>(
    values: &mut [f32],
    shape: [usize; 3],
    start: usize,
    part: Tensor<B, 3>,
    direction: Residual,
) {
    let [batch_size, seq_length, d] = shape;
    let [size, length, width] = part.dims();
    assert!(
        size == batch_size && width == d && start + length <= seq_length,
        "{:?} from position {start} on does not fit {shape:?}",
        part.dims()
    );
    with_element!(part.dtype(), E => {
        let part = rows_of_batch::<B, E>(part);
        let part = Matrix::of_batch(&part);
        for batch in 0..batch_size {
            let values = &mut values[(batch * seq_length + start) * d..][..length * d];
            let first = batch * length;
            // One loop for each, without a choice for each number.
            match direction {
                Residual::Add => for_blocks(
                    values,
                    part,
                    first,
                    #[inline(always)]
                    |value, x| value + x,
                ),
                Residual::Subtract => for_blocks(
                    values,
                    part,
                    first,
                    #[inline(always)]
                    |value, x| value - x,
                ),
            }
        }
    });
}

/// Combines numbers with the rows of a matrix, from row `first` on.
fn for_blocks<E: Element>(
    values: &mut [f32],
    rows: Matrix<E>,
    first: usize,
    function: impl Fn(f32, f32) -> f32 + Sync,
) {
    let d = rows.shape[1].max(1);
    let blocks = values.par_chunks_mut(ROWS_AT_ONCE * d).enumerate();
    blocks.for_each(|(block, values)| {
        vectorized(
            #[inline(always)]
            || {
                let first = first + block * ROWS_AT_ONCE;
                for (number, values) in (first..).zip(values.chunks_exact_mut(d)) {
                    for (value, x) in values.iter_mut().zip(rows.row(number)) {
                        *value = function(*value, x.wide());
                    }
                }
            },
        );
    });
}

/// The values of a tensor in row-major order: its own memory if it is not shared.
pub(super) fn row_major<B: Host>(x: Tensor<B, 3>) -> Vec<f32> {
    let [batch_size, seq_length, d] = x.dims();
    let primitive = x.into_primitive().tensor();
    let is_row_major =
        B::lend::<f32>(&primitive).is_some_and(|(_, strides)| strides == [seq_length * d, d, 1]);
    let x = Tensor::<B, 3>::from_primitive(TensorPrimitive::Float(primitive));
    if is_row_major {
        return host::numbers(x);
    }
    let rows = rows_of_batch::<B, f32>(x);
    let mut values = vec![0.0; batch_size * seq_length * d];
    for_blocks(&mut values, Matrix::of_batch(&rows), 0, |_, x| x);
    values
}

#[cfg(test)]
mod tests {
    use super::super::testing::{assert_close, numbers, on_both_backends};
    use super::*;
    use crate::kernels::{ReformerBackend, reference};

    on_both_backends!(kernel_is_the_reference);

    fn kernel_is_the_reference<B: ReformerBackend>() {
        for direction in [Residual::Add, Residual::Subtract] {
            for [batch_size, seq_length, d] in [[1, 3, 1], [2, 150, 9]] {
                let wide = || {
                    let size = batch_size * seq_length * (d + 2);
                    numbers::<B>(size, 1).reshape([batch_size, seq_length, d + 2])
                };
                let x = [
                    wide().slice_dim(2, 1..d + 1),
                    wide().slice_dim(2, 0..d) * 1.0,
                ];
                let parts = || {
                    let cut = seq_length / 3;
                    let y = wide() * 0.5;
                    vec![
                        y.clone().slice_dim(1, 0..cut).slice_dim(2, 0..d),
                        y.slice_dim(1, cut..seq_length).slice_dim(2, 2..d + 2),
                    ]
                };
                for x in x {
                    let expected = reference::residual(x.clone(), parts(), direction);
                    let kept = x.to_data();
                    let shared = B::residual(x.clone(), parts(), direction);
                    assert_close(&shared.into_data(), &expected.to_data(), 0);
                    assert_eq!(x.to_data(), kept, "what others hold must stay");
                    let found = B::residual(x, parts(), direction);
                    assert_close(&found.into_data(), &expected.into_data(), 0);
                }
            }
        }
    }
}
