//! The position of a loader in an endless stream of steps.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

/// The next step of a stream that is divided into epochs of equal length.
///
/// Epoch `e` has the steps `e * steps_per_epoch .. (e + 1) * steps_per_epoch`. A loader of some rows only
/// takes those steps of an epoch whose offset in it lies in `offsets`.
#[derive(Debug)]
pub(crate) struct Cursor {
    steps_per_epoch: u64,
    offsets: Range<u64>,
    next: Mutex<u64>,
}

impl Cursor {
    /// A cursor before the step `next`.
    pub(crate) fn new(steps_per_epoch: u64, offsets: Range<u64>, next: u64) -> Self {
        Self {
            steps_per_epoch,
            offsets,
            next: Mutex::new(next),
        }
    }

    /// The next step that no iterator has taken.
    pub(crate) fn next_step(&self) -> u64 {
        // An integer is never half written, so the value after a panic of another thread is valid.
        *self.next.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The remaining steps of an epoch.
    pub(crate) fn rest_of(&self, epoch: u64) -> Range<u64> {
        let first = epoch * self.steps_per_epoch;
        let next = self.next_step().max(first + self.offsets.start);
        next..(first + self.offsets.end).max(next)
    }

    /// Takes the next step if the epoch still has one; otherwise leaves the cursor at the next epoch.
    pub(crate) fn take_in(&self, epoch: u64) -> Option<u64> {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        if *next / self.steps_per_epoch != epoch {
            return None;
        }
        let first = epoch * self.steps_per_epoch;
        let step = (*next).max(first + self.offsets.start);
        let end = first + self.offsets.end;
        *next = if step + 1 < end {
            step + 1
        } else {
            first + self.steps_per_epoch
        };
        (step < end).then_some(step)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rest_of_epoch(cursor: &Cursor) -> Vec<u64> {
        let epoch = cursor.next_step() / cursor.steps_per_epoch;
        std::iter::from_fn(|| cursor.take_in(epoch)).collect()
    }

    #[test]
    fn epochs_follow_each_other() {
        let cursor = Cursor::new(3, 0..3, 0);
        assert_eq!(rest_of_epoch(&cursor), [0, 1, 2]);
        assert_eq!(cursor.next_step(), 3);
        assert_eq!(rest_of_epoch(&cursor), [3, 4, 5]);
    }

    #[test]
    fn epoch_entered_half_way_ends_where_it_would_have() {
        let cursor = Cursor::new(3, 0..3, 4);
        assert_eq!(rest_of_epoch(&cursor), [4, 5]);
        assert_eq!(rest_of_epoch(&cursor), [6, 7, 8]);
    }

    #[test]
    fn only_the_offsets_asked_for_are_taken() {
        let cursor = Cursor::new(5, 1..3, 0);
        assert_eq!(rest_of_epoch(&cursor), [1, 2]);
        assert_eq!(cursor.next_step(), 5);
        assert_eq!(rest_of_epoch(&cursor), [6, 7]);
    }

    #[test]
    fn rest_of_an_epoch_is_what_will_be_taken() {
        for next in 0..10 {
            let cursor = Cursor::new(5, 1..3, next);
            let rest: Vec<u64> = cursor.rest_of(next / 5).collect();
            assert_eq!(rest, rest_of_epoch(&cursor), "from step {next}");
        }
    }

    #[test]
    fn epoch_without_a_step_left_is_passed_over_once() {
        let cursor = Cursor::new(5, 1..3, 4);
        assert!(rest_of_epoch(&cursor).is_empty());
        assert_eq!(rest_of_epoch(&cursor), [6, 7]);

        let no_offsets = Cursor::new(5, 2..2, 0);
        assert!(rest_of_epoch(&no_offsets).is_empty());
        assert_eq!(no_offsets.next_step(), 5);
    }

    #[test]
    fn epoch_that_another_iterator_ended_has_no_more() {
        let cursor = Cursor::new(2, 0..2, 0);
        assert_eq!(cursor.take_in(0), Some(0));
        assert_eq!(rest_of_epoch(&cursor), [1]);
        assert_eq!(cursor.take_in(0), None);
        assert_eq!(cursor.next_step(), 2);
    }
}
