//! Matrices in the memory of tensors, and their factors in the order of a product.

use core::ops::Range;

use burn::tensor::Tensor;

use super::element::Element;
use super::host::{Floats, Host};
use super::product::{Factor, Left};

/// A matrix in memory, with strides.
#[derive(Clone, Copy)]
pub(in crate::kernels) struct Matrix<'a, E> {
    pub(super) memory: &'a [E],
    pub(super) shape: [usize; 2],
    pub(super) strides: [usize; 2],
}

impl<'a, E: Element> Matrix<'a, E> {
    /// # Panics
    /// If an element is outside of memory.
    pub(super) fn new(memory: &'a [E], shape: [usize; 2], strides: [usize; 2]) -> Self {
        let last: usize = shape
            .iter()
            .zip(strides)
            .map(|(&size, stride)| size.saturating_sub(1) * stride)
            .sum();
        assert!(
            shape.contains(&0) || last < memory.len(),
            "{shape:?} with strides {strides:?} is outside of memory"
        );
        Self {
            memory,
            shape,
            strides,
        }
    }

    /// A matrix as it lies in a tensor.
    pub(super) fn of<B: Host>(floats: &'a Floats<B, 2, E>) -> Self {
        let strides = floats.strides();
        Self::new(floats.slice(), floats.shape(), [strides[0], strides[1]])
    }

    /// All rows of a batch of sequences as one matrix; see [`rows_of_batch`].
    pub(super) fn of_batch<B: Host>(floats: &'a Floats<B, 3, E>) -> Self {
        let [batch_size, seq_length, d] = floats.shape();
        let stride = floats.strides()[usize::from(seq_length > 1)];
        Self::new(floats.slice(), [batch_size * seq_length, d], [stride, 1])
    }

    /// A row of a matrix whose columns are adjacent.
    #[inline(always)]
    pub(super) fn row(&self, number: usize) -> &'a [E] {
        &self.memory[number * self.strides[0]..][..self.shape[1]]
    }

    /// A range of columns.
    pub(super) fn columns(self, range: Range<usize>) -> Self {
        self.transposed().rows(range).transposed()
    }

    /// A range of rows.
    pub(super) fn rows(self, range: Range<usize>) -> Self {
        assert!(
            range.start <= range.end && range.end <= self.shape[0],
            "{range:?} of {:?}",
            self.shape
        );
        let start = range.start * self.strides[0];
        Self {
            memory: &self.memory[start.min(self.memory.len())..],
            shape: [range.len(), self.shape[1]],
            strides: self.strides,
        }
    }

    /// Factors of sums along the rows, copied unless that is what they are, and their number in a row.
    #[inline(always)]
    pub(super) fn factors<'b, F: Factor>(&self, copy: &'b mut Vec<F>) -> (Left<'b, F>, usize)
    where
        'a: 'b,
    {
        let [m, k] = self.shape;
        let n = k.div_ceil(F::TERMS);
        if self.strides[1] == 1
            && let Some(factors) = F::lent(self.memory)
        {
            return (Left::Rows(factors, self.strides[0]), n);
        }
        copy.resize(m * n, F::default());
        if self.strides[1] == 1 {
            for (number, to) in copy.chunks_exact_mut(n).enumerate() {
                F::along(to, self.row(number));
            }
            return (Left::Rows(copy, n), n);
        }
        let along = self.transposed();
        for (number, to) in copy.chunks_exact_mut(m).enumerate() {
            along.copy_factors(number, to);
        }
        (Left::Columns(copy, m), n)
    }

    /// Factors `number` of sums along the columns, one for each column.
    #[inline(always)]
    pub(super) fn copy_factors<F: Factor>(&self, number: usize, to: &mut [F]) {
        let ([n_terms, _], [of_row, of_column]) = (self.shape, self.strides);
        let term = number * F::TERMS;
        let low = &self.memory[term * of_row..];
        let high = (F::TERMS == 2 && term + 1 < n_terms).then(|| &low[of_row..]);
        if of_column == 1 {
            return F::across(to, low, high);
        }
        for (column, to) in to.iter_mut().enumerate() {
            let at = column * of_column;
            *to = F::of([low[at], high.map_or(E::default(), |high| high[at])]);
        }
    }

    pub(super) fn transposed(self) -> Self {
        let ([rows, columns], [row, column]) = (self.shape, self.strides);
        Self {
            memory: self.memory,
            shape: [columns, rows],
            strides: [column, row],
        }
    }
}

/// Takes a batch of sequences whose rows are slices at a constant distance; copies it otherwise.
pub(super) fn rows_of_batch<B: Host, E: Element>(tensor: Tensor<B, 3>) -> Floats<B, 3, E> {
    Floats::lent(tensor, |&[batch_size, seq_length, d], strides| {
        let apart = batch_size == 1 || seq_length == 1 || strides[0] == seq_length * strides[1];
        apart && (d == 1 || strides[2] == 1)
    })
}
