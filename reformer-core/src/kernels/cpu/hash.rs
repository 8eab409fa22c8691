//! Hashing with random rotations, a few positions at a time.

use burn::tensor::{Int, Tensor, TensorData};
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::host::{Floats, Host, Rows};
use super::product::{Left, product};
use super::simd::LANES;
use crate::kernels::items_of_task;

/// Number of positions whose projections exist at a time: the columns of a product. If all
/// positions fit a register, as in decoding, its width is used instead.
const TILE: usize = 64;
/// Number of positions per thread task.
const SPAN: usize = 8 * TILE;

/// See [`ReformerBackend::hash`](crate::kernels::ReformerBackend::hash).
pub(in crate::kernels) fn hash<B: Host>(
    vectors: Tensor<B, 4>,
    rotations: Tensor<B, 4>,
    factors: &[usize],
) -> Tensor<B, 4, Int> {
    let [batch_size, n_heads, seq_length, d] = vectors.dims();
    let [_, _, n_rounds, n_projections] = rotations.dims();
    let device = vectors.device();
    let (vectors, rotations) = (
        Floats::<B, 4>::rows_of(vectors),
        Floats::<B, 4>::row_major(rotations),
    );
    let n_spans = seq_length.div_ceil(SPAN);
    let of_span = seq_length.min(SPAN) * d * n_rounds * n_projections;
    let spans: Vec<Vec<i32>> = (0..batch_size * n_heads * n_spans)
        .into_par_iter()
        .with_min_len(items_of_task(of_span))
        .map(|number| {
            let (head, span) = (number / n_spans, number % n_spans);
            let size = d * n_rounds * n_projections;
            Arch::new().dispatch(Span {
                vectors: vectors.head(head),
                positions: span * SPAN..seq_length.min((span + 1) * SPAN),
                rotations: &rotations.slice()[head % n_heads * size..][..size],
                n_rounds,
                factors,
            })
        })
        .collect();

    let mut buckets = Vec::with_capacity(batch_size * n_heads * n_rounds * seq_length);
    for head in spans.chunks_exact(n_spans.max(1)) {
        for round in 0..n_rounds {
            for span in head {
                let length = span.len() / n_rounds;
                buckets.extend_from_slice(&span[round * length..(round + 1) * length]);
            }
        }
    }
    let shape = [batch_size, n_heads, n_rounds, seq_length];
    Tensor::from_data(TensorData::new(buckets, shape), &device)
}

/// A range of positions of a head.
struct Span<'a> {
    vectors: Rows<'a>,
    positions: core::ops::Range<usize>,
    /// `[d, n_rounds, n_projections]`
    rotations: &'a [f32],
    n_rounds: usize,
    factors: &'a [usize],
}

impl WithSimd for Span<'_> {
    /// Buckets: `[n_rounds, positions]`.
    type Output = Vec<i32>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> Vec<i32> {
        match self.positions.len() {
            0..=LANES => self.buckets::<S, LANES>(simd),
            _ => self.buckets::<S, TILE>(simd),
        }
    }
}

impl Span<'_> {
    /// Buckets, computed for `TILE` positions at a time.
    #[inline(always)]
    fn buckets<S: Simd, const TILE: usize>(self, simd: S) -> Vec<i32> {
        let d = self.vectors.d;
        let n_projections = self.factors.iter().sum::<usize>() / 2;
        let width = self.n_rounds * n_projections;
        let length = self.positions.len();
        let mut columns = vec![0.0; d * TILE];
        let mut projections = vec![0.0; n_projections * TILE];
        let mut buckets = vec![0; self.n_rounds * length];
        for start in (0..length).step_by(TILE) {
            let n = TILE.min(length - start);
            for at in 0..n {
                let row = self.vectors.row(self.positions.start + start + at);
                for (column, x) in columns.chunks_exact_mut(TILE).zip(row) {
                    column[at] = *x;
                }
            }
            for round in 0..self.n_rounds {
                // Transposed rotations times transposed vectors: `argmax` then compares whole
                // registers, with one position in each lane.
                let left = Left::Columns(&self.rotations[round * n_projections..], width);
                let sizes = [n_projections, d, TILE];
                product(simd, &mut projections, left, &columns, sizes);
                let of_tile = buckets_of::<TILE>(&projections, self.factors);
                buckets[round * length + start..][..n].copy_from_slice(&of_tile[..n]);
            }
        }
        buckets
    }
}

/// Buckets of a tile from its projections, `[sum(factors) / 2, TILE]`.
#[inline(always)]
fn buckets_of<const TILE: usize>(projections: &[f32], factors: &[usize]) -> [i32; TILE] {
    let (mut rest, _) = projections.as_chunks::<TILE>();
    let mut buckets = [0; TILE];
    let mut weight = 1;
    for factor in factors {
        let (part, others) = rest.split_at(factor / 2);
        let digits = largest(part);
        for at in 0..TILE {
            buckets[at] += weight * digits[at];
        }
        weight *= *factor as i32;
        rest = others;
    }
    buckets
}

/// For each column, the first index of the largest entry of `[x; -x]`.
#[inline(always)]
fn largest<const TILE: usize>(x: &[[f32; TILE]]) -> [i32; TILE] {
    let mut best = [f32::NEG_INFINITY; TILE];
    let mut index = [0; TILE];
    for (sign, first) in [(1.0, 0), (-1.0, x.len() as i32)] {
        for (number, row) in (first..).zip(x) {
            for at in 0..TILE {
                let x = sign * row[at];
                let larger = x > best[at];
                best[at] = if larger { x } else { best[at] };
                index[at] = if larger { number } else { index[at] };
            }
        }
    }
    index
}

#[cfg(test)]
mod tests {
    use super::super::testing::{numbers, on_both_backends};
    use super::*;
    use crate::kernels::{ReformerBackend, reference};
    use rayon::ThreadPoolBuilder;

    on_both_backends!(kernel_is_the_reference);

    fn kernel_is_the_reference<B: ReformerBackend>() {
        for (shape, factors) in [
            ([1, 1, 1, 3], vec![2]),
            ([2, 3, 65, 10], vec![6, 4]),
            ([1, 2, 1100, 16], vec![32]),
        ] {
            let [batch_size, n_heads, seq_length, d] = shape;
            let n_projections = factors.iter().sum::<usize>() / 2;
            let vectors = || {
                let vectors = numbers::<B>(shape.iter().product(), 1);
                vectors
                    .reshape([batch_size, seq_length, n_heads, d])
                    .swap_dims(1, 2)
            };
            let rotations = || {
                let shape = [n_heads, d, 3, n_projections];
                numbers::<B>(shape.iter().product(), 2).reshape(shape)
            };
            let expected = reference::hash(vectors(), rotations(), &factors);
            let expected: Vec<i32> = expected.into_data().iter().collect();
            for threads in 1..=3 {
                let pool = ThreadPoolBuilder::new()
                    .num_threads(threads)
                    .build()
                    .expect("few");
                let found = pool.install(|| B::hash(vectors(), rotations(), &factors));
                assert_eq!(found.dims(), [batch_size, n_heads, 3, seq_length]);
                assert_eq!(
                    found.into_data().iter::<i32>().collect::<Vec<_>>(),
                    expected
                );
            }
        }
    }

    #[test]
    fn first_of_equal_projections_wins() {
        let row = |x: f32| [x; TILE];
        assert_eq!(largest(&[row(1.0), row(2.0), row(2.0)])[5], 1);
        assert_eq!(largest(&[row(1.0), row(-2.0), row(2.0)])[0], 2);
        assert_eq!(largest(&[row(-1.0), row(-1.0)])[63], 2);
        assert_eq!(largest(&[row(0.0), row(0.0)])[1], 0);
    }
}
