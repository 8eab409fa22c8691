//! Division of rows into batches.

use std::ops::Range;

/// A contiguous part of a sequence of rows that is cut into batches of `batch_size`.
///
/// Batch borders are those of the whole sequence: batch `b` has the rows of the part that are in
/// `b * batch_size .. (b + 1) * batch_size`. A part that starts or ends inside a batch has a smaller
/// one there, and a row is in the batch of the same number in every part.
#[derive(Clone, Debug)]
pub(crate) struct Rows {
    range: Range<usize>,
    batch_size: usize,
}

impl Rows {
    /// All of `n_rows` rows.
    pub(crate) fn all(n_rows: usize, batch_size: usize) -> Self {
        Self {
            range: 0..n_rows,
            batch_size,
        }
    }

    /// The part from `start` to `end` of this part.
    ///
    /// # Panics
    ///
    /// When `start..end` is not inside it.
    pub(crate) fn slice(&self, start: usize, end: usize) -> Self {
        assert!(
            start <= end && end <= self.len(),
            "a slice must lie within the {} items of its loader: {start}..{end}",
            self.len()
        );
        Self {
            range: self.range.start + start..self.range.start + end,
            batch_size: self.batch_size,
        }
    }

    /// Number of rows.
    pub(crate) fn len(&self) -> usize {
        self.range.len()
    }

    /// The numbers of the batches that are not empty.
    pub(crate) fn batches(&self) -> Range<usize> {
        let first = self.range.start / self.batch_size;
        if self.range.is_empty() {
            return first..first;
        }
        first..self.range.end.div_ceil(self.batch_size)
    }

    /// The rows of one batch out of [`batches`](Self::batches).
    pub(crate) fn of_batch(&self, batch: usize) -> Range<usize> {
        self.cut(batch)..self.cut(batch.saturating_add(1))
    }

    /// Number of rows in the batches below this number.
    pub(crate) fn before_batch(&self, batch: usize) -> usize {
        self.cut(batch) - self.range.start
    }

    /// The start of a batch, clamped to the range.
    fn cut(&self, batch: usize) -> usize {
        batch
            .saturating_mul(self.batch_size)
            .clamp(self.range.start, self.range.end)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn slice_keeps_the_cuts_of_the_whole() {
        let part = Rows::all(12, 4).slice(2, 11).slice(1, 8);
        assert_eq!(part.len(), 7);
        assert_eq!(part.batches(), 0..3);
        assert_eq!(
            part.batches().map(|b| part.of_batch(b)).collect::<Vec<_>>(),
            [3..4, 4..8, 8..10]
        );
        assert_eq!([0, 1, 2, 3].map(|b| part.before_batch(b)), [0, 1, 5, 7]);
    }

    #[test]
    fn empty_slice_has_no_batches() {
        let empty = Rows::all(12, 4).slice(6, 6);
        assert_eq!((empty.len(), empty.batches().len()), (0, 0));
    }

    #[test]
    #[should_panic(expected = "within the 12 items of its loader: 3..13")]
    fn slice_beyond_the_end_panics() {
        Rows::all(12, 4).slice(3, 13);
    }

    proptest! {
        #[test]
        fn batches_in_order_are_the_rows(
            n_rows in 0_usize..200,
            batch_size in 1_usize..20,
            bounds in (0_usize..200, 0_usize..200),
        ) {
            let (a, b) = (bounds.0.min(n_rows), bounds.1.min(n_rows));
            let rows = Rows::all(n_rows, batch_size).slice(a.min(b), a.max(b));
            let mut seen = a.min(b);
            for batch in rows.batches() {
                let part = rows.of_batch(batch);
                prop_assert!(!part.is_empty() && part.len() <= batch_size);
                prop_assert_eq!(part.start, seen);
                prop_assert_eq!(part.start / batch_size, batch);
                prop_assert_eq!((part.end - 1) / batch_size, batch);
                seen = part.end;
            }
            prop_assert_eq!(seen, a.max(b));
        }
    }
}
