//! Rotation of heads by position.

use burn::tensor::Tensor;
use rayon::prelude::*;

use super::element::{Element, with_element};
use super::host::{Floats, Host, tensor};
use super::simd::vectorized;
use crate::kernels::Rotation;
use crate::position::frequencies;

/// Number of positions per thread task; sines are shared by all heads.
const POSITIONS: usize = 32;

/// See [`ReformerBackend::rotate`](crate::kernels::ReformerBackend::rotate). The output has the memory
/// layout `[batch_size, seq_length, n_heads, d_head]`, so that merging the heads copies nothing.
pub(in crate::kernels) fn rotate<B: Host>(
    heads: Tensor<B, 4>,
    base: f64,
    rotation: Rotation,
) -> Tensor<B, 4> {
    let [batch_size, n_heads, seq_length, d_head] = heads.dims();
    assert!(
        d_head.is_multiple_of(2),
        "heads of {:?} have no pairs of features",
        heads.dims()
    );
    let (device, dtype) = (heads.device(), heads.dtype());
    let shape = [batch_size, seq_length, n_heads, d_head];
    let waves = Waves::new(d_head / 2, base, rotation);
    with_element!(dtype, E => {
        let turned = turn_all::<B, E>(Floats::rows_of(heads), &waves);
        tensor(turned, shape, dtype, &device).swap_dims(1, 2)
    })
}

/// `[batch_size, seq_length, n_heads, d_head]`
fn turn_all<B: Host, E: Element>(heads: Floats<B, 4, E>, waves: &Waves) -> Vec<E> {
    let [batch_size, n_heads, seq_length, d_head] = heads.shape();
    let offsets: Vec<_> = (0..POSITIONS).map(|offset| waves.angles(offset)).collect();
    let width = n_heads * d_head;
    let mut output = vec![E::default(); batch_size * seq_length * width];
    let sequences = output
        .par_chunks_mut((seq_length * width).max(1))
        .enumerate();
    sequences.for_each(|(batch, output)| {
        let blocks = output.par_chunks_mut(POSITIONS * width).enumerate();
        blocks.for_each(|(block, output)| {
            let first = block * POSITIONS;
            let [sin, cos] = waves.at_offsets(first, &offsets);
            for (number, output) in output.chunks_exact_mut(d_head).enumerate() {
                let (at, head) = (number / n_heads, number % n_heads);
                let x = heads.head(batch * n_heads + head).row(first + at);
                let waves = at * waves.n..(at + 1) * waves.n;
                vectorized(
                    #[inline(always)]
                    || turn_row(output, x, &sin[waves.clone()], &cos[waves]),
                );
            }
        });
    });
    output
}

/// See [`ReformerBackend::rotate_at`](crate::kernels::ReformerBackend::rotate_at). With the same
/// arithmetic as for all positions.
pub(in crate::kernels) fn rotate_at<B: Host>(
    heads: Tensor<B, 4>,
    positions: &[usize],
    base: f64,
) -> Tensor<B, 4> {
    let [batch_size, n_heads, n_positions, d_head] = heads.dims();
    assert!(
        n_positions == 1 && positions.len() == batch_size && d_head.is_multiple_of(2),
        "{positions:?} are no positions for heads of {:?}",
        heads.dims()
    );
    let (device, dtype) = (heads.device(), heads.dtype());
    let heads = Floats::<B, 4>::rows_of(heads);
    let waves = Waves::new(d_head / 2, base, Rotation::Apply);
    let mut output = vec![0.0; batch_size * n_heads * d_head];
    let sequences = output.chunks_exact_mut(n_heads * d_head).zip(positions);
    for (batch, (output, position)) in sequences.enumerate() {
        let offset = position % POSITIONS;
        let [sin, cos] = waves.at_offsets(position - offset, &[waves.angles(offset)]);
        for (head, output) in output.chunks_exact_mut(d_head).enumerate() {
            let x = heads.head(batch * n_heads + head).row(0);
            vectorized(
                #[inline(always)]
                || turn_row(output, x, &sin, &cos),
            );
        }
    }
    tensor(output, [batch_size, 1, n_heads, d_head], dtype, &device).swap_dims(1, 2)
}

#[inline(always)]
fn turn_row<E: Element>(output: &mut [E], x: &[E], sin: &[f32], cos: &[f32]) {
    let half = sin.len();
    let (first, second) = output.split_at_mut(half);
    let (x, y) = x.split_at(half);
    let pairs = x.iter().zip(y).zip(sin.iter().zip(cos));
    for ((first, second), ((x, y), (sin, cos))) in first.iter_mut().zip(second).zip(pairs) {
        let (x, y) = (x.wide(), y.wide());
        *first = E::narrow(x * cos - y * sin);
        *second = E::narrow(y * cos + x * sin);
    }
}

/// Sines and cosines of positions: the angles of each block's start, computed exactly, are combined
/// with offsets that all blocks share. In `f64`, so that the error is not visible in `f32`.
struct Waves {
    n: usize,
    frequencies: Vec<f64>,
    sign: f64,
}

impl Waves {
    fn new(n: usize, base: f64, rotation: Rotation) -> Self {
        Self {
            n,
            frequencies: frequencies(n, base),
            sign: f64::from(rotation.sign()),
        }
    }

    /// Sine and cosine of each angle at a position: `[n]`.
    fn angles(&self, position: usize) -> Vec<(f64, f64)> {
        let angle = |frequency: &f64| (position as f64 * frequency).sin_cos();
        self.frequencies.iter().map(angle).collect()
    }

    /// Sines, with the sign of the rotation, and cosines of positions at offsets from the first one
    /// of a block: `[offsets, n]` each.
    fn at_offsets(&self, first: usize, offsets: &[Vec<(f64, f64)>]) -> [Vec<f32>; 2] {
        let mut sines = Vec::with_capacity(offsets.len() * self.n);
        let mut cosines = Vec::with_capacity(offsets.len() * self.n);
        let start = self.angles(first);
        for offset in offsets {
            let pairs = || start.iter().zip(offset);
            sines.extend(pairs().map(|(a, b)| (self.sign * (a.0 * b.1 + a.1 * b.0)) as f32));
            cosines.extend(pairs().map(|(a, b)| (a.1 * b.1 - a.0 * b.0) as f32));
        }
        [sines, cosines]
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{assert_close, check, numbers, on_both_backends};
    use super::*;
    use crate::kernels::{ReformerBackend, reference};
    use burn_autodiff::Autodiff;

    on_both_backends!(
        kernel_is_the_reference
        far_positions_are_exact
        single_positions_turn_as_among_all
    );

    fn kernel_is_the_reference<B: ReformerBackend>() {
        for [batch_size, n_heads, seq_length, d_head] in
            [[1, 1, 1, 2], [2, 3, 70, 6], [1, 2, 64, 34]]
        {
            let apply = |inputs: &[Tensor<Autodiff<B>, 1>], kernel: bool| {
                let rotate = if kernel {
                    Autodiff::<B>::rotate
                } else {
                    reference::rotate
                };
                let heads = inputs[0]
                    .clone()
                    .reshape([batch_size, seq_length, n_heads, d_head]);
                let there = rotate(heads.clone().swap_dims(1, 2), 100.0, Rotation::Apply);
                let back = rotate(
                    heads.reshape([batch_size, n_heads, seq_length, d_head]),
                    10.0,
                    Rotation::Undo,
                );
                (there + back * 0.5).flatten(0, 3)
            };
            check::<B>(
                &[batch_size * n_heads * seq_length * d_head],
                |inputs| apply(inputs, true),
                |inputs| apply(inputs, false),
            );
        }
    }

    fn far_positions_are_exact<B: ReformerBackend>() {
        let heads = || numbers::<B>(70_001 * 4, 1).reshape([1, 1, 70_001, 4]);
        let found = B::rotate(heads(), 10_000.0, Rotation::Apply);
        let expected = reference::rotate(heads(), 10_000.0, Rotation::Apply);
        let end = |heads: Tensor<B, 4>| heads.slice_dim(2, 69_900..70_001).into_data();
        assert_close(&end(found), &end(expected), 0);
    }

    fn single_positions_turn_as_among_all<B: ReformerBackend>() {
        let heads = numbers::<B>(2 * 3 * 100 * 6, 1).reshape([2, 3, 100, 6]);
        let all = B::rotate(heads.clone(), 1e4, Rotation::Apply);
        for positions in [[0, 99], [31, 32], [64, 7]] {
            let rows = |heads: &Tensor<B, 4>| {
                let row = |(batch, &position): (usize, &usize)| {
                    let sequence = heads.clone().slice_dim(0, batch..batch + 1);
                    sequence.slice_dim(2, position..position + 1)
                };
                Tensor::cat(positions.iter().enumerate().map(row).collect(), 0)
            };
            let found = B::rotate_at(rows(&heads), &positions, 1e4);
            assert_eq!(found.into_data(), rows(&all).into_data());
            let reference = reference::rotate_at(rows(&heads), &positions, 1e4);
            assert_close(&reference.into_data(), &rows(&all).into_data(), 0);
        }
    }
}
